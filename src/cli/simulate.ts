// `forechain simulate FILE…`: what Forechain would have done for the user's own log, beside other policies. Nothing is sent anywhere.
import { writeFileSync } from "node:fs";
import Table from "cli-table3";
import { Command, InvalidArgumentError, Option } from "commander";
import type { Columns } from "../importers/format.ts";
import { READ_DEFAULTS } from "../importers/read.ts";
import { filesOf } from "../importers/source.ts";
import type { PolicyResult } from "../sim/accounting.ts";
import { checkArrivals, RUNS_DEFAULT } from "../sim/arrivals.ts";
import { readLambdaPerf } from "../sim/cold-starts.ts";
import { reportHtml } from "../sim/report.ts";
import { DIAL_DEFAULT, DIALS, policyAsks, simulationFault } from "../sim/simulate.ts";
import { ABLATIONS, drawOf, POLICY_NAMES, type PolicyAsk, type Scenario } from "../sim/simulator.ts";
import { workloadFault, workloadOf } from "../sim/workload.ts";
import { engineModule } from "./build.ts";
import { checkWritable } from "./failure.ts";
import { COLUMN_HELP, columnOption } from "./import.ts";
import { progressTeller, readTelling } from "./progress.ts";
import { type Numbers, numbersOf, type Parts } from "./simulation-threads.ts";

/** Each run is held in memory: some 100 bytes of results and arrivals. */
const RUNS_MAX = 10_000_000;
/** Seeds behind the confidence intervals of the report. */
const REPORT_SEEDS = 10;
/** Runs of the report's scenario of placement. */
const PLACED_RUNS = 1_000;
const BYTES_PER_MB = 2 ** 20;

const HELP = `
The older half of the runs trains, the younger half is replayed. Policies, each with the dials that its bare name sweeps
(NAME:DIAL asks for one):
${Object.entries(DIALS)
  .map(([name, dials]) => `  ${name.padEnd(18)}${dials.join("  ")}`)
  .join("\n")}
See docs/simulator.md for what is simulated and what is not.

Examples:
  $ forechain simulate traces.json.gz --arrivals poisson:300 --cold-starts lambda-perf:data/
  $ forechain simulate log.csv --policies fixed:60,forechain --json
  $ forechain simulate *.json.gz --arrivals poisson:1800 --html report.html`;

interface Flags {
  column?: Columns;
  arrivals: string;
  coldStarts: string;
  memory: number;
  policies: string;
  runs: number;
  store?: number;
  seed: number;
  seeds?: number;
  json?: boolean;
  html?: string;
}

export function simulateCommand(): Command {
  return new Command("simulate")
    .description("Replays an execution log under Forechain and other policies, and compares their overhead and memory.")
    .argument("<file...>", "execution logs of any format that `import` reads; a folder stands for all its files")
    .option("--column <field=column>", COLUMN_HELP, columnOption)
    .option("--arrivals <how>", "when runs arrive: trace (as in the log), poisson:SECONDS or azure-llm:FILE", "trace")
    .option(
      "--cold-starts <what>",
      "how long they take: log (as measured there), lambda-perf:FILE_OR_FOLDER, or a number of ms",
      "log",
    )
    .addOption(
      new Option("--memory <MB>", "memory of tasks for which the log has none").default(256).argParser(atLeast(1)),
    )
    .addOption(
      new Option(
        "--store <MB/s>",
        "bandwidth of the link to the object store (default: objects cost no time)",
      ).argParser(atLeast(1)),
    )
    .option("--policies <names>", "which to simulate, separated by commas", POLICY_NAMES.join(","))
    .addOption(
      new Option("--runs <n>", "how many runs to draw, with replacement (trace takes all)")
        .default(RUNS_DEFAULT)
        .argParser(atLeast(2, RUNS_MAX)),
    )
    .addOption(new Option("--seed <n>", "seed of every draw").default(1).argParser(atLeast(0)))
    .addOption(
      new Option("--seeds <n>", `seeds for intervals in the report (default ${REPORT_SEEDS})`).argParser(atLeast(1)),
    )
    .option(
      "--json",
      "print one JSON value: {workload, policies:[{name, dial, coldRate, overheadMs, idleGbSeconds, …}]}",
    )
    .option("--html <file>", "write a report: one page that needs nothing else")
    .addHelpText("after", HELP)
    .action(run);
}

function atLeast(least: number, most = Number.MAX_SAFE_INTEGER) {
  return (text: string): number => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < least || value > most) {
      const bound = most === Number.MAX_SAFE_INTEGER ? "" : ` and at most ${most}`;
      throw new InvalidArgumentError(`want a whole number of at least ${least}${bound}`);
    }
    return value;
  };
}

async function run(paths: string[], flags: Flags): Promise<void> {
  const policies = policyAsks(flags.policies);
  const files = paths.flatMap(filesOf);
  if (flags.html !== undefined) checkWritable(flags.html, files);
  checkArrivals(flags.arrivals);
  const coldStarts = coldStartsFrom(flags.coldStarts);
  const { workload, formats } = await workloadFrom(files, flags);
  const scenario = {
    arrivals: flags.arrivals,
    coldStarts,
    runs: flags.runs,
    storeBytesPerSecond: flags.store === undefined ? null : flags.store * BYTES_PER_MB,
    module: await engineModule(),
  };
  const draw = drawOf(workload, scenario, flags.seed);
  if ("reason" in draw) throw new Error(simulationFault(draw));
  const seeds = flags.html === undefined ? 1 : (flags.seeds ?? REPORT_SEEDS);
  const parts = partsOf(policies, flags.seed, seeds, flags.html !== undefined);
  const numbers = await numbersOf(workload, scenario, parts, progressTeller());
  const results = numbers.policies.slice(0, policies.length);
  const notes = [...workload.notes, ...draw.notes];
  const described = {
    files,
    formats,
    runs: workload.runs.length,
    executions: workload.executions,
    tasks: workload.taskNames.length,
    arrivals: flags.arrivals,
    seed: flags.seed,
    simulatedRuns: draw.arrivals.runs.length,
    simulatedExecutions: draw.executions,
    meanGapMs: draw.arrivals.meanGapMs,
    notes,
  };
  if (flags.html !== undefined) {
    const report = reportParts(numbers, policies, seeds);
    writeFileSync(flags.html, reportHtml({ workload: described, ...report, dial: DIAL_DEFAULT }));
  }
  if (flags.json === true) process.stdout.write(`${JSON.stringify({ workload: described, policies: results })}\n`);
  else process.stdout.write(`${textOf(results, notes)}\n`);
}

/** Seed by seed the policies, for a report the ablation as well; then the placements. */
function partsOf(policies: PolicyAsk[], firstSeed: number, seeds: number, isReport: boolean): Parts {
  const parts: Parts = { policies: [], placements: [] };
  for (let seed = firstSeed; seed < firstSeed + seeds; seed++) {
    for (const ask of policies) parts.policies.push({ seed, ask });
    if (!isReport) continue;
    const ask: PolicyAsk = { name: "forechain", dial: DIAL_DEFAULT };
    for (const { name } of ABLATIONS.slice(usualOf(policies) < 0 ? 0 : 1))
      parts.policies.push({ seed, ask, without: name });
    parts.placements.push({ seed, runs: PLACED_RUNS });
  }
  return parts;
}

/** Forechain with all its parts, among the policies: the ablation needs no other simulation of it. Absent: -1. */
function usualOf(policies: PolicyAsk[]): number {
  return policies.findIndex(({ name, dial }) => name === "forechain" && dial === DIAL_DEFAULT);
}

/** `partsOf` the other way round: what the report is made of, one list for each seed. */
function reportParts(numbers: Numbers, policies: PolicyAsk[], count: number) {
  const seeds: PolicyResult[][] = [];
  const ablation: PolicyResult[][] = [];
  const usual = usualOf(policies);
  const each = numbers.policies.length / count;
  for (let s = 0; s < count; s++) {
    const own = numbers.policies.slice(s * each, (s + 1) * each);
    const ablated = own.splice(policies.length);
    if (usual >= 0) ablated.unshift(own[usual]!);
    seeds.push(own);
    ablation.push(ABLATIONS.map(({ name }, a) => ({ ...ablated[a]!, name })));
  }
  return { seeds, ablation, placement: numbers.placements };
}

async function workloadFrom(files: string[], flags: Flags) {
  const { records, formats } = await readTelling(files, { ...READ_DEFAULTS, columns: flags.column ?? {} });
  const workload = workloadOf(records, flags.memory * BYTES_PER_MB);
  if ("reason" in workload) throw new Error(workloadFault(workload));
  return { workload, formats };
}

function coldStartsFrom(text: string): Scenario["coldStarts"] {
  if (text === "log") return { kind: "log" };
  if (text.startsWith("lambda-perf:")) return { kind: "lambda-perf", rows: readLambdaPerf(text.slice(12)) };
  const ms = Number(text);
  if (text === "" || !(ms >= 0 && Number.isFinite(ms)))
    throw new Error(`cold starts: got ${JSON.stringify(text)}, expected log, lambda-perf:FILE or ms`);
  return { kind: "fixed", ms };
}

function textOf(results: PolicyResult[], notes: string[]): string {
  const table = new Table({
    head: ["policy", "dial", "overhead ms", "p95", "cold", "idle GB·s", "wasted", "harmed", "µs"],
    colAligns: ["left", "right", "right", "right", "right", "right", "right", "right", "right"],
    style: { head: [], border: [] },
  });
  for (const result of results) {
    table.push([
      result.name,
      result.dial,
      result.overheadMs.mean.toFixed(1),
      result.overheadMs.p95.toFixed(0),
      `${(100 * result.coldRate).toFixed(1)} %`,
      result.idleGbSeconds.toFixed(0),
      result.wastedGbSeconds.toFixed(0),
      `${(100 * result.harmedRuns).toFixed(2)} %`,
      result.decisionMicros.toFixed(1),
    ]);
  }
  return [table.toString(), "Simulated, not measured.", ...notes.map((note) => `Note: ${note}.`)].join("\n");
}

// The table of docs/simulator.md. In: logs, as NAME=FOLDER or NAME=FOLDER@RUNS, and a folder of lambda-perf. Out: its rows as Markdown, one
// per log and gap, then one JSON value with the same numbers.
//   npm run bench -- simulated --lambda-perf FOLDER [--gaps 30,300,1800] [--seed 1] [--seeds 1] [--dial 20] [--store MB/s] NAME=FOLDER[@RUNS] …
// With --ablation: Forechain alone, with one part left out at a time. With --seeds: means over so many seeds, with their 95 % intervals.
import { parseArgs } from "node:util";
import { engineModule } from "../src/cli/build.ts";
import { numbersOf, type Parts } from "../src/cli/simulation-threads.ts";
import type { PolicyResult } from "../src/sim/accounting.ts";
import { readLambdaPerf } from "../src/sim/cold-starts.ts";
import { intervalOf } from "../src/sim/report.ts";
import { policyAsks } from "../src/sim/simulate.ts";
import { ABLATIONS, type Scenario } from "../src/sim/simulator.ts";
import { heldOf, logOf, recordsFrom, workloadFrom } from "./simulated-logs.ts";

const OPTIONS = {
  "lambda-perf": { type: "string" },
  gaps: { type: "string", default: "30,300,1800" },
  seed: { type: "string", default: "1" },
  seeds: { type: "string", default: "1" },
  dial: { type: "string", default: "20" },
  store: { type: "string" },
  ablation: { type: "boolean", default: false },
} as const;
const ABLATION_HEAD = "| log | gap | Forechain | overhead, ms | of all parts' | idle + wasted | harmed |";
const HEAD =
  "| log | gap | fixed 60, ms | run-clairvoyant, ms | forechain, ms | share | idle | idle + wasted | harmed |";
/** With a store: the transfer time waited for, by run, and what is hidden of it in shares of what the run-clairvoyant hides. */
const STORE_HEAD = " fixed 60 waits, ms | run-clairvoyant | forechain | hidden | wasted bytes |";

/** One policy's results, by seed. */
type Results = PolicyResult[];

export async function run(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({ args, options: OPTIONS, allowPositionals: true });
  const rows = readLambdaPerf(values["lambda-perf"] ?? ".");
  const module = await engineModule();
  const seeds = Array.from({ length: Number(values.seeds) }, (_, s) => Number(values.seed) + s);
  const dial = Number(values.dial);
  const told: object[] = [];
  const head = values.ablation ? ABLATION_HEAD : values.store === undefined ? HEAD : HEAD + STORE_HEAD;
  process.stdout.write(
    `Seed ${seeds.join(", ")}, dial ${dial}.\n${head}\n|${"---|".repeat(head.split(" | ").length)}\n`,
  );
  for (const log of positionals) {
    const { name, folder, runs } = logOf(log);
    const workload = workloadFrom(await recordsFrom(folder));
    for (const gap of values.gaps.split(",")) {
      const scenario: Omit<Scenario, "progress"> = {
        arrivals: `poisson:${gap}`,
        coldStarts: { kind: "lambda-perf", rows },
        runs,
        storeBytesPerSecond: values.store === undefined ? null : Number(values.store) * 2 ** 20,
        module,
      };
      const asked = values.ablation ? ablationOf(dial) : comparisonOf(dial);
      const policies = seeds.flatMap((seed) => asked.map((each) => ({ seed, ...each })));
      const numbers = await numbersOf(workload, scenario, { policies, placements: [] }, () => {});
      const results = asked.map((_, at) => seeds.map((__, s) => numbers.policies[s * asked.length + at]!));
      if (values.ablation) {
        for (const [at, { name: part }] of ABLATIONS.entries())
          process.stdout.write(`${ablationRowOf(name, gap, part, results[at]!, results[0]!)}\n`);
      } else {
        const objects = values.store === undefined ? "" : objectsOf(results, runs);
        process.stdout.write(`${rowOf(name, gap, results)}${objects}\n`);
      }
      told.push({ log: name, gapSeconds: Number(gap), runs, seeds, policies: results });
    }
  }
  process.stdout.write(`${JSON.stringify(told)}\n`);
}

type Asked = Omit<Parts["policies"][number], "seed">[];

function ablationOf(dial: number): Asked {
  return ABLATIONS.map(({ name }) => ({ ask: { name: "forechain", dial }, without: name }));
}

function comparisonOf(dial: number): Asked {
  return policyAsks(`fixed:60,run-clairvoyant:60,forechain:${dial}`).map((ask) => ({ ask }));
}

function meanOf(results: Results, read: (result: PolicyResult) => number): number {
  return intervalOf(results.map(read)).mean;
}

/** Over several seeds with the half of its interval. */
function cellOf(results: Results, digits: number, read: (result: PolicyResult) => number): string {
  const { mean, half } = intervalOf(results.map(read));
  return half === null ? mean.toFixed(digits) : `${mean.toFixed(digits)} ± ${half.toFixed(digits)}`;
}

const overheadMs = (result: PolicyResult) => result.overheadMs.mean;
const idleOf = (result: PolicyResult) => result.idleGbSeconds;
const harmedPercent = (result: PolicyResult) => 100 * result.harmedRuns;

/** Memory in multiples of the larger of both bounds' idle GB·s. */
function rowOf(name: string, gap: string, results: Results[]): string {
  const [fixed, clairvoyant, ours] = results as [Results, Results, Results];
  const fixedMs = meanOf(fixed, overheadMs);
  const share = (fixedMs - meanOf(ours, overheadMs)) / (fixedMs - meanOf(clairvoyant, overheadMs));
  const unit = Math.max(meanOf(fixed, idleOf), meanOf(clairvoyant, idleOf));
  const cells = [
    name,
    `${gap} s`,
    ...results.map((each) => cellOf(each, 0, overheadMs)),
    `${(100 * share).toFixed(1)} %`,
    (meanOf(ours, idleOf) / unit).toFixed(2),
    (meanOf(ours, heldOf) / unit).toFixed(2),
    `${cellOf(ours, 1, harmedPercent)} %`,
  ];
  return `| ${cells.join(" | ")} |`;
}

/** Beside all parts together. */
function ablationRowOf(name: string, gap: string, part: string, results: Results, all: Results): string {
  const cells = [
    name,
    `${gap} s`,
    part,
    cellOf(results, 1, overheadMs),
    (meanOf(results, overheadMs) / meanOf(all, overheadMs)).toFixed(3),
    (meanOf(results, heldOf) / meanOf(all, heldOf)).toFixed(3),
    `${cellOf(results, 1, harmedPercent)} %`,
  ];
  return `| ${cells.join(" | ")} |`;
}

function objectsOf(results: Results[], runs: number): string {
  const waitedMs = (result: PolicyResult) => result.fetchWaitMs / runs;
  const [fixedMs, clairvoyantMs, oursMs] = results.map((each) => meanOf(each, waitedMs)) as [number, number, number];
  const hidden = (fixedMs - oursMs) / (fixedMs - clairvoyantMs);
  const ours = results[2]!;
  const wasted =
    meanOf(ours, (result) => result.wastedBytes) /
    Math.max(
      1,
      meanOf(ours, (result) => result.prefetchBytes),
    );
  const cells = [
    ...results.map((each) => cellOf(each, 0, waitedMs)),
    `${(100 * hidden).toFixed(1)} %`,
    `${(100 * wasted).toFixed(2)} %`,
  ];
  return ` ${cells.join(" | ")} |`;
}

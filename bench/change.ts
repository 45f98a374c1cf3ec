// "After a change" of docs/simulator.md: the later task that most runs have is replaced by another in all runs of the younger half. In: logs, as
// NAME=FOLDER, and a folder of lambda-perf. Out: the share of the run-clairvoyant's saving in the first 50 runs after the change and in the next 200, and
// what was prepared in vain, GB·s a run, as a Markdown row for each log.
//   npm run bench -- change --lambda-perf FOLDER [--gap 300] [--seeds 5] NAME=FOLDER …
import { parseArgs } from "node:util";
import { engineModule } from "../src/cli/build.ts";
import type { PolicyResult } from "../src/sim/accounting.ts";
import { readLambdaPerf } from "../src/sim/cold-starts.ts";
import { DIAL_DEFAULT, policyAsks } from "../src/sim/simulate.ts";
import { Simulator } from "../src/sim/simulator.ts";
import { halves, type Workload } from "../src/sim/workload.ts";
import { logOf, recordsFrom, workloadFrom } from "./simulated-logs.ts";

const OPTIONS = {
  "lambda-perf": { type: "string" },
  gap: { type: "string", default: "300" },
  seeds: { type: "string", default: "5" },
} as const;
const FIRST_RUNS = 50;
const ALL_RUNS = 250;
const FROZEN = "without learning on";

/** Mean overhead of each policy, ms; what ours prepared in vain, GB·s a run. */
type Means = Record<"fixed" | "run-clairvoyant" | "forechain" | typeof FROZEN | "wasted", number>;

export async function run(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({ args, options: OPTIONS, allowPositionals: true });
  const rows = readLambdaPerf(values["lambda-perf"] ?? ".");
  const module = await engineModule();
  const seeds = Array.from({ length: Number(values.seeds) }, (_, s) => s + 1);
  process.stdout.write(
    `Gaps of ${values.gap} s, seeds 1 to ${seeds.length}.\n` +
      `| log | replaced | first ${FIRST_RUNS} runs | next ${ALL_RUNS - FIRST_RUNS} | ${FROZEN} | in vain, GB·s a run |\n|---|---|---|---|---|---|\n`,
  );
  for (const log of positionals) {
    const { name, folder } = logOf(log);
    const { workload, replaced } = await changedWorkload(folder);
    const meansOf = async (runs: number) => {
      const simulator = new Simulator(workload, {
        arrivals: `poisson:${values.gap}`,
        coldStarts: { kind: "lambda-perf", rows },
        runs,
        storeBytesPerSecond: null,
        module,
        progress: () => {},
      });
      const all: Means[] = [];
      for (const seed of seeds) all.push(await overheads(simulator, seed, runs));
      return all;
    };
    const first = await meansOf(FIRST_RUNS);
    const whole = await meansOf(ALL_RUNS);
    const next = whole.map((means, s) => later(means, first[s]!));
    const cells = [shareOf(first, "forechain"), shareOf(next, "forechain")];
    const frozen = `${shareOf(first, FROZEN)}, ${shareOf(next, FROZEN)}`;
    const wasted = `${wastedOf(first)}, ${wastedOf(next)}`;
    process.stdout.write(`| ${[name, replaced, ...cells, frozen, wasted].join(" | ")} |\n`);
  }
}

const POLICIES = `fixed:60,run-clairvoyant:60,forechain:${DIAL_DEFAULT}`;

/** The later task that most runs of the younger half have goes by another name there. */
async function changedWorkload(folder: string): Promise<{ workload: Workload; replaced: string }> {
  const records = await recordsFrom(folder);
  const runsByTask = new Map<string, number>();
  const younger = new Set<string>();
  for (const { assembled } of halves(workloadFrom(records).runs).replay) {
    const [root, ...rest] = assembled.executions;
    younger.add(root!.record.runId);
    const tasks = new Set(rest.map(({ task }) => task));
    tasks.delete(root!.task);
    for (const task of tasks) runsByTask.set(task, (runsByTask.get(task) ?? 0) + 1);
  }
  const [replaced] = [...runsByTask].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))[0]!;
  const changed = records.map((record) =>
    record.task === replaced && younger.has(record.runId) ? { ...record, task: `${replaced} (new)` } : record,
  );
  return { workload: workloadFrom(changed), replaced };
}

async function overheads(simulator: Simulator, seed: number, runs: number): Promise<Means> {
  const results: PolicyResult[] = [];
  for (const ask of policyAsks(POLICIES)) results.push(await simulator.policy(seed, ask));
  const [fixed, clairvoyant, ours] = results as [PolicyResult, PolicyResult, PolicyResult];
  const frozen = await simulator.policy(seed, { name: "forechain", dial: DIAL_DEFAULT }, FROZEN);
  return {
    fixed: fixed.overheadMs.mean,
    "run-clairvoyant": clairvoyant.overheadMs.mean,
    forechain: ours.overheadMs.mean,
    [FROZEN]: frozen.overheadMs.mean,
    wasted: ours.wastedGbSeconds / runs,
  };
}

/** The runs after the first, from the means of both. */
function later(whole: Means, first: Means): Means {
  const of = (policy: keyof Means) => (ALL_RUNS * whole[policy] - FIRST_RUNS * first[policy]) / (ALL_RUNS - FIRST_RUNS);
  return {
    fixed: of("fixed"),
    "run-clairvoyant": of("run-clairvoyant"),
    forechain: of("forechain"),
    [FROZEN]: of(FROZEN),
    wasted: of("wasted"),
  };
}

function wastedOf(means: Means[]): string {
  return (means.reduce((sum, { wasted }) => sum + wasted, 0) / means.length).toFixed(2);
}

/** Of the run-clairvoyant's saving, all seeds together. */
function shareOf(means: Means[], policy: "forechain" | typeof FROZEN): string {
  const saved = (by: keyof Means) => means.reduce((sum, one) => sum + one.fixed - one[by], 0);
  return `${((100 * saved(policy)) / saved("run-clairvoyant")).toFixed(1)} %`;
}

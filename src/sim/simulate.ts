// One simulation: policies over the same arrivals, the same cold starts and the same seed. In: a workload and what was asked for.
// Out: a row of numbers for each policy and dial, against the baseline `fixed` 60.
import type { Accounts, PolicyResult } from "./accounting.ts";
import { resultOf } from "./accounting.ts";
import { type Arrivals, arrivalsOf } from "./arrivals.ts";
import { type ColdStarts, drawColdStarts, fixedColdStarts, measuredColdStarts } from "./cold-starts.ts";
import { Learner } from "./learner.ts";
import { clairvoyant, runClairvoyant } from "./policies/clairvoyant.ts";
import { dependencySets } from "./policies/dependency-sets.ts";
import { fixed } from "./policies/fixed.ts";
import { Forechain, type ForechainOptions } from "./policies/forechain.ts";
import { greedyDual } from "./policies/greedy-dual.ts";
import { hybridHistogram } from "./policies/hybrid-histogram.ts";
import { mostLikelyPath } from "./policies/most-likely-path.ts";
import { halves, type ReplayRun, type Workload } from "./workload.ts";
import { type Policy, World, type WorldInput } from "./world.ts";

export const POLICY_NAMES = [
  "fixed",
  "hybrid-histogram",
  "greedy-dual",
  "dependency-sets",
  "most-likely-path",
  "forechain",
  "run-clairvoyant",
  "clairvoyant",
] as const;
export type PolicyName = (typeof POLICY_NAMES)[number];

/** Dials swept unless told: what each means stands in the policy's file. */
export const DIALS: Record<PolicyName, readonly number[]> = {
  fixed: [0, 10, 60, 600],
  "hybrid-histogram": [10, 60, 240],
  "greedy-dual": [1, 4, 16],
  "dependency-sets": [10, 60, 600],
  "most-likely-path": [10, 60, 600],
  forechain: [0.05, 0.1, 0.2, 1, 5, 20, 100],
  "run-clairvoyant": [60],
  clairvoyant: [0],
};
/** What harm is measured against: the keep-alive that the operator had before. */
const BASELINE_SECONDS = 60;
/** The operator's dial unless set (protocol.ts Policy): the ablation is told there. */
export const DIAL_DEFAULT = 20;

/** One part of Forechain left out at a time. */
const ABLATIONS: { name: string; without: Partial<ForechainOptions> }[] = [
  { name: "all parts", without: {} },
  { name: "without learned holds", without: { learnsHolds: false } },
  { name: "without the price of memory", without: { pricesMemory: false } },
  { name: "without measured starts", without: { measuresStarts: false } },
  { name: "without fan-out", without: { fansOut: false } },
  { name: "without counts at one time", without: { countsAtOnce: false } },
  { name: "without tails of lead times", without: { knowsTails: false } },
  { name: "without the gate's beliefs", without: { believes: false } },
  { name: "without lead-time margins", without: { learnsMargins: false } },
  { name: "without drift detection", without: { noticesDrift: false } },
  { name: "without the path before", without: { usesPath: false } },
  { name: "without learning on", without: { learnsOn: false } },
];

export interface PolicyAsk {
  name: PolicyName;
  dial: number;
}

export interface SimulationSpec {
  arrivals: string;
  coldStarts: { kind: "log" } | { kind: "fixed"; ms: number } | { kind: "lambda-perf"; rows: Float64Array[] };
  runs: number;
  seed: number;
  /** Of the link to the store; null: objects cost no time. */
  storeBytesPerSecond: number | null;
  policies: PolicyAsk[];
  /** The compiled engine. */
  module: WebAssembly.Module;
  /** Called after each run that was learned or simulated; the text is only made where it is told. */
  progress(text: () => string): void;
}

export type SimulationFault =
  | { reason: "longer-than-horizon"; longestMs: number; horizonMs: number }
  | { reason: "no-gaps" };

export function simulationFault(fault: SimulationFault): string {
  switch (fault.reason) {
    case "longer-than-horizon":
      return (
        `the longest run takes ${Math.round(fault.longestMs / 1000)} s and all arrivals come within ` +
        `${Math.round(fault.horizonMs / 1000)} s: every run would overlap with every other; ask for more --runs or longer gaps`
      );
    case "no-gaps":
      return "all runs arrive at one instant: no idle time can be told from that; give --arrivals poisson:SECONDS";
  }
}

export interface Simulation {
  arrivals: Arrivals;
  results: PolicyResult[];
  /** Simulated executions of each policy. */
  executions: number;
  notes: string[];
}

/** `poisson:30`, `fixed:60` …: a name alone asks for its whole sweep. Throws with what is wrong. */
export function policyAsks(text: string): PolicyAsk[] {
  return text.split(",").flatMap((part) => {
    const [name, ...dials] = part.trim().split(":");
    if (!POLICY_NAMES.includes(name as PolicyName)) {
      throw new Error(`unknown policy ${JSON.stringify(name)}: one of ${POLICY_NAMES.join(", ")}`);
    }
    if (dials.length === 0)
      return DIALS[name as PolicyName].map((value) => ({ name: name as PolicyName, dial: value }));
    const dial = dials.join(":");
    const value = Number(dial);
    if (dial === "" || !(value >= 0 && Number.isFinite(value)))
      throw new Error(`dial of ${name}: got ${JSON.stringify(dial)}, expected a number of at least 0`);
    return [{ name: name as PolicyName, dial: value }];
  });
}

export async function simulate(workload: Workload, spec: SimulationSpec): Promise<Simulation | SimulationFault> {
  const prepared = prepare(workload, spec);
  if ("reason" in prepared) return prepared;
  const { arrivals, notes } = prepared;
  const baseline = await baselineOf(workload, spec, prepared);
  const results: PolicyResult[] = [];
  for (const { name, dial } of spec.policies) {
    const what = `${name} ${dial}`;
    const policy = policyOf(name, dial, workload, spec, {}, what);
    const input = worldInput(workload, spec, prepared, policy, what);
    results.push(await resultFor(input, baseline));
  }
  return { arrivals, results, executions: baseline.executions, notes };
}

/** Forechain at one dial with one part left out at a time; `only`: this part alone. */
export async function ablate(
  workload: Workload,
  spec: SimulationSpec,
  dial: number,
  only?: string,
): Promise<PolicyResult[]> {
  const prepared = prepare(workload, spec);
  if ("reason" in prepared) return [];
  const baseline = await baselineOf(workload, spec, prepared);
  const results: PolicyResult[] = [];
  for (const { name, without } of ABLATIONS) {
    if (only !== undefined && name !== only) continue;
    const what = `ablation, ${name}`;
    const policy = policyOf("forechain", dial, workload, spec, without, what);
    const input = worldInput(workload, spec, prepared, policy, what);
    results.push({ ...(await resultFor(input, baseline)), name });
  }
  return results;
}

function baselineOf(workload: Workload, spec: SimulationSpec, prepared: Prepared): Promise<Accounts> {
  const policy = fixed(BASELINE_SECONDS);
  return new World(worldInput(workload, spec, prepared, policy, "the baseline")).simulate();
}

function worldInput(
  workload: Workload,
  { seed, storeBytesPerSecond, progress }: SimulationSpec,
  { arrivals, coldStarts }: Prepared,
  policy: Policy,
  what: string,
): WorldInput {
  const told = (runs: number) => progress(() => `${what}, ${runs} of ${arrivals.runs.length} runs`);
  return { workload, arrivals, coldStarts, seed, storeBytesPerSecond, policy, progress: told };
}

async function resultFor(input: WorldInput, baseline: Accounts): Promise<PolicyResult> {
  const accounts = await new World(input).simulate();
  return resultOf(input.policy.name, input.policy.dial, accounts, baseline);
}

interface Prepared {
  arrivals: Arrivals;
  coldStarts: ColdStarts;
  notes: string[];
}

function prepare(workload: Workload, spec: SimulationSpec): Prepared | SimulationFault {
  const arrivals = arrivalsOf(workload, spec.arrivals, spec.runs, spec.seed);
  const horizonMs = (arrivals.atMs.at(-1) ?? 0) - (arrivals.atMs[0] ?? 0);
  if (horizonMs <= 0) return { reason: "no-gaps" };
  const longestMs = halves(workload.runs).replay.reduce((most, run) => Math.max(most, run.makespanMs), 0);
  if (longestMs >= horizonMs) return { reason: "longer-than-horizon", longestMs, horizonMs };
  const notes: string[] = [];
  return { arrivals, coldStarts: coldStartsOf(workload, spec, notes), notes };
}

function coldStartsOf(workload: Workload, { coldStarts, seed }: SimulationSpec, notes: string[]): ColdStarts {
  switch (coldStarts.kind) {
    case "lambda-perf":
      notes.push("cold starts are assumed: each task draws one measured configuration of at least 512 MB");
      return drawColdStarts(workload, coldStarts.rows, seed);
    case "fixed":
      notes.push(`cold starts are assumed: ${coldStarts.ms} ms each`);
      return fixedColdStarts(workload, coldStarts.ms);
    case "log": {
      const { coldStarts: measured, unknown } = measuredColdStarts(workload);
      if (unknown > 0)
        notes.push(`the log measures no cold start of ${unknown} of ${measured.length} tasks: 250 ms assumed`);
      return measured;
    }
  }
}

function policyOf(
  name: PolicyName,
  dial: number,
  workload: Workload,
  spec: SimulationSpec,
  without: Partial<ForechainOptions>,
  what: string,
): Policy {
  const { train } = halves(workload.runs);
  switch (name) {
    case "fixed":
      return fixed(dial);
    case "hybrid-histogram":
      return hybridHistogram(Math.max(1, Math.round(dial)));
    case "greedy-dual":
      return greedyDual(dial);
    case "dependency-sets":
      return dependencySets(dial, train);
    case "most-likely-path":
      return mostLikelyPath(dial, train);
    case "run-clairvoyant":
      return runClairvoyant(dial);
    case "clairvoyant":
      return clairvoyant();
    case "forechain":
      return forechainOf(dial, train, workload, spec, without, what);
  }
}

function forechainOf(
  dial: number,
  train: ReplayRun[],
  workload: Workload,
  spec: SimulationSpec,
  without: Partial<ForechainOptions>,
  what: string,
): Forechain {
  const options: ForechainOptions = {
    msPerGbSecond: dial,
    keepAliveMs: BASELINE_SECONDS * 1000,
    storeBytesPerSecond: spec.storeBytesPerSecond,
    learnsHolds: true,
    pricesMemory: true,
    measuresStarts: true,
    fansOut: true,
    believes: true,
    learnsMargins: true,
    noticesDrift: true,
    countsAtOnce: true,
    knowsTails: true,
    usesPath: true,
    learnsOn: true,
    ...without,
  };
  const learner = new Learner(spec.module, options);
  for (const [i, run] of train.entries()) {
    learner.learn(run.assembled);
    spec.progress(() => `${what}, learned ${i + 1} of ${train.length} runs`);
  }
  learner.publish();
  return new Forechain(learner, workload.taskNames, options);
}

// One log, simulated part by part. In: a workload and what all its simulations share. Out: the numbers of one part: a policy at one dial, with a part
// of Forechain left out where asked, or the ways of placement. What parts have in common is made once: what the older half of the log teaches,
// and of a seed its arrivals, its cold starts and the baseline.
import { type Accounts, type PolicyResult, resultOf } from "./accounting.ts";
import { type Arrivals, arrivalsOf } from "./arrivals.ts";
import { type ColdStarts, drawColdStarts, fixedColdStarts, measuredColdStarts } from "./cold-starts.ts";
import { ALL_PARTS, Learner, type LearnerParts, type Trained, trainedOn } from "./learner.ts";
import { PLACEMENT_PARTS, type PlacementResult, placements } from "./placement.ts";
import { clairvoyant, runClairvoyant } from "./policies/clairvoyant.ts";
import { dependencySets } from "./policies/dependency-sets.ts";
import { fixed } from "./policies/fixed.ts";
import { Forechain, type ForechainOptions } from "./policies/forechain.ts";
import { greedyDual } from "./policies/greedy-dual.ts";
import { hybridHistogram } from "./policies/hybrid-histogram.ts";
import { mostLikelyPath } from "./policies/most-likely-path.ts";
import { halves, type Workload } from "./workload.ts";
import { type Policy, World } from "./world.ts";

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

/** What harm is measured against: the keep-alive that the operator had before. */
const BASELINE_SECONDS = 60;
/** One part of Forechain left out at a time. */
export const ABLATIONS: { name: string; without: Partial<ForechainOptions> }[] = [
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

/** What the simulations of a log share, whatever their seed. */
export interface Scenario {
  arrivals: string;
  coldStarts: { kind: "log" } | { kind: "fixed"; ms: number } | { kind: "lambda-perf"; rows: Float64Array[] };
  runs: number;
  /** Of the link to the store; null: objects cost no time. */
  storeBytesPerSecond: number | null;
  /** The compiled engine. */
  module: WebAssembly.Module;
  /** Called after each run that was learned or simulated; the text is only made where it is told. */
  progress(text: () => string): void;
}

export type SimulationFault =
  | { reason: "longer-than-horizon"; longestMs: number; horizonMs: number }
  | { reason: "no-gaps" };

/** What a seed draws. */
export interface Draw {
  seed: number;
  arrivals: Arrivals;
  coldStarts: ColdStarts;
  notes: string[];
  /** Simulated under each policy. */
  executions: number;
}

export class Simulator {
  readonly #workload: Workload;
  readonly #scenario: Scenario;
  /** By whether changes of the workflow were noticed. */
  readonly #trained = new Map<boolean, Trained>();
  /** Of the seed that was asked for last. */
  #draw: Draw | null = null;
  #baseline: { seed: number; accounts: Accounts } | null = null;

  constructor(workload: Workload, scenario: Scenario) {
    this.#workload = workload;
    this.#scenario = scenario;
  }

  draw(seed: number): Draw | SimulationFault {
    if (this.#draw?.seed === seed) return this.#draw;
    const drawn = drawOf(this.#workload, this.#scenario, seed);
    if (!("reason" in drawn)) this.#draw = drawn;
    return drawn;
  }

  /** `without`: a name of ABLATIONS. Throws where the seed's draw is refused. */
  async policy(seed: number, { name, dial }: PolicyAsk, without = ABLATIONS[0]!.name): Promise<PolicyResult> {
    const baseline = await this.#baselineOf(seed);
    const what = without === ABLATIONS[0]!.name ? `${name} ${dial}` : `${name} ${dial} ${without}`;
    const policy = this.#policyOf(name, dial, without, what);
    return resultOf(name, dial, await this.#simulated(seed, policy, what), baseline);
  }

  /** The first `runs` runs that the seed draws, placed in each way. */
  placement(seed: number, runs: number): Promise<PlacementResult[]> {
    const { module } = this.#scenario;
    return placements(this.#workload, seed, runs, module, this.#taught("placement", PLACEMENT_PARTS));
  }

  async #baselineOf(seed: number): Promise<Accounts> {
    if (this.#baseline?.seed !== seed) {
      const accounts = await this.#simulated(seed, fixed(BASELINE_SECONDS), "the baseline");
      this.#baseline = { seed, accounts };
    }
    return this.#baseline.accounts;
  }

  #simulated(seed: number, policy: Policy, what: string): Promise<Accounts> {
    const draw = this.draw(seed);
    if ("reason" in draw) throw new Error(draw.reason);
    const { arrivals, coldStarts } = draw;
    const { storeBytesPerSecond, progress } = this.#scenario;
    const told = (runs: number) => progress(() => `${what}, ${runs} of ${arrivals.runs.length} runs`);
    const workload = this.#workload;
    return new World({ workload, arrivals, coldStarts, seed, storeBytesPerSecond, policy, progress: told }).simulate();
  }

  #policyOf(name: PolicyName, dial: number, without: string, what: string): Policy {
    const { train } = halves(this.#workload.runs);
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
        return this.#forechainOf(dial, without, what);
    }
  }

  #forechainOf(dial: number, without: string, what: string): Forechain {
    const options: ForechainOptions = {
      msPerGbSecond: dial,
      keepAliveMs: BASELINE_SECONDS * 1000,
      storeBytesPerSecond: this.#scenario.storeBytesPerSecond,
      learnsHolds: true,
      pricesMemory: true,
      ...ALL_PARTS,
      usesPath: true,
      learnsOn: true,
      ...ABLATIONS.find(({ name }) => name === without)!.without,
    };
    const learner = new Learner(this.#scenario.module, options, this.#taught(what, options));
    return new Forechain(learner, this.#workload.taskNames, options);
  }

  #taught(what: string, parts: LearnerParts): Trained {
    const known = this.#trained.get(parts.noticesDrift);
    if (known !== undefined) return known;
    const { module, progress } = this.#scenario;
    const { train } = halves(this.#workload.runs);
    const told = (runs: number) => progress(() => `${what}, learned ${runs} of ${train.length} runs`);
    const trained = trainedOn(
      train.map(({ assembled }) => assembled),
      module,
      parts,
      told,
    );
    this.#trained.set(parts.noticesDrift, trained);
    return trained;
  }
}

export function drawOf(
  workload: Workload,
  scenario: Omit<Scenario, "progress" | "module">,
  seed: number,
): Draw | SimulationFault {
  const arrivals = arrivalsOf(workload, scenario.arrivals, scenario.runs, seed);
  const horizonMs = (arrivals.atMs.at(-1) ?? 0) - (arrivals.atMs[0] ?? 0);
  if (horizonMs <= 0) return { reason: "no-gaps" };
  const longestMs = halves(workload.runs).replay.reduce((most, run) => Math.max(most, run.makespanMs), 0);
  if (longestMs >= horizonMs) return { reason: "longer-than-horizon", longestMs, horizonMs };
  const notes: string[] = [];
  const executions = arrivals.runs.reduce((sum, run) => sum + workload.runs[run]!.tasks.length, 0);
  return { seed, arrivals, coldStarts: coldStartsOf(workload, scenario, seed, notes), notes, executions };
}

function coldStartsOf(
  workload: Workload,
  { coldStarts }: Pick<Scenario, "coldStarts">,
  seed: number,
  notes: string[],
): ColdStarts {
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

// One simulation: policies over the same arrivals, the same cold starts and the same seed. In: a workload and what was asked for.
// Out: a row of numbers for each policy and dial, against the baseline `fixed` 60.
import type { PolicyResult } from "./accounting.ts";
import type { Arrivals } from "./arrivals.ts";
import {
  ABLATIONS,
  POLICY_NAMES,
  type PolicyAsk,
  type PolicyName,
  type Scenario,
  type SimulationFault,
  Simulator,
} from "./simulator.ts";
import type { Workload } from "./workload.ts";

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
/** The operator's dial unless set (protocol.ts Policy): the ablation is told there. */
export const DIAL_DEFAULT = 20;

export interface SimulationSpec extends Scenario {
  seed: number;
  policies: PolicyAsk[];
}

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
  const simulator = new Simulator(workload, spec);
  const draw = simulator.draw(spec.seed);
  if ("reason" in draw) return draw;
  const results: PolicyResult[] = [];
  for (const ask of spec.policies) results.push(await simulator.policy(spec.seed, ask));
  return { arrivals: draw.arrivals, results, executions: draw.executions, notes: draw.notes };
}

/** Forechain at one dial with one part left out at a time. */
export async function ablate(workload: Workload, spec: SimulationSpec, dial: number): Promise<PolicyResult[]> {
  const simulator = new Simulator(workload, spec);
  if ("reason" in simulator.draw(spec.seed)) return [];
  const results: PolicyResult[] = [];
  for (const { name } of ABLATIONS) {
    results.push({ ...(await simulator.policy(spec.seed, { name: "forechain", dial }, name)), name });
  }
  return results;
}

// Simulations side by side. In: a log's workload and the parts to simulate. Out: their numbers, in the order of the parts, whoever made them.
// This thread and some more take one part after the other from a shared counter. Each has a copy of the workload and learns it once; nothing else is shared, so
// that all numbers are those of one thread.
import { availableParallelism } from "node:os";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import type { PolicyResult } from "../sim/accounting.ts";
import type { PlacementResult } from "../sim/placement.ts";
import { type PolicyAsk, type Scenario, Simulator } from "../sim/simulator.ts";
import type { Workload } from "../sim/workload.ts";

/** What is to be simulated: first all policies, then all placements. */
export interface Parts {
  /** `without`: a name of ABLATIONS. Those of a seed stand together: a seed's baseline is then made once. */
  policies: { seed: number; ask: PolicyAsk; without?: string }[];
  placements: { seed: number; runs: number }[];
}

export interface Numbers {
  policies: PolicyResult[];
  placements: PlacementResult[][];
}

/** More are of no use to the usual report, which has some 40 parts for each of 10 seeds. */
const THREADS_MAX = 16;
/** Of all copies of the workload together: each execution takes up to 1 KB. */
const COPIED_EXECUTIONS_MAX = 1_000_000;
/** A thread starts within half a second. Below so many executions simulated under Forechain, two seconds of work, it is not worth it; other policies take next to none. */
const EXECUTIONS_PER_THREAD_MIN = 20_000;

interface Share {
  isShare: true;
  workload: Workload;
  scenario: Omit<Scenario, "progress">;
  parts: Parts;
  /** How many parts were taken. */
  taken: Int32Array<SharedArrayBuffer>;
}

/** `told`: how many parts were begun, and what the one is that this thread is at. */
export async function numbersOf(
  workload: Workload,
  scenario: Omit<Scenario, "progress">,
  parts: Parts,
  told: (text: () => string) => void,
  threads = threadsFor(workload, scenario, parts),
): Promise<Numbers> {
  const taken = new Int32Array(new SharedArrayBuffer(4));
  const share: Share = { isShare: true, workload, scenario, parts, taken };
  const others = Array.from({ length: threads - 1 }, () => otherThread(share));
  const count = parts.policies.length + parts.placements.length;
  try {
    const own = takeParts(share, (text) =>
      told(() => `part ${Math.min(Atomics.load(taken, 0), count)} of ${count}: ${text()}`),
    );
    const made = new Map((await Promise.all([own, ...others.map(({ numbers }) => numbers)])).flat());
    const { policies, placements } = parts;
    return {
      policies: policies.map((_, at) => made.get(at) as PolicyResult),
      placements: placements.map((_, at) => made.get(policies.length + at) as PlacementResult[]),
    };
  } finally {
    await Promise.all(others.map(({ worker }) => worker.terminate()));
  }
}

/** This one included. */
function threadsFor(workload: Workload, { arrivals, runs }: Pick<Scenario, "arrivals" | "runs">, parts: Parts): number {
  const perRun = workload.executions / workload.runs.length;
  const ours = parts.policies.filter(({ ask }) => ask.name === "forechain").length;
  const simulated = (arrivals === "trace" ? workload.runs.length / 2 : runs) * perRun * ours;
  const copies = Math.floor(COPIED_EXECUTIONS_MAX / workload.executions);
  const worthwhile = Math.floor(simulated / EXECUTIONS_PER_THREAD_MIN);
  return Math.max(1, Math.min(availableParallelism(), THREADS_MAX, 1 + copies, worthwhile));
}

type Made = [at: number, numbers: PolicyResult | PlacementResult[]][];

async function takeParts({ workload, scenario, parts, taken }: Share, progress: Scenario["progress"]): Promise<Made> {
  const simulator = new Simulator(workload, { ...scenario, progress });
  const made: Made = [];
  const { policies, placements } = parts;
  for (let at = Atomics.add(taken, 0, 1); at < policies.length + placements.length; at = Atomics.add(taken, 0, 1)) {
    const policy = policies[at];
    const placement = placements[at - policies.length];
    if (policy !== undefined) made.push([at, await simulator.policy(policy.seed, policy.ask, policy.without)]);
    else if (placement !== undefined) made.push([at, await simulator.placement(placement.seed, placement.runs)]);
  }
  return made;
}

function otherThread(share: Share): { worker: Worker; numbers: Promise<Made> } {
  // Both sides are this file: where the package has been compiled, it has another name.
  const worker = new Worker(new URL(import.meta.url), { workerData: share });
  const numbers = new Promise<Made>((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
    worker.once("exit", (code) => reject(new Error(`a thread of the simulation ended with code ${code}`)));
  });
  // Until this thread has done its own parts nobody waits for it: a failure is told then.
  numbers.catch(() => {});
  return { worker, numbers };
}

if (!isMainThread && (workerData as Partial<Share> | null)?.isShare) {
  parentPort!.postMessage(await takeParts(workerData as Share, () => {}));
}

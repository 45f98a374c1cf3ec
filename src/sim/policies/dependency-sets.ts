// Dependency sets: tasks that are used together are scheduled together. Runs are transactions; pairs that occur together often, given
// either, are strong dependencies; a rare task hangs on the frequent one that it is tied to most (positive pointwise mutual
// information). The connected sets are loaded as one when any task of them is called, and held as one.
// J. Shen et al., "Defuse: A Dependency-Guided Function Scheduler to Mitigate Cold Starts on FaaS Platforms", ICDCS 2021,
// https://doi.org/10.1109/ICDCS51616.2021.00027. Dial: seconds that a set is held (there from the set's idle-time histogram).
import type { ReplayRun } from "../workload.ts";
import type { Policy, World } from "../world.ts";

/** Strong: the pair's share of the runs of the more frequent of the two. */
const SUPPORT_MIN = 0.2;
const CONFIDENCE_MIN = 0.8;
/** Sets are mined anew after so many runs. */
const MINE_EVERY_RUNS = 200;

export function dependencySets(seconds: number, train: ReplayRun[]): Policy {
  const miner = new Miner();
  for (const run of train) miner.learn(run);
  let setOf = miner.sets();
  let world: World;
  return {
    name: "dependency-sets",
    dial: seconds,
    begin: (given) => {
      world = given;
    },
    started(run, i, nowMs) {
      const task = run.replay.tasks[i]!;
      for (const other of setOf[task] ?? []) {
        const pool = world.pools[other]!;
        if (other !== task && pool.unclaimed < 1) world.claim(other, nowMs, nowMs + seconds * 1000, nowMs);
      }
    },
    runEnded(run) {
      miner.learn(run.replay);
      if (miner.runs % MINE_EVERY_RUNS === 0) setOf = miner.sets();
    },
    keepAliveMs: () => seconds * 1000,
  };
}

class Miner {
  runs = 0;
  readonly #counts: number[] = [];
  /** By the smaller task, then the greater. */
  readonly #pairs: Map<number, number>[] = [];

  learn(run: ReplayRun): void {
    this.runs++;
    const tasks = [...new Set(run.tasks)].sort((a, b) => a - b);
    for (const [at, task] of tasks.entries()) {
      this.#counts[task] = (this.#counts[task] ?? 0) + 1;
      const pairs = this.#pairs[task] ?? new Map<number, number>();
      this.#pairs[task] = pairs;
      for (const other of tasks.slice(at + 1)) pairs.set(other, (pairs.get(other) ?? 0) + 1);
    }
  }

  /** The other tasks of each task's set. */
  sets(): number[][] {
    const parent = this.#counts.map((_, task) => task);
    const top = (task: number): number => {
      let at = task;
      while (parent[at] !== at) at = parent[at]!;
      return at;
    };
    const weakest: { tie: number; to: number }[] = [];
    this.#pairs.forEach((pairs, a) => {
      for (const [b, together] of pairs) {
        const [ofA, ofB] = [this.#counts[a]!, this.#counts[b]!];
        const isStrong = together / this.runs >= SUPPORT_MIN && together / Math.max(ofA, ofB) >= CONFIDENCE_MIN;
        if (isStrong) parent[top(a)] = top(b);
        const rare = ofA < ofB ? a : b;
        const tie = Math.log((together * this.runs) / (ofA * ofB));
        if (tie > 0 && tie > (weakest[rare]?.tie ?? 0)) weakest[rare] = { tie, to: rare === a ? b : a };
      }
    });
    const sets = new Map<number, number[]>();
    this.#counts.forEach((_, task) => {
      const set = sets.get(top(task)) ?? [];
      set.push(task);
      sets.set(top(task), set);
    });
    // A rare task loads what it hangs on; the frequent one does not load every rare one.
    return this.#counts.map((_, task) => {
      const own = sets.get(top(task))!;
      const weak = weakest[task];
      return own.length > 1 || weak === undefined ? own : [...own, ...sets.get(top(weak.to))!];
    });
  }
}

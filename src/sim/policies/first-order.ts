// What the two chain policies of the literature know: which task follows which, how often, and how much later. Learned from the runs of
// the first half and then from the simulated ones, without decay; a transition goes along the path trigger.
import type { ReplayRun } from "../workload.ts";

interface Follower {
  runs: number;
  /** Mean start after the start of the task before, ms. */
  leadMs: number;
}

export class FirstOrder {
  readonly #counts: number[] = [];
  readonly #followers: Map<number, Follower>[] = [];

  /** Times with everything warm: waits are not the workflow's own. */
  learn(run: ReplayRun): void {
    const seen = new Map<number, Set<number>>();
    for (let i = 0; i < run.tasks.length; i++) {
      const task = run.tasks[i]!;
      this.#counts[task] = (this.#counts[task] ?? 0) + 1;
      const before = run.pathTriggers[i]!;
      if (before < 0) continue;
      let told = seen.get(before);
      if (told === undefined) {
        told = new Set();
        seen.set(before, told);
      }
      if (told.has(task)) continue;
      told.add(task);
      const source = run.tasks[before]!;
      const followers = this.#followers[source] ?? new Map<number, Follower>();
      this.#followers[source] = followers;
      const follower = followers.get(task) ?? { runs: 0, leadMs: 0 };
      followers.set(task, follower);
      follower.runs++;
      follower.leadMs += (run.offsetMs[i]! - run.offsetMs[before]! - follower.leadMs) / follower.runs;
    }
  }

  /** Likeliest first. */
  after(task: number): { task: number; probability: number; leadMs: number }[] {
    const count = Math.max(1, this.#counts[task] ?? 0);
    const after = [...(this.#followers[task] ?? [])].map(([follower, { runs, leadMs }]) => ({
      task: follower,
      probability: runs / count,
      leadMs,
    }));
    return after.sort((a, b) => b.probability - a.probability);
  }
}

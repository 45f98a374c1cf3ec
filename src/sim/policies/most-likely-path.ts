// Most likely path with just-in-time start: when a run begins, the likeliest successor of each task is followed, branches that are taken
// more often than not are all followed, and each task on the way is started so that it is ready at its mean lead time. Where
// a run leaves the path, the path from there is followed anew.
// N. Daw, U. Bellur, P. Kulkarni, "Xanadu: Mitigating cascading cold starts in serverless function chain deployments",
// Middleware 2020, https://doi.org/10.1145/3423211.3425690. Dial: seconds of keep-alive after use.
import type { ReplayRun } from "../workload.ts";
import type { ActiveRun, Policy, World } from "../world.ts";
import { FirstOrder } from "./first-order.ts";

/** Followed beside the likeliest: a step that happens in most runs is a parallel branch, not an alternative. */
const PARALLEL_MIN = 0.5;
const DEPTH_MAX = 32;
/** A start not used is given up after the keep-alive, as every instance is. */
const HOLD_MIN_MS = 1_000;

export function mostLikelyPath(seconds: number, train: ReplayRun[]): Policy {
  const known = new FirstOrder();
  for (const run of train) known.learn(run);
  let world: World;
  const expected = new WeakMap<ActiveRun, Set<number>>();
  const means = new Map<number, number>();
  const meanColdMs = (task: number) => {
    let mean = means.get(task);
    if (mean === undefined) {
      const samples = world.coldStarts[task]!;
      mean = samples.reduce((sum, ms) => sum + ms, 0) / samples.length;
      means.set(task, mean);
    }
    return mean;
  };
  return {
    name: "most-likely-path",
    dial: seconds,
    begin: (given) => {
      world = given;
    },
    started(run, i, nowMs) {
      const task = run.replay.tasks[i]!;
      const onPath = expected.get(run);
      if (onPath?.has(task)) return;
      const path = onPath ?? new Set<number>();
      expected.set(run, path);
      path.add(task);
      const holdMs = Math.max(HOLD_MIN_MS, seconds * 1000);
      const open = [{ task, leadMs: 0, depth: 0 }];
      for (let node = open.pop(); node !== undefined; node = open.pop()) {
        if (node.depth >= DEPTH_MAX) continue;
        for (const [rank, follower] of known.after(node.task).entries()) {
          if ((rank > 0 && follower.probability < PARALLEL_MIN) || path.has(follower.task)) continue;
          path.add(follower.task);
          const leadMs = node.leadMs + follower.leadMs;
          const coldMs = meanColdMs(follower.task);
          const neededMs = nowMs + Math.max(leadMs, coldMs);
          if (world.pools[follower.task]!.unclaimed < 1) {
            world.claim(follower.task, Math.max(nowMs, neededMs - coldMs), neededMs + holdMs, nowMs);
          }
          open.push({ task: follower.task, leadMs, depth: node.depth + 1 });
        }
      }
    },
    runEnded: (run) => known.learn(run.replay),
    keepAliveMs: () => seconds * 1000,
  };
}

// Two bounds that no real policy reaches. As in W. Caffeine's simulator, a clairvoyant stands beside every table.
//   run-clairvoyant  knows the whole run when its root arrives (not when runs arrive): each later execution finds an instance
//                    that was started just in time; 60 s keep-alive (dial: seconds) after use.
//   clairvoyant      knows every call: no waits, no idle memory.
import type { ActiveRun, Policy, World } from "../world.ts";

/** An instance started just in time is held this long past its expected use, ms: waits of the run itself move the use. */
const SLACK_MS = 10_000;

export function clairvoyant(): Policy {
  return { name: "clairvoyant", dial: 0, knowsAll: true, keepAliveMs: () => 0 };
}

export function runClairvoyant(seconds: number): Policy {
  let world: World;
  const slots = new WeakMap<ActiveRun["replay"], Slot[]>();
  return {
    name: "run-clairvoyant",
    dial: seconds,
    begin: (given) => {
      world = given;
    },
    runArrived(run, nowMs) {
      let wanted = slots.get(run.replay);
      if (wanted === undefined) {
        wanted = slotsOf(run);
        slots.set(run.replay, wanted);
      }
      if (world.cache !== null) prefetchGiven(run, world, nowMs);
      for (const { task, offsetMs } of wanted) {
        const coldMs = worst(world.coldStarts[task]!);
        const neededMs = nowMs + offsetMs;
        world.claim(task, Math.max(nowMs, neededMs - coldMs), Math.max(neededMs, nowMs + coldMs) + SLACK_MS, nowMs);
      }
    },
    ended(run, i, nowMs) {
      for (const object of run.replay.outputs[i]!) world.prefetch(run, object, nowMs);
    },
    keepAliveMs: () => seconds * 1000,
  };
}

/** Objects that the run reads and does not write itself, for all but its roots. */
function prefetchGiven(run: ActiveRun, world: World, nowMs: number): void {
  const { replay } = run;
  for (const [i, inputs] of replay.inputs.entries()) {
    if (replay.triggers[i] === 0) continue;
    for (const object of inputs) if (!replay.produced.has(object)) world.prefetch(run, object, nowMs);
  }
}

interface Slot {
  task: number;
  offsetMs: number;
}

/** As few instances per task as the run's own overlaps ask for, each wanted from its first use on. Roots come too early to be helped. */
function slotsOf({ replay }: ActiveRun): Slot[] {
  const freeFrom = new Map<number, number[]>();
  const slots: Slot[] = [];
  const order = Array.from(replay.tasks.keys()).sort((a, b) => replay.offsetMs[a]! - replay.offsetMs[b]!);
  for (const i of order) {
    const task = replay.tasks[i]!;
    const ends = freeFrom.get(task) ?? [];
    if (ends.length === 0) freeFrom.set(task, ends);
    const offsetMs = replay.offsetMs[i]!;
    const endMs = offsetMs + replay.durationMs[i]!;
    const free = ends.findIndex((end) => end <= offsetMs);
    if (free >= 0) ends[free] = endMs;
    else {
      ends.push(endMs);
      if (replay.triggers[i]! > 0) slots.push({ task, offsetMs });
    }
  }
  return slots;
}

function worst(samples: Float64Array): number {
  return samples.reduce((most, ms) => Math.max(most, ms), 0);
}

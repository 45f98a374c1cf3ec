// Greedy-dual keep-alive: nothing expires; when memory is full, the idle instance of least priority ends, where
// priority = clock at its last use + frequency × cold start ÷ memory, and the clock is the priority of the last one that ended.
// A. Fuerst, P. Sharma, "FaasCache: Keeping Serverless Computing Alive with Greedy-Dual Caching", ASPLOS 2021,
// https://doi.org/10.1145/3445814.3446757. Dial: GB of memory.
import type { Instance } from "../pool.ts";
import type { Policy, World } from "../world.ts";

export function greedyDual(memoryGb: number): Policy {
  let world: World;
  let clock = 0;
  const priorities = new WeakMap<Instance, number>();
  const frequencies = new Map<number, number>();
  const prioritize = (instance: Instance): void => {
    const samples = world.coldStarts[instance.task]!;
    const coldMs = samples.reduce((sum, ms) => sum + ms, 0) / samples.length;
    const frequency = frequencies.get(instance.task) ?? 1;
    priorities.set(instance, clock + (frequency * coldMs) / world.pools[instance.task]!.gb);
  };
  const makeRoom = (nowMs: number): void => {
    while (world.memoryGb > memoryGb) {
      const victim = leastOf(world, priorities);
      if (victim === null) return;
      clock = Math.max(clock, priorities.get(victim)!);
      world.pools[victim.task]!.kill(victim, nowMs);
      // As in the paper, a task without instances starts its frequency anew.
      if (world.pools[victim.task]!.idle.length === 0) frequencies.delete(victim.task);
    }
  };
  return {
    name: "greedy-dual",
    dial: memoryGb,
    begin: (given) => {
      world = given;
    },
    taken(_run, _i, instance, nowMs) {
      frequencies.set(instance.task, (frequencies.get(instance.task) ?? 0) + 1);
      makeRoom(nowMs);
    },
    keepAliveMs(_task, _nowMs, instance) {
      prioritize(instance);
      return Number.POSITIVE_INFINITY;
    },
  };
}

function leastOf(world: World, priorities: WeakMap<Instance, number>): Instance | null {
  let least: Instance | null = null;
  let lowest = Number.POSITIVE_INFINITY;
  for (const pool of world.pools) {
    for (const instance of pool.idle) {
      const priority = priorities.get(instance) ?? 0;
      if (priority < lowest) [least, lowest] = [instance, priority];
    }
  }
  return least;
}

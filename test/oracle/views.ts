// The oracle's views of a path, as readable keys where assembly/contexts.ts and assembly/reach.ts have hashes.
// In: a history. Out: one key per context, null where the view is not available, in the engine's order.
import type { History } from "../../src/core/engine.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;
const PERIOD_MS = 300_000;
const TIME_MS_MAX = 8.64e15;
const BACK_MAX = 512;

/** 0 for less than 1 µs, negative or unknown, else 1 + floor(log2 µs). */
export function octave(ms: number): number {
  const us = ms * 1000;
  return us >= 1 ? 1 + Math.floor(Math.log2(us)) : 0;
}

function halfOctave(ms: number): string {
  const us = ms * 1000;
  if (!(us >= 1)) return "0";
  const exponent = Math.floor(Math.log2(us));
  return `${exponent}${us / 2 ** exponent >= 1.5 ? "+" : "-"}`;
}

function countBucket(count: number): string {
  if (count <= 4) return `${count}`;
  const high = Math.floor(Math.log2(count - 1));
  return `${high}${((count - 1) >> (high - 1)) & 1 ? "+" : "-"}`;
}

/** What every view is made of. Tasks are +1, so that 0 can mean "before the beginning". */
export interface PathFacts {
  length: number;
  back: (k: number) => number;
  start: (index: number) => number;
  whole: string;
  set: string;
  gapOctave: number;
}

export function pathFacts(history: History): PathFacts {
  const tasks = [...history.tasks].map((task) => task + 1);
  const length = tasks.length;
  const start = (index: number) => history.startMs?.[index] ?? Number.NaN;
  const gap = length > 1 ? start(length - 1) - start(length - 2) : Number.NaN;
  return {
    length,
    back: (k) => tasks[length - 1 - k] ?? 0,
    start,
    whole: tasks.join(),
    set: [...new Set(tasks)].sort((a, b) => a - b).join(),
    gapOctave: octave(gap),
  };
}

/** The 24 contexts of `next`. */
export function nextKeys(history: History, facts: PathFacts): (string | null)[] {
  const { length, back, start } = facts;
  const tasks = [...history.tasks].map((task) => task + 1);
  const last = start(length - 1);
  const gap = length > 1 ? last - start(length - 2) : Number.NaN;
  const gapBefore = length > 2 ? start(length - 2) - start(length - 3) : Number.NaN;
  const elapsed = last - start(0);
  const orders = (k: number) => Array.from({ length: k }, (_, i) => back(i)).join();
  const order = (k: number) => (length >= k ? orders(k) : null);
  const runs = tasks.filter((task, i) => task !== tasks[i - 1]);
  const runKey = [runs.at(-1) ?? 0, runs.at(-2) ?? 0, runs.at(-3) ?? 0].join();
  const hasClock = Math.abs(last) <= TIME_MS_MAX;
  const hour = Math.floor(last / HOUR_MS) % 24;
  const timed = (value: number, key: string) => (Number.isNaN(value) ? null : key);
  const { count, followed } = lookBack(tasks);
  return [
    "",
    order(1),
    order(2),
    order(3),
    order(4),
    order(6),
    facts.whole,
    `${facts.set}|${back(0)}`,
    `${[...tasks].sort((a, b) => a - b).join()}|${back(0)}`,
    `${back(0)}|${countBucket(count)}`,
    `${back(1)},${back(2)}`,
    runKey,
    `${runKey}|${countBucket(runLength(tasks))}`,
    `${orders(2)}|${followed}`,
    `${orders(2)}|${tasks[0]}`,
    history.version ? `${back(0)}|${history.version}` : null,
    timed(gap, `${back(0)}|${facts.gapOctave}`),
    timed(gap, `${back(0)}|${facts.gapOctave}|${octave(gapBefore)}`),
    timed(gap, `${orders(3)}|${facts.gapOctave}`),
    timed(elapsed, `${back(0)}|${halfOctave(elapsed)}`),
    timed(elapsed, `${facts.set}|${back(0)}|${octave(elapsed)}`),
    hasClock ? `${back(0)}|${hour}` : null,
    hasClock ? `${orders(2)}|${hour}` : null,
    hasClock ? `${back(0)}|${Math.floor(last / DAY_MS) % 7}` : null,
  ];
}

/** How often the last task occurs, and what followed it when it came before. */
function lookBack(tasks: number[]): { count: number; followed: number } {
  const end = tasks.length - 1;
  let count = 1;
  let followed = 0;
  for (let i = end - 1; i >= Math.max(0, tasks.length - BACK_MAX); i--) {
    if (tasks[i] !== tasks[end]) continue;
    if (count++ === 1) followed = tasks[i + 1] as number;
  }
  return { count, followed };
}

function runLength(tasks: number[]): number {
  let length = 1;
  while (tasks.at(-1 - length) === tasks.at(-1)) length++;
  return length;
}

/** The first nine contexts of `reach`; the two of its history follow from what was reached before. */
export function reachKeys(history: History, facts: PathFacts): (string | null)[] {
  const { length, back, start } = facts;
  const last = start(length - 1);
  const gap = length > 1 ? last - start(length - 2) : Number.NaN;
  const elapsed = length > 2 ? last - start(0) : Number.NaN;
  return [
    `${back(0)}`,
    length > 1 ? `${back(0)},${back(1)}` : null,
    length > 2 ? `${back(0)},${back(1)},${back(2)}` : null,
    facts.whole,
    `${facts.set}|${back(0)}`,
    history.version ? `${back(0)}|${history.version}` : null,
    Number.isNaN(gap) ? null : `${facts.whole}|${halfOctave(gap)}`,
    Number.isNaN(elapsed) ? null : `${facts.whole}|${halfOctave(elapsed)}`,
    Math.abs(last) <= TIME_MS_MAX ? `${facts.whole}|${Math.floor(last / PERIOD_MS)}` : null,
  ];
}

// The oracle's views of a path, as readable keys where assembly/contexts.ts and assembly/reach.ts have hashes.
// In: a history. Out: one key per context, null where the view is not available, in the engine's order.
import type { History } from "../../src/core/chain-engine.ts";
import type { Before } from "./before.ts";
import type { Ended } from "./ended.ts";

const HALF_HOUR_MS = 1_800_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;
const PERIOD_MS = 300_000;
const PERIOD_KNOWN_AFTER_MAX_MS = 10_000;
const TIME_MS_MAX = 8.64e15;

/** 0 for less than 1 µs, negative or unknown, else 1 + floor(log2 µs). */
function octave(ms: number): number {
  const us = ms * 1000;
  return us >= 1 ? 1 + Math.floor(Math.log2(us)) : 0;
}

function halfOctave(ms: number): string {
  const us = ms * 1000;
  if (!(us >= 1)) return "0";
  const exponent = Math.floor(Math.log2(us));
  return `${exponent}${us / 2 ** exponent >= 1.5 ? "+" : "-"}`;
}

/** What every view is made of. Tasks are +1, so that 0 can mean "before the beginning". */
export interface PathFacts {
  length: number;
  back: (k: number) => number;
  start: (index: number) => number;
  whole: string;
  set: string;
  gapOctave: number;
  /** Hour of the day, UTC; null where unknown. */
  hour: number | null;
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
    hour: Math.abs(start(length - 1)) <= TIME_MS_MAX ? Math.floor(start(length - 1) / HOUR_MS) % 24 : null,
  };
}

/** The 18 contexts of `next`. */
export function nextKeys(history: History, facts: PathFacts, before: Before, ended: Ended): (string | null)[] {
  const { length, back, start } = facts;
  const tasks = [...history.tasks].map((task) => task + 1);
  const last = start(length - 1);
  const gap = length > 1 ? last - start(length - 2) : Number.NaN;
  const gapBefore = length > 2 ? start(length - 2) - start(length - 3) : Number.NaN;
  const elapsed = last - start(0);
  const orders = (k: number) => Array.from({ length: k }, (_, i) => back(i)).join();
  const order = (k: number) => (length >= k ? orders(k) : null);
  const runs = tasks.filter((task, i) => task !== tasks[i - 1]);
  const timed = (value: number, key: string) => (Number.isNaN(value) ? null : key);
  const clock = (periodMs: number, periods: number) =>
    facts.hour === null ? null : `${back(0)}|${Math.floor(last / periodMs) % periods}`;
  return [
    "",
    order(1),
    order(4),
    order(6),
    facts.whole,
    `${facts.set}|${back(0)}`,
    `${[...tasks].sort((a, b) => a - b).join()}|${back(0)}`,
    `${back(1)},${back(2)}`,
    [runs.at(-1) ?? 0, runs.at(-2) ?? 0, runs.at(-3) ?? 0].join(),
    history.version ? `${back(0)}|${history.version}` : null,
    timed(gap, `${back(0)}|${facts.gapOctave}|${octave(gapBefore)}`),
    timed(gap, `${orders(3)}|${facts.gapOctave}`),
    timed(elapsed, `${back(0)}|${halfOctave(elapsed)}`),
    timed(elapsed, `${facts.set}|${back(0)}|${octave(elapsed)}`),
    clock(HALF_HOUR_MS, 48),
    clock(DAY_MS, 7),
    before.is ? `${back(0)}|${halfOctave(before.gapMs)}` : null,
    ended.is
      ? `${facts.whole}|${octave(ended.gapMs)}|${ended.tasks}`
      : before.is
        ? `${facts.whole}|${octave(before.gapMs)}|${before.end}`
        : null,
  ];
}

/** The 11 contexts of `reach`. */
export function reachKeys(history: History, facts: PathFacts, ended: Ended): (string | null)[] {
  const { length, back, start } = facts;
  const isPeriodKnown = facts.hour !== null && ended.knownAfterMs <= PERIOD_KNOWN_AFTER_MAX_MS;
  const last = start(length - 1);
  const gap = length > 1 ? last - start(length - 2) : Number.NaN;
  return [
    `${back(0)}`,
    length > 1 ? `${back(0)},${back(1)}` : null,
    length > 2 ? `${back(0)},${back(1)},${back(2)}` : null,
    facts.whole,
    `${facts.set}|${back(0)}`,
    history.version ? `${back(0)}|${history.version}` : null,
    Number.isNaN(gap) ? null : `${facts.whole}|${halfOctave(gap)}`,
    isPeriodKnown ? `${facts.whole}|${Math.floor(last / PERIOD_MS)}` : null,
    ended.is ? `${facts.whole}|${halfOctave(ended.gapMs)}` : null,
    ended.is ? `${facts.whole}|${ended.tasks}` : null,
    ended.is ? `${facts.whole}|${ended.tasks}|${octave(ended.gapMs)}` : null,
  ];
}

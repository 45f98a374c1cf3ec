// The views of a path that have their own counts for `next`. In: the folded path (path.ts) and the last task's version.
// Out: CONTEXT_HASH, 0 where a view is not available, gapOctave and hour; then CONTEXT_LINE.
// A context's index chooses its weights. Which views help was measured on eight logs: docs/decisions/0011.

import { fold } from "./hash";
import {
  pathBack, pathBag, pathLength, pathRun1, pathRun2, pathRun3, pathSetA, pathSetB, pathStart, pathWhole,
} from "./path";
import { runBeforeEnd, runBeforeFind, runBeforeGap, runBeforeIs, runBeforeMixed } from "./run-before";
import { runEndedFind, runEndedGap, runEndedIs, runEndedMixed, runEndedTasks } from "./run-ended";
import { findLine, touchLines } from "./table";
import { halfOctave, isTime, octave, periodOf } from "./time";

export const CONTEXTS: i32 = 18;
export const CONTEXT_HASH: usize = memory.data(18 * 8, 64);
/** First line of every context that has one, else 0. */
export const CONTEXT_LINE: usize = memory.data(18 * 4, 64);
/** A bit for each context that has a line. */
export let contextsFound: u32 = 0;

/** Indices that the mixer asks about: order 0 only helps where order 1 is unknown. */
export const CONTEXT_ORDER_0: i32 = 0;
export const CONTEXT_ORDER_1: i32 = 1;
/** Orders 1, 4 and 6 are the bits above order 0. */
export const CONTEXT_ORDERS_MASK: u32 = 0xe;
export const CONTEXT_WHOLE: i32 = 4;
export const CONTEXT_SET: i32 = 5;
/** This and the next speak of the run before. */
export const CONTEXT_RUN_BEFORE: i32 = 16;

const MS_PER_HOUR: f64 = 3_600_000;
const HOURS_PER_DAY: i64 = 24;
const MS_PER_HALF_HOUR: f64 = 1_800_000;
const HALF_HOURS_PER_DAY: i64 = 48;
const MS_PER_DAY: f64 = 86_400_000;
const DAYS_PER_WEEK: i64 = 7;

/** Whether the views of runs before are mixed; in learning they are counted all the same. */
export let runsMixed: bool = false;
/** Octave of the time between the last two starts; 0 where unknown. */
export let gapOctave: i32 = 0;
/** Hour of the day, UTC; NO_HOUR where unknown. */
export let hour: u32 = 0;
export const NO_HOUR: u32 = 24;

const INDEX_SALT: u64 = 0x100;

// @ts-ignore: decorator
@inline
function put(index: i32, hash: u64): void {
  // The lowest bit keeps a hash from being 0, which means "not available".
  const own = fold(hash, <u64>index + INDEX_SALT) | 1;
  store<u64>(CONTEXT_HASH + (<usize>index << 3), own);
}

// @ts-ignore: decorator
@inline
function drop(index: i32): void {
  store<u64>(CONTEXT_HASH + (<usize>index << 3), 0);
}

/** Hashes the views of the folded path. `isLearning` only chooses what run-before.ts leaves out. */
export function hashContexts(version: u32, isLearning: bool): void {
  const l1 = <u64>pathBack(0);
  const l2 = <u64>pathBack(1);
  const order1 = fold(0, l1);
  const order3 = fold(fold(order1, l2), <u64>pathBack(2));
  const set = fold(fold(fold(0, pathSetA), pathSetB), l1);
  hashOrders(order1, order3);
  put(CONTEXT_WHOLE, pathWhole);
  put(CONTEXT_SET, set);
  put(6, fold(pathBag, l1));
  put(7, fold(fold(1, l2), <u64>pathBack(2)));
  put(8, fold(fold(fold(0, <u64>pathRun1), <u64>pathRun2), <u64>pathRun3));
  if (version != 0) put(9, fold(order1, <u64>version));
  else drop(9);
  hashDurations(order1, order3, set);
  hashClock(order1);
  hashRunBefore(order1, isLearning);
}

/** Asks for the lines of the hashed views; see touchLines. */
// @ts-ignore: decorator
@inline
export function touchContexts(): u32 {
  let touched: u32 = 0;
  for (let c: usize = 0; c < <usize>CONTEXTS; c++) touched ^= touchLines(load<u64>(CONTEXT_HASH + (c << 3)));
  return touched;
}

/** Finds the lines of the hashed views. */
export function findContexts(): void {
  let found: u32 = 0;
  for (let c: usize = 0; c < <usize>CONTEXTS; c++) {
    const hash = load<u64>(CONTEXT_HASH + (c << 3));
    // A view that is not available has hash 0, any other an odd one.
    const line = findLine(hash) & (0 - <usize>(hash & 1));
    store<u32>(CONTEXT_LINE + (c << 2), <u32>line);
    found |= u32(line != 0) << <u32>c;
  }
  contextsFound = found;
}

function hashOrders(order1: u64, order3: u64): void {
  put(CONTEXT_ORDER_0, 0);
  put(CONTEXT_ORDER_1, order1);
  const order4 = fold(order3, <u64>pathBack(3));
  if (pathLength > 3) put(2, order4);
  else drop(2);
  if (pathLength > 5) put(3, fold(fold(order4, <u64>pathBack(4)), <u64>pathBack(5)));
  else drop(3);
}

/** Contexts of the time since the start of the path and between its last starts; none where those are unknown. */
function hashDurations(order1: u64, order3: u64, set: u64): void {
  const last = pathStart(pathLength - 1);
  const gap = pathLength > 1 ? last - pathStart(pathLength - 2) : NaN;
  gapOctave = <i32>octave(gap);
  if (gap == gap) {
    const gapBefore = pathLength > 2 ? pathStart(pathLength - 2) - pathStart(pathLength - 3) : NaN;
    put(10, fold(fold(order1, <u64>gapOctave), octave(gapBefore)));
    put(11, fold(order3, <u64>gapOctave));
  } else {
    drop(10);
    drop(11);
  }
  const elapsed = last - pathStart(0);
  if (elapsed == elapsed) {
    put(12, fold(order1, halfOctave(elapsed)));
    put(13, fold(set, octave(elapsed)));
  } else {
    drop(12);
    drop(13);
  }
}

/** Contexts of the time of the day and the day of the week, UTC. */
function hashClock(order1: u64): void {
  const last = pathStart(pathLength - 1);
  if (!isTime(last)) {
    drop(14);
    drop(15);
    hour = NO_HOUR;
    return;
  }
  put(14, fold(order1, periodOf(last, MS_PER_HALF_HOUR, HALF_HOURS_PER_DAY)));
  put(15, fold(order1, periodOf(last, MS_PER_DAY, DAYS_PER_WEEK)));
  hour = <u32>periodOf(last, MS_PER_HOUR, HOURS_PER_DAY);
}

function hashRunBefore(order1: u64, isLearning: bool): void {
  runBeforeFind(isLearning);
  runEndedFind(isLearning);
  runsMixed = runEndedIs ? runEndedMixed : runBeforeMixed;
  if (runBeforeIs) put(CONTEXT_RUN_BEFORE, fold(order1, halfOctave(runBeforeGap)));
  else drop(CONTEXT_RUN_BEFORE);
  // The run that ended last tells more than the one that started last, which may be a stranger's and still running.
  if (runEndedIs) put(CONTEXT_RUN_BEFORE + 1, fold(fold(pathWhole, runEndedTasks), octave(runEndedGap)));
  else if (runBeforeIs) put(CONTEXT_RUN_BEFORE + 1, fold(fold(pathWhole, runBeforeEnd), octave(runBeforeGap)));
  else drop(CONTEXT_RUN_BEFORE + 1);
}

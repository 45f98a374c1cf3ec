// The views of a path that have their own counts for `next`. In: the folded path (path.ts) and the last task's version.
// Out: CONTEXT_HASH, 0 where a view is not available, and gapOctave.
// A context's index chooses its weights. Which views help was measured on eight logs: docs/decisions/0011.

import { fold } from "./hash";
import { PATH_TASKS } from "./layout";
import {
  pathBack, pathBag, pathCount, pathFollowed, pathLength, pathLookBack, pathRun1, pathRun2, pathRun3, pathRunLength, pathSetA,
  pathSetB, pathStart, pathWhole,
} from "./path";
import { countBucket, halfOctave, isTime, octave, periodOf } from "./time";

export const CONTEXTS: i32 = 24;
export const CONTEXT_HASH: usize = memory.data(24 * 8, 64);

/** Indices that the mixer asks about: order 0 only helps where order 1 is unknown. */
export const CONTEXT_ORDER_0: i32 = 0;
export const CONTEXT_ORDER_1: i32 = 1;
/** Orders 1–4 and 6 are the bits above order 0. */
export const CONTEXT_ORDERS_MASK: u32 = 0x3e;
export const CONTEXT_WHOLE: i32 = 6;
export const CONTEXT_SET: i32 = 7;
export const CONTEXT_GAP: i32 = 16;

const MS_PER_HOUR: f64 = 3_600_000;
const HOURS_PER_DAY: i64 = 24;
const MS_PER_DAY: f64 = 86_400_000;
const DAYS_PER_WEEK: i64 = 7;

/** Octave of the time between the last two starts; 0 where unknown. */
export let gapOctave: i32 = 0;

const INDEX_SALT: u64 = 0x100;

// @ts-ignore: decorator
@inline
function put(index: i32, hash: u64): void {
  // The lowest bit keeps a hash from being 0, which means "not available".
  store<u64>(CONTEXT_HASH + (<usize>index << 3), fold(hash, <u64>index + INDEX_SALT) | 1);
}

// @ts-ignore: decorator
@inline
function drop(index: i32): void {
  store<u64>(CONTEXT_HASH + (<usize>index << 3), 0);
}

export function hashContexts(version: u32): void {
  pathLookBack();
  const l1 = <u64>pathBack(0);
  const l2 = <u64>pathBack(1);
  const order1 = fold(0, l1);
  const order2 = fold(order1, l2);
  const order3 = fold(order2, <u64>pathBack(2));
  const set = fold(fold(fold(0, pathSetA), pathSetB), l1);
  hashOrders(order1, order2, order3);
  put(CONTEXT_WHOLE, pathWhole);
  put(CONTEXT_SET, set);
  put(8, fold(pathBag, l1));
  put(9, fold(order1, countBucket(pathCount)));
  put(10, fold(fold(1, l2), <u64>pathBack(2)));
  const runs = fold(fold(fold(0, <u64>pathRun1), <u64>pathRun2), <u64>pathRun3);
  put(11, runs);
  put(12, fold(runs, countBucket(pathRunLength)));
  put(13, fold(order2, <u64>pathFollowed));
  put(14, fold(order2, <u64>load<u32>(PATH_TASKS) + 1));
  if (version != 0) put(15, fold(order1, <u64>version));
  else drop(15);
  hashDurations(order1, order3, set);
  hashClock(order1, order2);
}

function hashOrders(order1: u64, order2: u64, order3: u64): void {
  put(CONTEXT_ORDER_0, 0);
  put(CONTEXT_ORDER_1, order1);
  const order4 = fold(order3, <u64>pathBack(3));
  if (pathLength > 1) put(2, order2);
  else drop(2);
  if (pathLength > 2) put(3, order3);
  else drop(3);
  if (pathLength > 3) put(4, order4);
  else drop(4);
  if (pathLength > 5) put(5, fold(fold(order4, <u64>pathBack(4)), <u64>pathBack(5)));
  else drop(5);
}

/** Contexts of the time since the start of the path and between its last starts; none where those are unknown. */
function hashDurations(order1: u64, order3: u64, set: u64): void {
  const last = pathStart(pathLength - 1);
  const gap = pathLength > 1 ? last - pathStart(pathLength - 2) : NaN;
  gapOctave = <i32>octave(gap);
  if (gap == gap) {
    const gapBefore = pathLength > 2 ? pathStart(pathLength - 2) - pathStart(pathLength - 3) : NaN;
    put(CONTEXT_GAP, fold(order1, <u64>gapOctave));
    put(17, fold(fold(order1, <u64>gapOctave), octave(gapBefore)));
    put(18, fold(order3, <u64>gapOctave));
  } else {
    drop(CONTEXT_GAP);
    drop(17);
    drop(18);
  }
  const elapsed = last - pathStart(0);
  if (elapsed == elapsed) {
    put(19, fold(order1, halfOctave(elapsed)));
    put(20, fold(set, octave(elapsed)));
  } else {
    drop(19);
    drop(20);
  }
}

/** Contexts of the hour of the day and the day of the week, UTC. */
function hashClock(order1: u64, order2: u64): void {
  const last = pathStart(pathLength - 1);
  if (!isTime(last)) {
    drop(21);
    drop(22);
    drop(23);
    return;
  }
  const hour = periodOf(last, MS_PER_HOUR, HOURS_PER_DAY);
  put(21, fold(order1, hour));
  put(22, fold(order2, hour));
  put(23, fold(order1, periodOf(last, MS_PER_DAY, DAYS_PER_WEEK)));
}

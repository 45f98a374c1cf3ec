// The views of a path that have their own counts. In: the folded path (path.ts) and the version. Out: CONTEXT_HASH, 0 = not available.
// Order matters only in that a context's index chooses its weights.

import { fold } from "./hash";
import {
  pathBack, pathCountOfLast, pathLength, pathRun1, pathRun2, pathRun3, pathSetA, pathSetB, pathStart, pathWhole,
} from "./path";

export const CONTEXTS: i32 = 20;
export const CONTEXT_HASH: usize = memory.data(24 * 8, 64);

const MS_PER_HOUR: f64 = 3_600_000;
const HOURS_PER_DAY: f64 = 24;
/** Times are bucketed by octave of microseconds: traces differ by microseconds, cases by days. */
const US_PER_MS: f64 = 1000;

// @ts-ignore: decorator
@inline
function put(index: i32, hash: u64): void {
  store<u64>(CONTEXT_HASH + (<usize>index << 3), fold(hash, <u64>index + 0x100) | 1);
}

// @ts-ignore: decorator
@inline
function drop(index: i32): void {
  store<u64>(CONTEXT_HASH + (<usize>index << 3), 0);
}

/** Octave of a duration: 0 for nothing or negative, else 1 + floor(log2 µs). Reads the exponent of the double. */
// @ts-ignore: decorator
@inline
function octave(ms: f64): u64 {
  const us = ms * US_PER_MS;
  return us >= 1 ? (reinterpret<u64>(us) >> 52) - 1022 : 0;
}

/** Logarithmic bucket of a count: 1, 2, 3, 4, 5-6, 7-8, 9-12, … */
// @ts-ignore: decorator
@inline
function countBucket(count: i32): u64 {
  if (count <= 4) return <u64>count;
  const n = <u32>(count - 1);
  const high = 31 - clz(n);
  return <u64>((high << 1) | ((n >> (high - 1)) & 1));
}

export function hashContexts(version: u32): void {
  const l1 = <u64>pathBack(0);
  let h = fold(0, l1);
  const order1 = h;
  put(0, 0);
  put(1, order1);
  for (let k = 1; k < 6; k++) {
    h = fold(h, <u64>pathBack(k));
    if (pathLength > k) put(k + 1, h);
    else drop(k + 1);
  }
  put(7, pathWhole);
  put(8, fold(fold(pathSetA, pathSetB), l1));
  put(9, fold(order1, countBucket(pathCountOfLast())));
  put(10, fold(order1, countBucket(pathLength)));
  put(11, fold(fold(1, <u64>pathBack(1)), <u64>pathBack(2)));
  put(12, fold(order1, <u64>pathBack(2)));
  put(13, fold(fold(<u64>pathRun1, <u64>pathRun2), <u64>pathRun3));
  hashTimes(order1);
  if (version != 0) put(18, fold(order1, <u64>version));
  else drop(18);
}

function hashTimes(order1: u64): void {
  const last = pathStart(pathLength - 1);
  const elapsed = last - pathStart(0);
  if (pathLength > 1 && elapsed == elapsed) put(14, fold(order1, octave(elapsed)));
  else drop(14);
  const gap = pathLength > 1 ? last - pathStart(pathLength - 2) : NaN;
  if (gap == gap) {
    put(15, fold(order1, octave(gap)));
    put(19, fold(fold(order1, <u64>pathBack(1)), octave(gap)));
  } else {
    drop(15);
    drop(19);
  }
  // `last - last` is NaN for both NaN and infinity, where an hour has no meaning.
  if (last - last == 0) put(16, fold(order1, <u64>(<i64>Math.floor(last / MS_PER_HOUR) % <i64>HOURS_PER_DAY)));
  else drop(16);
  put(17, fold(fold(fold(pathSetA, pathSetB), l1l2()), 17));
}

// @ts-ignore: decorator
@inline
function l1l2(): u64 {
  return fold(fold(0, <u64>pathBack(0)), <u64>pathBack(1));
}

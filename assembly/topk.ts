// The likeliest rows, highest first. In: candidates with their probabilities. Out: OUT_TASKS, OUT_PROBABILITIES.
// Algorithm: one u64 key per row, probability bits above candidate: bits of positive floats sort like the floats. Shell sort: a
// reach of a hundred rows costs a third of what insertion does, and a handful costs the same. Equal rows keep their order.
// Source: M. Ciura, "Best Increments for the Average Case of Shellsort", 2001, for the gaps.

import { CANDIDATE_SYMBOL } from "./candidates";
import { OUT_PROBABILITIES, OUT_TASKS, SYMBOL_TASK_0 } from "./layout";

const KEYS: usize = memory.data(256 * 8, 64);
const GAPS: StaticArray<u32> = [57, 23, 10, 4, 1];
let rows: i32 = 0;

export function rowsReset(): void {
  rows = 0;
}

/** Adds a candidate, once each: at most CANDIDATES_MAX rows. */
// @ts-ignore: decorator
@inline
export function rowAdd(candidate: i32, probability: f32): void {
  store<u64>(KEYS + (<usize>rows << 3), (<u64>reinterpret<u32>(probability) << 32) | <u64>(~(<u32>candidate)));
  rows++;
}

/** Most candidates whose ranks are counted instead of sorted. */
export const RANKED_MAX: i32 = 16;

/**
 * The same for candidates 1 to `count` − 1 of at most RANKED_MAX, whose probabilities lie at `probabilities`: a row's place is the number
 * of rows before it. That takes more comparisons than sorting, four at a time, and none of them is a branch to guess wrong.
 */
export function rowsRank(probabilities: usize, count: i32, limit: i32): i32 {
  const rowsMask = ((1 << count) - 1) & ~1;
  for (let row = 1; row < count; row++) {
    const own = load<f32>(probabilities + (<usize>row << 2));
    let greater = 0;
    let equal = 0;
    for (let s = 0; s < count; s += 4) {
      const four = v128.load(probabilities + (<usize>s << 2));
      greater |= i32x4.bitmask(f32x4.gt(four, f32x4.splat(own))) << s;
      equal |= i32x4.bitmask(f32x4.eq(four, f32x4.splat(own))) << s;
    }
    const place = popcnt(((equal & ((1 << row) - 1)) | greater) & rowsMask);
    if (place < limit) writeRow(<usize>place, <usize>row, own);
  }
  return min(count - 1, limit);
}

// @ts-ignore: decorator
@inline
function writeRow(place: usize, candidate: usize, probability: f32): void {
  store<u32>(OUT_TASKS + (place << 2), load<u32>(CANDIDATE_SYMBOL + (candidate << 2)) - SYMBOL_TASK_0);
  store<f64>(OUT_PROBABILITIES + (place << 3), <f64>probability);
}

/** Writes the `limit` likeliest rows; returns how many. */
export function rowsOut(limit: i32): i32 {
  sort();
  const count = min(rows, limit);
  for (let i: usize = 0; i < <usize>count; i++) {
    const key = load<u64>(KEYS + (i << 3));
    writeRow(i, <usize>(~(<u32>key)), reinterpret<f32>(<u32>(key >> 32)));
  }
  return count;
}

function sort(): void {
  for (let g = 0; g < GAPS.length; g++) {
    const gap = <usize>unchecked(GAPS[g]) << 3;
    const end = KEYS + (<usize>rows << 3);
    for (let at = KEYS + gap; at < end; at += 8) {
      const key = load<u64>(at);
      let to = at;
      while (to >= KEYS + gap && load<u64>(to - gap) < key) {
        store<u64>(to, load<u64>(to - gap));
        to -= gap;
      }
      store<u64>(to, key);
    }
  }
}

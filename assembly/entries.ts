// What the contexts of `next` propose, one after another. In: lines of the table. Out: ENTRY_PLACE and ENTRY_WEIGHTS.
// Algorithm: a whole line is copied, then it is told how much of it counts: lines differ in length, and in a loop over the symbols of
// each the processor would guess wrong at almost every end.

import { LINE_PLACES } from "./table";

// 16 contexts of 13 symbols, one of 26 and one of 52 are fewer than 300, and what is copied beyond the last has room.
/** Symbol and count, as in the line. */
export const ENTRY_PLACE: usize = memory.data(320 * 4, 64);
/** Offset of the entry's weights. */
export const ENTRY_WEIGHTS: usize = memory.data(320 * 4, 64);

/** Enters the symbols of a line from `entry` on, with the offset of their weights; returns the entry after them. */
// @ts-ignore: decorator
@inline
export function enterLine(line: usize, weightsOffset: i32, entry: usize): usize {
  const a = v128.load(line, LINE_PLACES);
  const b = v128.load(line, LINE_PLACES + 16);
  const c = v128.load(line, LINE_PLACES + 32);
  const d = v128.load32_zero(line, LINE_PLACES + 48);
  const at = entry << 2;
  v128.store(ENTRY_PLACE + at, a);
  v128.store(ENTRY_PLACE + at, b, 16);
  v128.store(ENTRY_PLACE + at, c, 32);
  v128.store(ENTRY_PLACE + at, d, 48);
  const weightsAt = i32x4.splat(weightsOffset);
  v128.store(ENTRY_WEIGHTS + at, weightsAt);
  v128.store(ENTRY_WEIGHTS + at, weightsAt, 16);
  v128.store(ENTRY_WEIGHTS + at, weightsAt, 32);
  v128.store(ENTRY_WEIGHTS + at, weightsAt, 48);
  // The three lanes beyond the thirteenth place are empty.
  return entry + <usize>ctz(empty(a) | (empty(b) << 4) | (empty(c) << 8) | (empty(d) << 12));
}

/** A bit for each lane that is 0. */
// @ts-ignore: decorator
@inline
function empty(places: v128): i32 {
  return i32x4.bitmask(i32x4.eq(places, i32x4.splat(0)));
}

// What the mixers leave over: a correction of a candidate's final score, learned per (view of the path, candidate).
// In: the path, a candidate's symbol and the final error of its probability. Out: a sum of four corrections.
// Algorithm: four hashed tables, keyed by the last task, last task + hour of the day (the last two where times are unknown), last
// task + gap, last task + position; plain descent of the log-loss. Collisions are tolerated: a correction is small and the error that it learns from is shared.
// Source: the secondary estimation (APM/SSE) stage of PAQ, as additive corrections of the logit.

import { gapOctave, hour, NO_HOUR } from "./contexts";
import { pathBack, pathLength } from "./path";

export const BIAS_TABLES: i32 = 4;
const RATE: f32 = 0.007;
/** Gaps are told apart by three octaves, positions up to fifteen. */
const GAP_OCTAVES: i32 = 3;
const BUCKETS_MAX: i32 = 15;

/** The symbols of one key share two cache lines: a question with ten candidates then waits for eight lines, not for forty. */
const SLOT_BITS: i32 = 5;

let base: usize = 0;
/** Leaves a key's bits that choose its lines. */
let shift: i32 = 0;
let tableBytes: usize = 0;
/** Read by nobody: a load whose result is not used may be left out. */
let touched: u32 = 0;
/** Address of the key's lines in each table. */
const LINES: usize = memory.data(4 * 4, 16);

/** Each table has 2^bits f32. */
export function biasInit(address: usize, bits: i32): void {
  base = address;
  shift = 32 - (bits - SLOT_BITS);
  tableBytes = <usize>4 << bits;
}

export function biasBytes(bits: i32): usize {
  return <usize>(BIAS_TABLES << 2) << bits;
}

/** Octave bucket of the gap, also a choice of weights. */
// @ts-ignore: decorator
@inline
export function gapBucket(): i32 {
  return min(BUCKETS_MAX, gapOctave / GAP_OCTAVES);
}

/** Finds the lines of the folded path, and has them come from memory while the symbols are gathered. */
export function biasChoose(): void {
  const l1 = pathBack(0) * 0x85ebca6b;
  choose(0, l1);
  choose(1, l1 + (hour == NO_HOUR ? NO_HOUR + 1 + pathBack(1) : hour));
  choose(2, l1 + <u32>gapBucket() + 77);
  choose(3, l1 + <u32>min(BUCKETS_MAX, pathLength) + 777);
}

// @ts-ignore: decorator
@inline
function choose(table: i32, key: u32): void {
  const line = (key * 0x9e3779b1) >> shift;
  const at = base + <usize>table * tableBytes + (<usize>line << (2 + SLOT_BITS));
  store<u32>(LINES + (<usize>table << 2), <u32>at);
  touched ^= load<u32>(at) ^ load<u32>(at, 64);
}

/** Where a symbol's correction lies in its lines, bytes. */
// @ts-ignore: decorator
@inline
function slotOf(symbol: u32): usize {
  return <usize>((symbol * 0x85ebca6b) >> (32 - SLOT_BITS)) << 2;
}

// @ts-ignore: decorator
@inline
function place(table: i32, slot: usize): usize {
  return <usize>load<u32>(LINES + (<usize>table << 2)) + slot;
}

// @ts-ignore: decorator
@inline
export function biasOf(symbol: u32): f32 {
  const slot = slotOf(symbol);
  return load<f32>(place(0, slot)) + load<f32>(place(1, slot)) + (load<f32>(place(2, slot)) + load<f32>(place(3, slot)));
}

/** `error` = 1 where the symbol came, else 0, minus its probability. */
// @ts-ignore: decorator
@inline
export function biasLearn(symbol: u32, error: f32): void {
  const slot = slotOf(symbol);
  const step = RATE * error;
  for (let table = 0; table < BIAS_TABLES; table++) {
    const at = place(table, slot);
    store<f32>(at, load<f32>(at) + step);
  }
}

// What the mixers leave over: a correction of a candidate's final score, learned per (view of the path, candidate).
// In: the path, a candidate's symbol and the final error of its probability. Out: a sum of four corrections.
// Algorithm: four hashed tables, keyed by the last task, the last two, last task + gap, last task + position; plain descent of
// the log-loss. Collisions are tolerated: a correction is small and the error that it learns from is shared.
// Source: the secondary estimation (APM/SSE) stage of PAQ, as additive corrections of the logit.

import { gapOctave } from "./contexts";
import { pathBack, pathLength } from "./path";

export const BIAS_TABLES: i32 = 4;
const RATE: f32 = 0.007;
/** Gaps are told apart by three octaves, positions up to fifteen. */
const GAP_OCTAVES: i32 = 3;
const BUCKETS_MAX: i32 = 15;

let base: usize = 0;
let shift: i32 = 0;
const KEYS: usize = memory.data(4 * 4, 16);

/** Each table has 2^bits f32. */
export function biasInit(address: usize, bits: i32): void {
  base = address;
  shift = 32 - bits;
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

/** Sets the keys of the folded path. */
export function biasChoose(): void {
  const l1 = pathBack(0) * 0x85ebca6b;
  store<u32>(KEYS, l1);
  store<u32>(KEYS, (l1 + pathBack(1)) * 0xc2b2ae35, 4);
  store<u32>(KEYS, (l1 + <u32>gapBucket() + 77) * 0x27d4eb2f, 8);
  store<u32>(KEYS, (l1 + <u32>min(BUCKETS_MAX, pathLength) + 777) * 0x165667b1, 12);
}

// @ts-ignore: decorator
@inline
function place(table: i32, spread: u32): usize {
  const index = (spread + load<u32>(KEYS + (<usize>table << 2))) >> shift;
  return base + (<usize>(<u32>table << (32 - shift)) + <usize>index << 2);
}

// @ts-ignore: decorator
@inline
export function biasOf(symbol: u32): f32 {
  const spread = symbol * 0x9e3779b1;
  return load<f32>(place(0, spread)) + load<f32>(place(1, spread)) + (load<f32>(place(2, spread)) + load<f32>(place(3, spread)));
}

/** `error` = 1 where the symbol came, else 0, minus its probability. */
// @ts-ignore: decorator
@inline
export function biasLearn(symbol: u32, error: f32): void {
  const spread = symbol * 0x9e3779b1;
  const step = RATE * error;
  for (let table = 0; table < BIAS_TABLES; table++) {
    const at = place(table, spread);
    store<f32>(at, load<f32>(at) + step);
  }
}

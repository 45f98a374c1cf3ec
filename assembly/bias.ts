// What the mixers leave over: a correction of a candidate's final score, learned per (view of the path, candidate).
// In: the path, a candidate's symbol and the final error of its probability. Out: a sum of three corrections.
// Algorithm: three hashed tables, keyed by the last task and hour of the day (the last two where times are unknown), last task and
// gap, last task and position; plain descent of the log-loss. Collisions are tolerated: a correction is small and the error that
// it learns from is shared.
// Source: the secondary estimation (APM/SSE) stage of PAQ, as additive corrections of the logit.

import { gapOctave, hour, NO_HOUR } from "./contexts";
import { pathBack, pathLength } from "./path";

export const BIAS_TABLES: i32 = 3;
const RATE: f32 = 0.009;
/** Gaps are told apart by three octaves, positions up to fifteen. */
const GAP_OCTAVES: i32 = 3;
const BUCKETS_MAX: i32 = 15;

/** The symbols of one key share one cache line: a question waits for three lines, however many candidates it has. */
const SLOT_BITS: i32 = 4;
const LINE_BYTES: usize = 64;

let base: usize = 0;
/** Leaves a key's bits that choose its line. */
let shift: i32 = 0;
let tableBytes: usize = 0;
// The key's line in each table.
let lineClock: usize = 0;
let lineGap: usize = 0;
let linePosition: usize = 0;
/** Sum of the three lines, by slot. */
const SUMS: usize = memory.data(64, 64);
/** What the three lines learn, by slot. */
const STEPS: usize = memory.data(64, 64);

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

/** Finds the lines of the folded path; returns a value that hangs on all of them, so that they are asked for now. */
export function biasChoose(): u32 {
  const l1 = pathBack(0) * 0x85ebca6b;
  lineClock = lineOf(0, l1 + (hour == NO_HOUR ? NO_HOUR + 1 + pathBack(1) : hour));
  lineGap = lineOf(1, l1 + <u32>gapBucket() + 77);
  linePosition = lineOf(2, l1 + <u32>min(BUCKETS_MAX, pathLength) + 777);
  return load<u32>(lineClock) ^ load<u32>(lineGap) ^ load<u32>(linePosition);
}

// @ts-ignore: decorator
@inline
function lineOf(table: i32, key: u32): usize {
  const line = (key * 0x9e3779b1) >> shift;
  return base + <usize>table * tableBytes + <usize>line * LINE_BYTES;
}

/** Where a symbol's correction lies in a line, bytes. */
// @ts-ignore: decorator
@inline
function slotOf(symbol: u32): usize {
  return <usize>((symbol * 0x85ebca6b) >> (32 - SLOT_BITS)) << 2;
}

/** Before biasOf. */
export function biasSum(): void {
  for (let at: usize = 0; at < LINE_BYTES; at += 16) {
    const two = f32x4.add(v128.load(lineClock + at), v128.load(lineGap + at));
    v128.store(SUMS + at, f32x4.add(two, v128.load(linePosition + at)));
  }
}

// @ts-ignore: decorator
@inline
export function biasOf(symbol: u32): f32 {
  return load<f32>(SUMS + slotOf(symbol));
}

/** Before biasStep. */
export function biasStepsReset(): void {
  memory.fill(STEPS, 0, LINE_BYTES);
}

/** `error` = 1 where the symbol came, else 0, minus its probability. */
// @ts-ignore: decorator
@inline
export function biasStep(symbol: u32, error: f32): void {
  const at = STEPS + slotOf(symbol);
  store<f32>(at, load<f32>(at) + RATE * error);
}

/** After the last biasStep. */
export function biasLearn(): void {
  for (let at: usize = 0; at < LINE_BYTES; at += 16) {
    const steps = v128.load(STEPS + at);
    v128.store(lineClock + at, f32x4.add(v128.load(lineClock + at), steps));
    v128.store(lineGap + at, f32x4.add(v128.load(lineGap + at), steps));
    v128.store(linePosition + at, f32x4.add(v128.load(linePosition + at), steps));
  }
}

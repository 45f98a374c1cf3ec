// When, and how often? In: (context, task) and a lead time. Out: p10, p50, p90 of the lead time and the mean multiplicity.
// A cell is a line of the table: two checks u32 | base i32 | sum of multiplicities f32 | 44 buckets u8 | total f32.
// Algorithm: a histogram of quarter-octave buckets of microseconds in a window of 11 octaves around the first value seen;
// what falls outside goes to the end buckets. At 255 every bucket is halved, so old values fade. Three contexts keep cells; the
// narrowest with enough evidence answers, and one begins only where the broader one has enough: most pairs of a path and a task
// come a few times at most. A few values never span their distribution, so the levels at which p10 and p90 are
// read are themselves learned, per context and evidence, until a tenth of the values falls outside on either side.
// Source: log-bucket quantile sketches (DDSketch, Masson et al., VLDB 2019), with a fixed window so that a cell is one cache line;
// learned levels as in adaptive conformal inference (Gibbs and Candès, NeurIPS 2021).

import { fold } from "./hash";
import { pathBack, pathLength, pathWhole } from "./path";
import { claimLine, LINE_TOTAL, touchLines } from "./table";

export const BUCKETS: i32 = 44;
export const BUCKETS_PER_OCTAVE: f64 = 4;
/** Buckets of the window that lie below the first value. */
const BUCKETS_BELOW: i32 = 22;
export const CELL_BASE: usize = 8;
export const CELL_MULTIPLICITY: usize = 12;
export const CELL_BUCKETS: usize = 16;
const BUCKET_COUNT_MAX: u32 = 255;
const TOTAL_MAX: f32 = 1023;
/** No bucket lies beyond this: the octaves of the longest time in f64 ms, four buckets each. */
export const BASE_MAX: i32 = 4200;
/** As many executions as a run can have. */
export const MULTIPLICITY_MAX: f32 = 4096;
export const US_PER_MS: f64 = 1000;
const LEAD_SALT: u64 = 0x1ead;
/** Below this many lead times a cell's quantiles say less than those of a broader context. */
export const ENOUGH: f32 = 10;
/** Last task, last two, whole path: the broadest first. */
const CONTEXTS: i32 = 3;

const LOW: f32 = 0.1;
const HIGH: f32 = 0.9;
/** Slow, because the lead times of one run move together. */
const LEVEL_RATE: f32 = 0.0003;
/** A level below 0 or above 1 reaches outside the values seen, by this many buckets per unit. */
export const BUCKETS_OUTSIDE: f32 = 8;
export const LEVEL_MIN: f32 = -2;
export const LEVEL_MAX: f32 = 3;
const EVIDENCES: i32 = 8;

/** Levels: (low f32, high f32) per context and octave of evidence. */
export const LEAD_LEVEL_BYTES: usize = 3 * 8 * 8;
let levels: usize = 0;

/** Hash of the path as each context sees it; with a symbol folded in, of its cell. */
const PATH_HASH: usize = memory.data(3 * 8, 16);
/** Contexts that differ for this path: of a path of one task, the last two are the whole. */
export let contexts: i32 = CONTEXTS;
/** Scratch of leadLearn: the cells that learn, by context. */
const LEARNING_CELL: usize = memory.data(3 * 4, 16);

export function leadInit(base: usize): void {
  levels = base;
}

export function leadReset(): void {
  for (let at = levels; at < levels + LEAD_LEVEL_BYTES; at += 8) {
    store<f32>(at, LOW);
    store<f32>(at, HIGH, 4);
  }
}

/** Before leadLearn and leadsOut: the path that they speak of. */
export function leadPath(): void {
  const last = fold(0, <u64>pathBack(0));
  store<u64>(PATH_HASH, fold(last, LEAD_SALT));
  store<u64>(PATH_HASH, fold(fold(last, <u64>pathBack(1)), LEAD_SALT + 1), 8);
  store<u64>(PATH_HASH, fold(pathWhole, LEAD_SALT + 2), 16);
  contexts = pathLength == 1 ? CONTEXTS - 1 : CONTEXTS;
}

// @ts-ignore: decorator
@inline
export function leadHash(context: i32, symbol: u32): u64 {
  return fold(load<u64>(PATH_HASH + (<usize>context << 3)), <u64>symbol);
}

/** Asks for the cells of a symbol, before leadLearn of many; see touchLines. */
// @ts-ignore: decorator
@inline
export function leadTouch(symbol: u32): u32 {
  let touched: u32 = 0;
  for (let c = 0; c < CONTEXTS; c++) touched ^= touchLines(leadHash(c, symbol));
  return touched;
}

/**
 * Learns one lead time (NaN: unknown) and how often the task came. The cells that learn are those that leads-out.ts asks, broadest
 * first: while one has enough, a narrower one too. Levels are of the one that would have answered, as it was before.
 */
export function leadLearn(symbol: u32, leadMs: f64, multiplicity: i32): void {
  const isKnown = leadMs - leadMs == 0;
  const position = isKnown ? Math.log2(1 + max(0, leadMs) * US_PER_MS) * BUCKETS_PER_OCTAVE : 0;
  let answering = 0;
  let learning = 0;
  for (let isEnough = true; isEnough && learning < contexts; learning++) {
    const cell = claimLine(leadHash(learning, symbol));
    store<u32>(LEARNING_CELL + (<usize>learning << 2), <u32>cell);
    isEnough = load<f32>(cell, LINE_TOTAL) >= ENOUGH;
    if (isEnough) answering = learning;
  }
  if (isKnown) learnLevels(answering, cellOf(answering), position);
  // Should one have taken another's line, it counts twice what it begins with: two lines of one symbol seldom share a pair.
  for (let c = 0; c < learning; c++) addCell(cellOf(c), multiplicity, isKnown, <i32>position);
}

// @ts-ignore: decorator
@inline
function cellOf(context: i32): usize {
  return <usize>load<u32>(LEARNING_CELL + (<usize>context << 2));
}

function addCell(cell: usize, multiplicity: i32, isKnown: bool, bucket: i32): void {
  const total = load<f32>(cell, LINE_TOTAL) + 1;
  const sum = load<f32>(cell, CELL_MULTIPLICITY) + <f32>multiplicity;
  const scale: f32 = total >= TOTAL_MAX ? 0.5 : 1;
  store<f32>(cell, total * scale, LINE_TOTAL);
  store<f32>(cell, sum * scale, CELL_MULTIPLICITY);
  if (isKnown) addLead(cell, bucket);
}

function addLead(cell: usize, bucket: i32): void {
  // Base 0 means that no lead time has been seen: bases are stored plus one.
  if (load<i32>(cell, CELL_BASE) == 0) store<i32>(cell, max(0, bucket - BUCKETS_BELOW) + 1, CELL_BASE);
  const index = min(BUCKETS - 1, max(0, bucket - (load<i32>(cell, CELL_BASE) - 1)));
  const at = cell + CELL_BUCKETS + <usize>index;
  if (load<u8>(at) == BUCKET_COUNT_MAX) {
    for (let i: usize = 0; i < <usize>BUCKETS; i++) {
      store<u8>(cell + CELL_BUCKETS + i, load<u8>(cell + CELL_BUCKETS + i) >> 1);
    }
  }
  store<u8>(at, load<u8>(at) + 1);
}

/** The learned levels of the chosen context and the cell's octave of evidence. */
// @ts-ignore: decorator
@inline
export function levelsOf(context: i32, cell: usize): usize {
  const octave = min(EVIDENCES - 1, max(0, <i32>(reinterpret<u32>(load<f32>(cell, LINE_TOTAL)) >> 23) - 127));
  return levels + <usize>(context * EVIDENCES + octave) * 8;
}

/** Moves the levels so that a tenth of the values falls below the low one and above the high one. */
function learnLevels(context: i32, cell: usize, position: f64): void {
  if (load<i32>(cell, CELL_BASE) == 0) return;
  const rank = <f32>rankOf(cell, position);
  const at = levelsOf(context, cell);
  const low = load<f32>(at) + LEVEL_RATE * (LOW - f32(rank < load<f32>(at)));
  const high = load<f32>(at, 4) + LEVEL_RATE * (HIGH - f32(rank < load<f32>(at, 4)));
  store<f32>(at, min(0.5, max(LEVEL_MIN, low)));
  store<f32>(at, min(LEVEL_MAX, max(0.5, high)), 4);
}

// Set by summarise: the cell's first and last bucket that is not empty (first is 64 where all are) and the sums of the buckets up
// to each.
export let first: i32 = 0;
export let last: i32 = 0;
export const SUMS: usize = memory.data(48 * 2, 16);

/** Sum of all buckets, after summarise. */
// @ts-ignore: decorator
@inline
function sumAll(): f64 {
  return <f64>load<u16>(SUMS + (<usize>(BUCKETS - 1) << 1));
}

/** Running sums of eight u16, by shifting and adding. The lanes taken of `none` are such that a shuffle is one shift of both. */
// @ts-ignore: decorator
@inline
function running(x: v128): v128 {
  const none = i16x8.splat(0);
  const by1 = i16x8.add(x, v128.shuffle<i16>(none, x, 7, 8, 9, 10, 11, 12, 13, 14));
  const by2 = i16x8.add(by1, v128.shuffle<i16>(none, by1, 6, 7, 8, 9, 10, 11, 12, 13));
  return i16x8.add(by2, v128.shuffle<i16>(none, by2, 4, 5, 6, 7, 8, 9, 10, 11));
}

/** The last of eight u16 in all lanes. */
// @ts-ignore: decorator
@inline
function last8(x: v128): v128 {
  return v128.shuffle<i16>(x, x, 7, 7, 7, 7, 7, 7, 7, 7);
}

/** Adds sixteen buckets to the sums; returns the sum so far in every lane. */
// @ts-ignore: decorator
@inline
function sumSixteen(buckets: v128, before: v128, to: usize): v128 {
  const low = i16x8.add(before, running(i16x8.extend_low_i8x16_u(buckets)));
  v128.store(to, low);
  const high = i16x8.add(last8(low), running(i16x8.extend_high_i8x16_u(buckets)));
  v128.store(to, high, 16);
  return last8(high);
}

export function summarise(cell: usize): void {
  const a = v128.load(cell, CELL_BUCKETS);
  const b = v128.load(cell, CELL_BUCKETS + 16);
  // The last four bytes are the total.
  const c = v128.and(v128.load(cell, CELL_BUCKETS + 32), i32x4(-1, -1, -1, 0));
  sumSixteen(c, sumSixteen(b, sumSixteen(a, i16x8.splat(0), SUMS), SUMS + 32), SUMS + 64);
  const none = i8x16.splat(0);
  const filled =
    <u64>i8x16.bitmask(i8x16.ne(a, none)) |
    (<u64>i8x16.bitmask(i8x16.ne(b, none)) << 16) |
    (<u64>i8x16.bitmask(i8x16.ne(c, none)) << 32);
  first = <i32>ctz(filled);
  last = 63 - <i32>clz(filled);
}

/** Where the position lies among the cell's values: 0–1 inside their range, beyond it by BUCKETS_OUTSIDE. Inverse of positionsOf in leads-out.ts. */
function rankOf(cell: usize, position: f64): f64 {
  summarise(cell);
  const at = position - <f64>(load<i32>(cell, CELL_BASE) - 1);
  if (at < <f64>first) return (at - <f64>first) / <f64>BUCKETS_OUTSIDE;
  if (at >= <f64>(last + 1)) return 1 + (at - <f64>(last + 1)) / <f64>BUCKETS_OUTSIDE;
  // Between first and last, hence inside the cell, once NaN is out.
  const bucket = <usize>min(BUCKETS - 1, max(0, <i32>at));
  const inside = <f64>load<u8>(cell + CELL_BUCKETS + bucket);
  const below = <f64>load<u16>(SUMS + (bucket << 1)) - inside;
  return (below + inside * (at - <f64>bucket)) / sumAll();
}

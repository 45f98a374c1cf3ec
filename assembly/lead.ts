// When, and how often? In: (context, task) and a lead time. Out: p10, p50, p90 of the lead time and the mean multiplicity.
// A cell is a line of the table: check u32 | base i32 | sum of multiplicities f32 | 48 buckets u8 | total f32.
// Algorithm: a histogram of quarter-octave buckets of microseconds in a window of 12 octaves around the first value seen;
// what falls outside goes to the end buckets. At 255 every bucket is halved, so old values fade. Three contexts keep cells; the
// narrowest with enough evidence answers. A few values never span their distribution, so the levels at which p10 and p90 are
// read are themselves learned, per context and evidence, until a tenth of the values falls outside on either side.
// Source: log-bucket quantile sketches (DDSketch, Masson et al., VLDB 2019), with a fixed window so that a cell is one cache line;
// learned levels as in adaptive conformal inference (Gibbs and Candès, NeurIPS 2021).

import { fold } from "./hash";
import { exp4 } from "./math";
import { pathBack, pathWhole } from "./path";
import { claimLine, findLine, LINE_TOTAL } from "./table";

const BUCKETS: i32 = 48;
const BUCKETS_PER_OCTAVE: f64 = 4;
/** Buckets of the window that lie below the first value. */
const BUCKETS_BELOW: i32 = 24;
const CELL_BASE: usize = 4;
const CELL_MULTIPLICITY: usize = 8;
const CELL_BUCKETS: usize = 12;
const BUCKET_COUNT_MAX: u32 = 255;
const TOTAL_MAX: f32 = 1023;
/** No bucket lies beyond this: the octaves of the longest time in f64 ms, four buckets each. */
const BASE_MAX: i32 = 4200;
/** As many executions as a run can have. */
const MULTIPLICITY_MAX: f32 = 4096;
const US_PER_MS: f64 = 1000;
const LN_2: f32 = 0.6931471805599453;
const LEAD_SALT: u64 = 0x1ead;
/** Below this many lead times a cell's quantiles say less than those of a broader context. */
const ENOUGH: f32 = 10;
/** Last task, last two, whole path: the broadest first. */
const CONTEXTS: i32 = 3;

const LOW: f32 = 0.1;
const HIGH: f32 = 0.9;
/** Slow, because the lead times of one run move together. */
const LEVEL_RATE: f32 = 0.0003;
/** A level below 0 or above 1 reaches outside the values seen, by this many buckets per unit. */
const BUCKETS_OUTSIDE: f64 = 8;
const LEVEL_MIN: f32 = -2;
const LEVEL_MAX: f32 = 3;
/** A level that falls on the edge between two values means the lower one, whatever its last bit says. */
const TIE: f64 = 1e-3;
const EVIDENCES: i32 = 8;

/** Levels: (low f32, high f32) per context and octave of evidence. */
export const LEAD_LEVEL_BYTES: usize = 3 * 8 * 8;
let levels: usize = 0;

export let leadP10Ms: f64 = NaN;
export let leadP50Ms: f64 = NaN;
export let leadP90Ms: f64 = NaN;
export let leadMultiplicity: f64 = 1;

const CELL: usize = memory.data(3 * 4, 16);
const CELL_HASH: usize = memory.data(3 * 8, 16);

export function leadInit(base: usize): void {
  levels = base;
}

export function leadReset(): void {
  for (let at = levels; at < levels + LEAD_LEVEL_BYTES; at += 8) {
    store<f32>(at, LOW);
    store<f32>(at, HIGH, 4);
  }
}

/** Hashes the three cells of (path, symbol) and finds the narrowest with enough; returns the index of the one that answers, -1 where none exists. */
function choose(symbol: u32): i32 {
  const last = fold(0, <u64>pathBack(0));
  store<u64>(CELL_HASH, fold(fold(last, LEAD_SALT), <u64>symbol));
  store<u64>(CELL_HASH, fold(fold(fold(last, <u64>pathBack(1)), LEAD_SALT + 1), <u64>symbol), 8);
  store<u64>(CELL_HASH, fold(fold(pathWhole, LEAD_SALT + 2), <u64>symbol), 16);
  let best = -1;
  let bestTotal: f32 = 0;
  for (let c = CONTEXTS - 1; c >= 0; c--) {
    const cell = findLine(load<u64>(CELL_HASH + (<usize>c << 3)));
    store<u32>(CELL + (<usize>c << 2), <u32>cell);
    if (cell == 0) continue;
    const total = load<f32>(cell, LINE_TOTAL);
    if (total <= bestTotal) continue;
    best = c;
    bestTotal = total;
    if (total >= ENOUGH) break;
  }
  return best;
}

// @ts-ignore: decorator
@inline
function cellOf(context: i32): usize {
  return <usize>load<u32>(CELL + (<usize>context << 2));
}

/** Learns one lead time (NaN: unknown) and how often the task came. */
export function leadLearn(symbol: u32, leadMs: f64, multiplicity: i32): void {
  const best = choose(symbol);
  const isKnown = leadMs - leadMs == 0;
  const position = isKnown ? Math.log2(1 + max(0, leadMs) * US_PER_MS) * BUCKETS_PER_OCTAVE : 0;
  if (isKnown && best >= 0 && load<i32>(cellOf(best), CELL_BASE) != 0) learnLevels(best, cellOf(best), position);
  for (let c = 0; c < CONTEXTS; c++) {
    const cell = claimLine(load<u64>(CELL_HASH + (<usize>c << 3)));
    const total = load<f32>(cell, LINE_TOTAL) + 1;
    const sum = load<f32>(cell, CELL_MULTIPLICITY) + <f32>multiplicity;
    const scale: f32 = total >= TOTAL_MAX ? 0.5 : 1;
    store<f32>(cell, total * scale, LINE_TOTAL);
    store<f32>(cell, sum * scale, CELL_MULTIPLICITY);
    if (isKnown) addLead(cell, <i32>position);
  }
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

// @ts-ignore: decorator
@inline
function levelsOf(context: i32, cell: usize): usize {
  const octave = min(EVIDENCES - 1, max(0, <i32>(reinterpret<u32>(load<f32>(cell, LINE_TOTAL)) >> 23) - 127));
  return levels + <usize>(context * EVIDENCES + octave) * 8;
}

/** Moves the levels so that a tenth of the values falls below the low one and above the high one. */
function learnLevels(context: i32, cell: usize, position: f64): void {
  const rank = <f32>rankOf(cell, position);
  const at = levelsOf(context, cell);
  const low = load<f32>(at) + LEVEL_RATE * (LOW - f32(rank < load<f32>(at)));
  const high = load<f32>(at, 4) + LEVEL_RATE * (HIGH - f32(rank < load<f32>(at, 4)));
  store<f32>(at, min(0.5, max(LEVEL_MIN, low)));
  store<f32>(at, min(LEVEL_MAX, max(0.5, high)), 4);
}

// Set by summarise: sum of a cell's buckets, its first and last bucket that is not empty; first is 64 where all are.
let sum: f64 = 0;
let first: i32 = 0;
let last: i32 = 0;

/** Sixteen buckets a vector: sums by pairwise addition, the empty ones by a bit mask. */
function summarise(cell: usize): void {
  const a = v128.load(cell, CELL_BUCKETS);
  const b = v128.load(cell, CELL_BUCKETS + 16);
  const c = v128.load(cell, CELL_BUCKETS + 32);
  const pairs = i16x8.add(
    i16x8.add(i16x8.extadd_pairwise_i8x16_u(a), i16x8.extadd_pairwise_i8x16_u(b)),
    i16x8.extadd_pairwise_i8x16_u(c),
  );
  const quads = i32x4.extadd_pairwise_i16x8_u(pairs);
  sum = <f64>(
    i32x4.extract_lane(quads, 0) + i32x4.extract_lane(quads, 1) + i32x4.extract_lane(quads, 2) + i32x4.extract_lane(quads, 3)
  );
  const none = i8x16.splat(0);
  const filled =
    <u64>i8x16.bitmask(i8x16.ne(a, none)) |
    (<u64>i8x16.bitmask(i8x16.ne(b, none)) << 16) |
    (<u64>i8x16.bitmask(i8x16.ne(c, none)) << 32);
  first = <i32>ctz(filled);
  last = 63 - <i32>clz(filled);
}

/** Where the position lies among the cell's values: 0–1 inside their range, beyond it by BUCKETS_OUTSIDE. Inverse of positionOf. */
function rankOf(cell: usize, position: f64): f64 {
  summarise(cell);
  const at = position - <f64>(load<i32>(cell, CELL_BASE) - 1);
  if (at < <f64>first) return (at - <f64>first) / BUCKETS_OUTSIDE;
  if (at >= <f64>(last + 1)) return 1 + (at - <f64>(last + 1)) / BUCKETS_OUTSIDE;
  // Between first and last, hence inside the cell, once NaN is out.
  const bucket = min(BUCKETS - 1, max(0, <i32>at));
  let below: u32 = 0;
  for (let i = first; i < bucket; i++) below += <u32>load<u8>(cell + CELL_BUCKETS + <usize>i);
  const inside = <f64>load<u8>(cell + CELL_BUCKETS + <usize>bucket);
  return (<f64>below + inside * (at - <f64>bucket)) / sum;
}

/** Sets leadP10Ms, leadP50Ms, leadP90Ms (NaN where unknown) and leadMultiplicity for the folded path. */
export function leadRead(symbol: u32): void {
  leadP10Ms = NaN;
  leadP50Ms = NaN;
  leadP90Ms = NaN;
  leadMultiplicity = 1;
  const best = choose(symbol);
  if (best < 0) return;
  const cell = cellOf(best);
  const mean = load<f32>(cell, CELL_MULTIPLICITY) / load<f32>(cell, LINE_TOTAL);
  // Comparisons, not max: a cell from a hostile image may hold anything, and NaN compares false.
  if (mean > 1 && mean <= MULTIPLICITY_MAX) leadMultiplicity = <f64>mean;
  const base = load<i32>(cell, CELL_BASE);
  if (base <= 0 || base > BASE_MAX) return;
  const at = levelsOf(best, cell);
  const low = load<f32>(at);
  const high = load<f32>(at, 4);
  if (!(low >= LEVEL_MIN && high <= LEVEL_MAX && low <= high)) return;
  summarise(cell);
  if (first >= BUCKETS) return;
  const p10 = positionOf(cell, <f64>low);
  const p50 = positionOf(cell, 0.5);
  const p90 = positionOf(cell, <f64>high);
  // 2^(position / buckets per octave), the three at once.
  const exponents = f32x4(<f32>p10, <f32>p50, <f32>p90, 0);
  const us = exp4(f32x4.mul(f32x4.splat(LN_2 / <f32>BUCKETS_PER_OCTAVE), exponents));
  leadP10Ms = msOf(f32x4.extract_lane(us, 0));
  leadP50Ms = max(leadP10Ms, msOf(f32x4.extract_lane(us, 1)));
  leadP90Ms = max(leadP50Ms, msOf(f32x4.extract_lane(us, 2)));
}

// @ts-ignore: decorator
@inline
function msOf(usPlusOne: f32): f64 {
  return max(0, <f64>usPlusOne - 1) / US_PER_MS;
}

/** Bucket position of a level, after summarise of the same cell. */
function positionOf(cell: usize, level: f64): f64 {
  const base = <f64>(load<i32>(cell, CELL_BASE) - 1);
  if (level <= 0) return base + <f64>first + level * BUCKETS_OUTSIDE;
  if (level >= 1) return base + <f64>(last + 1) + (level - 1) * BUCKETS_OUTSIDE;
  const target = level * sum - TIE;
  let below: f64 = 0;
  for (let i = first; i <= last; i++) {
    const count = <f64>load<u8>(cell + CELL_BUCKETS + <usize>i);
    if (count > 0 && below + count >= target) return base + <f64>i + (target - below) / count;
    below += count;
  }
  return base + <f64>(last + 1);
}

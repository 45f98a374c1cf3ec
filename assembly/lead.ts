// When, and how often? In: (context, task) and a lead time. Out: p10, p50, p90 of the lead time and the mean multiplicity.
// A cell is a line of the table: check u32 | base i32 | sum of multiplicities f32 | 48 buckets u8 | total f32.
// Algorithm: a histogram of quarter-octave buckets of microseconds in a window of 12 octaves around the first value seen;
// what falls outside goes to the end buckets. Quantiles interpolate inside a bucket. At 255 every bucket is halved, so old values fade.
// Source: log-bucket quantile sketches (DDSketch, Masson et al., VLDB 2019), with a fixed window so that a cell is one cache line.

import { fold } from "./hash";
import { pathBack, pathWhole } from "./path";
import { claimLine, findLine, LINE_TOTAL } from "./table";

const BUCKETS: i32 = 48;
const BUCKETS_PER_OCTAVE: f64 = 4;
/** Buckets of the window that lie below the first value. */
const BUCKETS_BELOW: i32 = 24;
const CELL_BASE: usize = 4;
const CELL_MULTIPLICITY: usize = 8;
const CELL_BUCKETS: usize = 12;
const BUCKET_COUNT_MAX: i32 = 255;
const US_PER_MS: f64 = 1000;
const LEAD_SALT: u64 = 0x1ead;
/** Below this many lead times a cell's quantiles say less than those of a broader context. */
const ENOUGH: f32 = 10;

export let leadP10Ms: f64 = NaN;
export let leadP50Ms: f64 = NaN;
export let leadP90Ms: f64 = NaN;
export let leadMultiplicity: f64 = 1;

const CELL_CONTEXTS: i32 = 3;

/** The broadest context first: last task, last two, whole path. */
function cellHash(context: i32, symbol: u32): u64 {
  let hash = context == 2 ? pathWhole : fold(0, <u64>pathBack(0));
  if (context == 1) hash = fold(hash, <u64>pathBack(1));
  return fold(fold(hash, LEAD_SALT + <u64>context), <u64>symbol);
}

function bucketOf(leadMs: f64): i32 {
  return <i32>Math.floor(Math.log2(1 + max(0, leadMs) * US_PER_MS) * BUCKETS_PER_OCTAVE);
}

export function leadLearn(symbol: u32, leadMs: f64, multiplicity: i32): void {
  const known = leadMs - leadMs == 0;
  const bucket = known ? bucketOf(leadMs) : 0;
  for (let context = 0; context < CELL_CONTEXTS; context++) {
    const cell = claimLine(cellHash(context, symbol));
    store<f32>(cell, load<f32>(cell, LINE_TOTAL) + 1, LINE_TOTAL);
    store<f32>(cell, load<f32>(cell, CELL_MULTIPLICITY) + <f32>multiplicity, CELL_MULTIPLICITY);
    if (known) addLead(cell, bucket);
    if (load<f32>(cell, LINE_TOTAL) >= 1023) halveTotals(cell);
  }
}

function halveTotals(cell: usize): void {
  store<f32>(cell, load<f32>(cell, LINE_TOTAL) * 0.5, LINE_TOTAL);
  store<f32>(cell, load<f32>(cell, CELL_MULTIPLICITY) * 0.5, CELL_MULTIPLICITY);
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

/** Sets leadP10Ms, leadP50Ms, leadP90Ms and leadMultiplicity from the narrowest context that has seen enough. */
export function leadRead(symbol: u32): void {
  leadP10Ms = NaN;
  leadP50Ms = NaN;
  leadP90Ms = NaN;
  leadMultiplicity = 1;
  let best: usize = 0;
  for (let context = CELL_CONTEXTS - 1; context >= 0; context--) {
    const cell = findLine(cellHash(context, symbol));
    if (cell == 0) continue;
    if (best == 0 || load<f32>(cell, LINE_TOTAL) > load<f32>(best, LINE_TOTAL)) best = cell;
    if (load<f32>(best, LINE_TOTAL) >= ENOUGH) break;
  }
  if (best == 0) return;
  leadMultiplicity = max(1, <f64>(load<f32>(best, CELL_MULTIPLICITY) / load<f32>(best, LINE_TOTAL)));
  if (load<i32>(best, CELL_BASE) == 0) return;
  leadP10Ms = quantile(best, 0.1);
  leadP50Ms = quantile(best, 0.5);
  leadP90Ms = quantile(best, 0.9);
}

function quantile(cell: usize, level: f64): f64 {
  let sum = 0;
  for (let i: usize = 0; i < <usize>BUCKETS; i++) sum += <i32>load<u8>(cell + CELL_BUCKETS + i);
  const target = level * <f64>sum;
  let below = 0.0;
  for (let i = 0; i < BUCKETS; i++) {
    const count = <f64>load<u8>(cell + CELL_BUCKETS + <usize>i);
    if (count > 0 && below + count >= target) {
      const bucket = <f64>(load<i32>(cell, CELL_BASE) - 1 + i) + (target - below) / count;
      return (Math.pow(2, bucket / BUCKETS_PER_OCTAVE) - 1) / US_PER_MS;
    }
    below += count;
  }
  return NaN;
}

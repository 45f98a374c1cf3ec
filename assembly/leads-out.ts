// Lead times and multiplicities of an answer. In: its tasks, the first so many of OUT_TASKS, and the folded path. Out: OUT_LEAD_MS (p10,
// p50, p90 of each row; NaN where unknown) and OUT_MULTIPLICITIES.
// Algorithm: for all rows one step, then for all the next, so that their cache misses and their long chains of arithmetic overlap:
// cells of one context after the other, positions in the cells' histograms, milliseconds.

import {
  BASE_MAX, BUCKETS, BUCKETS_OUTSIDE, BUCKETS_PER_OCTAVE, CELL_BASE, CELL_BUCKETS, CELL_MULTIPLICITY, contexts, ENOUGH, first, last, leadHash,
  leadPath, LEVEL_MAX, LEVEL_MIN, levelsOf, MULTIPLICITY_MAX, summarise, SUMS, US_PER_MS,
} from "./lead";
import { OUT_LEAD_MS, OUT_MULTIPLICITIES, OUT_TASKS, SYMBOL_TASK_0 } from "./layout";
import { exp4 } from "./math";
import { findLine, LINE_TOTAL, touchLines } from "./table";

const LN_2: f32 = 0.6931471805599453;
/** A level that falls on the edge between two values means the lower one, whatever its last bit says. */
const TIE: f32 = 1e-3;

// By row: its cell, 0 where none knows the task; the levels that are read in it; positions of p10, p50 and p90.
const ROW_CELL: usize = memory.data(256 * 4, 64);
const ROW_LEVELS: usize = memory.data(256 * 4, 64);
const ROW_POSITIONS: usize = memory.data(256 * 16, 64);
/** Rows whose cell has enough so far: a narrower one may answer. */
const ROW_OPEN: usize = memory.data(256, 64);
/** See touchLines. */
const TOUCHED: usize = memory.data(4, 4);

export function leadsOut(rows: i32): void {
  leadPath();
  chooseCells(rows);
  for (let row: usize = 0; row < <usize>rows; row++) {
    const cell = <usize>load<u32>(ROW_CELL + (row << 2));
    store<f64>(OUT_MULTIPLICITIES + (row << 3), multiplicityOf(cell));
    v128.store(ROW_POSITIONS + (row << 4), positionsOf(cell, <usize>load<u32>(ROW_LEVELS + (row << 2))));
  }
  for (let row: usize = 0; row < <usize>rows; row++) writeLead(OUT_LEAD_MS + row * 24, v128.load(ROW_POSITIONS + (row << 4)));
}

/** The narrowest context with enough where the broader ones have enough too, else the broadest. */
function chooseCells(rows: i32): void {
  let open = rows;
  for (let i = 0; i < rows; i++) store<u8>(ROW_OPEN + <usize>i, <u8>i);
  for (let c = 0; c < contexts && open > 0; c++) {
    let touched: u32 = 0;
    for (let k = 0; k < open; k++) touched ^= touchLines(leadHash(c, openSymbol(k)));
    store<u32>(TOUCHED, touched);
    const asked = open;
    open = 0;
    for (let k = 0; k < asked; k++) {
      const row = <usize>load<u8>(ROW_OPEN + <usize>k);
      const cell = findLine(leadHash(c, openSymbol(k)));
      // Where there is no cell, address 0 has no total either.
      const isEnough = load<f32>(cell, LINE_TOTAL) >= ENOUGH;
      if (c > 0 && !isEnough) continue;
      store<u32>(ROW_CELL + (row << 2), <u32>cell);
      store<u32>(ROW_LEVELS + (row << 2), <u32>levelsOf(c, cell));
      store<u8>(ROW_OPEN + <usize>open, <u8>row);
      open += i32(isEnough);
    }
  }
}

// @ts-ignore: decorator
@inline
function openSymbol(k: i32): u32 {
  return load<u32>(OUT_TASKS + (<usize>load<u8>(ROW_OPEN + <usize>k) << 2)) + SYMBOL_TASK_0;
}

// @ts-ignore: decorator
@inline
function multiplicityOf(cell: usize): f64 {
  const mean = load<f32>(cell, CELL_MULTIPLICITY) / load<f32>(cell, LINE_TOTAL);
  // Comparisons, not max: a cell from a hostile image may hold anything, no cell has 0 / 0, and NaN compares false.
  return mean > 1 && mean <= MULTIPLICITY_MAX ? <f64>mean : 1;
}

/** Positions of p10, p50 and p90 in quarter octaves, NaN where the cell has no lead time. */
function positionsOf(cell: usize, levels: usize): v128 {
  const base = load<i32>(cell, CELL_BASE);
  const low = load<f32>(levels);
  const high = load<f32>(levels, 4);
  // What only a hostile image holds is unknown.
  if (cell == 0 || base <= 0 || base > BASE_MAX || !(low >= LEVEL_MIN && high <= LEVEL_MAX && low <= high)) return f32x4.splat(NaN);
  summarise(cell);
  if (first >= BUCKETS) return f32x4.splat(NaN);
  const at = f32x4(low, 0.5, high, 0.5);
  // Levels of 0 and less, 1 and more reach outside of the values seen.
  const under = f32x4.add(f32x4.splat(<f32>first), f32x4.mul(at, f32x4.splat(BUCKETS_OUTSIDE)));
  const past = f32x4.mul(f32x4.sub(at, f32x4.splat(1)), f32x4.splat(BUCKETS_OUTSIDE));
  const over = f32x4.add(f32x4.splat(<f32>(last + 1)), past);
  const notUnder = v128.bitselect(under, insideOf(cell, at), f32x4.le(at, f32x4.splat(0)));
  const position = v128.bitselect(over, notUnder, f32x4.ge(at, f32x4.splat(1)));
  return f32x4.add(f32x4.splat(<f32>(base - 1)), position);
}

/** Where levels between 0 and 1 lie among the buckets, after summarise of the same cell. */
// @ts-ignore: decorator
@inline
function insideOf(cell: usize, at: v128): v128 {
  const targets = f32x4.sub(f32x4.mul(at, f32x4.splat(sumTo(BUCKETS - 1))), f32x4.splat(TIE));
  const least = i32x4.trunc_sat_f32x4_s(f32x4.pmax(f32x4.splat(1), f32x4.ceil(targets)));
  const low = bucketOf(i32x4.extract_lane(least, 0));
  const mid = bucketOf(i32x4.extract_lane(least, 1));
  const high = bucketOf(i32x4.extract_lane(least, 2));
  const counts = f32x4(countOf(cell, low), countOf(cell, mid), countOf(cell, high), 1);
  const below = f32x4.sub(f32x4(sumTo(low), sumTo(mid), sumTo(high), 0), counts);
  return f32x4.add(f32x4(<f32>low, <f32>mid, <f32>high, 0), f32x4.div(f32x4.sub(targets, below), counts));
}

/** The first bucket with which the sum reaches `least`: as many as there are smaller sums. */
// @ts-ignore: decorator
@inline
function bucketOf(least: i32): usize {
  const sums = i16x8.splat(<i16>least);
  const smaller = smallerOf(0, sums) | (smallerOf(32, sums) << 16) | (smallerOf(64, sums) << 32);
  return <usize>min<u64>(popcnt(smaller), BUCKETS - 1);
}

/** A bit for each of sixteen sums that is smaller. Sums are below 2^15, so that signs do not matter. */
// @ts-ignore: decorator
@inline
function smallerOf(offset: usize, least: v128): u64 {
  const low = i16x8.lt_s(v128.load(SUMS + offset), least);
  const high = i16x8.lt_s(v128.load(SUMS + offset + 16), least);
  return <u64>i8x16.bitmask(i8x16.narrow_i16x8_s(low, high));
}

// @ts-ignore: decorator
@inline
function countOf(cell: usize, bucket: usize): f32 {
  return <f32>load<u8>(cell + CELL_BUCKETS + bucket);
}

/** Sum of the buckets up to this one. */
// @ts-ignore: decorator
@inline
function sumTo(bucket: usize): f32 {
  return <f32>load<u16>(SUMS + (bucket << 1));
}

/** From positions to milliseconds: 2^(position / buckets per octave) is one microsecond more. NaN stays NaN. */
// @ts-ignore: decorator
@inline
function writeLead(to: usize, positions: v128): void {
  const us = f32x4.sub(exp4(f32x4.mul(f32x4.splat(LN_2 / <f32>BUCKETS_PER_OCTAVE), positions)), f32x4.splat(1));
  const isKnown = f32x4.eq(positions, positions);
  const known = f32x4.div(f32x4.pmax(f32x4.splat(0), us), f32x4.splat(<f32>US_PER_MS));
  const ms = v128.bitselect(known, positions, isKnown);
  const p10 = f32x4.extract_lane(ms, 0);
  const p50 = max(p10, f32x4.extract_lane(ms, 1));
  store<f64>(to, <f64>p10);
  store<f64>(to, <f64>p50, 8);
  store<f64>(to, <f64>max(p50, f32x4.extract_lane(ms, 2)), 16);
}

// The table of contexts. In: a 64-bit context hash. Out: the address of its 64-byte line, or 0.
// A line: check u32 | 7 symbols u32 | 7 counts f32 | total f32. One context, one cache line, one miss.
// A context with more than seven symbols goes on in further lines found by hashing (hash, k): wide contexts without chains.
// Open addressing in pairs of lines (two neighbours, which the hardware fetches together); on a miss the line with the
// lower total gives way, so frequent contexts survive a full table. Memory never grows.
// Source of the idea: the hashed bit-history slots of PAQ8 and lpaq (M. Mahoney), with symbols in place of bits.

import { LINE_BYTES } from "./layout";

export const SYMBOLS_PER_LINE: i32 = 7;
export const LINE_SYMBOLS: usize = 4;
export const LINE_COUNTS: usize = 32;
export const LINE_TOTAL: usize = 60;

/** Most lines that any context may have. */
export const WIDE_LINES_MAX: i32 = 32;

/** Step of the hash from a context's line k to its line k + 1: odd, and large in both halves. */
const WIDE_STEP: u64 = 0xd1b54a32d192ed03;

let tableBase: usize = 0;
let tableLines: u64 = 0;

/** `lines` must be even: lines are used in pairs. */
export function tableInit(base: usize, lines: u32): void {
  tableBase = base;
  tableLines = <u64>lines;
}

export function tableUsedLines(): u32 {
  let used: u32 = 0;
  for (let i: usize = 0; i < <usize>tableLines; i++) {
    if (load<u32>(tableBase + i * LINE_BYTES) != 0) used++;
  }
  return used;
}

// @ts-ignore: decorator
@inline
export function wideHash(hash: u64, k: i32): u64 {
  return hash + WIDE_STEP * <u64>k;
}

/** 0 marks an unused line, so no check is 0. */
// @ts-ignore: decorator
@inline
function checkOf(hash: u64): u32 {
  return <u32>hash | 1;
}

// @ts-ignore: decorator
@inline
function pairOf(hash: u64): usize {
  const index = ((hash >> 32) * tableLines) >> 32;
  return tableBase + <usize>(index & ~1) * LINE_BYTES;
}

/** Address of the context's line, 0 where it has none. */
// @ts-ignore: decorator
@inline
export function findLine(hash: u64): usize {
  const line = pairOf(hash);
  const check = checkOf(hash);
  if (load<u32>(line) == check) return line;
  if (load<u32>(line, 64) == check) return line + LINE_BYTES;
  return 0;
}

/** Address of the context's line, taken from a less used context where it has none. */
export function claimLine(hash: u64): usize {
  let line = pairOf(hash);
  const check = checkOf(hash);
  if (load<u32>(line) == check) return line;
  if (load<u32>(line, 64) == check) return line + LINE_BYTES;
  if (load<f32>(line, 64 + LINE_TOTAL) < load<f32>(line, LINE_TOTAL)) line += LINE_BYTES;
  memory.fill(line, 0, LINE_BYTES);
  store<u32>(line, check);
  return line;
}

/** Adds one occurrence of `symbol` to the context, in at most `linesMax` lines; at `limit` old counts are halved. */
export function addSymbol(hash: u64, symbol: u32, linesMax: i32, limit: f32): void {
  const first = claimLine(hash);
  const total = load<f32>(first, LINE_TOTAL) + 1;
  store<f32>(first, total, LINE_TOTAL);
  let line = first;
  let k = 0;
  while (true) {
    for (let i = 0; i < SYMBOLS_PER_LINE; i++) {
      const place = line + (<usize>i << 2);
      const found = load<u32>(place, LINE_SYMBOLS);
      if (found != symbol && found != 0) continue;
      store<u32>(place, symbol, LINE_SYMBOLS);
      store<f32>(place, load<f32>(place, LINE_COUNTS) + 1, LINE_COUNTS);
      if (k > 0) store<f32>(line, load<f32>(line, LINE_TOTAL) + 1, LINE_TOTAL);
      if (total >= limit) halveContext(hash, first);
      return;
    }
    if (++k >= linesMax) break;
    line = claimLine(wideHash(hash, k));
  }
  replaceRarest(line, symbol);
  if (total >= limit) halveContext(hash, first);
}

function replaceRarest(line: usize, symbol: u32): void {
  let rarest: usize = line;
  for (let i = 1; i < SYMBOLS_PER_LINE; i++) {
    const place = line + (<usize>i << 2);
    if (load<f32>(place, LINE_COUNTS) < load<f32>(rarest, LINE_COUNTS)) rarest = place;
  }
  store<u32>(rarest, symbol, LINE_SYMBOLS);
  store<f32>(rarest, 1, LINE_COUNTS);
}

/** Halves every count of the context. */
export function halveContext(hash: u64, first: usize): void {
  let line = first;
  for (let k = 1; line != 0 && k <= WIDE_LINES_MAX; k++) {
    for (let place: usize = line + LINE_COUNTS; place <= line + LINE_TOTAL; place += 4) {
      store<f32>(place, load<f32>(place) * 0.5);
    }
    line = findLine(wideHash(hash, k));
  }
}

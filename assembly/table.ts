// The table of contexts. In: a 64-bit context hash. Out: the address of its 64-byte line, or 0.
// A line: two checks u32 | 13 places u32, each a symbol with its count | total f32. One context, one cache line, one miss.
// A place is symbol << 11 | count in eighths: a count is halved again and again and must not lose what is rare at once.
// A context with more than thirteen symbols goes on in further lines found by hashing (hash, k): wide contexts without chains.
// Open addressing in pairs of lines; on a miss the line with the lower total gives way, so frequent contexts survive a full table.
// The first line of a pair holds the checks of both: to learn that a context is unknown costs one cache line. Memory never grows.
// Source of the idea: the hashed bit-history slots of PAQ8 and lpaq (M. Mahoney), with symbols in place of bits.

import { LINE_BYTES } from "./layout";

export const SYMBOLS_PER_LINE: i32 = 13;
export const LINE_PLACES: usize = 8;
export const LINE_PLACE_LAST: usize = 56;
export const LINE_TOTAL: usize = 60;

/** Symbols are below 2^21 (layout.ts TASKS_MAX), counts at most 255. */
export const COUNT_BITS: u32 = 11;
export const COUNT_MASK: u32 = (1 << 11) - 1;
/** An occurrence, in the eighths that are stored. */
export const COUNT_ONE: u32 = 8;
/** Values that a stored count can have. */
export const COUNTS: i32 = 1 << 11;
/** A context whose total has come to this is halved before more is counted, so that it follows a change. */
export const TOTAL_MAX: f32 = 255;
/** The same for the run that is being learned: less where a change is known. */
let totalMax: f32 = TOTAL_MAX;
/** From TOTAL_MAX to less than 1. A forged image may hold a total that no halving makes less. */
const HALVINGS_MAX: i32 = 8;

/** Most lines that any context may have. */
export const WIDE_LINES_MAX: i32 = 17;

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
    if (load<u32>(checkAt(tableBase + i * LINE_BYTES)) != 0) used++;
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

/** Address of a line's check: pairs begin at multiples of two lines, and the second's check follows the first's. */
// @ts-ignore: decorator
@inline
function checkAt(line: usize): usize {
  const isSecond = (line / LINE_BYTES) & 1;
  return line - isSecond * (LINE_BYTES - 4);
}

/**
 * Address of the context's line, 0 where it has none. Masks, because engines make branches of comparisons and of `select`, and a
 * wrong guess would wait for the cache miss that it hangs on.
 */
// @ts-ignore: decorator
@inline
export function findLine(hash: u64): usize {
  const line = pairOf(hash);
  const check = checkOf(hash);
  const notFirst = isNot(load<u32>(line) ^ check);
  const notSecond = isNot(load<u32>(line, 4) ^ check);
  return (line + (LINE_BYTES & notFirst)) & ~(notFirst & notSecond);
}

/** All ones of a number that is not 0, else 0: the sign of it and of its negative. */
// @ts-ignore: decorator
@inline
function isNot(difference: u32): usize {
  return <usize>(<i32>(difference | (0 - difference)) >> 31);
}

/**
 * Asks for both lines of which one may be the context's, before many of them are looked at: what comes from memory is then waited for
 * together. Returns a value that hangs on both, which the caller stores: no compiler leaves such loads out.
 */
// @ts-ignore: decorator
@inline
export function touchLines(hash: u64): u32 {
  const line = pairOf(hash);
  return load<u32>(line) ^ load<u32>(line, LINE_BYTES);
}

/** Address of the context's line, taken from a less used context where it has none. */
export function claimLine(hash: u64): usize {
  let line = findLine(hash);
  if (line != 0) return line;
  line = pairOf(hash);
  if (load<f32>(line, LINE_BYTES + LINE_TOTAL) < load<f32>(line, LINE_TOTAL)) line += LINE_BYTES;
  const none = i32x4.splat(0);
  store<u64>(line, 0, 8);
  v128.store(line, none, 16);
  v128.store(line, none, 32);
  v128.store(line, none, 48);
  store<u32>(checkAt(line), checkOf(hash));
  return line;
}

/** The line that findLine gave, if it is still the context's; else the one that it claims. */
// @ts-ignore: decorator
@inline
export function holdLine(hash: u64, line: usize): usize {
  return line != 0 && load<u32>(checkAt(line)) == checkOf(hash) ? line : claimLine(hash);
}

// @ts-ignore: decorator
@inline
export function placeSymbol(place: u32): u32 {
  return place >> COUNT_BITS;
}

// @ts-ignore: decorator
@inline
export function placeCount(place: u32): u32 {
  return place & COUNT_MASK;
}

/** One more occurrence of the symbol at this address, a new one where it is empty. */
// @ts-ignore: decorator
@inline
export function countPlace(at: usize, symbol: u32): void {
  const place = load<u32>(at);
  // A forged image may hold any count; it must not flow over into the symbol.
  const count = min(placeCount(place) + COUNT_ONE, COUNT_MASK);
  store<u32>(at, (symbol << COUNT_BITS) | count);
}

/** Contexts that are counted from now on keep fewer than so many occurrences of what came before: at least 1, TOTAL_MAX at most. */
export function tableKeep(occurrences: f32): void {
  totalMax = max<f32>(1, min<f32>(TOTAL_MAX, occurrences));
}

/** One more occurrence of a context, after what is too much of it was halved away. */
export function countContext(hash: u64, first: usize): void {
  for (let i = 0; i < HALVINGS_MAX && load<f32>(first, LINE_TOTAL) >= totalMax; i++) halveContext(hash, first);
  store<f32>(first, load<f32>(first, LINE_TOTAL) + 1, LINE_TOTAL);
}

/** Adds one occurrence of `symbol` to the context, whose first line is `first`, in at most `linesMax` lines. */
export function addSymbol(hash: u64, first: usize, symbol: u32, linesMax: i32): void {
  countContext(hash, first);
  if (!countSymbol(hash, first, symbol, linesMax)) {
    replaceRarest(linesMax == 1 ? first : claimLine(wideHash(hash, linesMax - 1)), symbol);
  }
}

/** Counts one occurrence, without the total; false where `linesMax` lines have no room for the symbol. */
export function countSymbol(hash: u64, first: usize, symbol: u32, linesMax: i32): bool {
  let line = first;
  let k = 1;
  while (true) {
    for (let at = line + LINE_PLACES; at <= line + LINE_PLACE_LAST; at += 4) {
      const place = load<u32>(at);
      if (placeSymbol(place) != symbol && place != 0) continue;
      countPlace(at, symbol);
      // What a further line holds is its weight against other contexts.
      if (k > 1) store<f32>(line, load<f32>(line, LINE_TOTAL) + 1, LINE_TOTAL);
      return true;
    }
    if (k >= linesMax) return false;
    line = claimLine(wideHash(hash, k++));
  }
}

function replaceRarest(line: usize, symbol: u32): void {
  let rarest: usize = line + LINE_PLACES;
  for (let at = rarest + 4; at <= line + LINE_PLACE_LAST; at += 4) {
    if (placeCount(load<u32>(at)) < placeCount(load<u32>(rarest))) rarest = at;
  }
  store<u32>(rarest, (symbol << COUNT_BITS) | COUNT_ONE);
}

/** Halves every count of the context, upwards: what was seen once is not forgotten by halving alone. */
function halveContext(hash: u64, first: usize): void {
  let line = first;
  for (let k = 1; line != 0 && k <= WIDE_LINES_MAX; k++) {
    for (let at = line + LINE_PLACES; at <= line + LINE_PLACE_LAST; at += 4) {
      const place = load<u32>(at);
      store<u32>(at, (place & ~COUNT_MASK) | ((placeCount(place) + 1) >> 1));
    }
    store<f32>(line, totalHalved(load<f32>(line, LINE_TOTAL)), LINE_TOTAL);
    line = findLine(wideHash(hash, k));
  }
}

/** Half of a total, upwards to an eighth: reach.ts looks totals up as counts. */
// @ts-ignore: decorator
@inline
function totalHalved(total: f32): f32 {
  return f32.ceil(total * 4) * 0.125;
}

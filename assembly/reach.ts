// Does a task execute among the trigger-descendants of the path's last execution? In: the folded path; learning: the distinct
// descendants (DESCENDANT_*). Out: a probability for each task that any context proposes.
// Algorithm: a context line holds how often the context came (total) and in how many of those a task followed (counts).
// Evidence = ln((hits + A) / (misses + A)), for absent tasks ln(A / (total + A)). Layer 1: four logistic mixers with weights by
// confidence and by another view each; layer 2: one logistic mixer over their logits. Both descend binary log-loss.
// Source: logistic mixing of PAQ (M. Mahoney), one yes/no per task.

import { CANDIDATE_SCORES, CANDIDATE_SYMBOL, candidateIfAny, candidateOf, candidates, candidatesReset } from "./candidates";
import { fold } from "./hash";
import { SYMBOL_TASK_0 } from "./layout";
import { exp4, ln4 } from "./math";
import { pathBack, pathLength, pathSetA, pathSetB, pathStart, pathWhole } from "./path";
import { claimLine, findLine, LINE_COUNTS, LINE_SYMBOLS, LINE_TOTAL, SYMBOLS_PER_LINE, wideHash } from "./table";

export const REACH_CONTEXTS: i32 = 8;
const REACH_HASH: usize = memory.data(8 * 8, 64);
const REACH_SALT: u64 = 0x7ea;
/** A root may reach a hundred tasks and more: 32 lines of seven. */
const LINES_MAX: i32 = 32;
/** Krichevsky–Trofimov-like prior of a hit and of a miss. */
const PRIOR: f32 = 0.3;
const COUNT_LIMIT: f32 = 1023;

const CONFIDENCES: i32 = 12;
const LAST_SETS: i32 = 64;
const KNOWN_SETS: i32 = 16;
const DEPTH_SETS: i32 = 16;
const SET_WEIGHTS: i32 = 8 * 12;
const FINAL_SETS: i32 = 16;
const RATE: f32 = 0.002;
const RATE_FINAL: f32 = 0.0005;
const WEIGHT_INITIAL: f32 = 0.25;

export const REACH_WEIGHT_BYTES: usize =
  <usize>(SET_WEIGHTS * (1 + LAST_SETS + KNOWN_SETS + DEPTH_SETS) * 4) + <usize>(FINAL_SETS * 16);

let weights: usize = 0;
let finalWeights: usize = 0;
let setLast: usize = 0;
let setKnown: usize = 0;
let setDepth: usize = 0;
let finalSet: usize = 0;

const ENTRIES_MAX: i32 = 2048;
const ENTRY_CANDIDATE: usize = memory.data(2048 * 2, 64);
const ENTRY_F: usize = memory.data(2048 * 4, 64);
/** Address of the entry's count, for the update that follows. */
const ENTRY_PLACE: usize = memory.data(2048 * 4, 64);
const CONTEXT_ENTRIES: usize = memory.data(9 * 4, 64);
const CONTEXT_LINE: usize = memory.data(8 * 4, 64);
const CONTEXT_OFFSET: usize = memory.data(8 * 4, 64);
const CONTEXT_ABSENT: usize = memory.data(8 * 4, 64);
const CONTEXT_W4: usize = memory.data(8 * 16, 64);
let entries: i32 = 0;

export const REACH_PROBABILITY: usize = memory.data(260 * 4, 64);
const REACH_LOGIT: usize = memory.data(260 * 4, 64);
const ACTUAL: usize = memory.data(256, 64);
const FOUND_IN: usize = memory.data(256, 64);

// The answer to learn from: distinct tasks among the descendants, as symbols.
export const DESCENDANTS_MAX: i32 = 192;
export const DESCENDANT_SYMBOL: usize = memory.data(192 * 4, 64);

export function reachInit(base: usize): void {
  weights = base;
  finalWeights = base + REACH_WEIGHT_BYTES - <usize>(FINAL_SETS * 16);
}

export function reachReset(): void {
  for (let p = weights; p < finalWeights; p += 4) store<f32>(p, WEIGHT_INITIAL);
  for (let p = finalWeights; p < finalWeights + <usize>(FINAL_SETS * 16); p += 4) store<f32>(p, 0.25);
}

// @ts-ignore: decorator
@inline
function put(index: i32, hash: u64): void {
  store<u64>(REACH_HASH + (<usize>index << 3), fold(hash, REACH_SALT + <u64>index) | 1);
}

function hashReachContexts(version: u32): void {
  const order1 = fold(0, <u64>pathBack(0));
  const order2 = fold(order1, <u64>pathBack(1));
  const order3 = fold(order2, <u64>pathBack(2));
  put(0, order1);
  put(1, order2);
  put(2, order3);
  put(3, fold(order3, <u64>pathBack(3)));
  put(4, pathWhole);
  put(5, fold(fold(pathSetA, pathSetB), order1));
  const gap = pathLength > 1 ? pathStart(pathLength - 1) - pathStart(pathLength - 2) : NaN;
  put(6, fold(order2, gap == gap && gap > 0 ? reinterpret<u64>(gap) >> 52 : 0));
  put(7, fold(order1, <u64>version));
}

// @ts-ignore: decorator
@inline
function confidenceOf(total: f32): i32 {
  return min(CONFIDENCES - 1, max(0, <i32>(reinterpret<u32>(total) >> 23) - 126));
}

/** Mixes the contexts of the folded path; leaves P(candidate executes) in REACH_PROBABILITY. */
export function reachMix(version: u32): void {
  hashReachContexts(version);
  candidatesReset();
  entries = 0;
  let known: u32 = 0;
  for (let c = 0; c < REACH_CONTEXTS; c++) {
    const line = findLine(load<u64>(REACH_HASH + (<usize>c << 3)));
    store<u32>(CONTEXT_LINE + (<usize>c << 2), <u32>line);
    known |= u32(line != 0) << c;
  }
  chooseSets(known);
  let base = f32x4.splat(0);
  for (let c = 0; c < REACH_CONTEXTS; c++) {
    store<i32>(CONTEXT_ENTRIES + (<usize>c << 2), entries);
    const line = <usize>load<u32>(CONTEXT_LINE + (<usize>c << 2));
    if (line != 0) base = f32x4.add(base, gather(c, line));
  }
  store<i32>(CONTEXT_ENTRIES + (<usize>REACH_CONTEXTS << 2), entries);
  const v = v128.load(finalSet);
  for (let s = 0; s < candidates; s++) {
    const at = CANDIDATE_SCORES + (<usize>s << 4);
    const scores = f32x4.add(v128.load(at), base);
    v128.store(at, scores);
    store<f32>(REACH_LOGIT + (<usize>s << 2), dot(v, scores));
  }
  for (let s: usize = 0; s < <usize>candidates; s += 4) {
    v128.store(REACH_PROBABILITY + (s << 2), sigmoid4(v128.load(REACH_LOGIT + (s << 2))));
  }
}

// @ts-ignore: decorator
@inline
function dot(a: v128, b: v128): f32 {
  const product = f32x4.mul(a, b);
  return (
    f32x4.extract_lane(product, 0) + f32x4.extract_lane(product, 1) +
    (f32x4.extract_lane(product, 2) + f32x4.extract_lane(product, 3))
  );
}

// @ts-ignore: decorator
@inline
function sigmoid4(x: v128): v128 {
  return f32x4.div(f32x4.splat(1), f32x4.add(f32x4.splat(1), exp4(f32x4.neg(x))));
}

function chooseSets(known: u32): void {
  const bytes = <usize>(SET_WEIGHTS * 4);
  const order = <usize>(32 - clz(known & 15)) + <usize>((known >> 4) & 1) * 8;
  setLast = weights + bytes * <usize>(1 + (pathBack(0) & 63));
  setKnown = weights + bytes * (<usize>(1 + LAST_SETS) + order);
  setDepth = weights + bytes * <usize>(1 + LAST_SETS + KNOWN_SETS + min(15, pathLength));
  finalSet = finalWeights + order * 16;
}

/** Adds the evidence of one context to its candidates; returns what every candidate gets from it when absent. */
function gather(context: i32, first: usize): v128 {
  const total = load<f32>(first, LINE_TOTAL);
  const offset = <usize>((context * CONFIDENCES + confidenceOf(total)) << 2);
  store<u32>(CONTEXT_OFFSET + (<usize>context << 2), <u32>offset);
  const w4 = f32x4.replace_lane(
    f32x4.replace_lane(
      f32x4.replace_lane(f32x4.splat(load<f32>(weights + offset)), 1, load<f32>(setLast + offset)),
      2, load<f32>(setKnown + offset),
    ),
    3, load<f32>(setDepth + offset),
  );
  v128.store(CONTEXT_W4 + (<usize>context << 4), w4);
  const absent = f32x4.extract_lane(ln4(f32x4.splat(PRIOR / (total + PRIOR))), 0);
  store<f32>(CONTEXT_ABSENT + (<usize>context << 2), absent);
  const hash = load<u64>(REACH_HASH + (<usize>context << 3));
  let line = first;
  for (let k = 1; ; k++) {
    gatherLine(line, w4, total, absent);
    if (k >= LINES_MAX || load<u32>(line, LINE_SYMBOLS + 24) == 0) break;
    line = findLine(wideHash(hash, k));
    if (line == 0) break;
  }
  return f32x4.mul(w4, f32x4.splat(absent));
}

function gatherLine(line: usize, w4: v128, total: f32, absent: f32): void {
  if (entries + SYMBOLS_PER_LINE > ENTRIES_MAX) return;
  const f = ENTRY_F + (<usize>entries << 2);
  evidence(f, v128.load(line, LINE_COUNTS), total, absent);
  if (load<u32>(line, LINE_SYMBOLS + 16) != 0) evidence(f + 16, v128.load(line, LINE_COUNTS + 16), total, absent);
  for (let i: usize = 0; i < <usize>SYMBOLS_PER_LINE; i++) {
    const symbol = load<u32>(line + (i << 2), LINE_SYMBOLS);
    if (symbol == 0) return;
    const candidate = candidateOf(symbol);
    if (candidate < 0) return;
    const scores = CANDIDATE_SCORES + (<usize>candidate << 4);
    store<u16>(ENTRY_CANDIDATE + (<usize>entries << 1), <u16>candidate);
    store<u32>(ENTRY_PLACE + (<usize>entries << 2), <u32>(line + (i << 2) + LINE_COUNTS));
    v128.store(scores, f32x4.add(v128.load(scores), f32x4.mul(w4, v128.load32_splat(f + (i << 2)))));
    entries++;
  }
}

// @ts-ignore: decorator
@inline
function evidence(at: usize, hits: v128, total: f32, absent: f32): void {
  const prior = f32x4.splat(PRIOR);
  const misses = f32x4.max(f32x4.sub(f32x4.splat(total), hits), f32x4.splat(0));
  const odds = f32x4.div(f32x4.add(hits, prior), f32x4.add(misses, prior));
  v128.store(at, f32x4.sub(ln4(odds), f32x4.splat(absent)));
}

/** Learns, after reachMix of the same path, that exactly the first `count` of DESCENDANT_SYMBOL executed. */
export function reachLearn(count: i32): void {
  memory.fill(ACTUAL, 0, 256);
  for (let i = 0; i < count; i++) {
    const candidate = candidateIfAny(load<u32>(DESCENDANT_SYMBOL + (<usize>i << 2)));
    if (candidate >= 0) store<u8>(ACTUAL + <usize>candidate, 1);
  }
  learnWeights();
  for (let c = 0; c < REACH_CONTEXTS; c++) countContext(c, count);
}

function learnWeights(): void {
  let errors = f32x4.splat(0);
  let gradient = f32x4.splat(0);
  for (let s = 0; s < candidates; s++) {
    const at = CANDIDATE_SCORES + (<usize>s << 4);
    const y = <f32>load<u8>(ACTUAL + <usize>s);
    const scores = v128.load(at);
    gradient = f32x4.add(gradient, f32x4.mul(f32x4.splat(y - load<f32>(REACH_PROBABILITY + (<usize>s << 2))), scores));
    const error = f32x4.sub(f32x4.splat(y), sigmoid4(scores));
    errors = f32x4.add(errors, error);
    // The scores have served; from here the place holds the errors of the four mixers.
    v128.store(at, error);
  }
  v128.store(finalSet, f32x4.add(v128.load(finalSet), f32x4.mul(f32x4.splat(RATE_FINAL), gradient)));
  for (let c = 0; c < REACH_CONTEXTS; c++) {
    if (load<u32>(CONTEXT_LINE + (<usize>c << 2)) != 0) learnContext(c, errors);
  }
}

function learnContext(context: i32, errors: v128): void {
  const end = load<i32>(CONTEXT_ENTRIES + (<usize>(context + 1) << 2));
  let gradient = f32x4.mul(errors, v128.load32_splat(CONTEXT_ABSENT + (<usize>context << 2)));
  for (let e = load<i32>(CONTEXT_ENTRIES + (<usize>context << 2)); e < end; e++) {
    const error = v128.load(CANDIDATE_SCORES + (<usize>load<u16>(ENTRY_CANDIDATE + (<usize>e << 1)) << 4));
    gradient = f32x4.add(gradient, f32x4.mul(error, v128.load32_splat(ENTRY_F + (<usize>e << 2))));
  }
  const w4 = f32x4.add(v128.load(CONTEXT_W4 + (<usize>context << 4)), f32x4.mul(f32x4.splat(RATE), gradient));
  const offset = <usize>load<u32>(CONTEXT_OFFSET + (<usize>context << 2));
  store<f32>(weights + offset, f32x4.extract_lane(w4, 0));
  store<f32>(setLast + offset, f32x4.extract_lane(w4, 1));
  store<f32>(setKnown + offset, f32x4.extract_lane(w4, 2));
  store<f32>(setDepth + offset, f32x4.extract_lane(w4, 3));
}

function countContext(context: i32, count: i32): void {
  const hash = load<u64>(REACH_HASH + (<usize>context << 3));
  const line = claimLine(hash);
  const total = load<f32>(line, LINE_TOTAL) + 1;
  store<f32>(line, total, LINE_TOTAL);
  for (let i = 0; i < count; i++) countHit(hash, line, load<u32>(DESCENDANT_SYMBOL + (<usize>i << 2)));
  if (total >= COUNT_LIMIT) halve(hash, line);
}

function countHit(hash: u64, first: usize, symbol: u32): void {
  let line = first;
  for (let k = 1; ; k++) {
    for (let i: usize = 0; i < <usize>SYMBOLS_PER_LINE; i++) {
      const place = line + (i << 2);
      const found = load<u32>(place, LINE_SYMBOLS);
      if (found != symbol && found != 0) continue;
      store<u32>(place, symbol, LINE_SYMBOLS);
      store<f32>(place, load<f32>(place, LINE_COUNTS) + 1, LINE_COUNTS);
      if (k > 1) store<f32>(line, load<f32>(line, LINE_TOTAL) + 1, LINE_TOTAL);
      return;
    }
    if (k >= LINES_MAX) return;
    line = claimLine(wideHash(hash, k));
  }
}

function halve(hash: u64, first: usize): void {
  let line = first;
  for (let k = 1; line != 0; k++) {
    for (let place: usize = line + LINE_COUNTS; place <= line + LINE_TOTAL; place += 4) {
      store<f32>(place, load<f32>(place) * 0.5);
    }
    line = findLine(wideHash(hash, k));
  }
}

// @ts-ignore: decorator
@inline
export function reachTask(candidate: i32): u32 {
  return load<u32>(CANDIDATE_SYMBOL + (<usize>candidate << 2)) - SYMBOL_TASK_0;
}

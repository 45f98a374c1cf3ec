// What starts first after a path? In: CONTEXT_HASH. Out: a probability for each candidate symbol; learning from the answer.
// Algorithm: every context line proposes symbols with evidence f = ln(1 + n / ALPHA), n its count there, 0 where absent.
// Layer 1: four mixers, each choosing its weights by another view (confidence alone, last task, longest context, position), give
//   score = Σ weight[context, confidence] · f, softmax over the candidates. SIMD lanes are the four mixers.
// Layer 2: score = Σ v[mixer] · ln p_mixer, softmax. Each layer descends its own log-loss: w += rate · (f(actual) − E_p[f]).
// Only the places that a context really has cost time: what all candidates share cancels in the softmax.
// Source: logistic mixing of PAQ (M. Mahoney) and its softmax form in cmix/LSTM-free mixers; Mattern, "Mixing Strategies in Data Compression".

import { CONTEXTS, CONTEXT_HASH, hashContexts } from "./contexts";
import { CANDIDATE_SCORES, CANDIDATE_SYMBOL, candidateIfAny, candidateOf, candidates, candidatesReset } from "./candidates";
import { SYMBOL_END, SYMBOL_TASK_0 } from "./layout";
import { exp4, ln, ln4, max4, sum4 } from "./math";
import { pathBack, pathLength } from "./path";
import { offerRow } from "./topk";
import { addSymbol, findLine, LINE_COUNTS, LINE_SYMBOLS, LINE_TOTAL, SYMBOLS_PER_LINE, wideHash } from "./table";

const ALPHA: f32 = 0.05;
const RATE: f32 = 0.004;
const RATE_FINAL: f32 = 0.002;
const WEIGHT_INITIAL: f32 = 0.25;
/** Lines per context: order 0 and 1 hold up to 28 symbols, the rest 14. */
const COUNT_LIMIT: f32 = 255;

const CONFIDENCES: i32 = 16;
/** Weight sets of the four mixers: 1, by last task, by longest known order, by position. */
const LAST_SETS: i32 = 256;
const ORDER_SETS: i32 = 64;
const POSITION_SETS: i32 = 16;
const SET_WEIGHTS: i32 = CONTEXTS * CONFIDENCES;
const FINAL_SETS: i32 = 64;

export const NEXT_WEIGHT_BYTES: usize =
  <usize>(SET_WEIGHTS * (1 + LAST_SETS + ORDER_SETS + POSITION_SETS) * 4) + <usize>(FINAL_SETS * 16);

let weights: usize = 0;
let finalWeights: usize = 0;

// Scratch of one prediction, kept for the learning that follows it.
const ENTRIES_MAX: i32 = 1024;
const ENTRY_CANDIDATE: usize = memory.data(1024 * 2, 64);
const ENTRY_F: usize = memory.data(1024 * 4, 64);
const CONTEXT_ENTRIES: usize = memory.data(25 * 4, 64);
const CONTEXT_WEIGHTS: usize = memory.data(24 * 16, 64);
const CONTEXT_LINE: usize = memory.data(24 * 4, 64);
const CANDIDATE_LOGS: usize = memory.data(256 * 16, 64);
const CANDIDATE_SHARES: usize = memory.data(256 * 16, 64);
const CANDIDATE_Z: usize = memory.data(260 * 4, 64);
let entries: i32 = 0;
let finalSet: usize = 0;

export function nextInit(base: usize): void {
  weights = base;
  finalWeights = base + NEXT_WEIGHT_BYTES - <usize>(FINAL_SETS * 16);
}

export function nextReset(): void {
  for (let p = weights; p < finalWeights; p += 4) store<f32>(p, WEIGHT_INITIAL);
  for (let p = finalWeights; p < weights + NEXT_WEIGHT_BYTES; p += 4) store<f32>(p, 0.25);
}

// @ts-ignore: decorator
@inline
function linesOf(context: i32): i32 {
  return context == 0 ? 8 : context == 1 ? 4 : 2;
}

/** Confidence of a context: octave of its total, and whether it has ever seen a second symbol. */
// @ts-ignore: decorator
@inline
function confidenceOf(line: usize): i32 {
  const total = load<f32>(line, LINE_TOTAL);
  const octave = min(7, max(0, <i32>(reinterpret<u32>(total) >> 23) - 127));
  return (octave << 1) | i32(load<u32>(line, LINE_SYMBOLS + 4) == 0);
}

/** Mixes the contexts of the folded path; leaves P(candidate) in CANDIDATE_Z. */
export function nextMix(version: u32): void {
  hashContexts(version);
  candidatesReset();
  entries = 0;
  candidateOf(SYMBOL_END);
  let known: u32 = 0;
  for (let c = 0; c < CONTEXTS; c++) {
    const hash = load<u64>(CONTEXT_HASH + (<usize>c << 3));
    const line = hash != 0 ? findLine(hash) : 0;
    store<u32>(CONTEXT_LINE + (<usize>c << 2), <u32>line);
    known |= u32(line != 0) << c;
  }
  chooseSets(known);
  for (let c = 0; c < CONTEXTS; c++) {
    store<i32>(CONTEXT_ENTRIES + (<usize>c << 2), entries);
    const line = <usize>load<u32>(CONTEXT_LINE + (<usize>c << 2));
    if (line != 0) gather(c, line);
  }
  store<i32>(CONTEXT_ENTRIES + (<usize>CONTEXTS << 2), entries);
  mixLayers();
}

let setLast: usize = 0;
let setOrder: usize = 0;
let setPosition: usize = 0;

function chooseSets(known: u32): void {
  const order = 32 - clz(known & 0x7e);
  const bytes = <usize>(SET_WEIGHTS * 4);
  setLast = weights + bytes * <usize>(1 + (pathBack(0) & 255));
  const orderIndex = <usize>(order * 8) + <usize>((known >> 7) & 1) * 4 + <usize>((known >> 8) & 1) * 2 + <usize>((known >> 15) & 1);
  setOrder = weights + bytes * (<usize>(1 + LAST_SETS) + orderIndex);
  setPosition = weights + bytes * <usize>(1 + LAST_SETS + ORDER_SETS + min(15, pathLength));
  finalSet = finalWeights + orderIndex * 16;
}

/** Adds the evidence of one context to its candidates' scores. */
function gather(context: i32, first: usize): void {
  const offset = <usize>((context * CONFIDENCES + confidenceOf(first)) << 2);
  store<u32>(CONTEXT_WEIGHTS + (<usize>context << 4), <u32>offset);
  const w = f32x4(
    0, 0, 0, 0,
  );
  const w4 = f32x4.replace_lane(
    f32x4.replace_lane(
      f32x4.replace_lane(f32x4.replace_lane(w, 0, load<f32>(weights + offset)), 1, load<f32>(setLast + offset)),
      2, load<f32>(setOrder + offset),
    ),
    3, load<f32>(setPosition + offset),
  );
  let line = first;
  const hash = load<u64>(CONTEXT_HASH + (<usize>context << 3));
  const linesMax = linesOf(context);
  for (let k = 1; ; k++) {
    gatherLine(line, w4);
    if (k >= linesMax || load<u32>(line, LINE_SYMBOLS + 24) == 0) return;
    line = findLine(wideHash(hash, k));
    if (line == 0) return;
  }
}

function gatherLine(line: usize, w4: v128): void {
  if (entries + SYMBOLS_PER_LINE > ENTRIES_MAX) return;
  const scale = f32x4.splat(1 / ALPHA);
  const one = f32x4.splat(1);
  const f = ENTRY_F + (<usize>entries << 2);
  // Written before the candidates are known: gaps are closed below, as places of a line fill from the front.
  v128.store(f, ln4(f32x4.add(one, f32x4.mul(v128.load(line, LINE_COUNTS), scale))));
  if (load<u32>(line, LINE_SYMBOLS + 16) != 0) {
    v128.store(f, ln4(f32x4.add(one, f32x4.mul(v128.load(line, LINE_COUNTS + 16), scale))), 16);
  }
  for (let i: usize = 0; i < <usize>SYMBOLS_PER_LINE; i++) {
    const symbol = load<u32>(line + (i << 2), LINE_SYMBOLS);
    if (symbol == 0) return;
    const candidate = candidateOf(symbol);
    if (candidate < 0) return;
    const scores = CANDIDATE_SCORES + (<usize>candidate << 4);
    store<u16>(ENTRY_CANDIDATE + (<usize>entries << 1), <u16>candidate);
    v128.store(scores, f32x4.add(v128.load(scores), f32x4.mul(w4, v128.load32_splat(f + (i << 2)))));
    entries++;
  }
}

function mixLayers(): void {
  let top = f32x4.splat(-1e30);
  for (let s = 0; s < candidates; s++) top = f32x4.max(top, v128.load(CANDIDATE_SCORES + (<usize>s << 4)));
  let sum = f32x4.splat(0);
  for (let s = 0; s < candidates; s++) {
    const at = <usize>s << 4;
    const centred = f32x4.sub(v128.load(CANDIDATE_SCORES + at), top);
    const share = exp4(centred);
    sum = f32x4.add(sum, share);
    v128.store(CANDIDATE_LOGS + at, centred);
    v128.store(CANDIDATE_SHARES + at, share);
  }
  const logSum = ln4(sum);
  const inverse = f32x4.div(f32x4.splat(1), sum);
  const v = v128.load(finalSet);
  for (let s = 0; s < candidates; s++) {
    const at = <usize>s << 4;
    const log = f32x4.sub(v128.load(CANDIDATE_LOGS + at), logSum);
    v128.store(CANDIDATE_LOGS + at, log);
    v128.store(CANDIDATE_SHARES + at, f32x4.mul(v128.load(CANDIDATE_SHARES + at), inverse));
    store<f32>(CANDIDATE_Z + (<usize>s << 2), sum4(f32x4.mul(v, log)));
  }
  softmax();
}

/** CANDIDATE_Z from scores to probabilities, four at a time. */
function softmax(): void {
  const padded = (candidates + 3) & ~3;
  for (let s = candidates; s < padded; s++) store<f32>(CANDIDATE_Z + (<usize>s << 2), -1e30);
  let top4 = f32x4.splat(-1e30);
  for (let s = 0; s < padded; s += 4) top4 = f32x4.max(top4, v128.load(CANDIDATE_Z + (<usize>s << 2)));
  const top = f32x4.splat(max4(top4));
  let sum = f32x4.splat(0);
  for (let s = 0; s < padded; s += 4) {
    const at = CANDIDATE_Z + (<usize>s << 2);
    const share = exp4(f32x4.sub(v128.load(at), top));
    sum = f32x4.add(sum, share);
    v128.store(at, share);
  }
  const inverse = f32x4.splat(1 / sum4(sum));
  for (let s = 0; s < padded; s += 4) {
    const at = CANDIDATE_Z + (<usize>s << 2);
    v128.store(at, f32x4.mul(v128.load(at), inverse));
  }
}

/** Learns that `symbol` came, after nextMix of the same path: weights first, then the counts that they saw. */
export function nextLearn(symbol: u32): void {
  const actual = candidateIfAny(symbol);
  if (actual >= 0) {
    learnFinal(actual);
    for (let c = 0; c < CONTEXTS; c++) {
      if (load<u32>(CONTEXT_LINE + (<usize>c << 2)) != 0) learnContext(c, actual);
    }
  }
  for (let c = 0; c < CONTEXTS; c++) {
    const hash = load<u64>(CONTEXT_HASH + (<usize>c << 3));
    if (hash != 0) addSymbol(hash, symbol, linesOf(c), COUNT_LIMIT);
  }
}

function learnFinal(actual: i32): void {
  let gradient = v128.load(CANDIDATE_LOGS + (<usize>actual << 4));
  for (let s = 0; s < candidates; s++) {
    const share = v128.load32_splat(CANDIDATE_Z + (<usize>s << 2));
    gradient = f32x4.sub(gradient, f32x4.mul(share, v128.load(CANDIDATE_LOGS + (<usize>s << 4))));
  }
  v128.store(finalSet, f32x4.add(v128.load(finalSet), f32x4.mul(f32x4.splat(RATE_FINAL), gradient)));
}

function learnContext(context: i32, actual: i32): void {
  const end = load<i32>(CONTEXT_ENTRIES + (<usize>(context + 1) << 2));
  let gradient = f32x4.splat(0);
  for (let e = load<i32>(CONTEXT_ENTRIES + (<usize>context << 2)); e < end; e++) {
    const candidate = <i32>load<u16>(ENTRY_CANDIDATE + (<usize>e << 1));
    const f = v128.load32_splat(ENTRY_F + (<usize>e << 2));
    const share = v128.load(CANDIDATE_SHARES + (<usize>candidate << 4));
    const target = f32x4.splat(f32(candidate == actual));
    gradient = f32x4.add(gradient, f32x4.mul(f, f32x4.sub(target, share)));
  }
  const step = f32x4.mul(gradient, f32x4.splat(RATE));
  const offset = <usize>load<u32>(CONTEXT_WEIGHTS + (<usize>context << 4));
  store<f32>(weights + offset, load<f32>(weights + offset) + f32x4.extract_lane(step, 0));
  store<f32>(setLast + offset, load<f32>(setLast + offset) + f32x4.extract_lane(step, 1));
  store<f32>(setOrder + offset, load<f32>(setOrder + offset) + f32x4.extract_lane(step, 2));
  store<f32>(setPosition + offset, load<f32>(setPosition + offset) + f32x4.extract_lane(step, 3));
}

/** Writes the `limit` likeliest tasks to OUT_TASKS and OUT_PROBABILITIES, highest first; returns how many. */
export function nextOut(limit: i32): i32 {
  let count = 0;
  for (let s = 1; s < candidates; s++) {
    const task = load<u32>(CANDIDATE_SYMBOL + (<usize>s << 2)) - SYMBOL_TASK_0;
    count = offerRow(task, <f64>load<f32>(CANDIDATE_Z + (<usize>s << 2)), count, limit);
  }
  return count;
}

/** Probability of the end: the end is always candidate 0. */
export function nextEnd(): f64 {
  return <f64>load<f32>(CANDIDATE_Z);
}

// Does a task execute among the trigger-descendants of the path's last execution? In: the folded path; learning: the distinct
// descendants (DESCENDANT_*). Out: a probability for each task that any context proposes.
// A root may reach a hundred tasks and more, so a context may have 17 lines of thirteen.
// Algorithm: a context line holds how often the context came (total) and in how many of those a task followed (counts).
// Evidence = ln((hits + A) / (misses + A)), for absent tasks ln(A / (total + A)). Layer 1: four logistic mixers with weights by
// confidence and by another view each; layer 2: one logistic mixer over their logits. Both descend binary log-loss. Where no run
// before is known, all weights are others: its views would leave theirs to the rest.
// Source: logistic mixing of PAQ (M. Mahoney), one yes/no per task.

import { CANDIDATE_SCORES, CANDIDATE_SYMBOL, candidateIfAny, candidateOf, candidates, candidatesReset } from "./candidates";
import { fold } from "./hash";
import { LINE_BYTES } from "./layout";
import { exp4, ln4, sum4 } from "./math";
import { pathBack, pathLength, pathSetA, pathSetB, pathStart, pathWhole } from "./path";
import {
  COUNT_MASK, COUNT_ONE, countContext, COUNTS, countPlace, countSymbol, findLine, holdLine, LINE_PLACE_LAST, LINE_PLACES,
  LINE_TOTAL, placeCount, placeSymbol, SYMBOLS_PER_LINE, touchLines, WIDE_LINES_MAX, wideHash,
} from "./table";
import { runKnownAfterMs } from "./run-before";
import { runEndedFind, runEndedGap, runEndedIs, runEndedMixed, runEndedTasks } from "./run-ended";
import { halfOctave, isTime, octave, periodOf } from "./time";
import { WEIGHT_BYTES, weightsBytes, weightsLearn, weightsLoad, weightsReset } from "./weights";

const CONTEXTS: i32 = 11;
const ORDERS_MASK: u32 = 7;
const CONTEXT_WHOLE: i32 = 3;
/** This and the next two speak of the run that ended last before this one. */
const CONTEXT_RUN_ENDED: i32 = 8;
const HASH: usize = memory.data(11 * 8, 64);
const SALT: u64 = 0x7ea;
/** The load of the last minutes tells which work is going on: contexts of the whole path within a period of event time. */
const PERIOD_MS: f64 = 300_000;
const PERIODS: i64 = 1 << 40;
/** Most of what a period tells came in its last seconds: where runs are known only later than this, ms, it misleads. */
const PERIOD_KNOWN_AFTER_MAX_MS: f64 = 10_000;
/** Hits and misses that a context is taken to have seen before its first. */
const PRIOR: f32 = 0.15;

const CONFIDENCES: i32 = 10;
const SET_WEIGHTS: i32 = 11 * 10;
const SET_BYTES: i32 = 11 * 10 * 4;
/** Whether any view of a run before is known: all sets are chosen by that, and these by nothing else. */
const ENDED_SETS: i32 = 2;
/** The same × longest known order (0–3) × whole path known. */
const KNOWN_SETS: i32 = 16;
const DEPTH_SETS: i32 = 16;
const RATE: f32 = 0.07;
const RATE_FINAL: f32 = 0.00005;
const WEIGHT_INITIAL: f32 = 0.18;
const FINAL_INITIAL: f32 = 0.25;

function weightCount(lastSets: i32): i32 {
  return SET_WEIGHTS * (ENDED_SETS * (1 + lastSets + DEPTH_SETS) + KNOWN_SETS);
}

export function reachWeightBytes(lastSets: i32): usize {
  return weightsBytes(weightCount(lastSets)) + <usize>(KNOWN_SETS * 16);
}

let weights: usize = 0;
/** From a weight's value to its sum of squares, bytes. */
let squares: usize = 0;
let finalWeights: usize = 0;
let lastMask: u32 = 0;
// Addresses of the weight sets that this path chose.
let setEnded: usize = 0;
let setLast: usize = 0;
let setKnown: usize = 0;
let setDepth: usize = 0;
let finalSet: usize = 0;

// Scratch of one prediction, kept for the learning that follows it.
const ENTRIES_MAX: i32 = 4096;
const ENTRY_CANDIDATE: usize = memory.data(4096 * 2, 64);
const ENTRY_F: usize = memory.data(4096 * 4, 64);
/** ln(n + PRIOR) of every count that a place can hold. */
const LN_COUNT: usize = memory.data(2048 * 4, 64);
/** Address of the entry's place in its line: its count is found again without a search. */
const ENTRY_PLACE: usize = memory.data(4096 * 4, 64);
const CONTEXT_ENTRIES: usize = memory.data(12 * 4, 64);
const CONTEXT_LINE: usize = memory.data(11 * 4, 64);
const CONTEXT_OFFSET: usize = memory.data(11 * 4, 64);
/** Evidence of each context about a task that it has never seen follow. */
const CONTEXT_ABSENT: usize = memory.data(11 * 4, 64);
/** Final probability of each candidate; padded to a multiple of four. */
export const REACH_P: usize = memory.data(260 * 4, 64);
/** 1 where the candidate executed. */
const ACTUAL: usize = memory.data(256, 64);
/** Entries of those that executed, a context's from where its entries begin, and how many it has. */
const HIT_ENTRY: usize = memory.data(4100 * 2, 64);
const CONTEXT_HITS: usize = memory.data(11 * 4, 64);
/** 1 + the context in which the candidate was last counted. */
const COUNTED: usize = memory.data(256, 64);
/** Candidate of each descendant, -1 where no context proposed it. */
const DESCENDANT_CANDIDATE: usize = memory.data(192 * 4, 64);
/** See touchLines. */
const TOUCHED: usize = memory.data(4, 4);
let entries: i32 = 0;

// The answer to learn from: distinct tasks among the descendants, as symbols.
export const DESCENDANTS_MAX: i32 = 192;
export const DESCENDANT_SYMBOL: usize = memory.data(192 * 4, 64);

/** `lastSets` must be a power of two. */
export function reachInit(base: usize, lastSets: i32): void {
  weights = base;
  lastMask = <u32>lastSets - 1;
  squares = <usize>(weightCount(lastSets) * WEIGHT_BYTES);
  finalWeights = base + 2 * squares;
  for (let count: i32 = 0; count < COUNTS; count += 4) {
    const counts = f32x4.convert_i32x4_u(i32x4.add(i32x4.splat(count), i32x4(0, 1, 2, 3)));
    const shifted = f32x4.add(f32x4.splat(PRIOR), f32x4.mul(counts, f32x4.splat(1 / <f32>COUNT_ONE)));
    v128.store(LN_COUNT + (<usize>count << 2), ln4(shifted));
  }
}

/** For people: so many values, then as many sums of squares, then four finals of each known set. */
export function reachWeights(): usize { return weights; }
export function reachWeightsCount(): i32 { return <i32>(squares / <usize>WEIGHT_BYTES); }

export function reachReset(): void {
  weightsReset(weights, <i32>(squares / <usize>WEIGHT_BYTES), WEIGHT_INITIAL);
  for (let i: usize = 0; i < <usize>KNOWN_SETS; i++) v128.store(finalWeights + (i << 4), f32x4.splat(FINAL_INITIAL));
}

// @ts-ignore: decorator
@inline
function put(index: i32, hash: u64): void {
  // The lowest bit keeps a hash from being 0, which means "not available".
  store<u64>(HASH + (<usize>index << 3), fold(hash, SALT + <u64>index) | 1);
}

// @ts-ignore: decorator
@inline
function drop(index: i32): void {
  store<u64>(HASH + (<usize>index << 3), 0);
}

function hashReachContexts(version: u32, isLearning: bool): void {
  const order1 = fold(0, <u64>pathBack(0));
  const order2 = fold(order1, <u64>pathBack(1));
  put(0, order1);
  if (pathLength > 1) put(1, order2);
  else drop(1);
  if (pathLength > 2) put(2, fold(order2, <u64>pathBack(2)));
  else drop(2);
  put(CONTEXT_WHOLE, pathWhole);
  put(4, fold(fold(fold(0, pathSetA), pathSetB), order1));
  if (version != 0) put(5, fold(order1, <u64>version));
  else drop(5);
  hashReachTimes();
  hashRunEnded(isLearning);
}

function hashReachTimes(): void {
  const last = pathStart(pathLength - 1);
  const gap = pathLength > 1 ? last - pathStart(pathLength - 2) : NaN;
  if (gap == gap) put(6, fold(pathWhole, halfOctave(gap)));
  else drop(6);
  if (isTime(last) && runKnownAfterMs() <= PERIOD_KNOWN_AFTER_MAX_MS) put(7, fold(pathWhole, periodOf(last, PERIOD_MS, PERIODS)));
  else drop(7);
}

function hashRunEnded(isLearning: bool): void {
  runEndedFind(isLearning);
  if (!runEndedIs) {
    drop(CONTEXT_RUN_ENDED);
    drop(CONTEXT_RUN_ENDED + 1);
    drop(CONTEXT_RUN_ENDED + 2);
    return;
  }
  const ended = fold(pathWhole, runEndedTasks);
  put(CONTEXT_RUN_ENDED, fold(pathWhole, halfOctave(runEndedGap)));
  put(CONTEXT_RUN_ENDED + 1, ended);
  put(CONTEXT_RUN_ENDED + 2, fold(ended, octave(runEndedGap)));
}

// @ts-ignore: decorator
@inline
function confidenceOf(total: f32): i32 {
  // The exponent of the total is its octave; the lowest bucket is for less than 1.
  return min(CONFIDENCES - 1, max(0, <i32>(reinterpret<u32>(total) >> 23) - 126));
}

/** Mixes the contexts of the folded path; leaves P(candidate executes) in REACH_P. */
export function reachMix(version: u32, isLearning: bool): void {
  hashReachContexts(version, isLearning);
  candidatesReset();
  entries = 0;
  let touched: u32 = 0;
  for (let c = 0; c < CONTEXTS; c++) touched ^= touchLines(load<u64>(HASH + (<usize>c << 3)));
  store<u32>(TOUCHED, touched);
  let known: u32 = 0;
  for (let c = 0; c < CONTEXTS; c++) {
    const hash = load<u64>(HASH + (<usize>c << 3));
    const line = findLine(hash) & (0 - usize(hash != 0));
    store<u32>(CONTEXT_LINE + (<usize>c << 2), <u32>line);
    known |= u32(line != 0) << c;
  }
  if (!runEndedMixed) {
    for (let c = CONTEXT_RUN_ENDED; c < CONTEXTS; c++) store<u32>(CONTEXT_LINE + (<usize>c << 2), 0);
    known &= (1 << CONTEXT_RUN_ENDED) - 1;
  }
  touchWide();
  chooseSets(known);
  let base = f32x4.splat(0);
  for (let c = 0; c < CONTEXTS; c++) {
    store<i32>(CONTEXT_ENTRIES + (<usize>c << 2), entries);
    const line = <usize>load<u32>(CONTEXT_LINE + (<usize>c << 2));
    if (line != 0) base = f32x4.add(base, gather(c, line));
  }
  store<i32>(CONTEXT_ENTRIES + (<usize>CONTEXTS << 2), entries);
  const v = v128.load(finalSet);
  for (let s: usize = 0; s < <usize>candidates; s++) {
    const scores = f32x4.add(v128.load(CANDIDATE_SCORES + (s << 4)), base);
    v128.store(CANDIDATE_SCORES + (s << 4), scores);
    store<f32>(REACH_P + (s << 2), sum4(f32x4.mul(v, scores)));
  }
  for (let s: usize = 0; s < <usize>candidates; s += 4) {
    v128.store(REACH_P + (s << 2), sigmoid4(v128.load(REACH_P + (s << 2))));
  }
}

// @ts-ignore: decorator
@inline
function sigmoid4(x: v128): v128 {
  return f32x4.div(f32x4.splat(1), f32x4.add(f32x4.splat(1), exp4(f32x4.neg(x))));
}

function chooseSets(known: u32): void {
  // Where many runs overlap, those that ended before a run are forgotten when it is learned, and known when the next is asked about.
  const ended = u32(known >> CONTEXT_RUN_ENDED != 0);
  const order = 32 - clz(known & ORDERS_MASK);
  const view = (<u32>order << 2) | (ended << 1) | ((known >> CONTEXT_WHOLE) & 1);
  setKnown = weights + <usize>(<u32>SET_BYTES * view);
  const half = weights + <usize>(<u32>SET_BYTES * (KNOWN_SETS + ended * (1 + DEPTH_SETS + lastMask + 1)));
  setEnded = half;
  setDepth = half + <usize>(SET_BYTES * (1 + min(DEPTH_SETS - 1, pathLength)));
  setLast = half + <usize>(<u32>SET_BYTES * (1 + DEPTH_SETS + (pathBack(0) & lastMask)));
  finalSet = finalWeights + <usize>(view << 4);
}

// @ts-ignore: decorator
@inline
function lnCount(count: u32): f32 {
  return load<f32>(LN_COUNT + (<usize>count << 2));
}

/**
 * Asks for the further lines of all contexts whose first is full: gather would wait for one after the other. How many a context has is
 * taken to be what the broadest has: the last task's lines are used most, and are the nearest.
 */
function touchWide(): void {
  const lines = linesOf(0);
  let touched: u32 = 0;
  for (let c = 1; c < CONTEXTS; c++) {
    const line = <usize>load<u32>(CONTEXT_LINE + (<usize>c << 2));
    if (line == 0 || load<u32>(line, LINE_PLACE_LAST) == 0) continue;
    const hash = load<u64>(HASH + (<usize>c << 3));
    for (let k = 1; k < lines; k++) touched ^= touchLines(wideHash(hash, k));
  }
  store<u32>(TOUCHED, touched);
}

/** How many lines the context has, as gather meets them. */
function linesOf(context: i32): i32 {
  const hash = load<u64>(HASH + (<usize>context << 3));
  let line = <usize>load<u32>(CONTEXT_LINE + (<usize>context << 2));
  let lines = 0;
  while (line != 0 && lines < WIDE_LINES_MAX) {
    lines++;
    if (load<u32>(line, LINE_PLACE_LAST) == 0) break;
    line = findLine(wideHash(hash, lines));
  }
  return lines;
}

/** Adds the evidence of one context to its candidates; returns what every candidate gets from it when absent. */
function gather(context: i32, first: usize): v128 {
  const total = load<f32>(first, LINE_TOTAL);
  const offset = <usize>((context * CONFIDENCES + confidenceOf(total)) * WEIGHT_BYTES);
  store<u32>(CONTEXT_OFFSET + (<usize>context << 2), <u32>offset);
  const w4 = weightsLoad(setEnded + offset, setLast + offset, setKnown + offset, setDepth + offset);
  // Totals, like counts, are eighths; what a forged image may hold beyond them is cut.
  const seen = min(COUNT_MASK, <u32>(total * <f32>COUNT_ONE));
  const absent = lnCount(0) - lnCount(seen);
  store<f32>(CONTEXT_ABSENT + (<usize>context << 2), absent);
  const hash = load<u64>(HASH + (<usize>context << 3));
  let line = first;
  for (let k = 1; ; k++) {
    gatherLine(line, w4, seen, absent);
    // A line that still has room is the context's last.
    if (k >= WIDE_LINES_MAX || load<u32>(line, LINE_PLACE_LAST) == 0) break;
    line = findLine(wideHash(hash, k));
    if (line == 0) break;
  }
  return f32x4.mul(w4, f32x4.splat(absent));
}

function gatherLine(line: usize, w4: v128, seen: u32, absent: f32): void {
  if (entries + SYMBOLS_PER_LINE > ENTRIES_MAX) return;
  for (let at = line + LINE_PLACES; at <= line + LINE_PLACE_LAST; at += 4) {
    const place = load<u32>(at);
    if (place == 0) return;
    const candidate = candidateOf(placeSymbol(place));
    if (candidate < 0) return;
    const hits = placeCount(place);
    const f = lnCount(hits) - lnCount(seen - min(seen, hits)) - absent;
    const scores = CANDIDATE_SCORES + (<usize>candidate << 4);
    store<u16>(ENTRY_CANDIDATE + (<usize>entries << 1), <u16>candidate);
    store<f32>(ENTRY_F + (<usize>entries << 2), f);
    store<u32>(ENTRY_PLACE + (<usize>entries << 2), <u32>at);
    v128.store(scores, f32x4.add(v128.load(scores), f32x4.mul(w4, f32x4.splat(f))));
    entries++;
  }
}

/** Learns, after reachMix of the same path, that exactly the first `count` of DESCENDANT_SYMBOL executed. */
export function reachLearn(count: i32): void {
  memory.fill(ACTUAL, 0, candidates);
  memory.fill(COUNTED, 0, candidates);
  for (let i = 0; i < count; i++) {
    const candidate = candidateIfAny(load<u32>(DESCENDANT_SYMBOL + (<usize>i << 2)));
    store<i32>(DESCENDANT_CANDIDATE + (<usize>i << 2), candidate);
    if (candidate >= 0) store<u8>(ACTUAL + <usize>candidate, 1);
  }
  if (candidates > 0) learnWeights();
  else memory.fill(CONTEXT_HITS, 0, 4 * CONTEXTS);
  for (let c = 0; c < CONTEXTS; c++) {
    const hash = load<u64>(HASH + (<usize>c << 3));
    if (hash != 0) countReached(c, hash, count);
  }
}

function learnWeights(): void {
  let errors = f32x4.splat(0);
  let gradient = f32x4.splat(0);
  for (let s: usize = 0; s < <usize>candidates; s++) {
    const at = CANDIDATE_SCORES + (s << 4);
    const y = <f32>load<u8>(ACTUAL + s);
    const scores = v128.load(at);
    gradient = f32x4.add(gradient, f32x4.mul(f32x4.splat(y - load<f32>(REACH_P + (s << 2))), scores));
    const error = f32x4.sub(f32x4.splat(y), sigmoid4(scores));
    errors = f32x4.add(errors, error);
    // The scores have served; from here the place holds the errors of the four mixers.
    v128.store(at, error);
  }
  v128.store(finalSet, f32x4.add(v128.load(finalSet), f32x4.mul(f32x4.splat(RATE_FINAL), gradient)));
  for (let c = 0; c < CONTEXTS; c++) {
    if (load<u32>(CONTEXT_LINE + (<usize>c << 2)) != 0) learnContext(c, errors);
  }
}

function learnContext(context: i32, errors: v128): void {
  const end = load<i32>(CONTEXT_ENTRIES + (<usize>(context + 1) << 2));
  const begin = load<i32>(CONTEXT_ENTRIES + (<usize>context << 2));
  let gradient = f32x4.mul(errors, v128.load32_splat(CONTEXT_ABSENT + (<usize>context << 2)));
  let hit = begin;
  for (let e = begin; e < end; e++) {
    const candidate = <usize>load<u16>(ENTRY_CANDIDATE + (<usize>e << 1));
    const error = v128.load(CANDIDATE_SCORES + (candidate << 4));
    gradient = f32x4.add(gradient, f32x4.mul(error, v128.load32_splat(ENTRY_F + (<usize>e << 2))));
    // Written in any case, kept only of those that executed.
    store<u16>(HIT_ENTRY + (<usize>hit << 1), <u16>e);
    hit += <i32>load<u8>(ACTUAL + candidate);
  }
  store<i32>(CONTEXT_HITS + (<usize>context << 2), hit - begin);
  const offset = <usize>load<u32>(CONTEXT_OFFSET + (<usize>context << 2));
  weightsLearn(setEnded + offset, setLast + offset, setKnown + offset, setDepth + offset, squares, gradient, RATE);
}

function countReached(context: i32, hash: u64, count: i32): void {
  const known = <usize>load<u32>(CONTEXT_LINE + (<usize>context << 2));
  const line = holdLine(hash, known);
  countContext(hash, line);
  if (known != 0) countEntries(context, line);
  for (let i = 0; i < count; i++) {
    const candidate = load<i32>(DESCENDANT_CANDIDATE + (<usize>i << 2));
    if (candidate >= 0 && load<u8>(COUNTED + <usize>candidate) == <u8>(context + 1)) continue;
    countSymbol(hash, line, load<u32>(DESCENDANT_SYMBOL + (<usize>i << 2)), WIDE_LINES_MAX);
  }
}

/** Counts what executed among the entries that the prediction met; most descendants are there. */
function countEntries(context: i32, first: usize): void {
  const begin = load<i32>(CONTEXT_ENTRIES + (<usize>context << 2));
  const end = begin + load<i32>(CONTEXT_HITS + (<usize>context << 2));
  for (let hit = begin; hit < end; hit++) {
    const e = load<u16>(HIT_ENTRY + (<usize>hit << 1));
    const candidate = <usize>load<u16>(ENTRY_CANDIDATE + (<usize>e << 1));
    const at = <usize>load<u32>(ENTRY_PLACE + (<usize>e << 2));
    const symbol = load<u32>(CANDIDATE_SYMBOL + (candidate << 2));
    // A context counted before this one may have taken the line.
    if (placeSymbol(load<u32>(at)) != symbol) continue;
    countPlace(at, symbol);
    store<u8>(COUNTED + candidate, <u8>(context + 1));
    const line = at & ~(LINE_BYTES - 1);
    if (line != first) store<f32>(line, load<f32>(line, LINE_TOTAL) + 1, LINE_TOTAL);
  }
}

// What starts first after a path? In: the folded path. Out: a probability for each candidate symbol; learning from the answer.
// Algorithm: every context line proposes symbols with evidence f = ln(1 + n / ALPHA), n its count there, 0 where absent.
// Layer 1: four mixers, each choosing its weights by another view (run before, last task, known contexts, gap), give
//   score = Σ weight[context, confidence] · f, softmax over the candidates. SIMD lanes are the four mixers.
// Layer 2: score = Σ v[mixer] · ln p_mixer + bias, softmax. Each layer descends its own log-loss: w += step · (f(actual) − E_p[f]).
// ln p differs from the score by what all candidates share, so the softmax of layer 1 is only computed where something is learned.
// Most of the time is spent waiting for memory: what that means for the order of things is told in docs/decisions/0015.
// Only the symbols that a context really has cost time: what all candidates share cancels in the softmax.
// Source: the mixing of PAQ8 (M. Mahoney, "Adaptive Weighing of Context Models for Lossless Data Compression", 2005) in its
// softmax form for many symbols (C. Mattern, "Mixing Strategies in Data Compression", DCC 2012).

import { biasChoose, biasLearn, biasOf, biasStep, biasStepsReset, biasSum, gapBucket } from "./bias";
import { CANDIDATE_SCORES, CANDIDATE_SYMBOL, candidateIfAny, candidateOf, candidates, candidatesReset } from "./candidates";
import {
  CONTEXT_HASH, CONTEXT_LINE, CONTEXT_ORDER_0, CONTEXT_ORDER_1, CONTEXT_ORDERS_MASK, CONTEXT_RUN_BEFORE, CONTEXT_SET, CONTEXT_WHOLE, CONTEXTS,
  contextsFound, findContexts, hashContexts, touchContexts, runsMixed,
} from "./contexts";
import { ENTRY_PLACE, ENTRY_WEIGHTS, enterLine } from "./entries";
import { OUT_END, SYMBOL_END } from "./layout";
import { exp4, ln4, sum4, sums4 } from "./math";
import { pathBack } from "./path";
import { runBeforeLearn } from "./run-before";
import {
  addSymbol, COUNT_ONE, COUNTS, findLine, holdLine, LINE_PLACE_LAST, LINE_PLACES, LINE_TOTAL, placeCount, placeSymbol,
  wideHash,
} from "./table";
import { rowsOut } from "./topk";
import { WEIGHT_BYTES, weightsBytes, weightsLearn, weightsLoad, weightsReset } from "./weights";

/** Count that an unseen symbol is taken to have. */
const ALPHA: f32 = 0.02;
const RATE: f32 = 0.12;
const RATE_FINAL: f32 = 0.0005;
/** With 18 contexts, most of which agree, the weights of a sure answer begin near a sum of 1.5. */
const WEIGHT_INITIAL: f32 = 0.08;
const FINAL_INITIAL: f32 = 0.25;
/** Lines of a context: order 0 and order 1 may hold 52 and 26 symbols, the rest 13. */
const LINES_ORDER_0: i32 = 4;
const LINES_ORDER_1: i32 = 2;
const LINES_OTHER: i32 = 1;
/** Where all four mixers gave the answer at least this probability, no weight would move visibly. */
const SURE: f32 = 0.995;

/** Confidence of a context: whether its total is large × whether it has seen a second symbol. */
const CONFIDENCES: i32 = 4;
const TOTAL_LARGE: f32 = 16;
/** Few weights learn soon and, in five cache lines, are waited for less. */
const SET_WEIGHTS: i32 = 18 * 4;
const SET_BYTES: i32 = 18 * 4 * 4;
/** Whether the run before is known. */
const BEFORE_SETS: i32 = 2;
/** The same × longest known order (0–3) × whole path known × set known. */
const KNOWN_SETS: i32 = 32;
const GAP_SETS: i32 = 16;

function weightCount(lastSets: i32): i32 {
  return SET_WEIGHTS * (BEFORE_SETS + lastSets + KNOWN_SETS + GAP_SETS);
}

export function nextWeightBytes(lastSets: i32): usize {
  return weightsBytes(weightCount(lastSets)) + <usize>(KNOWN_SETS * 16);
}

let weights: usize = 0;
/** From a weight's value to its sum of squares, bytes. */
let squares: usize = 0;
let finalWeights: usize = 0;
let lastMask: u32 = 0;
// Addresses of the weight sets that this path chose.
let setBefore: usize = 0;
let setLast: usize = 0;
let setKnown: usize = 0;
let setGap: usize = 0;
let finalSet: usize = 0;

// Scratch of one prediction, kept for the learning that follows it.
/** Offset of the entry's candidate among vectors of four lanes. */
const ENTRY_CANDIDATE: usize = memory.data(320 * 2, 64);
/** ln(1 + n / ALPHA) of every count that a place can hold. */
const EVIDENCE: usize = memory.data(2048 * 4, 64);
// By context, of those that take part: its entries, where its weights are in their sets, and the four of them.
const CONTEXT_ENTRIES: usize = memory.data(18 * 4, 64);
const CONTEXT_ENTRIES_END: usize = memory.data(18 * 4, 64);
const CONTEXT_OFFSET: usize = memory.data(18 * 4, 64);
const CONTEXT_WEIGHTS: usize = memory.data(18 * 16, 64);
/** Highest score of each mixer. */
const TOP: usize = memory.data(16, 64);
/** See touchLines. */
const TOUCHED: usize = memory.data(4, 4);
/** Only where something is learned: p of each mixer, then its error. */
const CANDIDATE_SHARES: usize = memory.data(256 * 16, 64);
/** Final probability of each candidate; padded to a multiple of four. */
const CANDIDATE_P: usize = memory.data(260 * 4, 64);
/** A bit for each context that takes part. */
let known: u32 = 0;

/** `lastSets` must be a power of two. */
export function nextInit(base: usize, lastSets: i32): void {
  weights = base;
  lastMask = <u32>lastSets - 1;
  squares = <usize>(weightCount(lastSets) * WEIGHT_BYTES);
  finalWeights = base + 2 * squares;
  for (let count: i32 = 0; count < COUNTS; count += 4) {
    const counts = f32x4.convert_i32x4_u(i32x4.add(i32x4.splat(count), i32x4(0, 1, 2, 3)));
    const f = ln4(f32x4.add(f32x4.splat(1), f32x4.mul(counts, f32x4.splat(1 / ALPHA / <f32>COUNT_ONE))));
    v128.store(EVIDENCE + (<usize>count << 2), f);
  }
}

/** For people: so many values, then as many sums of squares, then four finals of each known set. */
export function nextWeights(): usize { return weights; }
export function nextWeightsCount(): i32 { return <i32>(squares / <usize>WEIGHT_BYTES); }

export function nextReset(): void {
  weightsReset(weights, <i32>(squares / <usize>WEIGHT_BYTES), WEIGHT_INITIAL);
  for (let i: usize = 0; i < <usize>KNOWN_SETS; i++) v128.store(finalWeights + (i << 4), f32x4.splat(FINAL_INITIAL));
}

/** Mixes the contexts of the folded path; leaves P(candidate) in CANDIDATE_P. Candidate 0 is the end. */
export function nextMix(version: u32, isLearning: bool): void {
  hashContexts(version, isLearning);
  touch();
  findContexts();
  candidatesReset();
  candidateOf(SYMBOL_END);
  chooseContexts();
  chooseSets();
  let entry: usize = 0;
  for (let left = known; left != 0; left &= left - 1) {
    const c = ctz(left);
    loadWeights(c);
    store<u32>(CONTEXT_ENTRIES + (<usize>c << 2), <u32>entry);
    entry = collect(c, entry);
    store<u32>(CONTEXT_ENTRIES_END + (<usize>c << 2), <u32>entry);
  }
  gather(entry);
  mixLayers();
}

// Weights and biases, then lines, then symbols, each of all contexts before the next: their cache misses overlap, and no branch that
// hangs on one of them holds up the others.

/**
 * Asks for all that must come from memory and is known from the path alone: biases, weights of the last task, lines. A place of its
 * own, and little in it: a processor looks a few hundred instructions ahead, and what it sees there is waited for together.
 */
function touch(): void {
  setLast = weights + <usize>(<u32>SET_BYTES * (BEFORE_SETS + (pathBack(0) & lastMask)));
  let touched = biasChoose();
  for (let at: usize = 0; at < <usize>SET_BYTES; at += 64) touched ^= load<u32>(setLast + at);
  store<u32>(TOUCHED, touched ^ touchContexts());
}

function chooseContexts(): void {
  let found = contextsFound;
  if (!runsMixed) found &= ~(3 << CONTEXT_RUN_BEFORE);
  // Order 0 speaks of tasks that the path rules out; it is a last resort.
  known = found & ~(bit(found, CONTEXT_ORDER_1) << CONTEXT_ORDER_0);
}

// @ts-ignore: decorator
@inline
function bit(contexts: u32, context: i32): u32 {
  return (contexts >> context) & 1;
}

function chooseSets(): void {
  const before = u32(runsMixed);
  const order = max(0, 31 - clz(known & CONTEXT_ORDERS_MASK));
  const view = (<u32>order << 3) | (before << 2) | (bit(known, CONTEXT_WHOLE) << 1) | bit(known, CONTEXT_SET);
  setBefore = weights + <usize>(<u32>SET_BYTES * before);
  setKnown = weights + <usize>(<u32>SET_BYTES * (BEFORE_SETS + lastMask + 1 + view));
  setGap = weights + <usize>(<u32>SET_BYTES * (BEFORE_SETS + lastMask + 1 + KNOWN_SETS + <u32>gapBucket()));
  finalSet = finalWeights + <usize>(view << 4);
}

// @ts-ignore: decorator
@inline
function confidenceOf(line: usize): i32 {
  return (i32(load<f32>(line, LINE_TOTAL) >= TOTAL_LARGE) << 1) | i32(load<u32>(line, LINE_PLACES + 4) == 0);
}

// @ts-ignore: decorator
@inline
function linesOf(context: i32): i32 {
  return context > CONTEXT_ORDER_1 ? LINES_OTHER : context == CONTEXT_ORDER_1 ? LINES_ORDER_1 : LINES_ORDER_0;
}

// @ts-ignore: decorator
@inline
function loadWeights(context: i32): void {
  const confidence = confidenceOf(<usize>load<u32>(CONTEXT_LINE + (<usize>context << 2)));
  const offset = <usize>((context * CONFIDENCES + confidence) * WEIGHT_BYTES);
  store<u32>(CONTEXT_OFFSET + (<usize>context << 2), <u32>offset);
  const w4 = weightsLoad(setBefore + offset, setLast + offset, setKnown + offset, setGap + offset);
  v128.store(CONTEXT_WEIGHTS + (<usize>context << 4), w4);
}

/** Lists the symbols of one context as entries from `entry` on; returns the entry after them. */
function collect(context: i32, entry: usize): usize {
  const linesMax = linesOf(context);
  let line = <usize>load<u32>(CONTEXT_LINE + (<usize>context << 2));
  let k = 1;
  while (true) {
    entry = enterLine(line, context << 4, entry);
    // A line that still has room is the context's last.
    if (k >= linesMax || load<u32>(line, LINE_PLACE_LAST) == 0) return entry;
    line = findLine(wideHash(load<u64>(CONTEXT_HASH + (<usize>context << 3)), k++));
    if (line == 0) return entry;
  }
}

/** Adds the evidence of all entries to their candidates' scores. */
function gather(entries: usize): void {
  for (let e: usize = 0; e < entries; e++) {
    const place = load<u32>(ENTRY_PLACE + (e << 2));
    const w4 = v128.load(CONTEXT_WEIGHTS + <usize>load<u32>(ENTRY_WEIGHTS + (e << 2)));
    const f = load<f32>(evidenceAt(place));
    // No room, -1: as a byte it is the place after the last candidate, which takes what nobody asks for.
    const offset = <usize><u8>candidateOf(placeSymbol(place)) << 4;
    store<u16>(ENTRY_CANDIDATE + (e << 1), <u16>offset);
    const scores = CANDIDATE_SCORES + offset;
    v128.store(scores, f32x4.add(v128.load(scores), f32x4.mul(w4, f32x4.splat(f))));
  }
}

/** Where the evidence of a place's count stands. */
// @ts-ignore: decorator
@inline
function evidenceAt(place: u32): usize {
  return EVIDENCE + (<usize>placeCount(place) << 2);
}

/** Layer 2 hears of no candidate farther below a mixer's likeliest, nats: one great surprise must not overturn it. */
const BELOW_MAX: f32 = -20;

/** How far the candidate is below each mixer's likeliest. */
// @ts-ignore: decorator
@inline
function below(candidate: usize, top: v128): v128 {
  return f32x4.pmax(f32x4.splat(BELOW_MAX), f32x4.sub(v128.load(CANDIDATE_SCORES + (candidate << 4)), top));
}

function mixLayers(): void {
  let top = v128.load(CANDIDATE_SCORES);
  for (let s = 1; s < candidates; s++) top = f32x4.pmax(top, v128.load(CANDIDATE_SCORES + (<usize>s << 4)));
  v128.store(TOP, top);
  const v = v128.load(finalSet);
  biasSum();
  // Up to three places beyond the last candidate are computed as well; softmax overwrites them.
  for (let s: usize = 0; s < <usize>candidates; s += 4) {
    const sums = sums4(
      f32x4.mul(v, below(s, top)), f32x4.mul(v, below(s + 1, top)), f32x4.mul(v, below(s + 2, top)), f32x4.mul(v, below(s + 3, top)),
    );
    const biases = f32x4.replace_lane(
      f32x4.replace_lane(f32x4.replace_lane(f32x4.splat(biasAt(s)), 1, biasAt(s + 1)), 2, biasAt(s + 2)), 3, biasAt(s + 3),
    );
    v128.store(CANDIDATE_P + (s << 2), f32x4.add(sums, biases));
  }
  softmax();
}

// @ts-ignore: decorator
@inline
function biasAt(candidate: usize): f32 {
  return biasOf(load<u32>(CANDIDATE_SYMBOL + (candidate << 2)));
}

/** Less than any sound score: what only fills up four gets probability 0. */
const NO_SCORE: f32 = -1e30;
/** Far beneath what sound weights give; not so near to what exp4 gives at least that what fills up four would count. */
const TOTAL_MIN: f32 = 1e-30;

/**
 * CANDIDATE_P from scores to probabilities, four at a time. Without looking for the highest score first: scores are sums of what is below
 * a mixer's highest, which is 0 for one candidate at least, so the exponentials neither overflow nor vanish.
 */
function softmax(): void {
  v128.store(CANDIDATE_P + (<usize>candidates << 2), f32x4.splat(NO_SCORE));
  const end = CANDIDATE_P + (<usize>candidates << 2);
  let sum = f32x4.splat(0);
  for (let at = CANDIDATE_P; at < end; at += 16) {
    const share = exp4(v128.load(at));
    sum = f32x4.add(sum, share);
    v128.store(at, share);
  }
  const total = sum4(sum);
  // Only weights from a hostile image can make them NaN, infinite or absurd; then all candidates are alike.
  if (!(total >= TOTAL_MIN && total <= f32.MAX_VALUE)) {
    for (let s: usize = 0; s < <usize>candidates; s++) store<f32>(CANDIDATE_P + (s << 2), 1 / <f32>candidates);
    return;
  }
  const inverse = f32x4.splat(1 / total);
  for (let at = CANDIDATE_P; at < end; at += 16) v128.store(at, f32x4.mul(v128.load(at), inverse));
}

/** Learns that `symbol` came, after nextMix of the same path: weights first, then the counts that they saw. */
export function nextLearn(symbol: u32): void {
  const actual = candidateIfAny(symbol);
  if (actual >= 0) learnWeights(actual);
  for (let c = 0; c < CONTEXTS; c++) {
    const hash = load<u64>(CONTEXT_HASH + (<usize>c << 3));
    if (hash == 0) continue;
    addSymbol(hash, holdLine(hash, <usize>load<u32>(CONTEXT_LINE + (<usize>c << 2))), symbol, linesOf(c));
  }
  runBeforeLearn(symbol);
}

function learnWeights(actual: i32): void {
  mixersShare();
  const shares = CANDIDATE_SHARES + (<usize>actual << 4);
  const sure = f32x4.ge(v128.load(shares), f32x4.splat(SURE));
  if (i32x4.all_true(sure) && load<f32>(CANDIDATE_P + (<usize>actual << 2)) >= SURE) return;
  learnFinal(actual);
  // From here the shares hold the errors of the four mixers: 1 for the answer, else 0, minus the share.
  for (let s: usize = 0; s < <usize>candidates; s++) {
    const at = CANDIDATE_SHARES + (s << 4);
    v128.store(at, f32x4.sub(f32x4.splat(f32(s == <usize>actual)), v128.load(at)));
  }
  for (let left = known; left != 0; left &= left - 1) learnContext(ctz(left));
}

/** The softmax of each mixer. */
function mixersShare(): void {
  const top = v128.load(TOP);
  let sum = f32x4.splat(0);
  for (let at: usize = 0; at < <usize>candidates << 4; at += 16) {
    const share = exp4(f32x4.sub(v128.load(CANDIDATE_SCORES + at), top));
    sum = f32x4.add(sum, share);
    v128.store(CANDIDATE_SHARES + at, share);
  }
  const inverse = f32x4.div(f32x4.splat(1), sum);
  for (let at = CANDIDATE_SHARES; at < CANDIDATE_SHARES + (<usize>candidates << 4); at += 16) {
    v128.store(at, f32x4.mul(v128.load(at), inverse));
  }
}

function learnFinal(actual: i32): void {
  const top = v128.load(TOP);
  let gradient = f32x4.splat(0);
  biasStepsReset();
  for (let s: usize = 0; s < <usize>candidates; s++) {
    const error = f32(s == <usize>actual) - load<f32>(CANDIDATE_P + (s << 2));
    gradient = f32x4.add(gradient, f32x4.mul(f32x4.splat(error), below(s, top)));
    biasStep(load<u32>(CANDIDATE_SYMBOL + (s << 2)), error);
  }
  biasLearn();
  v128.store(finalSet, f32x4.add(v128.load(finalSet), f32x4.mul(f32x4.splat(RATE_FINAL), gradient)));
}

function learnContext(context: i32): void {
  const end = load<i32>(CONTEXT_ENTRIES_END + (<usize>context << 2));
  let gradient = f32x4.splat(0);
  for (let e = load<i32>(CONTEXT_ENTRIES + (<usize>context << 2)); e < end; e++) {
    const error = v128.load(CANDIDATE_SHARES + <usize>load<u16>(ENTRY_CANDIDATE + (<usize>e << 1)));
    const f = v128.load32_splat(evidenceAt(load<u32>(ENTRY_PLACE + (<usize>e << 2))));
    gradient = f32x4.add(gradient, f32x4.mul(error, f));
  }
  const offset = <usize>load<u32>(CONTEXT_OFFSET + (<usize>context << 2));
  weightsLearn(setBefore + offset, setLast + offset, setKnown + offset, setGap + offset, squares, gradient, RATE);
}

/** Writes the `limit` likeliest tasks to OUT_TASKS and OUT_PROBABILITIES, highest first, and OUT_END; returns how many tasks. */
export function nextOut(limit: i32): i32 {
  store<f64>(OUT_END, <f64>load<f32>(CANDIDATE_P));
  return rowsOut(CANDIDATE_P, 1, candidates, 0, limit);
}

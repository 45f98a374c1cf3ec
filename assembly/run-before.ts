// The run before this one. In: the folded path, and every path that is learned. Out: the time from the start of the run learned
// before to the start of this one, and where that run had come to.
// Callers have a rhythm: a user's next page, a retry, the job after the job. But in service a run is known only some time after its
// end: sealed, published, fetched. So the model is told that time (known after), and what lies nearer is left out in learning as it
// is missing in serving. Where even so the time is much longer than it was in learning, runs between are not known yet: the views
// are left out again; and so that the mixers know what to do without, a fourth of the runs are learned as if it were unknown.
// State in the model: start of the run and of the one before, f64 each, where they had come to, u64 each, mean time between, f64,
// known after, f64, set of the run's tasks as two words.

import { fold } from "./hash";
import { pathSetA, pathSetB, pathStart, pathWhole } from "./path";

export const RUN_BEFORE_BYTES: usize = 64;
const START: usize = 0;
const START_BEFORE: usize = 8;
const END: usize = 16;
const END_BEFORE: usize = 24;
const MEAN_GAP: usize = 32;
const KNOWN_AFTER: usize = 40;
const SET_A: usize = 48;
const SET_B: usize = 56;

/** A gap of so many times the mean says that runs between were not learned. */
const GAPS_MAX: f64 = 8;
/** The mean follows the last few dozen runs. */
const MEAN_RATE: f64 = 0.03;
/** Of no gap, so that the mean can grow again, ms. */
const MEAN_MIN: f64 = 1;
/** One run in so many is learned without. */
const WITHOUT_MASK: u64 = 3;

let base: usize = 0;
/** Not in the image: who learns knows all runs, a copy those until it was fetched. */
let knownUntil: f64 = Infinity;

// Set by runBeforeFind.
/** Whether there is a run before that belongs to this one's past. */
export let runBeforeIs: bool = false;
/** Whether its views are mixed; in learning they are counted all the same. */
export let runBeforeMixed: bool = false;
/** From its start to this one's, ms. */
export let runBeforeGap: f64 = NaN;
/** Hash of its last path and what followed it. */
export let runBeforeEnd: u64 = 0;

export function runBeforeInit(address: usize): void {
  base = address;
}

export function runBeforeReset(knownAfterMs: f64): void {
  store<f64>(base, NaN, START);
  store<f64>(base, NaN, START_BEFORE);
  store<f64>(base, NaN, MEAN_GAP);
  store<f64>(base, knownAfterMs, KNOWN_AFTER);
}

/** A run is known so long after its end, ms. */
// @ts-ignore: decorator
@inline
export function runKnownAfterMs(): f64 {
  return load<f64>(base, KNOWN_AFTER);
}

/** Runs that start later, ms, may have followed others that this copy of the model has not. */
export function runsKnownUntil(ms: f64): void {
  knownUntil = ms;
}

/** Whether a run that lies so far back, ms, is the one before a run that starts then; of unknown times the comparisons are false. */
// @ts-ignore: decorator
@inline
export function runIsBefore(gap: f64, start: f64): bool {
  return gap <= gapMax() && start <= knownUntil;
}

// @ts-ignore: decorator
@inline
function gapMax(): f64 {
  return GAPS_MAX * load<f64>(base, MEAN_GAP);
}

/** Whether a run that started then is learned as if nothing were known of those before. */
// @ts-ignore: decorator
@inline
export function runIsWithout(start: f64): bool {
  return (fold(0, reinterpret<u64>(start)) & WITHOUT_MASK) == 0;
}

export function runBeforeFind(isLearning: bool): void {
  const start = pathStart(0);
  // A path of the run that is being learned has the run before that as its own.
  const isSame = start == load<f64>(base, START);
  runBeforeGap = start - load<f64>(base + select<usize>(START_BEFORE, START, isSame));
  runBeforeEnd = load<u64>(base + select<usize>(END_BEFORE, END, isSame));
  runBeforeIs = runIsBefore(runBeforeGap, start) && runBeforeGap >= runKnownAfterMs();
  runBeforeMixed = runBeforeIs && !(isLearning && runIsWithout(start));
}

/** After each answer that is learned: the path has come to `symbol`. */
export function runBeforeLearn(symbol: u32): void {
  const start = pathStart(0);
  const known = load<f64>(base, START);
  if (start != known) {
    learnGap(max(0, start - known));
    store<f64>(base, known, START_BEFORE);
    store<f64>(base, start, START);
    store<u64>(base, load<u64>(base, END), END_BEFORE);
    store<u64>(base, 0, SET_A);
    store<u64>(base, 0, SET_B);
  }
  store<u64>(base, fold(pathWhole, <u64>symbol), END);
  store<u64>(base, load<u64>(base, SET_A) | pathSetA, SET_A);
  store<u64>(base, load<u64>(base, SET_B) | pathSetB, SET_B);
}

/** Hash of the set of all tasks of the run learned last, whatever led to them. */
export function runBeforeTasks(): u64 {
  return fold(fold(0, load<u64>(base, SET_A)), load<u64>(base, SET_B));
}

/** The mean takes a longer gap for the longest that counts: one night would hide for hundreds of runs what is not known. */
function learnGap(gap: f64): void {
  if (gap != gap) return;
  const mean = load<f64>(base, MEAN_GAP);
  const next = mean == mean ? mean + (min(gap, gapMax()) - mean) * MEAN_RATE : gap;
  store<f64>(base, max(MEAN_MIN, next), MEAN_GAP);
}

// The run that ended last before this one began. In: the start of the folded path, and the end and the tasks of every learned run.
// Out: the time between, and which tasks that run had executed.
// A client asks again when it has its answer: a form's redirect comes milliseconds after the run that caused it ends, whatever that
// run took, and between the starts of the two others may start. So of the last runs the one counts whose end is nearest before this
// start; what was still running then is not the past. Which runs are known at all: run-before.ts.
// State in the model: a ring of RUNS times (end f64, hash of the set of tasks u64), then the place of the next.

import { pathStart } from "./path";
import { runBeforeTasks, runIsBefore, runIsWithout, runKnownAfterMs } from "./run-before";

/** Runs that are kept: of more at once the one that caused this is lost among the others anyway. A power of two. */
const RUNS: u32 = 16;
const ENTRY_BYTES: usize = 16;
const TASKS: usize = 8;
const PLACE: usize = 16 * 16;
export const RUN_ENDED_BYTES: usize = 16 * 16 + 64;

let base: usize = 0;

// Set by runEndedFind.
/** Whether there is a run that belongs to this one's past. */
export let runEndedIs: bool = false;
/** Whether its views are mixed; in learning they are counted all the same. */
export let runEndedMixed: bool = false;
/** From its end to this one's start, ms. */
export let runEndedGap: f64 = NaN;
/** Hash of the set of its tasks. */
export let runEndedTasks: u64 = 0;

export function runEndedInit(address: usize): void {
  base = address;
}

export function runEndedReset(): void {
  for (let i: usize = 0; i < <usize>RUNS; i++) store<f64>(base + i * ENTRY_BYTES, NaN);
}

// @ts-ignore: decorator
@inline
function entryAt(place: u32): usize {
  return base + <usize>(place & (RUNS - 1)) * ENTRY_BYTES;
}

export function runEndedFind(isLearning: bool): void {
  const start = pathStart(0);
  const latest = f64x2.splat(start - runKnownAfterMs());
  // The oldest first, two by two: of runs that ended together the one learned last counts. No branch, which would be guessed wrong.
  const oldest = load<u32>(base, PLACE);
  let ends = f64x2.splat(-Infinity);
  let places = i64x2.splat(0);
  for (let i: u32 = 0; i < RUNS; i += 2) {
    const own = v128.load64_lane(entryAt(oldest + i + 1), v128.load64_zero(entryAt(oldest + i)), 1);
    // Of unknown times the comparisons are false.
    const isLater = v128.and(f64x2.le(own, latest), f64x2.ge(own, ends));
    ends = v128.bitselect(own, ends, isLater);
    places = v128.bitselect(i64x2.splat(i), places, isLater);
  }
  const evenEnd = f64x2.extract_lane(ends, 0);
  const oddEnd = f64x2.extract_lane(ends, 1);
  const even = <u32>i64x2.extract_lane(places, 0);
  const odd = <u32>i64x2.extract_lane(places, 1) + 1;
  const isOdd = oddEnd > evenEnd || (oddEnd == evenEnd && odd > even);
  const end = isOdd ? oddEnd : evenEnd;
  const entry = entryAt(oldest + (isOdd ? odd : even));
  runEndedGap = start - end;
  runEndedTasks = load<u64>(entry, TASKS);
  runEndedIs = runIsBefore(runEndedGap, start);
  runEndedMixed = runEndedIs && !(isLearning && runIsWithout(start));
}

/** The run learned last is complete, and ended then; NaN: that is not known, and it will not be one of the past. */
export function runEndedLearn(endMs: f64): void {
  if (endMs != endMs) return;
  const place = load<u32>(base, PLACE);
  const entry = entryAt(place);
  store<f64>(entry, endMs);
  store<u64>(entry, runBeforeTasks(), TASKS);
  store<u32>(base, place + 1, PLACE);
}

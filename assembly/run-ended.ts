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
  const latest = start - runKnownAfterMs();
  let end: f64 = -Infinity;
  let entry = base;
  // The oldest first: of runs that ended together the one learned last counts.
  const oldest = load<u32>(base, PLACE);
  for (let i: u32 = 0; i < RUNS; i++) {
    const at = entryAt(oldest + i);
    const own = load<f64>(at);
    // Of unknown times the comparisons are false.
    const isLater = own <= latest && own >= end;
    end = select<f64>(own, end, isLater);
    entry = select<usize>(at, entry, isLater);
  }
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

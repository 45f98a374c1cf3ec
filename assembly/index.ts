// The engine's exports. Inputs are written to the addresses that `address…` give, outputs are read from there; nothing is allocated.
// Callers (src/core/engine.ts) check every range first: the functions here trust lengths and offsets.

import {
  MODEL, OUT_LEAD_MS, OUT_MULTIPLICITIES, OUT_PROBABILITIES, OUT_TASKS, PATH_START_MS, PATH_TASKS, RUN_COLD_BEFORE_MS, RUN_PATH_TRIGGERS,
  RUN_START_MS, RUN_TASKS, RUN_TRIGGER_OFFSETS, RUN_TRIGGERS, RUN_VERSIONS, SYMBOL_END, SYMBOL_TASK_0,
} from "./layout";
import { modelCount } from "./model";
import { nextLearn, nextMix, nextOut } from "./next";
import { observeRun } from "./observe";
import { pathExtend, pathReset } from "./path";
import { reachMix } from "./reach";
import { reachOut } from "./reach-out";
import { runEndedLearn } from "./run-ended";

export { modelBytes, modelChecksum, modelCreate, modelLines, modelSeal } from "./model";
export {
  addressPlaceDemand, addressPlaceFactors, addressPlaceProximity, addressPlaceServiceMs, addressPlaceTerms, addressPlaceTotalMs, place,
  placeCreate,
} from "./place";
export { nextWeights, nextWeightsCount } from "./next";
export { reachWeights, reachWeightsCount } from "./reach";
export { runsKnownUntil } from "./run-before";
export { tableUsedLines } from "./table";

export function addressPathTasks(): usize { return PATH_TASKS; }
export function addressPathStartMs(): usize { return PATH_START_MS; }
export function addressRunTasks(): usize { return RUN_TASKS; }
export function addressRunVersions(): usize { return RUN_VERSIONS; }
export function addressRunStartMs(): usize { return RUN_START_MS; }
export function addressRunColdBeforeMs(): usize { return RUN_COLD_BEFORE_MS; }
export function addressRunTriggerOffsets(): usize { return RUN_TRIGGER_OFFSETS; }
export function addressRunTriggers(): usize { return RUN_TRIGGERS; }
export function addressRunPathTriggers(): usize { return RUN_PATH_TRIGGERS; }
export function addressOutTasks(): usize { return OUT_TASKS; }
export function addressOutProbabilities(): usize { return OUT_PROBABILITIES; }
export function addressOutMultiplicities(): usize { return OUT_MULTIPLICITIES; }
export function addressOutLeadMs(): usize { return OUT_LEAD_MS; }
export function addressModel(): usize { return MODEL; }

/** Answer of the functions below where the path names what cannot be a task. */
const BAD_TASK: i32 = -1;

// @ts-ignore: decorator
@inline
function foldPath(length: i32): bool {
  pathReset();
  return pathExtend(length);
}

/** What starts first after PATH_*[0 .. length)? Returns the number of rows in OUT_TASKS, OUT_PROBABILITIES (its last place: the end), or BAD_TASK. */
export function next(length: i32, version: u32, limit: i32): i32 {
  if (!foldPath(length)) return BAD_TASK;
  nextMix(version, false);
  return nextOut(limit);
}

/**
 * Learns the answer to `next` of the same path: task, or -1 for the end. `endMs`: with a run's last answer when it ended, else NaN.
 * Returns 0, or BAD_TASK.
 */
export function learnNext(length: i32, version: u32, task: i32, endMs: f64): i32 {
  if (!foldPath(length)) return BAD_TASK;
  nextMix(version, true);
  nextLearn(task < 0 ? SYMBOL_END : <u32>task + SYMBOL_TASK_0);
  runEndedLearn(endMs);
  return 0;
}

/** Which tasks execute among the descendants, with at least `floor`? Returns the number of rows in OUT_*, or BAD_TASK. */
export function reach(length: i32, version: u32, floor: f64, limit: i32): i32 {
  if (!foldPath(length)) return BAD_TASK;
  reachMix(version, false);
  return reachOut(floor, limit);
}

/**
 * Learns RUN_*[0 .. count); `endMs` is when the last of them ended, NaN where unknown. Its contexts keep fewer than `kept` occurrences of
 * what came before.
 */
export function observe(count: i32, endMs: f64, kept: f32): void {
  observeRun(count, endMs, kept);
  modelCount(<u32>count);
}

// Learning a sealed run. In: RUN_* (executions in order of start, triggers before what they cause). Out: everything in the model.
// First every execution's `next`, then every execution's `reach`: an answer is learned before the next question, as in serving.

import { SYMBOL_END, SYMBOL_TASK_0, PATH_START_MS, PATH_TASKS, RUN_COLD_BEFORE_MS, RUN_PATH_TRIGGERS, RUN_START_MS, RUN_TASKS, RUN_TRIGGER_OFFSETS, RUN_TRIGGERS, RUN_VERSIONS } from "./layout";
import { leadLearn, leadPath, leadTouch } from "./lead";
import { nextLearn, nextMix } from "./next";
import { pathExtend, pathLength, pathReset } from "./path";
import { DESCENDANT_SYMBOL, DESCENDANTS_MAX, reachLearn, reachMix } from "./reach";
import { runEndedLearn } from "./run-ended";
import { tableKeep, TOTAL_MAX } from "./table";

/** First successor of each execution, -1 at none. */
const SUCCESSOR: usize = memory.data(4096 * 4, 64);
/** Length of each execution's path. */
const DEPTH: usize = memory.data(4096 * 4, 64);
/** 1 + index of the source execution for which the execution was last marked a descendant. */
const MARK: usize = memory.data(4096 * 4, 64);

const DESCENDANT_LEAD_MS: usize = memory.data(192 * 8, 64);
const DESCENDANT_COUNT: usize = memory.data(192 * 4, 64);
let descendants: i32 = 0;
/** See touchLines. */
const TOUCHED: usize = memory.data(4, 4);
let folded: i32 = -1;

// @ts-ignore: decorator
@inline
function int(base: usize, i: i32): i32 {
  return load<i32>(base + (<usize>i << 2));
}

/** One of many is chosen on more occurrences than a yes or no takes: `next` keeps so many times as many as `reach`. */
const NEXT_KEPT: f32 = 4;

/** `endMs`: of the execution that ended last; `kept`: see tableKeep. */
export function observeRun(count: i32, endMs: f64, kept: f32): void {
  for (let i = 0; i < count; i++) {
    store<i32>(SUCCESSOR + (<usize>i << 2), -1);
    store<i32>(MARK + (<usize>i << 2), 0);
    const trigger = int(RUN_PATH_TRIGGERS, i);
    store<i32>(DEPTH + (<usize>i << 2), trigger < 0 ? 1 : int(DEPTH, trigger) + 1);
  }
  for (let i = count - 1; i >= 0; i--) {
    const end = int(RUN_TRIGGER_OFFSETS, i + 1);
    for (let t = int(RUN_TRIGGER_OFFSETS, i); t < end; t++) {
      store<i32>(SUCCESSOR + (<usize>int(RUN_TRIGGERS, t) << 2), i);
    }
  }
  folded = -1;
  tableKeep(NEXT_KEPT * kept);
  for (let i = 0; i < count; i++) {
    foldPath(i);
    nextMix(load<u32>(RUN_VERSIONS + (<usize>i << 2)), true);
    const successor = int(SUCCESSOR, i);
    nextLearn(successor < 0 ? SYMBOL_END : <u32>int(RUN_TASKS, successor) + SYMBOL_TASK_0);
  }
  folded = -1;
  tableKeep(kept);
  for (let i = 0; i < count; i++) learnReach(i, count);
  tableKeep(TOTAL_MAX);
  runEndedLearn(endMs);
}

/** Folds the path of execution i; a path that continues the one folded last costs one step. */
function foldPath(i: i32): void {
  const depth = int(DEPTH, i);
  if (folded < 0 || int(RUN_PATH_TRIGGERS, i) != folded) {
    pathReset();
    for (let j = i, at = depth - 1; j >= 0; j = int(RUN_PATH_TRIGGERS, j), at--) putPath(at, j);
  } else putPath(depth - 1, i);
  pathExtend(depth);
  folded = i;
}

// @ts-ignore: decorator
@inline
function putPath(at: i32, i: i32): void {
  store<u32>(PATH_TASKS + (<usize>at << 2), <u32>int(RUN_TASKS, i));
  store<f64>(PATH_START_MS + (<usize>at << 3), load<f64>(RUN_START_MS + (<usize>i << 3)));
}

function learnReach(i: i32, count: i32): void {
  collectDescendants(i, count);
  foldPath(i);
  leadPath();
  touchLeads();
  reachMix(load<u32>(RUN_VERSIONS + (<usize>i << 2)), true);
  reachLearn(descendants);
  for (let d = 0; d < descendants; d++) {
    leadLearn(
      load<u32>(DESCENDANT_SYMBOL + (<usize>d << 2)),
      load<f64>(DESCENDANT_LEAD_MS + (<usize>d << 3)),
      int(DESCENDANT_COUNT, d),
    );
  }
}

/** Asks for the cells of all descendants, before the rest is learned. */
function touchLeads(): void {
  let touched: u32 = 0;
  for (let d = 0; d < descendants; d++) touched ^= leadTouch(load<u32>(DESCENDANT_SYMBOL + (<usize>d << 2)));
  store<u32>(TOUCHED, touched);
}

/** The distinct tasks among the trigger-descendants of `source`, in order of their first start; lead times as with everything warm. */
function collectDescendants(source: i32, count: i32): void {
  descendants = 0;
  const mark = source + 1;
  store<i32>(MARK + (<usize>source << 2), mark);
  const warmStart = warmStartOf(source);
  for (let i = int(SUCCESSOR, source); i >= 0 && i < count; i++) {
    if (!descends(i, mark)) continue;
    store<i32>(MARK + (<usize>i << 2), mark);
    addDescendant(<u32>int(RUN_TASKS, i) + SYMBOL_TASK_0, warmStartOf(i) - warmStart);
  }
}

// @ts-ignore: decorator
@inline
function warmStartOf(i: i32): f64 {
  return load<f64>(RUN_START_MS + (<usize>i << 3)) - load<f64>(RUN_COLD_BEFORE_MS + (<usize>i << 3));
}

/** Whether a trigger of i is marked: the one its path follows is asked first, being the likeliest. */
function descends(i: i32, mark: i32): bool {
  const path = int(RUN_PATH_TRIGGERS, i);
  if (path >= 0 && int(MARK, path) == mark) return true;
  const end = int(RUN_TRIGGER_OFFSETS, i + 1);
  for (let t = int(RUN_TRIGGER_OFFSETS, i); t < end; t++) {
    if (int(MARK, int(RUN_TRIGGERS, t)) == mark) return true;
  }
  return false;
}

function addDescendant(symbol: u32, leadMs: f64): void {
  for (let d = 0; d < descendants; d++) {
    if (load<u32>(DESCENDANT_SYMBOL + (<usize>d << 2)) != symbol) continue;
    store<i32>(DESCENDANT_COUNT + (<usize>d << 2), int(DESCENDANT_COUNT, d) + 1);
    return;
  }
  if (descendants == DESCENDANTS_MAX) return;
  store<u32>(DESCENDANT_SYMBOL + (<usize>descendants << 2), symbol);
  store<f64>(DESCENDANT_LEAD_MS + (<usize>descendants << 3), leadMs);
  store<i32>(DESCENDANT_COUNT + (<usize>descendants << 2), 1);
  descendants++;
}

// The state of a path. In: PATH_TASKS and PATH_START_MS, oldest first. Out: the globals below, from which contexts are hashed.
// Folding is incremental: a path that continues the folded one costs one step, any other starts again.

import { fold } from "./hash";
import { PATH_START_MS, PATH_TASKS, TASKS_MAX } from "./layout";

const BITS_SEED: u64 = 0x5e7;

export let pathLength: i32 = 0;
/** Hash of the whole path. */
export let pathWhole: u64 = 0;
/** Hash of the tasks and how often each came, in whatever order. */
export let pathBag: u64 = 0;
/** The set of tasks as a signature: one bit in each of two words per task; order and repetition leave no trace. */
export let pathSetA: u64 = 0;
export let pathSetB: u64 = 0;
/** The last three different tasks in a row: repetitions of one task collapse. As task + 1, 0 where the path is shorter. */
export let pathRun1: u32 = 0;
export let pathRun2: u32 = 0;
export let pathRun3: u32 = 0;

export function pathReset(): void {
  pathLength = 0;
  pathWhole = 0;
  pathBag = 0;
  pathSetA = 0;
  pathSetB = 0;
  pathRun1 = 0;
  pathRun2 = 0;
  pathRun3 = 0;
}

/** Folds PATH_TASKS[pathLength .. length); false where one of them cannot be a task. */
export function pathExtend(length: i32): bool {
  // Locals, because engines keep globals in memory.
  let largest: u32 = 0;
  let whole = pathWhole;
  let bag = pathBag;
  let setA = pathSetA;
  let setB = pathSetB;
  let run1 = pathRun1;
  let run2 = pathRun2;
  let run3 = pathRun3;
  for (let i = pathLength; i < length; i++) {
    const task = load<u32>(PATH_TASKS + (<usize>i << 2));
    largest = max(largest, task);
    whole = fold(whole, <u64>task + 1);
    const bits = fold(BITS_SEED, <u64>task + 1);
    bag += bits;
    setA |= (<u64>1) << (bits & 63);
    setB |= (<u64>1) << ((bits >> 6) & 63);
    if (task + 1 == run1) continue;
    run3 = run2;
    run2 = run1;
    run1 = task + 1;
  }
  pathLength = length;
  pathWhole = whole;
  pathBag = bag;
  pathSetA = setA;
  pathSetB = setB;
  pathRun1 = run1;
  pathRun2 = run2;
  pathRun3 = run3;
  return largest < TASKS_MAX;
}

/** The task `back` places before the end (0 = the last), as task + 1; 0 before the beginning. */
// @ts-ignore: decorator
@inline
export function pathBack(back: i32): u32 {
  const i = pathLength - 1 - back;
  return i < 0 ? 0 : load<u32>(PATH_TASKS + (<usize>i << 2)) + 1;
}

// @ts-ignore: decorator
@inline
export function pathStart(index: i32): f64 {
  return load<f64>(PATH_START_MS + (<usize>index << 3));
}

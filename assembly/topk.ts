// The likeliest rows, highest first. In: task and probability, one after another. Out: OUT_TASKS, OUT_PROBABILITIES.
// Algorithm: insertion into a bounded sorted list; most rows of a prediction are far below its head, so most cost one comparison.

import { OUT_PROBABILITIES, OUT_TASKS } from "./layout";

/** Offers a row to a list that holds `count` of at most `limit`; returns the new count. */
// @ts-ignore: decorator
@inline
export function offerRow(task: u32, probability: f64, count: i32, limit: i32): i32 {
  let at = count;
  if (count >= limit) {
    if (count == 0 || load<f64>(OUT_PROBABILITIES + (<usize>(count - 1) << 3)) >= probability) return count;
    at = count - 1;
  } else count++;
  for (; at > 0; at--) {
    const above = load<f64>(OUT_PROBABILITIES + (<usize>(at - 1) << 3));
    if (above >= probability) break;
    store<f64>(OUT_PROBABILITIES + (<usize>at << 3), above);
    store<u32>(OUT_TASKS + (<usize>at << 2), load<u32>(OUT_TASKS + (<usize>(at - 1) << 2)));
  }
  store<f64>(OUT_PROBABILITIES + (<usize>at << 3), probability);
  store<u32>(OUT_TASKS + (<usize>at << 2), task);
  return count;
}

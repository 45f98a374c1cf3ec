// The likeliest rows, highest first. In: probabilities of candidates. Out: OUT_TASKS, OUT_PROBABILITIES.
// Algorithm: a row's place is the number of rows before it: of greater ones, and of equal ones that come earlier. That takes more
// comparisons than sorting, four at a time, and none of them is a branch to guess wrong: forty rows take 0.4 of the time.

import { CANDIDATE_SYMBOL } from "./candidates";
import { OUT_PROBABILITIES, OUT_TASKS, SYMBOL_TASK_0, TASKS_MAX } from "./layout";

/** Less than any probability: what only fills up four. */
const NO_ROW: f32 = -1;
const ROW_PROBABILITY: usize = memory.data(260 * 4, 64);
const ROW_TASK: usize = memory.data(256 * 4, 64);
let rows: i32 = 0;

/**
 * Takes the candidates from `from` to `count` that have at least `floor`, whose probabilities lie at `probabilities`, and writes the
 * `limit` likeliest; returns how many. Only a hostile image gives NaN, of which no comparison is true, and symbols that are no task.
 */
export function rowsOut(probabilities: usize, from: i32, count: i32, floor: f64, limit: i32): i32 {
  collect(probabilities, from, count, floor);
  for (let row = 0; row < rows; row++) {
    const place = placeOf(row);
    if (place >= limit) continue;
    store<u32>(OUT_TASKS + (<usize>place << 2), load<u32>(ROW_TASK + (<usize>row << 2)));
    store<f64>(OUT_PROBABILITIES + (<usize>place << 3), <f64>load<f32>(ROW_PROBABILITY + (<usize>row << 2)));
  }
  return min(rows, limit);
}

function collect(probabilities: usize, from: i32, count: i32, floor: f64): void {
  let to: usize = 0;
  for (let s = <usize>from; s < <usize>count; s++) {
    const probability = load<f32>(probabilities + (s << 2));
    const task = load<u32>(CANDIDATE_SYMBOL + (s << 2)) - SYMBOL_TASK_0;
    // Written in any case, kept only where the next one goes elsewhere.
    store<f32>(ROW_PROBABILITY + (to << 2), probability);
    store<u32>(ROW_TASK + (to << 2), task);
    to += usize(probability >= 0) & ~usize(<f64>probability < floor) & usize(task < TASKS_MAX);
  }
  rows = <i32>to;
  v128.store(ROW_PROBABILITY + (to << 2), f32x4.splat(NO_ROW));
}

/** How many rows are before this one. */
// @ts-ignore: decorator
@inline
function placeOf(row: i32): i32 {
  const own = v128.load32_splat(ROW_PROBABILITY + (<usize>row << 2));
  const four = ROW_PROBABILITY + (<usize>(row & ~3) << 2);
  const end = ROW_PROBABILITY + (<usize>rows << 2);
  // Of the four that this row is among, the equal ones count as far as they come earlier.
  const among = v128.load(four);
  const isEarlier = i32x4.lt_s(i32x4(0, 1, 2, 3), i32x4.splat(row & 3));
  let before = v128.or(f32x4.gt(among, own), v128.and(f32x4.eq(among, own), isEarlier));
  // A comparison that is true is −1 in its lane.
  for (let at = ROW_PROBABILITY; at < four; at += 16) before = i32x4.add(before, f32x4.ge(v128.load(at), own));
  for (let at = four + 16; at < end; at += 16) before = i32x4.add(before, f32x4.gt(v128.load(at), own));
  const two = i32x4.add(before, v128.shuffle<i32>(before, before, 2, 3, 0, 1));
  return -(i32x4.extract_lane(two, 0) + i32x4.extract_lane(two, 1));
}

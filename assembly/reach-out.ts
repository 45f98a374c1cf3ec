// The answer to `reach`. In: REACH_P of the candidates. Out: OUT_* rows of at least the floor, highest first, with lead times.

import { candidates } from "./candidates";
import { leadsOut } from "./leads-out";
import { REACH_P } from "./reach";
import { rowsOut } from "./topk";

export function reachOut(floor: f64, limit: i32): i32 {
  const count = rowsOut(REACH_P, 0, candidates, floor, limit);
  leadsOut(count);
  return count;
}

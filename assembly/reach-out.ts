// The answer to `reach`. In: REACH_P of the candidates. Out: OUT_* rows of at least the floor, highest first, with lead times.

import { candidates } from "./candidates";
import { OUT_LEAD_MS, OUT_MULTIPLICITIES, OUT_TASKS, SYMBOL_TASK_0 } from "./layout";
import { leadMultiplicity, leadP10Ms, leadP50Ms, leadP90Ms, leadPath, leadRead, leadRow } from "./lead";
import { REACH_P } from "./reach";
import { rowAdd, rowsOut, rowsReset } from "./topk";

export function reachOut(floor: f64, limit: i32): i32 {
  rowsReset();
  for (let s = 0; s < candidates; s++) {
    const probability = load<f32>(REACH_P + (<usize>s << 2));
    // NaN, which only a hostile image gives, is not at least anything.
    if (probability >= 0 && !(<f64>probability < floor)) rowAdd(s, probability);
  }
  const count = rowsOut(limit);
  leadPath();
  for (let i = 0; i < count; i++) leadRow(i, load<u32>(OUT_TASKS + (<usize>i << 2)) + SYMBOL_TASK_0);
  for (let i = 0; i < count; i++) {
    leadRead(i);
    const lead = OUT_LEAD_MS + <usize>i * 24;
    store<f64>(lead, leadP10Ms);
    store<f64>(lead, leadP50Ms, 8);
    store<f64>(lead, leadP90Ms, 16);
    store<f64>(OUT_MULTIPLICITIES + (<usize>i << 3), leadMultiplicity);
  }
  return count;
}

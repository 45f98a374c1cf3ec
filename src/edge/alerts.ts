// Alerts of a workspace, from D1: what became of the last day's prewarms where plans were sent, and, only where users waited for tasks that nothing was sent
// for, what the latest plans left out of them.
import { alertsOf, CONFIDENT, type LeftOut, neverPrepared, type TaskCount } from "../core/alerts.ts";
import { hourOf } from "../core/hour.ts";
import type { Alert } from "../protocol.ts";

const COUNTED_HOURS = 24;
const TASKS_MAX = 5_000;
/** Latest plans that are looked through. */
const PLANS_MAX = 200;

export async function alertsIn(db: D1Database, workspace: string, nowMs: number): Promise<Alert[]> {
  const { results: counts } = await db
    .prepare(
      `SELECT task, outcome, sum(count - unsent) AS count FROM outcome_hours
       WHERE workspace = ?1 AND hour >= ?2 AND kind = 'warm' GROUP BY task, outcome LIMIT ${TASKS_MAX}`,
    )
    .bind(workspace, hourOf(nowMs) - COUNTED_HOURS)
    .all<TaskCount>();
  return alertsOf(counts, neverPrepared(counts).size === 0 ? [] : await leftOutOf(db, workspace));
}

/** Allocation ids begin with their time. What is warm already is no lack; in other modes than these nothing is meant to be sent. */
async function leftOutOf(db: D1Database, workspace: string): Promise<LeftOut[]> {
  const { results } = await db
    .prepare(
      `SELECT item.value ->> 'task' AS task, item.value ->> 'reason' AS reason
       FROM (SELECT answer FROM allocations WHERE workspace = ?1 ORDER BY allocation_id DESC LIMIT ${PLANS_MAX}) AS latest,
         json_each(latest.answer, '$.skipped') AS item
       WHERE latest.answer ->> 'mode' IN ('active', 'canary') AND item.value ->> 'kind' = 'warm'
         AND item.value ->> 'probability' >= ?2 AND item.value ->> 'reason' NOT LIKE 'already warm%'`,
    )
    .bind(workspace, CONFIDENT)
    .all<LeftOut>();
  return results;
}

// What D1 keeps of the past. Totals stay for good; single outcomes and explanations are for looking into what happened.
import { hourOf } from "../core/hour.ts";
import { timePrefix } from "./ids.ts";

const OUTCOMES_KEPT_MS = 30 * 24 * 3_600_000;
/** Sums by the hour, and scores: small, and what a year is compared by. */
const HOURS_KEPT = 400 * 24;
const ALLOCATIONS_KEPT_MS = 7 * 24 * 3_600_000;
/** Explanations are some kB each, and D1 holds 10 GB: a workspace's share is bounded by number too. */
const ALLOCATIONS_KEPT_MAX = 200_000;

export async function prunePast(db: D1Database, workspace: string, nowMs: number): Promise<void> {
  await db.batch([
    db.prepare("DELETE FROM outcomes WHERE workspace = ?1 AND at_ms < ?2").bind(workspace, nowMs - OUTCOMES_KEPT_MS),
    ...["outcome_hours", "calibration_hours"].map((table) =>
      db.prepare(`DELETE FROM ${table} WHERE workspace = ?1 AND hour < ?2`).bind(workspace, hourOf(nowMs) - HOURS_KEPT),
    ),
    db
      .prepare("DELETE FROM event_batches WHERE workspace = ?1 AND seq < ?2")
      .bind(workspace, nowMs - ALLOCATIONS_KEPT_MS),
    db
      .prepare("DELETE FROM allocations WHERE workspace = ?1 AND allocation_id < ?2")
      .bind(workspace, timePrefix(nowMs - ALLOCATIONS_KEPT_MS)),
    db
      .prepare(
        `DELETE FROM allocations WHERE workspace = ?1 AND allocation_id <= (
           SELECT allocation_id FROM allocations WHERE workspace = ?1 ORDER BY allocation_id DESC LIMIT 1 OFFSET ?2)`,
      )
      .bind(workspace, ALLOCATIONS_KEPT_MAX),
  ]);
}

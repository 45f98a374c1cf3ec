// Outcomes of one cluster: written once each, summed, and flushed to D1 in batches.
// The flush is harmless when repeated: outcomes have their key, totals are absolute.
import type { Outcome, OutcomeTotal } from "../../protocol.ts";

/** Outcomes of one flush: one JSON parameter of some hundred kB. */
const FLUSH_ROWS_MAX = 1_000;

export class OutcomeBook {
  readonly #sql: SqlStorage;
  #unflushed: number;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
    this.#unflushed = sql.exec<{ n: number }>("SELECT count(*) AS n FROM outcomes WHERE flushed = 0").one().n;
  }

  get unflushed(): number {
    return this.#unflushed;
  }

  /** False if this outcome is known already. */
  write(outcome: Outcome): boolean {
    const { rowsWritten } = this.#sql.exec(
      "INSERT INTO outcomes (outcome_id, at_ms, outcome, flushed) VALUES (?, ?, ?, 0) ON CONFLICT DO NOTHING",
      outcome.outcomeId,
      Math.round(outcome.atMs),
      JSON.stringify(outcome),
    );
    if (rowsWritten === 0) return false;
    this.#sql.exec(
      `INSERT INTO outcome_totals (kind, outcome, count, bytes, gb_seconds, saved_ms) VALUES (?, ?, 1, ?, ?, ?)
       ON CONFLICT (kind, outcome) DO UPDATE SET count = count + 1, bytes = bytes + excluded.bytes,
         gb_seconds = gb_seconds + excluded.gb_seconds, saved_ms = saved_ms + excluded.saved_ms`,
      outcome.kind,
      outcome.outcome,
      Math.round(outcome.bytes),
      outcome.gbSeconds,
      outcome.savedMs,
    );
    this.#unflushed++;
    return true;
  }

  totals(): OutcomeTotal[] {
    return this.#sql
      .exec<{
        kind: OutcomeTotal["kind"];
        outcome: OutcomeTotal["outcome"];
        count: number;
        bytes: number;
        gb_seconds: number;
        saved_ms: number;
      }>("SELECT kind, outcome, count, bytes, gb_seconds, saved_ms FROM outcome_totals")
      .toArray()
      .map(({ gb_seconds: gbSeconds, saved_ms: savedMs, ...total }) => ({ ...total, gbSeconds, savedMs }));
  }

  /** Brings what D1 does not have yet to it; returns how many outcomes that were. */
  async flush(db: D1Database, workspace: string, cluster: string): Promise<number> {
    let flushed = 0;
    while (this.#unflushed > 0) {
      const rows = this.#sql
        .exec<{ outcome_id: string; outcome: string }>(
          "SELECT outcome_id, outcome FROM outcomes WHERE flushed = 0 ORDER BY at_ms LIMIT ?",
          FLUSH_ROWS_MAX,
        )
        .toArray();
      await writeToD1(db, workspace, cluster, `[${rows.map((row) => row.outcome).join(",")}]`, this.totals());
      // Marked by id: others may have been written while D1 was busy.
      const ids = JSON.stringify(rows.map((row) => row.outcome_id));
      this.#sql.exec("UPDATE outcomes SET flushed = 1 WHERE outcome_id IN (SELECT value FROM json_each(?))", ids);
      this.#unflushed = this.#sql.exec<{ n: number }>("SELECT count(*) AS n FROM outcomes WHERE flushed = 0").one().n;
      flushed += rows.length;
    }
    return flushed;
  }

  /** A repeated report older than this is taken for a new one; agents give up on reports long before. */
  prune(beforeMs: number): void {
    this.#sql.exec("DELETE FROM outcomes WHERE flushed = 1 AND at_ms < ?", beforeMs);
  }
}

async function writeToD1(
  db: D1Database,
  workspace: string,
  cluster: string,
  outcomes: string,
  totals: OutcomeTotal[],
): Promise<void> {
  await db.batch([
    db
      .prepare(
        `INSERT INTO outcomes (workspace, at_ms, outcome_id, command_id, kind, outcome, cluster, vm, task, uri, run_id,
           execution_id, saved_ms, bytes, gb_seconds, reason)
         SELECT ?1, CAST(round(value ->> 'atMs') AS INTEGER), value ->> 'outcomeId', value ->> 'commandId',
           value ->> 'kind', value ->> 'outcome', value ->> 'cluster', value ->> 'vm', value ->> 'task', value ->> 'uri',
           value ->> 'runId', value ->> 'executionId', CAST(value ->> 'savedMs' AS REAL),
           CAST(value ->> 'bytes' AS INTEGER), CAST(value ->> 'gbSeconds' AS REAL), value ->> 'reason'
         FROM json_each(?2) WHERE true
         ON CONFLICT DO NOTHING`,
      )
      .bind(workspace, outcomes),
    db
      .prepare(
        `INSERT INTO outcome_totals (workspace, cluster, kind, outcome, count, bytes, gb_seconds, saved_ms)
         SELECT ?1, ?2, value ->> 'kind', value ->> 'outcome', value ->> 'count', CAST(value ->> 'bytes' AS INTEGER),
           CAST(value ->> 'gbSeconds' AS REAL), CAST(value ->> 'savedMs' AS REAL)
         FROM json_each(?3) WHERE true
         ON CONFLICT (workspace, cluster, kind, outcome) DO UPDATE SET count = excluded.count, bytes = excluded.bytes,
           gb_seconds = excluded.gb_seconds, saved_ms = excluded.saved_ms`,
      )
      .bind(workspace, cluster, JSON.stringify(totals)),
  ]);
}

// Outcomes of one cluster: written once each, summed, and flushed in batches: to D1, where people read them, and to the
// GraphWriter, which learns from them. A flush is harmless when repeated: in D1 outcomes have their key and totals are absolute, and the
// GraphWriter takes each sequence number once.
import type { Outcome, OutcomeTotal } from "../../protocol.ts";
import { EVENT_SQL, eventText, type OutcomeKey } from "../event-log.ts";
import { type HourRow, OutcomeHours } from "./outcome-hours.ts";

/** Outcomes of one flush: one JSON parameter of some hundred kB. */
const FLUSH_ROWS_MAX = 1_000;

/** Who learns from outcomes. In: a batch in order of their sequence. Throws where it is away. */
export type Teach = (outcomes: { seq: number; outcome: Outcome }[]) => Promise<void>;

export class OutcomeBook {
  readonly #sql: SqlStorage;
  readonly #hours: OutcomeHours;
  #unflushed: number;
  #lastSeq: number;
  #flushing: Promise<number> = Promise.resolve(0);

  constructor(sql: SqlStorage) {
    this.#sql = sql;
    this.#hours = new OutcomeHours(sql);
    this.#unflushed = this.#countUnflushed();
    this.#lastSeq = sql.exec<{ seq: number | null }>("SELECT max(seq) AS seq FROM outcomes").one().seq ?? 0;
  }

  get unflushed(): number {
    return this.#unflushed;
  }

  /** False if this outcome is known already. */
  write(outcome: Outcome): boolean {
    // Never below the time: so it rises even after all outcomes were pruned.
    const seq = Math.max(this.#lastSeq + 1, Date.now());
    const { rowsWritten } = this.#sql.exec(
      "INSERT INTO outcomes (outcome_id, at_ms, outcome, flushed, seq) VALUES (?, ?, ?, 0, ?) ON CONFLICT DO NOTHING",
      outcome.outcomeId,
      Math.round(outcome.atMs),
      JSON.stringify(outcome),
      seq,
    );
    if (rowsWritten === 0) return false;
    this.#lastSeq = seq;
    this.#sql.exec(
      `INSERT INTO outcome_totals (kind, outcome, count, unsent, bytes, gb_seconds, saved_ms) VALUES (?, ?, 1, ?, ?, ?, ?)
       ON CONFLICT (kind, outcome) DO UPDATE SET count = count + 1, unsent = unsent + excluded.unsent,
         bytes = bytes + excluded.bytes, gb_seconds = gb_seconds + excluded.gb_seconds,
         saved_ms = saved_ms + excluded.saved_ms`,
      outcome.kind,
      outcome.outcome,
      outcome.unsent ? 1 : 0,
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
        unsent: number;
        bytes: number;
        gb_seconds: number;
        saved_ms: number;
      }>("SELECT kind, outcome, count, unsent, bytes, gb_seconds, saved_ms FROM outcome_totals")
      .toArray()
      .map(({ gb_seconds: gbSeconds, saved_ms: savedMs, ...total }) => ({ ...total, gbSeconds, savedMs }));
  }

  /** Brings what D1 and the GraphWriter do not have yet to them; returns how many outcomes that were. One flush after the other. */
  flush(db: D1Database, workspace: string, cluster: string, teach: Teach): Promise<number> {
    this.#flushing = this.#flushing.catch(() => 0).then(() => this.#flush(db, workspace, cluster, teach));
    return this.#flushing;
  }

  async #flush(db: D1Database, workspace: string, cluster: string, teach: Teach): Promise<number> {
    let flushed = 0;
    while (this.#unflushed > 0) {
      const rows = this.#sql
        .exec<{ outcome_id: string; outcome: string; flushed: number; seq: number }>(
          "SELECT outcome_id, outcome, flushed, seq FROM outcomes WHERE flushed < 2 ORDER BY seq LIMIT ?",
          FLUSH_ROWS_MAX,
        )
        .toArray();
      const texts = rows.filter((row) => row.flushed === 0).map((row) => row.outcome);
      const fresh = texts.map((text) => JSON.parse(text) as Outcome);
      const hours = this.#hours.with(fresh);
      if (fresh.length > 0) {
        const told = fresh.map(({ atMs, outcomeId }): OutcomeKey => [Math.round(atMs), outcomeId]);
        const news = db.prepare(EVENT_SQL.outcome).bind(eventText(told, Date.now()), workspace);
        await db.batch([news, ...writesOf(db, workspace, cluster, `[${texts.join(",")}]`, this.totals(), hours)]);
      }
      let taught = false;
      try {
        await teach(rows.map(({ seq, outcome }) => ({ seq, outcome: JSON.parse(outcome) as Outcome })));
        taught = true;
      } finally {
        // Together: sums that are kept and outcomes that are not marked would be summed again. A crash before it loses neither.
        this.#hours.keep(hours);
        this.#mark(
          rows.map((row) => row.outcome_id),
          taught ? 2 : 1,
        );
      }
      flushed += rows.length;
    }
    return flushed;
  }

  /** By id: others may have been written while D1 was busy. */
  #mark(outcomeIds: string[], flushed: number): void {
    this.#sql.exec(
      "UPDATE outcomes SET flushed = ? WHERE flushed < ? AND outcome_id IN (SELECT value FROM json_each(?))",
      flushed,
      flushed,
      JSON.stringify(outcomeIds),
    );
    this.#unflushed = this.#countUnflushed();
  }

  #countUnflushed(): number {
    return this.#sql.exec<{ n: number }>("SELECT count(*) AS n FROM outcomes WHERE flushed < 2").one().n;
  }

  /** A repeated report older than this is taken for a new one; agents give up on reports long before. */
  prune(beforeMs: number): void {
    this.#hours.prune(beforeMs);
    this.#sql.exec("DELETE FROM outcomes WHERE flushed = 2 AND at_ms < ?", beforeMs);
  }
}

function writesOf(
  db: D1Database,
  workspace: string,
  cluster: string,
  outcomes: string,
  totals: OutcomeTotal[],
  hours: HourRow[],
): D1PreparedStatement[] {
  return [
    db
      .prepare(
        `INSERT INTO outcomes (workspace, at_ms, outcome_id, command_id, kind, outcome, cluster, vm, task, uri, run_id,
           execution_id, saved_ms, bytes, gb_seconds, reason, probability, whole_start_ms, foretold, context, chain, unsent)
         SELECT ?1, CAST(round(value ->> 'atMs') AS INTEGER), value ->> 'outcomeId', value ->> 'commandId',
           value ->> 'kind', value ->> 'outcome', value ->> 'cluster', value ->> 'vm', value ->> 'task', value ->> 'uri',
           value ->> 'runId', value ->> 'executionId', CAST(value ->> 'savedMs' AS REAL),
           CAST(value ->> 'bytes' AS INTEGER), CAST(value ->> 'gbSeconds' AS REAL), value ->> 'reason',
           CAST(value ->> 'probability' AS REAL), CAST(value ->> 'wholeStartMs' AS REAL),
           CAST(value ->> 'foretold' AS REAL), value ->> 'context', value ->> 'chain', coalesce(value ->> 'unsent', 0)
         FROM json_each(?2) WHERE true
         ON CONFLICT DO NOTHING`,
      )
      .bind(workspace, outcomes),
    db
      .prepare(
        `INSERT INTO outcome_totals (workspace, cluster, kind, outcome, count, unsent, bytes, gb_seconds, saved_ms)
         SELECT ?1, ?2, value ->> 'kind', value ->> 'outcome', value ->> 'count', value ->> 'unsent',
           CAST(value ->> 'bytes' AS INTEGER), CAST(value ->> 'gbSeconds' AS REAL), CAST(value ->> 'savedMs' AS REAL)
         FROM json_each(?3) WHERE true
         ON CONFLICT (workspace, cluster, kind, outcome) DO UPDATE SET count = excluded.count,
           unsent = excluded.unsent, bytes = excluded.bytes, gb_seconds = excluded.gb_seconds, saved_ms = excluded.saved_ms`,
      )
      .bind(workspace, cluster, JSON.stringify(totals)),
    db
      .prepare(
        `INSERT INTO outcome_hours (workspace, hour, cluster, task, chain, kind, outcome, count, unsent, bytes, gb_seconds, saved_ms)
         SELECT ?1, value ->> 'hour', ?2, value ->> 'task', value ->> 'chain', value ->> 'kind', value ->> 'outcome',
           value ->> 'count', value ->> 'unsent', CAST(value ->> 'bytes' AS INTEGER), CAST(value ->> 'gb_seconds' AS REAL),
           CAST(value ->> 'saved_ms' AS REAL)
         FROM json_each(?3) WHERE true
         ON CONFLICT (workspace, hour, cluster, task, chain, kind, outcome) DO UPDATE SET count = excluded.count,
           unsent = excluded.unsent, bytes = excluded.bytes, gb_seconds = excluded.gb_seconds, saved_ms = excluded.saved_ms`,
      )
      .bind(workspace, cluster, JSON.stringify(hours)),
  ];
}

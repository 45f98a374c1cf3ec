// Outcomes of one cluster summed by hour, task, chain, kind and outcome. In: the outcomes that a flush brings to D1. Out: the sums as they
// will be once it has: absolute, so that writing them twice is harmless. They are kept here only when D1 has taken them.
import { hourOf } from "../../core/hour.ts";
import type { Outcome } from "../../protocol.ts";

/** Rows of one hour: beyond, chains are no longer told apart, and then tasks. */
const ROWS_PER_HOUR_MAX = 2_000;
/** Longer chains are counted as unknown, characters of JSON. */
const CHAIN_CHARACTERS_MAX = 1_000;
/** Outcomes are told late by an hour at most; rows older than this cannot change, hours. */
const KEPT_HOURS = 48;

export interface HourRow extends Record<string, SqlStorageValue> {
  hour: number;
  task: string;
  chain: string;
  kind: Outcome["kind"];
  outcome: Outcome["outcome"];
  count: number;
  unsent: number;
  bytes: number;
  gb_seconds: number;
  saved_ms: number;
}

export class OutcomeHours {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  with(outcomes: Outcome[]): HourRow[] {
    const rows = new Map<string, HourRow>();
    const sizes = new Map<number, number>();
    for (const outcome of outcomes) {
      const hour = hourOf(outcome.atMs);
      const size = sizes.get(hour) ?? this.#sizeOf(hour);
      const isFull = size >= ROWS_PER_HOUR_MAX;
      const chain = isFull || outcome.chain === null ? "" : JSON.stringify(outcome.chain);
      const name = {
        hour,
        task: size >= 2 * ROWS_PER_HOUR_MAX ? "" : (outcome.task ?? ""),
        chain: chain.length > CHAIN_CHARACTERS_MAX ? "" : chain,
        kind: outcome.kind,
        outcome: outcome.outcome,
      };
      const key = JSON.stringify(Object.values(name));
      let row = rows.get(key);
      if (row === undefined) {
        const stored = this.#stored(name);
        sizes.set(hour, size + (stored === null ? 1 : 0));
        row = stored ?? { ...name, count: 0, unsent: 0, bytes: 0, gb_seconds: 0, saved_ms: 0 };
        rows.set(key, row);
      }
      row.count++;
      row.unsent += outcome.unsent ? 1 : 0;
      row.bytes += Math.round(outcome.bytes);
      row.gb_seconds += outcome.gbSeconds;
      row.saved_ms += outcome.savedMs;
    }
    return [...rows.values()];
  }

  keep(rows: HourRow[]): void {
    for (const { hour, task, chain, kind, outcome, count, unsent, bytes, gb_seconds, saved_ms } of rows) {
      this.#sql.exec(
        `INSERT INTO outcome_hours (hour, task, chain, kind, outcome, count, unsent, bytes, gb_seconds, saved_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (hour, task, chain, kind, outcome) DO UPDATE SET count = excluded.count,
           unsent = excluded.unsent, bytes = excluded.bytes, gb_seconds = excluded.gb_seconds, saved_ms = excluded.saved_ms`,
        ...[hour, task, chain, kind, outcome, count, unsent, bytes, gb_seconds, saved_ms],
      );
    }
  }

  prune(nowMs: number): void {
    this.#sql.exec("DELETE FROM outcome_hours WHERE hour < ?", hourOf(nowMs) - KEPT_HOURS);
  }

  #sizeOf(hour: number): number {
    return this.#sql.exec<{ n: number }>("SELECT count(*) AS n FROM outcome_hours WHERE hour = ?", hour).one().n;
  }

  #stored(name: Pick<HourRow, "hour" | "task" | "chain" | "kind" | "outcome">): HourRow | null {
    const { hour, task, chain, kind, outcome } = name;
    const query = "SELECT * FROM outcome_hours WHERE hour = ? AND task = ? AND chain = ? AND kind = ? AND outcome = ?";
    return this.#sql.exec<HourRow>(query, hour, task, chain, kind, outcome).toArray()[0] ?? null;
  }
}

// What preparations have cost in this hour: bytes loaded, memory held for time. In: results and ends as agents report them.
// Out: whether there is budget for more. The operator's budgets are the workspace's, so what other clusters have spent counts.

import type { z } from "zod";
import { hourOf } from "../../core/hour.ts";
import type { Budgets } from "../../protocol.ts";

const BYTES_PER_GB = 2 ** 30;

export interface Spent {
  inFlight: number;
  bytes: number;
  gbSeconds: number;
}

export const NOTHING_SPENT: Spent = { inFlight: 0, bytes: 0, gbSeconds: 0 };

export class HourlySpending {
  readonly #sql: SqlStorage;
  #hour: number;
  #bytes = 0;
  #gbSeconds = 0;

  constructor(sql: SqlStorage, nowMs: number) {
    this.#sql = sql;
    this.#hour = hourOf(nowMs);
    const [row] = sql
      .exec<{ bytes: number; gb_seconds: number }>("SELECT bytes, gb_seconds FROM spending WHERE hour = ?", this.#hour)
      .toArray();
    if (row) [this.#bytes, this.#gbSeconds] = [row.bytes, row.gb_seconds];
  }

  /** Bytes that a prefetch loaded, or memory (bytes) that was held for some ms. */
  add(spent: { bytes: number } | { memoryBytes: number; heldMs: number }, nowMs: number): void {
    this.#turn(nowMs);
    if ("bytes" in spent) this.#bytes += spent.bytes;
    else this.#gbSeconds += (spent.memoryBytes / BYTES_PER_GB) * (spent.heldMs / 1000);
    this.#sql.exec(
      `INSERT INTO spending (hour, bytes, gb_seconds) VALUES (?, ?, ?)
       ON CONFLICT (hour) DO UPDATE SET bytes = excluded.bytes, gb_seconds = excluded.gb_seconds`,
      this.#hour,
      Math.round(this.#bytes),
      this.#gbSeconds,
    );
  }

  current(nowMs: number): { bytes: number; gbSeconds: number } {
    this.#turn(nowMs);
    return { bytes: this.#bytes, gbSeconds: this.#gbSeconds };
  }

  #turn(nowMs: number): void {
    const hour = hourOf(nowMs);
    if (hour === this.#hour) return;
    [this.#hour, this.#bytes, this.#gbSeconds] = [hour, 0, 0];
    this.#sql.exec("DELETE FROM spending WHERE hour < ?", hour);
  }
}

/** Why one more command is beyond the budgets; null if it is not. `bytes` is what it is expected to load. */
export function overBudget(
  budgets: z.infer<typeof Budgets>,
  spent: Spent,
  command: { kind: string; bytes: number | null },
): string | null {
  if (spent.inFlight >= budgets.inFlightCommands) return `budget of ${budgets.inFlightCommands} commands in flight`;
  if (command.kind === "prefetch" && spent.bytes + (command.bytes ?? 0) > budgets.prefetchBytesPerHour)
    return `budget of ${budgets.prefetchBytesPerHour} bytes per hour`;
  if (command.kind === "warm" && spent.gbSeconds >= budgets.warmGbSecondsPerHour)
    return `budget of ${budgets.warmGbSecondsPerHour} GB·s per hour`;
  return null;
}

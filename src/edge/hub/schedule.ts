// When something of a hub's queue has to be looked at. In: the commands as the queue keeps them (queue.ts). Out: instants, and what is due at one.
// Nothing is changed here.
import type { Calls } from "./calls.ts";
import type { CommandRow } from "./command-row.ts";

/** Ready, expired, and no word from the agent for this long: waste. An object may lie in a cache for long and still be used, ms. */
export const SILENT_AFTER_MS = { warm: 30_000, prefetch: 3_600_000 } as const;
/** Of one look. */
const SILENT_MAX = 500;

export class Schedule {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  /** The earliest of all: what is due after `afterMs`, a lease, an expiry, a silence. Infinity: never. */
  nextMs(calls: Calls, afterMs?: number): number {
    const earliest = (column: string, where: string) => {
      const { at } = this.#sql
        .exec<{ at: number | null }>(`SELECT min(${column}) AS at FROM commands WHERE ${where}`)
        .one();
      return at ?? Number.POSITIVE_INFINITY;
    };
    const readyUntilMs = (kind: keyof typeof SILENT_AFTER_MS) =>
      earliest("expires_ms", `settled = 0 AND state = 'done' AND kind = '${kind}'`);
    return Math.min(
      calls.nextSilentMs(),
      this.nextDueMs(null, afterMs) ?? Number.POSITIVE_INFINITY,
      earliest("lease_expires_ms", "state = 'leased'"),
      earliest("expires_ms", "settled = 0 AND state = 'queued'"),
      readyUntilMs("warm") + SILENT_AFTER_MS.warm,
      readyUntilMs("prefetch") + SILENT_AFTER_MS.prefetch,
    );
  }

  /**
   * When the next queued command of a VM (null: of any) becomes due, of those that were not by `afterMs`; null if there is none.
   * (What was due and is queued still waits for its agent, not for a time.)
   */
  nextDueMs(vm: string | null, afterMs = -1): number | null {
    const query = "SELECT min(not_before_ms) AS at FROM commands WHERE state = 'queued' AND not_before_ms > ?";
    const cursor =
      vm === null
        ? this.#sql.exec<{ at: number | null }>(query, afterMs)
        : this.#sql.exec<{ at: number | null }>(`${query} AND vm = ?`, afterMs, vm);
    return cursor.one().at;
  }

  /** VMs on which something is due now. */
  dueVms(nowMs: number): string[] {
    return this.#sql
      .exec<{ vm: string }>(
        "SELECT DISTINCT vm FROM commands WHERE state = 'queued' AND not_before_ms <= ? AND expires_ms > ?",
        nowMs,
        nowMs,
      )
      .toArray()
      .map(({ vm }) => vm);
  }

  /** Done, and long past their expiry without any word of use or end. */
  silentlyEnded(kind: keyof typeof SILENT_AFTER_MS, nowMs: number): CommandRow[] {
    return this.#sql
      .exec<CommandRow>(
        "SELECT * FROM commands WHERE settled = 0 AND expires_ms <= ? AND state = 'done' AND kind = ? LIMIT ?",
        nowMs - SILENT_AFTER_MS[kind],
        kind,
        SILENT_MAX,
      )
      .toArray();
  }
}

// Allocations that nothing was suitable for. In: the request, when it was refused. Out: its allocation as soon as capacity
// appears, for whoever waits with `GET /v1/allocations/:id?waitMs=`; or its expiry. Lives in Fleet, which hears of all capacity.
import type { TaskRequest } from "../../core/pipeline.ts";
import type { AllocationRecord } from "../../protocol.ts";

/** A caller that has not been served by then has given up, ms. */
const PENDING_MS = 600_000;
/** Requests that wait, per workspace; beyond, the oldest expires at once. */
const PENDING_MAX = 1_000;
/** Filled and expired ones are told this long, ms; then D1 tells them. */
const TOLD_MS = 60_000;

export interface PendingRequest {
  request: TaskRequest;
  record: AllocationRecord;
}

interface Row extends Record<string, SqlStorageValue> {
  allocation_id: string;
  request: string;
  record: string;
}

export class Pending {
  readonly #sql: SqlStorage;
  readonly #waiting = new Map<string, Set<() => void>>();
  #size: number;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
    sql.exec(`
      CREATE TABLE IF NOT EXISTS pending (
        allocation_id TEXT NOT NULL PRIMARY KEY, -- begins with its time
        request TEXT NOT NULL, -- JSON, core/pipeline.ts TaskRequest
        record TEXT NOT NULL, -- JSON, protocol.ts AllocationRecord
        state TEXT NOT NULL,
        until_ms INTEGER NOT NULL -- pending: when it expires; else: when it is forgotten here
      ) STRICT, WITHOUT ROWID;
      CREATE INDEX IF NOT EXISTS pending_by_state ON pending (state, allocation_id);
    `);
    this.#size = this.#count();
  }

  /** Requests that wait now. */
  get size(): number {
    return this.#size;
  }

  /** Returns the records that gave way. */
  add({ request, record }: PendingRequest, nowMs: number): AllocationRecord[] {
    this.#sql.exec(
      "INSERT INTO pending (allocation_id, request, record, state, until_ms) VALUES (?, ?, ?, 'pending', ?) ON CONFLICT DO NOTHING",
      record.allocationId,
      JSON.stringify(request),
      JSON.stringify(record),
      nowMs + PENDING_MS,
    );
    this.#size = this.#count();
    return this.#size > PENDING_MAX ? this.#expireRows(this.oldest(this.#size - PENDING_MAX), nowMs) : [];
  }

  oldest(limit: number): PendingRequest[] {
    return this.#sql
      .exec<Row>("SELECT * FROM pending WHERE state = 'pending' ORDER BY allocation_id LIMIT ?", limit)
      .toArray()
      .map((row) => ({
        request: JSON.parse(row.request) as TaskRequest,
        record: JSON.parse(row.record) as AllocationRecord,
      }));
  }

  /** It was allocated, or it expired: whoever waits for it hears of it. */
  settle(record: AllocationRecord, nowMs: number): void {
    this.#sql.exec(
      "UPDATE pending SET state = ?, record = ?, until_ms = ? WHERE allocation_id = ?",
      record.state,
      JSON.stringify(record),
      nowMs + TOLD_MS,
      record.allocationId,
    );
    this.#size = this.#count();
    for (const wake of this.#waiting.get(record.allocationId) ?? []) wake();
  }

  /** Null where it is not known here (any more). Waits while it is pending, for `waitMs` at most. */
  async tell(allocationId: string, waitMs: number): Promise<AllocationRecord | null> {
    const record = this.#get(allocationId);
    if (record?.state !== "pending" || waitMs <= 0) return record;
    const waiting = this.#waiting.get(allocationId) ?? new Set();
    this.#waiting.set(allocationId, waiting);
    await new Promise<void>((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        waiting.delete(wake);
        if (waiting.size === 0) this.#waiting.delete(allocationId);
        resolve();
      };
      const timer = setTimeout(wake, waitMs);
      waiting.add(wake);
    });
    return this.#get(allocationId);
  }

  /** Expires what waited too long, forgets what was told long enough. Returns what expired. */
  expire(nowMs: number): AllocationRecord[] {
    this.#sql.exec("DELETE FROM pending WHERE state <> 'pending' AND until_ms <= ?", nowMs);
    const rows = this.#sql
      .exec<Row>("SELECT * FROM pending WHERE state = 'pending' AND until_ms <= ?", nowMs)
      .toArray()
      .map((row) => ({ record: JSON.parse(row.record) as AllocationRecord }));
    return this.#expireRows(rows, nowMs);
  }

  nextMs(): number | null {
    return this.#sql.exec<{ at: number | null }>("SELECT min(until_ms) AS at FROM pending").one().at;
  }

  #expireRows(rows: { record: AllocationRecord }[], nowMs: number): AllocationRecord[] {
    const expired = rows.map(({ record }): AllocationRecord => ({ ...record, state: "expired" }));
    for (const record of expired) this.settle(record, nowMs);
    return expired;
  }

  #get(allocationId: string): AllocationRecord | null {
    const [row] = this.#sql
      .exec<{ record: string }>("SELECT record FROM pending WHERE allocation_id = ?", allocationId)
      .toArray();
    return row ? (JSON.parse(row.record) as AllocationRecord) : null;
  }

  #count(): number {
    return this.#sql.exec<{ n: number }>("SELECT count(*) AS n FROM pending WHERE state = 'pending'").one().n;
  }
}

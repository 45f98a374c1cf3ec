// The one alarm that a Durable Object has. In: instants at which something will be due. Out: an alarm for the earliest of them.
// An alarm that comes too early only looks and sets the next one; so it is moved only when it would be too late.
import type { Calls } from "./calls.ts";
import type { CommandQueue } from "./queue.ts";

/** Ready, expired, and no word from the agent for this long: waste. An object may lie in a cache for long and still be used, ms. */
export const SILENT_AFTER_MS = { warm: 30_000, prefetch: 3_600_000 } as const;

export class HubAlarm {
  readonly #storage: DurableObjectStorage;
  #atMs: number | null = null;

  constructor(storage: DurableObjectStorage) {
    this.#storage = storage;
  }

  by(dueMs: number): void {
    if (dueMs === Number.POSITIVE_INFINITY || (this.#atMs !== null && this.#atMs <= dueMs)) return;
    this.#atMs = dueMs;
    // Not awaited: the output gate holds every answer until it is stored.
    void this.#storage.setAlarm(dueMs);
  }

  fired(): void {
    this.#atMs = null;
  }
}

/** When something of the queue has to be looked at: what is due after `afterMs`, a lease, an expiry, a silence. Infinity: never. */
export function nextDueMs(queue: CommandQueue, calls: Calls, afterMs?: number): number {
  const { leaseMs, expiryMs, warmMs, prefetchMs } = queue.nextInstants();
  return Math.min(
    calls.nextSilentMs(),
    queue.nextDueMs(null, afterMs) ?? Number.POSITIVE_INFINITY,
    leaseMs ?? Number.POSITIVE_INFINITY,
    expiryMs ?? Number.POSITIVE_INFINITY,
    (warmMs ?? Number.POSITIVE_INFINITY) + SILENT_AFTER_MS.warm,
    (prefetchMs ?? Number.POSITIVE_INFINITY) + SILENT_AFTER_MS.prefetch,
  );
}

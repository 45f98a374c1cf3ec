// Things to tell the Worker, in order, until it has accepted them. In: items. Out: batches given to `send`, one at a time,
// soon after the first item and again, after a growing and jittered pause, while it fails. Bounded: beyond `itemsMax` the
// oldest go, counted.
import { delay } from "./transfer.ts";

export type Sent = { ok: true } | { ok: false; retry: boolean; detail: string };

interface OutboxOptions<Item> {
  /** Collects what comes within it into one batch. */
  lingerMs: number;
  batchMax: number;
  /** Bounds a batch in bytes too; one item always goes. */
  batchBytesMax?: number;
  bytesOf?(item: Item): number;
  /** Ends the lingering: somebody acts on it at once. */
  isUrgent?(item: Item): boolean;
  itemsMax: number;
  /** `retry` false: these will never be accepted. */
  send(items: Item[]): Promise<Sent>;
  onDropped(items: Item[], detail: string): void;
  random?: () => number;
}

const RETRY_MS_FIRST = 200;
export const RETRY_MS_MAX = 15_000;

/** Full jitter: agents that lost the same Worker must not come back together. */
export function backoffMs(failures: number, random: () => number): number {
  return Math.min(RETRY_MS_MAX, RETRY_MS_FIRST * 2 ** Math.min(failures, 16)) * (0.5 + random() / 2);
}

export class Outbox<Item> {
  readonly #options: OutboxOptions<Item>;
  #items: Item[] = [];
  #running: Promise<void> | null = null;
  readonly #hurry = new AbortController();
  #lingering = new AbortController();

  constructor(options: OutboxOptions<Item>) {
    this.#options = options;
  }

  size(): number {
    return this.#items.length;
  }

  add(...items: Item[]): void {
    this.#items.push(...items);
    const surplus = this.#items.length - this.#options.itemsMax;
    if (surplus > 0)
      this.#options.onDropped(this.#items.splice(0, surplus), `more than ${this.#options.itemsMax} wait`);
    this.#begin();
    if (this.#options.isUrgent !== undefined && items.some(this.#options.isUrgent)) this.#lingering.abort();
  }

  /** At a stop: no more lingering; resolves when all is sent, or when `signal` aborts. */
  async flush(signal: AbortSignal): Promise<void> {
    this.#hurry.abort();
    const aborted = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    await Promise.race([this.#running, aborted]);
  }

  #begin(): void {
    this.#running ??= this.#run().finally(() => {
      this.#running = null;
      // Something may have come between the last look and this.
      if (this.#items.length > 0) this.#begin();
    });
  }

  async #run(): Promise<void> {
    this.#lingering = new AbortController();
    await delay(this.#options.lingerMs, AbortSignal.any([this.#hurry.signal, this.#lingering.signal]));
    for (let failures = 0; this.#items.length > 0; ) {
      const batch = this.#nextBatch();
      const sent = await this.#options.send(batch);
      if (!sent.ok && sent.retry) {
        await delay(backoffMs(failures++, this.#options.random ?? Math.random));
        continue;
      }
      failures = 0;
      // The oldest may have been dropped meanwhile: remove what was sent by identity.
      const gone = new Set(batch);
      this.#items = this.#items.filter((item) => !gone.has(item));
      if (!sent.ok) this.#options.onDropped(batch, sent.detail);
    }
  }

  #nextBatch(): Item[] {
    const { batchMax, batchBytesMax = Number.POSITIVE_INFINITY, bytesOf } = this.#options;
    const batch = this.#items.slice(0, batchMax);
    if (bytesOf === undefined) return batch;
    let bytes = 0;
    const cut = batch.findIndex((item) => {
      bytes += bytesOf(item);
      return bytes > batchBytesMax;
    });
    return cut < 0 ? batch : batch.slice(0, Math.max(1, cut));
  }
}

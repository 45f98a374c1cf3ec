// The VM's cache and its link to the store. In: objects that executions read, and prefetches. Out: when each is there, and bytes that
// close: fetched = asked for by an execution + prefetched and used + wasted. Transfers share nothing: each has the whole bandwidth.
import type { Accounts } from "./accounting.ts";

interface Entry {
  bytes: number;
  readyMs: number;
  isPrefetched: boolean;
  isUsed: boolean;
}

/** What the VM keeps, least recently used first to go, bytes. */
const CACHE_BYTES = 4 * 2 ** 30;

export class Cache {
  readonly #entries = new Map<number, Entry>();
  readonly #accounts: Accounts;
  readonly #bytesPerMs: number;
  #bytes = 0;

  constructor(accounts: Accounts, bytesPerSecond: number) {
    this.#accounts = accounts;
    this.#bytesPerMs = bytesPerSecond / 1000;
  }

  has(key: number): boolean {
    return this.#entries.has(key);
  }

  /** An execution reads an object from `atMs` on; returns when it has it, ms. */
  read(key: number, bytes: number, atMs: number): number {
    const known = this.#entries.get(key);
    if (known !== undefined) {
      this.#entries.delete(key);
      this.#entries.set(key, known);
      if (known.isPrefetched && !known.isUsed) this.#accounts.usedPrefetchBytes += known.bytes;
      known.isUsed = true;
      return Math.max(atMs, known.readyMs);
    }
    const readyMs = atMs + bytes / this.#bytesPerMs;
    this.#accounts.demandBytes += bytes;
    this.#add(key, { bytes, readyMs, isPrefetched: false, isUsed: true });
    return readyMs;
  }

  prefetch(key: number, bytes: number, nowMs: number): void {
    if (this.#entries.has(key)) return;
    this.#accounts.prefetchBytes += bytes;
    this.#add(key, { bytes, readyMs: nowMs + bytes / this.#bytesPerMs, isPrefetched: true, isUsed: false });
  }

  drop(key: number): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#bytes -= entry.bytes;
    if (entry.isPrefetched && !entry.isUsed) this.#accounts.wastedBytes += entry.bytes;
  }

  /** The end of the simulation: what was never used is wasted. */
  close(): void {
    for (const key of [...this.#entries.keys()]) this.drop(key);
  }

  #add(key: number, entry: Entry): void {
    this.#accounts.fetchedBytes += entry.bytes;
    this.#entries.set(key, entry);
    this.#bytes += entry.bytes;
    for (const [oldest] of this.#entries) {
      if (this.#bytes <= CACHE_BYTES || oldest === key) break;
      this.drop(oldest);
    }
  }
}

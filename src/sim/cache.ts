// The VM's cache and its link to the store. In: objects that executions read, and prefetches. Out: when each is there, and bytes that
// close: fetched = asked for by an execution + prefetched and used + wasted. Transfers share nothing: each has the whole bandwidth.
import type { Accounts } from "./accounting.ts";

interface Entry {
  bytes: number;
  readyMs: number;
  isPrefetched: boolean;
  isUsed: boolean;
  /** Until then no prefetch takes its place, while it was not used. */
  heldUntilMs: number;
}

/** What the VM keeps, least recently used first to go, bytes. */
const CACHE_BYTES = 4 * 2 ** 30;
/** A command holds what it brought about so long (policy `holdMs`), ms. */
const HELD_MS = 60_000;

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
    this.#makeRoom(bytes, Number.POSITIVE_INFINITY);
    this.#add(key, { bytes, readyMs, isPrefetched: false, isUsed: true, heldUntilMs: 0 });
    return readyMs;
  }

  prefetch(key: number, bytes: number, nowMs: number): void {
    if (this.#entries.has(key) || !this.#makeRoom(bytes, nowMs)) return;
    this.#accounts.prefetchBytes += bytes;
    const readyMs = nowMs + bytes / this.#bytesPerMs;
    this.#add(key, {
      bytes,
      readyMs,
      isPrefetched: true,
      isUsed: false,
      heldUntilMs: Math.max(nowMs, readyMs) + HELD_MS,
    });
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
  }

  /** As the agent's cache: what an execution reads has its room, a prefetch none of what others have brought and nobody has read yet. */
  #makeRoom(bytes: number, prefetchMs: number): boolean {
    const victims: number[] = [];
    let overBytes = this.#bytes + bytes - CACHE_BYTES;
    for (const [key, entry] of this.#entries) {
      if (overBytes <= 0) break;
      if (!entry.isUsed && entry.heldUntilMs > prefetchMs) continue;
      victims.push(key);
      overBytes -= entry.bytes;
    }
    // One that is larger than the cache is read all the same, past it.
    if (overBytes > 0 && Number.isFinite(prefetchMs)) return false;
    for (const key of victims) this.drop(key);
    return true;
  }
}

// One download under way and those who wait for it. In: who asks, each as they come. Out: whether a task waits (no more holding back),
// and whether to go on at all: a prefetch ends when the last command that wants it is over, unless a task has come for it, for a store
// that sends just enough would keep one of the few places of prefetches for ever.
import type { CacheEntry } from "./eviction.ts";
import { type LoadReason, Refused, type Want } from "./object-store.ts";
import { TIMER_MS_MAX } from "./transfer.ts";

export type Settled = { ok: true; entry: CacheEntry } | { ok: false; reason: LoadReason; detail: string };

export const NOT_WANTED = "whoever wanted it no longer does";

export class Flight {
  /** Calls that wait for it. The new entry stays pinned until the last of them has its own pin. */
  waiting = 0;
  done!: Promise<Settled>;
  readonly #urgent = new AbortController();
  readonly #over = new AbortController();
  readonly #nowMs: () => number;
  /** Aborts when the download is to end early: nobody wants it any more, or the agent stops. */
  readonly ending: AbortSignal;
  /** Aborts when there is no reason (any more) to hold it back. */
  readonly free: AbortSignal;
  #wantedUntilMs = 0;
  #timer: NodeJS.Timeout | null = null;

  constructor(want: Want, stopping: AbortSignal, nowMs: () => number) {
    this.#nowMs = nowMs;
    this.ending = AbortSignal.any([stopping, this.#over.signal]);
    this.free = AbortSignal.any([this.ending, this.#urgent.signal]);
    this.join(want);
  }

  get isUrgent(): boolean {
    return this.#urgent.signal.aborted;
  }

  join(want: Want): void {
    if (want.by === "task") this.#urgent.abort();
    else this.#wantedUntilMs = Math.max(this.#wantedUntilMs, want.holdUntilMs);
    this.#watch();
  }

  mustGoOn(): void {
    if (this.ending.aborted) throw new Refused("expired", NOT_WANTED);
  }

  /** The download has ended. */
  close(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  #watch(): void {
    this.close();
    if (this.isUrgent) return;
    const leftMs = this.#wantedUntilMs - this.#nowMs();
    if (leftMs <= 0) this.#over.abort();
    else this.#timer = setTimeout(() => this.#watch(), Math.min(leftMs, TIMER_MS_MAX));
  }
}

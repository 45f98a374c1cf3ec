// Who may move bytes now. A task's own load always may. Prefetches share a bandwidth cap, run a few at a time, and stand still
// while a task loads: they hold their connection and simply read no further.
//
// The cap is a token bucket: `#earnedMs` is the instant up to which bandwidth has been spent.

/** Burst after idleness: a small object then passes at full speed. */
const BURST_MS = 50;
/** A prefetch that stood still for so long gets one chunk through, or its store would hang up. */
const STANDSTILL_MS_MAX = 5_000;

export class Transfers {
  readonly #bytesPerSecond: number | null;
  readonly #concurrency: number;
  readonly #nowMs: () => number;
  #taskLoads = 0;
  #prefetches = 0;
  #spentUntilMs = 0;
  /** Needed soonest first. */
  readonly #queue: { neededMs: number; start: () => void }[] = [];
  readonly #quiet = new Set<() => void>();

  constructor(bytesPerSecond: number | null, concurrency: number, nowMs: () => number) {
    this.#bytesPerSecond = bytesPerSecond;
    this.#concurrency = concurrency;
    this.#nowMs = nowMs;
  }

  taskLoadBegins(): void {
    this.#taskLoads++;
  }

  taskLoadEnds(): void {
    this.#taskLoads--;
    if (this.#taskLoads > 0) return;
    for (const wake of this.#quiet) wake();
    this.#quiet.clear();
  }

  /** Resolves when a prefetch may begin, the one that is needed soonest first; `signal` aborts the wait because a task has come for the same object. */
  async prefetchBegins(signal: AbortSignal, neededMs: number): Promise<void> {
    // One whose task has come already goes on at once, outside the limit; it is counted all the same, since its end is.
    if (signal.aborted || this.#prefetches < this.#concurrency) {
      this.#prefetches++;
      return;
    }
    await new Promise<void>((resolve) => {
      const waiter = {
        neededMs,
        start: () => {
          this.#prefetches++;
          resolve();
        },
      };
      this.#queue.push(waiter);
      this.#queue.sort((a, b) => a.neededMs - b.neededMs);
      signal.addEventListener(
        "abort",
        () => {
          const at = this.#queue.indexOf(waiter);
          if (at < 0) return; // it had begun before its task came, and is counted
          this.#queue.splice(at, 1);
          waiter.start();
        },
        { once: true },
      );
    });
  }

  prefetchEnds(): void {
    this.#prefetches--;
    if (this.#prefetches < this.#concurrency) this.#queue.shift()?.start();
  }

  /** Before each chunk of a prefetch. Returns the ms it was held; `signal` ends the hold (a task wants the object now). */
  async hold(bytes: number, signal: AbortSignal): Promise<number> {
    if (signal.aborted) return 0;
    const beganMs = this.#nowMs();
    if (this.#taskLoads > 0) await this.#untilQuiet(signal);
    if (this.#bytesPerSecond !== null && !signal.aborted) {
      const nowMs = this.#nowMs();
      this.#spentUntilMs = Math.max(this.#spentUntilMs, nowMs - BURST_MS) + (bytes / this.#bytesPerSecond) * 1000;
      if (this.#spentUntilMs > nowMs) await delay(this.#spentUntilMs - nowMs, signal);
    }
    return this.#nowMs() - beganMs;
  }

  async #untilQuiet(signal: AbortSignal): Promise<void> {
    let wake = () => {};
    const quiet = new Promise<void>((resolve) => {
      wake = resolve;
    });
    this.#quiet.add(wake);
    const waited = new AbortController();
    await Promise.race([quiet, delay(STANDSTILL_MS_MAX, AbortSignal.any([signal, waited.signal]))]);
    waited.abort();
    this.#quiet.delete(wake);
  }
}

/** A timer's largest value; one beyond it would fire at once. */
export const TIMER_MS_MAX = 2 ** 31 - 1;

/** Calls at an instant of the clock, however far it is. Returns how to take that back. */
export function callAt(instantMs: number, nowMs: () => number, call: () => void): () => void {
  const leftMs = instantMs - nowMs();
  let takeBack = () => {};
  const timer =
    leftMs > TIMER_MS_MAX
      ? setTimeout(() => {
          takeBack = callAt(instantMs, nowMs, call);
        }, TIMER_MS_MAX)
      : setTimeout(call, Math.max(0, leftMs));
  return () => {
    clearTimeout(timer);
    takeBack();
  };
}

/** Resolves after `ms` (at once, if that is past) or when `signal` aborts, whichever is first. */
export function delay(ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted || ms <= 0) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, Math.min(ms, TIMER_MS_MAX));
    signal?.addEventListener("abort", done, { once: true });
  });
}

// Accounting. In: what became of every instance, byte and run. Out: the numbers of one policy; the books must close:
// every GB·s that an instance existed is used (started for and by a request, or serving it), idle (held before or after a
// use) or wasted (started ahead and never used), and every byte loaded is used or wasted.

/** Relative difference between the sums that is rounding; more is a fault of the simulation. */
const CLOSING_TOLERANCE = 1e-6;
const BYTES_PER_GB = 2 ** 30;
/** A run is harmed when it ends later than the same run under the baseline by more than this, ms. */
export const HARM_MS = 1;

export class Accounts {
  /** End-to-end latency minus the same run with everything warm, ms, by run in order of arrival. */
  readonly overheadMs: Float64Array;
  executions = 0;
  coldExecutions = 0;
  laterExecutions = 0;
  coldLaterExecutions = 0;
  usedGbMs = 0;
  idleGbMs = 0;
  wastedGbMs = 0;
  /** Summed from births and deaths alone: what the three above have to add up to. */
  lifetimeGbMs = 0;
  fetchedBytes = 0;
  demandBytes = 0;
  prefetchBytes = 0;
  usedPrefetchBytes = 0;
  wastedBytes = 0;
  /** What executions waited for objects, ms, and what they would have waited without any prefetch. */
  fetchWaitMs = 0;
  decisions = 0;
  decisionMs = 0;

  constructor(runs: number) {
    this.overheadMs = new Float64Array(runs).fill(Number.NaN);
  }

  /** Throws when the books do not close: a programmer's error. */
  check(): void {
    const sum = this.usedGbMs + this.idleGbMs + this.wastedGbMs;
    if (Math.abs(sum - this.lifetimeGbMs) > CLOSING_TOLERANCE * Math.max(1, this.lifetimeGbMs)) {
      throw new Error(
        `GB·s do not close: used + idle + wasted is ${sum / 1000}, instances existed ${this.lifetimeGbMs / 1000}`,
      );
    }
    const bytes = this.demandBytes + this.usedPrefetchBytes + this.wastedBytes;
    if (Math.abs(bytes - this.fetchedBytes) > 0.5) {
      throw new Error(`bytes do not close: used + wasted is ${bytes}, fetched were ${this.fetchedBytes}`);
    }
    if (this.overheadMs.some(Number.isNaN)) throw new Error("a run never ended");
  }
}

export interface PolicyResult {
  name: string;
  dial: number;
  /** Share of executions that waited for a runtime to start, wholly or in part. */
  coldRate: number;
  /** The same among executions that are not the first of their run. */
  chainColdRate: number;
  overheadMs: { mean: number; p50: number; p95: number; p99: number };
  usedGbSeconds: number;
  /** Held before or after a use. */
  idleGbSeconds: number;
  /** Started ahead and never used. */
  wastedGbSeconds: number;
  prefetchBytes: number;
  wastedBytes: number;
  fetchWaitMs: number;
  /** Share of runs that end more than 1 ms later than under `fixed` 60 with the same arrivals. */
  harmedRuns: number;
  /** Mean time of one decision of the policy, µs of this machine. */
  decisionMicros: number;
}

export function resultOf(name: string, dial: number, accounts: Accounts, baseline: Accounts | null): PolicyResult {
  const sorted = accounts.overheadMs.toSorted();
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
  let harmed = 0;
  if (baseline !== null) {
    for (let r = 0; r < sorted.length; r++) {
      if (accounts.overheadMs[r]! > baseline.overheadMs[r]! + HARM_MS) harmed++;
    }
  }
  return {
    name,
    dial,
    coldRate: share(accounts.coldExecutions, accounts.executions),
    chainColdRate: share(accounts.coldLaterExecutions, accounts.laterExecutions),
    overheadMs: {
      mean: sorted.reduce((sum, ms) => sum + ms, 0) / Math.max(1, sorted.length),
      p50: at(0.5),
      p95: at(0.95),
      p99: at(0.99),
    },
    usedGbSeconds: accounts.usedGbMs / 1000,
    idleGbSeconds: accounts.idleGbMs / 1000,
    wastedGbSeconds: accounts.wastedGbMs / 1000,
    prefetchBytes: accounts.prefetchBytes,
    wastedBytes: accounts.wastedBytes,
    fetchWaitMs: accounts.fetchWaitMs,
    harmedRuns: share(harmed, sorted.length),
    decisionMicros: accounts.decisions === 0 ? 0 : (accounts.decisionMs * 1000) / accounts.decisions,
  };
}

function share(part: number, whole: number): number {
  return whole === 0 ? 0 : part / whole;
}

export function gigabytes(bytes: number): number {
  return bytes / BYTES_PER_GB;
}

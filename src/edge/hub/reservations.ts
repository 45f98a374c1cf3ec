// Reservations of one cluster: what is held for runs whose runtimes are not all there yet.
// One reservation per run: the run's next allocation replaces it, because what is left of the chain is smaller then.
// Sums are kept, not recomputed: an admission must not cost a scan. Expiry looks at buckets of one second that have begun.
export interface Reservation {
  memoryBytes: number;
  cpuCores: number;
  expiresMs: number;
}

const BUCKET_MS = 1_000;

export class Reservations {
  readonly #byRun = new Map<string, Reservation & { calls: number }>();
  readonly #buckets = new Map<number, Set<string>>();
  #oldestBucket = Number.POSITIVE_INFINITY;
  #memoryBytes = 0;
  #cpuCores = 0;

  get memoryBytes(): number {
    return this.#memoryBytes;
  }

  get cpuCores(): number {
    return this.#cpuCores;
  }

  of(runId: string): Reservation | null {
    return this.#byRun.get(runId) ?? null;
  }

  /** Allocations that the run's reservation has stood for; 0 where it has none. */
  callsOf(runId: string): number {
    return this.#byRun.get(runId)?.calls ?? 0;
  }

  hold(runId: string, reservation: Reservation, calls = this.callsOf(runId) + 1): void {
    this.release(runId);
    this.#byRun.set(runId, { ...reservation, calls });
    this.#memoryBytes += reservation.memoryBytes;
    this.#cpuCores += reservation.cpuCores;
    const bucket = bucketOf(reservation.expiresMs);
    const runs = this.#buckets.get(bucket) ?? new Set();
    runs.add(runId);
    this.#buckets.set(bucket, runs);
    this.#oldestBucket = Math.min(this.#oldestBucket, bucket);
  }

  release(runId: string): boolean {
    const reservation = this.#byRun.get(runId);
    if (!reservation) return false;
    this.#byRun.delete(runId);
    this.#memoryBytes -= reservation.memoryBytes;
    this.#cpuCores -= reservation.cpuCores;
    // Sums of fractions drift; an empty ledger is exactly 0.
    if (this.#byRun.size === 0) this.#cpuCores = 0;
    this.#buckets.get(bucketOf(reservation.expiresMs))?.delete(runId);
    return true;
  }

  /** Ends what has expired; returns the runs. Called before every reading. */
  expire(nowMs: number): string[] {
    const ended: string[] = [];
    const last = bucketOf(nowMs);
    if (this.#oldestBucket > last) return ended;
    for (const [bucket, runs] of this.#buckets) {
      if (bucket > last) continue;
      for (const runId of runs) if (this.#byRun.get(runId)!.expiresMs <= nowMs) ended.push(runId);
    }
    for (const runId of ended) this.release(runId);
    for (const [bucket, runs] of this.#buckets) if (runs.size === 0) this.#buckets.delete(bucket);
    this.#oldestBucket = Math.min(...this.#buckets.keys());
    return ended;
  }
}

function bucketOf(ms: number): number {
  return Math.floor(ms / BUCKET_MS);
}

// Two clocks. The agent's own runs on the monotonic clock, so that a step of the system's time moves no timer; the hub's is
// that plus an offset, measured on each answer that carries `nowMs`. All instants that leave the agent are the hub's.

/** Answers remembered: the one with the shortest round trip among them bounds the error best. */
const SAMPLES_MAX = 8;

interface OffsetSample {
  offsetMs: number;
  roundTripMs: number;
}

export class HubClock {
  #samples: OffsetSample[] = [];
  #offsetMs = 0;
  readonly #monotonicMs: () => number;

  /** `monotonicMs` never steps; its origin is near the epoch. */
  constructor(monotonicMs: () => number = () => performance.timeOrigin + performance.now()) {
    this.#monotonicMs = monotonicMs;
  }

  /** The agent's own instant: for durations and timers. */
  localMs(): number {
    return this.#monotonicMs();
  }

  hubMs(): number {
    return this.#monotonicMs() + this.#offsetMs;
  }

  toHubMs(localMs: number): number {
    return localMs + this.#offsetMs;
  }

  toLocalMs(hubMs: number): number {
    return hubMs - this.#offsetMs;
  }

  offsetMs(): number {
    return this.#offsetMs;
  }

  /** An answer said `hubNowMs`; it was asked for and received at these local instants. */
  learn(askedMs: number, receivedMs: number, hubNowMs: number): void {
    this.#samples.push({ offsetMs: hubNowMs - (askedMs + receivedMs) / 2, roundTripMs: receivedMs - askedMs });
    if (this.#samples.length > SAMPLES_MAX) this.#samples.shift();
    const best = this.#samples.reduce((a, b) => (b.roundTripMs < a.roundTripMs ? b : a));
    this.#offsetMs = best.offsetMs;
  }
}

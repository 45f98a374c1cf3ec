// The price of memory. In: what the operator's own keep-alive would have held, and what is held by what was learned and prepared. Out: how
// many ms of waiting one GB·s is worth when holds and preparations are weighed.
// The operator's dial is the price of memory beyond what the keep-alive costs already. Memory within that budget has been agreed to, so it
// is given out at its shadow price: the price falls while less is held than the keep-alive would hold, and rises, to the dial at
// most, while more is. (Dual ascent on one budget; multiplicative steps, as congestion prices are set: F. Kelly 1998.)
// Without it one dial is too dear for workflows of minutes and too cheap for those of milliseconds.
// State is plain JSON; when it is frozen, the price stays.

/** The price moves once in so many ms: one step of a wide run makes hundreds of notes at once, and they are one piece of evidence. */
const MOVE_EVERY_MS = 10_000;
/** Per move, relative: a price settles over some hundred moves. */
const STEP = 0.04;
/** Moves that one difference is averaged over. */
const MEMORY = 50;
/** A move is at most this many steps. */
const RATIO_MAX = 2;
/** The price is at least the dial over this. */
const CHEAPER_MAX = 1_000;

export interface PriceState {
  frozen: boolean;
  /** Of the dial (0–1): when the dial is turned, the price turns with it. */
  share: number;
  budgetGbMs: number;
  heldGbMs: number;
  /** When the price moved last. */
  movedMs?: number | undefined;
}

export class MemoryPrice {
  frozen: boolean;
  readonly #dialMsPerGbSecond: number;
  #share: number;
  /** Exponentially forgotten sums. */
  #budgetGbMs: number;
  #heldGbMs: number;
  #movedMs: number;

  /** `msPerGbSecond`: the operator's dial. */
  constructor(msPerGbSecond: number, state?: PriceState) {
    this.frozen = state?.frozen ?? false;
    this.#dialMsPerGbSecond = msPerGbSecond;
    this.#share = state?.share ?? 1;
    this.#budgetGbMs = state?.budgetGbMs ?? 0;
    this.#heldGbMs = state?.heldGbMs ?? 0;
    this.#movedMs = state?.movedMs ?? 0;
  }

  get msPerGbSecond(): number {
    return this.#dialMsPerGbSecond * this.#share;
  }

  /** A runtime's idle time is over: the operator's keep-alive would have held it so long, what was learned holds it so long, in GB·ms. */
  held(budgetGbMs: number, heldGbMs: number, nowMs: number): void {
    if (this.frozen) return;
    this.#budgetGbMs += budgetGbMs;
    this.#heldGbMs += heldGbMs;
    if (nowMs < this.#movedMs + MOVE_EVERY_MS) return;
    this.#movedMs = nowMs;
    this.#budgetGbMs *= 1 - 1 / MEMORY;
    this.#heldGbMs *= 1 - 1 / MEMORY;
    if (this.#budgetGbMs <= 0) return;
    const excess = Math.max(-RATIO_MAX, Math.min(RATIO_MAX, this.#heldGbMs / this.#budgetGbMs - 1));
    this.#share = Math.min(1, Math.max(1 / CHEAPER_MAX, this.#share * Math.exp(STEP * excess)));
  }

  /** What was prepared was idle so long before its use, or without any, GB·ms. */
  prepared(heldGbMs: number): void {
    if (!this.frozen) this.#heldGbMs += heldGbMs;
  }

  reset(): void {
    this.#share = 1;
    this.#budgetGbMs = 0;
    this.#heldGbMs = 0;
    this.#movedMs = 0;
  }

  state(): PriceState {
    return {
      frozen: this.frozen,
      share: this.#share,
      budgetGbMs: this.#budgetGbMs,
      heldGbMs: this.#heldGbMs,
      movedMs: this.#movedMs,
    };
  }
}

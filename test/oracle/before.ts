// The oracle of the run before: assembly/run-before.ts in plain TypeScript.
import type { History } from "../../src/core/chain-engine.ts";

const GAPS_MAX = 8;
const MEAN_RATE = 0.03;
const MEAN_MIN_MS = 1;

export interface Before {
  /** The run before belongs to this one's past: its views are counted. */
  is: boolean;
  /** They are also mixed. */
  mixed: boolean;
  gapMs: number;
  /** Where that run had come to. */
  end: string;
}

export class BeforeOracle {
  readonly knownAfterMs: number;
  #start = Number.NaN;
  #startBefore = Number.NaN;
  #end = "";
  #endBefore = "";
  #meanGapMs = Number.NaN;
  #tasks = new Set<number>();

  constructor(knownAfterMs: number) {
    this.knownAfterMs = knownAfterMs;
  }

  get gapMaxMs(): number {
    return GAPS_MAX * this.#meanGapMs;
  }

  /** The set of all tasks of the run learned last. */
  get tasks(): string {
    return [...this.#tasks].sort((a, b) => a - b).join();
  }

  find(history: History, isLearning: boolean): Before {
    const start = history.startMs?.[0] ?? Number.NaN;
    const isSame = start === this.#start;
    const gapMs = start - (isSame ? this.#startBefore : this.#start);
    const is = gapMs <= this.gapMaxMs && gapMs >= this.knownAfterMs;
    return { is, mixed: is && !(isLearning && isWithout(start)), gapMs, end: isSame ? this.#endBefore : this.#end };
  }

  /** After each answer that is learned. */
  learn(history: History, whole: string, symbol: number): void {
    const start = history.startMs?.[0] ?? Number.NaN;
    if (start !== this.#start) {
      const gapMs = Math.max(0, start - this.#start);
      if (!Number.isNaN(gapMs)) {
        const mean = this.#meanGapMs;
        const next = Number.isNaN(mean) ? gapMs : mean + (Math.min(gapMs, this.gapMaxMs) - mean) * MEAN_RATE;
        this.#meanGapMs = Math.max(MEAN_MIN_MS, next);
      }
      this.#startBefore = this.#start;
      this.#start = start;
      this.#endBefore = this.#end;
      this.#tasks = new Set();
    }
    for (const task of history.tasks) this.#tasks.add(task);
    this.#end = `${whole}>${symbol}`;
  }
}

/** One run in four, chosen by the bits of its start: the engine's hash (assembly/hash.ts). */
export function isWithout(startMs: number): boolean {
  const bits = new BigUint64Array(Float64Array.of(startMs).buffer)[0] as bigint;
  const product = BigInt.asUintN(64, bits * 0x9e3779b97f4a7c15n);
  return ((product ^ (product >> 32n)) & 3n) === 0n;
}

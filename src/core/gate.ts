// Beliefs of the gate. In: outcomes of warm-ups, with the probability that had been foretold. Out: the probability that the gate uses: that
// what is prepared is used. It differs from the engine's where a task comes at another time or place than it was prepared for.
// Per (context, task), where the context is the asked task and the band that the engine's probability falls into, the truth has a
// Beta distribution: before any evidence Beta(κp, κ(1 − p)) around the engine's p; each outcome moves it by how far it was from what
// had been foretold, so that its mean is p + (hits − Σ foretold) ÷ (κ + n). What may be chance is left out: with z standard deviations
// between hits and what had been foretold, the shift counts by 1 − (Z ÷ z)², below Z not at all (W. James, C. Stein 1961, positive part).
// Nothing prepared, no outcomes: evidence ages with each prediction, so that what was given up is tried again.
// State is plain JSON; when it is frozen, it is used and no longer learned.
import { remember } from "./remember.ts";

/** The engine's own probability weighs as much as so many observations. */
const PRIOR_WEIGHT = 12;
/** Kept of the evidence with each prediction: half of it after 140. */
const KEPT_PER_PREDICTION = 0.995;
/** Upper ends of the bands of probability, apart where the gate's answer changes. */
const BANDS = [0.1, 0.5, 0.9, 1] as const;
/** (Context, task) pairs remembered; the one that was noted longest ago makes room. */
const PAIRS_MAX = 8_192;
/** Z: deviations below so many standard deviations may be chance. */
const CHANCE_MAX = 1.5;
/** Nothing is ever certain. */
const PROBABILITY_MIN = 0.001;

/** Of one band: observations, those that came, and the sums of what was foretold, p, and of its variance, p (1 − p). */
type Band = [count: number, hits: number, foretold: number, variance: number];

export interface GateState {
  frozen: boolean;
  /** By context, tab, task. */
  pairs: Record<string, Band[]>;
}

/** What was learned of one pair, for people. */
export interface LearnedBelief {
  context: string;
  task: string;
  observations: number;
  /** Added to the engine's probability, by band. */
  shifts: number[];
}

export class GateBeliefs {
  frozen: boolean;
  readonly #pairs: Map<string, Band[]>;

  constructor(state?: GateState) {
    this.frozen = state?.frozen ?? false;
    this.#pairs = new Map(Object.entries(state?.pairs ?? {}).map(([key, bands]) => [key, structuredClone(bands)]));
  }

  /** What was prepared for the task after the context was used, or was not; the engine had foretold it with this probability (0–1). */
  note(context: string, task: string, probability: number, used: boolean): void {
    if (this.frozen) return;
    const key = keyOf(context, task);
    const bands = this.#pairs.get(key) ?? BANDS.map((): Band => [0, 0, 0, 0]);
    remember(this.#pairs, key, bands, PAIRS_MAX);
    const band = bands[bandOf(probability)]!;
    band[0]++;
    band[1] += used ? 1 : 0;
    band[2] += probability;
    band[3] += probability * (1 - probability);
  }

  /** The engine has foretold the task after the context once more. */
  age(context: string, task: string, probability: number): void {
    if (this.frozen) return;
    const band = this.#pairs.get(keyOf(context, task))?.[bandOf(probability)];
    if (band !== undefined) fadeBand(band, KEPT_PER_PREDICTION);
  }

  /** Mean of what is believed, where the engine says `probability`. */
  probability(context: string, task: string, probability: number): number {
    const band = this.#pairs.get(keyOf(context, task))?.[bandOf(probability)];
    if (band === undefined) return probability;
    return Math.min(1 - PROBABILITY_MIN, Math.max(PROBABILITY_MIN, probability + shiftOf(band)));
  }

  /** After a change: of all evidence this share (0–1) is kept. */
  fade(kept: number): void {
    for (const bands of this.#pairs.values()) for (const band of bands) fadeBand(band, kept);
  }

  reset(): void {
    this.#pairs.clear();
  }

  state(): GateState {
    return { frozen: this.frozen, pairs: structuredClone(Object.fromEntries(this.#pairs)) };
  }

  learned(): LearnedBelief[] {
    return [...this.#pairs].map(([key, bands]) => {
      const [context, task] = key.split("\t") as [string, string];
      return {
        context,
        task,
        observations: bands.reduce((sum, [count]) => sum + count, 0),
        shifts: bands.map(shiftOf),
      };
    });
  }
}

/** Task names hold no control characters (records.ts), so a tab ends the first. */
function keyOf(context: string, task: string): string {
  return `${context}\t${task}`;
}

function bandOf(probability: number): number {
  let band = 0;
  while (band < BANDS.length - 1 && probability > BANDS[band]!) band++;
  return band;
}

function shiftOf([count, hits, foretold, variance]: Band): number {
  const away = hits - foretold;
  if (away * away <= CHANCE_MAX ** 2 * variance) return 0;
  return (1 - (CHANCE_MAX ** 2 * variance) / (away * away)) * (away / (PRIOR_WEIGHT + count));
}

function fadeBand(band: Band, kept: number): void {
  for (let i = 0; i < band.length; i++) band[i]! *= kept;
}

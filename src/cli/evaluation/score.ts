// Scores of probability forecasts. In: one prediction after another. Out: top-1, top-3, log-loss and expected calibration error.

/** Floor of a probability in the log-loss: an impossible event costs 9.2 nats, not infinity. */
const PROBABILITY_FLOOR = 1e-4;
const BINS = 15;

/** A symbol is an interned task, or null for the end. */
export interface Guess {
  symbol: number | null;
  probability: number;
}

/** The three likeliest, highest first; equal ones keep their order. */
export function topThree(guesses: Guess[]): Guess[] {
  const top: Guess[] = [];
  for (const guess of guesses) {
    let at = top.length;
    while (at > 0 && top[at - 1]!.probability < guess.probability) at--;
    if (at < 3) top.splice(at, 0, guess);
    if (top.length > 3) top.pop();
  }
  return top;
}

export class Score {
  predictions = 0;
  #top1 = 0;
  #top3 = 0;
  #loss = 0;
  /** Probability of the likeliest symbol, and whether it came. */
  readonly #first: number[] = [];
  readonly #hits: number[] = [];

  add(top: Guess[], actual: number | null, probability: number): void {
    const hit = top[0]?.symbol === actual ? 1 : 0;
    this.predictions++;
    this.#top1 += hit;
    if (top.some(({ symbol }) => symbol === actual)) this.#top3++;
    this.#loss -= Math.log(Math.max(PROBABILITY_FLOOR, probability));
    this.#first.push(top[0]?.probability ?? 0);
    this.#hits.push(hit);
  }

  summary(): { top1: number; top3: number; logLoss: number; ece: number } {
    const n = Math.max(1, this.predictions);
    const ece = calibrationError(this.#first, this.#hits);
    return { top1: this.#top1 / n, top3: this.#top3 / n, logLoss: this.#loss / n, ece };
  }
}

/** Expected calibration error over 15 bins of equal mass: Σ share of the bin × |mean probability − share of hits|. */
export function calibrationError(probabilities: number[], hits: number[]): number {
  const order = [...probabilities.keys()].sort((a, b) => (probabilities[a] as number) - (probabilities[b] as number));
  const n = order.length;
  let error = 0;
  for (let bin = 0; bin < BINS; bin++) {
    let difference = 0;
    for (let k = Math.floor((bin * n) / BINS); k < Math.floor(((bin + 1) * n) / BINS); k++) {
      const i = order[k] as number;
      difference += (probabilities[i] as number) - (hits[i] as number);
    }
    error += Math.abs(difference) / Math.max(1, n);
  }
  return error;
}

// The oracle's counters and weights: what assembly/table.ts and assembly/weights.ts keep in lines, here in Maps and float64.
// In: keys. Out: counts in order of arrival, and weights that choose their own step (AdaGrad).

const SYMBOLS_PER_LINE = 13;
/** Counts are kept in eighths. */
const PARTS = 8;
const SQUARES_INITIAL = 20;
const SQUARES_MAX = 1e5;

export interface Counter {
  total: number;
  symbols: number[];
  counts: number[];
}

/** Adds one occurrence without touching the total; a full counter forgets the rarest symbol of its last line, or refuses. */
export function count(counter: Counter, symbol: number, linesMax: number, replaces: boolean): void {
  let index = counter.symbols.indexOf(symbol);
  const room = linesMax * SYMBOLS_PER_LINE;
  if (index < 0 && counter.symbols.length < room) {
    index = counter.symbols.push(symbol) - 1;
    counter.counts.push(0);
  }
  if (index >= 0) {
    counter.counts[index] = (counter.counts[index] as number) + 1;
    return;
  }
  if (!replaces) return;
  let rarest = room - SYMBOLS_PER_LINE;
  for (let i = rarest + 1; i < room; i++) {
    if ((counter.counts[i] as number) < (counter.counts[rarest] as number)) rarest = i;
  }
  counter.symbols[rarest] = symbol;
  counter.counts[rarest] = 1;
}

/** One more occurrence, after halving until fewer than `kept` are left. */
export function countContext(counter: Counter, kept: number): void {
  while (counter.total >= kept) halve(counter);
  counter.total++;
}

function halve(counter: Counter): void {
  const half = (n: number) => Math.ceil((n * PARTS) / 2) / PARTS;
  counter.total = half(counter.total);
  counter.counts = counter.counts.map(half);
}

export class Weights {
  readonly #initial: number;
  readonly #map = new Map<string, { value: number; squares: number }>();

  constructor(initial: number) {
    this.#initial = initial;
  }

  get(key: string): number {
    return this.#map.get(key)?.value ?? this.#initial;
  }

  learn(key: string, gradient: number, rate: number): void {
    const weight = this.#map.get(key) ?? { value: this.#initial, squares: SQUARES_INITIAL };
    weight.squares = Math.min(SQUARES_MAX, weight.squares + gradient * gradient);
    weight.value += (rate * gradient) / Math.sqrt(weight.squares);
    this.#map.set(key, weight);
  }

  /** By view: the mean of its weights, each as heavy as what it learned from, and how much that is. Keys are `set|view|confidence`. */
  byView(): Map<number, { weight: number; evidence: number }> {
    const views = new Map<number, { weight: number; evidence: number }>();
    for (const [key, { value, squares }] of this.#map) {
      const view = Number(key.split("|")[1]);
      const { weight, evidence } = views.get(view) ?? { weight: 0, evidence: 0 };
      const learned = squares - SQUARES_INITIAL;
      const sum = evidence + learned;
      if (sum > 0) views.set(view, { weight: (weight * evidence + value * learned) / sum, evidence: sum });
    }
    return views;
  }
}

/** Vectors of four that start equal: the weights of layer 2. */
export class FinalWeights {
  readonly #map = new Map<string, number[]>();

  get(key: string): number[] {
    let vector = this.#map.get(key);
    if (vector === undefined) {
      vector = [0.25, 0.25, 0.25, 0.25];
      this.#map.set(key, vector);
    }
    return vector;
  }
}

export function softmax(scores: number[]): number[] {
  const top = Math.max(...scores);
  const shares = scores.map((score) => Math.exp(score - top));
  const sum = shares.reduce((a, b) => a + b, 0);
  return shares.map((share) => share / sum);
}

export function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x));
}

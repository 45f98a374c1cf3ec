// What the engine is compared with, learned in the same order from the same answers. In: a path. Out: a distribution over what
// starts next. One trie of reversed contexts serves all n-grams; the prefix tree is a trie of whole paths.
// Sources: Witten and Bell, IEEE Trans. Inf. Theory 1991 (interpolation by the number of novel symbols); the soft vote (mean of
// n-gram distributions) and the frequency prefix tree are the usual baselines of next-activity prediction.
import type { Guess } from "./score.ts";

const ORDER_MAX = 7;
const WITTEN_BELL_ORDER = 5;

interface Node {
  total: number;
  counts: Map<number | null, number>;
  children: Map<number, Node> | null;
}

function node(): Node {
  return { total: 0, counts: new Map(), children: null };
}

function descend(from: Node, task: number): Node | undefined {
  return from.children?.get(task);
}

function grow(from: Node, task: number): Node {
  from.children ??= new Map();
  let child = from.children.get(task);
  if (child === undefined) {
    child = node();
    from.children.set(task, child);
  }
  return child;
}

function count(at: Node, symbol: number | null): void {
  at.total++;
  at.counts.set(symbol, (at.counts.get(symbol) ?? 0) + 1);
}

function distribution(at: Node | undefined): Guess[] {
  return at === undefined ? [] : [...at.counts].map(([symbol, n]) => ({ symbol, probability: n / at.total }));
}

export const BASELINES: string[] = [
  ...Array.from({ length: ORDER_MAX }, (_, k) => `back-off ${k + 1}-gram`),
  `Witten-Bell order ${WITTEN_BELL_ORDER}`,
  "soft vote",
  "prefix tree",
];

export class Baselines {
  readonly #suffixes = node();
  readonly #prefixes = node();

  /** The distributions of all BASELINES for a path. */
  predict(path: Uint32Array): Guess[][] {
    const contexts = this.#contexts(path);
    const orders = Array.from({ length: ORDER_MAX }, (_, k) =>
      distribution(contexts[Math.min(k + 1, contexts.length - 1)]),
    );
    return [
      ...orders,
      wittenBell(contexts.slice(0, WITTEN_BELL_ORDER + 1)),
      mean(contexts.slice(1)),
      this.#prefix(path),
    ];
  }

  learn(path: Uint32Array, actual: number | null): void {
    let at = this.#suffixes;
    count(at, actual);
    for (let k = 1; k <= Math.min(ORDER_MAX, path.length); k++) {
      at = grow(at, path[path.length - k] as number);
      count(at, actual);
    }
    at = this.#prefixes;
    for (const task of path) at = grow(at, task);
    count(at, actual);
  }

  /** Known contexts of order 0, 1, … as far as they have been seen. */
  #contexts(path: Uint32Array): Node[] {
    const contexts = [this.#suffixes];
    for (let k = 1; k <= Math.min(ORDER_MAX, path.length); k++) {
      const next = descend(contexts.at(-1) as Node, path[path.length - k] as number);
      if (next === undefined) break;
      contexts.push(next);
    }
    return contexts;
  }

  /** Of the whole path; where that is new, of everything. */
  #prefix(path: Uint32Array): Guess[] {
    let at: Node | undefined = this.#prefixes;
    for (const task of path) {
      at = descend(at, task);
      if (at === undefined) break;
    }
    return distribution(at !== undefined && at.total > 0 ? at : this.#suffixes);
  }
}

/** P_k = (n + d · P_{k-1}) / (total + d), d the distinct symbols of the context; P_{-1} is uniform over what order 0 has seen. */
function wittenBell(contexts: Node[]): Guess[] {
  const symbols = [...(contexts[0]?.counts.keys() ?? [])];
  let lower = symbols.map(() => 1 / symbols.length);
  for (const { total, counts } of contexts) {
    if (total === 0) continue;
    lower = symbols.map(
      (symbol, i) => ((counts.get(symbol) ?? 0) + counts.size * (lower[i] as number)) / (total + counts.size),
    );
  }
  return symbols.map((symbol, i) => ({ symbol, probability: lower[i] as number }));
}

function mean(contexts: Node[]): Guess[] {
  const sums = new Map<number | null, number>();
  for (const context of contexts) {
    for (const { symbol, probability } of distribution(context)) {
      sums.set(symbol, (sums.get(symbol) ?? 0) + probability / contexts.length);
    }
  }
  return [...sums].map(([symbol, probability]) => ({ symbol, probability }));
}

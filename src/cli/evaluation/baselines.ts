// What the engine is compared with, learned in the same order from the same answers. In: a path. Out: a distribution over what
// starts next. One trie of reversed contexts serves all n-grams; the prefix tree is a trie of whole paths.
// Sources: Witten and Bell, IEEE Trans. Inf. Theory 1991 (interpolation by the number of novel symbols); the soft vote (mean of
// n-gram distributions) and the frequency prefix tree are the usual baselines of next-activity prediction.
import type { Guess } from "./score.ts";
import { ROOT, Trie } from "./trie.ts";

const ORDER_MAX = 7;
const WITTEN_BELL_ORDER = 5;

export const BASELINES: string[] = [
  ...Array.from({ length: ORDER_MAX }, (_, k) => `back-off ${k + 1}-gram`),
  `Witten-Bell order ${WITTEN_BELL_ORDER}`,
  "soft vote",
  "prefix tree",
];

export class Baselines {
  readonly #suffixes = new Trie();
  readonly #prefixes = new Trie();
  /** Every symbol that has come, with its place in the order of their coming. */
  readonly #places = new Map<number | null, number>();
  /** The path that was walked last, and the context it came to. */
  #walked: Uint32Array = new Uint32Array();
  #at: number = ROOT;

  /** The distributions of all BASELINES for a path. */
  predict(path: Uint32Array): Guess[][] {
    const contexts = this.#contexts(path);
    // Order 0 holds every task of the log, and is asked for only where nothing longer is known.
    const orders = contexts.map((context, k) =>
      k === 0 && contexts.length > 1 ? [] : distribution(this.#suffixes, context),
    );
    return [
      ...Array.from({ length: ORDER_MAX }, (_, k) => orders[Math.min(k + 1, orders.length - 1)] as Guess[]),
      wittenBell(this.#suffixes, contexts.slice(0, WITTEN_BELL_ORDER + 1), this.#places),
      mean(orders.slice(1)),
      this.#prefix(path),
    ];
  }

  learn(path: Uint32Array, actual: number | null): void {
    let at = ROOT;
    if (!this.#places.has(actual)) this.#places.set(actual, this.#places.size);
    this.#suffixes.count(at, actual);
    for (let k = 1; k <= Math.min(ORDER_MAX, path.length); k++) {
      at = this.#suffixes.grow(at, path[path.length - k] as number);
      if (at < 0) break;
      this.#suffixes.count(at, actual);
    }
    const prefix = this.#grown(path);
    if (prefix >= 0) this.#prefixes.count(prefix, actual);
  }

  /** Known contexts of order 0, 1, … as far as they have been seen. */
  #contexts(path: Uint32Array): number[] {
    const contexts: number[] = [ROOT];
    for (let k = 1; k <= Math.min(ORDER_MAX, path.length); k++) {
      const next = this.#suffixes.descend(contexts.at(-1) as number, path[path.length - k] as number);
      if (next < 0) break;
      contexts.push(next);
    }
    return contexts;
  }

  /** Of the whole path; where that is new, of everything. */
  #prefix(path: Uint32Array): Guess[] {
    const from = this.#known(path);
    let at = from === 0 ? ROOT : this.#at;
    for (let i = from; i < path.length && at >= 0; i++) at = this.#prefixes.descend(at, path[i] as number);
    return at >= 0 && this.#prefixes.total(at) > 0
      ? distribution(this.#prefixes, at)
      : distribution(this.#suffixes, ROOT);
  }

  #grown(path: Uint32Array): number {
    const from = this.#known(path);
    let at = from === 0 ? ROOT : this.#at;
    for (let i = from; i < path.length && at >= 0; i++) at = this.#prefixes.grow(at, path[i] as number);
    this.#walked = path;
    this.#at = at;
    return at;
  }

  /** How much of the path the last walk went: a long case whose paths are views of one another would else cost the square of its length. */
  #known(path: Uint32Array): number {
    const { buffer, byteOffset, length } = this.#walked;
    const isLonger = path.buffer === buffer && path.byteOffset === byteOffset && path.length >= length;
    return isLonger ? length : 0;
  }
}

function distribution(trie: Trie, context: number): Guess[] {
  const total = trie.total(context);
  return Array.from(trie.symbols(context), ([symbol, n]) => ({ symbol, probability: n / total }));
}

/** P_k = (n + d · P_{k-1}) / (total + d), d the distinct symbols of the context; P_{-1} is uniform over what has come. */
function wittenBell(trie: Trie, contexts: number[], places: Map<number | null, number>): Guess[] {
  const lower = new Float64Array(places.size).fill(1 / places.size);
  for (const context of contexts) {
    const total = trie.total(context);
    if (total === 0) continue;
    const distinct = trie.distinct(context);
    // Most symbols of order 0 were never seen in a longer context: those that were are added, the others not even looked for.
    for (let i = 0; i < lower.length; i++) lower[i]! *= distinct;
    for (const [symbol, n] of trie.symbols(context)) lower[places.get(symbol)!]! += n;
    for (let i = 0; i < lower.length; i++) lower[i]! /= total + distinct;
  }
  return Array.from(places, ([symbol, i]) => ({ symbol, probability: lower[i]! }));
}

function mean(orders: Guess[][]): Guess[] {
  const sums = new Map<number | null, number>();
  for (const order of orders) {
    for (const { symbol, probability } of order) {
      sums.set(symbol, (sums.get(symbol) ?? 0) + probability / orders.length);
    }
  }
  return [...sums].map(([symbol, probability]) => ({ symbol, probability }));
}

// Counts by context, for logs of many millions of events. In: steps from context to context and symbols counted there. Out: the
// frequencies of a context. Flat tables that grow by doubling: objects and Maps take twenty times the memory, and a Map ends at
// 2^24 entries.

/** The root, order 0. */
export const ROOT = 0;

/** Entries of one table at most; beyond it new contexts are not taken up. 24 bytes each. */
const PAIRS_MAX = 1 << 25;
const PAIRS_AT_FIRST = 1 << 10;
const NONE = 0xffff_ffff;

/** Numbers the pairs (a, b) of u32 in order of their coming: open addressing, at most half full. */
class Pairs {
  size = 0;
  #slots = new Uint32Array(2 * PAIRS_AT_FIRST).fill(NONE);
  #pairs = new Uint32Array(2 * PAIRS_AT_FIRST);

  /** Number of the pair, or -1. */
  find(a: number, b: number): number {
    const number = this.#slots[this.#slotOf(a, b)] as number;
    return number === NONE ? -1 : number;
  }

  /** Number of the pair, a new one where it is new, or -1 where there is no room. */
  add(a: number, b: number): number {
    let slot = this.#slotOf(a, b);
    const known = this.#slots[slot] as number;
    if (known !== NONE) return known;
    if (this.size >= PAIRS_MAX) return -1;
    if (2 * (this.size + 1) > this.#slots.length) {
      this.#double();
      slot = this.#slotOf(a, b);
    }
    this.#slots[slot] = this.size;
    this.#pairs[2 * this.size] = a;
    this.#pairs[2 * this.size + 1] = b;
    return this.size++;
  }

  second(number: number): number {
    return this.#pairs[2 * number + 1] as number;
  }

  /** Where the pair stands, or where it would. */
  #slotOf(a: number, b: number): number {
    const mask = this.#slots.length - 1;
    // Two odd multipliers and a fold: ids are dense, and low bits alone would run together.
    const mixed = Math.imul(a, 0x9e37_79b1) ^ Math.imul(b, 0x85eb_ca6b);
    let slot = (mixed ^ (mixed >>> 15)) & mask;
    for (;;) {
      const number = this.#slots[slot] as number;
      if (number === NONE || (this.#pairs[2 * number] === a && this.#pairs[2 * number + 1] === b)) return slot;
      slot = (slot + 1) & mask;
    }
  }

  #double(): void {
    this.#pairs = doubled(this.#pairs);
    this.#slots = new Uint32Array(2 * this.#slots.length).fill(NONE);
    for (let i = 0; i < this.size; i++) {
      this.#slots[this.#slotOf(this.#pairs[2 * i] as number, this.#pairs[2 * i + 1] as number)] = i;
    }
  }
}

export class Trie {
  readonly #children = new Pairs();
  readonly #counted = new Pairs();
  /** Of each counted pair: how often, and the next one of the same context in order of their coming. */
  #counts = new Uint32Array(PAIRS_AT_FIRST);
  #next = new Uint32Array(PAIRS_AT_FIRST);
  /** Of each context: events, distinct symbols, first and last counted pair. */
  #totals = new Uint32Array(PAIRS_AT_FIRST);
  #distinct = new Uint32Array(PAIRS_AT_FIRST);
  #first = new Uint32Array(PAIRS_AT_FIRST).fill(NONE);
  #last = new Uint32Array(PAIRS_AT_FIRST);

  /** The context one task further, or -1. */
  descend(context: number, task: number): number {
    const child = this.#children.find(context, task);
    return child < 0 ? -1 : child + 1;
  }

  /** The same, made where it is new; -1 where there is no room. */
  grow(context: number, task: number): number {
    const child = this.#children.add(context, task) + 1;
    if (child >= this.#totals.length) {
      this.#totals = doubled(this.#totals);
      this.#distinct = doubled(this.#distinct);
      this.#last = doubled(this.#last);
      const known = this.#first.length;
      this.#first = doubled(this.#first).fill(NONE, known);
    }
    return child === 0 ? -1 : child;
  }

  count(context: number, symbol: number | null): void {
    const size = this.#counted.size;
    const pair = this.#counted.add(context, symbol ?? NONE);
    if (pair < 0) return;
    if (pair === size) this.#append(context, pair);
    this.#counts[pair] = (this.#counts[pair] as number) + 1;
    this.#totals[context] = (this.#totals[context] as number) + 1;
  }

  total(context: number): number {
    return this.#totals[context] as number;
  }

  distinct(context: number): number {
    return this.#distinct[context] as number;
  }

  countOf(context: number, symbol: number | null): number {
    const pair = this.#counted.find(context, symbol ?? NONE);
    return pair < 0 ? 0 : (this.#counts[pair] as number);
  }

  /** Symbols in order of their coming, with their counts. */
  *symbols(context: number): Generator<[symbol: number | null, count: number]> {
    for (let pair = this.#first[context] as number; pair !== NONE; pair = this.#next[pair] as number) {
      const symbol = this.#counted.second(pair);
      yield [symbol === NONE ? null : symbol, this.#counts[pair] as number];
    }
  }

  #append(context: number, pair: number): void {
    if (pair >= this.#counts.length) {
      this.#counts = doubled(this.#counts);
      this.#next = doubled(this.#next);
    }
    this.#next[pair] = NONE;
    if (this.#first[context] === NONE) this.#first[context] = pair;
    else this.#next[this.#last[context] as number] = pair;
    this.#last[context] = pair;
    this.#distinct[context] = (this.#distinct[context] as number) + 1;
  }
}

function doubled(array: Uint32Array<ArrayBuffer>): Uint32Array<ArrayBuffer> {
  const larger = new Uint32Array(2 * array.length);
  larger.set(array);
  return larger;
}

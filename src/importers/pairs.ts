// What belongs to what, as numbers: which parents a task has, which files. In: pairs, in any order. Out: a list for each first number, in the order
// of the pairs. Two arrays instead of one for each task, which would take ten times as much (compressed sparse rows).

const ROOM_MIN = 1 << 10;

export class Pairs {
  #numbers = new Uint32Array(2 * ROOM_MIN);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  push(from: number, to: number): void {
    const at = 2 * this.#size++;
    if (at === this.#numbers.length) {
      const numbers = new Uint32Array(2 * this.#numbers.length);
      numbers.set(this.#numbers);
      this.#numbers = numbers;
    }
    this.#numbers[at] = from;
    this.#numbers[at + 1] = to;
  }

  *[Symbol.iterator](): Generator<[from: number, to: number]> {
    for (let at = 0; at < 2 * this.#size; at += 2) yield [this.#numbers[at]!, this.#numbers[at + 1]!];
  }

  /** The list of each of `count` first numbers; with `places`, of the numbers that they have become (-1: none). */
  lists(count: number, places?: Int32Array): Lists {
    const starts = new Uint32Array(count + 1);
    const placeOf = (from: number) => (places === undefined ? from : places[from]!);
    for (const [from] of this) if (placeOf(from) >= 0) starts[placeOf(from) + 1]!++;
    for (let place = 0; place < count; place++) starts[place + 1]! += starts[place]!;
    const values = new Uint32Array(starts[count]!);
    const next = starts.slice();
    for (const [from, to] of this) if (placeOf(from) >= 0) values[next[placeOf(from)]!++] = to;
    return new Lists(starts, values);
  }
}

export class Lists {
  readonly #starts: Uint32Array;
  readonly #values: Uint32Array;

  constructor(starts: Uint32Array, values: Uint32Array) {
    this.#starts = starts;
    this.#values = values;
  }

  get count(): number {
    return this.#starts.length - 1;
  }

  of(place: number): Uint32Array {
    return this.#values.subarray(this.#starts[place]!, this.#starts[place + 1]!);
  }

  /** Each value of a list once. */
  distinct(): Lists {
    const pairs = new Pairs();
    for (let place = 0; place < this.count; place++)
      for (const value of new Set(this.of(place))) pairs.push(place, value);
    return pairs.lists(this.count);
  }

  /** For each value the places whose lists have it. */
  inverse(): Lists {
    const pairs = new Pairs();
    for (let place = 0; place < this.count; place++) for (const value of this.of(place)) pairs.push(value, place);
    return pairs.lists(this.count);
  }
}

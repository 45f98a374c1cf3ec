// Which pack may hold a run? In: run ids and pack numbers. Out: candidates, newest first; the pack itself tells for certain.
// Open addressing over two u32 arrays: 8 bytes a slot, so a million runs take 10 to 13 MB and rebuild from stored hashes in some
// 50 ms, where a SQLite row per run would be the largest part of the bill. Slots are in the order of the hashes, so their number need
// not be a power of two, and the arrays grow by a quarter: doubled ones stood half empty.

const EMPTY = 0;
const SLOTS_MIN = 1 << 12;
/** Full enough that a probe stays short: eight slots on average where a run is not there. */
const LOAD_MAX = 0.75;
const GROWTH = 1.25;
const HASHES = 2 ** 32;

/** Two independent 32-bit hashes of a run id: the first finds, both together decide where the id itself is gone. */
export function hashRunId(runId: string): [number, number] {
  let first = 0x811c9dc5;
  let second = 0x9747b28c;
  for (let i = 0; i < runId.length; i++) {
    const code = runId.charCodeAt(i);
    first = Math.imul(first ^ code, 0x01000193);
    second = Math.imul(second ^ code, 0x5bd1e995);
    second ^= second >>> 15;
  }
  return [mix(first), mix(second)];
}

/** Murmur's finaliser: FNV alone leaves its low bits too regular for a table of a power of two. */
function mix(hash: number): number {
  let h = hash;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

export class PackIndex {
  #hashes = new Uint32Array(SLOTS_MIN);
  #packs = new Uint32Array(SLOTS_MIN);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** `pack` ≥ 1. A run that is packed again has several entries. */
  add(hash: number, pack: number): void {
    if (this.#size >= this.#hashes.length * LOAD_MAX) this.#grow();
    this.#insert(hash, pack);
    this.#size++;
  }

  /** Packs that may hold the run, newest first. */
  candidates(hash: number): number[] {
    const slots = this.#hashes.length;
    const found: number[] = [];
    for (let slot = this.#slotOf(hash); this.#packs[slot] !== EMPTY; slot = slot + 1 < slots ? slot + 1 : 0) {
      if (this.#hashes[slot] === hash) found.push(this.#packs[slot]!);
    }
    return found.sort((a, b) => b - a);
  }

  /** Exact: the product stays below 2^53 for any number of slots that fits in memory. */
  #slotOf(hash: number): number {
    return Math.floor((hash * this.#hashes.length) / HASHES);
  }

  #insert(hash: number, pack: number): void {
    const slots = this.#hashes.length;
    let slot = this.#slotOf(hash);
    while (this.#packs[slot] !== EMPTY) slot = slot + 1 < slots ? slot + 1 : 0;
    this.#hashes[slot] = hash;
    this.#packs[slot] = pack;
  }

  #grow(): void {
    const hashes = this.#hashes;
    const packs = this.#packs;
    const slots = Math.ceil(hashes.length * GROWTH);
    this.#hashes = new Uint32Array(slots);
    this.#packs = new Uint32Array(slots);
    for (let slot = 0; slot < packs.length; slot++) {
      if (packs[slot] !== EMPTY) this.#insert(hashes[slot]!, packs[slot]!);
    }
  }
}

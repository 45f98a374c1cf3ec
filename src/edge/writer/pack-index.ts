// Which pack may hold a run? In: run ids and pack numbers. Out: candidates, newest first; the pack itself tells for certain.
// Open addressing over two u32 arrays: 8 bytes a slot, so a million runs take 16 MiB and rebuild from stored hashes in some
// 50 ms, where a SQLite row per run would be the largest part of the bill.

const EMPTY = 0;
const SLOTS_MIN = 1 << 12;
/** Full enough that a probe stays short. */
const LOAD_MAX = 0.75;

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
    const mask = this.#hashes.length - 1;
    const found: number[] = [];
    for (let slot = hash & mask; this.#packs[slot] !== EMPTY; slot = (slot + 1) & mask) {
      if (this.#hashes[slot] === hash) found.push(this.#packs[slot]!);
    }
    return found.sort((a, b) => b - a);
  }

  #insert(hash: number, pack: number): void {
    const mask = this.#hashes.length - 1;
    let slot = hash & mask;
    while (this.#packs[slot] !== EMPTY) slot = (slot + 1) & mask;
    this.#hashes[slot] = hash;
    this.#packs[slot] = pack;
  }

  #grow(): void {
    const hashes = this.#hashes;
    const packs = this.#packs;
    this.#hashes = new Uint32Array(hashes.length * 2);
    this.#packs = new Uint32Array(hashes.length * 2);
    for (let slot = 0; slot < packs.length; slot++) {
      if (packs[slot] !== EMPTY) this.#insert(hashes[slot]!, packs[slot]!);
    }
  }
}

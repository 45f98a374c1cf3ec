// Which pack may hold a run? In: run ids and pack numbers. Out: candidates, newest first; the pack itself tells for certain.
// Open addressing in 6 bytes a slot, a u32 of the hash and a u16 of the pack: a million runs take 8 MB and rebuild from stored hashes
// in some 50 ms, where a SQLite row per run would be the largest part of the bill. Tables that are full stay as they are and a new one
// follows: no growing, which would leave room empty and hold the old beside the new. Pack numbers count from the table's first.

const EMPTY = 0;
/** Runs of the first table; each next one holds twice as many, up to the largest: a new workspace takes 33 kB, a million runs 12 tables. */
const RUNS_MIN = 1 << 12;
const RUNS_MAX = 1 << 17;
/** Full enough that a probe stays short: 8 slots on average, side by side, where a run is not there. */
const LOAD_MAX = 0.75;
const HASHES = 2 ** 32;
/** Of one table: its numbers are 16 bits. */
const PACKS_MAX = 2 ** 16 - 1;

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
  readonly #tables: Table[] = [];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** What the tables take, bytes. */
  get bytes(): number {
    return this.#tables.reduce((sum, { hashes, packs }) => sum + hashes.byteLength + packs.byteLength, 0);
  }

  /** `pack` ≥ 1 and no smaller than any before. A run that is packed again has several entries. */
  add(hash: number, pack: number): void {
    let table = this.#tables.at(-1);
    if (table === undefined || table.size === table.runsMax || pack - table.firstPack > PACKS_MAX) {
      table = newTable(Math.min(RUNS_MAX, 2 * (table?.runsMax ?? RUNS_MIN / 2)), pack);
      this.#tables.push(table);
    }
    const { hashes, packs } = table;
    let slot = slotOf(hash, hashes.length);
    while (hashes[slot] !== EMPTY) slot = slot + 1 < hashes.length ? slot + 1 : 0;
    hashes[slot] = hash || 1;
    packs[slot] = pack - table.firstPack;
    table.size++;
    this.#size++;
  }

  /** Packs that may hold the run, newest first. */
  candidates(hash: number): number[] {
    const found: number[] = [];
    const stored = hash || 1;
    for (const { hashes, packs, firstPack } of this.#tables) {
      const slots = hashes.length;
      // One array is looked at where the run is not there: a cache line or two of each table.
      for (let slot = slotOf(hash, slots), at = hashes[slot]!; at !== EMPTY; at = hashes[slot]!) {
        if (at === stored) found.push(firstPack + packs[slot]!);
        slot = slot + 1 < slots ? slot + 1 : 0;
      }
    }
    return found.length < 2 ? found : found.sort((a, b) => b - a);
  }
}

interface Table {
  /** EMPTY, or the hash; 1 for a hash of 0. */
  hashes: Uint32Array;
  /** How many packs after the first. */
  packs: Uint16Array;
  firstPack: number;
  runsMax: number;
  size: number;
}

function newTable(runsMax: number, firstPack: number): Table {
  const slots = Math.ceil(runsMax / LOAD_MAX);
  return { hashes: new Uint32Array(slots), packs: new Uint16Array(slots), firstPack, runsMax, size: 0 };
}

/** Exact: the product stays below 2^53. */
function slotOf(hash: number, slots: number): number {
  return Math.floor((hash * slots) / HASHES);
}

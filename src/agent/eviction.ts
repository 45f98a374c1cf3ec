// What leaves the cache. In: its entries, the bytes wanted, the worth of what wants them. Out: the entries to remove, or null.
//
// An entry is worth the ms that it is expected to save: chance of a next use × what loading it again costs. The chance is
// the prediction's while a command holds the entry, else one from its own use: u / (u + 1), halved every ten idle minutes.
// Entries go in order of worth per byte (GreedyDual-Size's idea); pinned ones never.
// A newcomer gets room only from entries that together are worth less than itself, and a prefetch never from objects that are
// held for something at least as probable: else the prefetches of a batch larger than the cache would throw each other out.

export interface CacheEntry {
  uri: string;
  integrity: string;
  path: string;
  bytes: number;
  /** What loading took, measured. */
  loadMs: number;
  etag: string | null;
  /** As the store said; null: for ever. */
  freshForMs: number | null;
  /** From then on the store is asked whether it is still the object. */
  freshUntilMs: number;
  lastUsedMs: number;
  /** By tasks. */
  uses: number;
  /** In use by so many: never removed above 0. */
  pins: number;
  /** Its digest was checked by this process. */
  verified: boolean;
  /** Its URI names newer bytes by now. */
  orphaned: boolean;
  /** A command expects a use until then. */
  hold: { probability: number; untilMs: number } | null;
}

const HALF_LIFE_MS = 600_000;

export function expectedMs(entry: CacheEntry, nowMs: number): number {
  const idleMs = Math.max(0, nowMs - entry.lastUsedMs);
  const habit = (entry.uses / (entry.uses + 1)) * 2 ** (-idleMs / HALF_LIFE_MS);
  return Math.max(habit, heldProbability(entry, nowMs)) * entry.loadMs;
}

function heldProbability(entry: CacheEntry, nowMs: number): number {
  return entry.hold !== null && entry.hold.untilMs > nowMs ? entry.hold.probability : 0;
}

/** What wants room: a prefetch, or a task's own load, which is beyond comparison. */
export interface Newcomer {
  worthMs: number;
  probability: number;
}

export const TASK_LOAD: Newcomer = { worthMs: Number.POSITIVE_INFINITY, probability: Number.POSITIVE_INFINITY };

/** Null where pinned or dearer entries leave too little. */
export function chooseVictims(
  entries: CacheEntry[],
  wantedBytes: number,
  newcomer: Newcomer,
  nowMs: number,
): CacheEntry[] | null {
  const ranked = entries
    .filter((entry) => entry.pins === 0 && heldProbability(entry, nowMs) < newcomer.probability)
    .map((entry) => ({ entry, worthMs: expectedMs(entry, nowMs) }))
    // Among equals the longest unused goes first.
    .sort((a, b) => a.worthMs / a.entry.bytes - b.worthMs / b.entry.bytes || a.entry.lastUsedMs - b.entry.lastUsedMs);
  const victims: CacheEntry[] = [];
  let freedBytes = 0;
  let lostMs = 0;
  for (const { entry, worthMs } of ranked) {
    if (freedBytes >= wantedBytes) break;
    victims.push(entry);
    freedBytes += entry.bytes;
    lostMs += worthMs;
  }
  if (freedBytes < wantedBytes || lostMs > newcomer.worthMs) return null;
  return victims;
}

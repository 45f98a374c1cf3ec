// What leaves the cache. In: its entries, the bytes wanted, the worth of what wants them. Out: the entries to remove, or null.
//
// An entry is worth the ms that it is expected to save: chance of a next use × what loading it again costs. The chance is
// the prediction's while a command holds the entry, else one from its own use: u / (u + 1), halved every ten idle minutes.
// Entries go in order of worth per byte (GreedyDual-Size's idea); pinned ones never.
// A newcomer gets room only from entries that together are worth less than itself.

export interface CacheEntry {
  uri: string;
  integrity: string;
  path: string;
  bytes: number;
  /** What loading took, measured. */
  loadMs: number;
  lastUsedMs: number;
  /** By tasks. */
  uses: number;
  /** In use by so many: never removed above 0. */
  pins: number;
  /** Its digest was checked by this process. */
  verified: boolean;
  /** A command expects a use until then. */
  hold: { probability: number; untilMs: number } | null;
}

const HALF_LIFE_MS = 600_000;

export function expectedMs(entry: CacheEntry, nowMs: number): number {
  const idleMs = Math.max(0, nowMs - entry.lastUsedMs);
  const habit = (entry.uses / (entry.uses + 1)) * 2 ** (-idleMs / HALF_LIFE_MS);
  const predicted = entry.hold !== null && entry.hold.untilMs > nowMs ? entry.hold.probability : 0;
  return Math.max(habit, predicted) * entry.loadMs;
}

/** Null where pinned or dearer entries leave too little. */
export function chooseVictims(
  entries: CacheEntry[],
  wantedBytes: number,
  newcomerMs: number,
  nowMs: number,
): CacheEntry[] | null {
  const ranked = entries
    .filter((entry) => entry.pins === 0)
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
  if (freedBytes < wantedBytes || lostMs > newcomerMs) return null;
  return victims;
}

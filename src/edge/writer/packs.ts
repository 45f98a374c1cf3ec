// Sealed runs as GraphWriter keeps them: for late records, for repeats, and to make a new model of. In and out: runs, by id.
// A pack is some thousand runs in one row: a row per run would be the largest part of the bill.
import type { Archive, KeptRun } from "../../core/ledger.ts";
import { packRecords, type RunRecord, unpackRecords } from "../../core/records.ts";
import { type BilledSql, pieces } from "./billed-sql.ts";
import { hashRunId, PackIndex } from "./pack-index.ts";

/** Unpacked packs in memory, about 2 MB each: late records come to the last ones, others are met once in 5,000 new runs. */
const CACHED_PACKS = 2;
/** Text of the cached packs, characters: beyond it there is one, which may be a single run of the largest size. */
const CACHED_CHARS_MAX = 2 ** 21;
/** How long a sealed run can still be corrected, ms. */
const HORIZON_MS = 24 * 3_600_000;
/** Runs whose ids are remembered, so that a repeated or late one is told and not counted as new: at most 20 MB of index. */
const RUNS_REMEMBERED_MAX = 1_500_000;

export const PACK_SCHEMA = `
  -- Sealed runs. hashes: 8 bytes a run, in part 0. text NULL: older than the horizon, only the hashes are left.
  CREATE TABLE IF NOT EXISTS pack (
    pack INTEGER NOT NULL, part INTEGER NOT NULL, seq INTEGER NOT NULL, kept_ms INTEGER NOT NULL, hashes BLOB, text TEXT,
    PRIMARY KEY (pack, part)
  ) STRICT, WITHOUT ROWID;
`;

/** Runs by all their ids. */
type Packed = Map<string, KeptRun> | "expired";

export class Packs implements Archive {
  readonly #sql: BilledSql;
  #index = new PackIndex();
  #lastPack = 0;
  #oldestLivePack = 0;
  readonly #cache = new Map<number, { packed: Packed; keptMs: number; chars: number }>();

  /** Empty until `loadIndex`. */
  constructor(sql: BilledSql) {
    this.#sql = sql;
  }

  /** Keeps sealed runs. A run that is kept again is found in its newest pack. */
  write(seq: number, runs: KeptRun[], nowMs: number): void {
    if (runs.length === 0) return;
    const pack = ++this.#lastPack;
    const ids = runs.flatMap(({ runId, aliases }) => [runId, ...aliases]);
    const hashes = new Uint32Array(ids.length * 2);
    for (const [i, id] of ids.entries()) hashes.set(hashRunId(id), i * 2);
    const text = textOfRuns(runs);
    for (const [part, piece] of pieces(text).entries()) {
      this.#sql.write(
        "INSERT INTO pack (pack, part, seq, kept_ms, hashes, text) VALUES (?, ?, ?, ?, ?, ?)",
        pack,
        part,
        seq,
        nowMs,
        part === 0 ? hashes.buffer : null,
        piece,
      );
    }
    for (let i = 0; i < hashes.length; i += 2) this.#index.add(hashes[i]!, pack);
  }

  /** Those after `seq` will be made again. */
  dropAfter(seq: number): void {
    this.#sql.write("DELETE FROM pack WHERE seq > ?", seq);
  }

  /** Reads the hashes of all packs: at the start, after `dropAfter`. */
  loadIndex(): void {
    this.#index = new PackIndex();
    this.#cache.clear();
    this.#lastPack = 0;
    const rows = this.#sql.read<{ pack: number; hashes: ArrayBuffer }>(
      "SELECT pack, hashes FROM pack WHERE part = 0 ORDER BY pack",
    );
    for (const { pack, hashes } of rows) {
      const words = new Uint32Array(hashes);
      for (let i = 0; i < words.length; i += 2) this.#index.add(words[i]!, pack);
      this.#lastPack = pack;
    }
    const oldest = this.#sql.one("SELECT min(pack) FROM pack WHERE part = 0 AND text IS NOT NULL");
    this.#oldestLivePack = oldest === null ? this.#lastPack + 1 : Number(oldest);
  }

  /** Kept runs in the order in which they were kept, the last `limit` packs, each run where it is newest. */
  *keptRuns(limit: number): Generator<RunRecord[]> {
    for (let pack = Math.max(this.#oldestLivePack, this.#lastPack - limit + 1); pack <= this.#lastPack; pack++) {
      const { packed } = this.#packed(pack);
      if (packed === "expired") continue;
      for (const run of new Set(packed.values())) {
        if (this.#index.candidates(hashRunId(run.runId)[0])[0] === pack) yield run.records;
      }
    }
  }

  /** By any of its ids, where it is newest. */
  find(runId: string): (KeptRun & { keptMs: number }) | "expired" | null {
    const [first, second] = hashRunId(runId);
    for (const pack of this.#index.candidates(first)) {
      const { packed, keptMs } = this.#packed(pack);
      if (packed === "expired") {
        if (this.#hasHash(pack, first, second)) return "expired";
        continue;
      }
      const run = packed.get(runId);
      if (run !== undefined) return { ...run, keptMs };
    }
    return null;
  }

  #packed(pack: number): { packed: Packed; keptMs: number } {
    const cached = this.#cache.get(pack);
    if (cached !== undefined) {
      this.#cache.delete(pack); // to the end: the oldest use leaves first
      this.#cache.set(pack, cached);
      return cached;
    }
    const rows = [
      ...this.#sql.read<{ text: string | null; kept_ms: number }>(
        "SELECT text, kept_ms FROM pack WHERE pack = ? ORDER BY part",
        pack,
      ),
    ];
    const keptMs = rows[0]?.kept_ms ?? 0;
    const isExpired = rows.length === 0 || rows.some(({ text }) => text === null);
    const packed: Packed = isExpired ? "expired" : new Map();
    const text = isExpired ? "" : rows.map((row) => row.text).join("");
    this.#makeRoom(text.length);
    if (packed !== "expired") {
      for (const run of runsOfText(text)) {
        for (const id of [run.runId, ...run.aliases]) packed.set(id, run);
      }
    }
    this.#cache.set(pack, { packed, keptMs, chars: text.length });
    return { packed, keptMs };
  }

  /** For a pack of so many characters, before it is unpacked. */
  #makeRoom(chars: number): void {
    let held = chars;
    for (const cached of this.#cache.values()) held += cached.chars;
    for (const [pack, cached] of this.#cache) {
      if (this.#cache.size < CACHED_PACKS && held <= CACHED_CHARS_MAX) break;
      this.#cache.delete(pack);
      held -= cached.chars;
    }
  }

  #hasHash(pack: number, first: number, second: number): boolean {
    const hashes = this.#sql.one("SELECT hashes FROM pack WHERE pack = ? AND part = 0", pack);
    if (!(hashes instanceof ArrayBuffer)) return false;
    const words = new Uint32Array(hashes);
    for (let i = 0; i < words.length; i += 2) if (words[i] === first && words[i + 1] === second) return true;
    return false;
  }

  /** Lets go of the records of packs older than the horizon, and of the oldest ids beyond RUNS_REMEMBERED_MAX. */
  expire(nowMs: number): void {
    while (this.#oldestLivePack <= this.#lastPack) {
      const keptMs = this.#sql.one("SELECT kept_ms FROM pack WHERE pack = ? AND part = 0", this.#oldestLivePack);
      if (Number(keptMs ?? 0) > nowMs - HORIZON_MS) break;
      this.#sql.write("DELETE FROM pack WHERE pack = ? AND part > 0", this.#oldestLivePack);
      this.#sql.write("UPDATE pack SET text = NULL WHERE pack = ?", this.#oldestLivePack);
      this.#cache.delete(this.#oldestLivePack++);
    }
    if (this.#index.size <= RUNS_REMEMBERED_MAX) return;
    // An eighth at once, so that the index is not rebuilt for every pack.
    const oldest = Number(this.#sql.one("SELECT min(pack) FROM pack") ?? 0);
    this.#sql.write("DELETE FROM pack WHERE pack < ?", oldest + Math.ceil((this.#lastPack - oldest) / 8));
    this.loadIndex();
  }
}

/** Runs as text: a line of the aliases that there are, then the records. Ids are somebody's text: entries, never keys of an object. */
export function textOfRuns(runs: KeptRun[]): string {
  const aliases = runs.filter((run) => run.aliases.length > 0).map((run) => [run.runId, run.aliases]);
  return `${JSON.stringify(aliases)}\n${packRecords(runs.flatMap(({ records }) => records))}`;
}

export function runsOfText(text: string): KeptRun[] {
  const line = text.indexOf("\n");
  const aliases = new Map(JSON.parse(text.slice(0, line)) as [string, string[]][]);
  const runs = new Map<string, KeptRun>();
  for (const record of unpackRecords(text.slice(line + 1))) {
    const { runId } = record;
    const run = runs.get(runId);
    if (run === undefined) runs.set(runId, { runId, aliases: aliases.get(runId) ?? [], records: [record] });
    else run.records.push(record);
  }
  return [...runs.values()];
}

// GraphWriter's own SQLite. In and out: journal entries, packs of sealed runs, the checkpoint of open runs, the published model.
// Every row written is billed, so: one row per journaled batch and per round of seals, packs instead of rows per run, parts of
// a fixed key that are replaced instead of deleted and inserted.
import type { KeptRun } from "../../core/ledger.ts";
import { packRecords, type RunRecord, unpackRecords } from "../../core/records.ts";
import type { Outcome } from "../../protocol.ts";
import { hashRunId, PackIndex } from "./pack-index.ts";

/** Characters of one row at most: three bytes each at worst, and a row may have 2 MB. */
const PART_CHARS = 500_000;
/** Bytes of one row of the model. */
const PART_BYTES = 1 << 20;
/** Unpacked packs in memory, about 2 MB each: late records come to the last ones, others are met once in 5,000 new runs. */
const CACHED_PACKS = 2;
/** How long a sealed run can still be corrected, ms. */
export const HORIZON_MS = 24 * 3_600_000;
/** Runs whose ids are remembered, so that a repeated or late one is told and not counted as new: at most 20 MB of index. */
export const RUNS_REMEMBERED_MAX = 1_500_000;

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
  -- kind 0: a batch of records. 1: run ids sealed, in order. 2: outcomes of a cluster. text is split over parts where it is long.
  CREATE TABLE IF NOT EXISTS journal (
    seq INTEGER NOT NULL, part INTEGER NOT NULL, kind INTEGER NOT NULL, at_ms INTEGER NOT NULL, text TEXT NOT NULL,
    PRIMARY KEY (seq, part)
  ) STRICT, WITHOUT ROWID;
  -- Open runs as of a flush: items of some thousand records, each split over parts where it is long.
  CREATE TABLE IF NOT EXISTS checkpoint (
    seq INTEGER NOT NULL, item INTEGER NOT NULL, part INTEGER NOT NULL, text TEXT NOT NULL, PRIMARY KEY (seq, item, part)
  ) STRICT, WITHOUT ROWID;
  -- Sealed runs. hashes: 8 bytes a run, in part 0. text NULL: older than the horizon, only the hashes are left.
  CREATE TABLE IF NOT EXISTS pack (
    pack INTEGER NOT NULL, part INTEGER NOT NULL, seq INTEGER NOT NULL, kept_ms INTEGER NOT NULL, hashes BLOB, text TEXT,
    PRIMARY KEY (pack, part)
  ) STRICT, WITHOUT ROWID;
  -- kind: image, tasks, profiles, learned. bytes is cut to parts; the number of parts stands in meta.
  CREATE TABLE IF NOT EXISTS model (
    kind TEXT NOT NULL, part INTEGER NOT NULL, bytes BLOB NOT NULL, PRIMARY KEY (kind, part)
  ) STRICT, WITHOUT ROWID;
`;

const [RECORDS, SEALS, OUTCOMES] = [0, 1, 2];

export type JournalEntry =
  | { kind: "records"; seq: number; atMs: number; records: RunRecord[] }
  | { kind: "seals"; seq: number; atMs: number; runIds: string[] }
  | { kind: "outcomes"; seq: number; batch: OutcomeBatch };

/** Outcomes of one cluster as its hub told them. */
export interface OutcomeBatch {
  cluster: string;
  outcomes: { seq: number; outcome: Outcome }[];
}

export interface StoredModel {
  version: number;
  /** Last journal entry that it has learned of. */
  seq: number;
  image: Uint8Array;
  tasks: string[];
  /** JSON of TaskProfile[]. */
  profiles: string;
  /** JSON of LearnedText: learned of the same entries as the image. */
  learned: string;
}

/** Runs by all their ids. */
type Packed = Map<string, KeptRun> | "expired";

export class WriterStore {
  readonly #sql: SqlStorage;
  readonly #storage: DurableObjectStorage;
  #index = new PackIndex();
  #lastPack = 0;
  #oldestLivePack = 0;
  readonly #cache = new Map<number, { packed: Packed; keptMs: number }>();
  #lastSeq = 0;
  /** Since this object was created: what the storage bills. */
  rowsWritten = 0;

  constructor(storage: DurableObjectStorage) {
    this.#storage = storage;
    this.#sql = storage.sql;
    this.#sql.exec(SCHEMA);
    const newest = this.#one("SELECT max(seq) FROM journal");
    this.#lastSeq = Math.max(Number(newest ?? 0), Number(this.meta("last_seq") ?? 0));
  }

  get lastSeq(): number {
    return this.#lastSeq;
  }

  /** Last journal entry that a committed flush holds. */
  get flushedSeq(): number {
    return Number(this.meta("flushed") ?? 0);
  }

  get remembered(): number {
    return this.#index.size;
  }

  transaction(work: () => void): void {
    this.#storage.transactionSync(work);
  }

  meta(key: string): string | null {
    const value = this.#one("SELECT value FROM meta WHERE key = ?", key);
    return value === null ? null : String(value);
  }

  setMeta(key: string, value: string): void {
    if (this.meta(key) === value) return;
    this.#exec("INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2", key, value);
  }

  // ── Journal ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Writes a batch; durable before any answer leaves, because answers wait for storage. Out: its sequence number. */
  appendRecords(text: string, atMs: number): number {
    return this.#append(RECORDS, text, atMs);
  }

  appendSeals(runIds: string[], atMs: number): number {
    return this.#append(SEALS, JSON.stringify(runIds), atMs);
  }

  appendOutcomes(batch: OutcomeBatch, atMs: number): number {
    return this.#append(OUTCOMES, JSON.stringify(batch), atMs);
  }

  #append(kind: number, text: string, atMs: number): number {
    const seq = this.#lastSeq + 1;
    for (const [part, piece] of pieces(text).entries()) {
      this.#exec(
        "INSERT INTO journal (seq, part, kind, at_ms, text) VALUES (?, ?, ?, ?, ?)",
        seq,
        part,
        kind,
        atMs,
        piece,
      );
    }
    this.#lastSeq = seq;
    return seq;
  }

  hasWork(): boolean {
    return (
      this.#one("SELECT 1 FROM journal LIMIT 1") !== null || this.#one("SELECT 1 FROM checkpoint LIMIT 1") !== null
    );
  }

  /** Entries after `seq`, oldest first. */
  *journalAfter(seq: number): Generator<JournalEntry> {
    const rows = this.#sql.exec<{ seq: number; part: number; kind: number; at_ms: number; text: string }>(
      "SELECT seq, part, kind, at_ms, text FROM journal WHERE seq > ? ORDER BY seq, part",
      seq,
    );
    let held: { seq: number; kind: number; at_ms: number; text: string } | null = null;
    for (const row of rows) {
      if (held !== null && row.part > 0) {
        held.text += row.text;
        continue;
      }
      if (held !== null) yield entryOf(held);
      held = row;
    }
    if (held !== null) yield entryOf(held);
  }

  // ── Flush ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Open runs as of `seq`; they count once `commitFlush(seq)` was called. */
  writeCheckpoint(seq: number, texts: Iterable<string>): void {
    this.#exec("DELETE FROM checkpoint WHERE seq = ?", seq);
    let item = 0;
    for (const text of texts) {
      for (const [part, piece] of pieces(text).entries()) {
        this.#exec("INSERT INTO checkpoint (seq, item, part, text) VALUES (?, ?, ?, ?)", seq, item, part, piece);
      }
      item++;
    }
    this.setMeta("prepared", String(seq));
  }

  /** D1 has the rows up to `seq`: the journal before it has done its duty. */
  commitFlush(seq: number): void {
    this.#exec("DELETE FROM journal WHERE seq <= ?", seq);
    this.#exec("DELETE FROM checkpoint WHERE seq <> ?", seq);
    this.setMeta("flushed", String(seq));
    this.setMeta("last_seq", String(this.#lastSeq));
  }

  /** D1 does not have the flush that was prepared: packs and checkpoint after `seq` will be made again from the journal. */
  dropAfter(seq: number): void {
    this.#exec("DELETE FROM checkpoint WHERE seq > ?", seq);
    this.#exec("DELETE FROM pack WHERE seq > ?", seq);
  }

  readCheckpoint(seq: number): string[] {
    const texts: string[] = [];
    const rows = this.#sql.exec<{ item: number; text: string }>(
      "SELECT item, text FROM checkpoint WHERE seq = ? ORDER BY item, part",
      seq,
    );
    for (const { item, text } of rows) texts[item] = (texts[item] ?? "") + text;
    return texts;
  }

  // ── Packs ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Keeps sealed runs. A run that is kept again is found in its newest pack. */
  writePack(seq: number, runs: KeptRun[], nowMs: number): void {
    if (runs.length === 0) return;
    const pack = ++this.#lastPack;
    const ids = runs.flatMap(({ runId, aliases }) => [runId, ...aliases]);
    const hashes = new Uint32Array(ids.length * 2);
    for (const [i, id] of ids.entries()) hashes.set(hashRunId(id), i * 2);
    const text = textOfRuns(runs);
    for (const [part, piece] of pieces(text).entries()) {
      this.#exec(
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

  /** Reads the hashes of all packs: at the start, after `dropAfter`. */
  loadIndex(): void {
    this.#index = new PackIndex();
    this.#cache.clear();
    this.#lastPack = 0;
    const rows = this.#sql.exec<{ pack: number; hashes: ArrayBuffer }>(
      "SELECT pack, hashes FROM pack WHERE part = 0 ORDER BY pack",
    );
    for (const { pack, hashes } of rows) {
      const words = new Uint32Array(hashes);
      for (let i = 0; i < words.length; i += 2) this.#index.add(words[i]!, pack);
      this.#lastPack = pack;
    }
    const oldest = this.#one("SELECT min(pack) FROM pack WHERE part = 0 AND text IS NOT NULL");
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

  /** ledger.ts Archive. */
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
      ...this.#sql.exec<{ text: string | null; kept_ms: number }>(
        "SELECT text, kept_ms FROM pack WHERE pack = ? ORDER BY part",
        pack,
      ),
    ];
    const keptMs = rows[0]?.kept_ms ?? 0;
    const isExpired = rows.length === 0 || rows.some(({ text }) => text === null);
    const packed: Packed = isExpired ? "expired" : new Map();
    if (packed !== "expired") {
      for (const run of runsOfText(rows.map(({ text }) => text).join(""))) {
        for (const id of [run.runId, ...run.aliases]) packed.set(id, run);
      }
    }
    const [oldest] = this.#cache.keys();
    if (this.#cache.size >= CACHED_PACKS && oldest !== undefined) this.#cache.delete(oldest);
    this.#cache.set(pack, { packed, keptMs });
    return { packed, keptMs };
  }

  #hasHash(pack: number, first: number, second: number): boolean {
    const hashes = this.#one("SELECT hashes FROM pack WHERE pack = ? AND part = 0", pack);
    if (!(hashes instanceof ArrayBuffer)) return false;
    const words = new Uint32Array(hashes);
    for (let i = 0; i < words.length; i += 2) if (words[i] === first && words[i + 1] === second) return true;
    return false;
  }

  /** Lets go of the records of packs older than the horizon, and of the oldest ids beyond RUNS_REMEMBERED_MAX. */
  expire(nowMs: number): void {
    while (this.#oldestLivePack <= this.#lastPack) {
      const keptMs = this.#one("SELECT kept_ms FROM pack WHERE pack = ? AND part = 0", this.#oldestLivePack);
      if (Number(keptMs ?? 0) > nowMs - HORIZON_MS) break;
      this.#exec("DELETE FROM pack WHERE pack = ? AND part > 0", this.#oldestLivePack);
      this.#exec("UPDATE pack SET text = NULL WHERE pack = ?", this.#oldestLivePack);
      this.#cache.delete(this.#oldestLivePack++);
    }
    if (this.#index.size <= RUNS_REMEMBERED_MAX) return;
    // An eighth at once, so that the index is not rebuilt for every pack.
    const oldest = Number(this.#one("SELECT min(pack) FROM pack") ?? 0);
    this.#exec("DELETE FROM pack WHERE pack < ?", oldest + Math.ceil((this.#lastPack - oldest) / 8));
    this.loadIndex();
  }

  // ── Model ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Replaces the published model, whole or not at all. */
  writeModel(model: StoredModel): void {
    const encoder = new TextEncoder();
    const kinds = {
      image: model.image,
      tasks: encoder.encode(JSON.stringify(model.tasks)),
      profiles: encoder.encode(model.profiles),
      learned: encoder.encode(model.learned),
    };
    this.transaction(() => {
      const parts: Record<string, number> = {};
      for (const [kind, bytes] of Object.entries(kinds)) {
        parts[kind] = Math.ceil(bytes.length / PART_BYTES);
        for (let part = 0; part < parts[kind]; part++) {
          const piece = bytes.slice(part * PART_BYTES, (part + 1) * PART_BYTES);
          this.#exec(
            "INSERT INTO model (kind, part, bytes) VALUES (?1, ?2, ?3) ON CONFLICT (kind, part) DO UPDATE SET bytes = ?3",
            kind,
            part,
            piece.buffer,
          );
        }
      }
      this.setMeta("model", JSON.stringify({ version: model.version, seq: model.seq, parts }));
      // `learned` holds them now, and no row of D1 does: a flush, which drops the rest of the journal, may be far.
      this.#exec("DELETE FROM journal WHERE kind = ? AND seq <= ?", OUTCOMES, model.seq);
      this.setMeta("last_seq", String(this.#lastSeq));
    });
  }

  /** The published model; null before the first. */
  readModel(): StoredModel | null {
    const text = this.meta("model");
    if (text === null) return null;
    const { version, seq, parts } = JSON.parse(text) as { version: number; seq: number; parts: Record<string, number> };
    const read = (kind: string): Uint8Array => {
      const rows = this.#sql.exec<{ bytes: ArrayBuffer }>(
        "SELECT bytes FROM model WHERE kind = ? AND part < ? ORDER BY part",
        kind,
        parts[kind] ?? 0,
      );
      const pieces = [...rows].map(({ bytes }) => new Uint8Array(bytes));
      const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
      let at = 0;
      for (const piece of pieces) {
        whole.set(piece, at);
        at += piece.length;
      }
      return whole;
    };
    const decoder = new TextDecoder();
    const tasks = JSON.parse(decoder.decode(read("tasks"))) as string[];
    const profiles = decoder.decode(read("profiles"));
    // Absent in what an earlier version published.
    const learned = decoder.decode(read("learned")) || "{}";
    return { version, seq, image: read("image"), tasks, profiles, learned };
  }

  // ── SQL ────────────────────────────────────────────────────────────────────────────────────────────────────────────

  #exec(query: string, ...bindings: SqlStorageValue[]): void {
    const cursor = this.#sql.exec(query, ...bindings);
    cursor.toArray();
    this.rowsWritten += cursor.rowsWritten;
  }

  #one(query: string, ...bindings: SqlStorageValue[]): SqlStorageValue {
    const [row] = [...this.#sql.exec(query, ...bindings).raw()];
    return row?.[0] ?? null;
  }
}

function pieces(text: string): string[] {
  if (text.length <= PART_CHARS) return [text];
  const parts: string[] = [];
  for (let at = 0; at < text.length; ) {
    let end = at + PART_CHARS;
    const last = text.charCodeAt(end - 1);
    if (last >= 0xd800 && last < 0xdc00) end++; // never between the halves of a surrogate pair
    parts.push(text.slice(at, end));
    at = end;
  }
  return parts;
}

function entryOf(row: { seq: number; kind: number; at_ms: number; text: string }): JournalEntry {
  if (row.kind === OUTCOMES) return { kind: "outcomes", seq: row.seq, batch: JSON.parse(row.text) as OutcomeBatch };
  if (row.kind === SEALS)
    return { kind: "seals", seq: row.seq, atMs: row.at_ms, runIds: JSON.parse(row.text) as string[] };
  return { kind: "records", seq: row.seq, atMs: row.at_ms, records: unpackRecords(row.text) };
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

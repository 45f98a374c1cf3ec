// GraphWriter's own SQLite. In and out: journal entries, the checkpoint of open runs, the published model; sealed runs are in packs.ts.
// Every row written is billed, so: one row per journaled batch and per round of seals, packs instead of rows per run, parts of
// a fixed key that are replaced instead of deleted and inserted.
import { type RunRecord, unpackRecords } from "../../core/records.ts";
import type { Outcome } from "../../protocol.ts";
import { BilledSql, pieces } from "./billed-sql.ts";
import { PACK_SCHEMA, Packs } from "./packs.ts";

/** Bytes of one row of the model. */
const PART_BYTES = 1 << 20;

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

export class WriterStore {
  readonly #sql: BilledSql;
  readonly #storage: DurableObjectStorage;
  /** Sealed runs. */
  readonly packs: Packs;
  #lastSeq = 0;

  constructor(storage: DurableObjectStorage) {
    this.#storage = storage;
    storage.sql.exec(SCHEMA + PACK_SCHEMA);
    this.#sql = new BilledSql(storage.sql);
    this.packs = new Packs(this.#sql);
    const newest = this.#sql.one("SELECT max(seq) FROM journal");
    this.#lastSeq = Math.max(Number(newest ?? 0), Number(this.meta("last_seq") ?? 0));
  }

  get lastSeq(): number {
    return this.#lastSeq;
  }

  /** Last journal entry that a committed flush holds. */
  get flushedSeq(): number {
    return Number(this.meta("flushed") ?? 0);
  }

  /** Since this object was created: what the storage bills. */
  get rowsWritten(): number {
    return this.#sql.rowsWritten;
  }

  transaction(work: () => void): void {
    this.#storage.transactionSync(work);
  }

  meta(key: string): string | null {
    const value = this.#sql.one("SELECT value FROM meta WHERE key = ?", key);
    return value === null ? null : String(value);
  }

  setMeta(key: string, value: string): void {
    if (this.meta(key) === value) return;
    this.#sql.write(
      "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2",
      key,
      value,
    );
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
      this.#sql.write(
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
      this.#sql.one("SELECT 1 FROM journal LIMIT 1") !== null ||
      this.#sql.one("SELECT 1 FROM checkpoint LIMIT 1") !== null
    );
  }

  /** Entries after `seq`, oldest first. */
  *journalAfter(seq: number): Generator<JournalEntry> {
    const rows = this.#sql.read<{ seq: number; part: number; kind: number; at_ms: number; text: string }>(
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
    this.#sql.write("DELETE FROM checkpoint WHERE seq = ?", seq);
    let item = 0;
    for (const text of texts) {
      for (const [part, piece] of pieces(text).entries()) {
        this.#sql.write("INSERT INTO checkpoint (seq, item, part, text) VALUES (?, ?, ?, ?)", seq, item, part, piece);
      }
      item++;
    }
    this.setMeta("prepared", String(seq));
  }

  /** D1 has the rows up to `seq`: the journal before it has done its duty. */
  commitFlush(seq: number): void {
    this.#sql.write("DELETE FROM journal WHERE seq <= ?", seq);
    this.#sql.write("DELETE FROM checkpoint WHERE seq <> ?", seq);
    this.setMeta("flushed", String(seq));
    this.setMeta("last_seq", String(this.#lastSeq));
  }

  /** D1 does not have the flush that was prepared: packs and checkpoint after `seq` will be made again from the journal. */
  dropAfter(seq: number): void {
    this.#sql.write("DELETE FROM checkpoint WHERE seq > ?", seq);
    this.packs.dropAfter(seq);
  }

  readCheckpoint(seq: number): string[] {
    const texts: string[] = [];
    const rows = this.#sql.read<{ item: number; text: string }>(
      "SELECT item, text FROM checkpoint WHERE seq = ? ORDER BY item, part",
      seq,
    );
    for (const { item, text } of rows) texts[item] = (texts[item] ?? "") + text;
    return texts;
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
          this.#sql.write(
            "INSERT INTO model (kind, part, bytes) VALUES (?1, ?2, ?3) ON CONFLICT (kind, part) DO UPDATE SET bytes = ?3",
            kind,
            part,
            piece.buffer,
          );
        }
      }
      this.setMeta("model", JSON.stringify({ version: model.version, seq: model.seq, parts }));
      // `learned` holds them now, and no row of D1 does: a flush, which drops the rest of the journal, may be far.
      this.#sql.write("DELETE FROM journal WHERE kind = ? AND seq <= ?", OUTCOMES, model.seq);
      this.setMeta("last_seq", String(this.#lastSeq));
    });
  }

  /** The published model; null before the first. */
  readModel(): StoredModel | null {
    const text = this.meta("model");
    if (text === null) return null;
    const { version, seq, parts } = JSON.parse(text) as { version: number; seq: number; parts: Record<string, number> };
    const read = (kind: string): Uint8Array => {
      const rows = this.#sql.read<{ bytes: ArrayBuffer }>(
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
}

function entryOf(row: { seq: number; kind: number; at_ms: number; text: string }): JournalEntry {
  if (row.kind === OUTCOMES) return { kind: "outcomes", seq: row.seq, batch: JSON.parse(row.text) as OutcomeBatch };
  if (row.kind === SEALS)
    return { kind: "seals", seq: row.seq, atMs: row.at_ms, runIds: JSON.parse(row.text) as string[] };
  return { kind: "records", seq: row.seq, atMs: row.at_ms, records: unpackRecords(row.text) };
}

// Log files → executions. In: paths. Out: for each content its name and format, and what was read of it, streamed.
// The format is told by the content: the most particular one first, so that a table of spans is not taken for JSON of any keys.
import { createHash } from "node:crypto";
import { type AssembledRun, assembleRun } from "../core/profile.ts";
import type { RunRecord } from "../core/records.ts";
import { csv } from "./csv.ts";
import { type FormatName, type Imported, type Importer, type ImportOptions, recordOf } from "./format.ts";
import { jaeger } from "./jaeger.ts";
import { native, ndjson } from "./ndjson.ts";
import { otlp } from "./otlp.ts";
import { contentsOf } from "./source.ts";
import { wfformat } from "./wfformat.ts";
import { xes } from "./xes.ts";
import { xray } from "./xray.ts";
import { zipkin } from "./zipkin.ts";

/** JSON whose keys tell what it is. */
const PARTICULAR: Importer[] = [otlp, xray, jaeger, zipkin, native];
const IMPORTERS: Importer[] = [...PARTICULAR, wfformat, xes, ndjson, csv];
export const FORMATS: FormatName[] = IMPORTERS.map(({ format }) => format);

interface LogContent {
  name: string;
  /** Null: of no format that we know; `items` is then one skip that says so. */
  format: FormatName | null;
  items: AsyncIterable<Imported>;
}

export type ReadOptions = Omit<ImportOptions, "fileId"> & {
  /** Null: told by the content. */
  format: FormatName | null;
};

export const READ_DEFAULTS: ReadOptions = { format: null, columns: {}, lifecycle: "pair" };

/** The contents of one path ("-": standard input), each to be read before the next. Errors: throws what opening and unpacking throw. */
export async function* readLog(path: string, options: ReadOptions = READ_DEFAULTS): AsyncGenerator<LogContent> {
  for await (const { name, content, head } of contentsOf(path)) {
    const text = new TextDecoder().decode(head);
    const reason = binaryReason(head);
    if (reason !== null) {
      yield { name, format: null, items: one({ kind: "skipped", reason, count: 1 }) };
      continue;
    }
    const importer =
      IMPORTERS.find(({ format }) => format === options.format) ??
      (options.format === null ? importerFor(text) : undefined);
    if (importer === undefined) {
      const reason = head.length === 0 ? "the file is empty" : "not a format that is known";
      yield { name, format: null, items: one({ kind: "skipped", reason, count: 1 }) };
      continue;
    }
    // Of the content, not of the name: a copy of a file gives the same ids, another file others.
    const fileId = createHash("sha256").update(head).digest("hex").slice(0, 12);
    yield { name, format: importer.format, items: importer.read(content, { ...options, fileId }) };
  }
}

/** The format of a content that begins like this. */
function importerFor(text: string): Importer | undefined {
  const first = IMPORTERS.find((candidate) => candidate.detects(text));
  if (first !== undefined && first !== csv) return first;
  // Services write a line or two of other text before their records.
  const from = text.search(/^\{"/m);
  const later = from > 0 ? PARTICULAR.find((candidate) => candidate.detects(text.slice(from))) : undefined;
  return later ?? first;
}

/** What people pack logs with and we do not unpack, by its first bytes. */
const PACKED: [magic: string, what: string][] = [
  ["PK\u0003\u0004", "a zip archive"],
  ["\u00fd7zXZ", "packed with xz"],
  ["BZh", "packed with bzip2"],
  ["7z\u00bc\u00af", "a 7z archive"],
  ["\u0004\u0022M\u0018", "packed with lz4"],
  ["PAR1", "a Parquet file"],
];

/** Why the content can be no log; null where it may be one. */
function binaryReason(head: Uint8Array): string | null {
  const start = Buffer.from(head.subarray(0, 8)).toString("latin1");
  const packed = PACKED.find(([magic]) => start.startsWith(magic));
  if (packed !== undefined) return `${packed[1]}: unpack it first; .gz, .zst and .tar are read as they are`;
  return head.includes(0) ? "binary data, not a log" : null;
}

async function* one(item: Imported): AsyncGenerator<Imported> {
  yield item;
}

export interface LogRun {
  runId: string;
  run: AssembledRun;
  /** Of its first execution; NaN where the log does not tell. */
  startMs: number;
  /** Of its first execution among all records. */
  place: number;
}

export interface LogRecords {
  /** In order of the files; a later one of the same run and execution replaces an earlier one at assembly. */
  records: RunRecord[];
  formats: FormatName[];
  /** Reasons and how often. */
  skipped: Map<string, number>;
}

/**
 * Everything some logs hold, in memory: for evaluation, not for import. `told` hears how many records there are so far. Of a file
 * that breaks off what came before the break stays. Errors: throws where a file cannot be read at all.
 */
export async function recordsOf(
  paths: string[],
  options: ReadOptions = READ_DEFAULTS,
  told: (records: number) => void = () => {},
): Promise<LogRecords> {
  const records: RunRecord[] = [];
  const formats = new Set<FormatName>();
  const skipped = new Map<string, number>();
  const skip = (reason: string, count: number) => skipped.set(reason, (skipped.get(reason) ?? 0) + count);
  for (const path of paths) {
    const before = records.length;
    try {
      for await (const { name, format, items } of readLog(path, options)) {
        if (format !== null) formats.add(format);
        const where = format === null ? `${name}: ` : "";
        for await (const item of items) {
          if (item.kind === "skipped") skip(where + item.reason, item.count);
          const record = recordOf(item);
          if (record !== null) told(records.push(record));
        }
      }
    } catch (error) {
      if (records.length === before) throw withName(path, error);
      skip((paths.length > 1 ? `${path}: ` : "") + breakReason(error), 1);
    }
  }
  return { records, formats: [...formats], skipped };
}

/** Faults of the file system name their file themselves. */
function withName(path: string, error: unknown): unknown {
  const isNamed = !(error instanceof Error) || error.message.includes(path);
  return isNamed ? error : new Error(`${path}: ${error.message}`, { cause: error });
}

/** Why the rest of a file is missing. */
export function breakReason(error: unknown): string {
  return `the rest of the file, unreadable: ${error instanceof Error ? error.message : String(error)}`;
}

/** The runs of `records`, assembled one by one in order of their first record. Empties the array: only what is kept of a run is held. */
export function* assembled(records: RunRecord[]): Generator<LogRun> {
  const last = new Map<string, number>();
  /** The record of the same run before each, or -1. */
  const before = new Int32Array(records.length);
  for (const [place, { runId }] of records.entries()) {
    before[place] = last.get(runId) ?? -1;
    last.set(runId, place);
  }
  const held: (RunRecord | null)[] = records.splice(0);
  for (const [runId, end] of last) {
    const places: number[] = [];
    for (let place = end; place >= 0; place = before[place] as number) places.push(place);
    const placeOf = new Map<RunRecord, number>();
    const byId = new Map<string, RunRecord>();
    for (const place of places.reverse()) {
      const record = held[place] as RunRecord;
      held[place] = null;
      placeOf.set(record, place);
      byId.set(record.executionId, record);
    }
    const run = assembleRun(byId.values());
    const first = run.executions[0];
    if (first !== undefined) yield { runId, run, startMs: first.startMs, place: placeOf.get(first.record) as number };
  }
}

/** Order of a log: by the time of the first execution, at the same instant by its place. Unknown times are equal, before all others. */
export function inLogOrder(a: { startMs: number; place: number }, b: { startMs: number; place: number }): number {
  if (a.startMs === b.startMs || (Number.isNaN(a.startMs) && Number.isNaN(b.startMs))) return a.place - b.place;
  if (Number.isNaN(a.startMs)) return -1;
  return Number.isNaN(b.startMs) ? 1 : a.startMs - b.startMs;
}

/** All runs of some logs, assembled, in the log's order. */
export async function runsOf(
  paths: string[],
  options: ReadOptions = READ_DEFAULTS,
): Promise<{ runs: LogRun[]; formats: FormatName[]; skipped: Map<string, number> }> {
  const { records, ...read } = await recordsOf(paths, options);
  return { runs: [...assembled(records)].sort(inLogOrder), ...read };
}

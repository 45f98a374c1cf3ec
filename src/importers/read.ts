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

const IMPORTERS: Importer[] = [otlp, xray, jaeger, native, wfformat, xes, ndjson, csv];
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
    if (head.includes(0)) {
      const reason = "binary data, not a log: what is packed otherwise than .gz or .tar.gz has to be unpacked first";
      yield { name, format: null, items: one({ kind: "skipped", reason, count: 1 }) };
      continue;
    }
    const importer =
      IMPORTERS.find(({ format }) => format === options.format) ??
      (options.format === null ? IMPORTERS.find((candidate) => candidate.detects(text)) : undefined);
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

async function* one(item: Imported): AsyncGenerator<Imported> {
  yield item;
}

export interface LogRun {
  runId: string;
  run: AssembledRun;
}

/**
 * All runs of a log, assembled, in order of their first execution: by its time, at the same instant by its place in the files. Holds
 * the log in memory: for evaluation, not for import.
 */
export async function runsOf(
  paths: string[],
  options: ReadOptions = READ_DEFAULTS,
): Promise<{ runs: LogRun[]; formats: FormatName[]; skipped: Map<string, number> }> {
  const records = new Map<string, Map<string, RunRecord>>();
  const places = new Map<RunRecord, number>();
  const formats = new Set<FormatName>();
  const skipped = new Map<string, number>();
  for (const path of paths) {
    for await (const { format, items } of readLog(path, options)) {
      if (format !== null) formats.add(format);
      for await (const item of items) {
        if (item.kind === "skipped") skipped.set(item.reason, (skipped.get(item.reason) ?? 0) + item.count);
        const record = recordOf(item);
        if (record === null) continue;
        places.set(record, places.size);
        const run = records.get(record.runId);
        if (run === undefined) records.set(record.runId, new Map([[record.executionId, record]]));
        else run.set(record.executionId, record);
      }
    }
  }
  const runs = [...records].map(([runId, run]) => ({ runId, run: assembleRun(run.values()) }));
  const first = ({ run }: LogRun) => run.executions[0] as AssembledRun["executions"][0];
  // Unknown times are equal, before all others.
  const time = (run: LogRun) => (Number.isNaN(first(run).startMs) ? Number.NEGATIVE_INFINITY : first(run).startMs);
  const place = (run: LogRun) => places.get(first(run).record) as number;
  const whole = runs.filter(({ run }) => run.executions.length > 0);
  whole.sort((a, b) => time(a) - time(b) || place(a) - place(b));
  return { runs: whole, formats: [...formats], skipped };
}

// CSV and TSV event logs and span tables, one event a row. Parsed by csv-parse; columns as told or guessed (table.ts).
import { Readable } from "node:stream";
import { parse } from "csv-parse";
import { type Content, type Imported, type Importer, type ImportOptions, skipped } from "./format.ts";
import { type Layout, layoutOf, rowOf } from "./table.ts";

const DELIMITERS = [",", ";", "\t", "|"];
/** A cell longer than this is not an event's, characters: bounds a file whose quotes never close. */
const RECORD_CHARS_MAX = 4 * 2 ** 20;

async function* read(content: Content, options: ImportOptions): AsyncGenerator<Imported> {
  const source = Readable.from(content);
  const rows = source.pipe(
    parse({
      bom: true,
      columns: true,
      delimiter: DELIMITERS,
      relax_column_count: true,
      relax_quotes: true,
      skip_empty_lines: true,
      max_record_size: RECORD_CHARS_MAX,
    }),
  );
  source.on("error", (error) => rows.destroy(error));
  let layout: Layout | string | null = null;
  let position = 0;
  for await (const cells of rows as AsyncIterable<Record<string, string>>) {
    layout ??= layoutOf(Object.keys(cells), options.columns);
    if (typeof layout === "string") {
      yield skipped(layout);
      return;
    }
    yield rowOf(cells, layout, position++, options.fileId);
  }
}

/** The first line has columns that could be a run's and a task's. */
function detects(head: string): boolean {
  const [first = ""] = head.replace(/^\ufeff/, "").split(/\r?\n/, 1);
  if (/^\s*[{[<]/.test(first)) return false;
  const most = DELIMITERS.reduce((a, b) => (first.split(b).length > first.split(a).length ? b : a));
  return first.split(most).length > 1;
}

export const csv: Importer = { format: "csv", detects, read };

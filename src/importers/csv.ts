// CSV and TSV event logs and span tables, one event a row. Parsed by csv-parse; columns as told or guessed (table.ts).
import { Readable } from "node:stream";
import { type Parser, parse } from "csv-parse";
import { type Content, type Imported, type Importer, type ImportOptions, skipped } from "./format.ts";
import { instantOf, isDayFirst } from "./instant.ts";
import { type Layout, layoutOf, rowOf } from "./table.ts";

const DELIMITERS = [",", ";", "\t", "|"];
/** A cell longer than this is not an event's, characters: bounds a file whose quotes never close. */
const RECORD_CHARS_MAX = 4 * 2 ** 20;
/** A line of names longer than this is none, bytes. */
const HEADER_BYTES_MAX = 64 * 1024;
const LINE_END = 0x0a;
/** Some spreadsheets' first line, and their delimiter. */
const DELIMITER_TOLD = /^sep=(.)$/;
/** Rows that are looked at for how the log writes dates. */
const ROWS_AHEAD = 1_000;

type Cells = Record<string, string>;

async function* read(content: Content, options: ImportOptions): AsyncGenerator<Imported> {
  const { header, whole } = await headerOf(content);
  const source = Readable.from(whole);
  const broken: string[] = [];
  const parser: Parser = source.pipe(
    parse({
      bom: true,
      columns: true,
      delimiter: delimiterOf(header),
      from_line: DELIMITER_TOLD.test(header) ? 2 : 1,
      relax_column_count: true,
      relax_quotes: true,
      skip_empty_lines: true,
      max_record_size: RECORD_CHARS_MAX,
      // What came before a row that breaks off would be lost with it, as far as it was read together.
      skip_records_with_error: true,
      on_skip: (error) => {
        if (error?.code === "CSV_MAX_RECORD_SIZE") parser.destroy(error);
        else broken.push(error?.message ?? "no reason told");
        return undefined;
      },
    }),
  );
  source.on("error", (error) => parser.destroy(error));
  const rows: AsyncIterator<Cells> = parser[Symbol.asyncIterator]();
  const { ahead, fault } = await lookAhead(rows);
  if (ahead.length === 0) {
    if (fault !== null) throw fault;
    for (const reason of broken) yield skipped(reason);
  }
  const layout = layoutOfRows(ahead, options);
  if (typeof layout === "string") {
    yield skipped(layout);
    parser.destroy();
    return;
  }
  let position = 0;
  for (const cells of ahead) yield rowOf(cells, layout, position++, options.fileId);
  if (fault !== null) throw fault;
  for await (const cells of { [Symbol.asyncIterator]: () => rows }) {
    yield rowOf(cells, layout, position++, options.fileId);
  }
  for (const reason of broken) yield skipped(reason);
}

/** The first line, and everything from the start. */
async function headerOf(content: Content): Promise<{ header: string; whole: Content }> {
  const iterator = content[Symbol.asyncIterator]();
  const held: Uint8Array[] = [];
  for (let size = 0; size < HEADER_BYTES_MAX; ) {
    const next = await iterator.next();
    if (next.done) break;
    held.push(next.value);
    size += next.value.byteLength;
    if (next.value.includes(LINE_END)) break;
  }
  const header = firstLine(new TextDecoder().decode(Buffer.concat(held)));
  async function* whole(): AsyncGenerator<Uint8Array> {
    yield* held.splice(0);
    yield* { [Symbol.asyncIterator]: () => iterator };
  }
  return { header, whole: whole() };
}

/** The first rows, and the fault that came after them, if one did. */
async function lookAhead(rows: AsyncIterator<Cells>): Promise<{ ahead: Cells[]; fault: unknown }> {
  const ahead: Cells[] = [];
  try {
    while (ahead.length < ROWS_AHEAD) {
      const next = await rows.next();
      if (next.done) break;
      ahead.push(next.value);
    }
  } catch (fault) {
    return { ahead, fault };
  }
  return { ahead, fault: null };
}

/** Columns as told or guessed by their names; when, if no name says it, by what looks like a date. */
function layoutOfRows(rows: Cells[], { columns }: ImportOptions): Layout | string {
  const [first] = rows;
  if (first === undefined) return "no rows below the names of the columns";
  const layout = layoutOf(Object.keys(first), columns);
  if (typeof layout === "string") return layout;
  const isDate = ([, text]: [string, string]) => /^\d{1,4}[-/.]\d/.test(text) && instantOf(text) !== null;
  const dated = layout.end === null ? Object.entries(first).find(isDate)?.[0] : undefined;
  if (dated !== undefined) layout.start ??= [dated];
  const start = (layout.start ?? layout.end)?.[0];
  if (start !== undefined) layout.dayFirst = isDayFirst(rows.map((cells) => cells[start] ?? ""));
  return layout;
}

function firstLine(text: string): string {
  return text.replace(/^\ufeff/, "").split(/\r?\n/, 1)[0]!;
}

/** The one that is told, or parts the names, of which cells may have others. */
function delimiterOf(header: string): string {
  const told = DELIMITER_TOLD.exec(header)?.[1];
  if (told !== undefined) return told;
  const bare = header.replace(/"[^"]*"/g, "");
  return DELIMITERS.reduce((a, b) => (bare.split(b).length > bare.split(a).length ? b : a));
}

/** The first line has columns that could be a run's and a task's. */
function detects(head: string): boolean {
  const first = firstLine(head);
  return !/^\s*[{[<]/.test(first) && first.split(delimiterOf(first)).length > 1;
}

export const csv: Importer = { format: "csv", detects, read };

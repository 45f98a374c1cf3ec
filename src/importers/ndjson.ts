// JSON by the line, or an array: executions of the native format, and events of any keys (columns as told or guessed).
import { isObject } from "../core/spans.ts";
import { parseExecution } from "../protocol.ts";
import { type Content, type Imported, type Importer, type ImportOptions, skipped } from "./format.ts";
import { jsonParts } from "./json-stream.ts";
import { layoutOf, rowOf } from "./table.ts";

async function* readNative(content: Content): AsyncGenerator<Imported> {
  for await (const part of jsonParts(content, ["executions"])) {
    if ("malformed" in part) {
      yield skipped(`not JSON: ${part.malformed}`);
      continue;
    }
    const isWrapper =
      part.key === null && typeof part.value === "object" && part.value !== null && "executions" in part.value;
    if (isWrapper) continue; // Its elements came one by one.
    const parsed = parseExecution(part.value);
    if (parsed.success) yield { kind: "execution", execution: parsed.data };
    else
      yield skipped(`${parsed.error.issues[0]!.path.join(".") || "the execution"}: ${parsed.error.issues[0]!.message}`);
  }
}

/** Keys under which documents have their records. */
const LISTS = ["events", "rows", "jobs"];
/** Objects within each other that are looked into. */
const NESTED_MAX = 4;

async function* readRows(content: Content, options: ImportOptions): AsyncGenerator<Imported> {
  let position = 0;
  for await (const part of jsonParts(content, LISTS)) {
    if ("malformed" in part) {
      yield skipped(`not JSON: ${part.malformed}`);
      continue;
    }
    // Lists of lists: each inner one is a trace.
    for (const value of Array.isArray(part.value) ? part.value : [part.value]) {
      if (!isObject(value)) yield skipped("a line that is no object");
      else {
        const cells = cellsOf(value);
        // Lines of one file may differ in their keys.
        const layout = layoutOf(Object.keys(cells), options.columns);
        if (typeof layout === "string") {
          // What is left around the elements that came one by one is no record, nor meant as one.
          if (!isEmptied(value) || position === 0) yield skipped(layout + whereRecordsMayBe(value));
        } else yield rowOf(cells, layout, position++, options.fileId);
      }
    }
  }
}

/** Objects inside a record, as events have them: `{data: {flow: 7}}` has a column `data.flow`. Deeper ones stay as they are. */
function cellsOf(record: Record<string, unknown>, depth = NESTED_MAX): Record<string, unknown> {
  if (depth === 0 || !Object.values(record).some(isObject)) return record;
  return Object.fromEntries(
    Object.entries(record).flatMap(([key, value]) =>
      isObject(value)
        ? Object.entries(cellsOf(value, depth - 1)).map(([inner, cell]) => [`${key}.${inner}`, cell])
        : [[key, value]],
    ),
  );
}

function isEmptied(value: Record<string, unknown>): boolean {
  return LISTS.some((key) => Array.isArray(value[key]) && value[key].length === 0);
}

/** A document whose records are further inside. People paste such words into a shell: plain keys only. */
function whereRecordsMayBe(value: Record<string, unknown>): string {
  const [key] =
    Object.entries(value).find(([name, inner]) => /^\w+$/.test(name) && Array.isArray(inner) && isObject(inner[0])) ??
    [];
  return key === undefined ? "" : `; "${key}" has objects: jq -c '.${key}[]' makes lines of them`;
}

export const native: Importer = {
  format: "native",
  detects: (head) => /^\s*[{[]/.test(head) && /"runId"\s*:/.test(head) && /"executionId"\s*:/.test(head),
  read: readNative,
};

/** The last guess for JSON: whatever is left. */
export const ndjson: Importer = {
  format: "ndjson",
  detects: (head) => /^\s*[{[]/.test(head.replace(/^\ufeff/, "")),
  read: readRows,
};

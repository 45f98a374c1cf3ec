// JSON by the line, or an array: executions of the native format, and events of any keys (columns as told or guessed).
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

async function* readRows(content: Content, options: ImportOptions): AsyncGenerator<Imported> {
  let position = 0;
  for await (const part of jsonParts(content, ["events", "rows"])) {
    if ("malformed" in part) {
      yield skipped(`not JSON: ${part.malformed}`);
      continue;
    }
    const { value } = part;
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      yield skipped("a line that is no object");
      continue;
    }
    // Lines of one file may differ in their keys.
    const layout = layoutOf(Object.keys(value), options.columns);
    if (typeof layout === "string") yield skipped(layout);
    else yield rowOf(value as Record<string, unknown>, layout, position++, options.fileId);
  }
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

// OTLP/JSON trace files: one export request, or one a line, as the collector's file exporter writes them; and answers of query
// APIs that hold such requests (Jaeger's v3 under "result", Tempo's under "trace" or as "batches").
import { decodeOtlpSpans, isObject } from "../core/spans.ts";
import { type Content, type Imported, type Importer, skipped } from "./format.ts";
import { jsonParts } from "./json-stream.ts";

/** Arrays of resources with their spans, as OTLP, the protobuf field and Tempo call them. */
const ARRAYS = ["resourceSpans", "resource_spans", "batches"];
const OTHER_SIGNALS = /^resource_?(metrics|logs|profiles)$/i;

async function* read(content: Content): AsyncGenerator<Imported> {
  const nowMs = Date.now();
  for await (const part of jsonParts(content, ARRAYS)) {
    if ("malformed" in part) {
      yield skipped(`not JSON: ${part.malformed}`);
      continue;
    }
    const { key, value } = part;
    if (key !== null && key !== "") yield* spansOf({ [key === "batches" ? "resourceSpans" : key]: [value] }, nowMs);
    else yield* spansOfDocument(value, nowMs);
  }
}

/** A request, what is left of one whose resources were read one by one, an answer around one, or a resource by itself. */
function* spansOfDocument(value: unknown, nowMs: number): Generator<Imported> {
  if (!isObject(value)) {
    yield skipped("not OTLP: must be an object with `resourceSpans`");
    return;
  }
  const inner = value.result ?? value.trace;
  if ("scopeSpans" in value || "instrumentationLibrarySpans" in value)
    yield* spansOf({ resourceSpans: [value] }, nowMs);
  else if ("scope_spans" in value) yield* spansOf({ resource_spans: [value] }, nowMs);
  else if (Array.isArray(value.batches)) yield* spansOf({ resourceSpans: value.batches }, nowMs);
  else if (ARRAYS.some((name) => name in value)) yield* spansOf(value, nowMs);
  else if (isObject(inner)) yield* spansOfDocument(inner, nowMs);
  else {
    const others = Object.keys(value).filter((name) => OTHER_SIGNALS.test(name));
    yield skipped(others.length > 0 ? `${others.join(", ")}: not traces` : "a document without spans");
  }
}

function* spansOf(request: unknown, nowMs: number): Generator<Imported> {
  const decoded = decodeOtlpSpans(request, nowMs);
  if ("reason" in decoded) {
    yield skipped(`not OTLP: ${decoded.detail}`);
    return;
  }
  for (const span of decoded.spans) yield { kind: "span", span };
  for (const { reason } of decoded.rejected) yield skipped(reason.replace(/^span [0-9a-f]+: /, ""));
}

export const otlp: Importer = {
  format: "otlp",
  detects: (head) =>
    /^\s*[{[]/.test(head) &&
    /"(resource_?(spans|metrics|logs|profiles)|scope_?spans|instrumentationLibrarySpans)"\s*:/i.test(head),
  read,
};

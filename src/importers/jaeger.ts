// Jaeger JSON as its UI and query API give it: {"data":[{traceID, spans, processes}]}. Times are microseconds.
import type { AttributeValue, Span, SpanKind } from "../core/spans.ts";
import { type Content, type Imported, type Importer, skipped } from "./format.ts";
import { jsonParts } from "./json-stream.ts";

interface JaegerTag {
  key: string;
  value: unknown;
}
interface JaegerSpan {
  traceID: string;
  spanID: string;
  parentSpanID?: string;
  operationName?: string;
  references?: { refType: string; traceID: string; spanID: string }[];
  startTime: number;
  duration: number;
  tags?: JaegerTag[];
  processID?: string;
  process?: JaegerProcess;
}
interface JaegerProcess {
  serviceName?: string;
  tags?: JaegerTag[];
}
interface JaegerTrace {
  traceID: string;
  spans?: JaegerSpan[];
  processes?: Record<string, JaegerProcess>;
}

const KINDS = new Set<SpanKind>(["internal", "server", "client", "producer", "consumer"]);

async function* read(content: Content): AsyncGenerator<Imported> {
  for await (const part of jsonParts(content, ["data"])) {
    if ("malformed" in part) {
      yield skipped(`not JSON: ${part.malformed}`);
      continue;
    }
    // A document by itself is a trace when it has spans; else it is the rest around "data".
    const trace = part.value as JaegerTrace;
    if (trace === null || typeof trace !== "object" || !Array.isArray(trace.spans)) {
      if (part.key !== null) yield skipped("a trace without spans");
      continue;
    }
    for (const span of trace.spans) yield imported(span, trace);
  }
}

function imported(span: JaegerSpan, trace: JaegerTrace): Imported {
  if (typeof span.spanID !== "string" || typeof span.startTime !== "number")
    return skipped("a span without id or start");
  const process = span.process ?? trace.processes?.[span.processID ?? ""] ?? {};
  const attributes = attributesOf(span.tags);
  const resource = attributesOf(process.tags);
  if (process.serviceName !== undefined) resource.set("service.name", process.serviceName);
  const references = span.references ?? [];
  const traceId = traceHex(span.traceID);
  // FOLLOWS_FROM within the trace is a cause as well; the caller is the first CHILD_OF.
  const parent = references.find((reference) => reference.refType === "CHILD_OF" && reference.traceID === span.traceID);
  const parentId = parent?.spanID ?? span.parentSpanID ?? "";
  const follows = references.filter((reference) => reference !== parent);
  const kind = String(attributes.get("span.kind") ?? "") as SpanKind;
  const parsed: Span = {
    traceId,
    spanId: spanHex(span.spanID),
    parentSpanId: /^0*$/.test(parentId) ? null : spanHex(parentId),
    name: span.operationName ?? "",
    kind: KINDS.has(kind) ? kind : "unspecified",
    startMs: span.startTime / 1000,
    endMs: (span.startTime + (span.duration ?? 0)) / 1000,
    error: attributes.get("error") === true || attributes.get("error") === "true",
    attributes,
    resource,
    links: follows.map((reference) => ({ traceId: traceHex(reference.traceID), spanId: spanHex(reference.spanID) })),
  };
  return { kind: "span", span: parsed };
}

/** Jaeger leaves out leading zeros, and older clients have 64-bit trace ids. */
function traceHex(id: string): string {
  return id.toLowerCase().padStart(32, "0");
}

function spanHex(id: string): string {
  return id.toLowerCase().padStart(16, "0");
}

function attributesOf(tags: JaegerTag[] | undefined): Map<string, AttributeValue> {
  const attributes = new Map<string, AttributeValue>();
  for (const { key, value } of tags ?? []) {
    if (typeof value === "string" || typeof value === "number" || typeof value === "boolean")
      attributes.set(key, value);
  }
  return attributes;
}

export const jaeger: Importer = {
  format: "jaeger",
  detects: (head) =>
    /^\s*[{[]/.test(head) && /"traceID"\s*:/.test(head) && /"(spans|spanID|operationName)"\s*:/.test(head),
  read,
};

// Jaeger JSON as its UI and query API give it: {"data":[{traceID, spans, processes}]}, or such traces, or spans by themselves as its
// storages keep them (with their process inside; Elasticsearch under "_source"). Times are microseconds.
import { type AttributeValue, isObject, type Span, type SpanKind } from "../core/spans.ts";
import { type Content, type Imported, type Importer, skipped } from "./format.ts";
import { jsonParts } from "./json-stream.ts";
import { parentHex, spanHex, traceHex } from "./span-ids.ts";

/** What JSON has in the place of a value: fields are looked at one by one. */
type Json = Record<string, unknown>;

const KINDS = new Set<SpanKind>(["internal", "server", "client", "producer", "consumer"]);

async function* read(content: Content): AsyncGenerator<Imported> {
  for await (const part of jsonParts(content, ["data"])) {
    if ("malformed" in part) yield skipped(`not JSON: ${part.malformed}`);
    else yield* spansOf(part.value, part.key !== null);
  }
}

/** `isElement` false: a document by itself, which may be the rest around "data". */
function* spansOf(value: unknown, isElement: boolean): Generator<Imported> {
  if (!isObject(value)) yield skipped("a trace that is no object");
  else if (Array.isArray(value.spans)) {
    const processes = isObject(value.processes) ? value.processes : {};
    for (const span of value.spans) yield isObject(span) ? imported(span, processes) : skipped(NOT_A_SPAN);
  } else if ("spanID" in value) yield imported(value, {});
  else if (isObject(value._source)) yield* spansOf(value._source, true);
  else if (isElement || !("data" in value)) yield skipped("a trace without spans");
  else for (const error of listOf(value.errors)) yield skipped(`the query's error: ${String(error.msg ?? error.code)}`);
}

const NOT_A_SPAN = "a span without id or start";

function imported(span: Json, processes: Json): Imported {
  const { spanID: spanId, traceID: ownTrace, startTime } = span;
  if (typeof spanId !== "string" || typeof ownTrace !== "string" || typeof startTime !== "number") {
    return skipped(NOT_A_SPAN);
  }
  const named = processes[String(span.processID ?? "")];
  const process = isObject(span.process) ? span.process : isObject(named) ? named : {};
  const attributes = attributesOf(span);
  const resource = attributesOf(process);
  if (typeof process.serviceName === "string") resource.set("service.name", process.serviceName);
  const references = listOf(span.references).filter((reference) => typeof reference.spanID === "string");
  // FOLLOWS_FROM within the trace is a cause as well; the caller is the first CHILD_OF.
  const parent = references.find(
    ({ refType, traceID }) => refType === "CHILD_OF" && (traceID ?? ownTrace) === ownTrace,
  );
  const follows = references.filter((reference) => reference !== parent);
  const kind = String(attributes.get("span.kind") ?? "").toLowerCase() as SpanKind;
  const durationUs = typeof span.duration === "number" ? span.duration : 0;
  const parsed: Span = {
    traceId: traceHex(ownTrace),
    spanId: spanHex(spanId),
    parentSpanId: parentHex(String(parent?.spanID ?? span.parentSpanID ?? "")),
    name: typeof span.operationName === "string" ? span.operationName : "",
    kind: KINDS.has(kind) ? kind : "unspecified",
    startMs: startTime / 1000,
    endMs: (startTime + durationUs) / 1000,
    error: attributes.get("error") === true || attributes.get("error") === "true",
    attributes,
    resource,
    links: follows.map(({ traceID, spanID }) => ({
      traceId: traceHex(String(traceID ?? ownTrace)),
      spanId: spanHex(String(spanID)),
    })),
  };
  return { kind: "span", span: parsed };
}

/** Of a span or a process: "tags" is a list; Elasticsearch may hold some of them in "tag", with @ for the dots of their names. */
function attributesOf(holder: Json): Map<string, AttributeValue> {
  const attributes = new Map<string, AttributeValue>();
  const add = (key: unknown, value: unknown) => {
    if (typeof key !== "string") return;
    if (typeof value === "string" || typeof value === "number" || typeof value === "boolean")
      attributes.set(key, value);
  };
  for (const { key, value } of listOf(holder.tags)) add(key, value);
  if (isObject(holder.tag)) for (const [key, value] of Object.entries(holder.tag)) add(key.replaceAll("@", "."), value);
  return attributes;
}

/** The objects of a list; nothing where there is no list. */
function listOf(value: unknown): Json[] {
  return Array.isArray(value) ? value.filter(isObject) : [];
}

export const jaeger: Importer = {
  format: "jaeger",
  detects: (head) =>
    (/^\s*[{[]/.test(head) && /"traceID"\s*:/.test(head) && /"(spans|spanID|operationName)"\s*:/.test(head)) ||
    // An answer without any trace.
    /^\s*\{\s*"data"\s*:\s*(null|\[\s*\])/.test(head),
  read,
};

// Zipkin JSON v2: spans in an array (`/api/v2/trace/…`, the UI's download), arrays of traces (`/api/v2/traces`), or spans by the line.
// Times are microseconds. A call over B3 headers may be two spans of one id, the caller's and, `shared`, the called one's: the caller's
// half gets a name of its own, so that the call leads from one task to the other. Schema: zipkin.io/zipkin-api.
import { type AttributeValue, isObject, type Span, type SpanKind } from "../core/spans.ts";
import { type Content, type Imported, type Importer, skipped } from "./format.ts";
import { jsonParts } from "./json-stream.ts";
import { parentHex, spanHex, traceHex } from "./span-ids.ts";

type Json = Record<string, unknown>;

/** Zipkin's kinds; one without is a part of what runs it. */
const KINDS = new Map<unknown, SpanKind>([
  ["SERVER", "server"],
  ["CLIENT", "client"],
  ["PRODUCER", "producer"],
  ["CONSUMER", "consumer"],
]);
/** Spans of one trace that are looked at together for halves of one id. */
const TOGETHER_MAX = 10_000;

async function* read(content: Content): AsyncGenerator<Imported> {
  let together: Json[] = [];
  for await (const part of jsonParts(content, [""])) {
    if ("malformed" in part) {
      yield skipped(`not JSON: ${part.malformed}`);
      continue;
    }
    for (const span of Array.isArray(part.value) ? part.value : [part.value]) {
      const reason = reasonAgainst(span);
      if (reason !== null) {
        yield skipped(reason);
        continue;
      }
      if (together.length >= TOGETHER_MAX || (together.length > 0 && together[0]!.traceId !== span.traceId)) {
        yield* spansOf(together);
        together = [];
      }
      together.push(span);
    }
  }
  yield* spansOf(together);
}

function reasonAgainst(span: unknown): string | null {
  if (!isObject(span) || typeof span.traceId !== "string" || typeof span.id !== "string") return "a span without id";
  if (Array.isArray(span.binaryAnnotations)) return "a span of Zipkin's version 1: version 2 is read (/api/v2/…)";
  return null;
}

function* spansOf(together: Json[]): Generator<Imported> {
  const calling = new Set<unknown>();
  const called = new Set<unknown>();
  for (const span of together) (span.shared === true ? called : calling).add(span.id);
  for (const span of together) {
    const id = spanHex(String(span.id));
    const caller = `${id}-caller`;
    const isHalf = calling.has(span.id) && called.has(span.id);
    yield { kind: "span", span: spanOf(span, isHalf && span.shared !== true ? caller : id, isHalf ? caller : null) };
  }
}

/** `caller`: the name of the calling half, where there is one. */
function spanOf(span: Json, spanId: string, caller: string | null): Span {
  const attributes = new Map<string, AttributeValue>();
  if (isObject(span.tags)) {
    for (const [name, value] of Object.entries(span.tags)) if (typeof value === "string") attributes.set(name, value);
  }
  const peer = nameOf(span.remoteEndpoint);
  if (peer !== null) attributes.set("peer.service", peer);
  const service = nameOf(span.localEndpoint);
  const above = parentHex(String(span.parentId ?? ""));
  const startUs = typeof span.timestamp === "number" ? span.timestamp : 0;
  const durationUs = typeof span.duration === "number" ? span.duration : 0;
  return {
    traceId: traceHex(String(span.traceId)),
    spanId,
    parentSpanId: caller !== null && spanId !== caller ? caller : above,
    name: typeof span.name === "string" ? span.name : "",
    kind: KINDS.get(span.kind) ?? "internal",
    startMs: startUs / 1000,
    endMs: (startUs + durationUs) / 1000,
    error: attributes.has("error") && attributes.get("error") !== "false",
    attributes,
    resource: new Map(service === null ? [] : [["service.name", service]]),
    links: [],
  };
}

function nameOf(endpoint: unknown): string | null {
  return isObject(endpoint) && typeof endpoint.serviceName === "string" && endpoint.serviceName !== ""
    ? endpoint.serviceName
    : null;
}

export const zipkin: Importer = {
  format: "zipkin",
  detects: (head) =>
    /^\s*[{[]/.test(head) &&
    /"traceId"\s*:/.test(head) &&
    /"(localEndpoint|remoteEndpoint|binaryAnnotations)"\s*:/.test(head),
  read,
};

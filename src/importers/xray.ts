// AWS X-Ray traces in the shape of BatchGetTraces: {"Traces":[{Id, Segments:[{Id, Document}]}]}, or such traces one after the other, or
// segments by themselves, as SDKs send them to the daemon.
// A Lambda invocation has two segments: the service's (AWS::Lambda: waiting, start of a sandbox, all) and the function's (AWS::Lambda::Function:
// the work). Here the first is the execution and the second belongs to it. Inferred segments (tables, buckets, topics) are services.
import { type AttributeValue, isObject, type Span, type SpanKind } from "../core/spans.ts";
import { type Content, type Imported, type Importer, skipped } from "./format.ts";
import { jsonParts } from "./json-stream.ts";
import { spanHex, traceHex } from "./span-ids.ts";

interface Segment {
  id: string | undefined;
  name: string;
  namespace: string | undefined;
  /** Seconds since the epoch. */
  start_time: number | undefined;
  end_time: number | undefined;
  parent_id: string | undefined;
  trace_id: string | undefined;
  origin: string | undefined;
  inferred: boolean;
  /** Fault, error or throttle. */
  failed: boolean;
  subsegments: Segment[];
}

/** An initialisation that ended longer before the call than this was made for nobody in particular, s. */
const COLD_GAP_S = 1;
/** Clocks of the two segments of one invocation differ by some ms, s. */
const SKEW_S = 0.05;

/** Segments by themselves that wait for others of their trace. */
const WAITING_MAX = 50_000;
const NAMELESS = "a segment without id or start";

async function* read(content: Content): AsyncGenerator<Imported> {
  const waiting = new Map<string, Segment[]>();
  let count = 0;
  for await (const part of jsonParts(content, ["Traces"])) {
    if ("malformed" in part) {
      yield skipped(`not JSON: ${part.malformed}`);
      continue;
    }
    const { key, value } = part;
    if (!isObject(value)) yield skipped("a trace that is no object");
    else if (Array.isArray(value.Segments)) yield* spansOfTrace(value.Id, value.Segments);
    else if (typeof value.trace_id === "string") {
      const others = waiting.get(value.trace_id);
      if (others === undefined) waiting.set(value.trace_id, [segmentFrom(value)]);
      else others.push(segmentFrom(value));
      const [oldest] = waiting;
      if (++count <= WAITING_MAX || oldest === undefined) continue;
      waiting.delete(oldest[0]);
      count -= oldest[1].length;
      yield* spansOfSegments(oldest[0], oldest[1]);
    } else if (key !== null) yield skipped("a trace without segments");
    else if ("Traces" in value) yield* unprocessed(value.UnprocessedTraceIds);
    // The daemon's header holds none.
    else if (!("format" in value)) yield skipped("a document without segments");
  }
  for (const [traceId, segments] of waiting) yield* spansOfSegments(traceId, segments);
}

/** Traces that were asked for and are not in the answer. */
function* unprocessed(ids: unknown): Generator<Imported> {
  if (Array.isArray(ids) && ids.length > 0) {
    yield { kind: "skipped", reason: "a trace that X-Ray did not give (UnprocessedTraceIds)", count: ids.length };
  }
}

function* spansOfTrace(id: unknown, documents: unknown[]): Generator<Imported> {
  const segments: Segment[] = [];
  for (const holder of documents) {
    const segment = segmentOf(isObject(holder) ? holder.Document : null);
    if (segment === null) yield skipped("a segment whose document is no JSON object");
    else segments.push(segment);
  }
  yield* spansOfSegments(typeof id === "string" ? id : (segments[0]?.trace_id ?? ""), segments);
}

function segmentOf(document: unknown): Segment | null {
  try {
    const segment: unknown = typeof document === "string" ? JSON.parse(document) : document;
    return isObject(segment) ? segmentFrom(segment) : null;
  } catch {
    return null;
  }
}

/** Only what has the type that it should have. */
function segmentFrom(json: Record<string, unknown>): Segment {
  const text = (value: unknown) => (typeof value === "string" ? value : undefined);
  const seconds = (value: unknown) => (typeof value === "number" ? value : undefined);
  return {
    id: text(json.id),
    name: text(json.name) ?? "unknown",
    namespace: text(json.namespace),
    start_time: seconds(json.start_time),
    end_time: seconds(json.end_time),
    parent_id: text(json.parent_id),
    trace_id: text(json.trace_id),
    origin: text(json.origin),
    inferred: json.inferred === true,
    failed: json.fault === true || json.error === true || json.throttle === true,
    subsegments: Array.isArray(json.subsegments) ? json.subsegments.filter(isObject).map(segmentFrom) : [],
  };
}

function* spansOfSegments(id: string, found: Segment[]): Generator<Imported> {
  const traceId = traceHex(digitsOf(id));
  const segments = found.filter(isNamed);
  for (const segment of found) if (!isNamed(segment)) yield skipped(NAMELESS);
  const tree = new Tree(segments);
  for (const segment of segments) {
    yield { kind: "span", span: spanOfSegment(segment, traceId, tree) };
    yield* spansOfSubsegments(segment, traceId, tree);
  }
}

function isNamed(segment: Segment): boolean {
  return segment.id !== undefined && segment.start_time !== undefined;
}

function* spansOfSubsegments(above: Segment, traceId: string, tree: Tree): Generator<Imported> {
  for (const sub of above.subsegments) {
    if (!isNamed(sub)) {
      yield skipped("a subsegment without id or start");
      continue;
    }
    // A call to a service has an inferred segment below it as well, which is the one that counts.
    const isCall = (sub.namespace === "aws" || sub.namespace === "remote") && !tree.parents.has(sub.id!);
    const span = spanOf(sub, traceId, above.id ?? null, isCall ? "client" : "internal");
    if (isCall) span.attributes.set("peer.service", sub.name);
    yield { kind: "span", span };
    yield* spansOfSubsegments(sub, traceId, tree);
  }
}

/** Which segments belong together. */
class Tree {
  /** Ids that are the parent of a segment. */
  readonly parents = new Set<string>();
  readonly #lambdas = new Map<string, Segment>();
  readonly #functions = new Map<string, Segment[]>();
  /** The segment that holds a subsegment. */
  readonly #holders = new Map<string, string>();

  constructor(segments: Segment[]) {
    for (const segment of segments) {
      if (segment.id === undefined) continue;
      if (segment.origin === "AWS::Lambda") this.#lambdas.set(segment.id, segment);
      if (segment.parent_id !== undefined) this.parents.add(segment.parent_id);
      this.#hold(segment, segment.id);
    }
    for (const segment of segments) {
      const service = this.serviceOf(segment);
      if (service?.id !== undefined) this.#functions.set(service.id, [...this.functionsOf(service), segment]);
    }
  }

  #hold(above: Segment, holder: string): void {
    for (const sub of above.subsegments) {
      if (sub.id !== undefined) this.#holders.set(sub.id, holder);
      this.#hold(sub, holder);
    }
  }

  /** The AWS::Lambda segment of a function's segment. */
  serviceOf(segment: Segment): Segment | undefined {
    if (segment.origin !== "AWS::Lambda::Function" || segment.parent_id === undefined) return undefined;
    return this.#lambdas.get(segment.parent_id) ?? this.#lambdas.get(this.#holders.get(segment.parent_id) ?? "");
  }

  functionsOf(service: Segment): Segment[] {
    return this.#functions.get(service.id ?? "") ?? [];
  }
}

function spanOfSegment(segment: Segment, traceId: string, tree: Tree): Span {
  const parentId = segment.parent_id ?? null;
  if (segment.inferred) {
    const span = spanOf(segment, traceId, parentId, "client");
    span.attributes.set("peer.service", segment.name);
    return span;
  }
  if (tree.serviceOf(segment) !== undefined) return spanOf(segment, traceId, parentId, "internal");
  const span = spanOf(segment, traceId, parentId, "server");
  span.attributes.set("faas.name", segment.name);
  const functions = segment.origin === "AWS::Lambda" ? tree.functionsOf(segment) : [segment];
  addWaiting(span, segment, functions);
  // An asynchronous call's own segment ends when it is queued; the work ends with the function.
  for (const { end_time: end, failed } of functions) {
    if (end !== undefined) span.endMs = Math.max(span.endMs, end * 1000);
    if (failed) span.error = true;
  }
  return span;
}

/** Time in the queue and the cold start that this call waited for. */
function addWaiting(span: Span, segment: Segment, functions: Segment[]): void {
  const dwell = segment.subsegments.find((sub) => sub.name === "Dwell Time");
  const queueS = dwell?.end_time === undefined ? 0 : dwell.end_time - dwell.start_time!;
  if (queueS > 0) span.attributes.set("forechain.queue_ms", queueS * 1000);
  const isService = segment.origin === "AWS::Lambda";
  for (const work of functions) {
    const init = work.subsegments.find(({ name }) => name === "Initialization" || name === "Restore");
    if (init?.start_time === undefined || init.end_time === undefined) continue;
    const began = isService ? init.start_time >= segment.start_time! - SKEW_S : true;
    if (!began || init.end_time < work.start_time! - COLD_GAP_S) continue;
    // With the service's segment known: all that the call waited for, the sandbox too. Else the initialisation alone.
    const coldS = isService ? work.start_time! - segment.start_time! - queueS : init.end_time - init.start_time;
    span.attributes.set("faas.coldstart", true);
    if (coldS > 0) span.attributes.set("forechain.cold_start_ms", coldS * 1000);
    return;
  }
}

function spanOf(segment: Segment, traceId: string, parentSpanId: string | null, kind: SpanKind): Span {
  const attributes = new Map<string, AttributeValue>();
  return {
    traceId,
    spanId: spanHex(segment.id!),
    parentSpanId: parentSpanId === null ? null : spanHex(parentSpanId),
    name: segment.name,
    kind,
    startMs: segment.start_time! * 1000,
    // Still in progress: unknown.
    endMs: (segment.end_time ?? 0) * 1000,
    error: segment.failed,
    attributes,
    resource: new Map(),
    links: [],
  };
}

/** "1-5fbcfc1f-4d2e9bed6dc0c41c39dfdb2f" holds the 32 hex digits that other tracers write. */
function digitsOf(id: string): string {
  const hex = id.replace(/^1-/, "").replaceAll("-", "");
  return /^[0-9a-f]{32}$/i.test(hex) ? hex : id;
}

export const xray: Importer = {
  format: "xray",
  detects: (head) =>
    /^\s*[{[]/.test(head) &&
    ((/"Segments"\s*:/.test(head) && /"Document"\s*:/.test(head)) ||
      /"Traces"\s*:\s*\[\s*\]/.test(head) ||
      (/"trace_id"\s*:\s*"1-[0-9a-f]{8}-/.test(head) && /"start_time"\s*:/.test(head))),
  read,
};

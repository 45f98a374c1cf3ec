// AWS X-Ray traces in the shape of BatchGetTraces: {"Traces":[{Id, Segments:[{Id, Document}]}]}, or such traces one after the other.
// A Lambda invocation has two segments: the service's (AWS::Lambda: waiting, start of a sandbox, all) and the function's (AWS::Lambda::Function:
// the work). Here the first is the execution and the second belongs to it. Inferred segments (tables, buckets, topics) are services.
import type { AttributeValue, Span, SpanKind } from "../core/spans.ts";
import { type Content, type Imported, type Importer, skipped } from "./format.ts";
import { jsonParts } from "./json-stream.ts";

interface Subsegment {
  id?: string;
  name?: string;
  namespace?: string;
  start_time?: number;
  end_time?: number;
  in_progress?: boolean;
  fault?: boolean;
  error?: boolean;
  throttle?: boolean;
  subsegments?: Subsegment[];
}
interface Segment extends Subsegment {
  parent_id?: string;
  trace_id?: string;
  origin?: string;
  inferred?: boolean;
}
interface Trace {
  Id: string;
  Segments?: { Id?: string; Document?: string | Segment }[];
}

/** An initialisation that ended longer before the call than this was made for nobody in particular, s. */
const COLD_GAP_S = 1;
/** Clocks of the two segments of one invocation differ by some ms, s. */
const SKEW_S = 0.05;

async function* read(content: Content): AsyncGenerator<Imported> {
  for await (const part of jsonParts(content, ["Traces"])) {
    if ("malformed" in part) {
      yield skipped(`not JSON: ${part.malformed}`);
      continue;
    }
    const trace = part.value as Trace;
    if (trace === null || typeof trace !== "object" || !Array.isArray(trace.Segments)) {
      if (part.key !== null) yield skipped("a trace without segments");
      continue;
    }
    yield* spansOfTrace(trace);
  }
}

function* spansOfTrace(trace: Trace): Generator<Imported> {
  const segments: Segment[] = [];
  for (const { Document: document } of trace.Segments ?? []) {
    try {
      segments.push(typeof document === "string" ? (JSON.parse(document) as Segment) : (document ?? {}));
    } catch {
      yield skipped("a segment whose document is not JSON");
    }
  }
  const traceId = traceHex(trace.Id ?? segments[0]?.trace_id ?? "");
  const tree = new Tree(segments);
  for (const segment of segments) {
    if (typeof segment.id !== "string" || typeof segment.start_time !== "number") {
      yield skipped("a segment without id or start");
      continue;
    }
    yield { kind: "span", span: spanOfSegment(segment, traceId, tree) };
    yield* spansOfSubsegments(segment, traceId, tree);
  }
}

function* spansOfSubsegments(above: Subsegment, traceId: string, tree: Tree): Generator<Imported> {
  for (const sub of above.subsegments ?? []) {
    if (typeof sub.id !== "string" || typeof sub.start_time !== "number") {
      yield skipped("a subsegment without id or start");
      continue;
    }
    // A call to a service has an inferred segment below it as well, which is the one that counts.
    const isCall = (sub.namespace === "aws" || sub.namespace === "remote") && !tree.parents.has(sub.id);
    const span = spanOf(sub, traceId, above.id ?? null, isCall ? "client" : "internal");
    if (isCall) span.attributes.set("peer.service", sub.name ?? "unknown");
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

  #hold(above: Subsegment, holder: string): void {
    for (const sub of above.subsegments ?? []) {
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
  if (segment.inferred === true) {
    const span = spanOf(segment, traceId, parentId, "client");
    span.attributes.set("peer.service", segment.name ?? "unknown");
    return span;
  }
  if (tree.serviceOf(segment) !== undefined) return spanOf(segment, traceId, parentId, "internal");
  const span = spanOf(segment, traceId, parentId, "server");
  span.attributes.set("faas.name", segment.name ?? "unknown");
  const functions = segment.origin === "AWS::Lambda" ? tree.functionsOf(segment) : [segment];
  addWaiting(span, segment, functions);
  // An asynchronous call's own segment ends when it is queued; the work ends with the function.
  for (const { end_time: end, fault, error } of functions) {
    if (end !== undefined) span.endMs = Math.max(span.endMs, end * 1000);
    if (fault === true || error === true) span.error = true;
  }
  return span;
}

/** Time in the queue and the cold start that this call waited for. */
function addWaiting(span: Span, segment: Segment, functions: Segment[]): void {
  const dwell = segment.subsegments?.find((sub) => sub.name === "Dwell Time");
  const queueS = dwell?.end_time === undefined ? 0 : dwell.end_time - dwell.start_time!;
  if (queueS > 0) span.attributes.set("forechain.queue_ms", queueS * 1000);
  const isService = segment.origin === "AWS::Lambda";
  for (const work of functions) {
    const init = work.subsegments?.find((sub) => sub.name === "Initialization");
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

function spanOf(segment: Subsegment, traceId: string, parentSpanId: string | null, kind: SpanKind): Span {
  const attributes = new Map<string, AttributeValue>();
  return {
    traceId,
    spanId: segment.id!,
    parentSpanId,
    name: segment.name ?? "",
    kind,
    startMs: segment.start_time! * 1000,
    // Still in progress: unknown.
    endMs: (segment.end_time ?? 0) * 1000,
    error: segment.fault === true || segment.error === true || segment.throttle === true,
    attributes,
    resource: new Map(),
    links: [],
  };
}

/** "1-5fbcfc1f-4d2e9bed6dc0c41c39dfdb2f" holds the 32 hex digits that other tracers write. */
function traceHex(id: string): string {
  const hex = id.replace(/^1-/, "").replaceAll("-", "").toLowerCase();
  return /^[0-9a-f]{32}$/.test(hex) ? hex : id;
}

export const xray: Importer = {
  format: "xray",
  detects: (head) => /^\s*[{[]/.test(head) && /"Segments"\s*:/.test(head) && /"Document"\s*:/.test(head),
  read,
};

// Spans → records. In: OTLP/JSON trace requests (opentelemetry-proto, JSON mapping), or spans that an importer or the protobuf
// decoder has made. Out: one RunRecord per span, and a reason for each span that cannot be one.
// SERVER and CONSUMER spans and roots are executions of tasks, and so is a span of no kind whose parent ran in another service; the
// others collapse into the task that runs them (profile.ts resolves to which: children arrive before their parents).
import type { ServiceUse } from "../protocol.ts";
import { knownInstant, normaliseTaskName, type RecordRest, type RunRecord } from "./records.ts";

export type SpanKind = "unspecified" | "internal" | "server" | "client" | "producer" | "consumer";
export type AttributeValue = string | number | boolean;

/** A span of any format. Ids are lower-case hex where the format says so, free text in others. */
export interface Span {
  traceId: string;
  spanId: string;
  parentSpanId: string | null;
  name: string;
  kind: SpanKind;
  startMs: number;
  endMs: number;
  error: boolean;
  attributes: Map<string, AttributeValue>;
  resource: Map<string, AttributeValue>;
  links: { traceId: string; spanId: string }[];
}

interface RejectedSpan {
  /** Position in the request, counted over all resources and scopes. */
  index: number;
  reason: string;
}
export interface DecodedSpans {
  spans: Span[];
  rejected: RejectedSpan[];
}

/** An instant further ahead of our clock than this is a fault of the sender's, ms. */
export const FUTURE_MAX_MS = 24 * 3_600_000;
/** Links of one span that are read. */
const LINKS_MAX = 128;
/** Longest id that is taken (protocol.ts Id). */
const ID_CHARS_MAX = 128;

const HEX_TRACE = /^[0-9a-f]{32}$/;
const HEX_SPAN = /^[0-9a-f]{16}$/;
const ZEROS = /^0*$/;

/** A span as a record. */
export function recordOfSpan(span: Span): RunRecord {
  const { attributes } = span;
  const isUnkinded = span.kind === "unspecified";
  const isTask = span.kind === "server" || span.kind === "consumer" || span.parentSpanId === null || isUnkinded;
  const rest: RecordRest = {};
  addLinks(rest, span);
  if (isUnkinded) rest.unkinded = text(span, "service.name") ?? "";
  if (isTask) {
    const version = text(span, "faas.version") ?? text(span, "service.version");
    if (version !== null) rest.version = version.slice(0, 128);
    const alias = text(span, "faas.invocation.id") ?? text(span, "faas.invocation_id") ?? text(span, "faas.execution");
    if (alias !== null && alias !== span.spanId) rest.alias = alias.slice(0, ID_CHARS_MAX);
  }
  const cold = attributes.get("faas.coldstart");
  if (cold === true || cold === "true") rest.cold = true;
  const coldStartMs = Number(attributes.get("forechain.cold_start_ms") ?? Number.NaN);
  if (coldStartMs >= 0) rest.coldStartMs = Math.round(coldStartMs * 1000) / 1000;
  const queueMs = Number(attributes.get("forechain.queue_ms") ?? Number.NaN);
  if (queueMs >= 0) rest.queueMs = Math.round(queueMs * 1000) / 1000;
  if (!isTask && (span.kind === "client" || span.kind === "producer")) {
    const service = serviceOf(span);
    if (service !== null) rest.services = [service];
  }
  return {
    runId: span.traceId,
    executionId: span.spanId,
    parentId: span.parentSpanId,
    task: isTask ? taskOf(span) : null,
    startMs: knownInstant(span.startMs),
    endMs: knownInstant(span.endMs),
    status: span.error ? "error" : "ok",
    rest,
  };
}

function taskOf(span: Span): string {
  const faas = text(span, "faas.name");
  if (faas !== null) return normaliseTaskName(faas) || "unnamed";
  const service = text(span, "service.name") ?? "unknown_service";
  return normaliseTaskName(`${service}/${span.name === "" ? "unnamed" : span.name}`);
}

function addLinks(rest: RecordRest, span: Span): void {
  const runId = span.attributes.get("forechain.run_id") ?? span.resource.get("forechain.run_id");
  const joins = new Set<string>();
  if (typeof runId === "string" && runId !== "" && runId !== span.traceId) joins.add(runId.slice(0, ID_CHARS_MAX));
  if (span.links.length > 0) {
    rest.links = span.links.slice(0, LINKS_MAX).map((link) => link.spanId);
    for (const link of span.links.slice(0, LINKS_MAX)) if (link.traceId !== span.traceId) joins.add(link.traceId);
  }
  if (joins.size > 0) rest.joins = [...joins].sort();
}

function text(span: Span, key: string): string | null {
  const value = span.attributes.get(key) ?? span.resource.get(key);
  return typeof value === "string" && value !== "" ? value : null;
}

/** The auxiliary service that a CLIENT or PRODUCER span talks to, by the attributes of old and new conventions. */
function serviceOf(span: Span): ServiceUse | null {
  const { attributes } = span;
  const name = serviceName(attributes);
  if (name === null) return null;
  const bytes =
    number(attributes, "http.request.body.size", "http.request_content_length", "messaging.message.body.size") +
    number(attributes, "http.response.body.size", "http.response_content_length");
  const latencyMs = span.endMs - span.startMs;
  const use: ServiceUse = { service: name.slice(0, 256), calls: 1, bytes };
  if (span.startMs > 0 && latencyMs >= 0) use.latencyMs = Math.round(latencyMs * 1000) / 1000;
  return use;
}

function serviceName(attributes: Map<string, AttributeValue>): string | null {
  let system: string | null = null;
  let isService = attributes.has("peer.service");
  for (const [key, value] of attributes) {
    const category = key.slice(0, key.indexOf("."));
    if (!SERVICE_CATEGORIES.has(category)) continue;
    isService = true;
    if (key.endsWith(".system") || key.endsWith(".system.name")) system = String(value);
  }
  if (!isService) return null;
  for (const key of SERVICE_NAME_KEYS) {
    const value = attributes.get(key);
    if (typeof value === "string" && value !== "") return value;
  }
  for (const key of URL_KEYS) {
    const value = attributes.get(key);
    const host =
      typeof value === "string" ? /^[a-z][a-z0-9+.-]*:\/\/(?:[^/?#@]*@)?([^/?#]+)/i.exec(value)?.[1] : undefined;
    if (host !== undefined) return host;
  }
  return system;
}

/** Whether anything is made of the attribute: decoders may leave out the others. */
export function isReadAttribute(key: string): boolean {
  return READ_PREFIXES.has(key.slice(0, key.indexOf(".")));
}

const READ_PREFIXES = new Set([
  "faas",
  "service",
  "peer",
  "server",
  "net",
  "db",
  "messaging",
  "http",
  "url",
  "rpc",
  "forechain",
]);
const SERVICE_CATEGORIES = new Set(["db", "messaging", "http", "url", "rpc"]);
const SERVICE_NAME_KEYS = ["peer.service", "server.address", "net.peer.name", "net.host.name", "http.host"];
const URL_KEYS = ["url.full", "http.url", "db.connection_string"];

function number(attributes: Map<string, AttributeValue>, ...keys: string[]): number {
  for (const key of keys) {
    const value = Number(attributes.get(key) ?? Number.NaN);
    if (Number.isFinite(value) && value >= 0) return Math.round(value);
  }
  return 0;
}

// ── OTLP/JSON ────────────────────────────────────────────────────────────────────────────────────────────────────────

type Json = Record<string, unknown>;
export type OtlpFault = { reason: "not-otlp"; pointer: string; detail: string };

const KINDS: SpanKind[] = ["unspecified", "internal", "server", "client", "producer", "consumer"];

/**
 * The spans of an ExportTraceServiceRequest in JSON. A bad span is told by its position and the rest is kept; a request that
 * is not one at all is a fault.
 */
export function decodeOtlpSpans(request: unknown, nowMs: number): DecodedSpans | OtlpFault {
  if (!isObject(request)) return { reason: "not-otlp", pointer: "", detail: "must be an object with `resourceSpans`" };
  if ("resource_spans" in request) return decodeOtlpSpans(inCamelCase(request), nowMs);
  const out: DecodedSpans = { spans: [], rejected: [] };
  const resourceSpans = request.resourceSpans ?? [];
  const others = request.resourceSpans === undefined ? Object.keys(request) : [];
  if (others.length > 0) {
    const got = others.slice(0, KEYS_TOLD).join(", ").slice(0, KEYS_TOLD_CHARS);
    return { reason: "not-otlp", pointer: "", detail: `must have \`resourceSpans\`; got ${got}` };
  }
  if (!Array.isArray(resourceSpans)) {
    return { reason: "not-otlp", pointer: "/resourceSpans", detail: "must be an array" };
  }
  for (const [r, group] of resourceSpans.entries()) {
    const pointer = `/resourceSpans/${r}`;
    if (!isObject(group)) return { reason: "not-otlp", pointer, detail: "must be an object" };
    const resource = isObject(group.resource) ? attributesOf(group.resource.attributes) : NO_ATTRIBUTES;
    // Before OTLP 0.15 the field had the second name.
    const scopes = group.scopeSpans ?? group.instrumentationLibrarySpans ?? [];
    if (!Array.isArray(scopes)) {
      return { reason: "not-otlp", pointer: `${pointer}/scopeSpans`, detail: "must be an array" };
    }
    for (const [s, scope] of scopes.entries()) {
      const spans = isObject(scope) ? (scope.spans ?? []) : null;
      if (!Array.isArray(spans)) {
        return { reason: "not-otlp", pointer: `${pointer}/scopeSpans/${s}/spans`, detail: "must be an array" };
      }
      for (const span of spans) addSpan(out, spanOfJson(span, resource), nowMs);
    }
  }
  return out;
}

/** Keys of a request that is none, for its answer. */
const KEYS_TOLD = 5;
const KEYS_TOLD_CHARS = 200;

/** The names of protobuf's fields, which some senders keep, as the JSON mapping has them. */
function inCamelCase(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(inCamelCase);
  if (!isObject(value)) return value;
  const renamed = Object.entries(value).map(([key, inner]) => [
    key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()),
    inCamelCase(inner),
  ]);
  return Object.fromEntries(renamed);
}

/** Adds one decoded span, or the reason why it is none. Shared by the JSON and the protobuf decoder. */
export function addSpan(out: DecodedSpans, span: Span | string, nowMs: number): void {
  const index = out.spans.length + out.rejected.length;
  if (typeof span === "string") {
    out.rejected.push({ index, reason: span });
    return;
  }
  const fault = timeFault("startTimeUnixNano", span.startMs, nowMs) ?? timeFault("endTimeUnixNano", span.endMs, nowMs);
  if (fault === null) out.spans.push(span);
  else out.rejected.push({ index, reason: `span ${span.spanId}: ${fault}` });
}

function timeFault(field: string, ms: number, nowMs: number): string | null {
  if (Number.isNaN(ms)) return `${field} is not a number`;
  if (ms < 0) return `${field} is negative`;
  if (ms > nowMs + FUTURE_MAX_MS) return `${field} is more than a day in the future`;
  return null;
}

function spanOfJson(span: unknown, resource: Map<string, AttributeValue>): Span | string {
  if (!isObject(span)) return "a span must be an object";
  const traceId = idOf(span.traceId, HEX_TRACE);
  if (traceId === null) return "traceId must be 16 bytes, hex or base64, not all zero";
  const spanId = idOf(span.spanId, HEX_SPAN);
  if (spanId === null) return "spanId must be 8 bytes, hex or base64, not all zero";
  const parent = span.parentSpanId;
  let parentSpanId: string | null = null;
  if (typeof parent === "string" && !ZEROS.test(parent)) {
    parentSpanId = idOf(parent, HEX_SPAN);
    if (parentSpanId === null) return `span ${spanId}: parentSpanId must be 8 bytes, hex or base64`;
  } else if (parent !== undefined && parent !== null && typeof parent !== "string") {
    return `span ${spanId}: parentSpanId must be text`;
  }
  const name = span.name ?? "";
  if (typeof name !== "string") return `span ${spanId}: name must be text`;
  return {
    traceId,
    spanId,
    parentSpanId,
    name,
    kind: kindOf(span.kind),
    startMs: nanosToMs(span.startTimeUnixNano),
    endMs: nanosToMs(span.endTimeUnixNano),
    error: isError(span.status),
    attributes: attributesOf(span.attributes),
    resource,
    links: linksOf(span.links),
  };
}

function kindOf(kind: unknown): SpanKind {
  if (typeof kind === "number") return KINDS[kind] ?? "unspecified";
  if (typeof kind !== "string") return "unspecified";
  if (/^\d$/.test(kind)) return KINDS[Number(kind)] ?? "unspecified";
  const name = kind.replace("SPAN_KIND_", "").toLowerCase() as SpanKind;
  return KINDS.includes(name) ? name : "unspecified";
}

function isError(status: unknown): boolean {
  if (!isObject(status)) return false;
  return status.code === 2 || status.code === "STATUS_CODE_ERROR";
}

/** int64 comes as a string, from some senders as a number; 256 ns of rounding is less than the microsecond that is kept. */
function nanosToMs(nanos: unknown): number {
  if (nanos === undefined || nanos === null || nanos === "") return 0;
  if (typeof nanos !== "string" && typeof nanos !== "number") return Number.NaN;
  return Number(nanos) / 1e6;
}

/** Hex in any case as the JSON mapping says, or base64 as some senders write. Null: neither, or all zero. */
function idOf(id: unknown, hex: RegExp): string | null {
  if (typeof id !== "string") return null;
  if (hex.test(id)) return ZEROS.test(id) ? null : id;
  const lower = id.toLowerCase();
  if (hex.test(lower)) return lower;
  const decoded = hexOfBase64(id);
  return decoded !== null && hex.test(decoded) && !ZEROS.test(decoded) ? decoded : null;
}

const BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

function hexOfBase64(base64: string): string | null {
  // 16 bytes are 22 characters and 8 bytes are 11, without padding.
  const body = base64.replace(/=+$/, "").replaceAll("-", "+").replaceAll("_", "/");
  if (body.length !== 22 && body.length !== 11) return null;
  let bits = 0;
  let held = 0;
  let hex = "";
  for (const character of body) {
    const value = BASE64.indexOf(character);
    if (value < 0) return null;
    bits = (bits << 6) | value;
    held += 6;
    if (held < 8) continue;
    held -= 8;
    hex += ((bits >> held) & 0xff).toString(16).padStart(2, "0");
    bits &= (1 << held) - 1;
  }
  return hex;
}

function linksOf(links: unknown): Span["links"] {
  if (!Array.isArray(links) || links.length === 0) return [];
  const found: Span["links"] = [];
  for (const link of links) {
    if (!isObject(link)) continue;
    const traceId = idOf(link.traceId, HEX_TRACE);
    const spanId = idOf(link.spanId, HEX_SPAN);
    if (traceId !== null && spanId !== null) found.push({ traceId, spanId });
  }
  return found;
}

const NO_ATTRIBUTES = new Map<string, AttributeValue>();

/** Scalar attributes by key. Arrays, maps and bytes carry nothing that the profile reads. */
function attributesOf(attributes: unknown): Map<string, AttributeValue> {
  if (!Array.isArray(attributes) || attributes.length === 0) return NO_ATTRIBUTES;
  const found = new Map<string, AttributeValue>();
  for (const attribute of attributes) {
    if (!isObject(attribute) || typeof attribute.key !== "string" || !isObject(attribute.value)) continue;
    const value = scalarOf(attribute.value);
    if (value !== null) found.set(attribute.key, value);
  }
  return found;
}

function scalarOf(value: Json): AttributeValue | null {
  if (typeof value.stringValue === "string") return value.stringValue;
  if (typeof value.boolValue === "boolean") return value.boolValue;
  if (value.intValue !== undefined) return Number(value.intValue);
  if (typeof value.doubleValue === "number") return value.doubleValue;
  return null;
}

/** Whether JSON gave an object: where one is expected logs hold nulls, numbers and lists as well. */
export function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

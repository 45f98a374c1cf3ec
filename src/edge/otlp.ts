// OTLP/HTTP in protobuf. In: the bytes of an ExportTraceServiceRequest. Out: spans as spans.ts knows them; and back, answers.
// Field numbers are those of opentelemetry-proto 1.x. Only what the profile reads is decoded, the rest is skipped by its length: protobuf
// reflection needs `eval`, which Workers refuse, and generated code would decode everything.
import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import {
  type AttributeValue,
  addSpan,
  type DecodedSpans,
  isReadAttribute,
  type OtlpFault,
  type Span,
  type SpanKind,
} from "../core/spans.ts";

const KINDS: SpanKind[] = ["unspecified", "internal", "server", "client", "producer", "consumer"];
const TRACE_ID_BYTES = 16;
const SPAN_ID_BYTES = 8;
const STATUS_ERROR = 2;
const NANOS_PER_MS = 1e6;
const TWO_32 = 2 ** 32;

/** The spans of a request. A bad span is told by its position and the rest is kept; bytes that are no request are a fault. */
export function decodeOtlpProtobuf(bytes: Uint8Array, nowMs: number): DecodedSpans | OtlpFault {
  const out: DecodedSpans = { spans: [], rejected: [] };
  try {
    eachField(new BinaryReader(bytes), bytes.length, (reader, field) => {
      if (field !== 1) return false;
      readResourceSpans(reader, out, nowMs);
      return true;
    });
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error);
    return { reason: "not-otlp", pointer: "", detail: `not a protobuf ExportTraceServiceRequest: ${detail}` };
  }
  return out;
}

/** Calls `read` for every field up to `end`; a field that it does not take (false) is skipped. */
function eachField(
  reader: BinaryReader,
  end: number,
  read: (reader: BinaryReader, field: number, type: WireType) => boolean,
): void {
  while (reader.pos < end) {
    const [field, type] = reader.tag();
    if (!read(reader, field, type)) reader.skip(type, field);
  }
  if (reader.pos !== end) throw new Error("a message is longer than its length");
}

/** End of the embedded message whose length comes now. */
function messageEnd(reader: BinaryReader): number {
  const length = reader.uint32();
  const end = reader.pos + length;
  if (end > reader.len) throw new Error("a message is longer than the body");
  return end;
}

function readResourceSpans(reader: BinaryReader, out: DecodedSpans, nowMs: number): void {
  const end = messageEnd(reader);
  const began = reader.pos;
  const resource = new Map<string, AttributeValue>();
  // Senders write the resource first, but may not: it is needed for every span, so it is read in a pass of its own.
  eachField(reader, end, (_, field) => {
    if (field !== 1) return false;
    eachField(reader, messageEnd(reader), (inner, key) => key === 1 && readAttribute(inner, resource));
    return true;
  });
  reader.pos = began;
  eachField(reader, end, (_, field) => {
    // 1000: what scopes were called before OTLP 0.15.
    if (field !== 2 && field !== 1000) return false;
    eachField(reader, messageEnd(reader), (inner, key) => {
      if (key !== 2) return false;
      addSpan(out, readSpan(inner, resource), nowMs);
      return true;
    });
    return true;
  });
}

function readSpan(reader: BinaryReader, resource: Map<string, AttributeValue>): Span | string {
  const span: Span = {
    traceId: "",
    spanId: "",
    parentSpanId: null,
    name: "",
    kind: "unspecified",
    startMs: 0,
    endMs: 0,
    error: false,
    attributes: new Map(),
    resource,
    links: [],
  };
  let parent = "";
  eachField(reader, messageEnd(reader), (_, field) => {
    if (field === 1) span.traceId = hex(reader.bytes());
    else if (field === 2) span.spanId = hex(reader.bytes());
    else if (field === 4) parent = hex(reader.bytes());
    else if (field === 5) span.name = reader.string();
    else if (field === 6) span.kind = KINDS[reader.int32()] ?? "unspecified";
    else if (field === 7) span.startMs = instant(reader);
    else if (field === 8) span.endMs = instant(reader);
    else if (field === 9) readAttribute(reader, span.attributes);
    else if (field === 13) readLink(reader, span);
    else if (field === 15) span.error = readStatus(reader);
    else return false;
    return true;
  });
  if (!isId(span.traceId, TRACE_ID_BYTES)) return "traceId must be 16 bytes, not all zero";
  if (!isId(span.spanId, SPAN_ID_BYTES)) return "spanId must be 8 bytes, not all zero";
  if (/[^0]/.test(parent)) {
    if (parent.length !== SPAN_ID_BYTES * 2) return `span ${span.spanId}: parentSpanId must be 8 bytes`;
    span.parentSpanId = parent;
  }
  return span;
}

function isId(id: string, bytes: number): boolean {
  return id.length === bytes * 2 && /[^0]/.test(id);
}

/** 64-bit nanoseconds as ms; 256 ns of rounding is less than the microsecond that is kept. */
function instant(reader: BinaryReader): number {
  const low = reader.fixed32();
  const high = reader.fixed32();
  return (high * TWO_32 + low) / NANOS_PER_MS;
}

function readLink(reader: BinaryReader, span: Span): void {
  let traceId = "";
  let spanId = "";
  eachField(reader, messageEnd(reader), (_, field) => {
    if (field === 1) traceId = hex(reader.bytes());
    else if (field === 2) spanId = hex(reader.bytes());
    else return false;
    return true;
  });
  if (isId(traceId, TRACE_ID_BYTES) && isId(spanId, SPAN_ID_BYTES)) span.links.push({ traceId, spanId });
}

function readStatus(reader: BinaryReader): boolean {
  let code = 0;
  eachField(reader, messageEnd(reader), (_, field) => {
    if (field !== 3) return false;
    code = reader.int32();
    return true;
  });
  return code === STATUS_ERROR;
}

/** One KeyValue. Values that nobody reads are skipped undecoded. Always true: the field is taken. */
function readAttribute(reader: BinaryReader, attributes: Map<string, AttributeValue>): true {
  let key = "";
  eachField(reader, messageEnd(reader), (_, field) => {
    if (field === 1) key = reader.string();
    else if (field === 2 && isReadAttribute(key)) readValue(reader, key, attributes);
    else return false;
    return true;
  });
  return true;
}

function readValue(reader: BinaryReader, key: string, attributes: Map<string, AttributeValue>): void {
  eachField(reader, messageEnd(reader), (_, field) => {
    if (field === 1) attributes.set(key, reader.string());
    else if (field === 2) attributes.set(key, reader.bool());
    else if (field === 3) attributes.set(key, Number(reader.int64()));
    else if (field === 4) attributes.set(key, reader.double());
    else return false;
    return true;
  });
}

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

function hex(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += HEX[byte];
  return text;
}

/** ExportTraceServiceResponse; empty where everything was taken. */
export function encodeOtlpAnswer(partial: { rejectedSpans: string; errorMessage: string } | null): Uint8Array {
  if (partial === null) return new Uint8Array(0);
  const writer = new BinaryWriter().tag(1, WireType.LengthDelimited).fork();
  writer.tag(1, WireType.Varint).int64(partial.rejectedSpans);
  writer.tag(2, WireType.LengthDelimited).string(partial.errorMessage);
  return writer.join().finish();
}

/** google.rpc.Status, which OTLP wants for errors of protobuf requests. */
export function encodeOtlpStatus(code: number, message: string): Uint8Array {
  return new BinaryWriter()
    .tag(1, WireType.Varint)
    .int32(code)
    .tag(2, WireType.LengthDelimited)
    .string(message)
    .finish();
}

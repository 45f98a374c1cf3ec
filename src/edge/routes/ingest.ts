// Execution logs in. POST /v1/executions: JSON or NDJSON of executions. POST /v1/traces: OTLP/HTTP.
// A bad record is told by its position and the rest is kept; what was accepted is durable before the answer.
import { type Context, Hono } from "hono";
import { packRecords, type RunRecord, recordOfExecution } from "../../core/records.ts";
import { type DecodedSpans, decodeOtlpSpans, FUTURE_MAX_MS, type OtlpFault, recordOfSpan } from "../../core/spans.ts";
import {
  EXECUTIONS_PER_BATCH_MAX,
  Execution,
  type IngestAnswer,
  type Problem,
  parseExecution,
} from "../../protocol.ts";
import type { AppEnv, KeyGrant } from "../app.ts";
import { requireScope } from "../auth.ts";
import { decodeOtlpProtobuf, encodeOtlpAnswer, encodeOtlpStatus } from "../otlp.ts";
import { fieldErrors, problem } from "../problem.ts";
import { fetchOutputs } from "../written-outputs.ts";
import { readBody } from "./ingest-body.ts";

/** Rejected records told one by one; what is beyond is told by the last reason. */
const REJECTED_TOLD_MAX = 1_000;
/** Reasons in the one text that OTLP has for them. */
const REASONS_TOLD = 10;
/** Records of one call to the GraphWriter. */
const RECORDS_PER_CALL = 5_000;
/** Names of unknown fields that are told. */
const IGNORED_FIELDS_MAX = 32;

const PROTOBUF_TYPE = "application/x-protobuf";
const LINE_TYPES = ["application/x-ndjson", "application/ndjson", "application/jsonl"];

/** A record that is not taken, and which of its fields is to blame. */
interface Rejection {
  index: number;
  pointer: string;
  detail: string;
}

export const ingestRoutes = new Hono<AppEnv>();

ingestRoutes.post("/v1/executions", requireScope("ingest", "agent"), async (c) => {
  const type = mediaType(c);
  const isLines = LINE_TYPES.includes(type);
  if (!isLines && type !== "application/json") return unsupported(c, ["application/json", ...LINE_TYPES]);
  const body = await readBody(c);
  if (!body.ok) return body.response;
  const items = isLines ? executionsOfLines(body.text) : executionsOfJson(body.text);
  if ("fault" in items) return problem(c, items.status, items.title, items.fault, [items.error]);
  const { list } = items;
  if (list.length === 0 || list.length > EXECUTIONS_PER_BATCH_MAX) {
    const detail = `must hold 1 to ${EXECUTIONS_PER_BATCH_MAX} executions; got ${list.length}`;
    const [status, title] = list.length === 0 ? ([422, "Empty batch"] as const) : ([413, "Batch too large"] as const);
    return problem(c, status, title, `The batch ${detail}.`, [{ pointer: "/executions", detail }]);
  }
  const checked = checkExecutions(list, c.get("key"));
  if (checked.records.length === 0) return nothingTaken(c, checked.rejected);
  const stored = await store(c, checked.records);
  c.executionCtx.waitUntil(
    fetchOutputs(c.env, c.get("key").workspace, checked.records, c.executionCtx).catch((error: unknown) =>
      console.warn(`outputs are fetched by their readers: ${error}`),
    ),
  );
  const refused = stored.refused.map(({ at, reason }) => ({ index: checked.positions[at]!, reason }));
  const rejected = checked.rejected.map(({ index, pointer, detail }) => ({ index, reason: reasonOf(pointer, detail) }));
  const answer: IngestAnswer = {
    accepted: stored.accepted,
    duplicates: stored.duplicates,
    rejected: [...rejected, ...refused].sort((a, b) => a.index - b.index).slice(0, REJECTED_TOLD_MAX),
  };
  if (Object.keys(checked.ignoredFields).length > 0) answer.ignoredFields = checked.ignoredFields;
  return c.json(answer, 202);
});

/** Not one record could be taken: an error of the sender's, and each field is named. */
function nothingTaken(c: Context<AppEnv>, rejected: Rejection[]): Response {
  const errors = rejected.map(({ index, pointer, detail }) => ({ pointer: `/executions/${index}${pointer}`, detail }));
  const first = errors[0]!;
  return problem(c, 422, "No execution could be taken", `${first.pointer}: ${first.detail}`, errors);
}

function mediaType(c: Context): string {
  return (c.req.header("content-type") ?? "").split(";")[0]!.trim().toLowerCase();
}

function unsupported(c: Context, types: string[]): Response {
  const got = mediaType(c).slice(0, 100) || "none";
  return problem(c, 415, "Unsupported media type", `content-type must be ${types.join(" or ")}; got ${got}.`);
}

ingestRoutes.post("/v1/traces", requireScope("ingest"), async (c) => {
  const type = mediaType(c);
  const isProtobuf = type === PROTOBUF_TYPE;
  if (!isProtobuf && type !== "application/json") return unsupported(c, ["application/json", PROTOBUF_TYPE]);
  const body = await readBody(c);
  if (!body.ok) return isProtobuf ? asStatus(body.response) : body.response;
  const decoded: DecodedSpans | TitledFault = isProtobuf
    ? decodeOtlpProtobuf(body.bytes, Date.now())
    : decodeJson(body.text);
  if ("reason" in decoded) {
    const { pointer, detail } = decoded;
    const answer = problem(
      c,
      400,
      decoded.title ?? "Not an OTLP trace request",
      `${pointer || "the body"}: ${detail}`,
      [{ pointer, detail }],
    );
    return isProtobuf ? asStatus(answer) : answer;
  }
  const records = decoded.spans.map(recordOfSpan);
  const stored = await store(c, records);
  const reasons = [
    ...decoded.rejected.map(({ index, reason }) => `span ${index}: ${reason}`),
    ...stored.refused.map(({ at, reason }) => `span ${records[at]!.executionId}: ${reason}`),
  ];
  const partial = reasons.length === 0 ? null : partialSuccess(reasons);
  if (isProtobuf) return c.body(encodeOtlpAnswer(partial).slice().buffer, 200, { "content-type": PROTOBUF_TYPE });
  return c.json(partial === null ? {} : { partialSuccess: partial });
});

type TitledFault = OtlpFault & { title?: string };

function decodeJson(text: string): DecodedSpans | TitledFault {
  let request: unknown;
  try {
    request = JSON.parse(text);
  } catch (error) {
    const detail = error instanceof SyntaxError ? error.message : "not JSON";
    return { reason: "not-otlp", pointer: "", detail, title: "Malformed JSON" };
  }
  return decodeOtlpSpans(request, Date.now());
}

/** gRPC's code for a bad argument, which google.rpc.Status takes. */
const INVALID_ARGUMENT = 3;

/** The problem as OTLP wants it for protobuf requests. */
async function asStatus(response: Response): Promise<Response> {
  const { detail }: Problem = await response.json();
  const headers = { "content-type": PROTOBUF_TYPE };
  return new Response(encodeOtlpStatus(INVALID_ARGUMENT, detail), { status: response.status, headers });
}

/** OTLP counts what was not taken and has one text for why: the first reasons, and how many more there are. */
function partialSuccess(reasons: string[]): { rejectedSpans: string; errorMessage: string } {
  const told = reasons.slice(0, REASONS_TOLD).join("; ");
  const more = reasons.length > REASONS_TOLD ? `; and ${reasons.length - REASONS_TOLD} more` : "";
  return { rejectedSpans: String(reasons.length), errorMessage: told + more };
}

interface Stored {
  accepted: number;
  duplicates: number;
  /** Positions in the list that was given. */
  refused: { at: number; reason: string }[];
}

async function store(c: Context<AppEnv>, records: RunRecord[]): Promise<Stored> {
  const { workspace } = c.get("key");
  const writer = c.env.GRAPH_WRITER.get(c.env.GRAPH_WRITER.idFromName(workspace));
  const total: Stored = { accepted: 0, duplicates: 0, refused: [] };
  for (let from = 0; from < records.length; from += RECORDS_PER_CALL) {
    const part = records.slice(from, from + RECORDS_PER_CALL);
    const answer = await writer.ingest(workspace, packRecords(part));
    total.accepted += answer.accepted;
    total.duplicates += answer.duplicates;
    if (answer.refused.length === 0) continue;
    const reasons = new Map(
      answer.refused.map(({ runId, executionId, reason }) => [`${runId} ${executionId}`, reason]),
    );
    for (const [i, record] of part.entries()) {
      const reason = reasons.get(`${record.runId} ${record.executionId}`);
      if (reason !== undefined) total.refused.push({ at: from + i, reason });
    }
  }
  return total;
}

type Items =
  | { list: unknown[] }
  | { fault: string; error: { pointer: string; detail: string }; title: string; status: 400 | 422 };

function executionsOfJson(text: string): Items {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch (error) {
    const detail = error instanceof SyntaxError ? error.message : "not JSON";
    const title = "Malformed JSON";
    return { fault: "The body is not valid JSON.", error: { pointer: "", detail }, title, status: 400 };
  }
  if (Array.isArray(body)) return { list: body };
  const list = typeof body === "object" && body !== null ? (body as { executions?: unknown }).executions : undefined;
  if (Array.isArray(list)) return { list };
  const detail = "must be an array of executions";
  return {
    fault: `/executions: ${detail}`,
    error: { pointer: "/executions", detail },
    title: "Invalid fields",
    status: 422,
  };
}

/** Each line an execution; a line that is not JSON is rejected like any other bad record. */
function executionsOfLines(text: string): Items {
  const list: unknown[] = [];
  for (const line of text.split("\n")) {
    if (line.trim() === "") continue;
    try {
      list.push(JSON.parse(line));
    } catch {
      list.push(new Malformed());
    }
  }
  return { list };
}

class Malformed {}

interface Checked {
  records: RunRecord[];
  /** Of each record, in the batch. */
  positions: number[];
  rejected: Rejection[];
  ignoredFields: Record<string, number>;
}

const KNOWN_FIELDS = new Set(Object.keys(Execution.shape));

function checkExecutions(list: unknown[], key: KeyGrant): Checked {
  const checked: Checked = { records: [], positions: [], rejected: [], ignoredFields: {} };
  const futureMs = Date.now() + FUTURE_MAX_MS;
  for (const [index, item] of list.entries()) {
    const parsed = parseExecution(item);
    const fault = parsed.success ? refusalOf(parsed.data, futureMs, key) : faultOf(item, parsed.error);
    if (fault !== null || !parsed.success) {
      if (fault !== null) checked.rejected.push({ index, ...fault });
      continue;
    }
    for (const field in item as object) if (!KNOWN_FIELDS.has(field)) countField(checked.ignoredFields, field);
    const execution = parsed.data;
    // An agent's key speaks for its own VM only, whatever its records say.
    if (key.vm !== null) Object.assign(execution, { cluster: key.cluster ?? undefined, vm: key.vm });
    checked.records.push(recordOfExecution(execution));
    checked.positions.push(index);
  }
  return checked;
}

interface Fault {
  pointer: string;
  detail: string;
}

function reasonOf(pointer: string, detail: string): string {
  return `${pointer || "the execution"}: ${detail}`;
}

function faultOf(item: unknown, error: Parameters<typeof fieldErrors>[0]): Fault {
  if (item instanceof Malformed) return { pointer: "", detail: "the line is not valid JSON" };
  return fieldErrors(error)[0]!;
}

function refusalOf(execution: Execution, futureMs: number, key: KeyGrant): Fault | null {
  for (const field of ["startMs", "endMs"] as const) {
    if (execution[field] < 0) return { pointer: `/${field}`, detail: "must not be negative" };
    if (execution[field] > futureMs) return { pointer: `/${field}`, detail: "is more than a day in the future" };
  }
  const isOwn = (execution.vm ?? key.vm) === key.vm && (execution.cluster ?? key.cluster) === key.cluster;
  if (key.vm === null || isOwn) return null;
  return { pointer: "/vm", detail: `this agent's key belongs to VM ${key.cluster}/${key.vm}` };
}

function countField(fields: Record<string, number>, name: string): void {
  const field = name.slice(0, 64);
  if (Object.hasOwn(fields, field)) fields[field]!++;
  else if (Object.keys(fields).length < IGNORED_FIELDS_MAX) fields[field] = 1;
}

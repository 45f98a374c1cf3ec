// Execution logs in. POST /v1/executions: JSON or NDJSON of executions. POST /v1/traces: OTLP/HTTP.
// A bad record is told by its position and the rest is kept; what was accepted is durable before the answer.
import { type Context, Hono } from "hono";
import { packRecords, type RunRecord, recordOfExecution } from "../../core/records.ts";
import { decodeOtlpJson, FUTURE_MAX_MS } from "../../core/spans.ts";
import { EXECUTIONS_PER_BATCH_MAX, Execution, type IngestAnswer } from "../../protocol.ts";
import type { AppEnv, KeyGrant } from "../app.ts";
import { requireScope } from "../auth.ts";
import { fieldErrors, problem } from "../problem.ts";
import { readBody } from "./ingest-body.ts";

/** Rejected records told one by one; what is beyond is told by the last reason. */
const REJECTED_TOLD_MAX = 1_000;
/** Records of one call to the GraphWriter. */
const RECORDS_PER_CALL = 5_000;
/** Names of unknown fields that are told. */
const IGNORED_FIELDS_MAX = 32;

type Rejected = IngestAnswer["rejected"];

export const ingestRoutes = new Hono<AppEnv>();

ingestRoutes.post("/v1/executions", requireScope("ingest", "agent"), async (c) => {
  const body = await readBody(c);
  if (!body.ok) return body.response;
  const items = /ndjson|jsonl/i.test(c.req.header("content-type") ?? "")
    ? executionsOfLines(body.text)
    : executionsOfJson(body.text);
  if ("fault" in items)
    return problem(c, items.status, items.title, items.fault, [{ pointer: items.pointer, detail: items.fault }]);
  if (items.list.length > EXECUTIONS_PER_BATCH_MAX) {
    const detail = `A batch may have at most ${EXECUTIONS_PER_BATCH_MAX} executions; got ${items.list.length}.`;
    return problem(c, 413, "Batch too large", detail, [{ pointer: "/executions", detail }]);
  }
  const checked = checkExecutions(items.list, c.get("key"));
  const stored = await store(c, checked.records);
  const answer: IngestAnswer = {
    accepted: stored.accepted,
    duplicates: stored.duplicates,
    rejected: [
      ...checked.rejected,
      ...stored.refused.map(({ at, reason }) => ({ index: checked.positions[at]!, reason })),
    ]
      .sort((a, b) => a.index - b.index)
      .slice(0, REJECTED_TOLD_MAX),
  };
  if (Object.keys(checked.ignoredFields).length > 0) answer.ignoredFields = checked.ignoredFields;
  return c.json(answer, 202);
});

ingestRoutes.post("/v1/traces", requireScope("ingest"), async (c) => {
  const body = await readBody(c);
  if (!body.ok) return body.response;
  let request: unknown;
  try {
    request = JSON.parse(body.text);
  } catch (error) {
    const detail = error instanceof SyntaxError ? error.message : "not JSON";
    return problem(c, 400, "Malformed JSON", "The body is not valid JSON.", [{ pointer: "", detail }]);
  }
  const decoded = decodeOtlpJson(request, Date.now());
  if ("reason" in decoded) {
    const { pointer, detail } = decoded;
    return problem(c, 400, "Not an OTLP trace request", `${pointer || "the body"}: ${detail}`, [{ pointer, detail }]);
  }
  const stored = await store(c, decoded.records);
  const reasons = [
    ...decoded.rejected.map(({ index, reason }) => `span ${index}: ${reason}`),
    ...stored.refused.map(({ at, reason }) => `span ${decoded.records[at]!.executionId}: ${reason}`),
  ];
  return c.json(reasons.length === 0 ? {} : { partialSuccess: partialSuccess(reasons) });
});

/** OTLP counts what was not taken and has one text for why: the first reasons, and how many more there are. */
function partialSuccess(reasons: string[]): { rejectedSpans: string; errorMessage: string } {
  const told = reasons.slice(0, 10).join("; ");
  const more = reasons.length > 10 ? `; and ${reasons.length - 10} more` : "";
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

type Items = { list: unknown[] } | { fault: string; pointer: string; title: string; status: 400 | 422 };

function executionsOfJson(text: string): Items {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch (error) {
    return {
      fault: error instanceof SyntaxError ? error.message : "not JSON",
      pointer: "",
      title: "Malformed JSON",
      status: 400,
    };
  }
  if (Array.isArray(body)) return { list: body };
  const list = typeof body === "object" && body !== null ? (body as { executions?: unknown }).executions : undefined;
  if (Array.isArray(list)) return { list };
  return { fault: "must be an array of executions", pointer: "/executions", title: "Invalid fields", status: 422 };
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
  rejected: Rejected;
  ignoredFields: Record<string, number>;
}

const KNOWN_FIELDS = new Set(Object.keys(Execution.shape));

function checkExecutions(list: unknown[], key: KeyGrant): Checked {
  const checked: Checked = { records: [], positions: [], rejected: [], ignoredFields: {} };
  const futureMs = Date.now() + FUTURE_MAX_MS;
  for (const [index, item] of list.entries()) {
    const parsed = Execution.safeParse(item);
    const reason = parsed.success ? refusalOf(parsed.data, futureMs, key) : faultOf(item, parsed.error);
    if (reason !== null || !parsed.success) {
      checked.rejected.push({ index, reason: reason ?? "not an execution" });
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

function faultOf(item: unknown, error: Parameters<typeof fieldErrors>[0]): string {
  if (item instanceof Malformed) return "the line is not valid JSON";
  const [first] = fieldErrors(error);
  return `${first!.pointer || "the execution"}: ${first!.detail}`;
}

function refusalOf(execution: Execution, futureMs: number, key: KeyGrant): string | null {
  if (execution.startMs < 0) return "/startMs: must not be negative";
  if (execution.endMs < 0) return "/endMs: must not be negative";
  if (execution.startMs > futureMs) return "/startMs: is more than a day in the future";
  if (execution.endMs > futureMs) return "/endMs: is more than a day in the future";
  const isOwn = (execution.vm ?? key.vm) === key.vm && (execution.cluster ?? key.cluster) === key.cluster;
  if (key.vm !== null && !isOwn) return `/vm: this agent's key belongs to VM ${key.cluster}/${key.vm}`;
  return null;
}

function countField(fields: Record<string, number>, name: string): void {
  const field = name.slice(0, 64);
  if (Object.hasOwn(fields, field)) fields[field]!++;
  else if (Object.keys(fields).length < IGNORED_FIELDS_MAX) fields[field] = 1;
}

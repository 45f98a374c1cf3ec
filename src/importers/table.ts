// A row of named cells → an execution. Used by CSV and by NDJSON of any keys. Columns that are not told are guessed from the
// names that event logs and span tables usually have.

import type { Span, SpanKind } from "../core/spans.ts";
import { Execution } from "../protocol.ts";
import { type Columns, type Imported, skipped } from "./format.ts";
import { durationOf, instantOf, unitOf } from "./instant.ts";
import { parentHex, spanHex, traceHex } from "./span-ids.ts";

const COLUMNS_TOLD_MAX = 20;
const COLUMN_CHARACTERS_MAX = 40;

type Field = keyof Columns | "kind" | "pod";

/** Line breaks inside a quoted cell. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: taking control characters out is the point
const CONTROL = /[\u0000-\u001f\u007f]+/g;

/** By field, in order of preference, lower case without separators. */
const NAMES: Record<Field, string[]> = {
  run: [
    "caseconceptname",
    "caseid",
    "case",
    "traceid",
    "runid",
    "workflowid",
    "runname",
    "sessionid",
    "session",
    "operationid",
    "correlationid",
    "run",
  ],
  task: [
    "activity",
    "conceptname",
    "spanname",
    "operationname",
    "activityid",
    "activityname",
    "task",
    "taskname",
    "event",
    "function",
    "func",
    "jobname",
    "name",
    "taskid",
  ],
  start: [
    "starttimens",
    "starttimeunixnano",
    "starttime",
    "startms",
    "starttimestamp",
    "start",
    "timetimestamp",
    "timestamp",
    "timestamputc",
    "completetimestamp",
    "startedat",
    "startdate",
    "submit",
    "time",
    "date",
  ],
  end: [
    "endtimens",
    "endtimeunixnano",
    "endtime",
    "endms",
    "endtimestamp",
    "end",
    "completetime",
    "completetimestamp",
    "completedat",
    "finishedat",
    "enddate",
    "complete",
    "timetimestamp",
  ],
  duration: ["durationms", "durationns", "durationus", "durations", "durationseconds", "duration", "elapsed", "rt"],
  execution: ["spanid", "executionid", "eventid"],
  parent: ["parentspanid", "parentid", "parent", "operationparentid"],
  service: ["servicename", "service", "cloudrolename", "dagid", "workflowname"],
  status: ["spanstatus", "conclusion", "status", "statuscode", "state", "success"],
  version: ["version", "serviceversion"],
  kind: ["spankind", "kind"],
  pod: ["podname", "pod"],
};

/** Instead of a column: each file is one run. */
const FILE_RUN = "@file";
/** Ids that are told apart by another column: Airflow's run_id is its day, for each DAG. */
const QUALIFIED: [name: string, by: string][] = [["runid", "dagid"]];
const UNIT = /^(.+):(ns|us|ms|s)$/;

/** The columns of each field, whose cells are joined by a slash; null where there is none. */
export type Layout = Record<Field, string[] | null> & {
  /** Whether 09/10/2012 is in October. */
  dayFirst: boolean;
  isFileRun: boolean;
  /** Else a column is only looked at where its unit is known. */
  isDurationTold: boolean;
  /** Of durations that are bare numbers, ms; null: not known. */
  unitMs: number | null;
};

/** Finds the columns. Errors: a message where run or task cannot be told. */
export function layoutOf(names: string[], columns: Columns): Layout | string {
  const plain = new Map<string, string>();
  for (const name of names) {
    const key = name.toLowerCase().replace(/[^a-z0-9]/g, "");
    if (!plain.has(key)) plain.set(key, name);
  }
  const isFileRun = columns.run === FILE_RUN;
  const isDurationTold = columns.duration !== undefined;
  const layout = { dayFirst: false, isFileRun, isDurationTold, unitMs: null } as Layout;
  for (const field of Object.keys(NAMES) as Field[]) {
    const asked = field in columns ? columns[field as keyof Columns] : undefined;
    const isTold = asked !== undefined && !(field === "run" && isFileRun);
    const told = isTold ? columnsTold(asked, names, field) : guessed(field, plain);
    if (typeof told === "string") return `there is no column "${told}"; there are: ${listed(names)}`;
    layout[field] = told;
  }
  const [, , unit] = UNIT.exec(columns.duration ?? "") ?? [];
  layout.unitMs = unitOf(unit ?? layout.duration?.[0] ?? "");
  // An id of rows, where rows name their parents; else it may be anything's.
  const id = plain.get("id");
  if (layout.parent !== null && id !== undefined) layout.execution ??= [id];
  const missing = (["run", "task"] as const).filter(
    (field) => layout[field] === null && !(field === "run" && isFileRun),
  );
  if (missing.length > 0) {
    const which = missing.map((field) => `the ${field}: name it (${OPTIONS[field]})`).join(", nor ");
    return `no column tells ${which}; there are: ${listed(names)}`;
  }
  return layout;
}

function guessed(field: Field, plain: Map<string, string>): string[] | null {
  const key = NAMES[field].find((name) => plain.has(name));
  if (key === undefined) return null;
  const by = QUALIFIED.find(([name]) => name === key)?.[1];
  const qualifier = by === undefined ? undefined : plain.get(by);
  return qualifier === undefined ? [plain.get(key)!] : [qualifier, plain.get(key)!];
}

/** One column, or several with a plus between them; of durations a unit may follow. A text: the name that is no column's. */
function columnsTold(asked: string, names: string[], field: Field): string[] | string {
  // Padded headers are met: nobody types the spaces.
  const find = (wanted: string) => names.find((name) => name === wanted || name.trim() === wanted);
  const whole = find(asked) ?? (field === "duration" ? find(UNIT.exec(asked)?.[1] ?? asked) : undefined);
  if (whole !== undefined) return [whole];
  const parts = asked.split("+");
  const found = parts.map(find);
  const missing = found.indexOf(undefined);
  if (missing >= 0) return parts.length > 1 ? parts[missing]! : asked;
  return found as string[];
}

/** How `import` and `evaluate` are told. */
const OPTIONS = {
  run: "--column run=NAME or run=NAME+NAME, run=@file where each file is one run; for evaluate --case NAME",
  task: "--column task=NAME, for evaluate --activity NAME",
};

/** Names of columns for a message, a few of them and none at length. */
function listed(names: string[]): string {
  const shown = names.slice(0, COLUMNS_TOLD_MAX).map((name) => {
    const plain = name.trim();
    if (plain === "") return '""';
    return plain.length > COLUMN_CHARACTERS_MAX ? `${plain.slice(0, COLUMN_CHARACTERS_MAX)}…` : plain;
  });
  const more = names.length - shown.length;
  return shown.join(", ") + (more > 0 ? ` and ${more} more` : "");
}

/** One row. `position` is its number in the file: it keeps the order of rows with equal times. */
export function rowOf(cells: Record<string, unknown>, layout: Layout, position: number, fileId: string): Imported {
  const cell = (field: Field): string => textOf(cells, layout[field]);
  const run = layout.isFileRun ? fileId : cell("run");
  if (run === "") return skipped("no run in this row");
  const name = cell("task").replace(CONTROL, " ");
  if (name === "") return skipped("no task in this row");
  const times = timesOf(cell, layout);
  if (typeof times === "string") return skipped(times);
  const [startMs, endMs] = times;
  const service = cell("service") || cell("pod").replace(/-[0-9a-f]{6,10}-[0-9a-z]{5}$/, "");
  const above = cell("parent");
  // Application Insights names the run as the parent of its first execution.
  const parent = above === run || /^(root|none|null|0*)$/i.test(above) ? null : above;
  const told = cell("status");
  const isError = /^(2|error|fail(ed|ure)?|false|STATUS_CODE_ERROR|[45]\d\d)$/i.test(told);
  const status = isError ? "error" : /^timed?_?out$/i.test(told) ? "timeout" : "ok";
  const id = cell("execution");
  const kind = kindOf(cell("kind"));
  if (kind !== null && id !== "") {
    return { kind: "span", span: spanOfRow({ run, id, parent, name, kind, service, startMs, endMs, isError }, cells) };
  }
  const parsed = Execution.safeParse({
    runId: run,
    executionId: id || `${fileId}-${position}`,
    ...(parent === null ? {} : { parentId: parent }),
    sequence: position,
    task: service === "" ? name : `${service}/${name}`,
    ...(cell("version") === "" ? {} : { version: cell("version") }),
    startMs,
    endMs,
    status,
  });
  if (parsed.success) return { kind: "execution", execution: parsed.data };
  const [issue] = parsed.error.issues;
  return skipped(`${issue!.path.join(".")}: ${issue!.message}`);
}

function textOf(cells: Record<string, unknown>, columns: string[] | null): string {
  if (columns === null) return "";
  if (columns.length > 1) return columns.map((column) => textOf(cells, [column])).join("/");
  const value = cells[columns[0]!];
  return value === null || value === undefined ? "" : String(value).trim();
}

/** Start and end, ms; 0 where unknown. Of start, end and duration two are enough, and a start alone is an instant. A text: why not. */
function timesOf(cell: (field: Field) => string, layout: Layout): [startMs: number, endMs: number] | string {
  const [start, end] = [cell("start"), cell("end")];
  const startMs = instantOf(start, layout.dayFirst);
  const endMs = end === "" ? startMs : instantOf(end, layout.dayFirst);
  if (startMs === null || endMs === null) return "a time that cannot be read";
  const isOneKnown = start === "" ? endMs > 0 : end === "" || layout.end?.[0] === layout.start?.[0];
  const duration = isOneKnown ? cell("duration") : "";
  if (duration === "") return [startMs, endMs];
  const durationMs = durationOf(duration, layout.unitMs);
  if (durationMs === null && !layout.isDurationTold) return start === "" ? [0, endMs] : [startMs, 0];
  if (durationMs === null) {
    const column = layout.duration!.join("+");
    return `a duration of unknown unit: tell it, --column duration="${column}:ms" (or s, us, ns)`;
  }
  return start === "" ? [endMs - durationMs, endMs] : [startMs, startMs + durationMs];
}

interface SpanRow {
  run: string;
  id: string;
  parent: string | null;
  name: string;
  kind: SpanKind;
  service: string;
  startMs: number;
  endMs: number;
  isError: boolean;
}

/** The peers of client spans stand in columns named like the attributes. */
const PEER_COLUMNS: [column: string, attribute: string][] = [
  ["peer_service", "peer.service"],
  ["net_peer_name", "net.peer.name"],
  ["http_url", "http.url"],
  ["db_system", "db.system"],
];

function spanOfRow(row: SpanRow, cells: Record<string, unknown>): Span {
  const attributes = new Map<string, string>();
  for (const [column, attribute] of PEER_COLUMNS) {
    const value = cells[column];
    if (typeof value === "string" && value !== "") attributes.set(attribute, value);
  }
  // A named peer alone says that it is a service.
  const peer = attributes.get("net.peer.name");
  if (peer !== undefined && !attributes.has("peer.service")) attributes.set("peer.service", peer);
  return {
    traceId: traceHex(row.run),
    spanId: spanHex(row.id),
    parentSpanId: row.parent === null ? null : parentHex(row.parent),
    name: row.name,
    kind: row.kind,
    startMs: row.startMs,
    endMs: row.endMs,
    error: row.isError,
    attributes,
    resource: new Map([["service.name", row.service]]),
    links: [],
  };
}

const KINDS: SpanKind[] = ["unspecified", "internal", "server", "client", "producer", "consumer"];

/** OTLP's numbers or names; null where the table has none. */
function kindOf(text: string): SpanKind | null {
  if (text === "") return null;
  const name = text.toLowerCase().replace("span_kind_", "") as SpanKind;
  return KINDS[Number(text)] ?? (KINDS.includes(name) ? name : "unspecified");
}

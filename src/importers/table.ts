// A row of named cells → an execution. Used by CSV and by NDJSON of any keys. Columns that are not told are guessed from the
// names that event logs and span tables usually have.

import type { Span, SpanKind } from "../core/spans.ts";
import { Execution } from "../protocol.ts";
import { type Columns, type Imported, skipped } from "./format.ts";
import { instantOf } from "./instant.ts";

const COLUMNS_TOLD_MAX = 20;
const COLUMN_CHARACTERS_MAX = 40;

type Field = keyof Columns | "kind" | "pod";

/** Line breaks inside a quoted cell. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: taking control characters out is the point
const CONTROL = /[\u0000-\u001f\u007f]+/g;

/** By field, in order of preference, lower case without separators. */
const NAMES: Record<Field, string[]> = {
  run: ["caseconceptname", "caseid", "case", "traceid", "runid", "workflowid", "runname", "sessionid", "session"],
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
    "name",
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
    "completetimestamp",
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
    "timetimestamp",
  ],
  execution: ["spanid", "executionid", "eventid"],
  parent: ["parentspanid", "parentid", "parent"],
  service: ["servicename", "service"],
  status: ["spanstatus", "status", "statuscode"],
  version: ["version", "serviceversion"],
  kind: ["spankind", "kind"],
  pod: ["podname", "pod"],
};

/** The column of each field; null where there is none. */
export type Layout = Record<Field, string | null> & {
  /** Whether 09/10/2012 is in October. */
  dayFirst: boolean;
};

/** Finds the columns. Errors: a message where run or task cannot be told. */
export function layoutOf(names: string[], columns: Columns): Layout | string {
  const plain = new Map<string, string>();
  for (const name of names) {
    const key = name.toLowerCase().replace(/[^a-z0-9]/g, "");
    if (!plain.has(key)) plain.set(key, name);
  }
  const layout = { dayFirst: false } as Layout;
  for (const field of Object.keys(NAMES) as Field[]) {
    const asked = field in columns ? columns[field as keyof Columns] : undefined;
    // Padded headers are met: nobody types the spaces.
    const told = asked === undefined ? undefined : names.find((name) => name === asked || name.trim() === asked);
    if (asked !== undefined && told === undefined) {
      return `there is no column "${asked}"; there are: ${listed(names)}`;
    }
    layout[field] = told ?? NAMES[field].map((key) => plain.get(key)).find((name) => name !== undefined) ?? null;
  }
  // An id of rows, where rows name their parents; else it may be anything's.
  if (layout.parent !== null) layout.execution ??= plain.get("id") ?? null;
  for (const field of ["run", "task"] as const) {
    if (layout[field] === null) {
      return `no column tells the ${field}: name it (${OPTIONS[field]}); there are: ${listed(names)}`;
    }
  }
  return layout;
}

/** How `import` and `evaluate` are told. */
const OPTIONS = {
  run: "--column run=NAME, for evaluate --case NAME",
  task: "--column task=NAME, for evaluate --activity NAME",
};

/** Names of columns for a message, a few of them and none at length. */
function listed(names: string[]): string {
  const shown = names.slice(0, COLUMNS_TOLD_MAX).map((name) => {
    const plain = name.trim();
    return plain.length > COLUMN_CHARACTERS_MAX ? `${plain.slice(0, COLUMN_CHARACTERS_MAX)}…` : plain;
  });
  const more = names.length - shown.length;
  return shown.join(", ") + (more > 0 ? ` and ${more} more` : "");
}

/** One row. `position` is its number in the file: it keeps the order of rows with equal times. */
export function rowOf(cells: Record<string, unknown>, layout: Layout, position: number, fileId: string): Imported {
  const cell = (field: Field): string => {
    const column = layout[field];
    const value = column === null ? "" : cells[column];
    return value === null || value === undefined ? "" : String(value).trim();
  };
  const run = cell("run");
  if (run === "") return skipped("no run in this row");
  const name = cell("task").replace(CONTROL, " ");
  if (name === "") return skipped("no task in this row");
  const startMs = instantOf(cell("start"), layout.dayFirst);
  const endMs = cell("end") === "" ? startMs : instantOf(cell("end"), layout.dayFirst);
  if (startMs === null || endMs === null) return skipped("a time that cannot be read");
  const service = cell("service") || cell("pod").replace(/-[0-9a-f]{6,10}-[0-9a-z]{5}$/, "");
  const parent = /^(root|none|null|0*)$/i.test(cell("parent")) ? null : cell("parent");
  const isError = /^(2|error|fail(ed|ure)?|STATUS_CODE_ERROR|[45]\d\d)$/i.test(cell("status"));
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
    status: isError ? "error" : "ok",
  });
  if (parsed.success) return { kind: "execution", execution: parsed.data };
  const [issue] = parsed.error.issues;
  return skipped(`${issue!.path.join(".")}: ${issue!.message}`);
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
    traceId: row.run.toLowerCase(),
    spanId: row.id.toLowerCase(),
    parentSpanId: row.parent?.toLowerCase() ?? null,
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

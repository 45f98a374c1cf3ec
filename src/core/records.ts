// One record of a run, as journaled: an execution, or a span that collapses into the task that ran it.
// In: checked executions (protocol.ts) and spans (spans.ts). Out: RunRecord, and its compact text for journal and packs.
// The text is positional JSON with a table of names per batch: a span costs about 80 bytes instead of 400.
import type { Execution, ServiceUse } from "../protocol.ts";

export interface RunRecord {
  runId: string;
  executionId: string;
  parentId: string | null;
  /** Null: a collapsed span. It carries its services and its cold start to the nearest task above it. */
  task: string | null;
  /** Ms since the epoch; null where the log does not tell. */
  startMs: number | null;
  endMs: number | null;
  status: "ok" | "error" | "timeout";
  rest: RecordRest;
}

/** What most records do not have. Absent is unknown; unknown is not 0. */
export interface RecordRest {
  links?: string[];
  /** Runs that links or a declared run id name: this run is a part of theirs. */
  joins?: string[];
  sequence?: number;
  version?: string;
  attempt?: number;
  queueMs?: number;
  fetchMs?: number;
  coldStartMs?: number;
  /** A cold start of unknown length. */
  cold?: true;
  cpuMs?: number;
  memoryBytes?: number;
  inputs?: { uri: string; bytes: number }[];
  outputs?: { uri: string; bytes: number }[];
  outputBytes?: number;
  params?: Record<string, string | number | boolean>;
  services?: ServiceUse[];
  cluster?: string;
  vm?: string;
  speculative?: true;
  /** Another name of the same execution: the platform's invocation id. */
  alias?: string;
  /** The service of a span that does not tell its kind: it is an execution only where its parent ran in another one. */
  unkinded?: string;
}

/** Ids that stand for one instance, not for the kind of work: a task named by one would be a task of its own. */
const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/gi;
/** 12 and more hex digits, one of them a decimal digit, so that words ("defaced") stay. */
const LONG_HEX = /(?<![0-9a-z])(?=[a-f]*[0-9])[0-9a-f]{12,}(?![0-9a-z])/gi;
/** Five and more digits: years, ports of four digits and versions stay. */
const LONG_DIGITS = /[0-9]{5,}/g;
/** A whole path segment of digits is an id whatever its length. */
const DIGIT_SEGMENT = /(?<=\/)[0-9]+(?=\/|$|\?)/g;
/** Anything that one of the patterns above could match has a digit: most names have none and leave at once. */
const ANY_DIGIT = /[0-9]/;
/** Names of tasks at most, characters (protocol.ts TaskName). */
const TASK_NAME_CHARS_MAX = 256;
// biome-ignore lint/suspicious/noControlCharactersInRegex: taking control characters out is the point
const CONTROL = /[\u0000-\u001f\u007f]+/g;

const normalised = new Map<string, string>();
/** Distinct raw names remembered; beyond it the memory starts anew. */
const NORMALISED_MAX = 20_000;

/** A task's name with the ids inside it replaced by `*`. */
export function normaliseTaskName(raw: string): string {
  const known = normalised.get(raw);
  if (known !== undefined) return known;
  let name = raw.replace(CONTROL, " ").trim();
  if (ANY_DIGIT.test(name)) {
    name = name.replace(UUID, "*").replace(LONG_HEX, "*").replace(DIGIT_SEGMENT, "*").replace(LONG_DIGITS, "*");
  }
  name = name.slice(0, TASK_NAME_CHARS_MAX).toWellFormed();
  if (normalised.size >= NORMALISED_MAX) normalised.clear();
  normalised.set(raw, name);
  return name;
}

/** A checked execution as a record: ids in its task's name replaced, impossible times made unknown. */
export function recordOfExecution(execution: Execution): RunRecord {
  const rest: RecordRest = {};
  if (execution.links !== undefined && execution.links.length > 0) rest.links = execution.links;
  if (execution.sequence !== undefined) rest.sequence = execution.sequence;
  if (execution.version !== undefined) rest.version = execution.version;
  if (execution.attempt !== undefined) rest.attempt = execution.attempt;
  if (execution.queueMs !== undefined) rest.queueMs = execution.queueMs;
  if (execution.fetchMs !== undefined) rest.fetchMs = execution.fetchMs;
  if (execution.coldStartMs !== undefined) rest.coldStartMs = execution.coldStartMs;
  if (execution.cpuMs !== undefined) rest.cpuMs = execution.cpuMs;
  if (execution.memoryBytes !== undefined) rest.memoryBytes = execution.memoryBytes;
  if (execution.inputs !== undefined && execution.inputs.length > 0) rest.inputs = execution.inputs;
  if (execution.outputs !== undefined && execution.outputs.length > 0) rest.outputs = execution.outputs;
  if (execution.outputBytes !== undefined) rest.outputBytes = execution.outputBytes;
  if (execution.params !== undefined) rest.params = execution.params;
  if (execution.services !== undefined && execution.services.length > 0) rest.services = execution.services;
  if (execution.cluster !== undefined) rest.cluster = execution.cluster;
  if (execution.vm !== undefined) rest.vm = execution.vm;
  if (execution.speculative === true) rest.speculative = true;
  return {
    runId: execution.runId,
    executionId: execution.executionId,
    parentId: execution.parentId ?? null,
    task: normaliseTaskName(execution.task),
    startMs: knownInstant(execution.startMs),
    endMs: knownInstant(execution.endMs),
    status: execution.status,
    rest,
  };
}

/** 0 is what exporters write for "not set". Microseconds are kept, less is noise. */
export function knownInstant(ms: number): number | null {
  return ms > 0 ? Math.round(ms * 1000) / 1000 : null;
}

const STATUSES = ["ok", "error", "timeout"] as const;

/** Positional: id, parent (0: none, n > 0: record n of this run's, else its id), index of the task or -1, start or null, duration in µs or null, status, rest if any. */
type PackedRecord = [string, string | number, number, number | null, number | null, number, RecordRest?];
/** A batch: names once, then runs with their records. */
interface Packed {
  tasks: string[];
  runs: [string, PackedRecord[]][];
}

/** Records as compact text. Records of one run stay in order; runs come in the order of their first record. */
export function packRecords(records: Iterable<RunRecord>): string {
  const taskIds = new Map<string, number>();
  const runs = new Map<string, PackedRecord[]>();
  for (const record of records) {
    let id = -1;
    if (record.task !== null) {
      id = taskIds.get(record.task) ?? taskIds.size;
      if (id === taskIds.size) taskIds.set(record.task, id);
    }
    // The end is kept as a difference: shorter, and exact to the microsecond that knownInstant keeps.
    const { startMs, endMs } = record;
    const span = endMs === null ? null : startMs === null ? endMs : Math.round((endMs - startMs) * 1000);
    const packed: PackedRecord = [
      record.executionId,
      record.parentId ?? 0,
      id,
      startMs,
      span,
      STATUSES.indexOf(record.status),
    ];
    for (const _ in record.rest) {
      packed.push(record.rest);
      break;
    }
    const run = runs.get(record.runId);
    if (run === undefined) runs.set(record.runId, [packed]);
    else run.push(packed);
  }
  for (const packed of runs.values()) nameParents(packed);
  const whole: Packed = { tasks: [...taskIds.keys()], runs: [...runs] };
  return JSON.stringify(whole);
}

/** Most parents are in the batch: their number is shorter, and what is unpacked shares one text of each id. */
function nameParents(packed: PackedRecord[]): void {
  if (packed.length < 2) return;
  const numbers = new Map<string | number, number>();
  for (let i = 0; i < packed.length; i++) numbers.set(packed[i]![0], i + 1);
  for (const record of packed) record[1] = numbers.get(record[1]) ?? record[1];
}

/** The records of a text that packRecords made. */
export function unpackRecords(text: string): RunRecord[] {
  const { tasks, runs } = JSON.parse(text) as Packed;
  const records: RunRecord[] = [];
  for (const [runId, packed] of runs) {
    for (const record of packed) {
      const parent = record[1];
      const parentId = parent === 0 ? null : typeof parent === "string" ? parent : packed[parent - 1]![0];
      records.push(unpackRecord(runId, record, parentId, tasks));
    }
  }
  return records;
}

function unpackRecord(runId: string, packed: PackedRecord, parentId: string | null, tasks: string[]): RunRecord {
  const startMs = packed[3];
  const span = packed[4];
  const endMs = span === null ? null : startMs === null ? span : Math.round(startMs * 1000 + span) / 1000;
  return {
    runId,
    executionId: packed[0],
    parentId,
    task: packed[2] < 0 ? null : tasks[packed[2]]!,
    startMs,
    endMs,
    status: STATUSES[packed[5]]!,
    rest: packed[6] ?? NOTHING_ELSE,
  };
}

/** Most records share it: an empty object of their own would be a seventh of their memory. */
const NOTHING_ELSE: RecordRest = Object.freeze({});

// A run that may still grow. In: its records, in any order. Out: what is known of each execution, and whether anything is missing.
import type { RunRecord } from "./records.ts";

/** Records of one run at most, heavy ones counted by their weight; more are refused, because a run is assembled in one piece. */
export const RUN_RECORDS_MAX = 110_000;

/** Records by execution. */
export interface Records {
  records: Map<string, RunRecord>;
  /** Of all of them: see `weightOf`. */
  weight: number;
}

export interface OpenRun extends Records {
  /** Other ids of the run; never changed in place, most runs share one empty list. */
  aliases: readonly string[];
  lastArrivalMs: number;
  /** Parents named by records and not there yet; null where none is: of ten thousand open runs most are whole and wait for quiet. */
  missing: Set<string> | null;
  hasRoot: boolean;
  /** Task of the earliest record: whose gaps are looked up. The root's own name is not known before the root is. */
  first: RunRecord;
}

export interface Ingested {
  accepted: number;
  duplicates: number;
  /** Records that were not taken, with the reason; the caller tells their positions. */
  refused: { record: RunRecord; reason: string }[];
  /** Records that changed what is known: a batch of duplicates alone needs no journal. */
  changes: number;
}

const NO_ALIASES: readonly string[] = Object.freeze([]);

export function newRun(first: RunRecord, nowMs: number): OpenRun {
  return {
    records: new Map(),
    weight: 0,
    aliases: NO_ALIASES,
    lastArrivalMs: nowMs,
    missing: null,
    hasRoot: false,
    first,
  };
}

/** A run of these records, each of another execution; there is one at least. */
export function openRunOf(records: RunRecord[], lastArrivalMs: number): OpenRun {
  const run = newRun(records[0]!, lastArrivalMs);
  for (const record of records) {
    run.records.set(record.executionId, record);
    run.weight += weightOf(record);
    addToOpen(run, record);
  }
  return run;
}

/** Puts a record in its place, or tells why not. */
export function put(run: Records, record: RunRecord, result: Ingested): string | null {
  const { records } = run;
  const known = records.get(record.executionId);
  if (known !== undefined) result.duplicates++;
  if (known !== undefined && !isFuller(record, known)) return null;
  const weight = weightOf(record) - (known === undefined ? 0 : weightOf(known));
  if (run.weight + weight > RUN_RECORDS_MAX) {
    if (known !== undefined) return null; // Of two that tell of one execution there is one.
    return run.weight > records.size
      ? `a run may hold ${RUN_RECORDS_MAX} plain records at most; of those with many files, links or parameters fewer`
      : `a run may have at most ${RUN_RECORDS_MAX} records`;
  }
  records.set(record.executionId, record);
  run.weight += weight;
  if (known === undefined) result.accepted++;
  result.changes++;
  return null;
}

/** What a plain record takes, its ids included, bytes. */
const PLAIN_BYTES = 250;
/** What an object of a list takes beside its text, and a text beside its characters, bytes. */
const ITEM_BYTES = 40;
const TEXT_BYTES = 16;

/** How many plain records a record takes the memory of: lists of files and links may be a thousand times the rest. */
export function weightOf({ rest }: RunRecord): number {
  let bytes = 0;
  for (const files of [rest.inputs, rest.outputs]) {
    if (files !== undefined) for (const { uri } of files) bytes += ITEM_BYTES + uri.length;
  }
  if (rest.services !== undefined) for (const { service } of rest.services) bytes += ITEM_BYTES + service.length;
  for (const ids of [rest.links, rest.joins]) {
    if (ids !== undefined) for (const id of ids) bytes += TEXT_BYTES + id.length;
  }
  if (rest.params !== undefined) {
    for (const [name, value] of Object.entries(rest.params)) bytes += ITEM_BYTES + name.length + String(value).length;
  }
  return 1 + Math.floor(bytes / PLAIN_BYTES);
}

export function addToOpen(run: OpenRun, record: RunRecord): void {
  if (record.parentId === null) run.hasRoot = true;
  else if (!run.records.has(record.parentId)) {
    run.missing ??= new Set();
    run.missing.add(record.parentId);
  }
  if (run.missing?.delete(record.executionId) && run.missing.size === 0) run.missing = null;
  if ((record.startMs ?? 0) < (run.first.startMs ?? 0)) run.first = record;
}

/** Root and all named parents are there. */
export function isWhole(run: OpenRun): boolean {
  return run.hasRoot && run.missing === null;
}

/** Of two records of one execution the later-ended stands (a span in progress, then whole); ties go by text: order plays no part. */
function isFuller(record: RunRecord, known: RunRecord): boolean {
  const difference = (record.endMs ?? 0) - (known.endMs ?? 0);
  if (difference !== 0) return difference > 0;
  // Without the run's id: of joined runs either may have given it.
  return JSON.stringify({ ...record, runId: "" }) > JSON.stringify({ ...known, runId: "" });
}

// A run that may still grow. In: its records, in any order. Out: what is known of each execution, and whether anything is missing.
import type { RunRecord } from "./records.ts";

/** Records of one run at most; more are refused, because a run is assembled in one piece. */
export const RUN_RECORDS_MAX = 110_000;

export interface OpenRun {
  records: Map<string, RunRecord>;
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
  return { records: new Map(), aliases: NO_ALIASES, lastArrivalMs: nowMs, missing: null, hasRoot: false, first };
}

/** Puts a record in its place, or tells why not. */
export function put(records: Map<string, RunRecord>, record: RunRecord, result: Ingested): string | null {
  const known = records.get(record.executionId);
  if (known === undefined) {
    if (records.size >= RUN_RECORDS_MAX) return `a run may have at most ${RUN_RECORDS_MAX} records`;
    records.set(record.executionId, record);
    result.accepted++;
    result.changes++;
    return null;
  }
  result.duplicates++;
  if (isFuller(record, known)) {
    records.set(record.executionId, record);
    result.changes++;
  }
  return null;
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

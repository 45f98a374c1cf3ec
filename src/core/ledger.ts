// Runs on their way into the graph. In: records as they arrive, and the seals that were decided. Out: rows of counts, each
// sealed run once for the model, and sealed runs to be kept for late records.
//
//   open ──(quiet long enough)──► sealed: counted, learned, kept ──(24 h)──► expired: only its id is remembered
//                                    ▲ a late record brings it back: its old contribution out, the new one in
//
// Runs that a link or a declared run id joins (a consumer's trace to its producer's) are one run: the records of both under the
// id of one, the other id an alias. Which of the two gives its name plays no part in the rows.
//
// Nothing here waits or stores: GraphWriter journals what goes in, so that the same calls in the same order give the same state.
import { type Contribution, contributionOf } from "./contribution.ts";
import {
  addToOpen,
  type Ingested,
  isWhole,
  newRun,
  type OpenRun,
  openRunOf,
  put,
  type Records,
  RUN_RECORDS_MAX,
} from "./open-run.ts";
import { type AssembledRun, assembleRun } from "./profile.ts";
import type { RunRecord } from "./records.ts";
import type { GraphRows } from "./rows.ts";

/** A run is never sealed sooner after its last record, ms. */
export const QUIET_MIN_MS = 5_000;
/**
 * In service the model that predicts has a run so long after its last record, ms: quiet for 5 s, published every 10 s, asked for every
 * 2 s, and something for the ways.
 */
export const KNOWN_AFTER_MS = 20_000;
/** Nor kept open longer than this without a record, ms. */
const QUIET_MAX_MS = 24 * 3_600_000;
/** A run waits this many times the longest gap that was seen in runs of its root task. */
const GAP_FACTOR = 3;
/** Root tasks whose gaps are remembered. */
const GAPS_MAX = 4_096;
/** Weight of the records in open runs at most: some 250 B each. At the bound the quietest runs are sealed early; their rows stay exact. */
export const OPEN_RECORDS_MAX = 112_000;
const OPEN_SHARE_KEPT = 7 / 8;
/** Runs joined into one at most: a job that always links to its last run would never end. */
export const ALIASES_MAX = 64;
/** A record that joins more runs than this is a batch's: it belongs to none of them. */
const JOINS_PER_RECORD_MAX = 8;
/** Sealed runs leave memory for a pack once their records weigh this much: some 400 kB of text, a fifth of what a row may hold. */
const PACK_WEIGHT = 4_000;

/** A run as it is kept. */
export interface KeptRun {
  runId: string;
  /** Other ids of the run. */
  aliases: string[];
  records: RunRecord[];
}

/** Sealed runs that left memory. */
export interface Archive {
  /** By any of its ids, with when it was kept; null where it was never sealed; "expired" where its records are gone. */
  find(runId: string): (KeptRun & { keptMs: number }) | "expired" | null;
}

/** A sealed run in memory: just sealed, or brought back by a late record. */
interface SealedRun extends Records {
  aliases: readonly string[];
  /** What the rows hold of it. */
  applied: Contribution;
  /** Records came since. */
  isChanged: boolean;
  /** The archive has it as it is: it was only looked at. */
  isKept: boolean;
  /** Last record, or where that is not known any more, when it was kept. */
  lastArrivalMs: number;
}

export class Ledger {
  readonly open = new Map<string, OpenRun>();
  readonly rows: GraphRows;
  /** Longest gap between arrivals, ms, by task of the earliest record and by whether the run was whole before the gap. */
  readonly gaps = new Map<string, number>();
  readonly #archive: Archive;
  readonly #sealed = new Map<string, SealedRun>();
  /** Ids of the runs in memory that are known by another id. */
  readonly #aliases = new Map<string, string>();
  #sealedWeight = 0;
  #openWeight = 0;
  #isUnsettled = false;
  readonly #tasks: Set<string>;

  /** `rows` as they were stored; `tasks` are the names they hold. */
  constructor(rows: GraphRows, tasks: Iterable<string>, archive: Archive) {
    this.rows = rows;
    this.#tasks = new Set(tasks);
    this.#archive = archive;
  }

  /** Of the records in open runs, in plain ones. */
  get openWeight(): number {
    return this.#openWeight;
  }

  /** Open runs hold more records than memory should: seal what is due, and the quietest beyond. */
  get isFull(): boolean {
    return this.#openWeight > OPEN_RECORDS_MAX;
  }

  /** Late records came that the rows do not hold yet: see `settle`. */
  get isUnsettled(): boolean {
    return this.#isUnsettled;
  }

  /** Sealed runs in memory are to be taken: see `takeSealed`. */
  get isPackDue(): boolean {
    return this.#sealedWeight >= PACK_WEIGHT;
  }

  // ── Records in ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Takes a batch. The rows of open and late runs are not touched yet: see `provisional` and `settle`. */
  ingest(records: Iterable<RunRecord>, nowMs: number): Ingested {
    const result: Ingested = { accepted: 0, duplicates: 0, refused: [], changes: 0 };
    for (const record of records) {
      const reason = this.#take(record, nowMs, result);
      if (reason !== null) result.refused.push({ record, reason });
    }
    return result;
  }

  #take(record: RunRecord, nowMs: number, result: Ingested): string | null {
    const { task, runId } = record;
    const isNewTask = task !== null && !this.#tasks.has(task);
    if (isNewTask && !this.rows.hasRoomForTasks(this.#tasks.size)) {
      this.rows.noteRefused("task");
      return "the workspace has its most tasks already: leave ids out of task names, or use another workspace";
    }
    const found = this.#find(runId);
    if (found === "expired") return "its run was sealed more than 24 hours ago";
    if (isNewTask) this.#tasks.add(task);
    // Known by another id: what is kept of a run has one.
    const named = found === null || found.runId === runId ? record : { ...record, runId: found.runId };
    let refused: string | null;
    if (found?.sealed !== undefined) refused = this.#takeLate(found.sealed, named, nowMs, result);
    else {
      const run = found?.open ?? newRun(record, nowMs);
      if (found === null) this.open.set(runId, run);
      refused = this.#takeOpen(run, named, nowMs, result);
    }
    const { joins } = record.rest;
    if (refused !== null || joins === undefined || joins.length > JOINS_PER_RECORD_MAX) return refused;
    for (const other of joins) this.#join(runId, other);
    return null;
  }

  /** The run in memory that goes by this id, brought there where it was kept; null where the id is new. */
  #find(id: string): Found | "expired" | null {
    const runId = this.#aliases.get(id) ?? id;
    const open = this.open.get(runId);
    if (open !== undefined) return { runId, open };
    const sealed = this.#sealed.get(runId);
    return sealed !== undefined ? { runId, sealed } : this.#bringBack(id);
  }

  #takeOpen(run: OpenRun, record: RunRecord, nowMs: number, result: Ingested): string | null {
    const { changes } = result;
    const { first } = run;
    const wasWhole = isWhole(run);
    const refused = this.#putOpen(run, record, result);
    // A repeated record is no sign of life: it neither keeps the run open nor tells of a gap.
    if (result.changes === changes) return refused;
    this.#noteGap(first, wasWhole, nowMs - run.lastArrivalMs);
    run.lastArrivalMs = Math.max(run.lastArrivalMs, nowMs);
    return refused;
  }

  #putOpen(run: OpenRun, record: RunRecord, result: Ingested): string | null {
    const { weight } = run;
    const { size } = run.records;
    const refused = put(run, record, result);
    this.#openWeight += run.weight - weight;
    if (run.records.size > size) addToOpen(run, record);
    return refused;
  }

  #takeLate(run: SealedRun, record: RunRecord, nowMs: number, result: Ingested): string | null {
    const { changes } = result;
    const { weight } = run;
    const { size } = run.records;
    const refused = put(run, record, result);
    if (result.changes === changes) return refused;
    this.#sealedWeight += run.weight - weight;
    const gapMs = nowMs - run.lastArrivalMs;
    if (run.records.size > size && gapMs > QUIET_MIN_MS / GAP_FACTOR) this.#noteLateGap(run, record, gapMs);
    run.lastArrivalMs = nowMs;
    run.isChanged = true;
    run.isKept = false;
    this.#isUnsettled = true;
    return null;
  }

  #noteLateGap(run: SealedRun, record: RunRecord, gapMs: number): void {
    const before = openRunOf(
      [...run.records.values()].filter((known) => known !== record),
      0,
    );
    this.#noteGap(before.first, isWhole(before), gapMs);
  }

  #bringBack(id: string): Found | "expired" | null {
    const found = this.#archive.find(id);
    if (found === null || found === "expired") return found;
    const { runId, aliases, records, keptMs } = found;
    const { records: byExecution, weight } = openRunOf(records, keptMs);
    const sealed: SealedRun = {
      records: byExecution,
      weight,
      aliases,
      applied: contributionOf(assembleRun(records)),
      isChanged: false,
      isKept: true,
      lastArrivalMs: keptMs,
    };
    this.#sealed.set(runId, sealed);
    for (const alias of aliases) this.#aliases.set(alias, runId);
    this.#sealedWeight += sealed.weight;
    return { runId, sealed };
  }

  // ── Joining ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Makes the runs of two ids one. Does nothing where they are, where one has expired, or beyond the bounds. */
  #join(id: string, otherId: string): void {
    const run = this.#find(id);
    const other = this.#find(otherId);
    if (run === null || run === "expired" || other === "expired" || run.runId === other?.runId) return;
    const into = run.open ?? run.sealed!;
    if (other === null) {
      if (into.aliases.length >= ALIASES_MAX) return;
      into.aliases = [...into.aliases, otherId];
      this.#aliases.set(otherId, run.runId);
      if (run.sealed !== undefined) run.sealed.isKept = false;
      return;
    }
    const from = other.open ?? other.sealed!;
    if (into.aliases.length + from.aliases.length + 1 > ALIASES_MAX) return;
    if (into.weight + from.weight > RUN_RECORDS_MAX) return;
    // A sealed one takes in an open one; of two alike the larger takes in the smaller.
    const isSwapped =
      (other.sealed !== undefined) === (run.sealed !== undefined)
        ? from.records.size > into.records.size
        : other.sealed !== undefined;
    if (isSwapped) this.#merge(run, other);
    else this.#merge(other, run);
  }

  #merge(from: Found, into: Found): void {
    const source = from.open ?? from.sealed!;
    const target = into.open ?? into.sealed!;
    const moved: Ingested = { accepted: 0, duplicates: 0, refused: [], changes: 0 };
    const { weight } = target;
    for (const record of source.records.values()) {
      const renamed = { ...record, runId: into.runId };
      if (into.open !== undefined) this.#putOpen(into.open, renamed, moved);
      else put(target, renamed, moved);
    }
    if (into.sealed !== undefined) this.#sealedWeight += target.weight - weight;
    target.aliases = [...new Set([...target.aliases, from.runId, ...source.aliases])];
    for (const alias of target.aliases) this.#aliases.set(alias, into.runId);
    target.lastArrivalMs = Math.max(target.lastArrivalMs, source.lastArrivalMs);
    if (into.sealed !== undefined) {
      Object.assign(into.sealed, { isChanged: true, isKept: false });
      this.#isUnsettled = true;
    }
    if (from.open !== undefined) {
      this.open.delete(from.runId);
      this.#openWeight -= source.weight;
    } else {
      this.rows.apply(from.sealed!.applied, -1);
      this.#sealed.delete(from.runId);
    }
  }

  #noteGap(first: RunRecord, isWholeRun: boolean, gapMs: number): void {
    const key = gapKey(first.task ?? "", isWholeRun);
    if (gapMs <= (this.gaps.get(key) ?? QUIET_MIN_MS / GAP_FACTOR)) return;
    if (this.gaps.size < GAPS_MAX || this.gaps.has(key)) this.gaps.set(key, Math.min(gapMs, QUIET_MAX_MS));
  }

  // ── Sealing ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Runs to be sealed now, longest quiet first. */
  due(nowMs: number): string[] {
    const due: { runId: string; lastArrivalMs: number }[] = [];
    // Down to some way below the bound: looking through all open runs for every batch above it would cost more than they do.
    let excess = this.isFull ? this.#openWeight - OPEN_RECORDS_MAX * OPEN_SHARE_KEPT : 0;
    for (const [runId, run] of this.open) {
      if (nowMs >= run.lastArrivalMs + this.#waitMs(run)) due.push({ runId, lastArrivalMs: run.lastArrivalMs });
    }
    due.sort((a, b) => a.lastArrivalMs - b.lastArrivalMs || (a.runId < b.runId ? -1 : 1));
    if (excess <= 0) return due.map(({ runId }) => runId);
    const chosen = new Set(due.map(({ runId }) => runId));
    for (const runId of chosen) excess -= this.open.get(runId)!.weight;
    const rest = [...this.open].filter(([runId]) => !chosen.has(runId));
    rest.sort(([, a], [, b]) => a.lastArrivalMs - b.lastArrivalMs);
    for (const [runId, run] of rest) {
      if (excess <= 0) break;
      chosen.add(runId);
      excess -= run.weight;
    }
    return [...chosen];
  }

  /** When the next run will be due, ms since the epoch; null where none is open. */
  nextDueMs(): number | null {
    let next: number | null = null;
    for (const run of this.open.values()) {
      const dueMs = run.lastArrivalMs + this.#waitMs(run);
      if (next === null || dueMs < next) next = dueMs;
    }
    return next;
  }

  #waitMs(run: OpenRun): number {
    const gapMs = this.gaps.get(gapKey(run.first.task ?? "", isWhole(run))) ?? 0;
    return Math.min(QUIET_MAX_MS, Math.max(QUIET_MIN_MS, GAP_FACTOR * gapMs));
  }

  /** Seals runs in this order: counts each and hands it to `learn`. Runs that are not open are skipped. */
  seal(runIds: Iterable<string>, learn: (run: AssembledRun) => void): void {
    for (const runId of runIds) {
      const open = this.open.get(runId);
      if (open === undefined) continue;
      this.open.delete(runId);
      this.#openWeight -= open.weight;
      const run = assembleRun(open.records.values());
      const applied = contributionOf(run);
      this.rows.apply(applied, 1);
      const { records, weight, aliases, lastArrivalMs } = open;
      this.#sealed.set(runId, { records, weight, aliases, applied, isChanged: false, isKept: false, lastArrivalMs });
      this.#sealedWeight += weight;
      if (run.executions.length > 0) learn(run);
    }
  }

  /** A record of a run that is in memory, open or sealed lately; null where it is not. */
  recordInMemory(runId: string, executionId: string): RunRecord | null {
    const id = this.#aliases.get(runId) ?? runId;
    return (this.open.get(id) ?? this.#sealed.get(id))?.records.get(executionId) ?? null;
  }

  /** Counts the late records that came since the last call. */
  settle(): void {
    if (!this.#isUnsettled) return;
    this.#isUnsettled = false;
    for (const run of this.#sealed.values()) {
      if (!run.isChanged) continue;
      const contribution = contributionOf(assembleRun(run.records.values()));
      this.rows.apply(run.applied, -1);
      this.rows.apply(contribution, 1);
      run.applied = contribution;
      run.isChanged = false;
    }
  }

  /** Contributions of the open runs: what makes the rows exact at this moment. Call `settle` before. */
  *provisional(): Generator<Contribution> {
    for (const run of this.open.values()) yield contributionOf(assembleRun(run.records.values()));
  }

  /** Settles and hands over the sealed runs in memory that the archive does not have; from now on it answers for all. */
  takeSealed(): KeptRun[] {
    this.settle();
    const taken: KeptRun[] = [];
    for (const [runId, { records, aliases, isKept }] of this.#sealed) {
      for (const alias of aliases) this.#aliases.delete(alias);
      if (!isKept) taken.push({ runId, aliases: [...aliases], records: [...records.values()] });
    }
    this.#sealed.clear();
    this.#sealedWeight = 0;
    return taken;
  }

  /** An open run as it was stored. */
  restoreOpen({ runId, aliases, records }: KeptRun, lastArrivalMs: number): void {
    if (records.length === 0) return;
    const run = openRunOf(records, lastArrivalMs);
    this.open.set(runId, run);
    if (aliases.length > 0) run.aliases = aliases;
    for (const alias of aliases) this.#aliases.set(alias, runId);
    for (const { task } of records) if (task !== null) this.#tasks.add(task);
    this.#openWeight += run.weight;
  }
}

/** A run in memory, open or sealed. */
type Found = { runId: string } & ({ open: OpenRun; sealed?: undefined } | { open?: undefined; sealed: SealedRun });

function gapKey(task: string, isWholeRun: boolean): string {
  return `${isWholeRun ? "whole" : "part"} ${task}`;
}

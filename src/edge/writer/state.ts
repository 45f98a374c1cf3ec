// What a GraphWriter holds in memory of its workspace, how runs and outcomes change it, and when it is to be written. Pure but for the
// engine: the same entries in the same order give the same state, whether they come by a call or by the replay of the journal.
import type { ChainEngine } from "../../core/engine.ts";
import { profilesOf, type TaskProfile } from "../../core/graph.ts";
import type { Learned } from "../../core/learned.ts";
import type { Ledger } from "../../core/ledger.ts";
import { hashVersion } from "../../core/predict.ts";
import { type AssembledRun, observedRun } from "../../core/profile.ts";
import type { Rows } from "../../core/rows.ts";
import type { TaskDeclaration } from "../../protocol.ts";
import type { OutcomeBatch } from "./writer-store.ts";

/** Publishing costs some ten rows and 40 ms for an 8 MiB image. */
const PUBLISH_MS = 10_000;
/** A flush comes no sooner after the last one, */
export const FLUSH_MIN_MS = 10_000;
/** and no later, if anything changed. */
const FLUSH_MAX_MS = 300_000;
/** Between these, only when rows changed are few against records taken: rows written are the bill. */
const RECORDS_PER_ROW = 32;

export interface State {
  workspace: string;
  ledger: Ledger;
  engine: ChainEngine;
  learned: Learned;
  tasks: string[];
  taskIds: Map<string, number>;
  modelVersion: number;
  /** Runs and batches of outcomes learned since the model was published. */
  unpublished: number;
  publishedMs: number;
  /** Last journal entry that D1's rows hold. */
  flushedSeq: number;
  newestDay: number | null;
  declarations: Record<string, TaskDeclaration>;
  flushedMs: number;
  /** Records taken since the last flush, and when the last came. */
  recordsSince: number;
  lastRecordMs: number;
}

// ── Learning ─────────────────────────────────────────────────────────────────────────────────────────────────────────

export function learnRun(state: State, run: AssembledRun): void {
  const intern = (task: string): number => {
    let id = state.taskIds.get(task);
    if (id === undefined) {
      id = state.tasks.push(task) - 1;
      state.taskIds.set(task, id);
    }
    return id;
  };
  state.engine.observe(observedRun(run, intern, hashVersion));
  state.unpublished++;
}

export function learnOutcomes(state: State, { cluster, outcomes }: OutcomeBatch): void {
  const has = (runId: string, executionId: string, vm: string) =>
    state.ledger.recordInMemory(runId, executionId)?.rest.vm === vm;
  if (state.learned.take(cluster, outcomes, has)) state.unpublished++;
}

/** What the later stages are told of each task: the rows, corrected by what was learned. */
export function profilesFor(state: State, rows: Rows): TaskProfile[] {
  return profilesOf(rows).map((profile) => state.learned.starts.correct(profile));
}

// ── When to write ────────────────────────────────────────────────────────────────────────────────────────────────────

export function isPublishDue(state: State, nowMs: number): boolean {
  return state.unpublished > 0 && nowMs >= publishAtMs(state);
}

export function publishAtMs(state: State): number {
  return state.publishedMs + PUBLISH_MS;
}

export function isFlushDue(state: State, nowMs: number): boolean {
  return state.ledger.rows.changed.size > 0 && nowMs >= flushAtMs(state);
}

/** When the changed rows are to be flushed. */
export function flushAtMs(state: State): number {
  const soonestMs = state.flushedMs + FLUSH_MIN_MS;
  // Nothing has ever been flushed: people look for the first rows at once.
  if (state.flushedSeq === 0) return 0;
  if (state.recordsSince >= state.ledger.rows.changed.size * RECORDS_PER_ROW) return soonestMs;
  return Math.min(Math.max(soonestMs, state.lastRecordMs + FLUSH_MIN_MS), state.flushedMs + FLUSH_MAX_MS);
}

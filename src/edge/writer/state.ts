// What a GraphWriter holds in memory of its workspace, how runs and outcomes change it, and when it is to be written. Pure but for the
// engine: the same entries in the same order give the same state, whether they come by a call or by the replay of the journal.
import { OCCURRENCES_MAX } from "../../core/chain-engine.ts";
import type { Change } from "../../core/drift.ts";
import type { WasmEngine } from "../../core/engine.ts";
import type { Model, TaskProfile } from "../../core/graph.ts";
import type { Learned } from "../../core/learned.ts";
import type { Ledger } from "../../core/ledger.ts";
import { hashVersion } from "../../core/predict.ts";
import { type AssembledRun, observedRun } from "../../core/profile.ts";
import { profilesOf } from "../../core/profiles.ts";
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
/** Runs of one round of seals whose predictions are settled: a review takes twice what learning takes. */
const REVIEWED_PER_ROUND_MAX = 500;
/** Ended executions of one flush: more are an import's, which no allocation waits for. */
const ENDED_MAX = 5_000;

/** Run, execution, and how it went. */
export type EndedExecution = [runId: string, executionId: string, outcome: "warm" | "cold" | "failed"];

export interface State {
  workspace: string;
  ledger: Ledger;
  engine: WasmEngine;
  learned: Learned;
  tasks: string[];
  taskIds: Map<string, number>;
  modelVersion: number;
  /** Runs and batches of outcomes learned since the model was published. */
  unpublished: number;
  publishedMs: number;
  /** As published, with the engine that goes on learning: what a run is compared with before it is learned. */
  model: Model;
  /** Changes of the workflow that D1 does not have yet. */
  changes: Change[];
  /** How the executions of sealed runs went, for allocations whose outcome is not known yet. */
  ended: EndedExecution[];
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

/**
 * Called with each run of a round of seals, in their order. Of a round of thousands, which is an import's, some hundred runs are enough to tell how
 * good predictions are; every run is learned.
 */
export function sealing(state: State, runs: number, atMs: number): (run: AssembledRun) => void {
  const every = Math.ceil(runs / REVIEWED_PER_ROUND_MAX);
  let sealed = 0;
  return (run) => {
    noteEnded(state, run);
    learnSealed(state, run, sealed++ % every === 0, atMs);
  };
}

/** Its predictions are settled, then the model learns it. */
function learnSealed(state: State, run: AssembledRun, isReviewed: boolean, atMs: number): void {
  const change = isReviewed ? state.learned.sealed(run, state.model, atMs) : null;
  if (change !== null) state.changes.push(change);
  if (!state.learned.frozen.has("model")) learnRun(state, run, state.learned.learning.keptOf(run));
  // What is frozen is published again all the same: what is not may have changed.
  else state.unpublished++;
}

/** How its executions went is told to the allocations that wait for it. */
export function noteEnded(state: State, run: AssembledRun): void {
  for (const { record, cold } of run.executions) {
    if (state.ended.length >= ENDED_MAX) break;
    const outcome = record.status !== "ok" ? "failed" : cold ? "cold" : "warm";
    state.ended.push([record.runId, record.executionId, outcome]);
  }
}

/** `kept`: see ChainEngine; a model that is made anew of runs that the rest has learned keeps all. */
export function learnRun(state: State, run: AssembledRun, kept = OCCURRENCES_MAX): void {
  const intern = (task: string): number => {
    let id = state.taskIds.get(task);
    if (id === undefined) {
      id = state.tasks.push(task) - 1;
      state.taskIds.set(task, id);
    }
    return id;
  };
  state.engine.observe(observedRun(run, intern, hashVersion), kept);
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

/** The model that runs are compared with: profiles as of now, the engine and its names as they are and will be. */
export function modelOf(
  state: Pick<State, "engine" | "tasks" | "taskIds" | "modelVersion">,
  profiles: TaskProfile[],
): Model {
  const { engine, tasks, taskIds, modelVersion } = state;
  const byTask = new Map(profiles.map((profile) => [profile.task, profile]));
  return { version: modelVersion, engine, tasks, taskIds, profiles: byTask };
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

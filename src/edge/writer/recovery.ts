// A GraphWriter's state as it was. In: rows of D1 as of the last whole flush, open runs of that flush's checkpoint, model and
// learned values as published, and the journal since. Out: the state, as if nothing had happened.
import engineModule from "../../../build/engine.wasm";
import { EngineError } from "../../core/chain-engine.ts";
import { createEngine, loadEngine, type WasmEngine } from "../../core/engine.ts";
import type { TaskProfile } from "../../core/graph.ts";
import { Learned, type LearnedText } from "../../core/learned.ts";
import { type KeptRun, KNOWN_AFTER_MS, Ledger } from "../../core/ledger.ts";
import { assembleRun } from "../../core/profile.ts";
import { taskCountsOf } from "../../core/rows.ts";
import { readRows } from "../graph-store.ts";
import { runsOfText, textOfRuns } from "./packs.ts";
import { pack, sealRuns } from "./seal.ts";
import { learnOutcomes, learnRun, modelOf, noteEnded, type State, sealing } from "./state.ts";
import type { WriterStore } from "./writer-store.ts";

/** Weight of the records of one item of the checkpoint. */
const CHECKPOINT_WEIGHT = 4_000;
/** Packs learned from where the model is lost or made anew: some 100k runs of ten, a few seconds. */
const REBUILD_PACKS = 256;
/** 8 MiB: a quarter of a large one's copying, and room for some 100k contexts. */
const CAPACITY = "default";

/** Errors: throws where D1 cannot be read. */
export async function recover(store: WriterStore, db: D1Database, workspace: string, nowMs: number): Promise<State> {
  const { rows, applied } = await readRows(db, workspace);
  store.transaction(() => {
    store.setMeta("workspace", workspace);
    store.dropAfter(applied.batchId);
    if (store.meta("prepared") === String(applied.batchId)) store.commitFlush(applied.batchId);
  });
  store.packs.loadIndex();
  const ledger = new Ledger(rows, taskCountsOf(rows.rows).keys(), store.packs);
  for (const [key, gapMs] of JSON.parse(store.meta("gaps") ?? "[]") as [string, number][]) ledger.gaps.set(key, gapMs);
  rows.restoreRefusals(store.meta("refusals") ?? '{"refused":[],"closed":[]}');
  restoreOpenRuns(ledger, store.readCheckpoint(applied.batchId));
  const model = loadModel(store);
  const taskIds = new Map(model.tasks.map((task, id) => [task, id]));
  const state: State = {
    workspace,
    ledger,
    engine: model.engine,
    learned: model.learned,
    tasks: model.tasks,
    taskIds,
    modelVersion: model.version,
    // The stored image is of no use to anyone: replace it soon.
    unpublished: model.isLost ? 1 : 0,
    publishedMs: 0,
    model: modelOf({ ...model, taskIds, modelVersion: model.version }, model.profiles),
    changes: [],
    ended: [],
    flushedSeq: applied.batchId,
    newestDay: applied.newestDay,
    declarations: {},
    flushedMs: nowMs,
    recordsSince: 0,
    lastRecordMs: nowMs,
  };
  if (model.isLost) {
    for (const records of store.packs.keptRuns(REBUILD_PACKS)) learnRun(state, assembleRun(records));
  }
  replay(state, store, model, nowMs);
  return state;
}

interface LoadedModel {
  engine: WasmEngine;
  learned: Learned;
  tasks: string[];
  profiles: TaskProfile[];
  version: number;
  /** Last journal entry that the engine has learned of, and the last that `learned` has. */
  seq: number;
  learnedSeq: number;
  isLost: boolean;
}

/** The model as published. An image that this version's engine does not take is lost: its knowledge is learned again from the kept runs. */
function loadModel(store: WriterStore): LoadedModel {
  const model = store.readModel();
  if (model === null) {
    const nothing = { profiles: [], version: 0, seq: 0, learnedSeq: 0 };
    return { ...emptyModel(), learned: new Learned(), ...nothing, isLost: false };
  }
  const { tasks, version, seq } = model;
  const profiles = JSON.parse(model.profiles) as TaskProfile[];
  const learned = new Learned(JSON.parse(model.learned) as LearnedText);
  try {
    const engine = loadEngine(engineModule, model.image);
    return { engine, learned, tasks, profiles, version, seq, learnedSeq: seq, isLost: false };
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    console.warn(`model ${version} is learned anew from the kept runs: ${error.message}`);
    const { engine } = emptyModel();
    return { engine, learned, tasks, profiles, version, seq: store.flushedSeq, learnedSeq: seq, isLost: true };
  }
}

/** Puts a model of the kept runs in the place of the model, late records included. Null, and nothing changed, where none is kept. */
export function rebuild(state: State, store: WriterStore, nowMs: number): { runs: number; executions: number } | null {
  pack(state.ledger, store, { nowMs, seq: store.lastSeq });
  const before = { engine: state.engine, tasks: state.tasks, taskIds: state.taskIds };
  Object.assign(state, emptyModel());
  const learned = { runs: 0, executions: 0 };
  for (const records of store.packs.keptRuns(REBUILD_PACKS)) {
    const run = assembleRun(records);
    if (run.executions.length === 0) continue;
    learnRun(state, run);
    learned.runs++;
    learned.executions += run.executions.length;
  }
  if (learned.runs > 0) return learned;
  Object.assign(state, before);
  return null;
}

/** A model that knows nothing takes the model's place. */
export function forgetModel(state: State): void {
  Object.assign(state, emptyModel());
  state.unpublished++;
}

/** An exported model takes the model's place. Out: what is wrong with its image; then nothing has changed. */
export function adoptModel(state: State, { tasks, image }: { tasks: string[]; image: Uint8Array }): string | null {
  if (new Set(tasks).size !== tasks.length) return "model tasks: got a name twice, expected each once";
  try {
    const engine = loadEngine(engineModule, image);
    Object.assign(state, { engine, tasks, taskIds: new Map(tasks.map((task, id) => [task, id])) });
    return null;
  } catch (error) {
    if (error instanceof EngineError) return error.message;
    throw error;
  }
}

function emptyModel(): Pick<State, "engine" | "tasks" | "taskIds"> {
  return { engine: createEngine(engineModule, CAPACITY, KNOWN_AFTER_MS), tasks: [], taskIds: new Map() };
}

function replay(state: State, store: WriterStore, model: LoadedModel, nowMs: number): void {
  for (const entry of store.journalAfter(state.flushedSeq)) {
    switch (entry.kind) {
      case "records":
        state.recordsSince += state.ledger.ingest(entry.records, entry.atMs).changes;
        break;
      case "seals":
        sealRuns(
          state,
          store,
          entry.runIds,
          entry.seq > model.learnedSeq
            ? sealing(state, entry.runIds.length, entry.atMs)
            : (run) => {
                noteEnded(state, run);
                // A model that was lost has not learned what the other values have.
                if (entry.seq > model.seq) learnRun(state, run);
              },
          { nowMs, seq: entry.seq },
        );
        break;
      case "outcomes":
        if (entry.seq > model.learnedSeq) learnOutcomes(state, entry.batch);
        break;
    }
  }
}

// ── Open runs as of a flush ──────────────────────────────────────────────────────────────────────────────────────────

/** Open runs as text, item by item: a line of arrivals by run, then the runs. */
export function* checkpointTexts(ledger: Ledger): Generator<string> {
  let arrivals: [string, number][] = [];
  let runs: KeptRun[] = [];
  let weight = 0;
  for (const [runId, run] of ledger.open) {
    arrivals.push([runId, run.lastArrivalMs]);
    runs.push({ runId, aliases: [...run.aliases], records: [...run.records.values()] });
    weight += run.weight;
    if (weight < CHECKPOINT_WEIGHT) continue;
    yield `${JSON.stringify(arrivals)}\n${textOfRuns(runs)}`;
    arrivals = [];
    runs = [];
    weight = 0;
  }
  if (runs.length > 0) yield `${JSON.stringify(arrivals)}\n${textOfRuns(runs)}`;
}

function restoreOpenRuns(ledger: Ledger, texts: string[]): void {
  for (const text of texts) {
    const line = text.indexOf("\n");
    const arrivals = new Map(JSON.parse(text.slice(0, line)) as [string, number][]);
    for (const run of runsOfText(text.slice(line + 1))) ledger.restoreOpen(run, arrivals.get(run.runId) ?? 0);
  }
}

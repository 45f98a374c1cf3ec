// GraphWriter: one Durable Object per workspace, the only writer of its graph and its model.
//
//   ingest   records ─► ledger (memory) ─► journal (one row) ─► answer. The answer leaves only when the row is durable.
//   alarm    runs that are quiet are sealed: journaled, counted, learned; sealed runs go to packs for late records
//   publish  model image, names and profiles to this object's SQLite: at most every PUBLISH_MS
//   flush    changed rows to D1 in one batch; then the journal up to there is dropped
//
// After a crash or an eviction: rows of D1 as of the last whole flush, open runs of that flush's checkpoint, model as
// published, and the journal since, replayed in its order. The same calls give the same state, so nothing is lost or counted twice.
// Nothing between reading the state and changing it awaits, except D1; what comes meanwhile belongs to the next flush.
import { DurableObject } from "cloudflare:workers";
import engineModule from "../../build/engine.wasm";
import { chainsOf } from "../core/chains.ts";
import { type ChainEngine, createEngine, EngineError, loadEngine } from "../core/engine.ts";
import { type GraphFilter, graphAnswer, profilesOf } from "../core/graph.ts";
import { type KeptRun, Ledger } from "../core/ledger.ts";
import { hashVersion } from "../core/predict.ts";
import { type AssembledRun, assembleRun, observedRun } from "../core/profile.ts";
import { packRecords, type RunRecord, unpackRecords } from "../core/records.ts";
import { taskCountsOf } from "../core/rows.ts";
import type { MinedChain, TaskDeclaration } from "../protocol.ts";
import type { Env } from "./env.ts";
import { type Flush, prepareFlush, readRows, writeFlush } from "./graph-store.ts";
import { runsOfText, textOfRuns, WriterStore } from "./writer/writer-store.ts";

/** Publishing costs some ten rows and 40 ms for an 8 MiB image. */
const PUBLISH_MS = 10_000;
/** A flush comes no sooner after the last one, */
const FLUSH_MIN_MS = 10_000;
/** and no later, if anything changed. */
const FLUSH_MAX_MS = 300_000;
/** Between these, only when rows changed are few against records taken: rows written are the bill. */
const RECORDS_PER_ROW = 32;
/** Alarms are rows too: no more than one a second. */
const ALARM_MIN_MS = 1_000;
/** Records of one item of the checkpoint. */
const CHECKPOINT_RECORDS = 4_000;
/** Packs learned from where the model is lost: some 100k runs of ten, ten seconds. */
const REBUILD_PACKS = 256;
/** 8 MiB: a quarter of a large one's copying, and room for some 100k contexts. */
const CAPACITY = "default";

export interface WriterAnswer {
  accepted: number;
  duplicates: number;
  refused: { runId: string; executionId: string; reason: string }[];
}

export interface Bundle {
  version: number;
  image: Uint8Array;
  tasks: string[];
  /** JSON of TaskProfile[]: text crosses between objects at a tenth of the cost of objects. */
  profiles: string;
}

interface State {
  workspace: string;
  ledger: Ledger;
  engine: ChainEngine;
  tasks: string[];
  taskIds: Map<string, number>;
  modelVersion: number;
  /** Runs learned since the model was published. */
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

export class GraphWriter extends DurableObject<Env> {
  readonly #store: WriterStore;
  #state: Promise<State> | null = null;
  #alarmMs: number | null = null;
  #flushing: Promise<void> | null = null;
  #d1RowsWritten = 0;
  #alarms = 0;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#store = new WriterStore(ctx.storage);
    // After a local restart an overdue alarm may never fire: set it anew wherever work is left.
    if (this.#store.hasWork()) this.#arm(Date.now() + ALARM_MIN_MS);
  }

  // ── Calls ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Takes a batch that packRecords made. Durable before the answer. Errors: throws where D1 cannot be read at the start. */
  async ingest(workspace: string, text: string): Promise<WriterAnswer> {
    const state = await this.#ready(workspace);
    const nowMs = Date.now();
    const records = unpackRecords(text);
    const { accepted, duplicates, refused, changes } = state.ledger.ingest(records, nowMs);
    if (changes > 0) {
      const kept = refused.length === 0 ? text : packRecords(without(records, refused));
      this.#journal(() => this.#store.appendRecords(kept, nowMs));
      state.recordsSince += changes;
      state.lastRecordMs = nowMs;
      this.#sealDue(state, nowMs, false);
      this.#armFor(state, nowMs);
    }
    const named = refused.map(({ record, reason }) => ({
      runId: record.runId,
      executionId: record.executionId,
      reason,
    }));
    return { accepted, duplicates, refused: named };
  }

  /** The graph at this moment, open runs included, as JSON of GraphAnswer. */
  async graph(workspace: string, filter: GraphFilter): Promise<string> {
    const state = await this.#ready(workspace);
    state.ledger.settle();
    const rows = state.ledger.rows.with(state.ledger.provisional());
    const answer = graphAnswer(rows, state.modelVersion, filter);
    return JSON.stringify({ ...answer, openRuns: state.ledger.open.size, unpublishedRuns: state.unpublished });
  }

  /** Chains at this moment, open runs included, by score. */
  async chains(workspace: string, offset: number, limit: number): Promise<{ chains: MinedChain[]; total: number }> {
    const state = await this.#ready(workspace);
    await this.#readDeclarations(state);
    state.ledger.settle();
    const rows = state.ledger.rows.with(state.ledger.provisional());
    const profiles = new Map(profilesOf(rows).map((profile) => [profile.task, profile]));
    const chains = chainsOf(rows, profiles, state.declarations);
    return { chains: chains.slice(offset, offset + limit), total: chains.length };
  }

  async publishedVersion(workspace: string): Promise<number> {
    return (await this.#ready(workspace)).modelVersion;
  }

  /** The published model; null before the first. */
  async bundle(workspace: string): Promise<Bundle | null> {
    await this.#ready(workspace);
    const model = this.#store.readModel();
    if (model === null) return null;
    const { version, image, tasks, profiles } = model;
    return { version, image, tasks, profiles };
  }

  /** What the platform bills, since this object was created. */
  async accounting(): Promise<{ rowsWritten: number; d1RowsWritten: number; alarms: number }> {
    return { rowsWritten: this.#store.rowsWritten, d1RowsWritten: this.#d1RowsWritten, alarms: this.#alarms };
  }

  override async alarm(): Promise<void> {
    this.#alarmMs = null;
    this.#alarms++;
    const workspace = this.#store.meta("workspace");
    if (workspace === null) return;
    const state = await this.#ready(workspace);
    const nowMs = Date.now();
    this.#sealDue(state, nowMs, true);
    if (isPublishDue(state, nowMs)) this.#publish(state, nowMs);
    // Late runs are counted when a flush may come, not at every alarm: one that grows by batches is assembled once.
    if (state.ledger.isUnsettled && nowMs >= flushAtMs(state)) state.ledger.settle();
    try {
      if (isFlushDue(state, nowMs)) await this.#flush(state, nowMs);
    } finally {
      this.#armFor(state, Date.now());
    }
  }

  // ── Start and recovery ─────────────────────────────────────────────────────────────────────────────────────────────

  #ready(workspace: string): Promise<State> {
    this.#state ??= this.#recover(workspace).catch((error: unknown) => {
      this.#state = null; // The next call tries again.
      throw error;
    });
    return this.#state;
  }

  async #recover(workspace: string): Promise<State> {
    const store = this.#store;
    const { rows, applied } = await readRows(this.env.DB, workspace);
    store.transaction(() => {
      store.setMeta("workspace", workspace);
      store.dropAfter(applied.batchId);
      if (store.meta("prepared") === String(applied.batchId)) store.commitFlush(applied.batchId);
    });
    store.loadIndex();
    const ledger = new Ledger(rows, taskCountsOf(rows.rows).keys(), store);
    for (const [key, gapMs] of JSON.parse(store.meta("gaps") ?? "[]") as [string, number][])
      ledger.gaps.set(key, gapMs);
    restoreOpenRuns(ledger, store.readCheckpoint(applied.batchId));
    const nowMs = Date.now();
    const model = this.#loadModel();
    const state: State = {
      workspace,
      ledger,
      engine: model.engine,
      tasks: model.tasks,
      taskIds: new Map(model.tasks.map((task, id) => [task, id])),
      modelVersion: model.version,
      // The stored image is of no use to anyone: replace it soon.
      unpublished: model.isLost ? 1 : 0,
      publishedMs: 0,
      flushedSeq: applied.batchId,
      newestDay: applied.newestDay,
      declarations: {},
      flushedMs: nowMs,
      recordsSince: 0,
      lastRecordMs: nowMs,
    };
    if (model.isLost) {
      for (const records of store.keptRuns(REBUILD_PACKS)) learn(state, assembleRun(records));
    }
    this.#replay(state, model.seq, nowMs);
    this.#armFor(state, nowMs);
    return state;
  }

  /** The model as published. An image that this version's engine does not take is lost: its knowledge is learned again from the kept runs. */
  #loadModel(): { engine: ChainEngine; tasks: string[]; version: number; seq: number; isLost: boolean } {
    const model = this.#store.readModel();
    const empty = () => createEngine(engineModule, CAPACITY);
    if (model === null) return { engine: empty(), tasks: [], version: 0, seq: 0, isLost: false };
    const { tasks, version, seq } = model;
    try {
      return { engine: loadEngine(engineModule, model.image), tasks, version, seq, isLost: false };
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      console.warn(`model ${version} is learned anew from the kept runs: ${error.message}`);
      return { engine: empty(), tasks: [], version, seq: this.#store.flushedSeq, isLost: true };
    }
  }

  #replay(state: State, modelSeq: number, nowMs: number): void {
    for (const entry of this.#store.journalAfter(state.flushedSeq)) {
      if (entry.kind === "records") {
        state.recordsSince += state.ledger.ingest(entry.records, entry.atMs).changes;
        continue;
      }
      const isLearned = entry.seq <= modelSeq;
      state.ledger.seal(entry.runIds, (run) => {
        if (!isLearned) learn(state, run);
      });
      this.#packIfDue(state, nowMs, entry.seq);
    }
  }

  // ── Seal, publish, flush ───────────────────────────────────────────────────────────────────────────────────────────

  /** `isAlarm` false: only when memory asks for it; looking through all open runs at every batch would cost more than it. */
  #sealDue(state: State, nowMs: number, isAlarm: boolean): void {
    const { ledger } = state;
    if (isAlarm || ledger.isFull) {
      const due = ledger.due(nowMs);
      if (due.length > 0) {
        this.#journal(() => this.#store.appendSeals(due, nowMs));
        ledger.seal(due, (run) => learn(state, run));
      }
    }
    this.#packIfDue(state, nowMs, this.#store.lastSeq);
  }

  #packIfDue(state: State, nowMs: number, seq: number): void {
    if (!state.ledger.isPackDue) return;
    const sealed = state.ledger.takeSealed();
    this.#store.transaction(() => this.#store.writePack(seq, sealed, nowMs));
  }

  /** Memory is ahead of storage where this fails: start anew from storage. */
  #journal(write: () => number): void {
    try {
      write();
    } catch (error) {
      this.ctx.abort(String(error));
      throw error;
    }
  }

  #publish(state: State, nowMs: number): void {
    state.ledger.settle();
    const version = state.modelVersion + 1;
    const profiles = JSON.stringify(profilesOf(state.ledger.rows.rows));
    const image = state.engine.exportImage();
    this.#store.writeModel({ version, seq: this.#store.lastSeq, image, tasks: state.tasks, profiles });
    state.modelVersion = version;
    state.publishedMs = nowMs;
    state.unpublished = 0;
  }

  #flush(state: State, nowMs: number): Promise<void> {
    this.#flushing ??= this.#flushOnce(state, nowMs).finally(() => {
      this.#flushing = null;
    });
    return this.#flushing;
  }

  async #flushOnce(state: State, nowMs: number): Promise<void> {
    await this.#readDeclarations(state);
    const { ledger } = state;
    const store = this.#store;
    const seq = store.lastSeq;
    const sealed = ledger.takeSealed();
    const flush: Flush = prepareFlush(ledger.rows, seq, state.newestDay, state.declarations);
    store.transaction(() => {
      store.writePack(seq, sealed, nowMs);
      store.writeCheckpoint(seq, checkpointTexts(ledger));
      store.setMeta("gaps", JSON.stringify([...ledger.gaps]));
    });
    state.recordsSince = 0;
    state.flushedMs = nowMs;
    try {
      this.#d1RowsWritten += await writeFlush(this.env.DB, state.workspace, flush, state.modelVersion, nowMs);
    } catch (error) {
      // Whether D1 took it is not known: the next flush writes these rows again, with what they are by then.
      for (const key of flush.keys) ledger.rows.changed.add(key);
      console.error(`flush of ${flush.keys.length} rows to D1 failed, retried in ${FLUSH_MIN_MS} ms:`, error);
      return;
    }
    state.flushedSeq = seq;
    state.newestDay = flush.newestDay;
    store.transaction(() => {
      store.commitFlush(seq);
      store.expire(nowMs);
    });
  }

  /** What the operator declared weighs chains; while Fleet is away, what was declared last. */
  async #readDeclarations(state: State): Promise<void> {
    try {
      state.declarations = await this.env.FLEET.getByName(state.workspace).tasks(state.workspace);
    } catch (error) {
      console.warn(`declarations of ${state.workspace} not read, chains are weighed by the last ones: ${error}`);
    }
  }

  // ── Alarm ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  #armFor(state: State, nowMs: number): void {
    if (this.#alarmMs !== null && this.#alarmMs <= nowMs + ALARM_MIN_MS) return; // It cannot come sooner.
    const times: number[] = [];
    const sealMs = state.ledger.nextDueMs();
    if (sealMs !== null) times.push(sealMs);
    if (state.unpublished > 0) times.push(state.publishedMs + PUBLISH_MS);
    if (state.ledger.isUnsettled || state.ledger.rows.changed.size > 0) times.push(flushAtMs(state));
    if (times.length > 0) this.#arm(Math.max(nowMs + ALARM_MIN_MS, Math.min(...times)));
  }

  #arm(atMs: number): void {
    if (this.#alarmMs !== null && this.#alarmMs <= atMs) return;
    this.#alarmMs = atMs;
    void this.ctx.storage.setAlarm(atMs);
  }
}

function learn(state: State, run: AssembledRun): void {
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

function isPublishDue(state: State, nowMs: number): boolean {
  return state.unpublished > 0 && nowMs >= state.publishedMs + PUBLISH_MS;
}

function isFlushDue(state: State, nowMs: number): boolean {
  return state.ledger.rows.changed.size > 0 && nowMs >= flushAtMs(state);
}

/** When the changed rows are to be flushed. */
function flushAtMs(state: State): number {
  const soonestMs = state.flushedMs + FLUSH_MIN_MS;
  // Nothing has ever been flushed: people look for the first rows at once.
  if (state.flushedSeq === 0) return 0;
  if (state.recordsSince >= state.ledger.rows.changed.size * RECORDS_PER_ROW) return soonestMs;
  return Math.min(Math.max(soonestMs, state.lastRecordMs + FLUSH_MIN_MS), state.flushedMs + FLUSH_MAX_MS);
}

function without(records: RunRecord[], refused: { record: RunRecord }[]): RunRecord[] {
  const gone = new Set(refused.map(({ record }) => record));
  return records.filter((record) => !gone.has(record));
}

/** Open runs as text: a line of arrivals by run, then the runs. */
function checkpointTexts(ledger: Ledger): string[] {
  const texts: string[] = [];
  let arrivals: [string, number][] = [];
  let runs: KeptRun[] = [];
  let records = 0;
  const close = () => {
    if (runs.length > 0) texts.push(`${JSON.stringify(arrivals)}\n${textOfRuns(runs)}`);
    arrivals = [];
    runs = [];
    records = 0;
  };
  for (const [runId, run] of ledger.open) {
    arrivals.push([runId, run.lastArrivalMs]);
    runs.push({ runId, aliases: [...run.aliases], records: [...run.records.values()] });
    records += run.records.size;
    if (records >= CHECKPOINT_RECORDS) close();
  }
  close();
  return texts;
}

function restoreOpenRuns(ledger: Ledger, texts: string[]): void {
  for (const text of texts) {
    const line = text.indexOf("\n");
    const arrivals = new Map(JSON.parse(text.slice(0, line)) as [string, number][]);
    for (const run of runsOfText(text.slice(line + 1))) ledger.restoreOpen(run, arrivals.get(run.runId) ?? 0);
  }
}

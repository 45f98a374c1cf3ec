// GraphWriter: one Durable Object per workspace, the only writer of its graph and its model.
//
//   ingest   records ─► ledger (memory) ─► journal (one row) ─► answer. The answer leaves only when the row is durable.
//   alarm    runs that are quiet are sealed: journaled, counted, learned; sealed runs go to packs for late records
//   outcomes of the hubs ─► journal (one row) ─► what is learned of them
//   publish  model image, names, profiles and what was learned to this object's SQLite: at most every ten seconds
//   flush    changed rows to D1 in one batch; then the journal up to there is dropped
//
// After a crash or an eviction: rows of D1 as of the last whole flush, open runs of that flush's checkpoint, model as
// published, and the journal since, replayed in its order. The same calls give the same state, so nothing is lost or counted twice.
// Nothing between reading the state and changing it awaits, except D1; what comes meanwhile belongs to the next flush.
import { DurableObject } from "cloudflare:workers";
import { chainsOf } from "../core/chains.ts";
import { type GraphFilter, graphAnswer } from "../core/graph.ts";
import type { LearnedText, Placement } from "../core/learned.ts";
import type { LearnedExport } from "../core/learned-export.ts";
import { packRecords, type RunRecord, unpackRecords } from "../core/records.ts";
import { type RowLimit, warningsOf } from "../core/rows.ts";
import type { ChainsAnswer, LearnedPart, Rebuilt } from "../protocol.ts";
import type { Env } from "./env.ts";
import { type Flush, prepareFlush, writeFlush } from "./graph-store.ts";
import { ChainPages, type PageStart } from "./writer/chain-pages.ts";
import { giveBack, takeMeasures } from "./writer/measures.ts";
import { adoptModel, checkpointTexts, forgetModel, rebuild, recover } from "./writer/recovery.ts";
import { pack, sealRuns } from "./writer/seal.ts";
import {
  FLUSH_MIN_MS,
  flushAtMs,
  isFlushDue,
  isPublishDue,
  learnOutcomes,
  modelOf,
  profilesFor,
  publishAtMs,
  type State,
  sealing,
} from "./writer/state.ts";
import { learningOf, type WriterLearning } from "./writer/told.ts";
import { type OutcomeBatch, WriterStore } from "./writer/writer-store.ts";

/** Alarms are rows too: no more than one a second. */
const ALARM_MIN_MS = 1_000;

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
  /** JSON for `adjustmentsOf`: what plans and placements are corrected by. */
  adjustments: string;
}

export class GraphWriter extends DurableObject<Env> {
  readonly #store: WriterStore;
  readonly #chainPages = new ChainPages();
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

  /** Takes outcomes of one cluster, as JSON of `OutcomeBatch.outcomes`, each once. Durable before the answer. Out: when the workflow changed last, ms; 0: never. */
  async learnOutcomes(workspace: string, cluster: string, text: string): Promise<number> {
    const state = await this.#ready(workspace);
    const batch: OutcomeBatch = { cluster, outcomes: JSON.parse(text) };
    if (!state.learned.knows(cluster, batch.outcomes)) {
      const nowMs = Date.now();
      this.#journal(() => this.#store.appendOutcomes(batch, nowMs));
      learnOutcomes(state, batch);
      this.#armFor(state, nowMs);
    }
    return state.learned.learning.drift.changes().at(-1)?.atMs ?? 0;
  }

  /** Where runs were placed. Not journaled: a crash costs some evidence of hundreds. */
  async placed(workspace: string, placements: Placement[]): Promise<void> {
    (await this.#ready(workspace)).learned.placed(placements);
  }

  // ── What was learned ───────────────────────────────────────────────────────────────────────────────────────────────

  async learning(workspace: string): Promise<WriterLearning> {
    return learningOf(await this.#ready(workspace), Date.now());
  }

  /** All of it but the model's image and the holds, as JSON of LearnedText. */
  async learnedText(workspace: string): Promise<string> {
    return JSON.stringify((await this.#ready(workspace)).learned.text());
  }

  /** How good predictions were in the hours that D1 may not have yet, as JSON of CalibrationRow[]. */
  async calibration(workspace: string): Promise<string> {
    return JSON.stringify((await this.#ready(workspace)).learned.calibration.rows());
  }

  /** These parts stay as they are from now on, all others are learned. Stored with the model, so before the answer. */
  async freeze(workspace: string, parts: LearnedPart[]): Promise<void> {
    const state = await this.#ready(workspace);
    state.learned.freeze(parts);
    this.#publish(state, Date.now());
  }

  /** These parts begin anew. */
  async resetLearned(workspace: string, parts: LearnedPart[]): Promise<void> {
    const state = await this.#ready(workspace);
    for (const part of parts) state.learned.reset(part);
    if (parts.includes("model")) forgetModel(state);
    this.#publish(state, Date.now());
  }

  /** Parts of an export take the place of what is known. Errors: what is wrong with the image; then nothing has changed. */
  async adoptLearned(
    workspace: string,
    parts: LearnedPart[],
    learned: LearnedExport["learned"],
    model: { tasks: string[]; image: Uint8Array } | null,
  ): Promise<string | null> {
    const state = await this.#ready(workspace);
    const refused = model === null ? null : adoptModel(state, model);
    if (refused !== null) return refused;
    state.learned.adopt(parts, learned);
    this.#publish(state, Date.now());
    return null;
  }

  // ── The graph ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The graph at this moment, open runs included, as JSON of GraphAnswer. */
  async graph(workspace: string, filter: GraphFilter): Promise<string> {
    const state = await this.#ready(workspace);
    state.ledger.settle();
    const rows = state.ledger.rows.with(state.ledger.provisional());
    const answer = graphAnswer(rows, state.modelVersion, filter);
    const limits = state.ledger.rows.limits();
    const warnings = warningsOf(limits);
    return JSON.stringify({
      ...answer,
      openRuns: state.ledger.open.size,
      unpublishedRuns: state.unpublished,
      limits,
      ...(warnings.length === 0 ? {} : { warnings }),
    });
  }

  /** How full the graph was at the last flush, for monitoring: nothing is loaded for it. */
  async limits(): Promise<RowLimit[]> {
    return JSON.parse(this.#store.meta("limits") ?? "[]");
  }

  /** A page of the chains, open runs included, by score. Null: see ChainPages. */
  async chains(workspace: string, from: PageStart, limit: number): Promise<ChainsAnswer | null> {
    const state = await this.#ready(workspace);
    await this.#readDeclarations(state);
    state.ledger.settle();
    const rows = state.ledger.rows.with(state.ledger.provisional());
    const profiles = new Map(profilesFor(state, rows).map((profile) => [profile.task, profile]));
    return this.#chainPages.page(chainsOf(rows, profiles, state.declarations), from, limit, Date.now());
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
    const { gate, margins, placement } = JSON.parse(model.learned) as LearnedText;
    return { version, image, tasks, profiles, adjustments: JSON.stringify({ gate, margins, placement }) };
  }

  /** A new model of the kept runs, published at once; null where none is kept. Nothing else is answered meanwhile. */
  async rebuild(workspace: string): Promise<Rebuilt | null> {
    const state = await this.#ready(workspace);
    const known = new Set(state.tasks);
    const nowMs = Date.now();
    const learned = rebuild(state, this.#store, nowMs);
    if (learned === null) return null;
    this.#publish(state, nowMs);
    for (const task of state.tasks) known.delete(task);
    return { modelVersion: state.modelVersion, ...learned, tasks: state.tasks.length, tasksForgotten: known.size };
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

  // ── Start ───────────────────────────────────────────────────────────────────────────────────────────────────────────

  #ready(workspace: string): Promise<State> {
    this.#state ??= this.#recover(workspace).catch((error: unknown) => {
      this.#state = null; // The next call tries again.
      throw error;
    });
    return this.#state;
  }

  async #recover(workspace: string): Promise<State> {
    const nowMs = Date.now();
    const state = await recover(this.#store, this.env.DB, workspace, nowMs);
    this.#armFor(state, nowMs);
    return state;
  }

  // ── Seal, publish, flush ───────────────────────────────────────────────────────────────────────────────────────────

  /** `isAlarm` false: only when memory asks for it; looking through all open runs at every batch would cost more than it. */
  #sealDue(state: State, nowMs: number, isAlarm: boolean): void {
    const { ledger } = state;
    if (isAlarm || ledger.isFull) {
      const due = ledger.due(nowMs);
      if (due.length > 0) {
        this.#journal(() => this.#store.appendSeals(due, nowMs));
        const at = { nowMs, seq: this.#store.lastSeq };
        sealRuns(state, this.#store, due, sealing(state, due.length, nowMs), at);
      }
    }
    // Late records bring sealed runs back.
    if (ledger.isPackDue) pack(ledger, this.#store, { nowMs, seq: this.#store.lastSeq });
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
    const profiles = profilesFor(state, state.ledger.rows.rows);
    const image = state.engine.sealedImage();
    const learned = JSON.stringify(state.learned.text());
    const texts = { profiles: JSON.stringify(profiles), learned };
    this.#store.writeModel({ version, seq: this.#store.lastSeq, image, tasks: state.tasks, ...texts });
    state.modelVersion = version;
    state.model = modelOf(state, profiles);
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
    // The flush drops the journal from which a model would be learned again that is behind it.
    if (state.unpublished > 0) this.#publish(state, nowMs);
    const seq = store.lastSeq;
    const sealed = ledger.takeSealed();
    const profiles = () => profilesFor(state, ledger.rows.rows);
    const flush: Flush = prepareFlush(ledger.rows, seq, state.newestDay, state.declarations, profiles);
    const measures = takeMeasures(state, nowMs);
    flush.statements.push(...measures.statements);
    store.transaction(() => {
      store.packs.write(seq, sealed, nowMs);
      store.writeCheckpoint(seq, checkpointTexts(ledger));
      store.setMeta("gaps", JSON.stringify([...ledger.gaps]));
      store.setMeta("refusals", ledger.rows.refusalsText());
      store.setMeta("limits", JSON.stringify(ledger.rows.limits()));
    });
    state.recordsSince = 0;
    state.flushedMs = nowMs;
    try {
      this.#d1RowsWritten += await writeFlush(this.env.DB, state.workspace, flush, state.modelVersion, nowMs);
    } catch (error) {
      // Whether D1 took it is not known: the next flush writes these rows again, with what they are by then.
      for (const key of flush.keys) ledger.rows.changed.add(key);
      giveBack(state, measures);
      console.error(`flush of ${flush.keys.length} rows to D1 failed, retried in ${FLUSH_MIN_MS} ms:`, error);
      return;
    }
    state.flushedSeq = seq;
    state.newestDay = flush.newestDay;
    store.transaction(() => {
      store.commitFlush(seq);
      store.packs.expire(nowMs);
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
    if (state.unpublished > 0) times.push(publishAtMs(state));
    if (state.ledger.isUnsettled || state.ledger.rows.changed.size > 0) times.push(flushAtMs(state));
    if (times.length > 0) this.#arm(Math.max(nowMs + ALARM_MIN_MS, Math.min(...times)));
  }

  #arm(atMs: number): void {
    if (this.#alarmMs !== null && this.#alarmMs <= atMs) return;
    this.#alarmMs = atMs;
    void this.ctx.storage.setAlarm(atMs);
  }
}

function without(records: RunRecord[], refused: { record: RunRecord }[]): RunRecord[] {
  const gone = new Set(refused.map(({ record }) => record));
  return records.filter((record) => !gone.has(record));
}

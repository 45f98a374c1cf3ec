// A GraphWriter's parts without its object: bench/memory.ts drives them in Node. In: batches and instants. Out: what they hold.
import { createEngine } from "../src/core/engine.ts";
import { Learned } from "../src/core/learned.ts";
import { Ledger } from "../src/core/ledger.ts";
import { unpackRecords } from "../src/core/records.ts";
import { GraphRows } from "../src/core/rows.ts";
import { prepareFlush } from "../src/edge/graph-store.ts";
import { takeMeasures } from "../src/edge/writer/measures.ts";
import { sealRuns } from "../src/edge/writer/seal.ts";
import { isFlushDue, isPublishDue, modelOf, profilesFor, type State, sealing } from "../src/edge/writer/state.ts";
import { WriterStore } from "../src/edge/writer/writer-store.ts";

const ALARM_EVERY_MS = 1_000;

/** GraphWriter's calls in its order, with a clock of ours. */
export class Writer {
  readonly store: WriterStore;
  readonly state: State;
  #alarmMs = 0;

  constructor(storage: unknown, engineModule: WebAssembly.Module, nowMs: number) {
    this.store = new WriterStore(storage as DurableObjectStorage);
    const model = {
      engine: createEngine(engineModule, "default"),
      tasks: [],
      taskIds: new Map<string, number>(),
      modelVersion: 0,
    };
    this.state = {
      workspace: "bench",
      ledger: new Ledger(new GraphRows(), [], this.store.packs),
      learned: new Learned(),
      ...model,
      model: modelOf(model, []),
      changes: [],
      ended: [],
      unpublished: 0,
      publishedMs: 0,
      flushedSeq: 0,
      newestDay: null,
      declarations: {},
      flushedMs: nowMs,
      recordsSince: 0,
      lastRecordMs: nowMs,
    };
  }

  ingest(text: string, nowMs: number): void {
    const { state, store } = this;
    const { changes } = state.ledger.ingest(unpackRecords(text), nowMs);
    store.appendRecords(text, nowMs);
    state.recordsSince += changes;
    state.lastRecordMs = nowMs;
    if (state.ledger.isFull) this.#seal(nowMs);
    if (nowMs < this.#alarmMs + ALARM_EVERY_MS) return;
    this.#alarmMs = nowMs;
    this.#seal(nowMs);
    if (isPublishDue(state, nowMs)) this.#publish(nowMs);
    if (isFlushDue(state, nowMs)) this.#flush(nowMs);
  }

  #seal(nowMs: number): void {
    const { state, store } = this;
    const due = state.ledger.due(nowMs);
    if (due.length > 0) store.appendSeals(due, nowMs);
    sealRuns(state, store, due, sealing(state, due.length, nowMs), { nowMs, seq: store.lastSeq });
  }

  #publish(nowMs: number): void {
    const { state, store } = this;
    const profiles = profilesFor(state, state.ledger.rows.rows);
    const learned = JSON.stringify(state.learned.text());
    const image = state.engine.sealedImage();
    store.writeModel({
      version: ++state.modelVersion,
      seq: store.lastSeq,
      image,
      tasks: state.tasks,
      profiles: JSON.stringify(profiles),
      learned,
    });
    state.model = modelOf(state, profiles);
    Object.assign(state, { publishedMs: nowMs, unpublished: 0 });
  }

  #flush(nowMs: number): void {
    const { state, store } = this;
    const { rows } = state.ledger;
    const seq = store.lastSeq;
    store.packs.write(seq, state.ledger.takeSealed(), nowMs);
    const flush = prepareFlush(rows, seq, state.newestDay, {}, () => profilesFor(state, rows.rows));
    takeMeasures(state, nowMs);
    store.commitFlush(seq);
    store.packs.expire(nowMs);
    Object.assign(state, { flushedSeq: seq, newestDay: flush.newestDay, flushedMs: nowMs, recordsSince: 0 });
  }
}

// How long runtimes of a cluster are held after a call, learned per task (core/keepalive.ts). In: calls as they are allocated, releases
// as agents tell them with their heartbeats. Out: the keep-alive that a heartbeat's answer tells.
// Tasks go by the names that the agents know them by. Calls are known at once and releases up to a heartbeat later: both wait until every agent has told of their time, and are then taken in
// order. What waits is in memory; what was learned is a row per task, written at most once a minute.

import { KeepAlive, type LearnedHold } from "../../core/keepalive.ts";
import type { KeepAliveState } from "../../core/keepalive-state.ts";
import type { Offer } from "../../core/pipeline.ts";
import { type CallWait, type Hidden, waitOf } from "../../core/planned.ts";
import type { Quotas } from "../../core/quotas.ts";
import type { Heartbeat, TaskDeclaration } from "../../protocol.ts";
import { policyOf } from "./admission.ts";
import type { HubConfig } from "./messages.ts";

/** Heartbeats that are waited for before a call is taken. */
const BEATS_WAITED = 3;
/** Calls and releases that wait; beyond, they are taken in the order they are in. */
const WAITING_MAX = 20_000;
/** Without an agent's word, ms: its configuration's default. */
const KEEP_ALIVE_DEFAULT_MS = 60_000;
const STORED_EVERY_MS = 60_000;
const BYTES_PER_GB = 2 ** 30;
/** The price of memory is kept beside the tasks; no task has this name. */
const PRICE_ROW = "";

interface Waiting {
  atMs: number;
  task: string;
  /** Of a call: what a warm runtime saves. Null: a release. */
  call: { runId: string; wait: CallWait; sensitivity: number; gb: number } | null;
}

export class Holds {
  readonly #sql: SqlStorage;
  readonly #quotas: Quotas;
  #learner: KeepAlive;
  #msPerGbSecond: number;
  /** As the agents' own configuration has it. */
  readonly #configuredMs = new Map<string, number>();
  readonly #gb = new Map<string, number>();
  readonly #sensitivity = new Map<string, number>();
  readonly #touched = new Set<string>();
  #waiting: Waiting[] = [];
  #storedMs = 0;

  constructor(sql: SqlStorage, config: HubConfig | null, quotas: Quotas) {
    this.#sql = sql;
    this.#quotas = quotas;
    const rows = sql.exec<{ task: string; state: string }>("SELECT task, state FROM holds").toArray();
    const stored = new Map(rows.map(({ task, state }) => [task, JSON.parse(state)]));
    const price = stored.get(PRICE_ROW);
    stored.delete(PRICE_ROW);
    const tasks = Object.fromEntries(stored);
    this.#msPerGbSecond = policyOf(config).msPerGbSecond;
    this.#learner = this.#newLearner({ frozen: config?.frozen?.includes("holds") ?? false, tasks, price });
  }

  configure(config: HubConfig): void {
    const { msPerGbSecond } = config.policy;
    this.#learner.frozen = config.frozen.includes("holds");
    if (msPerGbSecond === this.#msPerGbSecond) return;
    this.#msPerGbSecond = msPerGbSecond;
    this.#learner = this.#newLearner(this.#learner.state());
  }

  /** A task is called. `hidden`: what the plans before it hide of its start. */
  called({ runId, task, start }: Pick<Offer, "runId" | "task" | "start">, hidden: Hidden | null, nowMs: number): void {
    const { coldStartMs, slowStartMs = coldStartMs, latencySensitivity: sensitivity, memoryBytes } = start;
    const wait = waitOf({ coldStartMs, slowStartMs }, hidden, this.#fixedMs(task));
    const gb = memoryBytes / BYTES_PER_GB;
    this.#gb.set(task, gb);
    this.#sensitivity.set(task, sensitivity);
    this.#waiting.push({ atMs: nowMs, task, call: { runId, wait, sensitivity, gb } });
  }

  heard({ tasks, released }: Heartbeat, everyMs: number, nowMs: number): void {
    for (const { task, keepAliveMs } of tasks) {
      if (keepAliveMs !== undefined) this.#configuredMs.set(task, keepAliveMs);
    }
    for (const { task, atMs } of released ?? []) {
      // A release of the future, or of long ago, is a clock's fault.
      const heardMs = Math.min(nowMs, Math.max(nowMs - STORED_EVERY_MS, atMs));
      this.#waiting.push({ atMs: heardMs, task, call: null });
    }
    this.#take(this.#waiting.length > WAITING_MAX ? nowMs : nowMs - BEATS_WAITED * everyMs);
  }

  /** A runtime that a command had started was idle so long before its use, or in vain: part of what memory is held for. */
  prepared(task: string, idleMs: number): void {
    const gb = this.#gb.get(task);
    if (gb === undefined) return;
    this.#learner.price.prepared(gb * idleMs);
    this.#touched.add(task);
  }

  /** What the agent is told for a task; null: its own configuration stands. */
  keepAliveMs(task: string, declared: TaskDeclaration | undefined, config: HubConfig | null): number | null {
    if (declared?.keepAliveMs !== undefined) return declared.keepAliveMs;
    const { mode, keepAliveMaxMs } = policyOf(config);
    if (mode !== "active" || declared?.prewarm === "never" || !this.#gb.has(task)) return null;
    const learnedMs = this.#learner.holdMs(task);
    return learnedMs === this.#fixedMs(task) ? null : Math.min(learnedMs, keepAliveMaxMs);
  }

  /** What memory is worth on the cluster now: plans are weighed by it too. */
  get msPerGbSecond(): number {
    return this.#learner.price.msPerGbSecond;
  }

  /** How long agents would hold runtimes by themselves, ms, of tasks that they hold for less: plans make up for it. */
  sparedMs(config: HubConfig | null): Record<string, number> {
    const spared: Record<string, number> = {};
    for (const [task, learnedMs] of Object.entries(this.#learner.spared())) {
      const declared = config?.tasks[task];
      const toldMs = this.keepAliveMs(task, declared, config);
      if (toldMs !== null && declared?.keepAliveMs === undefined) spared[task] = learnedMs;
    }
    return spared;
  }

  /** A call waited although a plan was to hide its start. */
  missed(task: string): void {
    this.#learner.missed(task, this.#sensitivity.get(task) ?? 1);
  }

  learned(): LearnedHold[] {
    return this.#learner.learned();
  }

  state(): KeepAliveState {
    return this.#learner.state();
  }

  fade(kept: number): void {
    this.#learner.fade(kept);
  }

  /** Null: begins anew. Frozen stays frozen: that is the operator's word. */
  replace(state: KeepAliveState | null): void {
    this.#learner = this.#newLearner({ tasks: {}, ...state, frozen: this.#learner.frozen });
    this.#waiting = [];
    this.#touched.clear();
    this.#sql.exec("DELETE FROM holds");
    if (state === null) return;
    for (const [task, known] of Object.entries(state.tasks)) this.#put(task, known);
    this.#put(PRICE_ROW, this.#learner.price.state());
  }

  /** When there is something to store, at the latest; null: there is not. */
  get storeAtMs(): number | null {
    return this.#touched.size === 0 ? null : this.#storedMs + STORED_EVERY_MS;
  }

  store(nowMs: number): void {
    if (this.#touched.size === 0 || nowMs < this.#storedMs + STORED_EVERY_MS) return;
    this.#storedMs = nowMs;
    const { tasks, price } = this.#learner.state();
    for (const task of this.#touched) if (Object.hasOwn(tasks, task)) this.#put(task, tasks[task]);
    this.#put(PRICE_ROW, price);
    this.#touched.clear();
  }

  #put(task: string, state: unknown): void {
    this.#sql.exec(
      "INSERT INTO holds (task, state) VALUES (?, ?) ON CONFLICT (task) DO UPDATE SET state = excluded.state",
      task,
      JSON.stringify(state),
    );
  }

  #take(untilMs: number): void {
    if (!this.#waiting.some(({ atMs }) => atMs <= untilMs)) return;
    this.#waiting.sort((a, b) => a.atMs - b.atMs);
    let taken = 0;
    for (const { atMs, task, call } of this.#waiting) {
      if (atMs > untilMs) break;
      taken++;
      if (call !== null) {
        const covers = (bin: number) => this.#quotas.covers(call.runId, task, bin);
        this.#learner.called(task, atMs, call.wait, call.sensitivity, call.gb, covers);
      } else if (this.#gb.has(task)) this.#learner.released(task, atMs, this.#gb.get(task)!);
      this.#touched.add(task);
    }
    this.#waiting = this.#waiting.slice(taken);
  }

  #fixedMs(task: string): number {
    return this.#configuredMs.get(task) ?? KEEP_ALIVE_DEFAULT_MS;
  }

  #newLearner(state: KeepAliveState): KeepAlive {
    for (const [task, { gb }] of Object.entries(state.tasks)) this.#gb.set(task, gb);
    const fixedMs = (task: string) => this.#fixedMs(task);
    return new KeepAlive({ msPerGbSecond: this.#msPerGbSecond, fixedMs }, state);
  }
}

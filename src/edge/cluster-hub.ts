// ClusterHub: one Durable Object per cluster, where allocations meet agents.
//   in from the Worker   admit(offer): hold capacity, queue commands
//   in from agents       heartbeat, commands (long-poll), report
//   out to Fleet         a summary, at most once a second      out to D1   outcomes, in batches
// The command queue is a state machine (hub/queue.ts), capacity a ledger (hub/ledger.ts), outcomes a book (hub/outcomes.ts);
// this class gives them their clock, wakes who waits, and survives eviction: whatever must last is in SQLite, and
// one alarm stands for the earliest thing that will be due.
import { DurableObject } from "cloudflare:workers";
import type { Admission, Offer, PlannedCommand } from "../core/pipeline.ts";
import {
  AgentMessage,
  type AgentReport,
  type AgentReportAnswer,
  type Command,
  type CommandResult,
  type CommandsAnswer,
  type Heartbeat,
  type HeartbeatAnswer,
  Policy,
} from "../protocol.ts";
import type { Env } from "./env.ts";
import { HourlySpending, NOTHING_SPENT, overBudget, type Spent } from "./hub/budget.ts";
import { Calls, type Executed } from "./hub/calls.ts";
import { Capacity } from "./hub/capacity.ts";
import type { HubConfig, HubSummary } from "./hub/messages.ts";
import { OutcomeBook } from "./hub/outcomes.ts";
import { CommandQueue, type CommandState } from "./hub/queue.ts";
import { Settlement } from "./hub/settlement.ts";
import { MESSAGE_CHARACTERS_MAX, Sockets } from "./hub/sockets.ts";
import { createTables, readMeta, writeMeta } from "./hub/tables.ts";
import { Vms } from "./hub/vms.ts";
import { Waiters } from "./hub/waiters.ts";
import { named } from "./named.ts";
import { vmKey } from "./secrets.ts";

/** Agents hold a long-poll for at most this long, ms: below the idle time-outs of common proxies. */
export const LONG_POLL_MS_MAX = 25_000;
/** Summaries to Fleet, ms. */
const SUMMARY_EVERY_MS = 1_000;
/** Agents that join within it are told of together, ms. */
const JOIN_GATHER_MS = 100;
/** Outcomes wait this long for company before they go to D1, ms. */
const FLUSH_AFTER_MS = 3_000;
/** Ready, expired, and no word from the agent for this long: waste. An object may lie in a cache for long and still be used, ms. */
const SILENT_AFTER_MS = { warm: 30_000, prefetch: 3_600_000 } as const;
/** Commands of one message to a socket; what is left follows with the next alarm, report or plan. */
const PUSHED_MAX = 100;
const CLOSE_SUPERSEDED = 4001;
const DEAD_LETTERS_TOLD = 200;
/** Ended commands and flushed outcomes are kept this long for late and repeated reports, ms. */
const KEPT_MS = 3_600_000;
const PRUNE_EVERY_MS = 600_000;

interface Identity {
  workspace: string;
  cluster: string;
}

export type HeartbeatResult =
  | { ok: true; answer: Omit<HeartbeatAnswer, "invokeKey"> }
  | { ok: false; reason: "superseded"; detail: string };

/** A command that was given up for good. */
export interface DeadLetter {
  commandId: string;
  vm: string;
  kind: Command["kind"];
  task: string | null;
  uri: string | null;
  runId: string | null;
  state: CommandState;
  attempts: number;
  reason: string | null;
  atMs: number;
}

/** A call for a VM without a URL. `request` never names a command line: the agent knows what its task is. */
export interface ExecuteCall {
  commandId: string;
  runId: string;
  executionId: string;
  vm: string;
  task: string;
  timeoutMs: number;
  request: NonNullable<Command["request"]>;
}

export class ClusterHub extends DurableObject<Env> {
  readonly #sql: SqlStorage;
  readonly #queue: CommandQueue;
  readonly #capacity: Capacity;
  readonly #book: OutcomeBook;
  readonly #vms: Vms;
  readonly #waiters = new Waiters();
  readonly #sockets: Sockets;
  readonly #calls = new Calls();
  readonly #spending: HourlySpending;
  readonly #settlement: Settlement;
  /** What the workspace's other clusters have spent, as Fleet last told. */
  #spentElsewhere: Spent = NOTHING_SPENT;
  #identity: Identity | null;
  #config: HubConfig | null;
  #alarmAtMs: number | null = null;
  #flushAtMs: number | null = null;
  #prunedMs = 0;
  #summarisedMs = 0;
  #soon: Promise<void> | null = null;
  #summaryTimer: ReturnType<typeof setTimeout> | null = null;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#sql = ctx.storage.sql;
    createTables(this.#sql);
    const nowMs = Date.now();
    this.#identity = readMeta<Identity>(this.#sql, "identity");
    this.#config = withNames(readMeta<HubConfig>(this.#sql, "config"));
    this.#queue = new CommandQueue(this.#sql);
    this.#book = new OutcomeBook(this.#sql);
    this.#vms = new Vms(this.#sql, nowMs);
    this.#capacity = new Capacity(this.#sql, this.#vms, nowMs);
    this.#sockets = new Sockets(ctx);
    this.#spending = new HourlySpending(this.#sql, nowMs);
    this.#settlement = new Settlement(this.#queue, this.#book, this.#spending);
    // An alarm that was overdue when the object was evicted may never fire (workerd #3138): set again what is needed.
    if (this.#book.unflushed > 0) this.#flushAtMs = nowMs;
    this.#armBy(Math.min(this.#nextDueMs(), this.#flushAtMs ?? Number.POSITIVE_INFINITY));
  }

  // ── From the Worker ────────────────────────────────────────────────────────────────────────────────────────────────

  /** Holds capacity for a run's chain and queues its commands; or says why not, and the next best cluster is asked. */
  async admit(workspace: string, offer: Offer): Promise<Admission> {
    const nowMs = Date.now();
    this.#know(workspace, offer.cluster);
    const refusal = this.#capacity.refusal(offer, this.#config, nowMs);
    if (refusal !== null) return { ok: false, reason: refusal };
    this.#capacity.hold(offer.runId, offer.reservation);
    const admission: Admission = { ok: true, commandIds: {}, refusedKeys: {} };
    const woken = new Set<string>();
    let dueMs = Number.POSITIVE_INFINITY;
    let bytesInFlight = offer.commands.some(({ kind }) => kind === "prefetch") ? this.#queue.bytesInFlight() : 0;
    for (const command of offer.commands) {
      const name = `${command.vm} ${command.key}`;
      const reason = this.#refusalOf(command, bytesInFlight, nowMs);
      if (reason !== null) {
        admission.refusedKeys[name] = reason;
        continue;
      }
      admission.commandIds[name] = this.#queue.enqueue(command, offer.runId, nowMs);
      bytesInFlight += command.bytes ?? 0;
      dueMs = Math.min(dueMs, command.expiresMs);
      woken.add(command.vm);
    }
    this.#deliver(woken, nowMs);
    this.#changed(nowMs, dueMs);
    return admission;
  }

  #refusalOf(command: PlannedCommand, bytesInFlight: number, nowMs: number): string | null {
    const { mode, budgets } = this.#policy();
    if (mode === "paused") return "paused";
    const own = this.#spending.current(nowMs);
    const spent: Spent = {
      inFlight: this.#queue.inFlight + this.#spentElsewhere.inFlight,
      bytes: own.bytes + bytesInFlight + this.#spentElsewhere.bytes,
      gbSeconds: own.gbSeconds + this.#spentElsewhere.gbSeconds,
    };
    const beyond = overBudget(budgets, spent, command) ?? this.#capacity.vmRefusal(command.vm, this.#config, nowMs);
    if (beyond !== null) return beyond;
    if (command.task !== null && !this.#vms.get(command.vm)!.tasks.has(command.task))
      return "its agent does not have the task";
    return null;
  }

  /**
   * Runs that were answered: their reservations end before they expire. `over`: nothing more is expected. Else the run's first
   * call was answered: it is over if other calls came while that ran, and else may go on by calls that its caller makes.
   */
  async release(runs: { runId: string; over: boolean }[]): Promise<void> {
    for (const { runId, over } of runs) if (over || this.#capacity.callsOf(runId) > 1) this.#capacity.release(runId);
    this.#changed(Date.now());
  }

  /** Runs a call on a VM that only its own agent can reach. Resolves with the task's response, or why there is none. */
  async execute(workspace: string, cluster: string, call: ExecuteCall): Promise<Executed> {
    const nowMs = Date.now();
    this.#know(workspace, cluster);
    const refusal = this.#capacity.vmRefusal(call.vm, this.#config, nowMs);
    if (refusal !== null) return { ok: false, reason: "failed", detail: `refused: ${refusal}` };
    const command: PlannedCommand = {
      commandId: call.commandId,
      key: `execute ${call.executionId}`,
      vm: call.vm,
      kind: "execute",
      task: call.task,
      version: null,
      uri: null,
      bytes: null,
      probability: 1,
      savedMs: 0,
      notBeforeMs: nowMs,
      deadlineMs: nowMs,
      expiresMs: nowMs + call.timeoutMs,
    };
    const executed = this.#calls.wait(call.commandId, call.timeoutMs);
    this.#queue.enqueue(command, call.runId, nowMs, JSON.stringify(call.request));
    this.#deliver([call.vm], nowMs);
    this.#changed(nowMs, command.expiresMs);
    return executed;
  }

  // ── From agents ────────────────────────────────────────────────────────────────────────────────────────────────────

  async heartbeat(workspace: string, cluster: string, vm: string, heartbeat: Heartbeat): Promise<HeartbeatResult> {
    const nowMs = Date.now();
    this.#know(workspace, cluster);
    const met = this.#vms.receive(vm, heartbeat, nowMs);
    if (met === "superseded") {
      const detail = `Another agent process has taken over VM ${vm}; this one must stop.`;
      return { ok: false, reason: "superseded", detail };
    }
    // A poll that the process before left behind must not be given commands.
    if (met === "restarted" || met === "new") this.#waiters.dismiss(vm);
    if (met === "restarted" || heartbeat.leaving)
      this.#forgetProcess(vm, heartbeat.leaving ? "stopped" : "crashed", nowMs);
    if (heartbeat.leaving) {
      this.#vms.remove(vm);
      for (const row of this.#queue.cancelQueued("its agent left", nowMs, { vm }))
        this.#settlement.fail(cluster, row, "its agent left", nowMs);
    }
    this.#changed(nowMs);
    // Whoever joins or leaves is known to Fleet at once; and the first heartbeat waits for what the operator declared.
    if (met !== "known" || heartbeat.leaving || this.#config === null) await this.#summariseSoon();
    return { ok: true, answer: this.#answer(vm, heartbeat, nowMs) };
  }

  #answer(vm: string, heartbeat: Heartbeat, nowMs: number): Omit<HeartbeatAnswer, "invokeKey"> {
    const declared = this.#config;
    const tasks: HeartbeatAnswer["tasks"] = {};
    for (const { task } of heartbeat.tasks) {
      const declaration = declared?.tasks[task];
      if (declaration) tasks[task] = { keepAliveMs: declaration.keepAliveMs ?? null, timeoutMs: declaration.timeoutMs };
    }
    return {
      nowMs,
      nextHeartbeatMs: this.#vms.heartbeatEveryMs(),
      draining: (declared?.draining ?? false) || (declared?.vms[vm]?.draining ?? false),
      tasks,
      services: declared?.services ?? [],
    };
  }

  /** Runtimes died with the old process; its leases will never be reported. */
  #forgetProcess(vm: string, reason: "crashed" | "stopped", nowMs: number): void {
    for (const row of this.#queue.unsettledOn(vm))
      if (row.kind === "warm") this.#settlement.waste(this.#identity!.cluster, row, reason, nowMs);
    this.#queue.releaseLeases(vm, nowMs);
  }

  /** What is due on a VM, at once; or whatever becomes due within `waitMs`. */
  async commands(workspace: string, cluster: string, vm: string, waitMs: number, max: number): Promise<CommandsAnswer> {
    const untilMs = Date.now() + Math.min(waitMs, LONG_POLL_MS_MAX);
    this.#know(workspace, cluster);
    this.#waiters.dismiss(vm);
    for (;;) {
      const nowMs = Date.now();
      const commands = this.#deliverable() ? this.#queue.lease(vm, max, nowMs) : [];
      if (commands.length > 0) this.#changed(nowMs, nowMs + Math.min(...commands.map((command) => command.leaseMs)));
      if (commands.length > 0 || nowMs >= untilMs) return { nowMs, commands };
      const stillFirst = await this.#waiters.wait(vm, Math.min(untilMs, this.#queue.nextDueMs(vm) ?? untilMs) - nowMs);
      if (!stillFirst) return { nowMs: Date.now(), commands: [] };
    }
  }

  #deliverable(): boolean {
    return this.#policy().mode !== "paused";
  }

  /** Something may be due on these VMs: it goes out by socket, or a poll is woken. What is due later has its alarm or timer. */
  #deliver(vms: Iterable<string>, nowMs: number): void {
    for (const vm of vms) {
      if (this.#sockets.has(vm)) this.#push(vm, nowMs);
      else this.#waiters.wake(vm, this.#queue.nextDueMs(vm), nowMs);
    }
  }

  #push(vm: string, nowMs: number): void {
    const commands = this.#deliverable() ? this.#queue.lease(vm, PUSHED_MAX, nowMs) : [];
    if (commands.length > 0) {
      this.#sockets.send(vm, { type: "commands", answer: { nowMs, commands } });
      this.#armBy(nowMs + Math.min(...commands.map((command) => command.leaseMs)));
    }
    this.#armBy(this.#queue.nextDueMs(vm) ?? Number.POSITIVE_INFINITY);
  }

  // ── Agents' sockets ────────────────────────────────────────────────────────────────────────────────────────────────

  /** Opens a VM's socket. The Worker has checked the key and the names, and tells them in the URL's query. */
  override async fetch(request: Request): Promise<Response> {
    const query = new URL(request.url).searchParams;
    const [workspace, cluster, vm] = ["workspace", "cluster", "vm"].map((name) => query.get(name)!) as [
      string,
      string,
      string,
    ];
    this.#know(workspace, cluster);
    this.#waiters.dismiss(vm);
    // A socket before this one is dead, though its end may not have been noticed yet.
    if (this.#sockets.has(vm)) this.#queue.releaseLeases(vm, Date.now());
    const response = this.#sockets.accept(vm);
    this.#push(vm, Date.now());
    return response;
  }

  override async webSocketMessage(socket: WebSocket, text: string | ArrayBuffer): Promise<void> {
    const vm = this.#sockets.vmOf(socket);
    const { workspace, cluster } = this.#identity!;
    const refuse = (id: number | null, status: number, detail: string) =>
      this.#sockets.send(vm, { type: "refused", id, status, detail });
    if (typeof text !== "string" || text.length > MESSAGE_CHARACTERS_MAX)
      return void refuse(null, 413, "text of at most 2 MiB");
    let message: AgentMessage;
    try {
      message = AgentMessage.parse(JSON.parse(text));
    } catch (error) {
      return void refuse(null, 422, error instanceof Error ? error.message.slice(0, 1_000) : "malformed");
    }
    if (message.type === "report") {
      const answer = await this.report(workspace, cluster, vm, message.report);
      this.#sockets.send(vm, { type: "report", id: message.id, answer });
      return;
    }
    const result = await this.heartbeat(workspace, cluster, vm, message.heartbeat);
    if (!result.ok) {
      refuse(message.id, 409, result.detail);
      socket.close(CLOSE_SUPERSEDED, "superseded");
      return;
    }
    const { text: invokeKey } = await vmKey(this.env.FORECHAIN_SECRET, workspace, cluster, vm);
    this.#sockets.send(vm, { type: "heartbeat", id: message.id, answer: { ...result.answer, invokeKey } });
  }

  /** What was sent into a connection that broke may never have arrived: it is given again, and agents know it by its id. */
  override async webSocketClose(socket: WebSocket): Promise<void> {
    const vm = this.#sockets.vmOf(socket);
    socket.close();
    if (!this.#sockets.has(vm)) this.#queue.releaseLeases(vm, Date.now());
  }

  override async webSocketError(socket: WebSocket): Promise<void> {
    await this.webSocketClose(socket);
  }

  async report(workspace: string, cluster: string, vm: string, report: AgentReport): Promise<AgentReportAnswer> {
    const nowMs = Date.now();
    this.#know(workspace, cluster);
    const { answer, ended } = this.#settlement.report(cluster, vm, report, nowMs);
    let dueMs = Number.POSITIVE_INFINITY;
    for (const { command, result } of ended) {
      if (command.kind === "execute") this.#calls.settle(command.command_id, executedOf(result));
      if (result.state !== "done") continue;
      dueMs = Math.min(dueMs, command.expires_ms + SILENT_AFTER_MS.warm);
      if (command.kind === "warm") this.#vms.noteWarm(vm, command.task);
    }
    // A failed command may be due again.
    this.#deliver([vm], nowMs);
    this.#changed(nowMs, dueMs);
    return answer;
  }

  // ── Outcomes ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Brings outcomes to D1 now: whoever reads them wants them all. */
  async flush(): Promise<number> {
    if (!this.#identity) return 0;
    this.#flushAtMs = null;
    return this.#book.flush(this.env.DB, this.#identity.workspace, this.#identity.cluster);
  }

  async #flushOrLater(nowMs: number): Promise<void> {
    try {
      await this.flush();
    } catch (error) {
      // The outcomes are safe here, and D1 gets them when it is back.
      console.warn(`outcomes wait for D1: ${error}`);
      this.#flushAtMs = nowMs + FLUSH_AFTER_MS;
    }
  }

  /** For people: what the queue holds, and its dead letters. */
  async commandStates(): Promise<{ states: Record<string, number>; deadLetters: DeadLetter[] }> {
    const deadLetters = this.#queue.deadLetters(DEAD_LETTERS_TOLD).map(
      (row): DeadLetter => ({
        commandId: row.command_id,
        vm: row.vm,
        kind: row.kind,
        task: row.task,
        uri: row.uri,
        runId: row.run_id,
        state: row.state,
        attempts: row.attempt,
        reason: row.reason,
        atMs: row.changed_ms,
      }),
    );
    return { states: this.#queue.countsByState(), deadLetters };
  }

  // ── Fleet ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The operator declared something; a pause takes effect at once and leaves no backlog. */
  async configure(workspace: string, cluster: string, config: HubConfig): Promise<void> {
    this.#know(workspace, cluster);
    await this.#apply(config);
  }

  async #apply(config: HubConfig): Promise<void> {
    const nowMs = Date.now();
    const before = this.#config;
    this.#config = withNames(config);
    writeMeta(this.#sql, "config", config);
    // On the way out too: what was put back meanwhile is the backlog that resuming must not send.
    if (config.policy.mode !== before?.policy.mode && [config.policy.mode, before?.policy.mode].includes("paused")) {
      this.#queue.cancelQueued("paused", nowMs);
    }
    for (const [task, { version }] of Object.entries(config.tasks)) {
      if (version === undefined || before?.tasks[task]?.version === version) continue;
      this.#queue.cancelQueued(`superseded by version ${version}`, nowMs, { task, keepVersion: version });
    }
    this.#changed(nowMs);
  }

  /** What Fleet's view is joined from. */
  async summary(workspace: string, cluster: string): Promise<HubSummary> {
    this.#know(workspace, cluster);
    return this.#summary();
  }

  #summary(): HubSummary {
    const nowMs = Date.now();
    return {
      atMs: nowMs,
      ...this.#capacity.held(nowMs),
      vms: this.#vms.summaries(this.#queue.warming(nowMs)),
      unflushedOutcomes: this.#book.unflushed,
      spent: { inFlight: this.#queue.inFlight, ...this.#spending.current(nowMs) },
    };
  }

  /** Tells Fleet, and takes what the operator declared since. */
  async #summarise(): Promise<void> {
    this.#summarisedMs = Date.now();
    const { workspace, cluster } = this.#identity!;
    const fleet = this.env.FLEET.getByName(workspace);
    const news = await fleet.hubReport(workspace, cluster, this.#summary(), this.#config?.version ?? null);
    this.#spentElsewhere = news.spentElsewhere;
    if (news.config !== null) await this.#apply(news.config);
  }

  /** At once, unless that was done a moment ago: a cluster whose agents all join together tells of many with one summary. */
  #summariseSoon(): Promise<void> {
    const waitMs = this.#summarisedMs + JOIN_GATHER_MS - Date.now();
    if (waitMs <= 0) return this.#summariseOrLater();
    this.#soon ??= new Promise<void>((resolve) => setTimeout(resolve, waitMs)).then(() => {
      this.#soon = null;
      return this.#summariseOrLater();
    });
    return this.#soon;
  }

  /** Fleet being down costs freshness only; the next change tries again. */
  async #summariseOrLater(): Promise<void> {
    try {
      await this.#summarise();
    } catch (error) {
      console.warn(`summary to Fleet failed: ${error}`);
    }
  }

  // ── Time ───────────────────────────────────────────────────────────────────────────────────────────────────────────

  override async alarm(): Promise<void> {
    const nowMs = Date.now();
    this.#alarmAtMs = null;
    // Without an identity nothing was ever asked of this hub.
    const cluster = this.#identity?.cluster ?? "";
    for (const { command, reason } of this.#queue.sweep(nowMs)) {
      this.#settlement.fail(cluster, command, reason, nowMs);
      this.#calls.settle(command.command_id, { ok: false, reason: "failed", detail: reason });
    }
    for (const kind of ["warm", "prefetch"] as const) {
      for (const row of this.#queue.silentlyEnded(kind, nowMs - SILENT_AFTER_MS[kind]))
        this.#settlement.waste(cluster, row, "expired", nowMs);
    }
    if (this.#flushAtMs !== null && this.#flushAtMs <= nowMs) await this.#flushOrLater(nowMs);
    if (nowMs - this.#prunedMs > PRUNE_EVERY_MS) {
      this.#prunedMs = nowMs;
      this.#queue.prune(nowMs - KEPT_MS);
      this.#book.prune(nowMs - KEPT_MS);
    }
    this.#deliver(new Set([...this.#queue.dueVms(nowMs), ...this.#waiters.vms()]), nowMs);
    this.#changed(nowMs, Math.min(this.#nextDueMs(), this.#queue.nextDueMs(null) ?? Number.POSITIVE_INFINITY));
  }

  /** After every change: a summary to Fleet within a second, and the alarm if what happened is due before it. */
  #changed(nowMs: number, dueMs = Number.POSITIVE_INFINITY): void {
    if (this.#book.unflushed > 0) this.#flushAtMs ??= nowMs + FLUSH_AFTER_MS;
    const waitMs = Math.max(0, this.#summarisedMs + SUMMARY_EVERY_MS - nowMs);
    this.#summaryTimer ??= setTimeout(() => {
      this.#summaryTimer = null;
      this.ctx.waitUntil(this.#summariseOrLater());
    }, waitMs);
    this.#armBy(Math.min(dueMs, this.#flushAtMs ?? Number.POSITIVE_INFINITY));
  }

  /** An alarm that comes too early only looks and sets the next one; so it is moved only when it would be too late. */
  #armBy(dueMs: number): void {
    if (dueMs === Number.POSITIVE_INFINITY || (this.#alarmAtMs !== null && this.#alarmAtMs <= dueMs)) return;
    this.#alarmAtMs = dueMs;
    // Not awaited: the output gate holds every answer until it is stored.
    void this.ctx.storage.setAlarm(dueMs);
  }

  #nextDueMs(): number {
    const { leaseMs, expiryMs, warmMs, prefetchMs } = this.#queue.nextInstants();
    return Math.min(
      leaseMs ?? Number.POSITIVE_INFINITY,
      expiryMs ?? Number.POSITIVE_INFINITY,
      (warmMs ?? Number.POSITIVE_INFINITY) + SILENT_AFTER_MS.warm,
      (prefetchMs ?? Number.POSITIVE_INFINITY) + SILENT_AFTER_MS.prefetch,
    );
  }

  #know(workspace: string, cluster: string): void {
    if (this.#identity) return;
    this.#identity = { workspace, cluster };
    writeMeta(this.#sql, "identity", this.#identity);
  }

  #policy(): Policy {
    return this.#config?.policy ?? POLICY_DEFAULT;
  }
}

const POLICY_DEFAULT = Policy.parse({});

function withNames<T extends HubConfig | null>(config: T): T {
  if (config === null) return config;
  named(config.tasks);
  named(config.vms);
  return config;
}

function executedOf(result: CommandResult): Executed {
  if (result.state === "done" && result.response) return { ok: true, response: result.response };
  return { ok: false, reason: "failed", detail: result.reason ?? "the agent told no response" };
}

// ClusterHub: one Durable Object per cluster, where allocations meet agents.
//   in from the Worker   admit(offer): hold capacity, queue commands (hub/admission.ts)
//   in from agents       heartbeat (hub/vms.ts), commands (hub/delivery.ts), report (hub/settlement.ts)
//   out to Fleet         a summary, at most once a second (hub/fleet-link.ts)      out to D1   outcomes, in batches (hub/outcomes.ts)
// The command queue is a state machine (hub/queue.ts), capacity is held by reservations (hub/reservations.ts). This class gives them their clock,
// wakes who waits, and survives eviction: whatever must last is in SQLite, and one alarm stands for the earliest thing that will
// be due.
import { DurableObject } from "cloudflare:workers";
import type { LearnedHold } from "../core/keepalive.ts";
import type { KeepAliveState } from "../core/keepalive-state.ts";
import type { Admission, Offer } from "../core/pipeline.ts";
import type { AgentReport, AgentReportAnswer, CommandsAnswer, Heartbeat } from "../protocol.ts";
import type { Env } from "./env.ts";
import { Admissions, isPaused, policyOf, prefetchOf } from "./hub/admission.ts";
import { HubAlarm } from "./hub/alarm.ts";
import { HourlySpending } from "./hub/budget.ts";
import { Calls, type ExecuteCall, type Executed, executeCommandOf, executedOf } from "./hub/calls.ts";
import { Capacity } from "./hub/capacity.ts";
import type { DeadLetter } from "./hub/command-row.ts";
import { Delivery } from "./hub/delivery.ts";
import { FleetLink } from "./hub/fleet-link.ts";
import { answerOf } from "./hub/heartbeat-answer.ts";
import { Holds } from "./hub/holds.ts";
import {
  type HeartbeatResult,
  type HubConfig,
  type HubSummary,
  superseded,
  type WrittenOutputs,
  withNames,
} from "./hub/messages.ts";
import { OutcomeBook } from "./hub/outcomes.ts";
import { CommandQueue, type Given } from "./hub/queue.ts";
import { ExpectedRuns } from "./hub/runs.ts";
import { Schedule, SILENT_AFTER_MS } from "./hub/schedule.ts";
import { Settlement } from "./hub/settlement.ts";
import { readMessage, Sockets } from "./hub/sockets.ts";
import { createTables, readMeta, writeMeta } from "./hub/tables.ts";
import { Teaching } from "./hub/teaching.ts";
import { Vms } from "./hub/vms.ts";
import { vmKey } from "./secrets.ts";

/** Outcomes wait this long for company before they go to D1, ms. */
const FLUSH_AFTER_MS = 3_000;
const CLOSE_SUPERSEDED = 4001;
/** Ended commands and flushed outcomes are kept this long for late and repeated reports, ms. */
const KEPT_MS = 3_600_000;
const PRUNE_EVERY_MS = 600_000;

interface Identity {
  workspace: string;
  cluster: string;
}

export class ClusterHub extends DurableObject<Env> {
  readonly #sql: SqlStorage;
  readonly #queue: CommandQueue;
  readonly #schedule: Schedule;
  readonly #capacity: Capacity;
  readonly #admissions: Admissions;
  readonly #book: OutcomeBook;
  readonly #settlement: Settlement;
  readonly #teaching: Teaching;
  readonly #spending: HourlySpending;
  readonly #vms: Vms;
  readonly #runs = new ExpectedRuns();
  readonly #holds: Holds;
  readonly #sockets: Sockets;
  readonly #delivery: Delivery;
  readonly #calls: Calls;
  readonly #fleet: FleetLink;
  readonly #alarm: HubAlarm;
  #identity: Identity | null;
  #config: HubConfig | null;
  #flushAtMs: number | null = null;
  #prunedMs = 0;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#sql = ctx.storage.sql;
    ctx.storage.transactionSync(() => createTables(this.#sql));
    const nowMs = Date.now();
    this.#identity = readMeta<Identity>(this.#sql, "identity");
    this.#config = withNames(readMeta<HubConfig>(this.#sql, "config"));
    this.#alarm = new HubAlarm(ctx.storage);
    this.#queue = new CommandQueue(this.#sql);
    this.#schedule = new Schedule(this.#sql);
    this.#book = new OutcomeBook(this.#sql);
    this.#vms = new Vms(this.#sql, nowMs);
    this.#calls = new Calls(this.#queue, this.#vms);
    this.#capacity = new Capacity(this.#sql, this.#vms, nowMs);
    this.#spending = new HourlySpending(this.#sql, nowMs);
    this.#admissions = new Admissions(this.#queue, this.#capacity, this.#vms, this.#spending, this.#runs);
    this.#holds = new Holds(this.#sql, this.#config, this.#admissions.quotas);
    this.#settlement = new Settlement(this.#queue, this.#book, this.#spending, this.#runs, this.#holds);
    this.#teaching = new Teaching(env, this.#sql, this.#book, this.#runs, this.#holds);
    this.#sockets = new Sockets(ctx);
    this.#delivery = new Delivery(this.#queue, this.#schedule, this.#sockets, this.#alarm, () =>
      isPaused(this.#config),
    );
    this.#fleet = new FleetLink(ctx, () => this.#summarise());
    // An alarm that was overdue when the object was evicted may never fire (workerd #3138): set again what is needed.
    if (this.#book.unflushed > 0) this.#flushAtMs = nowMs;
    this.#alarm.by(Math.min(this.#schedule.nextMs(this.#calls), this.#flushAtMs ?? Number.POSITIVE_INFINITY));
  }

  // ── From the Worker ────────────────────────────────────────────────────────────────────────────────────────────────

  /** Holds capacity for a run's chain and queues its commands; or says why not, and the next best cluster is asked. */
  async admit(workspace: string, offer: Offer): Promise<Admission> {
    const nowMs = Date.now();
    this.#know(workspace, offer.cluster);
    const { admission, woken, dueMs } = this.#admissions.admit(offer, this.#config, nowMs);
    if (!admission.ok) return admission;
    this.#holds.called(offer, this.#runs.note(offer), nowMs);
    this.#delivery.deliver(woken, nowMs);
    this.#changed(nowMs, dueMs);
    return admission;
  }

  /** Executions have written what later ones of their runs will read: it is brought to where those are expected. */
  async outputsWritten(workspace: string, cluster: string, written: WrittenOutputs[]): Promise<void> {
    const nowMs = Date.now();
    this.#know(workspace, cluster);
    for (const outputs of written) {
      if (!this.#runs.takesOutputsOf(outputs)) continue;
      const { runId, objects } = outputs;
      const commands = objects.flatMap((object) =>
        [...this.#runs.readersOf(runId, object.readers)].map(([vm, task]) =>
          prefetchOf(object, vm, task, policyOf(this.#config), nowMs),
        ),
      );
      const origin = { runId, context: null, chain: this.#runs.get(runId)?.chain ?? null };
      const { woken, dueMs } = this.#admissions.enqueue(commands, origin, this.#config, nowMs);
      this.#delivery.deliver(woken, nowMs);
      this.#changed(nowMs, dueMs);
    }
  }

  /**
   * Runs that were answered: their reservations end before they expire. `over`: nothing more is expected. Else the run's first
   * call was answered: it is over if other calls came while that ran, and else may go on by calls that its caller makes.
   */
  async release(runs: { runId: string; over: boolean }[]): Promise<void> {
    for (const { runId, over } of runs) if (over || this.#capacity.callsOf(runId) > 1) this.#capacity.release(runId);
    this.#changed(Date.now());
  }

  /** Answers: this hub hears its agents. */
  async ping(): Promise<void> {}

  /** Runs a call on a VM that only its own agent can reach. Resolves with the task's response, or why there is none. */
  async execute(workspace: string, cluster: string, call: ExecuteCall): Promise<Executed> {
    const nowMs = Date.now();
    this.#know(workspace, cluster);
    const refusal = this.#capacity.vmRefusal(call.vm, this.#config, nowMs);
    if (refusal !== null) return { ok: false, reason: "failed", detail: `refused: ${refusal}` };
    const command = executeCommandOf(call, nowMs);
    const executed = this.#calls.wait(call.commandId, call.timeoutMs);
    const origin = { runId: call.runId, context: null, chain: null };
    this.#queue.enqueue(command, origin, nowMs, JSON.stringify(call.request));
    this.#delivery.deliver([call.vm], nowMs);
    this.#changed(nowMs, Math.min(command.expiresMs, this.#calls.silentAtMs({ vm: call.vm, state: "queued" })));
    return executed;
  }

  // ── From agents ────────────────────────────────────────────────────────────────────────────────────────────────────

  async heartbeat(workspace: string, cluster: string, vm: string, heartbeat: Heartbeat): Promise<HeartbeatResult> {
    const nowMs = Date.now();
    this.#know(workspace, cluster);
    const before = this.#vms.get(vm);
    const met = this.#vms.receive(vm, heartbeat, nowMs);
    if (met === "superseded") return superseded(vm);
    // A poll that the process before left behind must not be given commands.
    if (met === "restarted" || met === "new") this.#delivery.dismiss(vm);
    const leftMs = heartbeat.leaving ? nowMs + (heartbeat.leavesWithinMs ?? Number.POSITIVE_INFINITY) : null;
    if (met === "restarted" || leftMs !== null) this.#forgetProcess(vm, leftMs, nowMs);
    this.#giveUp(this.#calls.endUnknown(vm, before, heartbeat, nowMs), nowMs);
    const { everyMs } = this.#vms;
    this.#holds.heard(heartbeat, everyMs, nowMs);
    this.#changed(
      nowMs,
      Math.min(leftMs ?? Number.POSITIVE_INFINITY, this.#holds.storeAtMs ?? Number.POSITIVE_INFINITY),
    );
    // Whoever joins or leaves is known to Fleet at once; and the first heartbeat waits for what the operator declared.
    if (met !== "known" || heartbeat.leaving || this.#config === null) await this.#fleet.soon();
    return { ok: true, answer: answerOf(vm, heartbeat, this.#config, this.#holds, everyMs, nowMs) };
  }

  /** Runtimes died with the process; its leases will never be reported. `leftMs`: it signs off and is gone by then; null: it is dead. */
  #forgetProcess(vm: string, leftMs: number | null, nowMs: number): void {
    const reason = leftMs === null ? "crashed" : "stopped";
    for (const row of this.#queue.unsettledOn(vm))
      if (row.kind === "warm") this.#settlement.waste(this.#identity!.cluster, row, reason, nowMs);
    this.#queue.releaseLeases(vm, nowMs);
    if (leftMs !== null) this.#vms.remove(vm);
    // One that leaves finishes its calls first, and tells of them.
    this.#giveUp(leftMs === null ? this.#calls.endAt(vm, nowMs) : this.#calls.leave(vm, leftMs, nowMs), nowMs);
  }

  #giveUp(given: Given[], nowMs: number): void {
    this.#settlement.fail(this.#identity?.cluster ?? "", given, nowMs);
    this.#calls.fail(given);
  }

  /** What is due on a VM, at once; or whatever becomes due within `waitMs`. */
  async commands(workspace: string, cluster: string, vm: string, waitMs: number, max: number): Promise<CommandsAnswer> {
    this.#know(workspace, cluster);
    const answer = await this.#delivery.poll(vm, waitMs, max);
    if (answer.commands.length > 0) this.#changed(answer.nowMs);
    return answer;
  }

  // ── Agents' sockets ────────────────────────────────────────────────────────────────────────────────────────────────

  /** Opens a VM's socket. The Worker has checked the key and the names, and tells them in the URL's query. */
  override async fetch(request: Request): Promise<Response> {
    const query = new URL(request.url).searchParams;
    const vm = query.get("vm")!;
    this.#know(query.get("workspace")!, query.get("cluster")!);
    this.#delivery.dismiss(vm);
    // A socket before this one is dead, though its end may not have been noticed yet.
    if (this.#sockets.has(vm)) this.#queue.releaseLeases(vm, Date.now());
    const response = this.#sockets.accept(vm, query.get("key")!);
    this.#delivery.push(vm, Date.now());
    return response;
  }

  override async webSocketMessage(socket: WebSocket, text: string | ArrayBuffer): Promise<void> {
    const vm = this.#sockets.vmOf(socket);
    const { workspace, cluster } = this.#identity!;
    const refuse = (id: number | null, status: number, detail: string) =>
      this.#sockets.send(vm, { type: "refused", id, status, detail });
    const read = readMessage(text);
    if (!read.ok) return void refuse(null, read.status, read.detail);
    const { message } = read;
    if (message.type === "report") {
      const answer = await this.report(workspace, cluster, vm, message.report);
      this.#sockets.send(vm, { type: "report", id: message.id, answer });
      return;
    }
    this.ctx.waitUntil(this.#sockets.closeRevoked(this.env.DB, Date.now()).catch(console.warn));
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
    this.#delivery.deliver([vm], nowMs);
    this.#changed(nowMs, dueMs);
    return answer;
  }

  // ── Outcomes ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Brings outcomes to D1 and the GraphWriter now: whoever reads them wants them all. */
  async flush(): Promise<number> {
    if (!this.#identity) return 0;
    this.#flushAtMs = null;
    const { workspace, cluster } = this.#identity;
    return this.#teaching.flush(workspace, cluster);
  }

  /** How long runtimes are held here, for people; `state` has all of it. */
  async learnedHolds(): Promise<{ holds: LearnedHold[]; state: KeepAliveState }> {
    return { holds: this.#holds.learned(), state: this.#holds.state() };
  }

  /** `state`: of an export; null: they begin anew. */
  async replaceHolds(state: KeepAliveState | null): Promise<void> {
    this.#holds.replace(state);
  }

  async #flushOrLater(nowMs: number): Promise<void> {
    try {
      await this.flush();
    } catch (error) {
      // The outcomes are safe here; D1 and the GraphWriter get them when they are back.
      console.warn(`outcomes wait: ${error}`);
      this.#flushAtMs = nowMs + FLUSH_AFTER_MS;
    }
  }

  /** For people: what the queue holds, and its dead letters. */
  async commandStates(): Promise<{ states: Record<string, number>; deadLetters: DeadLetter[] }> {
    return { states: this.#queue.countsByState(), deadLetters: this.#queue.deadLetters() };
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
    this.#holds.configure(config);
    // On the way out too: what was put back meanwhile is the backlog that resuming must not send.
    if (isPaused(config) !== isPaused(before)) this.#queue.cancelQueued("paused", nowMs);
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
      msPerGbSecond: this.#holds.msPerGbSecond,
      sparedMs: this.#holds.sparedMs(this.#config),
      vms: this.#vms.summaries(this.#queue.warming(nowMs)),
      unflushedOutcomes: this.#book.unflushed,
      spent: { inFlight: this.#queue.inFlight, ...this.#spending.current(nowMs) },
    };
  }

  /** Tells Fleet, and takes what the operator declared since. */
  async #summarise(): Promise<void> {
    const { workspace, cluster } = this.#identity!;
    const fleet = this.env.FLEET.getByName(workspace);
    const news = await fleet.hubReport(workspace, cluster, this.#summary(), this.#config?.version ?? null);
    this.#admissions.spentElsewhere = news.spentElsewhere;
    if (news.config !== null) await this.#apply(news.config);
  }

  // ── Time ───────────────────────────────────────────────────────────────────────────────────────────────────────────

  override async alarm(): Promise<void> {
    const nowMs = Date.now();
    this.#alarm.fired();
    this.#giveUp([...this.#queue.sweep(nowMs), ...this.#calls.endSilent(nowMs)], nowMs);
    // Without an identity nothing was ever asked of this hub.
    const cluster = this.#identity?.cluster ?? "";
    for (const kind of ["warm", "prefetch"] as const) {
      for (const row of this.#schedule.silentlyEnded(kind, nowMs))
        this.#settlement.waste(cluster, row, "expired", nowMs);
    }
    if (this.#flushAtMs !== null && this.#flushAtMs <= nowMs) await this.#flushOrLater(nowMs);
    this.#holds.store(nowMs);
    if (nowMs - this.#prunedMs > PRUNE_EVERY_MS) {
      this.#prunedMs = nowMs;
      this.#queue.prune(nowMs - KEPT_MS);
      this.#book.prune(nowMs - KEPT_MS);
    }
    this.#delivery.deliver(new Set([...this.#schedule.dueVms(nowMs), ...this.#delivery.waiting()]), nowMs);
    this.#changed(nowMs, this.#schedule.nextMs(this.#calls, nowMs));
  }

  /** After every change: a summary to Fleet within a second, and the alarm if what happened is due before it. */
  #changed(nowMs: number, dueMs = Number.POSITIVE_INFINITY): void {
    if (this.#book.unflushed > 0 || this.#runs.hasPlacements) this.#flushAtMs ??= nowMs + FLUSH_AFTER_MS;
    this.#fleet.within(nowMs);
    this.#alarm.by(Math.min(dueMs, this.#flushAtMs ?? Number.POSITIVE_INFINITY));
  }

  #know(workspace: string, cluster: string): void {
    if (this.#identity) return;
    this.#identity = { workspace, cluster };
    writeMeta(this.#sql, "identity", this.#identity);
  }
}

// ClusterHub: one Durable Object per cluster, where allocations meet agents.
//   in from the Worker   admit(offer): hold capacity, queue commands
//   in from agents       heartbeat, commands (long-poll), report
//   out to Fleet         a summary, at most once a second      out to D1   outcomes, in batches
// The command queue is a state machine (hub/queue.ts), capacity a ledger (hub/ledger.ts), outcomes a book (hub/outcomes.ts);
// this class gives them their clock, wakes who waits, and survives eviction: whatever must last is in SQLite, and
// one alarm stands for the earliest thing that will be due.
import { DurableObject } from "cloudflare:workers";
import { HEARTBEAT_STALE_MS } from "../core/allocate.ts";
import { type CommandFacts, settleEnd, settleFailure, settleMiss, settleUse } from "../core/feedback.ts";
import type { Admission, Offer } from "../core/pipeline.ts";
import {
  type AgentReport,
  type AgentReportAnswer,
  type CommandsAnswer,
  type Heartbeat,
  type HeartbeatAnswer,
  Policy,
  type PreparedEnd,
} from "../protocol.ts";
import type { Env } from "./env.ts";
import { Ledger, type Reservation } from "./hub/ledger.ts";
import type { HubConfig, HubSummary } from "./hub/messages.ts";
import { OutcomeBook } from "./hub/outcomes.ts";
import { CommandQueue, type CommandRow } from "./hub/queue.ts";
import { createTables, readMeta, writeMeta } from "./hub/tables.ts";
import { Vms } from "./hub/vms.ts";
import { Waiters } from "./hub/waiters.ts";

/** Agents hold a long-poll for at most this long, ms: below the idle time-outs of common proxies. */
export const LONG_POLL_MS_MAX = 25_000;
/** Summaries to Fleet, ms. */
const SUMMARY_EVERY_MS = 1_000;
/** Outcomes wait this long for company before they go to D1, ms. */
const FLUSH_AFTER_MS = 3_000;
/** Ready, expired, and no word from the agent for this long: waste. An object may lie in a cache for long and still be used, ms. */
const SILENT_AFTER_MS = { warm: 30_000, prefetch: 3_600_000 } as const;
/**
 * Cores are held for a run's whole time although it is busy for parts of it, and too many runs only slow each other; memory
 * that is not there fails. So cores may be promised several times.
 */
const CPU_OVERCOMMIT = 4;
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

export class ClusterHub extends DurableObject<Env> {
  readonly #sql: SqlStorage;
  readonly #queue: CommandQueue;
  readonly #ledger = new Ledger();
  readonly #book: OutcomeBook;
  readonly #vms: Vms;
  readonly #waiters = new Waiters();
  #identity: Identity | null;
  #config: HubConfig | null;
  #alarmAtMs: number | null = null;
  #flushAtMs: number | null = null;
  #prunedMs = 0;
  #summarisedMs = 0;
  #summaryTimer: ReturnType<typeof setTimeout> | null = null;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#sql = ctx.storage.sql;
    createTables(this.#sql);
    const nowMs = Date.now();
    this.#identity = readMeta<Identity>(this.#sql, "identity");
    this.#config = readMeta<HubConfig>(this.#sql, "config");
    this.#queue = new CommandQueue(this.#sql);
    this.#book = new OutcomeBook(this.#sql);
    this.#vms = new Vms(this.#sql, nowMs);
    for (const row of this.#sql.exec<{ run_id: string; memory_bytes: number; cpu_cores: number; expires_ms: number }>(
      "SELECT run_id, memory_bytes, cpu_cores, expires_ms FROM reservations WHERE expires_ms > ?",
      nowMs,
    )) {
      this.#ledger.hold(row.run_id, {
        memoryBytes: row.memory_bytes,
        cpuCores: row.cpu_cores,
        expiresMs: row.expires_ms,
      });
    }
    // An alarm that was overdue when the object was evicted may never fire (workerd #3138): set again what is needed.
    if (this.#book.unflushed > 0) this.#flushAtMs = nowMs;
    this.#armBy(Math.min(this.#nextDueMs(), this.#flushAtMs ?? Number.POSITIVE_INFINITY));
  }

  // ── From the Worker ────────────────────────────────────────────────────────────────────────────────────────────────

  /** Holds capacity for a run's chain and queues its commands; or says why not, and the next best cluster is asked. */
  async admit(workspace: string, offer: Offer): Promise<Admission> {
    const nowMs = Date.now();
    this.#know(workspace, offer.cluster);
    const refusal = this.#refusal(offer, nowMs);
    if (refusal !== null) return { ok: false, reason: refusal };
    this.#hold(offer.runId, offer.reservation);
    const admission: Admission = { ok: true, commandIds: {}, refusedKeys: {} };
    const woken = new Set<string>();
    let dueMs = Number.POSITIVE_INFINITY;
    for (const command of offer.commands) {
      const name = `${command.vm} ${command.key}`;
      const reason = this.#refusalOf(command.vm, command.task, nowMs);
      if (reason !== null) {
        admission.refusedKeys[name] = reason;
        continue;
      }
      admission.commandIds[name] = this.#queue.enqueue(command, offer.runId, nowMs);
      dueMs = Math.min(dueMs, command.expiresMs);
      woken.add(command.vm);
    }
    for (const vm of woken) this.#waiters.wake(vm, this.#queue.nextDueMs(vm), nowMs);
    this.#changed(nowMs, dueMs);
    return admission;
  }

  #refusal(offer: Offer, nowMs: number): string | null {
    if (this.#config?.draining) return "cluster is draining";
    const vm = this.#vmRefusal(offer.vm, nowMs);
    if (vm !== null) return `${offer.vm}: ${vm}`;
    const { freeMemoryBytes, cpuCores } = this.#vms.capacity(nowMs, this.#config);
    const ended = this.#ledger.expire(nowMs);
    if (ended.length > 0) this.#sql.exec("DELETE FROM reservations WHERE expires_ms <= ?", nowMs);
    const own = this.#ledger.of(offer.runId);
    const heldBytes = this.#ledger.memoryBytes - (own?.memoryBytes ?? 0);
    const heldCores = this.#ledger.cpuCores - (own?.cpuCores ?? 0);
    if (heldBytes + offer.reservation.memoryBytes > freeMemoryBytes)
      return `memory: ${mib(freeMemoryBytes)} free, ${mib(heldBytes)} of it held, the chain needs ${mib(offer.reservation.memoryBytes)}`;
    if (heldCores + offer.reservation.cpuCores > cpuCores * CPU_OVERCOMMIT)
      return `CPU: ${heldCores.toFixed(1)} of ${cpuCores} cores held, the chain needs ${offer.reservation.cpuCores.toFixed(1)}`;
    return null;
  }

  #vmRefusal(vm: string, nowMs: number): string | null {
    const state = this.#vms.get(vm);
    if (!state) return "no agent has reported yet";
    if (this.#config?.vms[vm]?.draining) return "is draining";
    if (nowMs - state.heartbeatMs > HEARTBEAT_STALE_MS) return "its agent is silent";
    return null;
  }

  #refusalOf(vm: string, task: string | null, nowMs: number): string | null {
    const { mode, budgets } = this.#policy();
    if (mode === "paused") return "paused";
    if (this.#queue.inFlight >= budgets.inFlightCommands)
      return `budget of ${budgets.inFlightCommands} commands in flight`;
    const refusal = this.#vmRefusal(vm, nowMs);
    if (refusal !== null) return refusal;
    if (task !== null && !this.#vms.get(vm)!.tasks.has(task)) return "its agent does not have the task";
    return null;
  }

  #hold(runId: string, reservation: Reservation): void {
    this.#ledger.hold(runId, reservation);
    this.#sql.exec(
      `INSERT INTO reservations (run_id, memory_bytes, cpu_cores, expires_ms) VALUES (?, ?, ?, ?)
       ON CONFLICT (run_id) DO UPDATE SET memory_bytes = excluded.memory_bytes, cpu_cores = excluded.cpu_cores,
         expires_ms = excluded.expires_ms`,
      runId,
      Math.round(reservation.memoryBytes),
      reservation.cpuCores,
      Math.round(reservation.expiresMs),
    );
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
        this.#fail(row, "its agent left", nowMs);
    }
    this.#changed(nowMs);
    // Whoever joins or leaves is known to Fleet at once; and the first heartbeat waits for what the operator declared.
    if (met !== "known" || heartbeat.leaving || this.#config === null) await this.#summariseOrLater();
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
    for (const row of this.#queue.unsettledOn(vm)) if (row.kind === "warm") this.#waste(row, reason, nowMs);
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

  async report(workspace: string, cluster: string, vm: string, report: AgentReport): Promise<AgentReportAnswer> {
    const nowMs = Date.now();
    this.#know(workspace, cluster);
    const answer: AgentReportAnswer = { accepted: 0, refused: [] };
    let dueMs = Number.POSITIVE_INFINITY;
    const refuse = (commandId: string, reason: string) => answer.refused.push({ commandId, reason });
    for (const result of report.results) {
      const settled = this.#queue.settleResult(vm, result, nowMs);
      if (!settled.ok) {
        refuse(result.commandId, settled.reason);
        continue;
      }
      answer.accepted++;
      if (result.state === "done") dueMs = Math.min(dueMs, settled.command.expires_ms + SILENT_AFTER_MS.warm);
      if (settled.failed !== null) this.#fail(settled.command, settled.failed, nowMs);
      else if (result.state === "done" && settled.command.kind === "warm") this.#vms.noteWarm(vm, settled.command.task);
    }
    for (const use of report.uses) {
      const command = this.#owned(use.commandId, vm);
      if (!command) refuse(use.commandId, "unknown command");
      else if (!this.#settle(command, settleUse(this.#facts(command), use), nowMs))
        refuse(use.commandId, "settled before");
      else answer.accepted++;
    }
    for (const end of report.ends) {
      const command = this.#owned(end.commandId, vm);
      if (!command) refuse(end.commandId, "unknown command");
      else if (this.#end(command, end, nowMs)) answer.accepted++;
      else refuse(end.commandId, "settled before");
    }
    for (const miss of report.misses) {
      if (this.#book.write(settleMiss(miss, cluster, vm))) answer.accepted++;
    }
    // A failed command may be due again.
    this.#waiters.wake(vm, this.#queue.nextDueMs(vm), nowMs);
    this.#changed(nowMs, dueMs);
    return answer;
  }

  #owned(commandId: string, vm: string): CommandRow | null {
    const command = this.#queue.get(commandId);
    return command?.vm === vm ? command : null;
  }

  /** An end of something used settles nothing, but from now on the thing is gone. */
  #end(command: CommandRow, end: PreparedEnd, nowMs: number): boolean {
    this.#queue.retire(command.command_id);
    const outcome = settleEnd(this.#facts(command), end);
    return outcome === null || this.#settle(command, outcome, nowMs);
  }

  // ── Outcomes ───────────────────────────────────────────────────────────────────────────────────────────────────────

  #settle(command: CommandRow, outcome: Parameters<OutcomeBook["write"]>[0], nowMs: number): boolean {
    if (command.settled === 1 || !this.#book.write(outcome)) return false;
    this.#queue.markSettled(command.command_id, nowMs);
    this.#queue.retire(command.command_id);
    return true;
  }

  #fail(command: CommandRow, reason: string, nowMs: number): void {
    if (command.settled === 0) this.#book.write(settleFailure(this.#facts(command), nowMs, reason));
  }

  #waste(command: CommandRow, reason: PreparedEnd["reason"], nowMs: number): void {
    const heldMs = Math.max(0, Math.min(nowMs, command.expires_ms) - (command.ready_ms ?? nowMs));
    const end = {
      commandId: command.command_id,
      endedMs: nowMs,
      used: false,
      reason,
      heldMs,
      memoryBytes: 0,
      bytes: 0,
    };
    const outcome = settleEnd(this.#facts(command), end);
    if (outcome) this.#settle(command, outcome, nowMs);
  }

  #facts(command: CommandRow): CommandFacts {
    return {
      commandId: command.command_id,
      kind: command.kind,
      cluster: this.#identity!.cluster,
      vm: command.vm,
      task: command.task,
      uri: command.uri,
      runId: command.run_id,
      bytes: command.loaded_bytes,
    };
  }

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

  // ── Fleet ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The operator declared something; a pause takes effect at once and leaves no backlog. */
  async configure(workspace: string, cluster: string, config: HubConfig): Promise<void> {
    this.#know(workspace, cluster);
    await this.#apply(config);
  }

  async #apply(config: HubConfig): Promise<void> {
    const nowMs = Date.now();
    const before = this.#config;
    this.#config = config;
    writeMeta(this.#sql, "config", config);
    if (config.policy.mode === "paused" && before?.policy.mode !== "paused") {
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
    this.#ledger.expire(nowMs);
    return {
      atMs: nowMs,
      reservedMemoryBytes: this.#ledger.memoryBytes,
      reservedCpuCores: this.#ledger.cpuCores,
      vms: this.#vms.summaries(this.#queue.warming(nowMs)),
      unflushedOutcomes: this.#book.unflushed,
      inFlightCommands: this.#queue.inFlight,
    };
  }

  /** Tells Fleet, and takes what the operator declared since. */
  async #summarise(): Promise<void> {
    this.#summarisedMs = Date.now();
    const { workspace, cluster } = this.#identity!;
    const fleet = this.env.FLEET.getByName(workspace);
    const news = await fleet.hubReport(workspace, cluster, this.#summary(), this.#config?.version ?? null);
    if (news !== null) await this.#apply(news);
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
    for (const { command, reason } of this.#queue.sweep(nowMs)) this.#fail(command, reason, nowMs);
    for (const kind of ["warm", "prefetch"] as const) {
      for (const row of this.#queue.silentlyEnded(kind, nowMs - SILENT_AFTER_MS[kind]))
        this.#waste(row, "expired", nowMs);
    }
    if (this.#flushAtMs !== null && this.#flushAtMs <= nowMs) await this.#flushOrLater(nowMs);
    if (nowMs - this.#prunedMs > PRUNE_EVERY_MS) {
      this.#prunedMs = nowMs;
      this.#queue.prune(nowMs - KEPT_MS);
      this.#book.prune(nowMs - KEPT_MS);
    }
    for (const vm of this.#waiters.vms()) this.#waiters.wake(vm, this.#queue.nextDueMs(vm), nowMs);
    this.#changed(nowMs, this.#nextDueMs());
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

function mib(bytes: number): string {
  return `${Math.max(0, Math.round(bytes / 2 ** 20))} MiB`;
}

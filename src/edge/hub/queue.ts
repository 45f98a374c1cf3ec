// The command queue of one cluster: queued → leased → done | failed | expired | cancelled.
// At least once: a lease that runs out puts the command back, a bounded number of times, later each time.
// In effect once: a result counts only with the lease it was given, and a second result changes nothing.
// One distinct thing on one VM is one command, however many runs want it.
import type { PlannedCommand } from "../../core/planned.ts";
import { normaliseTaskName } from "../../core/records.ts";
import type { Command, CommandKind, CommandResult } from "../../protocol.ts";
import { newId } from "../ids.ts";
import { type CommandOrigin, type CommandRow, commandOf, type DeadLetter, deadLetterOf } from "./command-row.ts";

/** How long an agent may work before the hub takes it for lost, ms: a slow start, a large object, a long call. */
const LEASE_MS: Record<CommandKind, number> = {
  warm: 60_000,
  prefetch: 120_000,
  execute: 60_000,
  evict: 30_000,
  drain: 30_000,
};
/** A command past its expiry keeps its lease this much longer: the agent may be just reporting, ms. */
const LEASE_PAST_EXPIRY_MS = 5_000;
/** Leases of one command at most. */
const ATTEMPTS_MAX = 3;
/** An agent's reason that begins so is final: it will not do this, now or later. */
const FINAL_REASON = /^refused/i;
/** Of a call whose lease was cut short. */
const LEFT_UNFINISHED = "its agent stopped without a word of it";
const DEAD_LETTERS_TOLD = 200;
/** Wait before attempt n + 1: this × 2^(n − 1), and up to as much again at random, so that a herd spreads out, ms. */
const RETRY_BASE_MS = 250;

/** A command that ended without being done: its outcome is `failed`. */
export interface Given {
  command: CommandRow;
  reason: string;
}

/** Without what it says, which may be long. */
export type CallRow = Pick<CommandRow, "command_id" | "vm" | "state" | "changed_ms">;

export type ResultAccepted =
  | { ok: true; command: CommandRow; failed: string | null }
  | { ok: false; reason: "unknown command" | "stale lease" | "settled before" };

export class CommandQueue {
  readonly #sql: SqlStorage;
  readonly #random: () => number;
  #inFlight: number;

  constructor(sql: SqlStorage, random: () => number = Math.random) {
    this.#sql = sql;
    this.#random = random;
    this.#inFlight = sql
      .exec<{ n: number }>("SELECT count(*) AS n FROM commands WHERE state IN ('queued', 'leased')")
      .one().n;
  }

  /** Queued or leased. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Queues it, or joins the one that stands for the same thing; returns the id that stands. */
  enqueue(command: PlannedCommand, origin: CommandOrigin, nowMs: number, request: string | null = null): string {
    const [standing] = this.#sql
      .exec<Pick<CommandRow, "command_id" | "state" | "expires_ms">>(
        "SELECT command_id, state, expires_ms FROM commands WHERE vm = ? AND key = ? AND live = 1",
        command.vm,
        command.key,
      )
      .toArray();
    if (standing && this.#join(standing, command, nowMs)) return standing.command_id;
    // Only one command of a key is live; the one before ends too early for this plan and lives on under its own id.
    if (standing) this.#sql.exec("UPDATE commands SET live = 0 WHERE command_id = ?", standing.command_id);
    this.#sql.exec(
      `INSERT INTO commands (command_id, vm, key, kind, task, version, uri, bytes, probability, not_before_ms,
         deadline_ms, expires_ms, run_id, context, chain, foretold, beneficiaries, request, state, attempt, loaded_bytes,
         settled, live, changed_ms)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, 'queued', 0, 0, 0, 1, ?)`,
      command.commandId,
      command.vm,
      command.key,
      command.kind,
      command.task,
      command.version,
      command.uri,
      command.bytes,
      command.probability,
      command.notBeforeMs,
      command.deadlineMs,
      command.expiresMs,
      origin.runId,
      origin.context,
      origin.chain === null ? null : JSON.stringify(origin.chain),
      command.foretold ?? null,
      request,
      nowMs,
    );
    this.#inFlight++;
    return command.commandId;
  }

  /** A queued command is moved to serve both; one that an agent has already can serve only if it lasts long enough. */
  #join(
    standing: Pick<CommandRow, "command_id" | "state" | "expires_ms">,
    command: PlannedCommand,
    nowMs: number,
  ): boolean {
    if (standing.state === "queued") {
      this.#sql.exec(
        `UPDATE commands SET beneficiaries = beneficiaries + 1, not_before_ms = min(not_before_ms, ?),
           deadline_ms = min(deadline_ms, ?), expires_ms = max(expires_ms, ?), probability = max(probability, ?),
           changed_ms = ? WHERE command_id = ?`,
        command.notBeforeMs,
        command.deadlineMs,
        command.expiresMs,
        command.probability,
        nowMs,
        standing.command_id,
      );
      return true;
    }
    if (standing.expires_ms < command.deadlineMs) return false;
    this.#sql.exec(
      "UPDATE commands SET beneficiaries = beneficiaries + 1, changed_ms = ? WHERE command_id = ?",
      nowMs,
      standing.command_id,
    );
    return true;
  }

  /** Leases what is due on a VM, most urgent first; of a paused workspace only its users' calls. */
  lease(vm: string, max: number, nowMs: number, isPaused = false): Command[] {
    const due = this.#sql
      .exec<CommandRow>(
        `SELECT * FROM commands WHERE vm = ? AND state = 'queued' AND not_before_ms <= ? AND expires_ms > ?
         AND (kind = 'execute' OR ?) ORDER BY deadline_ms LIMIT ?`,
        vm,
        nowMs,
        nowMs,
        isPaused ? 0 : 1,
        max,
      )
      .toArray();
    return due.map((row) => {
      const leaseId = newId(nowMs);
      // An `execute` expires when its caller's patience does: its lease lasts as long.
      const leaseMs =
        row.kind === "execute"
          ? row.expires_ms - nowMs
          : Math.min(LEASE_MS[row.kind], row.expires_ms + LEASE_PAST_EXPIRY_MS - nowMs);
      this.#sql.exec(
        `UPDATE commands SET state = 'leased', attempt = attempt + 1, lease_id = ?, lease_expires_ms = ?, changed_ms = ?
         WHERE command_id = ?`,
        leaseId,
        nowMs + leaseMs,
        nowMs,
        row.command_id,
      );
      return commandOf(row, leaseId, leaseMs);
    });
  }

  /** What the prefetches under way are expected to load. (In two: an index holds each state, none holds both.) */
  bytesInFlight(): number {
    const sumIn = (state: CommandRow["state"]) =>
      this.#sql
        .exec<{ bytes: number }>(
          `SELECT coalesce(sum(bytes), 0) AS bytes FROM commands WHERE state = '${state}' AND kind = 'prefetch'`,
        )
        .one().bytes;
    return sumIn("queued") + sumIn("leased");
  }

  get(commandId: string): CommandRow | null {
    return this.#sql.exec<CommandRow>("SELECT * FROM commands WHERE command_id = ?", commandId).toArray()[0] ?? null;
  }

  /** An agent's result. `failed` is its reason when the command is given up for good. */
  settleResult(vm: string, result: CommandResult, nowMs: number): ResultAccepted {
    const command = this.get(result.commandId);
    if (command === null || command.vm !== vm) return { ok: false, reason: "unknown command" };
    if (command.state !== "leased") {
      return { ok: false, reason: command.state === "queued" ? "stale lease" : "settled before" };
    }
    if (command.lease_id !== result.leaseId) return { ok: false, reason: "stale lease" };
    if (result.state === "done") {
      this.#sql.exec(
        `UPDATE commands SET state = 'done', ready_ms = ?, loaded_bytes = ?, whole_start_ms = ?, changed_ms = ?
         WHERE command_id = ?`,
        Math.round(result.readyMs ?? nowMs),
        result.bytes ?? 0,
        result.wholeStartMs ?? null,
        nowMs,
        command.command_id,
      );
      this.#inFlight--;
      const loaded = { ...command, state: "done" as const, loaded_bytes: result.bytes ?? 0 };
      return { ok: true, command: loaded, failed: null };
    }
    const reason = result.reason ?? "the agent gave no reason";
    const again = !FINAL_REASON.test(reason) && command.kind !== "execute" && this.#retry(command, reason, nowMs);
    if (again) return { ok: true, command, failed: null };
    this.#end(command.command_id, "failed", reason, nowMs);
    return { ok: true, command, failed: reason };
  }

  /** Leases that ran out, and commands that nobody fetched in time. Returns those that are lost for good. */
  sweep(nowMs: number): Given[] {
    const lost: Given[] = [];
    const overdue = this.#sql
      .exec<CommandRow>("SELECT * FROM commands WHERE state = 'leased' AND lease_expires_ms <= ?", nowMs)
      .toArray();
    for (const command of overdue) {
      const isLeft = command.kind === "execute" && command.lease_expires_ms! < command.expires_ms;
      const reason = isLeft ? LEFT_UNFINISHED : `lease ran out after attempt ${command.attempt}`;
      if (command.kind !== "execute" && this.#retry(command, reason, nowMs)) continue;
      this.#end(command.command_id, command.expires_ms <= nowMs ? "expired" : "failed", reason, nowMs);
      lost.push({ command, reason });
    }
    const unfetched = this.#sql
      .exec<CommandRow>("SELECT * FROM commands WHERE state = 'queued' AND expires_ms <= ?", nowMs)
      .toArray();
    for (const command of unfetched) {
      const reason = "expired before an agent fetched it";
      this.#end(command.command_id, "expired", reason, nowMs);
      lost.push({ command, reason });
    }
    return lost;
  }

  /** Takes back what no agent has yet; `where` narrows it (columns of `commands`; the task as it is declared), `calls` takes users' calls too. */
  cancelQueued(
    reason: string,
    nowMs: number,
    where: { vm?: string; task?: string; keepVersion?: string | null; calls?: boolean } = {},
  ): Given[] {
    const queued = this.#sql
      .exec<CommandRow>("SELECT * FROM commands WHERE state = 'queued'")
      .toArray()
      .filter((row) => row.kind !== "execute" || where.calls)
      .filter((row) => where.vm === undefined || row.vm === where.vm)
      .filter((row) => where.task === undefined || normaliseTaskName(row.task ?? "") === where.task)
      .filter((row) => where.keepVersion === undefined || row.version !== where.keepVersion);
    for (const row of queued) this.#end(row.command_id, "cancelled", reason, nowMs);
    return queued.map((command) => ({ command, reason }));
  }

  /** The VM's agent is a new process: what the old one was doing is put back. */
  releaseLeases(vm: string, nowMs: number): void {
    this.#sql.exec(
      `UPDATE commands SET state = 'queued', lease_id = NULL, lease_expires_ms = NULL, changed_ms = ?
       WHERE vm = ? AND state = 'leased' AND kind <> 'execute'`,
      nowMs,
      vm,
    );
  }

  /** Users' calls that no agent has yet, or that one is at. */
  calls(): CallRow[] {
    const columns = "SELECT command_id, vm, state, changed_ms FROM commands";
    return this.#sql
      .exec<CallRow>(
        `${columns} WHERE state = 'queued' AND kind = 'execute'
         UNION ALL ${columns} WHERE state = 'leased' AND kind = 'execute'`,
      )
      .toArray();
  }

  /** The agent that is at them will be gone by then: their leases last no longer. */
  endCallsBy(vm: string, leftMs: number): void {
    if (leftMs === Number.POSITIVE_INFINITY) return;
    this.#sql.exec(
      `UPDATE commands SET lease_expires_ms = ? WHERE vm = ? AND state = 'leased' AND kind = 'execute' AND lease_expires_ms > ?`,
      leftMs,
      vm,
      leftMs,
    );
  }

  /** No answer to this call will come; one that an agent had may have run. */
  endCall({ command_id: commandId, state }: CallRow, reason: string, nowMs: number): Given {
    const command = this.get(commandId)!;
    this.#end(commandId, state === "queued" ? "cancelled" : "failed", reason, nowMs);
    return { command, reason };
  }

  /** Gone: the next plan for the same thing needs a command of its own. */
  retire(commandId: string): void {
    this.#sql.exec("UPDATE commands SET live = 0 WHERE command_id = ?", commandId);
  }

  /** Its outcome is written, or there is none to write; the next plan for the same thing needs a command of its own. */
  finish(commandId: string, nowMs: number): void {
    this.#sql.exec("UPDATE commands SET settled = 1, live = 0, changed_ms = ? WHERE command_id = ?", nowMs, commandId);
  }

  /** Ready on this VM and not yet settled. */
  unsettledOn(vm: string): CommandRow[] {
    return this.#sql
      .exec<CommandRow>("SELECT * FROM commands WHERE settled = 0 AND state = 'done' AND vm = ?", vm)
      .toArray();
  }

  /** Warm-ups that an agent is at, or will be at once, by VM and task. */
  warming(nowMs: number): { vm: string; task: string; n: number }[] {
    return this.#sql
      .exec<{ vm: string; task: string; n: number }>(
        `SELECT vm, task, count(*) AS n FROM commands
         WHERE live = 1 AND kind = 'warm' AND (state = 'leased' OR (state = 'queued' AND not_before_ms <= ?))
         GROUP BY vm, task`,
        nowMs,
      )
      .toArray();
  }

  /** Given up for good, latest first. */
  deadLetters(): DeadLetter[] {
    return this.#sql
      .exec<CommandRow>(
        "SELECT * FROM commands WHERE state IN ('failed', 'expired') ORDER BY changed_ms DESC LIMIT ?",
        DEAD_LETTERS_TOLD,
      )
      .toArray()
      .map(deadLetterOf);
  }

  countsByState(): Record<string, number> {
    const rows = this.#sql.exec<{ state: string; n: number }>(
      "SELECT state, count(*) AS n FROM commands GROUP BY state",
    );
    return Object.fromEntries([...rows].map((row) => [row.state, row.n]));
  }

  /** Forgets what ended before the instant: no report about it can still come. */
  prune(endedBeforeMs: number): void {
    this.#sql.exec(
      "DELETE FROM commands WHERE settled = 1 AND state NOT IN ('queued', 'leased') AND changed_ms < ?",
      endedBeforeMs,
    );
  }

  #retry(command: CommandRow, reason: string, nowMs: number): boolean {
    const delayMs = RETRY_BASE_MS * 2 ** (command.attempt - 1) * (1 + this.#random());
    const notBeforeMs = Math.round(nowMs + delayMs);
    if (command.attempt >= ATTEMPTS_MAX || notBeforeMs >= command.expires_ms) return false;
    this.#sql.exec(
      `UPDATE commands SET state = 'queued', not_before_ms = ?, lease_expires_ms = NULL, reason = ?, changed_ms = ?
       WHERE command_id = ?`,
      notBeforeMs,
      reason,
      nowMs,
      command.command_id,
    );
    return true;
  }

  #end(commandId: string, state: "failed" | "expired" | "cancelled", reason: string, nowMs: number): void {
    this.#sql.exec(
      "UPDATE commands SET state = ?, live = 0, settled = 1, reason = ?, changed_ms = ? WHERE command_id = ?",
      state,
      reason,
      nowMs,
      commandId,
    );
    this.#inFlight--;
  }
}

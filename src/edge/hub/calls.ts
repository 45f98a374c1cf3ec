// `execute` commands whose callers wait here for their response, and those that end without one: of agents that are silent or
// dead, or do not know them. What no agent was sent is "refused" and may run elsewhere; the rest may have run, and is never
// given again. An evicted hub loses the waiting, not the command: the caller's connection to the hub breaks, and it is told so.
import { HEARTBEAT_STALE_MS } from "../../core/allocate.ts";
import type { PlannedCommand } from "../../core/planned.ts";
import type { Command, CommandResult, Heartbeat } from "../../protocol.ts";
import type { CallRow, CommandQueue, Given } from "./queue.ts";
import type { VmState, Vms } from "./vms.ts";

/** A silent agent may be at work behind a network that comes back: what it was given is waited for longer, ms. */
const LOST_AFTER_MS = 60_000;
/** A command that was sent so long before the agent told of itself has reached it, or never will, ms. */
const ON_THE_WAY_MS = 5_000;

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

export type Executed =
  | { ok: true; response: NonNullable<CommandResult["response"]> }
  | { ok: false; reason: "failed" | "timeout"; detail: string };

export class Calls {
  readonly #queue: CommandQueue;
  readonly #vms: Vms;
  readonly #waiting = new Map<string, (executed: Executed) => void>();

  constructor(queue: CommandQueue, vms: Vms) {
    this.#queue = queue;
    this.#vms = vms;
  }

  wait(commandId: string, timeoutMs: number): Promise<Executed> {
    return new Promise((resolve) => {
      const end = (executed: Executed) => {
        clearTimeout(timer);
        this.#waiting.delete(commandId);
        resolve(executed);
      };
      const timer = setTimeout(end, timeoutMs, { ok: false, reason: "timeout", detail: "the task's time is over" });
      this.#waiting.set(commandId, end);
    });
  }

  settle(commandId: string, executed: Executed): void {
    this.#waiting.get(commandId)?.(executed);
  }

  /** Commands that were given up; nobody waits here for those that are no calls. */
  fail(given: Given[]): void {
    for (const { command, reason } of given)
      this.settle(command.command_id, { ok: false, reason: "failed", detail: reason });
  }

  /** The process that had taken them is dead. */
  endAt(vm: string, nowMs: number): Given[] {
    const taken = this.#queue.calls().filter((call) => call.vm === vm && call.state === "leased");
    return taken.map((call) => this.#queue.endCall(call, "its agent ended at work", nowMs));
  }

  /**
   * What was given to this process and is not with it. `before`: as the hub knew it until this heartbeat. This one was written after
   * that one's answer had come, so that a call which was given well before that one is no longer on its way. Agents that do not
   * tell, and what an earlier process of the VM may still finish, are left alone.
   */
  endUnknown(vm: string, before: VmState | null, heartbeat: Heartbeat, nowMs: number): Given[] {
    if (heartbeat.calls === undefined || before?.heartbeat.instanceId !== heartbeat.instanceId) return [];
    // One that was overtaken tells of the past.
    if (heartbeat.nowMs < before.heartbeat.nowMs) return [];
    const known = new Set(heartbeat.calls);
    const untilMs = before.heartbeatMs - ON_THE_WAY_MS;
    return this.#queue
      .calls()
      .filter((call) => call.vm === vm && call.state === "leased" && !known.has(call.command_id))
      .filter(({ changed_ms: givenMs }) => givenMs >= before.sinceMs && givenMs <= untilMs)
      .map((call) => this.#queue.endCall(call, "its agent does not know of the call", nowMs));
  }

  /**
   * Its agent signs off, and is gone by `leftMs`: what it is at may be lost then. What it has not is refused; preparations among that have cost nothing, and
   * nobody failed at them.
   */
  leave(vm: string, leftMs: number, nowMs: number): Given[] {
    this.#queue.endCallsBy(vm, leftMs);
    const notBegun = this.#queue.cancelQueued("refused: its agent left", nowMs, { vm, calls: true });
    return notBegun.filter(({ command }) => command.kind === "execute");
  }

  /** What waits for agents that have been silent for too long. */
  endSilent(nowMs: number): Given[] {
    return this.#queue
      .calls()
      .filter((call) => this.silentAtMs(call) <= nowMs)
      .map((call) => {
        const isTaken = call.state === "leased";
        const reason = isTaken
          ? `its agent has been silent for ${LOST_AFTER_MS / 1000} s`
          : "refused: its agent is silent";
        return this.#queue.endCall(call, reason, nowMs);
      });
  }

  /** When the next one ends if its agent stays silent; infinity: none is under way. */
  nextSilentMs(): number {
    return Math.min(Number.POSITIVE_INFINITY, ...this.#queue.calls().map((call) => this.silentAtMs(call)));
  }

  /** Those of an agent that has left end with its last words, or their time. */
  silentAtMs({ vm, state }: Pick<CallRow, "vm" | "state">): number {
    const heardMs = this.#vms.get(vm)?.heartbeatMs ?? Number.POSITIVE_INFINITY;
    return heardMs + (state === "leased" ? LOST_AFTER_MS : HEARTBEAT_STALE_MS) + 1;
  }
}

/** It is due at once and expires when its caller's patience does. */
export function executeCommandOf(call: ExecuteCall, nowMs: number): PlannedCommand {
  return {
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
}

export function executedOf(result: CommandResult): Executed {
  // A call that failed on the VM has an answer too: the one that a VM with a URL gives.
  if (result.response) return { ok: true, response: result.response };
  return { ok: false, reason: "failed", detail: result.reason ?? "the agent told no response" };
}

// `execute` commands whose callers wait here for their response. An evicted hub loses the waiting, not the command: the
// caller's connection to the hub breaks, and it is told that the task may or may not have run.
import type { PlannedCommand } from "../../core/planned.ts";
import type { Command, CommandResult } from "../../protocol.ts";
import type { Given } from "./queue.ts";

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
  readonly #waiting = new Map<string, (executed: Executed) => void>();

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

// `execute` commands whose callers wait here for their response. An evicted hub loses the waiting, not the command: the
// caller's connection to the hub breaks, and it is told that the task may or may not have run.
import type { CommandResult } from "../../protocol.ts";

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
}

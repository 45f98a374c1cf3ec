// One runtime of a task, and how its start and its end are told.
import type { Started } from "./drivers/driver.ts";

type RuntimeState = "starting" | "ready" | "busy" | "gone";
export type EndReason = "expired" | "evicted" | "stopped" | "replaced" | "crashed";

/** A command's claim on a runtime. */
export interface Hold {
  commandId: string;
  /** Chance of its use, as it was foretold. */
  probability: number;
  /** Agent's clock. */
  untilMs: number;
  /** The runtime would have lived until then anyway; 0 where the command started it. */
  anywayUntilMs: number;
  readyMs: number;
  used: boolean;
}

export interface Runtime {
  readonly runtimeId: string;
  readonly task: string;
  /** What it proves itself with at /objects. */
  readonly token: string;
  state: RuntimeState;
  /** A user's request waits for it to become ready. */
  claimed: boolean;
  readonly startedMs: number;
  readyMs: number;
  lastUsedMs: number;
  /** When it ends if nothing comes; agent's clock. */
  expiresMs: number;
  hold: Hold | null;
  started: Started | null;
  /** From spawn to ready, without the objects it waited for. */
  initMs: number;
  fetchMs: number;
  /** Loaded by its start; 0 of what was there or what others were loading. */
  fetchedBytes: number;
  memoryBytes: number;
}

export type StartFailure = {
  ok: false;
  reason: "start_failed" | "no_memory" | "no_instance" | "expired" | "unknown_task" | "stopped" | "aborted";
  detail: string;
};

export type Acquired =
  | {
      ok: true;
      runtime: Runtime;
      /** `warm`: ready before. `late`: a command was starting it, or waited for its turn to. `cold`: started for this request, or waited for a free one. */
      how: "warm" | "late" | "cold";
      /** Parts of the wait. */
      queueMs: number;
      fetchMs: number;
      initMs: number;
    }
  | StartFailure;

export function failure(reason: StartFailure["reason"], detail: string): StartFailure {
  return { ok: false, reason, detail };
}

/** For a command, and not used yet. */
export function isHeld({ hold }: Runtime): boolean {
  return hold !== null && !hold.used;
}

// What a plan consists of, as the pipeline, the hubs and the simulator pass it on.
import type { CommandKind } from "../protocol.ts";

/** One thing to prepare. `key` names the distinct thing: commands with one key on one VM are one command. */
export interface PlannedCommand {
  commandId: string;
  key: string;
  vm: string;
  kind: CommandKind;
  task: string | null;
  version: string | null;
  uri: string | null;
  bytes: number | null;
  probability: number;
  /** As the engine foretold it, before the gate's beliefs: what its outcome is compared with. Absent: `probability` is. */
  foretold?: number;
  savedMs: number;
  notBeforeMs: number;
  deadlineMs: number;
  expiresMs: number;
}

/** Of one task's start, ms: what a preparation hides of it, and what that costs. */
export interface Hidden {
  /** As expected (p50 of its lead time). */
  expectedMs: number;
  /** Even should the task come early (p10). */
  surelyMs: number;
  /** A runtime is kept so long for each call, with those that nobody comes to use. Absent: unknown. */
  heldMs?: number;
  /** Commands were planned. Else it is what they would hide. */
  isSent?: boolean;
  /** Of a fan-out, the share of the calls that it is for (0–1). Absent: all. */
  covered?: number;
}

/** What a call waits without a warm runtime, should plans prepare one, ms, and how long what they prepare is kept for it. */
export interface CallWait {
  expectedMs: number;
  atMostMs: number;
  heldMs?: number;
  /** Share of the calls that wait for a whole start (0–1). Absent: none. */
  exposed?: number;
}

/**
 * `start` as expected, and one of ten that is slower. A preparation that does not pay by itself and costs more than the operator's keep-alive
 * would is not made, and hides nothing.
 */
export function waitOf(
  start: { coldStartMs: number; slowStartMs: number },
  hidden: Hidden | null,
  keepAliveMs: number,
): CallWait {
  const made = hidden !== null && (hidden.isSent || (hidden.heldMs ?? 0) <= keepAliveMs) ? hidden : null;
  const covered = made?.covered ?? 1;
  return {
    expectedMs: Math.max(0, start.coldStartMs - covered * (made?.expectedMs ?? 0)),
    atMostMs: Math.max(0, start.slowStartMs - (made?.surelyMs ?? 0)),
    heldMs: covered * (made?.heldMs ?? 0),
    ...(covered < 1 ? { exposed: 1 - covered } : {}),
  };
}

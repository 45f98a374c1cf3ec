// What a plan consists of, as the pipeline, the hubs and the simulator pass it on.
import type { CommandKind, Quantiles } from "../protocol.ts";

/** Weights of p10, p50 and p90 whose sum is about the mean. [J. Swanson; see D. Keefer, S. Bodily 1983] */
export const MEAN_WEIGHTS = { p10: 0.3, p50: 0.4, p90: 0.3 };

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
  /** Other executions of the run ask for the same: not each is given one (quotas.ts). Absent: it is. */
  quota?: Quota;
}

/** So many asks of a run are good for `first` × asks ^ `power` preparations. */
export interface Quota {
  first: number;
  power: number;
}

/** Why a command was not sent that its run's quota refused. */
export const LEFT_BY_OTHERS = "finds a runtime that another execution of the run has left";

/** Of one task's start, ms: what a preparation hides of it, and what that costs. */
export interface Hidden {
  /** Head start that a preparation has before the call. */
  headMs: Quantiles;
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
    expectedMs: start.coldStartMs - covered * (start.coldStartMs - leftOf(start.coldStartMs, made?.headMs ?? null)),
    atMostMs: Math.max(0, start.slowStartMs - (made?.surelyMs ?? 0)),
    heldMs: covered * (made?.heldMs ?? 0),
    ...(covered < 1 ? { exposed: 1 - covered } : {}),
  };
}

/** What is left of a start on average, ms: a call that comes early waits, and one that comes late gives nothing back for it. */
function leftOf(startMs: number, headMs: Quantiles | null): number {
  if (headMs === null) return startMs;
  const left = (quantile: keyof Quantiles) => MEAN_WEIGHTS[quantile] * Math.max(0, startMs - headMs[quantile]);
  return left("p10") + left("p50") + left("p90");
}

/**
 * What is hidden of the later tasks' starts once `task` was called and its plan is known. What an earlier plan of the run has sent goes on, with a
 * longer head start than the new plan could give.
 */
export function hiddenAfter(
  before: Record<string, Hidden>,
  task: string,
  plan: Record<string, Hidden>,
): Record<string, Hidden> {
  const after = { ...before };
  for (const later in plan) {
    const own = plan[later]!;
    const known = before[later];
    const goesOn = known?.isSent && (!own.isSent || known.headMs.p50 > own.headMs.p50);
    if (later === task || !goesOn) after[later] = own;
  }
  return after;
}

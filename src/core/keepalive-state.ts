// What keepalive.ts remembers of a task, in memory and as plain JSON. In: either. Out: the other.
// Bins and policies are part of what is stored: where they change, EXPORT_FORMAT of learned-export.ts does.
import type { PriceState } from "./price.ts";

/** Upper ends of the bins of idle time, ms. The last is the range: nothing is held longer. */
export const BIN_ENDS_MS = [
  1_000, 2_000, 5_000, 10_000, 20_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_200_000, 2_400_000, 4_800_000,
  9_600_000, 14_400_000,
] as const;
export const BINS = BIN_ENDS_MS.length;
export const RANGE_MS = BIN_ENDS_MS[BINS - 1]!;
export const HOLD_POLICIES = ["none", "fixed", "histogram", "keep-warm"] as const;
export type HoldPolicy = (typeof HOLD_POLICIES)[number];
/** Releases remembered per task: bounds memory; the oldest beyond it count as never called again. */
export const RELEASES_MAX = 4_096;

export interface TaskState {
  gb: number;
  /** The operator's keep-alive. */
  fixedMs: number;
  /** Watched from then to then; after a change, from later on. */
  sinceMs: number;
  untilMs: number;
  /** Release times of what would be idle now, oldest first. */
  releasesMs: number[];
  /** How many of them have passed each bin's end. */
  passed: Int32Array;
  atRisk: Float64Array;
  called: Float64Array;
  /** How long those at risk were idle within the bin, all together. */
  spentMs: Float64Array;
  savedMs: Float64Array;
  /** How long preparations are kept for the calls. */
  keptMs: Float64Array;
  harmed: Float64Array;
  calls: number;
  /** Calls that would have waited without a warm runtime, whatever their idle time was. */
  waiting: number;
  seen: number;
  /** Most runtimes that were idle at once; halves with the evidence. */
  widest: number;
  /** Of the idle time before the last call; null: nothing had been released. */
  calledBin: number | null;
  /** By HOLD_POLICIES. */
  logWeights: Float64Array;
  meanCostMs: number;
  histogramMs: number;
  holdMs: number;
}

export interface KeepAliveState {
  frozen: boolean;
  price?: PriceState | undefined;
  tasks: Record<string, StoredTask>;
}
/** TaskState with plain arrays. Older versions did not tell how long runtimes were idle. */
type StoredTask = {
  [field in Exclude<keyof TaskState, "spentMs">]: TaskState[field] extends number | null ? TaskState[field] : number[];
} & { spentMs?: number[] | undefined };

export function newState(gb: number, fixedMs: number, nowMs: number): TaskState {
  return {
    gb,
    fixedMs,
    sinceMs: nowMs,
    untilMs: nowMs,
    releasesMs: [],
    passed: new Int32Array(BINS),
    atRisk: new Float64Array(BINS),
    called: new Float64Array(BINS),
    spentMs: new Float64Array(BINS),
    savedMs: new Float64Array(BINS),
    keptMs: new Float64Array(BINS),
    harmed: new Float64Array(BINS),
    calls: 0,
    waiting: 0,
    seen: 0,
    widest: 0,
    calledBin: null,
    logWeights: new Float64Array(HOLD_POLICIES.length),
    meanCostMs: 0,
    histogramMs: fixedMs,
    holdMs: fixedMs,
  };
}

/** Of the evidence this share (0–1) is kept. */
export function scale(state: TaskState, kept: number): void {
  for (const counts of [state.atRisk, state.called, state.spentMs, state.savedMs, state.keptMs, state.harmed]) {
    for (let bin = 0; bin < BINS; bin++) counts[bin]! *= kept;
  }
  state.calls *= kept;
  state.waiting *= kept;
  state.seen *= kept;
  state.widest *= kept;
}

export function stored(state: TaskState): StoredTask {
  const { releasesMs, passed, atRisk, called, spentMs, savedMs, keptMs, harmed, logWeights } = state;
  return {
    ...state,
    releasesMs: [...releasesMs],
    passed: [...passed],
    atRisk: [...atRisk],
    called: [...called],
    spentMs: [...spentMs],
    savedMs: [...savedMs],
    keptMs: [...keptMs],
    harmed: [...harmed],
    logWeights: [...logWeights],
  };
}

/** As if calls came in the middle of their bins, on average. */
function spentAbout({ atRisk, called }: StoredTask): number[] {
  return atRisk.map((count, bin) => (count - called[bin]! / 2) * (BIN_ENDS_MS[bin]! - (BIN_ENDS_MS[bin - 1] ?? 0)));
}

/** For another place or time: what was idle where it comes from is not idle here. */
export function withoutReleases(state: KeepAliveState): KeepAliveState {
  const tasks = Object.entries(state.tasks).map(([task, known]) => [
    task,
    { ...known, releasesMs: [], passed: new Array<number>(BINS).fill(0) },
  ]);
  return { ...state, tasks: Object.fromEntries(tasks) };
}

export function restored(task: StoredTask): TaskState {
  return {
    ...task,
    // An older version did not tell how long it had watched, nor what preparations cost.
    calledBin: task.calledBin ?? null,
    widest: task.widest ?? 0,
    sinceMs: task.sinceMs ?? 0,
    untilMs: task.untilMs ?? 0,
    releasesMs: [...task.releasesMs],
    passed: Int32Array.from(task.passed),
    atRisk: Float64Array.from(task.atRisk),
    called: Float64Array.from(task.called),
    spentMs: Float64Array.from(task.spentMs ?? spentAbout(task)),
    savedMs: Float64Array.from(task.savedMs),
    keptMs: Float64Array.from(task.keptMs ?? new Array<number>(BINS).fill(0)),
    harmed: Float64Array.from(task.harmed),
    logWeights: Float64Array.from(task.logWeights),
  };
}

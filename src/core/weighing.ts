// What the parts of a plan share while things to prepare are weighed: where they look, and where they put what they decided.
import type { Policy, SkippedItem } from "../protocol.ts";
import type { Adjustments } from "./adjustments.ts";
import type { TaskDemand } from "./demand.ts";
import type { FleetIndex } from "./fleet.ts";
import type { Lead } from "./margins.ts";
import type { Hidden, PlannedCommand } from "./planned.ts";

export const BYTES_PER_GB = 2 ** 30;
/** Preparations are started this much earlier than their own expected time asks: their times vary too. */
export const PREPARE_MARGIN = 1.5;

export interface PlanInput {
  nowMs: number;
  newId(): string;
  runId: string;
  heldVms: Record<string, string>;
  /** See TaskRequest. */
  branch: string | null;
  /** Skipped things are told with their reasons: that costs as much as deciding. */
  explains: boolean;
  /** Learned from outcomes; absent: predictions are taken as they are. */
  adjustments?: Adjustments;
}

export interface Timing {
  leadP10Ms: number;
  leadP50Ms: number;
  leadP90Ms: number;
  /** Without the delays: as if nothing before it had to wait. */
  lead: Lead;
}

export interface Weighing {
  index: FleetIndex;
  cluster: number;
  policy: Policy;
  /** What memory is worth on the cluster now. */
  msPerGbSecond: number;
  input: PlanInput;
  weighed: Weighed[];
  skipped: SkippedItem[];
  /** Expected delay of everything after a task, ms, by task: its own wait and the waits before it. */
  delaysMs: Map<string, number>;
  later: Map<string, TaskDemand>;
  hidden: Record<string, Hidden>;
}

export interface Weighed {
  command: PlannedCommand;
  /** p·saved − (1−p)·waste − idle, ms. */
  netMs: number;
}

/** Reasons are built only for those who read them. */
export function skip(
  { input, skipped }: Weighing,
  kind: "warm" | "prefetch",
  item: { probability: number; task: string },
  reason: () => string,
  savedMs = 0,
  uri?: string,
): void {
  if (!input.explains) return;
  skipped.push({
    kind,
    task: item.task,
    ...(uri === undefined ? {} : { uri }),
    probability: item.probability,
    savedMs,
    reason: reason(),
  });
}

export function belowGate(probability: number, savedMs: number, wasteMs: number, idleMs: number): string {
  const gain = `${probability.toFixed(2)} × ${savedMs.toFixed(1)} ms saved`;
  const cost = `${(1 - probability).toFixed(2)} × ${wasteMs.toFixed(1)} ms wasted + ${idleMs.toFixed(1)} ms idle`;
  return `below the gate: ${gain} is not more than ${cost}`;
}

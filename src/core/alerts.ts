// What an operator should look at. In: what became of a day's prewarms by task, and what the latest plans left out, with reasons. Out:
// alerts, worst first: tasks whose users wait for starts that were foreseen and never prepared, and tasks that are prepared in vain.
// Both faults are silent otherwise: every single plan explains itself, and nobody reads a thousand of them.
import type { Alert, OutcomeKind } from "../protocol.ts";
import { normaliseTaskName } from "./records.ts";

/** Of one task: how often a prewarm, or the lack of one, came to this. */
export interface TaskCount {
  task: string;
  outcome: OutcomeKind;
  count: number;
}

/** Left out of a plan although the task was about to come. */
export interface LeftOut {
  task: string;
  reason: string;
}

/** Fewer are an accident: starts that users paid, and prewarms in vain. */
export const PAID_MIN = 10;
const WASTED_MIN = 20;
/** A plan that leaves out something as likely as this was sure of it. */
export const CONFIDENT = 0.8;
const ALERTS_MAX = 100;

type Counts = Partial<Record<OutcomeKind, number>>;

/** Tasks that users waited for and that no command was ever sent for: whether that was foreseen, the latest plans know. */
export function neverPrepared(counts: TaskCount[]): Map<string, number> {
  const found = new Map<string, number>();
  for (const [task, { miss = 0, hit = 0, late = 0, waste = 0, failed = 0 }] of byTask(counts)) {
    if (miss >= PAID_MIN && hit + late + waste + failed === 0) found.set(task, miss);
  }
  return found;
}

export function alertsOf(counts: TaskCount[], leftOut: LeftOut[]): Alert[] {
  const reasons = new Map<string, Map<string, number>>();
  for (const { task, reason } of leftOut) {
    const ofTask = reasons.get(task) ?? new Map<string, number>();
    reasons.set(task, ofTask.set(reason, (ofTask.get(reason) ?? 0) + 1));
  }
  const alerts: Alert[] = [];
  for (const [task, count] of neverPrepared(counts)) {
    // Plans name tasks as they were learned, agents as they are configured.
    const ofTask = reasons.get(task) ?? reasons.get(normaliseTaskName(task));
    if (ofTask === undefined) continue;
    const [reason] = [...ofTask].reduce((most, one) => (one[1] > most[1] ? one : most));
    const detail = `Users waited for ${count} starts of ${task} within a day; it was foreseen, and never prepared: ${reason}`;
    alerts.push({ kind: "never_prepared", task, count, detail });
  }
  for (const [task, { waste = 0, hit = 0, late = 0 }] of byTask(counts)) {
    if (waste < WASTED_MIN || hit + late > 0) continue;
    const detail = `${waste} prewarms of ${task} within a day, and nobody came to use one`;
    alerts.push({ kind: "always_wasted", task, count: waste, detail });
  }
  return alerts.sort((a, b) => b.count - a.count).slice(0, ALERTS_MAX);
}

function byTask(counts: TaskCount[]): Map<string, Counts> {
  const tasks = new Map<string, Counts>();
  for (const { task, outcome, count } of counts) {
    if (task === "") continue;
    const known = tasks.get(task) ?? {};
    tasks.set(task, known);
    known[outcome] = (known[outcome] ?? 0) + count;
  }
  return tasks;
}

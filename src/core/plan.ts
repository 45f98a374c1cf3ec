// Plan. In: the chosen (chain, cluster) pair and the policy. Out: what to prepare, where and when, and what was left, with reasons.
//
// One gate for everything, in one currency (ms of a user's waiting; the operator's dial turns GB·s and GB into it):
//   act only if   p · saved  >  (1 − p) · waste  +  idle
// Runtimes: prewarm.ts. Objects: here, ready before the runtime starts at the p10 lead time; given up past the p90 lead time.
// The asked task comes too late to be started ahead, but what it will read can be on its way while it starts.
// Waits add up along a way: a task that starts cold delays all that follow, which gives those that much more time to start; so in
// a chain of steps shorter than their cold starts all later ones start at once, beside the first.
// Order: objects and code before the runtime that needs them; the most valuable first, cut at the policy's fan-out.

import type { PrefetchItem, SkippedItem } from "../protocol.ts";
import { type Candidate, chooseVm } from "./allocate.ts";
import type { TaskDemand } from "./demand.ts";
import { type FleetIndex, TASK_WARM } from "./fleet.ts";
import type { Lead } from "./margins.ts";
import type { Hidden, PlannedCommand } from "./planned.ts";
import { weighWarm } from "./prewarm.ts";
import {
  BYTES_PER_GB,
  belowGate,
  type PlanInput,
  PREPARE_MARGIN,
  skip,
  type Timing,
  type Weighed,
  type Weighing,
} from "./weighing.ts";

/** A prefetch is given up this long after its object was expected at the latest, ms, on top of the policy's hold. */
const EXPIRY_SLACK_MS = 1_000;

export interface Plan {
  commands: PlannedCommand[];
  skipped: SkippedItem[];
  /** Where each later task is expected to run. */
  vms: Record<string, string>;
  /** What this plan, or a runtime that is idle now, hides of each later task's start. */
  hidden: Record<string, Hidden>;
}

export function planFor(candidate: Candidate, index: FleetIndex, input: PlanInput): Plan {
  const { policy } = index.view;
  const cluster = index.clusterIds.get(candidate.cluster.cluster)!;
  const { demand } = candidate;
  const root = demand.tasks[0]!;
  const rootVm = chooseVm(root, cluster, index, input);
  const later = [...demand.tasks.slice(1), ...demand.possible];
  later.sort((a, b) => (a.lead?.p50 ?? 0) - (b.lead?.p50 ?? 0));
  const weighing: Weighing = {
    index,
    cluster,
    policy,
    msPerGbSecond: candidate.cluster.msPerGbSecond ?? policy.msPerGbSecond,
    input,
    weighed: [],
    skipped: [],
    // Lead times exclude cold starts; while the root itself still has to start, everything after it has that much longer.
    delaysMs: new Map([[root.task, index.statesOf(root.task).of(rootVm) === TASK_WARM ? 0 : root.coldStartMs]]),
    later: new Map(later.map((task) => [task.task, task])),
    hidden: {},
  };
  if (weighing.delaysMs.get(root.task)! > 0) weighAsked(root, rootVm, weighing);
  const vms: Record<string, string> = {};
  for (const task of later) {
    const vm = chooseVm(task, cluster, index, input);
    if (vm < 0) {
      skip(weighing, "warm", task, () => "no VM of the cluster has the task");
      continue;
    }
    vms[task.task] = index.vms[vm]!.vm;
    weighTask(task, vm, root.task, weighing);
  }
  return { ...cut(weighing, policy.fanOutMax), vms, hidden: weighing.hidden };
}

/** It starts cold: its objects come meanwhile, and then it waits for the longer of both instead of one after the other. */
function weighAsked(task: TaskDemand, vm: number, weighing: Weighing): void {
  if (task.prewarm === "never") return;
  const { startMs, coldStartMs } = task;
  const timing = timingOf(task, { p10: 0, p50: 0, p90: 0 }, startMs);
  const loadsMs = task.objects
    .map((object) => weighPrefetch(object, task, timing, vm, weighing))
    .filter((ms) => ms > 0);
  if (loadsMs.length > 0) weighing.delaysMs.set(task.task, Math.min(coldStartMs, Math.max(startMs, ...loadsMs)));
}

function weighTask(task: TaskDemand, vm: number, root: string, weighing: Weighing): void {
  const before = task.way?.tasks.at(-2) ?? root;
  const delayMs = weighing.delaysMs.get(before) ?? weighing.delaysMs.get(root)!;
  const lead = task.lead === null ? null : correctedLead(root, task.task, task.lead, weighing.input);
  const timing = timingOf(task, lead, delayMs);
  const isWarm = weighing.index.statesOf(task.task).of(vm) === TASK_WARM;
  // Should nothing be prepared, what follows is delayed by the whole cold start.
  weighing.delaysMs.set(task.task, delayMs + (isWarm ? 0 : task.coldStartMs));
  if (task.prewarm === "never") {
    skip(weighing, "warm", task, () => "declared prewarm: never");
    return;
  }
  for (const object of task.objects) weighPrefetch(object, task, timing, vm, weighing);
  const { isPrepared, hidden } = weighWarm(task, root, timing, vm, weighing);
  if (hidden !== null) weighing.hidden[task.task] = hidden;
  if (isPrepared && !isWarm) {
    weighing.delaysMs.set(task.task, delayMs + task.coldStartMs - Math.min(task.coldStartMs, timing.leadP50Ms));
  }
}

/** Unknown lead times: expected at once, and for as long as the policy holds. */
function timingOf(task: TaskDemand, foretold: TaskDemand["lead"], delayMs: number): Timing {
  const lead = foretold ?? { p10: 0, p50: task.coldStartMs, p90: task.coldStartMs };
  return {
    leadP10Ms: lead.p10 + delayMs,
    leadP50Ms: lead.p50 + delayMs,
    leadP90Ms: lead.p90 + delayMs,
    lead,
  };
}

/** As lead times of this task after this root came true so far. */
function correctedLead(root: string, task: string, lead: Lead, { adjustments }: PlanInput): Lead {
  return adjustments?.margins?.correct(root, task, lead) ?? lead;
}

/** How long its load takes, ms; 0: it is not fetched ahead. */
function weighPrefetch(object: PrefetchItem, task: TaskDemand, timing: Timing, vm: number, weighing: Weighing): number {
  const { index, policy, input, weighed } = weighing;
  const { vm: vmName, uris } = index.vms[vm]!;
  const loadMs = index.transferMs(object.uri, object.bytes, weighing.cluster, vm);
  const savedMs = Math.min(loadMs, Math.max(timing.leadP50Ms, 1)) * task.latencyWeight * sensitivityTo(object, task);
  const wasteMs = ((object.bytes ?? 0) / BYTES_PER_GB) * policy.msPerGb;
  const netMs = object.probability * savedMs - (1 - object.probability) * wasteMs;
  let reason: (() => string) | null = null;
  if (object.producer !== null) reason = () => `made during the run by ${object.producer}`;
  else if (uris.includes(object.uri)) reason = () => `already in the cache of ${vmName}`;
  else if (netMs <= 0) reason = () => belowGate(object.probability, savedMs, wasteMs, 0);
  if (reason !== null) {
    const item = { probability: object.probability, task: task.task };
    skip(weighing, "prefetch", item, reason, savedMs, object.uri);
    return 0;
  }
  // Objects must be there before the runtime starts, since runtimes read them while they start.
  const startMs = (loadMs + task.coldStartMs) * PREPARE_MARGIN;
  weighed.push({
    netMs,
    command: {
      notBeforeMs: Math.round(input.nowMs + Math.max(0, timing.leadP10Ms - startMs)),
      deadlineMs: Math.round(input.nowMs + timing.leadP10Ms),
      expiresMs: Math.round(input.nowMs + timing.leadP90Ms + startMs + policy.holdMs + EXPIRY_SLACK_MS),
      commandId: input.newId(),
      key: `prefetch ${object.uri}`,
      vm: vmName,
      kind: "prefetch",
      task: task.task,
      version: task.version,
      uri: object.uri,
      bytes: object.bytes,
      probability: object.probability,
      savedMs,
    },
  });
  return loadMs;
}

/**
 * Share of a wait for the object that reaches the end of the run. Of a hundred parallel executions hardly any one alone makes the
 * run late, but those that read the same object wait for it together.
 */
function sensitivityTo(object: PrefetchItem, task: TaskDemand): number {
  const share = task.probability > 0 ? Math.min(1, object.probability / task.probability) : 1;
  const readers = Math.max(1, task.multiplicity * share);
  return Math.min(1, task.latencySensitivity * readers);
}

/** One command per distinct thing; the most valuable first; beyond the fan-out they are told as skipped. */
function cut({ weighed, skipped }: Weighing, fanOutMax: number): Pick<Plan, "commands" | "skipped"> {
  const distinct = new Map<string, Weighed>();
  for (const item of weighed) {
    const key = `${item.command.vm} ${item.command.key}`;
    const known = distinct.get(key);
    if (!known) {
      distinct.set(key, item);
      continue;
    }
    // Two tasks of the chain want the same object: once, for the earlier and by the likelier of them.
    const { command } = known;
    command.notBeforeMs = Math.min(command.notBeforeMs, item.command.notBeforeMs);
    command.deadlineMs = Math.min(command.deadlineMs, item.command.deadlineMs);
    command.expiresMs = Math.max(command.expiresMs, item.command.expiresMs);
    command.probability = Math.max(command.probability, item.command.probability);
  }
  const byValue = [...distinct.values()].sort((a, b) => b.netMs - a.netMs);
  const reason = `beyond the fan-out of ${fanOutMax} commands`;
  const beyond = byValue.slice(fanOutMax).map((item) => notSent(item.command, reason));
  const commands = byValue.slice(0, fanOutMax).map((item) => item.command);
  commands.sort((a, b) => a.notBeforeMs - b.notBeforeMs || a.deadlineMs - b.deadlineMs);
  return { commands, skipped: [...skipped, ...beyond] };
}

/** A command that was worth it and is not sent all the same, as it is told. */
export function notSent(command: PlannedCommand, reason: string): SkippedItem {
  return {
    kind: command.kind,
    ...(command.task === null ? {} : { task: command.task }),
    ...(command.uri === null ? {} : { uri: command.uri }),
    probability: command.probability,
    savedMs: command.savedMs,
    reason,
  };
}

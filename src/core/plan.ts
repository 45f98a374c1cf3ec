// Plan. In: the chosen (chain, cluster) pair and the policy. Out: what to prepare, where and when, and what was left, with reasons.
//
// One gate for everything, in one currency (ms of a user's waiting; the operator's dial turns GB·s and GB into it):
//   act only if   p · saved  >  (1 − p) · waste  +  idle
// Timing: ready at the p10 lead time, not earlier than needed; held past the p90 lead time, then given up.
// Order: objects and code before the runtime that needs them; the most valuable first, cut at the policy's fan-out.
import type { Policy, PrefetchItem, SkippedItem } from "../protocol.ts";
import { type Candidate, chooseVm } from "./allocate.ts";
import type { TaskDemand } from "./demand.ts";
import { type FleetIndex, type FleetView, indexOf, TASK_WARM } from "./fleet.ts";
import type { PlannedCommand } from "./pipeline.ts";

/** Preparations are started this much earlier than their own expected time asks: their times vary too. */
const PREPARE_MARGIN = 1.5;
/** A command is given up this long after the runtime or object was expected at the latest, ms, on top of the policy's hold. */
const EXPIRY_SLACK_MS = 1_000;
const BYTES_PER_GB = 2 ** 30;

export interface Plan {
  commands: PlannedCommand[];
  skipped: SkippedItem[];
  /** Where each later task is expected to run. */
  vms: Record<string, string>;
}

export interface PlanInput {
  nowMs: number;
  newId(): string;
  heldVms: Record<string, string>;
}

interface Timing {
  leadP10Ms: number;
  leadP50Ms: number;
  leadP90Ms: number;
}

/** What the weighing functions share: where they look, and where they put what they decided. */
interface Weighing {
  index: FleetIndex;
  cluster: number;
  policy: Policy;
  input: PlanInput;
  weighed: Weighed[];
  skipped: SkippedItem[];
}

interface Weighed {
  command: PlannedCommand;
  /** p·saved − (1−p)·waste − idle, ms. */
  netMs: number;
}

export function planFor(candidate: Candidate, fleet: FleetView, input: PlanInput): Plan {
  const index = indexOf(fleet);
  const cluster = index.clusterIds.get(candidate.cluster.cluster)!;
  const root = candidate.demand.tasks[0]!;
  const rootVm = chooseVm(root, cluster, index, input);
  // Lead times exclude cold starts; while the root itself still has to start, everything after it has that much longer.
  const headStartMs = index.statesOf(root.task)[rootVm] === TASK_WARM ? 0 : root.coldStartMs;
  const weighing: Weighing = { index, cluster, policy: fleet.policy, input, weighed: [], skipped: [] };
  const vms: Record<string, string> = {};
  for (const task of candidate.demand.tasks.slice(1)) {
    const vm = chooseVm(task, cluster, index, input);
    if (vm < 0) {
      weighing.skipped.push(skip("warm", task, "no VM of the cluster has the task"));
      continue;
    }
    vms[task.task] = index.vms[vm]!.vm;
    if (task.prewarm === "never") {
      weighing.skipped.push(skip("warm", task, "declared prewarm: never"));
      continue;
    }
    const timing = timingOf(task, headStartMs);
    for (const object of task.objects) weighPrefetch(object, task, timing, vm, weighing);
    weighWarm(task, timing, vm, weighing);
  }
  return { ...cut(weighing, fleet.policy.fanOutMax), vms };
}

/** Unknown lead times: expected at once, and for as long as the policy holds. */
function timingOf(task: TaskDemand, headStartMs: number): Timing {
  const lead = task.lead ?? { p10: 0, p50: task.coldStartMs, p90: task.coldStartMs };
  return { leadP10Ms: lead.p10 + headStartMs, leadP50Ms: lead.p50 + headStartMs, leadP90Ms: lead.p90 + headStartMs };
}

function weighWarm(task: TaskDemand, timing: Timing, vm: number, weighing: Weighing): void {
  const { index, policy, input, weighed, skipped } = weighing;
  const vmName = index.vms[vm]!.vm;
  if (index.statesOf(task.task)[vm] === TASK_WARM) {
    skipped.push(skip("warm", task, `already warm on ${vmName}`));
    return;
  }
  const gb = task.memoryBytes / BYTES_PER_GB;
  const startMs = task.coldStartMs * PREPARE_MARGIN;
  const readyMs = Math.max(timing.leadP10Ms, task.coldStartMs);
  const heldMs = Math.max(0, timing.leadP90Ms - readyMs) + policy.holdMs;
  // A head start shorter than the cold start hides only that much of it.
  const savedMs =
    Math.min(task.coldStartMs, Math.max(timing.leadP50Ms, 1)) * task.latencyWeight * task.latencySensitivity;
  const wasteMs = (gb * (task.coldStartMs + heldMs) * policy.msPerGbSecond) / 1000;
  const idleMs = (gb * Math.max(0, timing.leadP50Ms - readyMs) * policy.msPerGbSecond) / 1000;
  const netMs = task.probability * savedMs - (1 - task.probability) * wasteMs - idleMs;
  if (netMs <= 0)
    return void skipped.push(skip("warm", task, belowGate(task.probability, savedMs, wasteMs, idleMs), savedMs));
  weighed.push({
    netMs,
    command: {
      ...schedule(timing, startMs, policy, input),
      commandId: input.newId(),
      key: `warm ${task.task}@${task.version ?? ""}`,
      vm: vmName,
      kind: "warm",
      task: task.task,
      version: task.version,
      uri: null,
      bytes: null,
      probability: task.probability,
      savedMs,
    },
  });
}

function weighPrefetch(object: PrefetchItem, task: TaskDemand, timing: Timing, vm: number, weighing: Weighing): void {
  const { index, policy, input, weighed, skipped } = weighing;
  const { vm: vmName, uris } = index.vms[vm]!;
  const loadMs = index.transferMs(object.uri, object.bytes, weighing.cluster, vm);
  const savedMs = Math.min(loadMs, Math.max(timing.leadP50Ms, 1)) * task.latencyWeight * task.latencySensitivity;
  const wasteMs = ((object.bytes ?? 0) / BYTES_PER_GB) * policy.msPerGb;
  const netMs = object.probability * savedMs - (1 - object.probability) * wasteMs;
  let reason: string | null = null;
  if (object.producer !== null) reason = `made during the run by ${object.producer}`;
  else if (uris.includes(object.uri)) reason = `already in the cache of ${vmName}`;
  else if (netMs <= 0) reason = belowGate(object.probability, savedMs, wasteMs, 0);
  if (reason !== null) {
    skipped.push(skip("prefetch", { probability: object.probability, task: task.task }, reason, savedMs, object.uri));
    return;
  }
  // Objects must be there before the runtime starts, since runtimes read them while they start.
  const startMs = (loadMs + task.coldStartMs) * PREPARE_MARGIN;
  weighed.push({
    netMs,
    command: {
      ...schedule(timing, startMs, policy, input),
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
}

function schedule(timing: Timing, startMs: number, policy: Policy, input: PlanInput) {
  return {
    notBeforeMs: Math.round(input.nowMs + Math.max(0, timing.leadP10Ms - startMs)),
    deadlineMs: Math.round(input.nowMs + timing.leadP10Ms),
    expiresMs: Math.round(input.nowMs + timing.leadP90Ms + startMs + policy.holdMs + EXPIRY_SLACK_MS),
  };
}

function skip(
  kind: "warm" | "prefetch",
  item: { probability: number; task: string },
  reason: string,
  savedMs = 0,
  uri?: string,
): SkippedItem {
  return {
    kind,
    task: item.task,
    ...(uri === undefined ? {} : { uri }),
    probability: item.probability,
    savedMs,
    reason,
  };
}

function belowGate(probability: number, savedMs: number, wasteMs: number, idleMs: number): string {
  const gain = `${probability.toFixed(2)} × ${savedMs.toFixed(1)} ms saved`;
  const cost = `${(1 - probability).toFixed(2)} × ${wasteMs.toFixed(1)} ms wasted + ${idleMs.toFixed(1)} ms idle`;
  return `below the gate: ${gain} is not more than ${cost}`;
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
  const beyond = byValue.slice(fanOutMax).map(
    ({ command }): SkippedItem => ({
      kind: command.kind,
      ...(command.task === null ? {} : { task: command.task }),
      ...(command.uri === null ? {} : { uri: command.uri }),
      probability: command.probability,
      savedMs: command.savedMs,
      reason: `beyond the fan-out of ${fanOutMax} commands`,
    }),
  );
  const commands = byValue.slice(0, fanOutMax).map((item) => item.command);
  commands.sort((a, b) => a.notBeforeMs - b.notBeforeMs || a.deadlineMs - b.deadlineMs);
  return { commands, skipped: [...skipped, ...beyond] };
}

// Plan. In: the chosen (chain, cluster) pair and the policy. Out: what to prepare, where and when, and what was left, with reasons.
//
// One gate for everything, in one currency (ms of a user's waiting; the operator's dial turns GB·s and GB into it):
//   act only if   p · saved  >  (1 − p) · waste  +  idle
// Timing: ready at the p10 lead time, not earlier than needed; held past the p90 lead time, then given up.
// Waits add up along a way: a task that starts cold delays all that follow, which gives those that much more time to start; so in
// a chain of steps shorter than their cold starts all later ones start at once, beside the first.
// Where a step fans out, the gate is asked once for each instance, with the probability that so many are needed.
// What would be started only after a later task of the way has begun is left to that task's own plan, which knows more.
// Order: objects and code before the runtime that needs them; the most valuable first, cut at the policy's fan-out.

import type { CommandKind, Policy, PrefetchItem, SkippedItem } from "../protocol.ts";
import type { Adjustments } from "./adjustments.ts";
import { type Candidate, chooseVm } from "./allocate.ts";
import type { TaskDemand } from "./demand.ts";
import { type FleetIndex, type FleetView, indexOf, TASK_WARM } from "./fleet.ts";
import type { Lead } from "./margins.ts";

/** Preparations are started this much earlier than their own expected time asks: their times vary too. */
const PREPARE_MARGIN = 1.5;
/** A prepared runtime is held past its p90 lead time at least this long, ms: commands and calls travel too. */
const HOLD_MIN_MS = 500;
/** A prefetch is given up this long after its object was expected at the latest, ms, on top of the policy's hold. */
const EXPIRY_SLACK_MS = 1_000;
/** An idle runtime found now is trusted to be there for so long, ms: a sixth of the usual keep-alive of a minute. */
const WARM_TRUSTED_MS = 10_000;
/** A later task may be left the preparation of what follows it when it is at least this sure, relative to what follows. */
const LEAVE_MIN_SHARE = 0.95;
/** Less likely things are never started: starting costs CPU that the price of memory does not hold, and many equals would flood. */
const ACT_FLOOR = 0.03;
/** A preparation may come late in one case of ten, and is never made surer than in one of a thousand. */
const LATE_MAX = 0.03;
const LATE_MIN = 0.001;
/** The 90th percentile of the standard normal distribution. */
const NORMAL_P90 = 1.2816;
/** Instances of one task in one plan at most; the policy's fan-out cuts further. */
const INSTANCES_MAX = 1_024;
const BYTES_PER_GB = 2 ** 30;

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

export interface Plan {
  commands: PlannedCommand[];
  skipped: SkippedItem[];
  /** Where each later task is expected to run. */
  vms: Record<string, string>;
  /** What this plan, or a runtime that is idle now, hides of each later task's start. */
  hidden: Record<string, Hidden>;
}

/** Of one task's start: as expected (p50 of its lead time), and even should it come early (p10) and start slowly, ms. */
export interface Hidden {
  expectedMs: number;
  surelyMs: number;
}

export interface PlanInput {
  nowMs: number;
  newId(): string;
  heldVms: Record<string, string>;
  /** See TaskRequest. */
  branch: string | null;
  /** Skipped things are told with their reasons: that costs as much as deciding. */
  explains: boolean;
  /** Learned from outcomes; absent: predictions are taken as they are. */
  adjustments?: Adjustments;
}

interface Timing {
  leadP10Ms: number;
  leadP50Ms: number;
  leadP90Ms: number;
  /** Without the delays: as if nothing before it had to wait. */
  lead: Lead;
}

/** What the weighing functions share: where they look, and where they put what they decided. */
interface Weighing {
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

interface Weighed {
  command: PlannedCommand;
  /** p·saved − (1−p)·waste − idle, ms. */
  netMs: number;
}

export function planFor(candidate: Candidate, fleet: FleetView, input: PlanInput): Plan {
  const index = indexOf(fleet);
  const cluster = index.clusterIds.get(candidate.cluster.cluster)!;
  const { demand } = candidate;
  const root = demand.tasks[0]!;
  const rootVm = chooseVm(root, cluster, index, input);
  const later = [...demand.tasks.slice(1), ...demand.possible];
  later.sort((a, b) => (a.lead?.p50 ?? 0) - (b.lead?.p50 ?? 0));
  const weighing: Weighing = {
    index,
    cluster,
    policy: fleet.policy,
    msPerGbSecond: candidate.cluster.msPerGbSecond ?? fleet.policy.msPerGbSecond,
    input,
    weighed: [],
    skipped: [],
    // Lead times exclude cold starts; while the root itself still has to start, everything after it has that much longer.
    delaysMs: new Map([[root.task, index.statesOf(root.task)[rootVm] === TASK_WARM ? 0 : root.coldStartMs]]),
    later: new Map(later.map((task) => [task.task, task])),
    hidden: {},
  };
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
  return { ...cut(weighing, fleet.policy.fanOutMax), vms, hidden: weighing.hidden };
}

function weighTask(task: TaskDemand, vm: number, root: string, weighing: Weighing): void {
  const before = task.way?.tasks.at(-2) ?? root;
  const delayMs = weighing.delaysMs.get(before) ?? weighing.delaysMs.get(root)!;
  const lead = task.lead === null ? null : correctedLead(root, task.task, task.lead, weighing.input);
  const timing = timingOf(task, lead, delayMs);
  const isWarm = weighing.index.statesOf(task.task)[vm] === TASK_WARM;
  // Should nothing be prepared, what follows is delayed by the whole cold start.
  weighing.delaysMs.set(task.task, delayMs + (isWarm ? 0 : task.coldStartMs));
  if (task.prewarm === "never") {
    skip(weighing, "warm", task, () => "declared prewarm: never");
    return;
  }
  for (const object of task.objects) weighPrefetch(object, task, timing, vm, weighing);
  if (weighWarm(task, root, timing, vm, weighing)) {
    const expectedMs = Math.min(task.coldStartMs, timing.leadP50Ms);
    weighing.hidden[task.task] = { expectedMs, surelyMs: Math.min(task.coldStartMs * PREPARE_MARGIN, timing.lead.p10) };
    weighing.delaysMs.set(task.task, delayMs + task.coldStartMs - expectedMs);
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

/** True where commands were planned (or an idle runtime is there already). */
function weighWarm(task: TaskDemand, root: string, timing: Timing, vm: number, weighing: Weighing): boolean {
  const { index, policy, input, weighed } = weighing;
  const vmView = index.vms[vm]!;
  const instances = instancesOf(task);
  const warmUntilMs = vmView.warmUntilMs?.[task.task] ?? input.nowMs + WARM_TRUSTED_MS;
  const trustedMs = Math.min(WARM_TRUSTED_MS, warmUntilMs - input.nowMs);
  if ((vmView.warm[task.task] ?? 0) >= instances.length && timing.leadP90Ms <= trustedMs) {
    skip(weighing, "warm", task, () => `already warm on ${vmView.vm}`);
    return true;
  }
  const startMs = task.coldStartMs * PREPARE_MARGIN;
  const gb = task.memoryBytes / BYTES_PER_GB;
  const idlePerMs = (gb * weighing.msPerGbSecond) / 1000;
  const readyByMs = earliestOf(timing.lead, idlePerMs, task.probability * task.latencyWeight * task.latencySensitivity);
  const heir = heirOf(task, readyByMs - startMs, weighing);
  if (heir !== null) {
    skip(weighing, "warm", task, () => `left to ${heir}, which begins before this would have to`);
    return false;
  }
  const readyMs = Math.max(timing.leadP10Ms, task.coldStartMs);
  const holdMs = Math.min(policy.holdMs, HOLD_MIN_MS + timing.leadP90Ms);
  const heldMs = Math.max(0, timing.leadP90Ms - readyMs) + holdMs;
  // A head start shorter than the cold start hides only that much of it.
  const savedMs =
    Math.min(task.coldStartMs, Math.max(timing.leadP50Ms, 1)) * task.latencyWeight * task.latencySensitivity;
  const wasteMs = (task.coldStartMs + heldMs) * idlePerMs;
  const idleMs = Math.max(0, timing.leadP50Ms - Math.max(readyByMs, task.coldStartMs)) * idlePerMs;
  const branch = input.branch === null || task.way?.joins ? "" : ` of ${input.branch}`;
  let planned = 0;
  for (const share of instances) {
    const foretold = task.probability * share;
    const probability = input.adjustments?.gate?.probability(root, task.task, foretold) ?? foretold;
    const netMs = probability * savedMs - (1 - probability) * wasteMs - idleMs;
    if (netMs <= 0 || probability < ACT_FLOOR) {
      // Further ones are less likely still: one line tells it.
      const which = planned > 0 ? `instance ${planned + 1}: ` : "";
      const reason = () => which + belowGate(probability, savedMs, wasteMs, idleMs);
      skip(weighing, "warm", { ...task, probability }, reason, savedMs);
      break;
    }
    const number = planned === 0 ? "" : ` #${planned}`;
    planned++;
    weighed.push({
      netMs,
      command: {
        notBeforeMs: Math.round(input.nowMs + Math.max(0, readyByMs - startMs)),
        deadlineMs: Math.round(input.nowMs + timing.leadP10Ms),
        expiresMs: Math.round(input.nowMs + Math.max(timing.leadP90Ms, startMs) + holdMs),
        commandId: input.newId(),
        key: `warm ${task.task}@${task.version ?? ""}${branch}${number}`,
        vm: vmView.vm,
        kind: "warm",
        task: task.task,
        version: task.version,
        uri: null,
        bytes: null,
        probability,
        foretold,
        savedMs,
      },
    });
  }
  return planned > 0;
}

/**
 * When it should be ready: being early costs memory, being late costs waiting, so it should be late with a probability of
 * idle ÷ (idle + late), costs per ms (the newsvendor's quantile). Lead times are taken as log-normal through p10, p50 and p90.
 */
function earliestOf(lead: Timing["lead"], idlePerMs: number, latePerMs: number): number {
  if (lead.p10 <= 0 || lead.p50 <= 0) return 0;
  const late = Math.min(LATE_MAX, Math.max(LATE_MIN, idlePerMs / (idlePerMs + latePerMs)));
  const spread = Math.log(lead.p90 / lead.p10) / (2 * NORMAL_P90);
  return lead.p50 * Math.exp(spread * normalQuantile(late));
}

/** Of the standard normal distribution, for shares up to a half. [Abramowitz and Stegun, 26.2.23; error below 5e-4] */
function normalQuantile(share: number): number {
  const t = Math.sqrt(-2 * Math.log(share));
  const above = 2.515517 + t * (0.802853 + t * 0.010328);
  return above / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308))) - t;
}

/** For each instance that may be needed at once the share of the cases in which it is; never empty. */
function instancesOf(task: TaskDemand): number[] {
  const { way } = task;
  if (way === null || way.fanOut === null) return [1];
  const shares: number[] = [];
  for (const { count, share } of way.fanOut) {
    const needed = Math.min(INSTANCES_MAX, Math.max(1, Math.round(count * way.factor)));
    while (shares.length < needed) shares.push(0);
    for (let i = 0; i < needed; i++) shares[i]! += share;
  }
  return shares.length === 0 ? [1] : shares;
}

/** The later task on the way that begins before the preparation would have to, and can be left to make it. */
function heirOf(task: TaskDemand, beginMs: number, weighing: Weighing): string | null {
  const way = task.way?.tasks ?? [];
  for (let at = way.length - 2; at > 0; at--) {
    const other = weighing.later.get(way[at]!);
    if (other === undefined || other.lead === null || other.task === task.task) continue;
    const beganMs = other.lead.p90;
    if (beganMs <= beginMs && other.probability >= LEAVE_MIN_SHARE * task.probability) return other.task;
  }
  return null;
}

function weighPrefetch(object: PrefetchItem, task: TaskDemand, timing: Timing, vm: number, weighing: Weighing): void {
  const { index, policy, input, weighed } = weighing;
  const { vm: vmName, uris } = index.vms[vm]!;
  const loadMs = index.transferMs(object.uri, object.bytes, weighing.cluster, vm);
  const savedMs = Math.min(loadMs, Math.max(timing.leadP50Ms, 1)) * task.latencyWeight * task.latencySensitivity;
  const wasteMs = ((object.bytes ?? 0) / BYTES_PER_GB) * policy.msPerGb;
  const netMs = object.probability * savedMs - (1 - object.probability) * wasteMs;
  let reason: (() => string) | null = null;
  if (object.producer !== null) reason = () => `made during the run by ${object.producer}`;
  else if (uris.includes(object.uri)) reason = () => `already in the cache of ${vmName}`;
  else if (netMs <= 0) reason = () => belowGate(object.probability, savedMs, wasteMs, 0);
  if (reason !== null) {
    const item = { probability: object.probability, task: task.task };
    skip(weighing, "prefetch", item, reason, savedMs, object.uri);
    return;
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
}

/** Reasons are built only for those who read them. */
function skip(
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

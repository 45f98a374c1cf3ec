// Which runtimes of a later task to start, and when. In: one task of the plan, its VM and its lead time. Out: commands that pass the gate,
// and what is hidden of the task's start.
// Where a step fans out, the gate is asked once for each instance, with the probability that so many are needed.
// What can still be started after a later task of the way has begun is left to that task's own plan, which knows more.
// Executions of a run that do not overlap find runtimes that others of it have left: as many are prepared as run at one time.
// Where the cluster holds the task's runtimes for less than the operator's keep-alive, it relies on preparations: they may cost what the keep-alive
// would, and they are not late.
import { joined } from "./branch.ts";
import type { TaskDemand } from "./demand.ts";
import type { Lead } from "./margins.ts";
import { type Hidden, MEAN_WEIGHTS, type Quota } from "./planned.ts";
import { meanOf } from "./predict.ts";
import { BYTES_PER_GB, belowGate, PREPARE_MARGIN, skip, type Timing, type Weighing } from "./weighing.ts";

/** A prepared runtime is held past its p90 lead time at least this long, ms: commands and calls travel too. */
const HOLD_MIN_MS = 500;
/** An idle runtime found now is trusted to be there for so long, ms: a sixth of the usual keep-alive of a minute. */
const WARM_TRUSTED_MS = 10_000;
/** A later task may be left the preparation of what follows it when it is at least this sure, relative to what follows. */
const LEAVE_MIN_SHARE = 0.95;
/** … and there is time for so many slow starts between both: commands travel, and busy machines start slowly. */
const LEAVE_MIN_STARTS = 3;
/** The keep-alive that most operators have, ms: what a preparation may be kept for instead. */
const KEEP_ALIVE_USUAL_MS = 60_000;
/** Less likely things are never started: starting costs CPU that the price of memory does not hold, and many equals would flood. */
const ACT_FLOOR = 0.03;
/** Shares of the cases in which a preparation may come late, at most and at least. */
const LATE_MAX = 0.03;
const LATE_MIN = 0.001;
/** The 90th percentile of the standard normal distribution. */
const NORMAL_P90 = 1.2816;
/**
 * Where a runtime may be held past the p90 lead time: share of the cases in which the task has come by then, its normal quantile, and the
 * least multiple of p90, because what is seen of a tail so far is often not all of it.
 */
const LATER_ENDS = [
  { share: 0.999, normal: 3.09, p90s: 2 },
  { share: 0.99, normal: 2.326, p90s: 1 },
] as const;
/** What relies on a preparation has it ready at this share of the p10 lead time at the latest: what is seen of a tail so far is often not all of it. */
const SURELY_BEFORE_SHARE = 0.7;
/** Instances of one task in one plan at most; the policy's fan-out cuts further. */
const INSTANCES_MAX = 1_024;
/** Runs share a preparation of a task that executes no longer, ms: of a longer one the second run would find it busy. */
const SHARED_MAX_MS = 1_000;
/** A task that a run executes no more often than this, on average, is the whole run's, whichever branch foretells it. */
const ONCE_PER_RUN_MAX = 1.5;
/** Runs that differ by this factor in how many executions of a task they have: each foretells its own number. */
const VARIES_MIN = 1.5;
/** Standard deviations by which a run may need more than the usual run of its size. */
const MORE_DEVIATIONS = 1.5;
/** List prices of large clouds: a second of a core costs as much as so many GB·s. A start takes about one core. */
const GB_SECONDS_PER_CPU_SECOND = 9;

export interface WeighedWarm {
  /** Commands were planned, or an idle runtime is there already. */
  isPrepared: boolean;
  /** What that hides, or what would be hidden if it were prepared; null: nothing. */
  hidden: Hidden | null;
}

const NOTHING: WeighedWarm = { isPrepared: false, hidden: null };

export function weighWarm(task: TaskDemand, root: string, timing: Timing, vm: number, weighing: Weighing): WeighedWarm {
  const { index, policy, input } = weighing;
  const vmView = index.vms[vm]!;
  const { owner, instances, usedShare, quota } = askOf(task, input);
  const sparedMs = index.view.clusters[weighing.cluster]!.sparedMs?.[task.task] ?? 0;
  const warmUntilMs = vmView.warmUntilMs?.[task.task] ?? input.nowMs + WARM_TRUSTED_MS;
  const trustedMs = Math.min(WARM_TRUSTED_MS, warmUntilMs - input.nowMs);
  const isThere = sparedMs === 0 && (vmView.warm[task.task] ?? 0) >= instances.length && timing.leadP90Ms <= trustedMs;
  if (isThere) skip(weighing, "warm", task, () => `already warm on ${vmView.vm}`);
  const startMs = task.startMs * PREPARE_MARGIN;
  const idlePerMs = ((task.memoryBytes / BYTES_PER_GB) * weighing.msPerGbSecond) / 1000;
  const latePerMs = task.probability * task.latencyWeight * task.latencySensitivity;
  const readyByMs =
    sparedMs > 0 ? surelyBeforeOf(task, timing.lead) : earliestOf(timing.lead, lateShareOf(idlePerMs, latePerMs));
  const heir = heirOf(task, readyByMs - startMs, weighing);
  if (heir !== null) {
    if (isThere) return { isPrepared: true, hidden: null };
    skip(weighing, "warm", task, () => `left to ${heir}, which begins before this would have to`);
    return NOTHING;
  }
  // A head start shorter than the cold start hides only that much of it.
  const shownMs = Math.min(task.coldStartMs, Math.max(timing.leadP50Ms, 1));
  const savedMs = shownMs * task.latencyWeight * task.latencySensitivity;
  const end = endOf(task, timing, policy.holdMs, idlePerMs, savedMs + sparedMs * idlePerMs);
  const wasteMs = (task.coldStartMs + end.heldMs) * idlePerMs;
  const idleMs = Math.max(0, timing.leadP50Ms - Math.max(readyByMs, task.coldStartMs)) * idlePerMs;
  let planned = 0;
  for (const share of instances) {
    // What is prepared beyond the need is not used, and says nothing of whether the task comes.
    const foretold = task.probability * share * usedShare;
    const believed = input.adjustments?.gate?.probability(root, task.task, foretold) ?? foretold;
    // The gate may believe more than was foretold: what is needed is no surer than certain.
    const probability = Math.min(1, believed / usedShare);
    const netMs = probability * (savedMs + sparedMs * idlePerMs) - (1 - probability) * wasteMs - idleMs;
    if (netMs <= 0 || probability < ACT_FLOOR) {
      if (isThere) break;
      // Further ones are less likely still: one line tells it.
      const which = planned > 0 ? `instance ${planned + 1}: ` : "";
      const reason = () => which + belowGate(probability, savedMs, wasteMs, idleMs);
      skip(weighing, "warm", { ...task, probability }, reason, savedMs);
      break;
    }
    const number = planned === 0 ? "" : ` #${planned}`;
    planned++;
    if (isThere) continue;
    weighing.weighed.push({
      netMs,
      command: {
        notBeforeMs: Math.round(input.nowMs + Math.max(0, readyByMs - startMs)),
        deadlineMs: Math.round(input.nowMs + timing.leadP10Ms),
        expiresMs: Math.round(input.nowMs + Math.max(end.untilMs, startMs)),
        commandId: input.newId(),
        key: `warm ${task.task}@${task.version ?? ""}${owner === null ? "" : ` of ${owner}`}${number}`,
        vm: vmView.vm,
        kind: "warm",
        task: task.task,
        version: task.version,
        uri: null,
        bytes: null,
        probability,
        foretold,
        savedMs,
        ...(quota === null ? {} : { quota }),
      },
    });
  }
  const isPrepared = planned > 0 || isThere;
  if (planned === instances.length || (planned > 0 && sparedMs > 0)) {
    const { probability, covered } = partOf(task, instances, planned);
    const hidden = hiddenOf(task, probability, timing, readyByMs, end.heldMs);
    return { isPrepared, hidden: { ...hidden, ...covered, isSent: true } };
  }
  // What relies on preparations and has none is not hidden.
  return sparedMs > 0 ? NOTHING : { isPrepared, hidden: couldHide(task, instances, timing, end.heldMs) };
}

/** What preparations would hide if holds gave way to them: of those instances that cost no more than the usual keep-alive. */
function couldHide(task: TaskDemand, instances: number[], timing: Timing, heldMs: number): Hidden | null {
  const earliestMs = surelyBeforeOf(task, timing.lead);
  const worthwhile = instances.filter((share) => {
    const alone = task.probability * share;
    return alone >= ACT_FLOOR && hiddenOf(task, alone, timing, earliestMs, heldMs).heldMs <= KEEP_ALIVE_USUAL_MS;
  });
  if (worthwhile.length === 0) return null;
  const { probability, covered } = partOf(task, instances, worthwhile.length);
  return { ...hiddenOf(task, probability, timing, earliestMs, heldMs), ...covered };
}

/** The first instances of a fan-out alone: as likely to be used as they are on average, and which share of the calls they are for. */
function partOf(
  task: TaskDemand,
  instances: number[],
  count: number,
): { probability: number; covered: { covered?: number } } {
  const sum = (shares: number[]) => shares.reduce((total, share) => total + share, 0);
  const part = sum(instances.slice(0, count));
  const covered = count < instances.length ? { covered: part / sum(instances) } : {};
  return { probability: task.probability * (part / count), covered };
}

/** `probability`: that the preparation is used. `heldMs`: how long a runtime that nobody comes to use is held. */
function hiddenOf(
  task: TaskDemand,
  probability: number,
  timing: Timing,
  readyByMs: number,
  heldMs: number,
): Hidden & { heldMs: number } {
  const { leadP10Ms, leadP50Ms, leadP90Ms, lead } = timing;
  const beginMs = Math.max(0, readyByMs - task.startMs * PREPARE_MARGIN);
  const headOf = (leadMs: number) => Math.max(0, leadMs - beginMs);
  const meanMs = MEAN_WEIGHTS.p10 * leadP10Ms + MEAN_WEIGHTS.p50 * leadP50Ms + MEAN_WEIGHTS.p90 * leadP90Ms;
  const idleMs = Math.max(0, meanMs - Math.max(readyByMs, task.coldStartMs));
  // What is held needs no start: its CPU is worth as much memory for so long.
  const startMs = task.coldStartMs * (1 + (GB_SECONDS_PER_CPU_SECOND * BYTES_PER_GB) / task.memoryBytes);
  return {
    headMs: { p10: headOf(leadP10Ms), p50: headOf(leadP50Ms), p90: headOf(leadP90Ms) },
    surelyMs: Math.max(0, lead.p10 - beginMs),
    heldMs: neededShareOf(task) * (idleMs + startMs + (1 / probability - 1) * (startMs + heldMs)),
  };
}

function ownerOf(task: TaskDemand, { branch, runId }: Weighing["input"]): string | null {
  const isWholeRuns = task.perRun !== null && task.perRun <= ONCE_PER_RUN_MAX;
  const own = isWholeRuns ? null : joined(branch, task.way?.joins ?? 0);
  return own ?? (task.durationMs > SHARED_MAX_MS ? runId : null);
}

/**
 * When it should be ready: being early costs memory, being late costs waiting, so it should be late with a probability of
 * idle ÷ (idle + late), costs per ms (the newsvendor's quantile).
 */
function lateShareOf(idlePerMs: number, latePerMs: number): number {
  return Math.min(LATE_MAX, Math.max(LATE_MIN, idlePerMs / (idlePerMs + latePerMs)));
}

/** What relies on a preparation: the task has hardly ever come sooner, and not as soon as what has not been seen yet may come. */
function surelyBeforeOf(task: TaskDemand, lead: Lead): number {
  return Math.min(SURELY_BEFORE_SHARE * lead.p10, earliestSeenOf(task, lead));
}

/** Its tail is the last step's own, in the width of the lead time. */
function earliestSeenOf(task: TaskDemand, lead: Lead): number {
  const last = task.way?.tasks.length === 2 ? (task.way.lastLeadMs ?? null) : null;
  const earliestMs = earliestOf(lead, LATE_MIN);
  if (last === null || last.p01 <= 0 || last.p90 <= last.p10 || lead.p10 <= 0) return earliestMs;
  const width = Math.log(lead.p90 / lead.p10) / Math.log(last.p90 / last.p10);
  return Math.max(earliestMs, lead.p10 * (last.p01 / last.p10) ** Math.min(1, width));
}

/** The quantile of the lead time, taken as log-normal through p10, p50 and p90. */
function earliestOf(lead: Lead, late: number): number {
  if (lead.p10 <= 0 || lead.p50 <= 0) return 0;
  const spread = Math.log(lead.p90 / lead.p10) / (2 * NORMAL_P90);
  return lead.p50 * Math.exp(spread * normalQuantile(late));
}

/** Of the standard normal distribution, for shares up to a half. [Abramowitz and Stegun, 26.2.23; error below 5e-4] */
function normalQuantile(share: number): number {
  const t = Math.sqrt(-2 * Math.log(share));
  const above = 2.515517 + t * (0.802853 + t * 0.010328);
  return above / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308))) - t;
}

/**
 * Until when it is held: past the p90 lead time, and so far into its tail as those who come so late are worth it. `heldMs`: how long that is
 * where nobody comes.
 */
function endOf(
  task: TaskDemand,
  { leadP10Ms, leadP50Ms, leadP90Ms, lead }: Timing,
  holdMsMax: number,
  idlePerMs: number,
  worthMs: number,
): { untilMs: number; heldMs: number } {
  const usualMs = leadP90Ms + Math.min(holdMsMax, HOLD_MIN_MS + leadP90Ms);
  const spread = leadP50Ms > 0 ? Math.log(leadP90Ms / leadP50Ms) / NORMAL_P90 : 0;
  const notYet = 1 - 0.9 * task.probability;
  let untilMs = usualMs;
  // The next step's own tail is known better than any curve through p90.
  const mostMs = task.way?.tasks.length === 2 ? (task.way.mostLeadMs ?? 0) + leadP50Ms - lead.p50 : 0;
  for (const { share, normal, p90s } of LATER_ENDS) {
    const laterMs = Math.max(leadP50Ms * Math.exp(spread * normal), p90s * leadP90Ms, mostMs);
    if (task.probability * (share - 0.9) * worthMs <= notYet * (laterMs - usualMs) * idlePerMs) continue;
    untilMs = Math.max(usualMs, laterMs);
    break;
  }
  return { untilMs, heldMs: Math.max(0, untilMs - Math.max(leadP10Ms, task.coldStartMs)) };
}

interface Ask {
  /** Whose the preparations are, as a part of their commands' keys; null: any run's that has the same in view. */
  owner: string | null;
  /** For each instance that may be needed at once the share of the cases in which it is; never empty. */
  instances: number[];
  /** Of the runtimes that all ask for, the share that is needed as a rule (0–1). */
  usedShare: number;
  /** Other executions of the run ask as well, and not each needs one; null: it is the only one that asks. */
  quota: Quota | null;
}

function askOf(task: TaskDemand, input: Weighing["input"]): Ask {
  const { way, perRun } = task;
  const owner = ownerOf(task, input);
  const isAfterJoin = owner === input.runId && way !== null && way.joins > 0 && perRun !== null;
  if (!isAfterJoin) {
    const instances = instancesOf(task);
    const isShared = owner !== null && instances.length === 1 && neededShareOf(task) < 1;
    if (!isShared) return { owner, instances, usedShare: 1, quota: null };
    return { owner, instances, usedShare: 1 / marginOf(task), quota: quotaOf(task, 1) };
  }
  const each = meanOf(way.fanOut) * way.factor;
  if (input.branch === null || each >= 1 || perRun <= ONCE_PER_RUN_MAX || task.perRunSpread < VARIES_MIN) {
    // All that a run has, whichever execution foretells it.
    const count = Math.min(INSTANCES_MAX, Math.max(1, Math.round(mostOf(task, perRun))));
    return { owner, instances: new Array<number>(count).fill(1), usedShare: 1, quota: null };
  }
  // Larger runs have more of it: each execution before the join asks for its part.
  return { owner: `${input.branch} after the join`, instances: [1], usedShare: 1, quota: quotaOf(task, each) };
}

function instancesOf(task: TaskDemand): number[] {
  const { way } = task;
  if (way === null || way.fanOut === null) return [1];
  const shares: number[] = [];
  for (const { count, share } of way.fanOut) {
    const wanted = Math.min(INSTANCES_MAX, Math.max(1, Math.round(mostOf(task, count * way.factor))));
    while (shares.length < wanted) shares.push(0);
    for (let i = 0; i < wanted; i++) shares[i]! += share;
  }
  return shares.length === 0 ? [1] : shares;
}

/** Of so many executions of a run so many need a runtime of their own, and some more as runs differ. */
function mostOf(task: TaskDemand, executions: number): number {
  const { perRun } = task;
  if (perRun === null || perRun <= ONCE_PER_RUN_MAX) return executions;
  const { first, power } = quotaOf(task, 1);
  return Math.min(executions, first * executions ** power);
}

function marginOf({ atOnce }: TaskDemand): number {
  return atOnce === null ? 1 : 2 ** (MORE_DEVIATIONS * atOnce.spread);
}

/** The share of its executions that need a runtime of their own, in a usual run (0–1). */
function neededShareOf(task: TaskDemand): number {
  return task.perRun === null ? 1 : mostOf(task, task.perRun) / task.perRun;
}

/** Where each ask is for so many executions. */
function quotaOf(task: TaskDemand, each: number): Quota {
  const { atOnce } = task;
  if (atOnce === null) return { first: each, power: 1 };
  return { first: atOnce.first * each ** atOnce.power * marginOf(task), power: atOnce.power };
}

/** The later task on the way that begins before the preparation would have to, or long enough before the task, and can be left to make it. */
function heirOf(task: TaskDemand, beginMs: number, weighing: Weighing): string | null {
  const { tasks, leastLeadsMs } = task.way ?? { tasks: [], leastLeadsMs: [] };
  let leastMs = 0;
  for (let at = tasks.length - 2; at > 0; at--) {
    leastMs += leastLeadsMs[at + 1]!;
    const other = weighing.later.get(tasks[at]!);
    if (other === undefined || other.lead === null || other.task === task.task) continue;
    const isBefore = other.lead.p90 <= beginMs || leastMs >= LEAVE_MIN_STARTS * task.slowStartMs;
    if (isBefore && other.probability >= LEAVE_MIN_SHARE * task.probability) return other.task;
  }
  return null;
}

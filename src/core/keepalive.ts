// How long a runtime is held after use, learned per task. In: each call of a task with what a warm runtime saves it beyond what
// prewarming hides, and each release. Out: a hold, ms.
//
// Idle times are observed as if everything were held for RANGE: a stack of releases, of which each call takes the newest. So the cost
// of every hold is known whatever was done, and nothing has to be tried out on users. Per bin of idle time: how many runtimes came
// to it (at risk), how many were called in it, what that saved, and how many of these calls would have waited.
//
// Four policies compete by exponential weights on their realised cost (fixed share, so that a change is followed):
//   none        chain prewarming alone
//   fixed       the operator's keep-alive
//   histogram   the hold of least expected cost over the bins (survival estimate of Kaplan and Meier 1958)
//   keep-warm   RANGE: for tasks whose lead time is shorter than their start
// The contest begins when the histogram has seen enough to have a say, and nothing is held for longer than the task has been watched, save by the operator's
// word: who has been watched for a minute says nothing of hours.
// Cost = ms waited + price × GB·s held (price.ts). Whoever found a warm runtime under the operator's keep-alive is not made to wait:
// a shorter hold is taken only where next to no call would notice.
// State is plain JSON, so that it can be stored, exported and reset; when it is frozen, holds stay as they are.
// Sources: M. Herbster, M. Warmuth, "Tracking the best expert" (1998); M. Shahrad et al., "Serverless in the Wild" (ATC 2020).
import {
  BIN_ENDS_MS,
  BINS,
  HOLD_POLICIES,
  type HoldPolicy,
  type KeepAliveState,
  newState,
  RANGE_MS,
  RELEASES_MAX,
  restored,
  scale,
  stored,
  type TaskState,
} from "./keepalive-state.ts";
import type { CallWait } from "./planned.ts";
import { MemoryPrice } from "./price.ts";
import { remember } from "./remember.ts";

/** Tasks remembered; beyond, the one met first gives way. */
const TASKS_MAX = 8_192;
/** Before so many runtimes were seen idle, the operator's keep-alive stands. */
const EVIDENCE_MIN = 10;
/** At so many the counts are halved: the last few hundred count … */
const EVIDENCE_HALVED_AT = 1_024;
/** … but of a wide step that nothing hides, first tasks above all, so many of its runs: else two of them would decide for the hundredth. */
const WAVES_HALVED_AT = 128;
/** Nothing hides a step when this share of its calls would wait. */
const EXPOSED_MIN = 0.9;
/** Calls after longer idle times than the operator's keep-alive before a longer hold is believed to pay: one or two may be chance. */
const LONG_CALLS_MIN = 3;
/** Share of calls that a hold shorter than the operator's may make wait: a run has dozens of them, and at most one run in a hundred may notice. */
const HARM_MAX = 0.0001;
/** A wait counts at least so much, however rarely it reached the end of a run: whoever is late is on the critical path more often. */
const HARM_SENSITIVITY_MIN = 0.1;
/** A wait below this is none, ms. */
const HARM_MS = 1;
/** Learning rate of the weights per unit of cost, relative to the mean cost of a bin of one idle time. */
const RATE = 0.1;
/** So many idle runtimes of one task at once are each a piece of evidence; more are no more of it together. */
const ALIKE_RELEASES = 8;
/** Share of the weight that is spread evenly at each step: the best may change. */
const SPREAD = 0.01;

const HISTOGRAM = HOLD_POLICIES.indexOf("histogram");
const KEEP_WARM = HOLD_POLICIES.indexOf("keep-warm");
/** Weights within this factor, as a logarithm, are alike. */
const ALIKE_LN = Math.LN2;

export interface KeepAliveOptions {
  /** The operator's dial. */
  msPerGbSecond: number;
  /** The operator's keep-alive, ms: of all tasks, or of each. */
  fixedMs: number | ((task: string) => number);
}

/** What was learned of one task, for people. */
export interface LearnedHold {
  task: string;
  policy: HoldPolicy;
  holdMs: number;
  weights: Record<HoldPolicy, number>;
}

export class KeepAlive {
  /** Of memory, while holds and preparations are weighed. */
  readonly price: MemoryPrice;
  readonly #options: KeepAliveOptions;
  readonly #tasks: Map<string, TaskState>;

  /** `state` from `state()`; absent: nothing is known yet. */
  constructor(options: KeepAliveOptions, state?: KeepAliveState) {
    this.#options = options;
    this.price = new MemoryPrice(options.msPerGbSecond, state?.price);
    this.frozen = state?.frozen ?? false;
    this.#tasks = new Map(Object.entries(state?.tasks ?? {}).map(([task, stored]) => [task, restored(stored)]));
  }

  /** Together with the price: it is told of preparations by whoever sees them end. */
  get frozen(): boolean {
    return this.price.frozen;
  }

  set frozen(frozen: boolean) {
    this.price.frozen = frozen;
  }

  /**
   * An execution of the task began. Without a warm runtime it would wait `expectedMs`, and `atMostMs` should prewarming have little
   * time (0: it hides the whole start); the share `sensitivity` (0–1) of a wait delays the run. `covers`: told the bin of its idle time, whether
   * the run was given enough preparations for a shorter hold (quotas.ts); null: `wait` says it all.
   */
  called(
    task: string,
    nowMs: number,
    wait: CallWait,
    sensitivity: number,
    gb: number,
    covers: (bin: number) => boolean | null = () => null,
  ): void {
    if (this.frozen) return;
    const state = this.#stateOf(task, nowMs, gb);
    this.#age(state, nowMs);
    state.calls++;
    const releasedMs = state.releasesMs.pop();
    state.calledBin = releasedMs === undefined ? null : binOf(nowMs - releasedMs);
    const harm = waitingOf(wait, covers(state.calledBin ?? BINS)) * Math.max(sensitivity, HARM_SENSITIVITY_MIN);
    state.waiting += harm;
    if (releasedMs === undefined) return;
    for (let bin = 0; bin < BINS; bin++) {
      if (state.passed[bin]! > state.releasesMs.length) state.passed[bin] = state.releasesMs.length;
    }
    const idleMs = nowMs - releasedMs;
    const bin = binOf(idleMs);
    const savableMs = wait.expectedMs * sensitivity;
    state.atRisk[bin]!++;
    state.called[bin]!++;
    const keptMs = wait.heldMs ?? 0;
    state.savedMs[bin]! += savableMs;
    state.keptMs[bin]! += keptMs;
    state.harmed[bin]! += harm;
    this.#charge(state, bin, idleMs - (BIN_ENDS_MS[bin - 1] ?? 0), savableMs, keptMs, idleMs, nowMs);
    if (++state.seen >= halvedAt(state)) scale(state, 0.5);
    this.#decide(state);
  }

  /** The task's last call waited for a runtime although one should have been prepared: that a longer hold would have helped. */
  missed(task: string, sensitivity: number): void {
    const state = this.#tasks.get(task);
    if (this.frozen || state === undefined || state.holdMs >= state.fixedMs) return;
    const harm = Math.max(sensitivity, HARM_SENSITIVITY_MIN);
    state.waiting += harm;
    if (state.calledBin !== null) state.harmed[state.calledBin]! += harm;
  }

  /** A runtime of the task became idle. */
  released(task: string, nowMs: number, gb: number): void {
    if (this.frozen) return;
    const state = this.#stateOf(task, nowMs, gb);
    this.#age(state, nowMs);
    state.releasesMs.push(nowMs);
    state.widest = Math.max(state.widest, state.releasesMs.length);
    if (state.releasesMs.length > RELEASES_MAX) this.#forgetOldest(state);
  }

  /** How long a runtime that just became idle is held, ms. */
  holdMs(task: string): number {
    return this.#tasks.get(task)?.holdMs ?? this.#fixedMs(task);
  }

  /**
   * The operator's keep-alive, ms, of tasks that are held for less: what plans may spend instead. All of it, however much is still held: a plan that
   * could spend only what is spared so far would prepare nothing, calls would wait, and the hold would grow again.
   */
  spared(): Record<string, number> {
    const spared: Record<string, number> = {};
    for (const [task, { fixedMs, holdMs }] of this.#tasks) if (holdMs < fixedMs) spared[task] = fixedMs;
    return spared;
  }

  learned(): LearnedHold[] {
    return [...this.#tasks].map(([task, state]) => {
      const weights = weightsOf(state);
      const best = bestOf(state);
      return {
        task,
        policy: HOLD_POLICIES[best]!,
        holdMs: state.holdMs,
        weights: Object.fromEntries(HOLD_POLICIES.map((policy, p) => [policy, weights[p]!])) as LearnedHold["weights"],
      };
    });
  }

  /** After a change: of all evidence this share (0–1) is kept. */
  fade(kept: number): void {
    if (this.frozen) return;
    for (const state of this.#tasks.values()) {
      scale(state, kept);
      state.sinceMs = state.untilMs - kept * (state.untilMs - state.sinceMs);
    }
  }

  /** Of one task, or of all. */
  reset(task?: string): void {
    if (task === undefined) this.#tasks.clear();
    else this.#tasks.delete(task);
  }

  state(): KeepAliveState {
    return {
      frozen: this.frozen,
      price: this.price.state(),
      tasks: Object.fromEntries([...this.#tasks].map(([task, state]) => [task, stored(state)])),
    };
  }

  #stateOf(task: string, nowMs: number, gb: number): TaskState {
    let state = this.#tasks.get(task);
    const fixedMs = this.#fixedMs(task);
    if (state === undefined) {
      state = newState(gb, fixedMs, nowMs);
      remember(this.#tasks, task, state, TASKS_MAX);
    }
    state.gb = gb;
    state.fixedMs = fixedMs;
    state.untilMs = Math.max(state.untilMs, nowMs);
    return state;
  }

  #fixedMs(task: string): number {
    const { fixedMs } = this.#options;
    return typeof fixedMs === "number" ? fixedMs : fixedMs(task);
  }

  /** Counts what has passed the end of a bin without being called. Releases are in order, so each bin keeps one mark. */
  #age(state: TaskState, nowMs: number): void {
    const { releasesMs, passed } = state;
    for (let bin = 0; bin < BINS; bin++) {
      const endMs = BIN_ENDS_MS[bin]!;
      let mark = passed[bin]!;
      const before = mark;
      while (mark < releasesMs.length && nowMs - releasesMs[mark]! >= endMs) mark++;
      if (mark === before) break; // What has not passed this end has passed no later one.
      passed[bin] = mark;
      const count = mark - before;
      state.atRisk[bin]! += count;
      state.seen += bin === 0 ? count : 0;
      const widthMs = endMs - (BIN_ENDS_MS[bin - 1] ?? 0);
      for (let i = 0; i < count; i++) this.#charge(state, bin, widthMs, 0, 0, null, nowMs);
    }
    while (passed[BINS - 1]! > 0) this.#forgetOldest(state);
  }

  #forgetOldest(state: TaskState): void {
    state.releasesMs.shift();
    for (let bin = 0; bin < BINS; bin++) if (state.passed[bin]! > 0) state.passed[bin]!--;
  }

  /**
   * One runtime spent `spentMs` of a bin idle; `idleMs`: then it was called, which a warm runtime saves `savableMs`. Every policy
   * pays for what it would have held, and for the wait where it would not have held.
   */
  #charge(
    state: TaskState,
    bin: number,
    spentMs: number,
    savableMs: number,
    keptMs: number,
    idleMs: number | null,
    nowMs: number,
  ): void {
    state.spentMs[bin]! += spentMs;
    const fromMs = BIN_ENDS_MS[bin - 1] ?? 0;
    const msPerMs = (state.gb * this.price.msPerGbSecond) / 1000;
    const heldUpTo = (holdMs: number) => Math.max(0, Math.min(spentMs, holdMs - fromMs));
    this.price.held(state.gb * heldUpTo(state.fixedMs), state.gb * heldUpTo(state.holdMs), nowMs);
    if (!isEnough(state)) return;
    const { logWeights } = state;
    // What is idle at once is one piece of evidence, not as many as there are.
    const rate = RATE / Math.max(1, state.releasesMs.length / ALIKE_RELEASES);
    let most = Number.NEGATIVE_INFINITY;
    let costs = 0;
    for (let p = 0; p < logWeights.length; p++) {
      const holdMs = this.#holdOf(p, state);
      const costMs =
        heldUpTo(holdMs) * msPerMs + (idleMs !== null && idleMs > holdMs ? savableMs + keptMs * msPerMs : 0);
      costs += costMs;
      logWeights[p]! -= state.meanCostMs > 0 ? (rate * costMs) / state.meanCostMs : 0;
      if (logWeights[p]! > most) most = logWeights[p]!;
    }
    state.meanCostMs += (costs / logWeights.length - state.meanCostMs) * 0.01;
    let sum = 0;
    for (let p = 0; p < logWeights.length; p++) {
      logWeights[p] = Math.exp(logWeights[p]! - most);
      sum += logWeights[p]!;
    }
    const floor = SPREAD / logWeights.length;
    for (let p = 0; p < logWeights.length; p++) {
      logWeights[p] = Math.log(((1 - SPREAD) * logWeights[p]!) / sum + floor);
    }
  }

  #holdOf(policy: number, state: TaskState): number {
    switch (HOLD_POLICIES[policy]) {
      case "fixed":
        return state.fixedMs;
      case "histogram":
        return state.histogramMs;
      case "keep-warm":
        return RANGE_MS;
      default:
        return 0;
    }
  }

  #decide(state: TaskState): void {
    if (!isEnough(state)) return;
    state.histogramMs = this.#cheapest(state);
    const { fixedMs } = state;
    const holdMs = this.#holdOf(bestOf(state), state);
    state.holdMs = holdMs > fixedMs ? Math.min(holdMs, longestOf(state)) : Math.max(holdMs, this.#harmless(state));
  }

  /** The bin's end up to which holding costs least, by the survival estimate. */
  #cheapest(state: TaskState): number {
    const msPerMs = (state.gb * this.price.msPerGbSecond) / 1000;
    let survival = 1;
    let netMs = 0;
    let bestMs = 0;
    let holdMs = 0;
    for (let bin = 0; bin < BINS; bin++) {
      const atRisk = state.atRisk[bin]!;
      if (atRisk === 0) break;
      const rate = state.called[bin]! / atRisk;
      netMs += (survival * (state.savedMs[bin]! + (state.keptMs[bin]! - state.spentMs[bin]!) * msPerMs)) / atRisk;
      survival *= 1 - rate;
      if (netMs > bestMs) [bestMs, holdMs] = [netMs, BIN_ENDS_MS[bin]!];
    }
    return holdMs;
  }

  /** The shortest hold, up to the operator's, that lets next to nobody wait who would have found a warm runtime. */
  #harmless(state: TaskState): number {
    const calls = Math.max(1, state.calls);
    let harmed = 0;
    // Beside those seen one more call, as likely to wait as any: what is rare has often not been seen yet.
    const waiting = state.waiting / calls;
    let called = 0;
    for (let bin = BINS - 1; bin >= 0; bin--) {
      const fromMs = BIN_ENDS_MS[bin - 1] ?? 0;
      if (fromMs >= state.fixedMs) continue;
      harmed += state.harmed[bin]!;
      called += state.called[bin]!;
      const expected = Math.max(1, called) * ((harmed + waiting) / (called + 1));
      if (expected > HARM_MAX * calls) return Math.min(BIN_ENDS_MS[bin]!, state.fixedMs);
    }
    return 0;
  }
}

/** What has been prepared since is soon to be believed: only what waits all the time is remembered by runs. */
function halvedAt({ waiting, calls, widest }: TaskState): number {
  const isExposed = waiting >= EXPOSED_MIN * HARM_SENSITIVITY_MIN * calls;
  return isExposed ? Math.max(EVIDENCE_HALVED_AT, WAVES_HALVED_AT * widest) : EVIDENCE_HALVED_AT;
}

/** What is idle at once is one piece of evidence, or a few: a wide step has to be seen more often than once. */
function isEnough({ seen, widest }: TaskState): boolean {
  const wanted = EVIDENCE_MIN * Math.max(1, widest / ALIKE_RELEASES);
  return seen >= Math.min(wanted, EVIDENCE_HALVED_AT / 2);
}

/** Share of the call that waits where no runtime is held (0–1). */
function waitingOf({ atMostMs, exposed = 0 }: CallWait, isCovered: boolean | null): number {
  if (atMostMs > HARM_MS) return 1;
  return isCovered === null ? exposed : Number(!isCovered);
}

function binOf(idleMs: number): number {
  let bin = 0;
  while (bin < BINS - 1 && idleMs >= BIN_ENDS_MS[bin]!) bin++;
  return bin;
}

function bestOf({ logWeights }: TaskState): number {
  let best = 0;
  for (let p = 1; p < logWeights.length; p++) if (logWeights[p]! > logWeights[best]!) best = p;
  // While calls keep coming both hold alike; when they stop, keep-warm pays for hours of nothing before its weight tells.
  const isAlike = logWeights[best]! - logWeights[HISTOGRAM]! <= ALIKE_LN;
  return best === KEEP_WARM && isAlike ? HISTOGRAM : best;
}

/** Longer than the operator's keep-alive only where that has been needed, and for no longer than the task has been watched. */
function longestOf({ fixedMs, sinceMs, untilMs, called }: TaskState): number {
  const longCalls = called.reduce((sum, count, bin) => sum + (BIN_ENDS_MS[bin]! > fixedMs ? count : 0), 0);
  return longCalls < LONG_CALLS_MIN ? fixedMs : Math.max(fixedMs, untilMs - sinceMs);
}

function weightsOf(state: TaskState): Float64Array {
  const sum = state.logWeights.reduce((total, log) => total + Math.exp(log), 0);
  return state.logWeights.map((log) => Math.exp(log) / sum);
}

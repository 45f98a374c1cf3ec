// Cold starts within a run. In: its executions with triggers, callers and times. Out: for each, how much of its start, its end and its duration is
// cold starts: its own, and those of what it waited for. Taken out of the times they leave those of the same run with everything warm, whatever was
// cold; so durations, delays and lead times do not move when preparations make starts warm.
//   · an execution's own cold start comes before its work
//   · what others trigger starts as long after the last of them as the log shows
//   · a caller goes on as long after the last of its callees as the log shows; a callee that ends after its caller was not waited for
// The simulator replays runs by the same rules. It is a walk along the longest way with and without the starts, not a sum: of cold starts side by side
// the longest counts, and beside a longer warm callee only what it has more.
import type { AssembledExecution } from "../profile.ts";

/** With everything warm, ms since the epoch; NaN where unknown. */
export function warmStartOf({ startMs, coldBeforeStartMs }: AssembledExecution): number {
  return startMs - coldBeforeStartMs;
}

export function warmEndOf({ endMs, coldBeforeEndMs }: AssembledExecution): number {
  return endMs - coldBeforeEndMs;
}

/** Sets `coldBeforeStartMs`, `coldBeforeEndMs` and `coldWithinMs`, which are 0. Where no cold start is told all of them stay so. */
export function addColdTimes(executions: AssembledExecution[]): void {
  if (executions.some(({ coldStartMs, coldRetriesMs }) => (coldStartMs ?? 0) > 0 || coldRetriesMs > 0)) {
    new ColdWalk(executions).walk();
  }
}

class ColdWalk {
  readonly #executions: AssembledExecution[];
  /** Since the run's first, so that sums keep their digits. No start is before those of its triggers, whatever the clocks say. */
  readonly #startMs: Float64Array;
  readonly #endMs: Float64Array;
  /** Of the last attempt. */
  readonly #beganMs: Float64Array;
  /** When the last of the callees so far returned, and when the last of them would have with everything warm. */
  readonly #returnedMs: Float64Array;
  readonly #warmReturnedMs: Float64Array;

  constructor(executions: AssembledExecution[]) {
    const count = executions.length;
    let originMs = Number.POSITIVE_INFINITY;
    for (const { startMs } of executions) if (startMs < originMs) originMs = startMs; // not min: an unknown start is NaN
    this.#executions = executions;
    this.#startMs = new Float64Array(count);
    this.#endMs = new Float64Array(count);
    this.#beganMs = new Float64Array(count);
    this.#returnedMs = new Float64Array(count).fill(Number.NEGATIVE_INFINITY);
    this.#warmReturnedMs = new Float64Array(count).fill(Number.NEGATIVE_INFINITY);
    for (const [i, { startMs, endMs, triggers, caller, retries, record }] of executions.entries()) {
      let fromMs = Number.isNaN(startMs) ? 0 : startMs - originMs;
      for (const trigger of triggers) fromMs = Math.max(fromMs, this.#startMs[trigger]!);
      const untilMs = Math.max(fromMs, endMs - originMs);
      const lastMs = retries > 0 && record.startMs !== null ? record.startMs - originMs : fromMs;
      this.#startMs[i] = fromMs;
      this.#endMs[i] = untilMs;
      this.#beganMs[i] = lastMs > fromMs && lastMs <= untilMs ? lastMs : fromMs;
      // It was there when its caller went on.
      const callerEndMs = this.#endMs[caller] ?? untilMs;
      if (callerEndMs < untilMs) this.#endMs[i] = Math.max(fromMs, callerEndMs);
    }
  }

  /** Every instant at which something starts or ends, in order: what it depends on has come before it. */
  walk(): void {
    const instants: Instant[] = [];
    for (let i = 0; i < this.#executions.length; i++) {
      const [startMs, endMs] = [this.#startMs[i]!, this.#endMs[i]!];
      const isInstantaneous = endMs === startMs;
      instants.push({ atMs: startMs, execution: i, isEnd: false, isInstantaneous });
      // Not where its end is unknown.
      if (endMs >= startMs) instants.push({ atMs: endMs, execution: i, isEnd: true, isInstantaneous });
    }
    for (const { execution, isEnd } of instants.sort(byInstant)) {
      if (isEnd) this.#end(execution);
      else this.#executions[execution]!.coldBeforeStartMs = this.#coldBeforeStart(execution);
    }
  }

  #coldBeforeStart(i: number): number {
    const { triggers } = this.#executions[i]!;
    const startMs = this.#startMs[i]!;
    let lastMs = Number.NEGATIVE_INFINITY;
    let lastWarmMs = Number.NEGATIVE_INFINITY;
    for (const trigger of triggers) {
      const hasEnded = startMs >= this.#endMs[trigger]!;
      const coldMs = hasEnded ? this.#executions[trigger]!.coldBeforeEndMs : this.#coldUntil(trigger, startMs);
      const atMs = hasEnded ? this.#endMs[trigger]! : this.#wentOnMs(trigger);
      lastMs = Math.max(lastMs, atMs);
      lastWarmMs = Math.max(lastWarmMs, atMs - coldMs);
    }
    return triggers.length === 0 ? 0 : lastMs - lastWarmMs;
  }

  #end(i: number): void {
    const execution = this.#executions[i]!;
    const endMs = this.#endMs[i]!;
    const beforeMs = execution.coldBeforeStartMs + execution.coldRetriesMs;
    const hasCallees = this.#returnedMs[i]! > Number.NEGATIVE_INFINITY;
    const withinMs = hasCallees ? this.#coldUntil(i, endMs) - beforeMs : (execution.coldStartMs ?? 0);
    execution.coldWithinMs = Math.min(withinMs, endMs - this.#beganMs[i]!);
    execution.coldBeforeEndMs = beforeMs + execution.coldWithinMs;
    const { caller } = execution;
    if (caller < 0) return;
    this.#returnedMs[caller] = Math.max(this.#returnedMs[caller]!, endMs);
    this.#warmReturnedMs[caller] = Math.max(this.#warmReturnedMs[caller]!, endMs - execution.coldBeforeEndMs);
  }

  /** Cold starts before an instant at which the execution runs: its own, or what its callees so far returned later for theirs. */
  #coldUntil(i: number, atMs: number): number {
    const { coldBeforeStartMs, coldRetriesMs, coldStartMs } = this.#executions[i]!;
    const ownMs = Math.max(0, Math.min(coldStartMs ?? 0, atMs - this.#beganMs[i]!));
    const beforeMs = coldBeforeStartMs + coldRetriesMs + ownMs;
    const calleesMs = this.#returnedMs[i]! - this.#warmReturnedMs[i]!;
    return Number.isNaN(calleesMs) ? beforeMs : Math.max(beforeMs, calleesMs);
  }

  /** The last instant, so far, at which it waited for nothing any more. */
  #wentOnMs(i: number): number {
    return Math.max(this.#beganMs[i]! + (this.#executions[i]!.coldStartMs ?? 0), this.#returnedMs[i]!);
  }
}

interface Instant {
  atMs: number;
  execution: number;
  isEnd: boolean;
  /** The end of what took no time: after its own start, and so among the starts. */
  isInstantaneous: boolean;
}

/** At one instant ends come before starts, callees' before callers'; what starts later in the run's order depends on what starts sooner. */
function byInstant(a: Instant, b: Instant): number {
  if (a.atMs !== b.atMs) return a.atMs - b.atMs;
  const [aEnds, bEnds] = [a.isEnd && !a.isInstantaneous, b.isEnd && !b.isInstantaneous];
  if (aEnds !== bEnds) return aEnds ? -1 : 1;
  if (aEnds) return b.execution - a.execution;
  return a.execution - b.execution || Number(a.isEnd) - Number(b.isEnd);
}

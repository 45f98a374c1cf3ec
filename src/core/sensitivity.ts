// Latency sensitivity. In: an assembled run. Out: for each execution, how much of a delay of it reaches the end of the run.
// The slack of project planning (critical path method), with callers and joins as what waits.
// Times are those with everything warm: what started cold would seem to have more say than it has, and its like less.
import { warmEndOf } from "./profile/cold.ts";
import type { AssembledExecution, AssembledRun } from "./profile.ts";

/** The delay whose share that reaches the run's end is told as latency sensitivity, ms: a common cold start. */
const DELAY_REFERENCE_MS = 500;

/**
 * Thousandths of a delay of DELAY_REFERENCE_MS that reach the end of the run, per execution: what is left of it after the
 * slack. Slack is the least, over what waits for x, of the waiter's own slack and of the time x ends before the last one waited for:
 * sequence successors wait for all their triggers, and a caller waits for its callees.
 */
export function sensitivityOf(run: AssembledRun): Int32Array {
  const { executions } = run;
  const ends = Float64Array.from(executions, warmEndOf);
  let runEndMs = 0;
  for (const endMs of ends) if (endMs > runEndMs) runEndMs = endMs; // not max: an unknown end is NaN
  const waiters = waitersOf(run, ends);
  const slack = new Float64Array(executions.length).fill(Number.NaN);
  const isOpen = new Uint8Array(executions.length);
  const stack: number[] = [];
  for (let root = 0; root < executions.length; root++) {
    stack.push(root);
    while (stack.length > 0) {
      const at = stack.at(-1)!;
      if (!Number.isNaN(slack[at]!)) {
        stack.pop();
        continue;
      }
      const pending =
        isOpen[at] === 0 ? waiters[at]!.filter((w) => Number.isNaN(slack[w.by]!) && isOpen[w.by] === 0) : [];
      isOpen[at] = 1;
      if (pending.length > 0) {
        for (const { by } of pending) stack.push(by);
        continue;
      }
      stack.pop();
      const endMs = ends[at]!;
      let least = Number.isNaN(endMs) ? 0 : runEndMs - endMs;
      let isFree = true;
      for (const { by, gapMs } of waiters[at]!) {
        const bound = slack[by]! + gapMs;
        if (Number.isNaN(bound)) continue;
        least = isFree ? bound : Math.min(least, bound);
        isFree = false;
      }
      slack[at] = least;
    }
  }
  return Int32Array.from(slack, (ms) => Math.round(1000 * Math.max(0, Math.min(1, 1 - ms / DELAY_REFERENCE_MS))));
}

function waitersOf({ executions }: AssembledRun, ends: Float64Array): { by: number; gapMs: number }[][] {
  const waiters: { by: number; gapMs: number }[][] = executions.map(() => []);
  const lastCalleeEndMs = new Float64Array(executions.length);
  for (const [i, { caller }] of executions.entries()) {
    if (caller >= 0) lastCalleeEndMs[caller] = Math.max(lastCalleeEndMs[caller]!, ends[i]!);
  }
  for (const [i, execution] of executions.entries()) {
    const { caller, triggers } = execution;
    if (caller >= 0) waiters[i]!.push({ by: caller, gapMs: lastCalleeEndMs[caller]! - ends[i]! });
    const waitedFor = triggers.filter((_, t) => hasWaited(execution, t, executions));
    const lastEndMs = waitedFor.reduce((last, trigger) => Math.max(last, ends[trigger]!), Number.NEGATIVE_INFINITY);
    for (const trigger of waitedFor) waiters[trigger]!.push({ by: i, gapMs: lastEndMs - ends[trigger]! });
  }
  return waiters;
}

/** Not for a task that called it, nor for one that links lead to and that still ran. */
function hasWaited({ kinds, triggers, startMs }: AssembledExecution, t: number, executions: AssembledExecution[]) {
  return kinds[t] === "sequence" || (kinds[t] === "link" && !(startMs < executions[triggers[t]!]!.endMs));
}

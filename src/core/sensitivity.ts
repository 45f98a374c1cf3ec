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
 * sequence successors wait for all their triggers, and a caller waits for those of its callees that end within it.
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

function waitersOf(run: AssembledRun, ends: Float64Array): { by: number; gapMs: number }[][] {
  const { executions } = run;
  const waiters: { by: number; gapMs: number }[][] = executions.map(() => []);
  const lastChildEndMs = new Float64Array(executions.length);
  const isWaitedFor = (child: AssembledExecution) =>
    child.parent >= 0 && child.endMs <= executions[child.parent]!.endMs;
  for (const [i, child] of executions.entries()) {
    if (isWaitedFor(child)) lastChildEndMs[child.parent] = Math.max(lastChildEndMs[child.parent]!, ends[i]!);
  }
  for (const [i, execution] of executions.entries()) {
    if (isWaitedFor(execution)) {
      waiters[i]!.push({ by: execution.parent, gapMs: lastChildEndMs[execution.parent]! - ends[i]! });
    }
    let lastEndMs = Number.NEGATIVE_INFINITY;
    for (const [t, trigger] of execution.triggers.entries()) {
      if (execution.kinds[t] !== "call") lastEndMs = Math.max(lastEndMs, ends[trigger]!);
    }
    for (const [t, trigger] of execution.triggers.entries()) {
      if (execution.kinds[t] === "call") continue;
      waiters[trigger]!.push({ by: i, gapMs: lastEndMs - ends[trigger]! });
    }
  }
  return waiters;
}

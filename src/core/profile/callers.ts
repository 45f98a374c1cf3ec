// Callers. In: a run's executions in order, with parents, triggers and times. Out: for each the execution that waited for it, which then goes on as long
// after its last callee as the log shows.
import type { AssembledExecution } from "../profile.ts";

/** Callers outside one another that are looked through for the one that waits: bounds runs of links within links. */
const CALLERS_LOOKED_AT_MAX = 64;
/**
 * A callee that was waited for may end so much after its caller, ms: its record is closed after its answer, by a clock of its own. Of the callees
 * that end later at all, in AWS X-Ray and robot-shop all do so by less, or by more than a second.
 */
const RETURN_SKEW_MS = 5;

/**
 * Sets `caller`, which is -1: to the parent, if it waited; else, of the executions that links lead to, to the nearest within which it ran (a task that calls
 * with its own continuation, or with that of an answer). What ends later was not waited for. In the run's order callers come first, but where
 * clocks or circles confuse it.
 */
export function findCallers(executions: AssembledExecution[]): void {
  for (const [i, execution] of executions.entries()) {
    const { parent, kinds, triggers, pathTrigger } = execution;
    const isLinked = parent < 0 && kinds[triggers.indexOf(pathTrigger)] === "link";
    let caller = isLinked ? pathTrigger : parent;
    for (let looked = 0; caller >= 0 && looked < CALLERS_LOOKED_AT_MAX; looked++) {
      if (caller < i && isWithin(execution, executions[caller]!)) {
        execution.caller = caller;
        break;
      }
      caller = isLinked ? executions[caller]!.caller : -1;
    }
  }
}

function isWithin(callee: AssembledExecution, caller: AssembledExecution): boolean {
  return callee.startMs < caller.endMs && callee.endMs <= caller.endMs + RETURN_SKEW_MS;
}

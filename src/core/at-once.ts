// How many runtimes the executions of one task need in a run. In: an assembled run. Out: for each task that it executes more than once,
// most executions that ran at one time, and how many there were in all. Where they run one after the other, each finds the runtime that
// another has left: a hundred of a tenth of a second each, spread over a minute, need two or three.
import type { AssembledRun } from "./profile.ts";

export interface AtOnce {
  executions: number;
  most: number;
}

/** A task of which some time is unknown is left out. */
export function atOnceOf({ executions }: AssembledRun): Map<string, AtOnce> {
  const byTask = new Map<string, number[]>();
  for (const [i, { task }] of executions.entries()) {
    const of = byTask.get(task);
    if (of === undefined) byTask.set(task, [i]);
    else of.push(i);
  }
  const found = new Map<string, AtOnce>();
  for (const [task, of] of byTask) {
    if (of.length === 1) continue;
    const starts = Float64Array.from(of, (i) => executions[i]!.startMs).sort();
    const ends = Float64Array.from(of, (i) => executions[i]!.endMs).sort();
    // NaN sorts last.
    if (Number.isNaN(starts.at(-1)!) || Number.isNaN(ends.at(-1)!)) continue;
    found.set(task, { executions: of.length, most: mostOf(starts, ends) });
  }
  return found;
}

/** A runtime that is left at the very moment of a start can be taken. */
function mostOf(starts: Float64Array, ends: Float64Array): number {
  let most = 1;
  let ended = 0;
  for (let started = 0; started < starts.length; started++) {
    while (ends[ended]! <= starts[started]!) ended++;
    most = Math.max(most, started + 1 - ended);
  }
  return most;
}

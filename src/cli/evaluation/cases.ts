// Cases of an assembled log, as the engine asks and learns them. In: assembled runs. Out: for each execution its path and what
// starts first after it; for `--reach` also what executes among its descendants.
import { type History, PATH_TASKS_MAX } from "../../core/engine.ts";
import { hashVersion } from "../../core/predict.ts";
import type { LogRun } from "../../importers/read.ts";

export interface Case {
  name: string;
  tasks: Uint32Array;
  versions: Uint32Array;
  startMs: Float64Array;
  coldStartMs: Float64Array;
  /** The one trigger that the path follows, -1 at a root. */
  pathTriggers: Int32Array;
  triggers: number[][];
  /** Of a case log each event's trigger is the one before: paths are then views, not copies. */
  isChain: boolean;
}

export interface Cases {
  cases: Case[];
  /** Names of the interned tasks. */
  tasks: string[];
  events: number;
}

export function casesOf(runs: LogRun[]): Cases {
  const ids = new Map<string, number>();
  const intern = (task: string): number => {
    const known = ids.get(task);
    if (known !== undefined) return known;
    ids.set(task, ids.size);
    return ids.size - 1;
  };
  const version = (text: string | undefined) => (text === undefined ? 0 : hashVersion(text));
  const cases = runs.map(({ runId, run: { executions } }) => ({
    name: runId,
    tasks: Uint32Array.from(executions, ({ task }) => intern(task)),
    versions: Uint32Array.from(executions, ({ record }) => version(record.rest.version)),
    startMs: Float64Array.from(executions, ({ startMs }) => startMs),
    coldStartMs: Float64Array.from(executions, ({ coldStartMs }) => coldStartMs ?? 0),
    pathTriggers: Int32Array.from(executions, ({ pathTrigger }) => pathTrigger),
    triggers: executions.map(({ triggers }) => triggers),
    isChain: executions.every(({ pathTrigger }, i) => pathTrigger === i - 1),
  }));
  return { cases, tasks: [...ids.keys()], events: cases.reduce((sum, { tasks }) => sum + tasks.length, 0) };
}

/** The path of execution i as the engine takes it: of a longer one its last PATH_TASKS_MAX tasks. */
export function historyOf(run: Case, i: number): History {
  const version = run.versions[i] as number;
  if (run.isChain) {
    const from = Math.max(0, i + 1 - PATH_TASKS_MAX);
    return { tasks: run.tasks.subarray(from, i + 1), startMs: run.startMs.subarray(from, i + 1), version };
  }
  const path = pathTo(run, i).slice(-PATH_TASKS_MAX);
  return {
    tasks: Uint32Array.from(path, (j) => run.tasks[j] as number),
    startMs: Float64Array.from(path, (j) => run.startMs[j] as number),
    version,
  };
}

/** The tasks of the whole path of execution i: cut ones would be new beginnings to whoever counts whole paths. */
export function tasksTo(run: Case, i: number): Uint32Array {
  return run.isChain ? run.tasks.subarray(0, i + 1) : Uint32Array.from(pathTo(run, i), (j) => run.tasks[j] as number);
}

/** The executions from the root to i, along the triggers that the path follows. */
function pathTo(run: Case, i: number): number[] {
  const path: number[] = [];
  for (let j = i; j >= 0; j = run.pathTriggers[j] as number) path.push(j);
  return path.reverse();
}

/** Task of the earliest execution that each execution caused; null: none, the end. */
export function successorsOf(run: Case): (number | null)[] {
  const successors: (number | null)[] = new Array(run.tasks.length).fill(null);
  for (let i = run.tasks.length - 1; i >= 0; i--) {
    for (const trigger of run.triggers[i] as number[]) successors[trigger] = run.tasks[i] as number;
  }
  return successors;
}

/** Distinct tasks among the trigger-descendants of `source` with the lead time to the first, ms, cold starts excluded. */
export function reachedFrom(run: Case, source: number): Map<number, number> {
  const coldBefore = new Map([[source, 0]]);
  const reached = new Map<number, number>();
  for (let i = source + 1; i < run.tasks.length; i++) {
    const path = run.pathTriggers[i] as number;
    const via = coldBefore.has(path) ? path : run.triggers[i]?.find((trigger) => coldBefore.has(trigger));
    if (via === undefined) continue;
    const cold = (coldBefore.get(via) as number) + (run.coldStartMs[via] as number);
    coldBefore.set(i, cold);
    const task = run.tasks[i] as number;
    if (!reached.has(task)) reached.set(task, (run.startMs[i] as number) - (run.startMs[source] as number) - cold);
  }
  return reached;
}

// Cases of an assembled log, as the engine asks and learns them. In: assembled runs. Out: for each execution its path and what
// starts first after it; for `--reach` also what executes among its descendants.
import { endOf, type History, PATH_TASKS_MAX } from "../../core/chain-engine.ts";
import { hashVersion } from "../../core/predict.ts";
import { inLogOrder, type LogRun } from "../../importers/read.ts";

/** Its arrays are views of the log's columns: a million cases of five events would cost more in arrays than in numbers. */
export interface Case {
  name: string;
  tasks: Uint32Array;
  versions: Uint32Array;
  startMs: Float64Array;
  /** When its last execution ended; NaN where unknown. */
  endMs: number;
  /** See ObservedRun. */
  coldBeforeMs: Float64Array;
  /** The one trigger that the path follows, -1 at a root. */
  pathTriggers: Int32Array;
  triggersOf(i: number): Uint32Array;
  /** Of a case log each event's trigger is the one before: paths are then views, not copies. */
  isChain: boolean;
}

/** The cases of a log in its order. */
export interface Cases extends Iterable<Case> {
  length: number;
  /** Names of the interned tasks. */
  tasks: string[];
  events: number;
}

/** `events`: of all runs together, at most. */
export function casesOf(runs: Iterable<LogRun>, events: number): Cases {
  const columns = new Columns(events);
  const keys: { name: string; startMs: number; place: number; from: number; to: number }[] = [];
  for (const { runId: name, run, startMs, place } of runs) {
    const from = columns.length;
    columns.add(run);
    keys.push({ name, startMs, place, from, to: columns.length });
  }
  keys.sort(inLogOrder);
  const names = columns.renumber(keys);
  const triggers = Uint32Array.from(columns.triggers);
  return {
    length: keys.length,
    tasks: names,
    events: columns.length,
    *[Symbol.iterator]() {
      for (const { name, from, to } of keys) yield columns.view(name, from, to, triggers);
    },
  };
}

/** The executions of all runs, one run after another. Triggers are counted within their run. */
class Columns {
  length = 0;
  readonly #ids = new Map<string, number>();
  readonly tasks: Uint32Array;
  readonly versions: Uint32Array;
  readonly startMs: Float64Array;
  readonly endMs: Float64Array;
  readonly coldBeforeMs: Float64Array;
  readonly pathTriggers: Int32Array;
  /** Those of execution i end at triggerEnds[i + 1], and begin at triggerEnds[i]. */
  readonly triggerEnds: Uint32Array;
  readonly triggers: number[] = [];

  constructor(size: number) {
    this.tasks = new Uint32Array(size);
    this.versions = new Uint32Array(size);
    this.startMs = new Float64Array(size);
    this.endMs = new Float64Array(size);
    this.coldBeforeMs = new Float64Array(size);
    this.pathTriggers = new Int32Array(size);
    this.triggerEnds = new Uint32Array(size + 1);
  }

  add({ executions }: LogRun["run"]): void {
    for (const { task, record, startMs, endMs, coldBeforeStartMs, pathTrigger, triggers } of executions) {
      const i = this.length++;
      const { version } = record.rest;
      this.tasks[i] = this.#intern(task);
      this.versions[i] = version === undefined ? 0 : hashVersion(version);
      this.startMs[i] = startMs;
      this.endMs[i] = endMs;
      this.coldBeforeMs[i] = coldBeforeStartMs;
      this.pathTriggers[i] = pathTrigger;
      for (const trigger of triggers) this.triggers.push(trigger);
      this.triggerEnds[i + 1] = this.triggers.length;
    }
  }

  view(name: string, from: number, to: number, triggers: Uint32Array): Case {
    const pathTriggers = this.pathTriggers.subarray(from, to);
    const startMs = this.startMs.subarray(from, to);
    return {
      name,
      tasks: this.tasks.subarray(from, to),
      versions: this.versions.subarray(from, to),
      startMs,
      endMs: endOf({ startMs, endMs: this.endMs.subarray(from, to) }),
      coldBeforeMs: this.coldBeforeMs.subarray(from, to),
      pathTriggers,
      triggersOf: (i) => triggers.subarray(this.triggerEnds[from + i], this.triggerEnds[from + i + 1]),
      isChain: pathTriggers.every((trigger, i) => trigger === i - 1),
    };
  }

  /** Numbers the tasks by their coming in the log's order, so that the order of the file changes nothing. Out: their names. */
  renumber(order: { from: number; to: number }[]): string[] {
    const names = [...this.#ids.keys()];
    const numbers = new Map<number, number>();
    for (const { from, to } of order) {
      for (let i = from; i < to; i++) {
        const task = this.tasks[i] as number;
        const number = numbers.get(task) ?? numbers.size;
        numbers.set(task, number);
        this.tasks[i] = number;
      }
    }
    return Array.from(numbers.keys(), (task) => names[task] as string);
  }

  #intern(task: string): number {
    const known = this.#ids.get(task);
    if (known !== undefined) return known;
    this.#ids.set(task, this.#ids.size);
    return this.#ids.size - 1;
  }
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
    for (const trigger of run.triggersOf(i)) successors[trigger] = run.tasks[i] as number;
  }
  return successors;
}

/** Distinct tasks among the trigger-descendants of `source` with the lead time to the first, ms, as with everything warm. */
export function reachedFrom(run: Case, source: number): Map<number, number> {
  const descendants = new Set([source]);
  const reached = new Map<number, number>();
  const warmStartMs = (i: number) => (run.startMs[i] as number) - (run.coldBeforeMs[i] as number);
  for (let i = source + 1; i < run.tasks.length; i++) {
    if (!run.triggersOf(i).some((trigger) => descendants.has(trigger))) continue;
    descendants.add(i);
    const task = run.tasks[i] as number;
    if (!reached.has(task)) reached.set(task, warmStartMs(i) - warmStartMs(source));
  }
  return reached;
}

// What a prediction engine is: what it learns from, what it answers, its bounds, and how bad input is refused.
// Two implementations stand under one test suite: the WASM engine in engine.ts and the plain oracle in test/oracle.

/** Bytes of linear memory that a model may use: 1 MiB, 8 MiB, 32 MiB. Fixed at creation. */
export type Capacity = "small" | "default" | "large";

/** A sealed run, struct-of-arrays, executions in order of their start. Length n everywhere unless said. */
export interface ObservedRun {
  /** Interned task of each execution. */
  tasks: Uint32Array;
  /** Hash of the task's version, 0 where unknown. A context, not part of the symbol. */
  versions: Uint32Array;
  /** Event time, ms since the epoch; NaN where unknown. */
  startMs: Float64Array;
  endMs: Float64Array;
  /** How much sooner it would have started, had all before it been warm, ms; 0 where unknown. Lead times exclude it. */
  coldBeforeMs: Float64Array;
  /** n + 1 offsets into `triggers`. */
  triggerOffsets: Uint32Array;
  /** Indices of the executions that caused execution i: triggers[triggerOffsets[i] .. triggerOffsets[i + 1]). Always < i. */
  triggers: Uint32Array;
  /** The one trigger that i's path follows, or -1 at a root. */
  pathTriggers: Int32Array;
}

/** The path that led to an execution, oldest first, the execution itself last: exactly what a continuation carries. */
export interface History {
  tasks: Uint32Array;
  /** Start of each, ms since the epoch; absent or NaN where unknown. */
  startMs?: Float64Array;
  /** Version hash of the last task, 0 where unknown. */
  version?: number;
}

/** Probabilities of every symbol that any context proposes, highest first, and of the end; they sum to 1. */
export interface NextPrediction {
  tasks: readonly number[];
  probabilities: readonly number[];
  /** Probability that no successor starts. */
  end: number;
}

/** Tasks with reach of at least the asked floor, highest first. */
export interface ReachPrediction {
  tasks: readonly number[];
  /** Probability that the task executes among the trigger-descendants. */
  probabilities: readonly number[];
  /** Expected executions given that it executes at least once; ≥ 1. */
  multiplicities: readonly number[];
  /** From the start of this execution to the first start of the task, cold starts excluded, ms; NaN where unknown. */
  leadP10Ms: readonly number[];
  leadP50Ms: readonly number[];
  leadP90Ms: readonly number[];
}

export interface ChainEngine {
  readonly capacity: Capacity;
  /**
   * Learns a sealed run, once. Its contexts keep fewer than `kept` occurrences of what came before (1 to OCCURRENCES_MAX, which is the
   * default; four times as many for `next`): the fewer, the sooner they follow a change. Throws EngineError on a malformed run.
   */
  observe(run: ObservedRun, kept?: number): void;
  /** What starts first after the path? `limit` cuts the list, never the probabilities. */
  next(history: History, limit: number): NextPrediction;
  /** Which tasks execute among the trigger-descendants, with at least `floor` probability (0–1)? */
  reach(history: History, floor: number, limit: number): ReachPrediction;
  /**
   * Learns one answer to `next` of the same history, `null` for the end: prefix by prefix what `observe` learns of `next`. `endMs`: with
   * the run's last answer, when the run ended (`endOf`); a run that no end was told of is none that the next can follow.
   */
  learnNext(history: History, actual: number | null, endMs?: number): void;
  /** A self-contained copy of everything learned. */
  exportImage(): Uint8Array<ArrayBuffer>;
}

/** Longest path and longest run that the engine takes; assembly/layout.ts has the same numbers and the reasons. */
export const PATH_TASKS_MAX = 4096;
export const RUN_EXECUTIONS_MAX = 4096;
export const RUN_TRIGGERS_MAX = 16384;
/** A context remembers fewer occurrences than this: what is older is halved again and again. */
export const OCCURRENCES_MAX = 255;
/** Interned tasks are below this. */
export const TASKS_MAX = 1 << 20;
/** Most rows of one prediction. */
export const ROWS_MAX = 255;

export type EngineFault =
  | { reason: "task-out-of-range"; got: number; limit: number }
  | { reason: "path-too-long"; got: number; limit: number }
  | { reason: "run-too-long"; got: number; limit: number }
  | { reason: "malformed-run"; detail: string }
  | {
      reason: "bad-image";
      field: "magic" | "format" | "size" | "checksum" | "capacity" | "counts";
      got: string;
      expected: string;
    };

/** Thrown for programmer errors and refused images; carries the evidence. */
export class EngineError extends Error {
  readonly fault: EngineFault;
  constructor(fault: EngineFault) {
    super(faultMessage(fault));
    this.name = "EngineError";
    this.fault = fault;
  }
}

function faultMessage(fault: EngineFault): string {
  switch (fault.reason) {
    case "bad-image":
      return `model image: ${fault.field}: got ${fault.got}, expected ${fault.expected}`;
    case "malformed-run":
      return `observed run: ${fault.detail}`;
    default:
      return `${fault.reason}: got ${fault.got}, at most ${fault.limit}`;
  }
}

/** Throws EngineError on a path that is too long or names what cannot be a task. */
export function checkHistory(history: History): void {
  const { tasks } = history;
  if (tasks.length > PATH_TASKS_MAX) {
    throw new EngineError({ reason: "path-too-long", got: tasks.length, limit: PATH_TASKS_MAX });
  }
  for (let i = 0; i < tasks.length; i++) checkTask(tasks[i] as number);
}

/** Throws EngineError on an id that cannot be a task. */
export function checkTask(task: number): void {
  if (!Number.isInteger(task) || task < 0 || task >= TASKS_MAX) {
    throw new EngineError({ reason: "task-out-of-range", got: task, limit: TASKS_MAX - 1 });
  }
}

/** Throws EngineError where the run breaks a rule of ObservedRun. */
export function checkRun(run: ObservedRun): void {
  const count = run.tasks.length;
  if (count > RUN_EXECUTIONS_MAX)
    throw new EngineError({ reason: "run-too-long", got: count, limit: RUN_EXECUTIONS_MAX });
  if (run.triggers.length > RUN_TRIGGERS_MAX) {
    throw new EngineError({ reason: "run-too-long", got: run.triggers.length, limit: RUN_TRIGGERS_MAX });
  }
  for (const field of ["versions", "startMs", "endMs", "coldBeforeMs", "pathTriggers"] as const) {
    if (run[field].length !== count) throw malformed(`${field}: got length ${run[field].length}, expected ${count}`);
  }
  if (run.triggerOffsets.length !== count + 1) {
    throw malformed(`triggerOffsets: got length ${run.triggerOffsets.length}, expected ${count + 1}`);
  }
  if (run.triggerOffsets[0] !== 0 || run.triggerOffsets[count] !== run.triggers.length) {
    throw malformed(`triggerOffsets: expected to go from 0 to ${run.triggers.length}`);
  }
  for (let i = 0; i < count; i++) checkExecution(run, i);
}

function checkExecution(run: ObservedRun, i: number): void {
  checkTask(run.tasks[i] as number);
  const path = run.pathTriggers[i] as number;
  if (path < -1 || path >= i) throw malformed(`pathTriggers[${i}]: got ${path}, expected -1 to ${i - 1}`);
  const from = run.triggerOffsets[i] as number;
  const to = run.triggerOffsets[i + 1] as number;
  if (to < from || to > run.triggers.length)
    throw malformed(`triggerOffsets[${i + 1}]: got ${to}, expected ${from} or more`);
  for (let t = from; t < to; t++) {
    const trigger = run.triggers[t] as number;
    if (trigger >= i) throw malformed(`triggers[${t}]: got ${trigger}, expected less than ${i}`);
  }
}

function malformed(detail: string): EngineError {
  return new EngineError({ reason: "malformed-run", detail });
}

/** When the run's last execution ended, ms; what has no known end ended when it started. NaN where nothing is known. */
export function endOf({ startMs, endMs }: Pick<ObservedRun, "startMs" | "endMs">): number {
  let last = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < startMs.length; i++) {
    const end = endMs[i] as number;
    const known = Number.isNaN(end) ? (startMs[i] as number) : end;
    if (known > last) last = known;
  }
  return last === Number.NEGATIVE_INFINITY ? Number.NaN : last;
}

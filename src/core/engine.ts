// The prediction engine. In: sealed runs of interned tasks, and the path that led to an execution.
// Out: what starts first (`next`), what executes at all (`reach`), and an image of everything learned.
// `ChainEngine` has two implementations under one test suite: the WASM engine here and the oracle in test/oracle.
// Only this file sees a WASM pointer; between writing an input and copying an output there is no `await`.

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
  /** Part of the execution that was its cold start, ms; 0 where unknown. Lead times exclude it. */
  coldStartMs: Float64Array;
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
  tasks: Uint32Array;
  probabilities: Float64Array;
  /** Probability that no successor starts. */
  end: number;
}

/** Tasks with reach of at least the asked floor, highest first. */
export interface ReachPrediction {
  tasks: Uint32Array;
  /** Probability that the task executes among the trigger-descendants. */
  probabilities: Float64Array;
  /** Expected executions given that it executes at least once; ≥ 1. */
  multiplicities: Float64Array;
  /** From the start of this execution to the first start of the task, cold starts excluded, ms; NaN where unknown. */
  leadP10Ms: Float64Array;
  leadP50Ms: Float64Array;
  leadP90Ms: Float64Array;
}

export type EngineFault =
  | { reason: "task-out-of-range"; got: number; limit: number }
  | { reason: "path-too-long"; got: number; limit: number }
  | { reason: "run-too-long"; got: number; limit: number }
  | { reason: "malformed-run"; detail: string }
  | { reason: "bad-image"; field: "magic" | "format" | "size" | "checksum" | "capacity" | "counts"; got: string; expected: string };

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

export interface ChainEngine {
  readonly capacity: Capacity;
  /** Learns a sealed run, once. Throws EngineError on a malformed run. */
  observe(run: ObservedRun): void;
  /** What starts first after the path? `limit` cuts the list, never the probabilities. */
  next(history: History, limit: number): NextPrediction;
  /** Which tasks execute among the trigger-descendants, with at least `floor` probability (0–1)? */
  reach(history: History, floor: number, limit: number): ReachPrediction;
  /** A self-contained copy of everything learned. */
  exportImage(): Uint8Array<ArrayBuffer>;
}

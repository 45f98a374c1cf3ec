// The prediction engine. In: sealed runs of interned tasks, and the path that led to an execution.
// Out: what starts first (`next`), what executes at all (`reach`), and an image of everything learned.
// `ChainEngine` has two implementations under one test suite: the WASM engine here and the oracle in test/oracle.
// Only this file sees a WASM pointer; between writing an input and copying an output there is no `await`.
import { FINALS, type Mixing, type QuestionMixing, questionOf } from "./mixing.ts";

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

export interface ChainEngine {
  readonly capacity: Capacity;
  /** Learns a sealed run, once. Throws EngineError on a malformed run. */
  observe(run: ObservedRun): void;
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
/** Interned tasks are below this. */
export const TASKS_MAX = 1 << 20;
/** Paths up to this are copied element by element: a call of `set` costs as much as twenty. */
const PATH_TASKS_LOOP = 16;
/** Most rows of one prediction. */
export const ROWS_MAX = 255;

const CAPACITY_BYTES: Record<Capacity, number> = { small: 1 << 20, default: 8 << 20, large: 32 << 20 };
const IMAGE_MAGIC = 0x31454346;
const IMAGE_FORMAT = 5;
const IMAGE_HEADER_BYTES = 64;

/**
 * An empty model. `module` is the compiled assembly/: imported in Workers, read from build/engine.wasm in Node. `knownAfterMs`: how
 * long after its end a run is known where predictions are made (KNOWN_AFTER_MS in service); nothing nearer is learned to be of use.
 */
export function createEngine(module: WebAssembly.Module, capacity: Capacity, knownAfterMs = 0): WasmEngine {
  return new WasmEngine(module, capacity, knownAfterMs);
}

/** The model that `exportImage` gave. Throws EngineError "bad-image" on anything else. */
export function loadEngine(module: WebAssembly.Module, image: Uint8Array): WasmEngine {
  const engine = new WasmEngine(module, capacityOf(image));
  engine.importImage(image);
  return engine;
}

function badImage(
  field: "magic" | "format" | "size" | "checksum" | "capacity" | "counts",
  got: unknown,
  expected: unknown,
) {
  return new EngineError({ reason: "bad-image", field, got: String(got), expected: String(expected) });
}

/** Checks the header's fixed fields, in order, and names the capacity that they stand for. */
function capacityOf(image: Uint8Array): Capacity {
  if (image.byteLength < IMAGE_HEADER_BYTES) {
    throw badImage("size", `${image.byteLength} bytes`, `at least ${IMAGE_HEADER_BYTES} bytes`);
  }
  const header = new DataView(image.buffer, image.byteOffset, IMAGE_HEADER_BYTES);
  const magic = header.getUint32(0, true);
  if (magic !== IMAGE_MAGIC) throw badImage("magic", `0x${magic.toString(16)}`, `0x${IMAGE_MAGIC.toString(16)}`);
  const format = header.getUint32(4, true);
  if (format !== IMAGE_FORMAT) throw badImage("format", format, IMAGE_FORMAT);
  const bytes = header.getUint32(8, true);
  const capacity = (Object.keys(CAPACITY_BYTES) as Capacity[]).find((name) => CAPACITY_BYTES[name] === bytes);
  if (capacity === undefined) throw badImage("capacity", `${bytes} bytes`, Object.values(CAPACITY_BYTES).join(" or "));
  if (image.byteLength !== bytes) throw badImage("size", `${image.byteLength} bytes`, `${bytes} bytes`);
  return capacity;
}

/** The exports of assembly/index.ts. Pointers are byte addresses in `memory`. */
interface Exports {
  readonly memory: { readonly buffer: ArrayBuffer };
  modelCreate(capacityBytes: number, knownAfterMs: number): number;
  modelLines(): number;
  modelSeal(): void;
  modelChecksum(): bigint;
  runsKnownUntil(ms: number): void;
  tableUsedLines(): number;
  nextWeights(): number;
  nextWeightsCount(): number;
  reachWeights(): number;
  reachWeightsCount(): number;
  addressModel(): number;
  addressPathTasks(): number;
  addressPathStartMs(): number;
  addressRunTasks(): number;
  addressRunVersions(): number;
  addressRunStartMs(): number;
  addressRunColdMs(): number;
  addressRunTriggerOffsets(): number;
  addressRunTriggers(): number;
  addressRunPathTriggers(): number;
  addressOutTasks(): number;
  addressOutProbabilities(): number;
  addressOutMultiplicities(): number;
  addressOutLeadMs(): number;
  next(length: number, version: number, limit: number): number;
  learnNext(length: number, version: number, task: number, endMs: number): number;
  reach(length: number, version: number, floor: number, limit: number): number;
  observe(count: number, endMs: number): void;
}

// Node's types know the namespace only as types; the constructor is there in Node, Workers and browsers alike.
const { Instance } = (
  globalThis as unknown as {
    WebAssembly: { Instance: new (module: WebAssembly.Module, imports: object) => { exports: object } };
  }
).WebAssembly;

export class WasmEngine implements ChainEngine {
  readonly capacity: Capacity;
  readonly #knownAfterMs: number;
  readonly #wasm: Exports;
  // Memory grows once, at creation, so views on it stay valid.
  readonly #pathTasks: Uint32Array;
  readonly #pathStartMs: Float64Array;
  readonly #outTasks: Uint32Array;
  readonly #outProbabilities: Float64Array;
  readonly #outMultiplicities: Float64Array;
  readonly #outLeadMs: Float64Array;
  readonly #answers = new AnswerArrays();

  constructor(module: WebAssembly.Module, capacity: Capacity, knownAfterMs = 0) {
    const wasm = new Instance(module, { env: { abort: refuseAbort } }).exports as unknown as Exports;
    if (!wasm.modelCreate(CAPACITY_BYTES[capacity], knownAfterMs)) {
      throw new Error(`no memory for a model of ${CAPACITY_BYTES[capacity]} bytes`);
    }
    const buffer = wasm.memory.buffer;
    this.capacity = capacity;
    this.#knownAfterMs = knownAfterMs;
    this.#wasm = wasm;
    this.#pathTasks = new Uint32Array(buffer, wasm.addressPathTasks(), PATH_TASKS_MAX);
    this.#pathStartMs = new Float64Array(buffer, wasm.addressPathStartMs(), PATH_TASKS_MAX);
    this.#outTasks = new Uint32Array(buffer, wasm.addressOutTasks(), ROWS_MAX);
    // The place after the rows holds the probability of the end.
    this.#outProbabilities = new Float64Array(buffer, wasm.addressOutProbabilities(), ROWS_MAX + 1);
    this.#outMultiplicities = new Float64Array(buffer, wasm.addressOutMultiplicities(), ROWS_MAX);
    this.#outLeadMs = new Float64Array(buffer, wasm.addressOutLeadMs(), ROWS_MAX * 3);
  }

  next(history: History, limit: number): NextPrediction {
    const length = this.#writePath(history);
    if (length === 0) return { tasks: new Uint32Array(0), probabilities: new Float64Array(0), end: 1 };
    const rows = this.#wasm.next(length, history.version ?? 0, rowLimit(limit));
    if (rows < 0) checkHistory(history);
    const tasks = this.#answers.uint32(rows);
    const probabilities = this.#answers.float64(rows);
    for (let i = 0; i < rows; i++) {
      tasks[i] = this.#outTasks[i] as number;
      probabilities[i] = this.#outProbabilities[i] as number;
    }
    return { tasks, probabilities, end: this.#outProbabilities[ROWS_MAX] as number };
  }

  reach(history: History, floor: number, limit: number): ReachPrediction {
    const length = this.#writePath(history);
    const rows = length === 0 ? 0 : this.#wasm.reach(length, history.version ?? 0, floor, rowLimit(limit));
    if (rows < 0) checkHistory(history);
    const prediction: ReachPrediction = {
      tasks: this.#answers.uint32(rows),
      probabilities: this.#answers.float64(rows),
      multiplicities: this.#answers.float64(rows),
      leadP10Ms: this.#answers.float64(rows),
      leadP50Ms: this.#answers.float64(rows),
      leadP90Ms: this.#answers.float64(rows),
    };
    for (let i = 0; i < rows; i++) {
      prediction.tasks[i] = this.#outTasks[i] as number;
      prediction.probabilities[i] = this.#outProbabilities[i] as number;
      prediction.multiplicities[i] = this.#outMultiplicities[i] as number;
      prediction.leadP10Ms[i] = this.#outLeadMs[i * 3] as number;
      prediction.leadP50Ms[i] = this.#outLeadMs[i * 3 + 1] as number;
      prediction.leadP90Ms[i] = this.#outLeadMs[i * 3 + 2] as number;
    }
    return prediction;
  }

  observe(run: ObservedRun): void {
    const count = run.tasks.length;
    checkRun(run);
    if (count === 0) return;
    const { memory } = this.#wasm;
    new Uint32Array(memory.buffer, this.#wasm.addressRunTasks(), count).set(run.tasks);
    new Uint32Array(memory.buffer, this.#wasm.addressRunVersions(), count).set(run.versions);
    new Float64Array(memory.buffer, this.#wasm.addressRunStartMs(), count).set(run.startMs);
    new Float64Array(memory.buffer, this.#wasm.addressRunColdMs(), count).set(run.coldStartMs);
    new Uint32Array(memory.buffer, this.#wasm.addressRunTriggerOffsets(), count + 1).set(run.triggerOffsets);
    new Uint32Array(memory.buffer, this.#wasm.addressRunTriggers(), run.triggers.length).set(run.triggers);
    new Int32Array(memory.buffer, this.#wasm.addressRunPathTriggers(), count).set(run.pathTriggers);
    this.#wasm.observe(count, endOf(run));
  }

  learnNext(history: History, actual: number | null, endMs = Number.NaN): void {
    if (actual !== null) checkTask(actual);
    const length = this.#writePath(history);
    if (length === 0) return;
    if (this.#wasm.learnNext(length, history.version ?? 0, actual ?? -1, endMs) < 0) checkHistory(history);
  }

  exportImage(): Uint8Array<ArrayBuffer> {
    return this.sealedImage().slice();
  }

  /** The image where it lies: to be copied, whole or in parts, before anything else is asked of the engine. */
  sealedImage(): Uint8Array<ArrayBuffer> {
    this.#wasm.modelSeal();
    return new Uint8Array(this.#wasm.memory.buffer, this.#wasm.addressModel(), CAPACITY_BYTES[this.capacity]);
  }

  /** Replaces everything learned. `image` must be of this engine's capacity. */
  importImage(image: Uint8Array): void {
    const capacity = capacityOf(image);
    if (capacity !== this.capacity) throw badImage("capacity", capacity, this.capacity);
    const header = new DataView(image.buffer, image.byteOffset, IMAGE_HEADER_BYTES);
    const lines = header.getUint32(12, true);
    if (lines !== this.#wasm.modelLines())
      throw badImage("counts", `${lines} lines`, `${this.#wasm.modelLines()} lines`);
    new Uint8Array(this.#wasm.memory.buffer, this.#wasm.addressModel(), image.byteLength).set(image);
    const got = BigInt.asUintN(64, this.#wasm.modelChecksum());
    const expected = header.getBigUint64(24, true);
    if (got !== expected) {
      this.#wasm.modelCreate(CAPACITY_BYTES[this.capacity], this.#knownAfterMs);
      throw badImage("checksum", got.toString(16), expected.toString(16));
    }
  }

  /** For a copy that others go on teaching: of runs that start later than this it is not known what ran before them. */
  knowsRunsUntil(ms: number): void {
    this.#wasm.runsKnownUntil(ms);
  }

  /** Lines in use and lines there are: how full the model is. */
  usage(): { usedLines: number; lines: number } {
    return { usedLines: this.#wasm.tableUsedLines(), lines: this.#wasm.modelLines() };
  }

  /** What the mixers have learned to trust, by view of the path. */
  mixing(): Mixing {
    const { nextWeights, nextWeightsCount, reachWeights, reachWeightsCount } = this.#wasm;
    return {
      next: this.#mixingOf("next", nextWeights(), nextWeightsCount()),
      reach: this.#mixingOf("reach", reachWeights(), reachWeightsCount()),
    };
  }

  /** At the address: so many weights, as many sums of squares, then the finals. */
  #mixingOf(question: keyof Mixing, address: number, count: number): QuestionMixing {
    const { buffer } = this.#wasm.memory;
    return questionOf(question, {
      values: new Float32Array(buffer, address, count),
      squares: new Float32Array(buffer, address + 4 * count, count),
      finals: new Float32Array(buffer, address + 8 * count, FINALS[question]),
    });
  }

  /** Copies the path in; returns its length. Whether its tasks can be tasks is checked where it is folded. */
  #writePath(history: History): number {
    const { tasks, startMs } = history;
    const length = tasks.length;
    if (length > PATH_TASKS_MAX) throw new EngineError({ reason: "path-too-long", got: length, limit: PATH_TASKS_MAX });
    if (startMs?.length === length && length <= PATH_TASKS_LOOP) {
      for (let i = 0; i < length; i++) {
        this.#pathTasks[i] = tasks[i] as number;
        this.#pathStartMs[i] = startMs[i] as number;
      }
      return length;
    }
    this.#pathTasks.set(tasks);
    if (startMs?.length === length) {
      this.#pathStartMs.set(startMs);
      return length;
    }
    this.#pathStartMs.fill(Number.NaN, 0, length);
    if (startMs !== undefined) this.#pathStartMs.set(startMs.subarray(0, length));
    return length;
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

/** Bytes of a chunk of answers: some hundred of them. Larger ones come from the system page by page, which costs more than it saves. */
const CHUNK_BYTES = 1 << 16;

/**
 * Arrays for answers, cut from shared chunks and never given out twice. An array with a buffer of its own costs up to 0.5 µs, as
 * much as the prediction in it; a view costs 0.03. An answer that is kept holds its chunk.
 */
class AnswerArrays {
  #chunk = new ArrayBuffer(CHUNK_BYTES);
  #used = 0;

  float64(length: number): Float64Array {
    // The cut first: it may open a new chunk.
    const offset = this.#cut(length * 8);
    return new Float64Array(this.#chunk, offset, length);
  }

  uint32(length: number): Uint32Array {
    const offset = this.#cut(length * 4);
    return new Uint32Array(this.#chunk, offset, length);
  }

  /** Offset of so many bytes, aligned to 8, in #chunk. Rows are at most ROWS_MAX, so a chunk always has room for some. */
  #cut(bytes: number): number {
    if (this.#used + bytes > CHUNK_BYTES) {
      this.#chunk = new ArrayBuffer(CHUNK_BYTES);
      this.#used = 0;
    }
    const offset = this.#used;
    this.#used = (offset + bytes + 7) & ~7;
    return offset;
  }
}

function refuseAbort(): never {
  throw new Error("the engine aborted");
}

function rowLimit(limit: number): number {
  return Math.max(0, Math.min(ROWS_MAX, Math.floor(limit) || 0));
}

/** Throws EngineError on an id that cannot be a task. */
export function checkTask(task: number): void {
  if (!Number.isInteger(task) || task < 0 || task >= TASKS_MAX) {
    throw new EngineError({ reason: "task-out-of-range", got: task, limit: TASKS_MAX - 1 });
  }
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

/** Throws EngineError where the run breaks a rule of ObservedRun. */
export function checkRun(run: ObservedRun): void {
  const count = run.tasks.length;
  if (count > RUN_EXECUTIONS_MAX)
    throw new EngineError({ reason: "run-too-long", got: count, limit: RUN_EXECUTIONS_MAX });
  if (run.triggers.length > RUN_TRIGGERS_MAX) {
    throw new EngineError({ reason: "run-too-long", got: run.triggers.length, limit: RUN_TRIGGERS_MAX });
  }
  for (const field of ["versions", "startMs", "endMs", "coldStartMs", "pathTriggers"] as const) {
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

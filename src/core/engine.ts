// The prediction engine in WASM. In: sealed runs of interned tasks, and the path that led to an execution.
// Out: what starts first (`next`), what executes at all (`reach`), and an image of everything learned.
// Only this file sees a WASM pointer; between writing an input and copying an output there is no `await`.
import {
  type Capacity,
  type ChainEngine,
  checkHistory,
  checkRun,
  checkTask,
  EngineError,
  endOf,
  type History,
  type NextPrediction,
  type ObservedRun,
  OCCURRENCES_MAX,
  PATH_TASKS_MAX,
  type ReachPrediction,
  ROWS_MAX,
} from "./chain-engine.ts";
import { instantiate } from "./instance.ts";
import { FINALS, type Mixing, type QuestionMixing, questionOf } from "./mixing.ts";

/** Paths up to this are copied element by element: a call of `set` costs as much as twenty. */
const PATH_TASKS_LOOP = 16;
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
  addressRunColdBeforeMs(): number;
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
  observe(count: number, endMs: number, kept: number): void;
}

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

  constructor(module: WebAssembly.Module, capacity: Capacity, knownAfterMs = 0) {
    const wasm = instantiate<Exports>(module);
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
    if (length === 0) return { tasks: [], probabilities: [], end: 1 };
    const rows = this.#wasm.next(length, history.version ?? 0, rowLimit(limit));
    if (rows < 0) checkHistory(history);
    const tasks = new Array<number>(rows);
    const probabilities = new Array<number>(rows);
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
    const tasks = new Array<number>(rows);
    const probabilities = new Array<number>(rows);
    const multiplicities = new Array<number>(rows);
    const leadP10Ms = new Array<number>(rows);
    const leadP50Ms = new Array<number>(rows);
    const leadP90Ms = new Array<number>(rows);
    for (let i = 0; i < rows; i++) {
      tasks[i] = this.#outTasks[i] as number;
      probabilities[i] = this.#outProbabilities[i] as number;
      multiplicities[i] = this.#outMultiplicities[i] as number;
      leadP10Ms[i] = this.#outLeadMs[i * 3] as number;
      leadP50Ms[i] = this.#outLeadMs[i * 3 + 1] as number;
      leadP90Ms[i] = this.#outLeadMs[i * 3 + 2] as number;
    }
    return { tasks, probabilities, multiplicities, leadP10Ms, leadP50Ms, leadP90Ms };
  }

  observe(run: ObservedRun, kept = OCCURRENCES_MAX): void {
    const count = run.tasks.length;
    checkRun(run);
    if (count === 0) return;
    const { memory } = this.#wasm;
    new Uint32Array(memory.buffer, this.#wasm.addressRunTasks(), count).set(run.tasks);
    new Uint32Array(memory.buffer, this.#wasm.addressRunVersions(), count).set(run.versions);
    new Float64Array(memory.buffer, this.#wasm.addressRunStartMs(), count).set(run.startMs);
    new Float64Array(memory.buffer, this.#wasm.addressRunColdBeforeMs(), count).set(run.coldBeforeMs);
    new Uint32Array(memory.buffer, this.#wasm.addressRunTriggerOffsets(), count + 1).set(run.triggerOffsets);
    new Uint32Array(memory.buffer, this.#wasm.addressRunTriggers(), run.triggers.length).set(run.triggers);
    new Int32Array(memory.buffer, this.#wasm.addressRunPathTriggers(), count).set(run.pathTriggers);
    this.#wasm.observe(count, endOf(run), kept);
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

function rowLimit(limit: number): number {
  return Math.max(0, Math.min(ROWS_MAX, Math.floor(limit) || 0));
}

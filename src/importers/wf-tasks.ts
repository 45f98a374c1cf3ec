// The tasks of a WfFormat document of any version (1.0 to 1.6). In: the elements of its arrays, one by one and in any order, then what
// is left of it. Out: tasks with their dependencies by position, files by number, and what is none of both.
//   up to 1.2  "jobs", named by what depends on them      1.3 "tasks"      up to 1.3 "runtime", "size", "memory" in kB
//   1.4        "runtimeInSeconds", "sizeInBytes", "memoryInBytes"
//   1.5, 1.6   what was specified apart from what ran; tasks are named by id
// A document is a graph, so its tasks are held until its end: without the JSON they came in, names and files once each.
import { RUN_RECORDS_MAX } from "../core/open-run.ts";
import { isObject } from "../core/spans.ts";
import { instantOf } from "./instant.ts";
import { type Lists, Pairs } from "./pairs.ts";

export interface WfTask {
  id: string;
  name: string;
  category: string | null;
  program: string | null;
  runtimeMs: number | null;
  /** Percent of one core. */
  avgCpu: number | null;
  memoryBytes: number | null;
}

export interface WfWorkflow {
  name: string;
  beganMs: number;
  tasks: WfTask[];
  /** By position of the task: positions of its parents, each once. */
  parents: Lists;
  /** By position of the task: numbers for `file`. */
  inputs: Lists;
  outputs: Lists;
  file(number: number): { uri: string; bytes: number };
  skipped: ReadonlyMap<string, number>;
}

type Json = Record<string, unknown>;

const TASK_ARRAYS = ["workflow.specification.tasks", "workflow.tasks", "workflow.jobs"];
const FILES = "workflow.specification.files";
const EXECUTED = "workflow.execution.tasks";
/** Where the arrays stand that are read element by element. */
export const WF_ARRAYS = [...TASK_ARRAYS, FILES, EXECUTED];

const BYTES_PER_KB = 1000;
const URI_CHARS_MAX = 2048;
/** Order and durations stay where nobody knows when it began. */
const UNKNOWN_START_MS = 1000;
/** Of one document: some 70 MB of them. */
const FILES_MAX = 500_000;
const DEPENDENCIES_MAX = 4_000_000;

/** A task as far as it was told. */
interface Draft extends WfTask {
  place: number;
  isSpecified: boolean;
  isExecuted: boolean;
}

export class WfDocument {
  readonly #tasks = new Map<string, Draft>();
  /** Ids and names of tasks, and what refers to them. */
  readonly #texts = new Numbered();
  readonly #files = new Numbered();
  readonly #sizes: (number | undefined)[] = [];
  /** Place of a task, number of the text that names its parent or child. */
  readonly #parents = new Pairs();
  readonly #children = new Pairs();
  /** Place of a task, number of a file. */
  readonly #inputs = new Pairs();
  readonly #outputs = new Pairs();
  readonly #skipped = new Map<string, number>();
  /** Some task is. */
  #isSpecified = false;

  /** An element of one of the arrays. */
  add(array: string, value: unknown): void {
    if (array === FILES) {
      const name = isObject(value) ? text(value.id) : null;
      // Where tasks came before, what none of them has is of no use.
      if (name !== null && (!this.#isSpecified || this.#files.find(name) !== null)) {
        this.#fileOf(name, numberOf((value as Json).sizeInBytes));
      }
      return;
    }
    const id = isObject(value) ? (text(value.id) ?? text(value.name)) : null;
    if (!isObject(value) || id === null) {
      if (array !== EXECUTED) this.#skip("a task without name and id");
      return;
    }
    const task = this.#taskOf(id);
    if (task === null) {
      if (array !== EXECUTED) this.#skip(`tasks beyond the ${RUN_RECORDS_MAX} of one run`);
    } else if (array === EXECUTED) this.#execute(task, value, true);
    else this.#specify(task, value);
  }

  /** All that was told; `rest` is the document without the elements, or with them. */
  workflow(rest: unknown): WfWorkflow {
    const document = objectOf(rest);
    const workflow = objectOf(document.workflow);
    const specification = objectOf(workflow.specification);
    const execution = objectOf(workflow.execution);
    const listed = [specification.tasks, workflow.tasks, workflow.jobs, specification.files, execution.tasks];
    for (const [at, array] of WF_ARRAYS.entries()) for (const value of arrayOf(listed[at])) this.add(array, value);
    const drafts = [...this.#tasks.values()];
    if (!this.#isSpecified) this.#skip("a document without tasks");
    const tasks: WfTask[] = [];
    const places = Int32Array.from(drafts, (draft) => (draft.isSpecified ? tasks.push(draft) - 1 : -1));
    const inputs = this.#inputs.lists(tasks.length, places);
    const outputs = this.#outputs.lists(tasks.length, places);
    return {
      name: text(document.name) ?? "workflow",
      beganMs: startOf(execution.executedAt ?? workflow.executedAt ?? document.createdAt),
      tasks,
      parents: this.#connect(tasks, places, inputs, outputs),
      inputs,
      outputs,
      file: (number) => objectAt(this.#files.texts[number]!, this.#sizes[number]),
      skipped: this.#skipped,
    };
  }

  #skip(reason: string): void {
    this.#skipped.set(reason, (this.#skipped.get(reason) ?? 0) + 1);
  }

  /** Null: there are too many already. */
  #taskOf(id: string): Draft | null {
    const known = this.#tasks.get(id);
    if (known !== undefined) return known;
    if (this.#tasks.size >= RUN_RECORDS_MAX) return null;
    const unknown = { category: null, program: null, runtimeMs: null, avgCpu: null, memoryBytes: null };
    const own = this.#texts.own(id);
    const place = this.#tasks.size;
    const task: Draft = { id: own, name: own, ...unknown, place, isSpecified: false, isExecuted: false };
    this.#tasks.set(own, task);
    return task;
  }

  #specify(task: Draft, told: Json): void {
    if (task.isSpecified) {
      this.#skip("a task whose id another has");
      return;
    }
    task.isSpecified = true;
    this.#isSpecified = true;
    task.name = this.#texts.own(text(told.name) ?? task.id);
    const category = text(told.category);
    task.category = category === null ? null : this.#texts.own(category);
    if (!task.isExecuted) this.#execute(task, told, false);
    this.#addFiles(this.#inputs, task, told, told.inputFiles, "input");
    this.#addFiles(this.#outputs, task, told, told.outputFiles, "output");
    this.#addDependencies(this.#parents, task, told.parents);
    this.#addDependencies(this.#children, task, told.children);
  }

  #execute(task: Draft, run: Json, isExecuted: boolean): void {
    task.isExecuted = isExecuted;
    const runtimeS = numberOf(run.runtimeInSeconds) ?? numberOf(run.runtime);
    const memoryKb = numberOf(run.memory);
    const memoryBytes = numberOf(run.memoryInBytes) ?? (memoryKb === null ? null : memoryKb * BYTES_PER_KB);
    const program = text(objectOf(run.command).program);
    task.program = program === null ? null : this.#texts.own(program);
    task.runtimeMs = runtimeS === null ? null : runtimeS * 1000;
    task.avgCpu = numberOf(run.avgCPU);
    task.memoryBytes = memoryBytes === null ? null : Math.round(memoryBytes);
  }

  #addFiles(to: Pairs, { place }: Draft, told: Json, names: unknown, link: string): void {
    const add = (name: string | null, bytes: number | null) => {
      const file = name === null ? null : this.#fileOf(name, bytes);
      if (file !== null) to.push(place, file);
    };
    if (Array.isArray(names)) {
      for (const name of names) add(text(name), null);
      return;
    }
    for (const file of objectsOf(told.files)) {
      if (String(file.link).toLowerCase() !== link || text(file.name) === null) continue;
      add(`${text(file.path) ?? ""}${text(file.name)}`, numberOf(file.sizeInBytes) ?? numberOf(file.size));
    }
  }

  #fileOf(name: string, bytes: number | null): number | null {
    const file = this.#files.find(name) ?? (this.#files.size < FILES_MAX ? this.#files.of(name) : null);
    if (file === null) this.#skip(`files beyond the ${FILES_MAX} of one document`);
    else if (bytes !== null) this.#sizes[file] = bytes;
    return file;
  }

  #addDependencies(to: Pairs, { place }: Draft, references: unknown): void {
    for (const reference of arrayOf(references)) {
      if (this.#parents.size + this.#children.size < DEPENDENCIES_MAX)
        to.push(place, this.#texts.of(text(reference) ?? ""));
      else this.#skip(`dependencies beyond the ${DEPENDENCIES_MAX} of one document`);
    }
  }

  /** Dependencies may be told by either end, by id or by name; where a document tells none, the writers of files come before their readers. */
  #connect(tasks: WfTask[], places: Int32Array, inputs: Lists, outputs: Lists): Lists {
    const edges = new Pairs();
    if (this.#parents.size + this.#children.size === 0) connectByFiles(tasks, inputs, outputs, edges);
    const named = new Map<number, number>();
    for (const [place, { id }] of tasks.entries()) named.set(this.#texts.of(id), place);
    for (const [place, { name }] of tasks.entries()) {
      const number = this.#texts.of(name);
      if (!named.has(number)) named.set(number, place);
    }
    for (const [place, name] of this.#parents) {
      const parent = named.get(name);
      if (parent === undefined) this.#skip("a parent that is no task of the document");
      else edges.push(places[place]!, parent);
    }
    for (const [place, name] of this.#children) {
      const child = named.get(name);
      if (child === undefined) this.#skip("a child that is no task of the document");
      else edges.push(child, places[place]!);
    }
    return edges.lists(tasks.length).distinct();
  }
}

function connectByFiles(tasks: WfTask[], inputs: Lists, outputs: Lists, edges: Pairs): void {
  const writers = new Map<number, number>();
  for (const place of tasks.keys()) for (const file of outputs.of(place)) writers.set(file, place);
  for (const place of tasks.keys()) {
    for (const file of inputs.of(place)) {
      const writer = writers.get(file);
      if (writer !== undefined && writer !== place) edges.push(place, writer);
    }
  }
}

/** Texts, each held once. */
class Numbered {
  readonly texts: string[] = [];
  readonly #numbers = new Map<string, number>();

  get size(): number {
    return this.texts.length;
  }

  find(text: string): number | null {
    return this.#numbers.get(text) ?? null;
  }

  of(text: string): number {
    const known = this.#numbers.get(text);
    if (known !== undefined) return known;
    this.#numbers.set(text, this.texts.length);
    return this.texts.push(text) - 1;
  }

  /** The one that is held. */
  own(text: string): string {
    return this.texts[this.of(text)]!;
  }
}

function objectAt(name: string, bytes: number | undefined): { uri: string; bytes: number } {
  const path = encodeURI(name.toWellFormed().replace(/^\/+/, ""));
  return { uri: `file:///${path}`.slice(0, URI_CHARS_MAX), bytes: Math.round(bytes ?? 0) };
}

/** Some instances write "05-10-23T16:23:32Z". */
function startOf(value: unknown): number {
  const written = text(value) ?? "";
  const [, month, day, year, rest] = /^(\d\d)-(\d\d)-(\d\d)(T.*)$/.exec(written) ?? [];
  const ms = instantOf(rest === undefined ? written : `20${year}-${month}-${day}${rest}`);
  return ms === null || ms < UNKNOWN_START_MS ? UNKNOWN_START_MS : ms;
}

function objectOf(value: unknown): Json {
  return isObject(value) ? value : {};
}

function arrayOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function objectsOf(value: unknown): Json[] {
  return arrayOf(value).filter(isObject);
}

function text(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}

/** Of a quantity. */
function numberOf(value: unknown): number | null {
  return typeof value === "number" && value >= 0 ? value : null;
}

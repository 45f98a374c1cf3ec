// The tasks of a WfFormat document of any version (1.0 to 1.6). In: parsed JSON. Out: tasks with their dependencies by id, and what is none.
//   up to 1.2  "jobs", named by what depends on them      1.3 "tasks"      up to 1.3 "runtime", "size", "memory" in kB
//   1.4        "runtimeInSeconds", "sizeInBytes", "memoryInBytes"
//   1.5, 1.6   what was specified apart from what ran; tasks are named by id
import { isObject } from "../core/spans.ts";
import { instantOf } from "./instant.ts";

export interface WfTask {
  id: string;
  name: string;
  category: string | null;
  program: string | null;
  parents: Set<string>;
  runtimeMs: number | null;
  /** Percent of one core. */
  avgCpu: number | null;
  memoryBytes: number | null;
  inputs: { uri: string; bytes: number }[];
  outputs: { uri: string; bytes: number }[];
}

export interface WfWorkflow {
  name: string;
  beganMs: number;
  /** By id. */
  tasks: Map<string, WfTask>;
  skipped: Map<string, number>;
}

type Json = Record<string, unknown>;

const BYTES_PER_KB = 1000;
const URI_CHARS_MAX = 2048;
/** Order and durations stay where nobody knows when it began. */
const UNKNOWN_START_MS = 1000;

export function workflowOf(value: unknown): WfWorkflow {
  const skipped = new Map<string, number>();
  const skip = (reason: string) => void skipped.set(reason, (skipped.get(reason) ?? 0) + 1);
  const document = objectOf(value);
  const workflow = objectOf(document.workflow);
  const specification = objectOf(workflow.specification);
  const execution = objectOf(workflow.execution);
  const listed = arrayOf(specification.tasks ?? workflow.tasks ?? workflow.jobs);
  if (listed.length === 0) skip("a document without tasks");
  const executed = new Map(objectsOf(execution.tasks).map((task) => [idOf(task), task]));
  const sizes = new Map(objectsOf(specification.files).map((file) => [text(file.id), numberOf(file.sizeInBytes)]));
  const tasks = new Map<string, WfTask>();
  const sources = new Map<string, Json>();
  for (const task of listed) {
    const id = isObject(task) ? idOf(task) : null;
    if (!isObject(task) || id === null) {
      skip("a task without name and id");
      continue;
    }
    tasks.set(id, taskOf(id, task, executed.get(id) ?? task, sizes));
    sources.set(id, task);
  }
  connect(tasks, sources, skip);
  return {
    name: text(document.name) ?? "workflow",
    beganMs: startOf(execution.executedAt ?? workflow.executedAt ?? document.createdAt),
    tasks,
    skipped,
  };
}

function taskOf(id: string, task: Json, run: Json, sizes: Map<string | null, number | null>): WfTask {
  const runtimeS = numberOf(run.runtimeInSeconds) ?? numberOf(run.runtime);
  const memoryKb = numberOf(run.memory);
  const memoryBytes = numberOf(run.memoryInBytes) ?? (memoryKb === null ? null : memoryKb * BYTES_PER_KB);
  const filesOf = (names: unknown, link: string) =>
    Array.isArray(names)
      ? names.map(text).flatMap((name) => (name === null ? [] : [fileOf(name, sizes.get(name) ?? null)]))
      : objectsOf(task.files)
          .filter((file) => String(file.link).toLowerCase() === link && text(file.name) !== null)
          .map((file) =>
            fileOf(`${text(file.path) ?? ""}${text(file.name)}`, numberOf(file.sizeInBytes) ?? numberOf(file.size)),
          );
  return {
    id,
    name: text(task.name) ?? id,
    category: text(task.category),
    program: text(objectOf(run.command).program),
    parents: new Set(),
    runtimeMs: runtimeS === null ? null : runtimeS * 1000,
    avgCpu: numberOf(run.avgCPU),
    memoryBytes: memoryBytes === null ? null : Math.round(memoryBytes),
    inputs: filesOf(task.inputFiles, "input"),
    outputs: filesOf(task.outputFiles, "output"),
  };
}

function fileOf(name: string, bytes: number | null): { uri: string; bytes: number } {
  const path = encodeURI(name.toWellFormed().replace(/^\/+/, ""));
  return { uri: `file:///${path}`.slice(0, URI_CHARS_MAX), bytes: Math.round(bytes ?? 0) };
}

/** Dependencies may be told by either end, by id or by name; where a document tells none, the writers of files come before their readers. */
function connect(tasks: Map<string, WfTask>, sources: Map<string, Json>, skip: (reason: string) => void): void {
  const ids = new Map<unknown, string>();
  for (const id of tasks.keys()) ids.set(id, id);
  for (const { id, name } of tasks.values()) if (!ids.has(name)) ids.set(name, id);
  let isConnected = false;
  for (const [id, source] of sources) {
    for (const reference of arrayOf(source.parents)) {
      const parent = ids.get(reference);
      if (parent === undefined) skip("a parent that is no task of the document");
      else tasks.get(id)!.parents.add(parent);
      isConnected = true;
    }
    for (const reference of arrayOf(source.children)) {
      const child = ids.get(reference);
      if (child === undefined) skip("a child that is no task of the document");
      else tasks.get(child)!.parents.add(id);
      isConnected = true;
    }
  }
  if (isConnected) return;
  const writers = new Map<string, string>();
  for (const { id, outputs } of tasks.values()) for (const { uri } of outputs) writers.set(uri, id);
  for (const { id, inputs, parents } of tasks.values()) {
    for (const { uri } of inputs) {
      const writer = writers.get(uri);
      if (writer !== undefined && writer !== id) parents.add(writer);
    }
  }
}

function idOf(task: Json): string | null {
  return text(task.id) ?? text(task.name);
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

// WfFormat (WfCommons) run records of scientific workflows. They have run times and a DAG but no instants: each task starts when
// the last of its parents has ended. Parents are causes, not callers, so they are links. Schema: github.com/wfcommons/WfFormat.
import { Execution } from "../protocol.ts";
import { type Content, type Imported, type Importer, skipped } from "./format.ts";
import { jsonParts } from "./json-stream.ts";

interface WfTask {
  id?: string;
  name: string;
  parents?: string[];
  inputFiles?: string[];
  outputFiles?: string[];
  // Schemas before 1.5 have the execution beside the specification.
  runtimeInSeconds?: number;
  runtime?: number;
  avgCPU?: number;
  memoryInBytes?: number;
  memory?: number;
  machines?: string[];
  command?: { program?: string };
  files?: { link: string; name: string; sizeInBytes?: number; size?: number }[];
}
interface WfDocument {
  name?: string;
  createdAt?: string;
  workflow?: {
    runName?: string;
    executedAt?: string;
    specification?: { tasks?: WfTask[]; files?: { id: string; sizeInBytes?: number }[] };
    execution?: { executedAt?: string; tasks?: WfTask[] };
    tasks?: WfTask[];
  };
}

/** Bounds of one execution (protocol.ts). */
const LINKS_MAX = 128;
const OBJECTS_MAX = 256;
const CPU_PERCENT = 100;
/** The name of a program; Nextflow writes the whole script there. */
const PROGRAM = /^[\w.+-]{1,128}$/;

async function* read(content: Content, options: { fileId: string }): AsyncGenerator<Imported> {
  for await (const part of jsonParts(content, [])) {
    if ("malformed" in part) yield skipped(`not JSON: ${part.malformed}`);
    else yield* executionsOf(part.value as WfDocument, options.fileId);
  }
}

function* executionsOf(document: WfDocument, fileId: string): Generator<Imported> {
  const workflow = document.workflow ?? {};
  const specified = workflow.specification?.tasks ?? workflow.tasks ?? [];
  const executed = new Map((workflow.execution?.tasks ?? []).map((task) => [idOf(task), task]));
  const sizes = new Map((workflow.specification?.files ?? []).map((file) => [file.id, file.sizeInBytes ?? 0]));
  const beganMs = startOf(workflow.execution?.executedAt ?? workflow.executedAt ?? document.createdAt);
  const { ends, cyclic } = schedule(specified, executed, beganMs);
  const nameOf = namesOf(specified, executed);
  const runId = `${document.name ?? "workflow"}-${fileId}`.slice(0, 128);
  for (const task of specified) {
    const id = idOf(task);
    if (cyclic.has(id)) {
      yield skipped("a task that waits for itself");
      continue;
    }
    const run = executed.get(id) ?? task;
    const endMs = ends.get(id)!;
    const startMs = endMs - runtimeMs(run);
    const inputs = objectsOf(task.inputFiles, task, "input", sizes);
    const outputs = objectsOf(task.outputFiles, task, "output", sizes);
    const dropped = Math.max(0, inputs.length - OBJECTS_MAX) + Math.max(0, outputs.length - OBJECTS_MAX);
    if (dropped > 0)
      yield { kind: "skipped", reason: `files beyond the ${OBJECTS_MAX} of one execution`, count: dropped };
    const memoryBytes = run.memoryInBytes ?? run.memory;
    const parents = (task.parents ?? []).filter((parent) => ends.has(parent));
    // The last to end are those that are waited for.
    const links = parents.toSorted((a, b) => ends.get(b)! - ends.get(a)! || (a < b ? -1 : 1)).slice(0, LINKS_MAX);
    if (parents.length > LINKS_MAX) {
      yield {
        kind: "skipped",
        reason: `parents beyond the ${LINKS_MAX} of one execution`,
        count: parents.length - LINKS_MAX,
      };
    }
    const parsed = Execution.safeParse({
      runId,
      executionId: id.slice(-128),
      ...(links.length > 0 ? { links } : {}),
      task: nameOf(task),
      startMs,
      endMs,
      ...(run.avgCPU === undefined ? {} : { cpuMs: (runtimeMs(run) * run.avgCPU) / CPU_PERCENT }),
      ...(memoryBytes === undefined || !(memoryBytes >= 0) ? {} : { memoryBytes: Math.round(memoryBytes) }),
      inputs: inputs.slice(0, OBJECTS_MAX),
      outputs: outputs.slice(0, OBJECTS_MAX),
    });
    if (parsed.success) yield { kind: "execution", execution: parsed.data };
    else yield skipped(`${parsed.error.issues[0]!.path.join(".")}: ${parsed.error.issues[0]!.message}`);
  }
}

function idOf(task: WfTask): string {
  return task.id ?? task.name;
}

function runtimeMs(task: WfTask): number {
  return Math.max(0, (task.runtimeInSeconds ?? task.runtime ?? 0) * 1000);
}

/**
 * What tells the tasks of a document apart: the program that ran, or the name without its number, whichever makes fewer kinds of
 * task. Names may hold the sample ("fast2bfq_HEP2_s_1_ID0000002"), programs may be a script per instance.
 */
function namesOf(tasks: WfTask[], executed: Map<string, WfTask>): (task: WfTask) => string {
  const programOf = (task: WfTask) => executed.get(idOf(task))?.command?.program?.split("/").at(-1) ?? "";
  const programs = new Set(tasks.map(programOf));
  const names = new Set(tasks.map(taskName));
  const arePrograms = [...programs].every((program) => PROGRAM.test(program));
  return arePrograms && programs.size < names.size ? programOf : taskName;
}

/** Instances differ in their numbers: "blastall_ID000002", "individuals_ID0000001", "chain_00000002" are one task each. */
function taskName(task: WfTask): string {
  const name = task.name.replace(/[_-]?(?:ID)?\d+$/i, "");
  return (name === "" ? task.name : name).slice(0, 256);
}

/** Some instances write "05-10-23T16:23:32Z". Unknown: the first second of the epoch, so that order and durations stay. */
function startOf(text: string | undefined): number {
  const [, month, day, year, rest] = /^(\d\d)-(\d\d)-(\d\d)(T.*)$/.exec(text ?? "") ?? [];
  const ms = Date.parse(rest === undefined ? (text ?? "") : `20${year}-${month}-${day}${rest}`);
  return Number.isNaN(ms) || ms < 1000 ? 1000 : ms;
}

/** The end of each task, ms; tasks in a circle have none. */
function schedule(tasks: WfTask[], executed: Map<string, WfTask>, beganMs: number) {
  const byId = new Map(tasks.map((task) => [idOf(task), task]));
  const ends = new Map<string, number>();
  const waiting = new Map<string, number>();
  const followers = new Map<string, string[]>();
  const ready: string[] = [];
  for (const [id, task] of byId) {
    const parents = (task.parents ?? []).filter((parent) => byId.has(parent));
    waiting.set(id, parents.length);
    if (parents.length === 0) ready.push(id);
    for (const parent of parents) followers.set(parent, [...(followers.get(parent) ?? []), id]);
  }
  while (ready.length > 0) {
    const id = ready.pop()!;
    const task = byId.get(id)!;
    let startMs = beganMs;
    for (const parent of task.parents ?? []) startMs = Math.max(startMs, ends.get(parent) ?? 0);
    ends.set(id, startMs + runtimeMs(executed.get(id) ?? task));
    for (const follower of followers.get(id) ?? []) {
      waiting.set(follower, waiting.get(follower)! - 1);
      if (waiting.get(follower) === 0) ready.push(follower);
    }
  }
  return { ends, cyclic: new Set([...byId.keys()].filter((id) => !ends.has(id))) };
}

function objectsOf(names: string[] | undefined, task: WfTask, link: string, sizes: Map<string, number>) {
  const files =
    names?.map((name) => ({ name, bytes: sizes.get(name) ?? 0 })) ??
    (task.files ?? [])
      .filter((file) => file.link === link)
      .map((file) => ({ name: file.name, bytes: file.sizeInBytes ?? file.size ?? 0 }));
  return files.map(({ name, bytes }) => ({
    uri: `file:///${encodeURI(name.replace(/^\/+/, ""))}`.slice(0, 2048),
    bytes: Math.max(0, Math.round(bytes)),
  }));
}

export const wfformat: Importer = {
  format: "wfformat",
  detects: (head) =>
    /^\s*\{/.test(head) &&
    /"workflow"\s*:/.test(head) &&
    /"(schemaVersion|specification|makespanInSeconds|tasks)"\s*:/.test(head),
  read,
};

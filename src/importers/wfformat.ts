// WfFormat (WfCommons) run records of scientific workflows. They have run times and a DAG but no instants: each task starts when
// the last of its parents has ended. Parents are causes, not callers, so they are links. Schema: github.com/wfcommons/WfFormat, of which
// all versions are met (wf-tasks.ts).
import { Execution } from "../protocol.ts";
import { type Content, type Imported, type Importer, skipped } from "./format.ts";
import { jsonParts } from "./json-stream.ts";
import { WF_ARRAYS, WfDocument, type WfTask, type WfWorkflow } from "./wf-tasks.ts";

/** Bounds of one execution (protocol.ts). */
const LINKS_MAX = 128;
const OBJECTS_MAX = 256;
const CPU_PERCENT = 100;
/** The name of a program; Nextflow writes the whole script there. */
const PROGRAM = /^[\w.+-]{1,128}$/;

async function* read(content: Content, options: { fileId: string }): AsyncGenerator<Imported> {
  let document = new WfDocument();
  for await (const part of jsonParts(content, WF_ARRAYS)) {
    if ("malformed" in part) {
      yield skipped(`not JSON: ${part.malformed}`);
      if (part.isDocument) document = new WfDocument();
    } else if (part.key !== null && part.key !== "") document.add(part.key, part.value);
    else {
      const workflow = document.workflow(part.value);
      document = new WfDocument();
      for (const [reason, count] of workflow.skipped) yield { kind: "skipped", reason, count };
      yield* executionsOf(workflow, options.fileId);
    }
  }
}

function* executionsOf(workflow: WfWorkflow, fileId: string): Generator<Imported> {
  const { tasks } = workflow;
  const ends = schedule(workflow);
  const nameOf = namesOf(tasks);
  const runId = `${workflow.name}-${fileId}`.slice(-128);
  const byEnd = (a: number, b: number) => ends[b]! - ends[a]! || (tasks[a]!.id < tasks[b]!.id ? -1 : 1);
  const objectsOf = (files: Uint32Array) => Array.from(files.subarray(0, OBJECTS_MAX), (file) => workflow.file(file));
  for (const [place, task] of tasks.entries()) {
    const endMs = ends[place]!;
    if (Number.isNaN(endMs)) {
      yield skipped("a task that waits for itself");
      continue;
    }
    const inputs = workflow.inputs.of(place);
    const outputs = workflow.outputs.of(place);
    const dropped = beyond(inputs.length, OBJECTS_MAX) + beyond(outputs.length, OBJECTS_MAX);
    if (dropped > 0)
      yield { kind: "skipped", reason: `files beyond the ${OBJECTS_MAX} of one execution`, count: dropped };
    // The last to end are those that are waited for.
    const parents = [...workflow.parents.of(place)].sort(byEnd);
    const unlinked = beyond(parents.length, LINKS_MAX);
    if (unlinked > 0)
      yield { kind: "skipped", reason: `parents beyond the ${LINKS_MAX} of one execution`, count: unlinked };
    const parsed = Execution.safeParse({
      runId,
      executionId: task.id.slice(-128),
      ...(parents.length > 0
        ? { links: parents.slice(0, LINKS_MAX).map((parent) => tasks[parent]!.id.slice(-128)) }
        : {}),
      task: nameOf(task),
      startMs: endMs - (task.runtimeMs ?? 0),
      // Unknown, where the record is a plan that nobody ran.
      endMs: task.runtimeMs === null ? 0 : endMs,
      ...(task.avgCpu === null || task.runtimeMs === null
        ? {}
        : { cpuMs: (task.runtimeMs * task.avgCpu) / CPU_PERCENT }),
      ...(task.memoryBytes === null ? {} : { memoryBytes: task.memoryBytes }),
      inputs: objectsOf(inputs),
      outputs: objectsOf(outputs),
    });
    if (parsed.success) yield { kind: "execution", execution: parsed.data };
    else yield skipped(`${parsed.error.issues[0]!.path.join(".")}: ${parsed.error.issues[0]!.message}`);
  }
}

function beyond(count: number, bound: number): number {
  return Math.max(0, count - bound);
}

/**
 * What tells the tasks of a document apart: the category, the program that ran, or the name without its number, whichever makes the fewest
 * kinds of task but more than one. Names may hold the sample ("fast2bfq_HEP2_s_1_ID0000002"), programs may be a script per instance.
 */
function namesOf(tasks: WfTask[]): (task: WfTask) => string {
  const programOf = ({ program }: WfTask) => program?.split("/").at(-1) ?? "";
  let best = taskName;
  let fewest = new Set(tasks.map(taskName)).size;
  for (const nameOf of [programOf, ({ category }: WfTask) => category ?? ""]) {
    const kinds = new Set(tasks.map(nameOf));
    if (kinds.size <= 1 || kinds.size >= fewest || ![...kinds].every((kind) => PROGRAM.test(kind))) continue;
    best = nameOf;
    fewest = kinds.size;
  }
  return best;
}

/** Instances differ in their numbers: "blastall_ID000002", "individuals_ID0000001", "chain_00000002" are one task each. */
function taskName(task: WfTask): string {
  const name = task.name.replace(/[_-]?(?:ID)?\d+$/i, "");
  return (name === "" ? task.name : name).slice(0, 256);
}

/** The end of each task, ms; NaN of those in a circle. */
function schedule({ tasks, parents, beganMs }: WfWorkflow): Float64Array {
  const ends = new Float64Array(tasks.length).fill(Number.NaN);
  const followers = parents.inverse();
  const waiting = Uint32Array.from(tasks, (_, place) => parents.of(place).length);
  const ready = [...tasks.keys()].filter((place) => waiting[place] === 0);
  while (ready.length > 0) {
    const place = ready.pop()!;
    let startMs = beganMs;
    for (const parent of parents.of(place)) startMs = Math.max(startMs, ends[parent]!);
    ends[place] = startMs + (tasks[place]!.runtimeMs ?? 0);
    for (const follower of followers.of(place)) if (--waiting[follower]! === 0) ready.push(follower);
  }
  return ends;
}

export const wfformat: Importer = {
  format: "wfformat",
  detects: (head) =>
    /^\s*\{/.test(head) &&
    /"workflow"\s*:/.test(head) &&
    /"(schemaVersion|specification|makespanInSeconds|makespan|tasks|jobs)"\s*:/.test(head),
  read,
};

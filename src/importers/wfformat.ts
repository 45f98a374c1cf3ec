// WfFormat (WfCommons) run records of scientific workflows. They have run times and a DAG but no instants: each task starts when
// the last of its parents has ended. Parents are causes, not callers, so they are links. Schema: github.com/wfcommons/WfFormat, of which
// all versions are met (wf-tasks.ts).
import { Execution } from "../protocol.ts";
import { type Content, type Imported, type Importer, skipped } from "./format.ts";
import { jsonParts } from "./json-stream.ts";
import { type WfTask, type WfWorkflow, workflowOf } from "./wf-tasks.ts";

/** Bounds of one execution (protocol.ts). */
const LINKS_MAX = 128;
const OBJECTS_MAX = 256;
const CPU_PERCENT = 100;
/** The name of a program; Nextflow writes the whole script there. */
const PROGRAM = /^[\w.+-]{1,128}$/;

async function* read(content: Content, options: { fileId: string }): AsyncGenerator<Imported> {
  for await (const part of jsonParts(content, [])) {
    if ("malformed" in part) {
      yield skipped(`not JSON: ${part.malformed}`);
      continue;
    }
    const workflow = workflowOf(part.value);
    for (const [reason, count] of workflow.skipped) yield { kind: "skipped", reason, count };
    yield* executionsOf(workflow, options.fileId);
  }
}

function* executionsOf(workflow: WfWorkflow, fileId: string): Generator<Imported> {
  const { tasks } = workflow;
  const ends = schedule(tasks, workflow.beganMs);
  const nameOf = namesOf([...tasks.values()]);
  const runId = `${workflow.name}-${fileId}`.slice(-128);
  for (const task of tasks.values()) {
    const endMs = ends.get(task.id);
    if (endMs === undefined) {
      yield skipped("a task that waits for itself");
      continue;
    }
    const dropped = beyond(task.inputs.length, OBJECTS_MAX) + beyond(task.outputs.length, OBJECTS_MAX);
    if (dropped > 0)
      yield { kind: "skipped", reason: `files beyond the ${OBJECTS_MAX} of one execution`, count: dropped };
    // The last to end are those that are waited for.
    const parents = [...task.parents].sort((a, b) => (ends.get(b) ?? 0) - (ends.get(a) ?? 0) || (a < b ? -1 : 1));
    const unlinked = beyond(parents.length, LINKS_MAX);
    if (unlinked > 0)
      yield { kind: "skipped", reason: `parents beyond the ${LINKS_MAX} of one execution`, count: unlinked };
    const parsed = Execution.safeParse({
      runId,
      executionId: task.id.slice(-128),
      ...(parents.length > 0 ? { links: parents.slice(0, LINKS_MAX).map((id) => id.slice(-128)) } : {}),
      task: nameOf(task),
      startMs: endMs - (task.runtimeMs ?? 0),
      // Unknown, where the record is a plan that nobody ran.
      endMs: task.runtimeMs === null ? 0 : endMs,
      ...(task.avgCpu === null || task.runtimeMs === null
        ? {}
        : { cpuMs: (task.runtimeMs * task.avgCpu) / CPU_PERCENT }),
      ...(task.memoryBytes === null ? {} : { memoryBytes: task.memoryBytes }),
      inputs: task.inputs.slice(0, OBJECTS_MAX),
      outputs: task.outputs.slice(0, OBJECTS_MAX),
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

/** The end of each task, ms; tasks in a circle have none. */
function schedule(tasks: Map<string, WfTask>, beganMs: number): Map<string, number> {
  const ends = new Map<string, number>();
  const waiting = new Map<string, number>();
  const followers = new Map<string, string[]>();
  const ready: string[] = [];
  for (const [id, { parents }] of tasks) {
    waiting.set(id, parents.size);
    if (parents.size === 0) ready.push(id);
    for (const parent of parents) {
      const known = followers.get(parent);
      if (known === undefined) followers.set(parent, [id]);
      else known.push(id);
    }
  }
  while (ready.length > 0) {
    const id = ready.pop()!;
    const task = tasks.get(id)!;
    let startMs = beganMs;
    for (const parent of task.parents) startMs = Math.max(startMs, ends.get(parent) ?? 0);
    ends.set(id, startMs + (task.runtimeMs ?? 0));
    for (const follower of followers.get(id) ?? []) {
      waiting.set(follower, waiting.get(follower)! - 1);
      if (waiting.get(follower) === 0) ready.push(follower);
    }
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

// A sealed run beside its predictions. In: the run and the model as it was before it learns the run. Out: for each execution and each
// task that was predicted after it or came all the same, the probability and the lead time foretold, and what happened.
// The predictions are asked anew and not kept from serving: the model changes little within a run, and nothing has to be carried.
// Lead times leave out cold starts, as the engine's do (assembly/observe.ts collectDescendants).
import type { Model } from "./graph.ts";
import { hashVersion, REACH_FLOOR } from "./predict.ts";
import { warmStartOf } from "./profile/cold.ts";
import type { AssembledRun } from "./profile.ts";

/** Executions of one run that are looked at, evenly spread: bounds the work for runs of thousands. */
const REVIEWED_MAX = 32;
/** Predictions of one execution that are looked at. */
const PREDICTED_MAX = 32;

export interface Foretold {
  /** Position in the run of the execution that was asked about. */
  execution: number;
  /** The task that was asked for: the gate's context. */
  context: string;
  task: string;
  /** 0: not foretold at all. */
  probability: number;
  happened: boolean;
  lead: { p10: number; p50: number; p90: number } | null;
  /** From the asked execution's start to the task's first; NaN where it did not come or no time is known. */
  leadMs: number;
}

export interface Review {
  /** The first execution's task: what kind of run it was. */
  root: string;
  foretold: Foretold[];
}

export function reviewRun(run: AssembledRun, model: Pick<Model, "engine" | "tasks" | "taskIds">): Review {
  const { executions } = run;
  const foretold: Foretold[] = [];
  const step = Math.max(1, executions.length / REVIEWED_MAX);
  for (let at = 0; at < executions.length; at += step) {
    const i = Math.floor(at);
    if (model.taskIds.has(executions[i]!.task)) foretold.push(...reviewExecution(i, run, model));
  }
  return { root: executions[0]?.task ?? "", foretold };
}

function reviewExecution(i: number, run: AssembledRun, model: Pick<Model, "engine" | "tasks" | "taskIds">): Foretold[] {
  const asked = run.executions[i]!;
  const came = descendantsOf(i, run);
  const answer = model.engine.reach(historyOf(i, run, model.taskIds), REACH_FLOOR, PREDICTED_MAX);
  const foretold: Foretold[] = [];
  for (let r = 0; r < answer.tasks.length; r++) {
    const task = model.tasks[answer.tasks[r]!];
    if (task === undefined) continue;
    const p50 = answer.leadP50Ms[r]!;
    const lead = Number.isNaN(p50) ? null : { p10: answer.leadP10Ms[r]!, p50, p90: answer.leadP90Ms[r]! };
    const leadMs = came.get(task);
    const probability = answer.probabilities[r]!;
    foretold.push({
      execution: i,
      context: asked.task,
      task,
      probability,
      happened: leadMs !== undefined,
      lead,
      leadMs: leadMs ?? Number.NaN,
    });
    came.delete(task);
  }
  for (const [task, leadMs] of came) {
    foretold.push({ execution: i, context: asked.task, task, probability: 0, happened: true, lead: null, leadMs });
  }
  return foretold;
}

/** The path to execution i in the engine's ids; tasks that the model has never seen end it, as in serving. */
function historyOf(i: number, { executions }: AssembledRun, taskIds: ReadonlyMap<string, number>) {
  const tasks: number[] = [];
  const startMs: number[] = [];
  for (let at = i; at >= 0; at = executions[at]!.pathTrigger) {
    const id = taskIds.get(executions[at]!.task);
    if (id === undefined) break;
    tasks.push(id);
    startMs.push(executions[at]!.startMs);
  }
  const { version } = executions[i]!.record.rest;
  return {
    tasks: Uint32Array.from(tasks.reverse()),
    startMs: Float64Array.from(startMs.reverse()),
    version: version === undefined ? 0 : hashVersion(version),
  };
}

/** Lead time to the first execution of each task among the trigger-descendants of execution i, as with everything warm. */
function descendantsOf(i: number, { executions }: AssembledRun): Map<string, number> {
  const descendants = new Set([i]);
  const leads = new Map<string, number>();
  const fromMs = warmStartOf(executions[i]!);
  for (let d = i + 1; d < executions.length; d++) {
    const { triggers, task } = executions[d]!;
    if (!triggers.some((trigger) => descendants.has(trigger))) continue;
    descendants.add(d);
    if (!leads.has(task)) leads.set(task, warmStartOf(executions[d]!) - fromMs);
  }
  return leads;
}

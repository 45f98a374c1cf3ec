// Run assembly. In: the records of one run, in any order. Out: its executions with their triggers, ready to be counted
// (contribution.ts) and learned (`observedRun`). A pure function of the *set* of records: order of arrival plays no part.
//
//   1. collapse: a record without a task, or of no kind and in its parent's service, stands for the nearest task above it and gives it its services
//   2. leave out speculative executions and all below them
//   3. retries: attempts under one trigger are one execution; what a failed attempt had called goes with it
//   4. triggers: links; else the frontier of earlier siblings; else the parent; without any parents, the event before
//   5. order by effective start, triggers first (cycles are cut where the earliest record waits)
//   6. callers: who waited for whom; and how much of each time is cold starts (profile/cold.ts)
import type { ServiceUse } from "../protocol.ts";
import { type ObservedRun, RUN_EXECUTIONS_MAX, RUN_TRIGGERS_MAX } from "./chain-engine.ts";
import { findCallers } from "./profile/callers.ts";
import { addColdTimes } from "./profile/cold.ts";
import { collect, giveServices, resolveParents } from "./profile/collapse.ts";
import { exclude, isCounted, MISSING, type Node, type TriggerKind } from "./profile/node.ts";
import { topological } from "./profile/order.ts";
import { joinRetries } from "./profile/retries.ts";
import { chainInOrder, findTriggers } from "./profile/triggers.ts";
import type { RunRecord } from "./records.ts";

export interface AssembledExecution {
  /** Of the last attempt. */
  record: RunRecord;
  task: string;
  /** Of the first attempt; NaN where unknown. */
  startMs: number;
  /** NaN where unknown or before its start: a duration is never negative and unknown is not 0. */
  endMs: number;
  /** Attempts that failed before this one. */
  retries: number;
  services: ServiceUse[];
  cold: boolean;
  coldStartMs: number | null;
  /** Of the attempts that failed before this one; 0 where unknown. */
  coldRetriesMs: number;
  /** How much sooner it would have started, ended, and been done (its last attempt), had all of the run been warm; 0 where nothing cold is known. */
  coldBeforeStartMs: number;
  coldBeforeEndMs: number;
  coldWithinMs: number;
  /** Positions in `executions`, all smaller than its own. */
  triggers: number[];
  kinds: TriggerKind[];
  /** The one trigger that its path follows; -1 at a root. */
  pathTrigger: number;
  /** Position of the task that called it, -1 where none did or it is missing. */
  parent: number;
  /** Position of the execution that waited for it, smaller than its own; -1: none. */
  caller: number;
}

export interface AssembledRun {
  executions: AssembledExecution[];
  /** A child began before its parent, or an execution ended before it began: clocks disagree. */
  skewed: boolean;
  /** Triggers formed a circle, which was cut. */
  cyclic: boolean;
  /** Executions whose parent was named and never came. */
  orphans: number;
}

/** Assembles a run from all records that are known of it. Records of one execution must have been reduced to one. */
export function assembleRun(records: Iterable<RunRecord>): AssembledRun {
  const { nodes, index, hasParents } = collect(records);
  const collapsed = resolveParents(nodes, index);
  giveServices(nodes, collapsed);
  exclude(nodes);
  joinRetries(nodes, hasParents);
  const alive = nodes.filter((node) => isCounted(node));
  if (hasParents) findTriggers(nodes, alive, index, collapsed);
  else chainInOrder(nodes, alive);
  return ordered(nodes, alive);
}

function ordered(nodes: Node[], alive: Node[]): AssembledRun {
  const run: AssembledRun = { executions: [], skewed: false, cyclic: false, orphans: 0 };
  const { sequence, isCyclic } = topological(nodes);
  run.cyclic = isCyclic;
  const place = new Int32Array(nodes.length).fill(-1);
  for (const [at, position] of sequence.entries()) place[position] = at;
  for (const position of sequence) {
    const node = nodes[position]!;
    if (node.endMs < node.startMs) run.skewed = true;
    if (node.parent === MISSING && node.record.parentId !== null) run.orphans++;
    const parent = nodes[node.parent];
    if (parent !== undefined && parent.startMs > node.startMs) run.skewed = true;
    run.executions.push({
      record: node.record,
      task: node.record.task!,
      startMs: node.startMs,
      endMs: node.endMs < node.startMs ? Number.NaN : node.endMs,
      retries: node.retries,
      services: node.services,
      cold: node.cold,
      coldStartMs: node.coldStartMs,
      coldRetriesMs: node.coldRetriesMs,
      coldBeforeStartMs: 0,
      coldBeforeEndMs: 0,
      coldWithinMs: 0,
      triggers: node.triggers.map((trigger) => place[trigger]!),
      kinds: node.kinds,
      pathTrigger: node.pathTrigger < 0 ? -1 : place[node.pathTrigger]!,
      parent: node.parent < 0 ? -1 : place[node.parent]!,
      caller: -1,
    });
  }
  if (run.executions.length !== alive.length) throw new Error("assembly lost an execution");
  findCallers(run.executions);
  addColdTimes(run.executions);
  return run;
}

// ── For the engine ───────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * The run as the engine learns it. `intern` gives each task its id; `hashVersion` is predict.ts's. Of a run that is longer than
 * the engine takes, its beginning; of triggers in excess, those that no path follows are left out.
 */
export function observedRun(
  run: AssembledRun,
  intern: (task: string) => number,
  hashVersion: (version: string) => number,
): ObservedRun {
  const executions = run.executions.slice(0, RUN_EXECUTIONS_MAX);
  const count = executions.length;
  const triggers: number[] = [];
  const observed: ObservedRun = {
    tasks: new Uint32Array(count),
    versions: new Uint32Array(count),
    startMs: new Float64Array(count),
    endMs: new Float64Array(count),
    coldBeforeMs: new Float64Array(count),
    triggerOffsets: new Uint32Array(count + 1),
    triggers: new Uint32Array(0),
    pathTriggers: new Int32Array(count),
  };
  for (const [i, execution] of executions.entries()) {
    const { version } = execution.record.rest;
    observed.tasks[i] = intern(execution.task);
    observed.versions[i] = version === undefined ? 0 : hashVersion(version);
    observed.startMs[i] = execution.startMs;
    observed.endMs[i] = execution.endMs;
    observed.coldBeforeMs[i] = execution.coldBeforeStartMs;
    observed.pathTriggers[i] = execution.pathTrigger;
    // One place is kept for the path of each execution that is still to come.
    const room = RUN_TRIGGERS_MAX - triggers.length - (count - i);
    const others = execution.triggers.filter((trigger) => trigger !== execution.pathTrigger);
    if (execution.pathTrigger >= 0) triggers.push(execution.pathTrigger);
    triggers.push(...others.slice(0, Math.max(0, room)));
    observed.triggerOffsets[i + 1] = triggers.length;
  }
  observed.triggers = Uint32Array.from(triggers);
  return observed;
}

// Workload. In: the records of a user's log, as the importers give them. Out: runs that can be replayed, oldest first.
// A replayed execution keeps its own duration and its gap to what caused it; when something before it is delayed, it is too:
//   · it starts after the last of its triggers (their end in sequence, their start for a call), by the gap the log shows;
//   · a caller that waited for its callees in the log waits for them again, however late they end.
// Logs that cannot be replayed honestly are refused with a reason; unknown end times become a duration of zero and are counted.
import { MEMORY_UNKNOWN_BYTES } from "../core/demand.ts";
import { warmEndOf, warmStartOf } from "../core/profile/cold.ts";
import { type AssembledExecution, type AssembledRun, assembleRun } from "../core/profile.ts";
import type { RunRecord } from "../core/records.ts";

/** A run of the log. Arrays are by execution, in order of start. */
export interface ReplayRun {
  runId: string;
  /** Of the log, ms since the epoch. */
  startMs: number;
  /** Index of the workload's task. */
  tasks: Uint16Array;
  /** Start after the run's start, as the log shows it without its cold starts, ms; so are the times below. */
  offsetMs: Float64Array;
  durationMs: Float64Array;
  /** Gap between the last trigger and the start, ms. */
  gapMs: Float64Array;
  /** Gap between the end of the last callee waited for and the own end, ms. */
  tailMs: Float64Array;
  /** How many callees it waits for. */
  callees: Uint16Array;
  /** The caller that waits for it, or -1. */
  waitingCaller: Int32Array;
  /** How many triggers it waits for. */
  triggers: Uint16Array;
  /** Followers by CSR: executions that have this one as a trigger; isCall: its start counts (1), or its end (0). */
  followerOffsets: Uint32Array;
  followers: Uint32Array;
  isCall: Uint8Array;
  pathTriggers: Int32Array;
  /** Objects that each execution reads, and those it writes that another of the run reads; indices of `Workload.objects`. */
  inputs: Uint32Array[];
  outputs: Uint32Array[];
  /** Written within the run, and so there only after that: bytes by object. The next run may write as many under the same name, or more. */
  produced: Map<number, number>;
  /** Latest end after the run's start with everything warm, ms. */
  makespanMs: number;
  assembled: AssembledRun;
}

export interface Workload {
  taskNames: string[];
  memoryBytes: Float64Array;
  /** Cold starts that the log itself measured, ms, by task; empty where it has none. */
  coldStartsMs: number[][];
  objects: { uri: string; bytes: number }[];
  /** Oldest first. */
  runs: ReplayRun[];
  executions: number;
  /** Said in the report: what had to be assumed. */
  notes: string[];
}

export type WorkloadFault =
  | { reason: "empty" }
  | { reason: "single-run"; untimed: number }
  | { reason: "no-times"; runs: number }
  | { reason: "no-repeats"; runs: number }
  | { reason: "overlapping-ids"; executionId: string; count: number };

/** Tasks of one workload at most (Uint16Array). */
const TASKS_MAX = 65_535;

export function workloadFault(fault: WorkloadFault): string {
  switch (fault.reason) {
    case "empty":
      return "the log holds no executions: there is nothing to simulate";
    case "single-run": {
      const needed = "one half has to train and the other to be replayed, so at least two are needed";
      if (fault.untimed === 0) return `the log holds a single run: ${needed}`;
      return `a single one of the ${fault.untimed + 1} runs has start times: ${needed}`;
    }
    case "no-times":
      return `none of the ${fault.runs} runs has start times: overhead is a difference of times, and none can be told`;
    case "no-repeats":
      return `no task of the second half of the log occurs in the first half (${fault.runs} runs): nothing can be learned from it`;
    case "overlapping-ids":
      return `${fault.count} execution ids stand for different executions (first: ${JSON.stringify(fault.executionId)}): give each run its own run id`;
  }
}

/** Records → workload. `memoryBytes` stands for tasks whose memory the log does not tell. */
export function workloadOf(records: Iterable<RunRecord>, memoryBytes = MEMORY_UNKNOWN_BYTES): Workload | WorkloadFault {
  const byRun = new Map<string, Map<string, RunRecord>>();
  let overlapping: { executionId: string; count: number } | null = null;
  for (const record of records) {
    let run = byRun.get(record.runId);
    if (run === undefined) {
      run = new Map();
      byRun.set(record.runId, run);
    }
    const known = run.get(record.executionId);
    if (known === undefined) run.set(record.executionId, record);
    else if (known.task !== record.task || isApart(known, record)) {
      overlapping ??= { executionId: record.executionId, count: 0 };
      overlapping.count++;
    } else if ((record.endMs ?? 0) > (known.endMs ?? 0)) run.set(record.executionId, record);
  }
  if (overlapping !== null) return { reason: "overlapping-ids", ...overlapping };
  const assembled: { runId: string; run: AssembledRun }[] = [];
  for (const [runId, run] of byRun) {
    const whole = assembleRun(run.values());
    if (whole.executions.length > 0) assembled.push({ runId, run: whole });
  }
  if (assembled.length === 0) return { reason: "empty" };
  const timed = assembled.filter(({ run }) => run.executions.every(({ startMs }) => !Number.isNaN(startMs)));
  if (timed.length === 0) return { reason: "no-times", runs: assembled.length };
  if (timed.length === 1) return { reason: "single-run", untimed: assembled.length - 1 };
  return build(timed, assembled.length - timed.length, memoryBytes);
}

/** One ended before the other began, and they are no attempts of one: a record that corrects another is of the same time. */
function isApart(known: RunRecord, record: RunRecord): boolean {
  if (known.startMs === null || record.startMs === null || known.rest.attempt !== record.rest.attempt) return false;
  const [first, second] = known.startMs <= record.startMs ? [known, record] : [record, known];
  return first.endMs !== null && first.endMs < second.startMs!;
}

function build(
  timed: { runId: string; run: AssembledRun }[],
  untimed: number,
  memoryUnknownBytes: number,
): Workload | WorkloadFault {
  const ids = new Map<string, number>();
  const memory: number[][] = [];
  const coldStartsMs: number[][] = [];
  const notes: string[] = [];
  let unknownEnds = 0;
  for (const { run } of timed) {
    for (const { task, record, endMs, coldStartMs } of run.executions) {
      let id = ids.get(task);
      if (id === undefined) {
        id = ids.size;
        ids.set(task, id);
        memory.push([]);
        coldStartsMs.push([]);
      }
      if (record.rest.memoryBytes !== undefined) memory[id]!.push(record.rest.memoryBytes);
      if (coldStartMs !== null && coldStartMs > 0) coldStartsMs[id]!.push(coldStartMs);
      if (Number.isNaN(endMs)) unknownEnds++;
    }
  }
  if (ids.size > TASKS_MAX) throw new Error(`at most ${TASKS_MAX} tasks can be simulated, the log has ${ids.size}`);
  const objects = new ObjectIndex();
  const runs = timed.map(({ runId, run }) => replayRun(runId, run, ids, objects)).sort((a, b) => a.startMs - b.startMs);
  const { train, replay } = halves(runs);
  const trained = new Set(train.flatMap((run) => [...run.tasks]));
  if (!replay.some((run) => run.tasks.some((task) => trained.has(task)))) {
    return { reason: "no-repeats", runs: runs.length };
  }
  const unknownMemory = memory.filter((known) => known.length === 0).length;
  if (untimed > 0) notes.push(`${untimed} runs without start times were left out`);
  if (unknownEnds > 0) notes.push(`${unknownEnds} executions without an end are replayed as instantaneous`);
  if (unknownMemory > 0) {
    notes.push(
      `memory of ${unknownMemory} of ${ids.size} tasks is unknown: ${memoryUnknownBytes / 2 ** 20} MB assumed`,
    );
  }
  return {
    taskNames: [...ids.keys()],
    memoryBytes: Float64Array.from(memory, (known) => (known.length === 0 ? memoryUnknownBytes : medianOf(known))),
    coldStartsMs,
    objects: objects.objects,
    runs,
    executions: runs.reduce((sum, run) => sum + run.tasks.length, 0),
    notes,
  };
}

/** The older half trains, the younger is replayed. */
export function halves(runs: ReplayRun[]): { train: ReplayRun[]; replay: ReplayRun[] } {
  const middle = Math.floor(runs.length / 2);
  return { train: runs.slice(0, middle), replay: runs.slice(middle) };
}

function medianOf(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1]!;
}

/** Objects by URI. */
class ObjectIndex {
  readonly objects: { uri: string; bytes: number }[] = [];
  readonly #ids = new Map<string, number>();

  idOf(uri: string, bytes: number): number {
    let id = this.#ids.get(uri);
    if (id === undefined) {
      id = this.objects.push({ uri, bytes }) - 1;
      this.#ids.set(uri, id);
    }
    // Some logs tell no size at each mention.
    if (this.objects[id]!.bytes === 0) this.objects[id]!.bytes = bytes;
    return id;
  }
}

function objectsOf({ executions }: AssembledRun, objects: ObjectIndex) {
  const idsOf = (uses: { uri: string; bytes: number }[] | undefined) =>
    Uint32Array.from(new Set(uses?.map(({ uri, bytes }) => objects.idOf(uri, bytes))));
  const inputs = executions.map(({ record }) => idsOf(record.rest.inputs));
  const read = new Set(inputs.flatMap((ids) => [...ids]));
  const outputs = executions.map(({ record }) => idsOf(record.rest.outputs).filter((id) => read.has(id)));
  const produced = new Map(outputs.flatMap((ids) => [...ids].map((id) => [id, 0])));
  for (const { record } of executions) {
    for (const { uri, bytes } of [...(record.rest.outputs ?? []), ...(record.rest.inputs ?? [])]) {
      const id = objects.idOf(uri, bytes);
      // Writer and readers mean the same bytes: who tells 0 does not know them.
      if (produced.has(id)) produced.set(id, Math.max(produced.get(id)!, bytes));
    }
  }
  return { inputs, outputs, produced };
}

/** One run in the arrays that the world walks. */
function replayRun(
  runId: string,
  assembled: AssembledRun,
  ids: ReadonlyMap<string, number>,
  objects: ObjectIndex,
): ReplayRun {
  const { executions } = assembled;
  const count = executions.length;
  const startMs = executions.reduce((least, execution) => Math.min(least, execution.startMs), Number.POSITIVE_INFINITY);
  const run: ReplayRun = {
    runId,
    startMs,
    tasks: Uint16Array.from(executions, ({ task }) => ids.get(task)!),
    // The log's own cold starts are taken out: the simulation decides who starts cold.
    offsetMs: Float64Array.from(executions, (execution) => warmStartOf(execution) - startMs),
    durationMs: Float64Array.from(executions, (execution) => warmEnd(execution) - warmStartOf(execution)),
    gapMs: new Float64Array(count),
    tailMs: new Float64Array(count),
    callees: new Uint16Array(count),
    waitingCaller: new Int32Array(count).fill(-1),
    ...followersOf(assembled),
    pathTriggers: Int32Array.from(executions, ({ pathTrigger }) => pathTrigger),
    ...objectsOf(assembled, objects),
    makespanMs: 0,
    assembled,
  };
  addGaps(run, assembled);
  let makespanMs = warmMakespan(run);
  if (makespanMs === null) {
    // Events at one instant can make a caller wait for what waits for it: such a run is replayed without waiting callers.
    run.callees.fill(0);
    run.waitingCaller.fill(-1);
    makespanMs = warmMakespan(run);
    if (makespanMs === null) throw new Error(`run ${runId} has triggers in a circle`);
  }
  run.makespanMs = makespanMs;
  return run;
}

function followersOf({ executions }: AssembledRun) {
  const count = executions.length;
  const followerOffsets = new Uint32Array(count + 1);
  for (const { triggers } of executions) for (const trigger of triggers) followerOffsets[trigger + 1]!++;
  for (let i = 0; i < count; i++) followerOffsets[i + 1]! += followerOffsets[i]!;
  const followers = new Uint32Array(followerOffsets[count]!);
  const isCall = new Uint8Array(followers.length);
  const filled = followerOffsets.slice(0, count);
  for (const [i, execution] of executions.entries()) {
    for (const trigger of execution.triggers) {
      const at = filled[trigger]!++;
      followers[at] = i;
      isCall[at] = execution.startMs >= endOf(executions[trigger]!) ? 0 : 1;
    }
  }
  return {
    triggers: Uint16Array.from(executions, ({ triggers }) => triggers.length),
    followerOffsets,
    followers,
    isCall,
  };
}

function endOf(execution: { startMs: number; endMs: number }): number {
  return Number.isNaN(execution.endMs) ? execution.startMs : execution.endMs;
}

function warmEnd(execution: AssembledExecution): number {
  return Number.isNaN(execution.endMs) ? warmStartOf(execution) : warmEndOf(execution);
}

function addGaps(run: ReplayRun, { executions }: AssembledRun): void {
  const lastCalleeEndMs = new Float64Array(executions.length).fill(Number.NEGATIVE_INFINITY);
  for (const [i, execution] of executions.entries()) {
    let lastMs = Number.NEGATIVE_INFINITY;
    for (const t of execution.triggers) {
      const trigger = executions[t]!;
      const isSequence = execution.startMs >= endOf(trigger);
      lastMs = Math.max(lastMs, isSequence ? warmEnd(trigger) : warmStartOf(trigger));
    }
    // Clocks may disagree; a gap is never negative.
    run.gapMs[i] = Number.isFinite(lastMs) ? Math.max(0, warmStartOf(execution) - lastMs) : run.offsetMs[i]!;
    const { caller } = execution;
    if (caller < 0) continue;
    run.waitingCaller[i] = caller;
    run.callees[caller]!++;
    lastCalleeEndMs[caller] = Math.max(lastCalleeEndMs[caller]!, warmEnd(execution));
  }
  for (const [i, execution] of executions.entries()) {
    if (run.callees[i]! > 0) run.tailMs[i] = Math.max(0, warmEnd(execution) - lastCalleeEndMs[i]!);
  }
}

/** The replay with no waits at all, by the same rules that the world follows. Null where some execution waits for itself. */
function warmMakespan(run: ReplayRun): number | null {
  const count = run.tasks.length;
  const startMs = new Float64Array(count).fill(Number.NaN);
  const readyMs = new Float64Array(count);
  const lastCalleeMs = new Float64Array(count).fill(Number.NEGATIVE_INFINITY);
  const callees = Int32Array.from(run.callees);
  const triggers = Int32Array.from(run.triggers);
  const startable: number[] = [];
  let makespanMs = 0;
  let ended = 0;
  const tell = (i: number, atMs: number, isCall: number) => {
    for (let f = run.followerOffsets[i]!; f < run.followerOffsets[i + 1]!; f++) {
      if (run.isCall[f] !== isCall) continue;
      const follower = run.followers[f]!;
      readyMs[follower] = Math.max(readyMs[follower]!, atMs);
      if (--triggers[follower]! === 0) startable.push(follower);
    }
  };
  const finish = (from: number) => {
    for (let i = from; i >= 0; ) {
      const ownMs = startMs[i]! + run.durationMs[i]!;
      const endMs = run.callees[i]! > 0 ? Math.max(ownMs, lastCalleeMs[i]! + run.tailMs[i]!) : ownMs;
      makespanMs = Math.max(makespanMs, endMs);
      ended++;
      tell(i, endMs, 0);
      const caller = run.waitingCaller[i]!;
      if (caller < 0) return;
      lastCalleeMs[caller] = Math.max(lastCalleeMs[caller]!, endMs);
      i = --callees[caller]! === 0 && !Number.isNaN(startMs[caller]!) ? caller : -1;
    }
  };
  for (let i = 0; i < count; i++) if (triggers[i] === 0) startable.push(i);
  for (let i = startable.pop(); i !== undefined; i = startable.pop()) {
    startMs[i] = readyMs[i]! + run.gapMs[i]!;
    tell(i, startMs[i]!, 1);
    if (callees[i] === 0) finish(i);
  }
  return ended === count ? makespanMs : null;
}

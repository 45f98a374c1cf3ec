// What the graph knows, in the shapes that people and the later stages read. In: rows of counts (rows.ts). Out: tasks and
// transitions as `GET /v1/graph` answers them, and a task's TaskProfile (profiles.ts makes those of all).

import type { GraphAnswer, GraphTask, GraphTransition, Quantiles } from "../protocol.ts";
import type { Adjustments } from "./adjustments.ts";
import { type AtOnceLaw, atOnceLawOf } from "./at-once.ts";
import type { ChainEngine } from "./chain-engine.ts";
import { rowParts } from "./contribution.ts";
import { LEAD_TAIL_MIN, leadTailsOf, type Tails, tailsOf } from "./lead-tails.ts";
import { newestDayOf, type Rows, runTotalsOf, taskCountsOf, weightOf } from "./rows.ts";
import { boundedMean, type Counts, countOf, highOf, quantilesOf, wholeShares } from "./sketch.ts";

export interface Successor {
  task: string;
  /** Share of the task's executions that trigger it. */
  probability: number;
  /** How many executions of it one execution triggers at once, and how often each number occurs; absent: one. */
  fanOut?: { count: number; share: number }[];
  /** How many executions of the task trigger one of it together, on average; absent: one. */
  fanIn?: number;
  /** p10 of the time from the task's start to the successor's, ms; absent: unknown. */
  leastLeadMs?: number;
  /** p99 of the same time, ms; absent: unknown. */
  mostLeadMs?: number;
  /** Quantiles of the same time over all runs, ms; absent: unknown. */
  leadMs?: { p01: number; p10: number; p90: number };
}

/** What one execution of a task typically costs. Null is unknown, and unknown is not 0. */
export interface TaskProfile {
  task: string;
  version: string | null;
  count: number;
  /** Warm: without its cold start and those of the callees that it waited for. */
  durationMs: Quantiles | null;
  /** What calls waited for a start, the loading of objects included. */
  coldStartMs: Quantiles | null;
  /** Whole starts of its runtimes as agents measured them (starts.ts); absent: none was. */
  startMs?: Quantiles;
  cpuMs: Quantiles | null;
  memoryBytes: Quantiles | null;
  outputBytes: Quantiles | null;
  /** Means per execution. */
  services: { service: string; calls: number; bytes: number; latencyMs: number | null }[];
  /** Objects it read, with the share of its executions that read them; cut at the most frequent. */
  objects: { uri: string; bytes: number | null; probability: number; producer: string | null }[];
  /** URIs with `{param}` in one path segment. */
  templates: { template: string; bytes: number | null; probability: number }[];
  /** Targets of its transitions with the share of its executions that trigger them; most likely first, cut at 32. */
  successors: Successor[];
  /** Objects it wrote, and the share that a later execution of the same run read: of all, and by the shape of their names (output-shapes.ts); absent: none. */
  outputs?: { count: number; readShare: number; readShares: Record<number, number> };
  /** Share of its executions that read what an earlier task of the run wrote, by the shape of the object's name; absent: none do. */
  reads?: Record<number, number>;
  /** How many executions of it start a run together, on average; absent: one at most. */
  rootsTogether?: number;
  /** Mean number of its executions in a run that has any; absent: unknown. */
  perRun?: number;
  /** In runs with several of it: the most that run at one time, by how many there are; absent: unknown. */
  atOnce?: AtOnceLaw;
  /** p90 ÷ p10 of how many such a run has; absent: unknown. */
  perRunSpread?: number;
  /** Share of a delay of this task that reaches the end of its run: 1 on the critical path. */
  latencySensitivity: number;
}

/** A published version of the model: what the Worker predicts from. */
export interface Model {
  /** Monotonic per workspace; 0 is the empty model. */
  version: number;
  /** Whoever serves only asks; learning is the GraphWriter's. */
  engine: Pick<ChainEngine, "next" | "reach">;
  /** Interned names: index is the engine's task id. */
  tasks: string[];
  taskIds: Map<string, number>;
  profiles: Map<string, TaskProfile>;
  /** Learned from outcomes; absent: nothing is corrected. */
  adjustments?: Adjustments;
}

// ── As people read it ────────────────────────────────────────────────────────────────────────────────────────────────

export interface GraphFilter {
  /** Only this task and its transitions, in and out. */
  task: string | null;
  /** Rows counted less often are left out. */
  minCount: number;
}

/** Tasks and transitions, most frequent first. `version` is that of the published model. */
export function graphAnswer(rows: Rows, version: number, filter: GraphFilter): GraphAnswer {
  const newestDay = newestDayOf(rows);
  const taskCounts = taskCountsOf(rows);
  const versions = new Map<string, Counts[]>();
  const transitions: GraphTransition[] = [];
  for (const [key, counts] of rows) {
    const { family, parts } = rowParts(key);
    const [first, second, third] = parts as [string, string, string];
    if (family === "task") {
      versions.set(first, [...(versions.get(first) ?? []), counts]);
    } else if (family === "transition" && (counts.get("n") ?? 0) >= filter.minCount) {
      if (filter.task !== null && first !== filter.task && second !== filter.task) continue;
      transitions.push(graphTransition(first, second, third as GraphTransition["kind"], counts, taskCounts, newestDay));
    }
  }
  const near = new Set(transitions.flatMap(({ source, target }) => [source, target]));
  const tasks = [...versions]
    .filter(([task]) => filter.task === null || task === filter.task || near.has(task))
    .map(([task, counts]) => graphTask(task, sumOf(counts), counts.length))
    .filter((task) => task.count >= filter.minCount);
  tasks.sort((a, b) => b.count - a.count || (a.task < b.task ? -1 : 1));
  transitions.sort(
    (a, b) => b.count - a.count || (`${a.source} ${a.target} ${a.kind}` < `${b.source} ${b.target} ${b.kind}` ? -1 : 1),
  );
  return { version, tasks, transitions, ...runTotalsOf(rows) };
}

function graphTask(task: string, counts: Counts, versions: number): GraphTask {
  const count = counts.get("n") ?? 0;
  return {
    task,
    count,
    runs: counts.get("r") ?? 0,
    roots: counts.get("0") ?? 0,
    errors: counts.get("x") ?? 0,
    retries: counts.get("a") ?? 0,
    coldStarts: counts.get("k") ?? 0,
    versions,
    durationMs: quantilesOf(counts, "d"),
    coldStartMs: quantilesOf(counts, "c"),
    queueMs: quantilesOf(counts, "q"),
    cpuMs: quantilesOf(counts, "u"),
    memoryBytes: quantilesOf(counts, "m"),
    outputBytes: quantilesOf(counts, "o"),
    latencySensitivity: latencySensitivityOf(counts),
  };
}

export function graphTransition(
  source: string,
  target: string,
  kind: GraphTransition["kind"],
  counts: Counts,
  taskCounts: ReadonlyMap<string, number>,
  newestDay: number | null,
): GraphTransition {
  const count = counts.get("n") ?? 0;
  const sources = counts.get("s") ?? 0;
  const known = counts.get("T") ?? 0;
  return {
    source,
    target,
    kind,
    count,
    weight: weightOf(counts, newestDay),
    probability: Math.min(1, sources / Math.max(1, taskCounts.get(source) ?? 0)),
    multiplicity: sources === 0 ? 0 : count / sources,
    delayMs: quantilesOf(counts, "d"),
    transferBytes: known === 0 ? null : boundedMean((counts.get("t") ?? 0) / known, counts, "v"),
  };
}

function latencySensitivityOf(counts: Counts): number {
  return (counts.get("l") ?? 0) / 1000 / Math.max(1, counts.get("n") ?? 0);
}

function sumOf(rows: Counts[]): Counts {
  if (rows.length === 1) return rows[0]!;
  const sum: Counts = new Map();
  for (const row of rows) for (const [field, count] of row) sum.set(field, (sum.get(field) ?? 0) + count);
  return sum;
}

// ── As the later stages read it ──────────────────────────────────────────────────────────────────────────────────────

/** Executions from which on a version's own statistics stand for it; before, it inherits those of all versions. */
const VERSION_OWN_MIN = 20;
/** Of each task, most frequent first: what a plan could ever use. */
const OBJECTS_MAX = 32;
const TEMPLATES_MAX = 16;
const SERVICES_MAX = 32;
const SUCCESSORS_MAX = 32;

/** The rows that a task's profile is made of. */
export interface TaskRows {
  versions: { version: string; counts: Counts }[];
  services: [string, Counts][];
  objects: [string, Counts][];
  templates: [string, Counts][];
  /** By task: the transitions of each kind. */
  successors: Map<string, { kind: string; counts: Counts }[]>;
}

export function profileOf(task: string, rows: TaskRows): TaskProfile {
  const all = sumOf(rows.versions.map(({ counts }) => counts));
  const newest = rows.versions.reduce((a, b) => (isNewer(b, a) ? b : a));
  const own = (newest.counts.get("n") ?? 0) >= VERSION_OWN_MIN ? newest.counts : all;
  const count = Math.max(1, all.get("n") ?? 0);
  const durationMs = quantilesOf(own, "d");
  const durations = durationMs === null ? null : tailsOf(own, "d", highOf(own, "d", durationMs.p50));
  return {
    task,
    version: newest.version === "" ? null : newest.version,
    count,
    durationMs,
    // A new version that has not started cold yet inherits too.
    coldStartMs: quantilesOf(own, "c") ?? quantilesOf(all, "c"),
    cpuMs: quantilesOf(own, "u"),
    memoryBytes: quantilesOf(own, "m"),
    outputBytes: quantilesOf(own, "o"),
    services: top(rows.services, "x", SERVICES_MAX).map(([service, counts]) => ({
      service,
      ...serviceOf(counts, count),
    })),
    objects: top(rows.objects, "n", OBJECTS_MAX).map(([uri, counts]) => ({
      uri,
      bytes: sizeOf(counts),
      probability: Math.min(1, counts.get("n")! / count),
      producer: producerOf(counts),
    })),
    templates: top(rows.templates, "n", TEMPLATES_MAX).map(([template, counts]) => ({
      template,
      bytes: sizeOf(counts),
      probability: Math.min(1, counts.get("n")! / count),
    })),
    successors: [...rows.successors]
      .map(([successor, counts]) => successorOf(successor, counts, count, durations))
      .sort((a, b) => b.probability - a.probability || (a.task < b.task ? -1 : 1))
      .slice(0, SUCCESSORS_MAX),
    ...rootsOf(all),
    perRun: count / Math.max(1, all.get("r") ?? 0),
    ...atOnceOf(all),
    ...outputsOf(all),
    ...readsOf(all, count),
    latencySensitivity: latencySensitivityOf(all),
  };
}

/** Mean of one execution of the task, whether it asks the service or not; latency of one call. */
function serviceOf(
  counts: Counts,
  executions: number,
): Pick<TaskProfile["services"][number], "calls" | "bytes" | "latencyMs"> {
  const asking = counts.get("x") ?? 0;
  const mean = (field: string, letter: string) => {
    const sum = counts.get(field) ?? 0;
    const bounded = asking === 0 ? 0 : boundedMean(sum / asking, counts, letter);
    return bounded === sum / asking ? sum / executions : (bounded * asking) / executions;
  };
  const timed = counts.get("L") ?? 0;
  const latencyUs = timed === 0 ? null : boundedMean((counts.get("l") ?? 0) / timed, counts, "w");
  return { calls: mean("n", "c"), bytes: mean("b", "v"), latencyMs: latencyUs === null ? null : latencyUs / 1000 };
}

function sizeOf(counts: Counts): number {
  return Math.round(boundedMean((counts.get("b") ?? 0) / counts.get("n")!, counts, "v"));
}

function rootsOf(counts: Counts): Pick<TaskProfile, "rootsTogether"> {
  const rootsTogether = (counts.get("0") ?? 0) / Math.max(1, counts.get("r") ?? 0);
  return rootsTogether > 1 ? { rootsTogether } : {};
}

function atOnceOf(counts: Counts): Pick<TaskProfile, "atOnce" | "perRunSpread"> {
  const perRun = quantilesOf(counts, "N");
  if (perRun === null) return {};
  const atOnce = atOnceLawOf(counts, countOf(counts, "N"));
  return { ...(atOnce === null ? {} : { atOnce }), perRunSpread: perRun.p90 / perRun.p10 };
}

/** A shape seen rarely is taken to be as its task's outputs are on the whole: that counts as so many of its own. */
const SHAPE_PRIOR_OUTPUTS = 1;

function outputsOf(counts: Counts): Pick<TaskProfile, "outputs"> {
  const count = counts.get("W") ?? 0;
  if (count === 0) return {};
  const readShare = (counts.get("R") ?? 0) / count;
  const readShares: Record<number, number> = {};
  for (const [shape, written] of numbered(counts, "W")) {
    const read = counts.get(`R${shape}`) ?? 0;
    readShares[shape] = (read + SHAPE_PRIOR_OUTPUTS * readShare) / (written + SHAPE_PRIOR_OUTPUTS);
  }
  return { outputs: { count, readShare, readShares } };
}

function readsOf(counts: Counts, executions: number): Pick<TaskProfile, "reads"> {
  const reads = numbered(counts, "F").map(([shape, count]) => [shape, Math.min(1, count / executions)]);
  return reads.length === 0 ? {} : { reads: Object.fromEntries(reads) };
}

/** Fields that are a letter and a number. */
function numbered(counts: Counts, letter: string): [number, number][] {
  return [...counts]
    .filter(([field]) => field[0] === letter && field.length > 1)
    .map(([field, count]) => [Number(field.slice(1)), count]);
}

function successorOf(
  task: string,
  kinds: { kind: string; counts: Counts }[],
  sources: number,
  durations: Tails | null,
): Successor {
  const counts = sumOf(kinds.map((each) => each.counts));
  const probability = Math.min(1, (counts.get("s") ?? 0) / sources);
  const fanOut = wholeShares(counts, "f");
  const fanIn = (counts.get("n") ?? 0) / Math.max(1, counts.get("g") ?? 1);
  const isSingle = fanOut.every(({ count }) => count <= 1);
  const leadMs = leadTailsOf(kinds, durations);
  return {
    task,
    probability,
    ...(isSingle ? {} : { fanOut }),
    ...(fanIn > 1 ? { fanIn } : {}),
    ...(leadMs === null ? {} : { leastLeadMs: leadMs.p10, mostLeadMs: leadMs.p99 }),
    ...(leadMs === null || (counts.get("n") ?? 0) < LEAD_TAIL_MIN ? {} : { leadMs }),
  };
}

/** By the newest day it ran, then by its name read as a version number. */
function isNewer(a: TaskRows["versions"][number], b: TaskRows["versions"][number]): boolean {
  const days = newestDay(a.counts) - newestDay(b.counts);
  return days > 0 || (days === 0 && compareVersions(a.version, b.version) > 0);
}

function newestDay(counts: Counts): number {
  let newest = 0;
  for (const field of counts.keys()) {
    const day = field[0] === "y" && field !== "yu" ? Number(field.slice(1)) : 0;
    if (day > newest) newest = day;
  }
  return newest;
}

/** "1.10" is newer than "1.9": digits compare as numbers, the rest as text. */
function compareVersions(a: string, b: string): number {
  const left = a.match(/\d+|\D+/g) ?? [];
  const right = b.match(/\d+|\D+/g) ?? [];
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const l = left[i] ?? "";
    const r = right[i] ?? "";
    if (l === r) continue;
    const difference = Number(l) - Number(r);
    return Number.isNaN(difference) || difference === 0 ? (l < r ? -1 : 1) : difference;
  }
  return 0;
}

function top(rows: [string, Counts][], field: string, limit: number): [string, Counts][] {
  return rows
    .filter(([, counts]) => (counts.get(field) ?? 0) > 0)
    .sort(([a, left], [b, right]) => right.get(field)! - left.get(field)! || (a < b ? -1 : 1))
    .slice(0, limit);
}

/** The task that most often had written the object; null where no execution of the same run had. */
function producerOf(counts: Counts): string | null {
  let producer: string | null = null;
  let most = 0;
  for (const [field, count] of counts) {
    if (field[0] !== "p" || count < most || (count === most && producer !== null && field.slice(1) > producer))
      continue;
    producer = field.slice(1);
    most = count;
  }
  return producer;
}

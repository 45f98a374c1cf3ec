// Demand. In: a predicted chain, the tasks' profiles and the operator's declarations. Out: what the chain needs of a cluster:
// CPU, peak concurrent memory, network bytes, the prefetch set with deadlines, and its score.
// What was measured goes before what is declared; unknown is null, and null is not 0.
import type { Chain, Demand, PrefetchItem, TaskDeclaration } from "../protocol.ts";
import type { AtOnceLaw } from "./at-once.ts";
import type { TaskProfile } from "./graph.ts";
import type { ChainTask, PredictedChain, Route } from "./predict.ts";

/** Memory of a task of which nothing is known, bytes: the usual default of function platforms is 256 MiB. */
export const MEMORY_UNKNOWN_BYTES = 256 * 2 ** 20;
/** Cold start of a task of which nothing is known, ms: a small interpreter's start. */
export const COLD_START_UNKNOWN_MS = 250;
/** Duration of a task of which nothing is known, ms. */
const DURATION_UNKNOWN_MS = 100;
/** An object read by fewer of a task's executions than this is never in the prefetch set. */
const OBJECT_FLOOR = 0.05;
/** Objects of one chain at most: bounds the plan. */
const PREFETCH_ITEMS_MAX = 128;
/** Prices relative to one CPU second: list prices of large clouds (memory per GB second, traffic between zones per GB). */
const PRICE_PER_GB_SECOND = 0.11;
const PRICE_PER_GB = 900;
const BYTES_PER_GB = 2 ** 30;

/** One task of a chain with everything that placement and planning ask of it. */
export interface TaskDemand {
  task: string;
  version: string | null;
  /** That it executes; 1 for the asked task itself. */
  probability: number;
  multiplicity: number;
  lead: { p10: number; p50: number; p90: number } | null;
  durationMs: number;
  /** What a call without a warm runtime waits, objects included. */
  coldStartMs: number;
  /** Its runtime's start alone. */
  startMs: number;
  /** p90 of its cold starts. */
  slowStartMs: number;
  cpuMs: number;
  memoryBytes: number;
  latencyWeight: number;
  latencySensitivity: number;
  prewarm: "allowed" | "never";
  services: { service: string; calls: number; bytes: number }[];
  objects: PrefetchItem[];
  /** Executions of it in a run that has any, on average; null: unknown. */
  perRun: number | null;
  /** The most of them that run at one time; null: all, as far as is known. */
  atOnce: AtOnceLaw | null;
  /** How much runs differ in it: p90 ÷ p10 of executions per run. */
  perRunSpread: number;
  /** The likely way from the asked task; null where none is known. */
  way: Route | null;
}

export interface ChainDemand {
  chain: PredictedChain;
  /** In the chain's order, the asked task first. */
  tasks: TaskDemand[];
  /** The later tasks: those that can be prepared. */
  members: Set<string>;
  /** Tasks outside the chain that may execute all the same: no room is held for them, but preparing one may pay. */
  possible: TaskDemand[];
  largestTaskBytes: number;
  total: Demand;
  scored: Chain;
}

export interface DemandInput {
  /** The asked execution's own objects and parameters. */
  task: string;
  version: string | null;
  params: Record<string, string | number | boolean>;
  inputs: { uri: string; bytes: number | null }[];
  /** Tasks that have executed before: what they produce can be fetched. */
  path: string[];
}

export interface DemandKnowledge {
  profiles: Map<string, TaskProfile>;
  declarations: Record<string, TaskDeclaration>;
  /** Ways from the asked task (predict.ts routesFrom). */
  routes?: ReadonlyMap<string, Route>;
}

/** `isWhole`: this is the largest chain, so tasks outside it are weighed too (`possible`). */
export function demandOf(
  chain: PredictedChain,
  reach: ChainTask[],
  input: DemandInput,
  knowledge: DemandKnowledge,
  isWhole = false,
): ChainDemand {
  const reached = new Map(reach.map((task) => [task.task, task]));
  const inChain = new Set(chain.tasks);
  const tasks = chain.tasks.map((task, position) => {
    const demand = taskDemand(task, position === 0 ? null : (reached.get(task) ?? null), chain, input, knowledge);
    markProduced(demand.objects, inChain, input.path);
    return demand;
  });
  const possible: TaskDemand[] = [];
  if (isWhole) {
    for (const task of reach) {
      if (inChain.has(task.task)) continue;
      const demand = taskDemand(task.task, task, chain, input, knowledge);
      markProduced(demand.objects, inChain, input.path);
      possible.push(demand);
    }
  }
  const total = totalOf(tasks);
  return {
    chain,
    tasks,
    members: new Set(chain.tasks.slice(1)),
    possible,
    largestTaskBytes: Math.max(...tasks.map((task) => task.memoryBytes)),
    total,
    scored: score(chain, tasks, total),
  };
}

/** An object that a task of this chain has yet to write cannot be fetched now; one from elsewhere, or already written, can. */
function markProduced(objects: PrefetchItem[], inChain: Set<string>, path: string[]): void {
  for (const object of objects) {
    const { producer } = object;
    if (producer !== null && (!inChain.has(producer) || path.includes(producer))) object.producer = null;
  }
}

function taskDemand(
  task: string,
  reached: ChainTask | null,
  chain: PredictedChain,
  input: DemandInput,
  knowledge: DemandKnowledge,
): TaskDemand {
  const profile = knowledge.profiles.get(task) ?? null;
  const declared = knowledge.declarations[task] ?? null;
  const isRoot = task === chain.tasks[0] && reached === null;
  const probability = isRoot ? 1 : (reached?.probability ?? chain.probability);
  const lead = isRoot ? { p10: 0, p50: 0, p90: 0 } : (reached?.leadTimeMs ?? null);
  const durationMs = profile?.durationMs?.p50 ?? DURATION_UNKNOWN_MS;
  const coldStartMs = profile?.coldStartMs?.p50 ?? declared?.coldStartMs ?? COLD_START_UNKNOWN_MS;
  return {
    task,
    version: (isRoot ? input.version : null) ?? declared?.version ?? profile?.version ?? null,
    probability,
    multiplicity: reached?.multiplicity ?? 1,
    lead,
    durationMs,
    coldStartMs,
    startMs: profile?.startMs?.p50 ?? coldStartMs,
    slowStartMs: profile?.coldStartMs?.p90 ?? declared?.coldStartMs ?? COLD_START_UNKNOWN_MS,
    cpuMs: profile?.cpuMs?.p50 ?? declared?.cpuMs ?? durationMs,
    memoryBytes: profile?.memoryBytes?.p90 ?? declared?.memoryBytes ?? MEMORY_UNKNOWN_BYTES,
    latencyWeight: declared?.latencyWeight ?? 1,
    latencySensitivity: profile?.latencySensitivity ?? 1,
    prewarm: declared?.prewarm ?? "allowed",
    services: profile && profile.services.length > 0 ? profile.services : (declared?.services ?? []),
    objects: objectsOf(task, probability, lead?.p10 ?? 0, isRoot ? input.inputs : [], input.params, profile, declared),
    perRun: profile?.perRun ?? null,
    atOnce: profile?.atOnce ?? null,
    perRunSpread: profile?.perRunSpread ?? 1,
    way: isRoot ? null : (knowledge.routes?.get(task) ?? null),
  };
}

function objectsOf(
  task: string,
  probability: number,
  deadlineMs: number,
  inputs: DemandInput["inputs"],
  params: DemandInput["params"],
  profile: TaskProfile | null,
  declared: TaskDeclaration | null,
): PrefetchItem[] {
  const isEmpty = inputs.length === 0 && (profile === null || profile.objects.length + profile.templates.length === 0);
  if (isEmpty && (declared === null || declared.code.length + declared.objects.length === 0)) return [];
  const items = new Map<string, PrefetchItem>();
  const add = (
    kind: PrefetchItem["kind"],
    uri: string | null,
    bytes: number | null,
    share: number,
    producer: string | null,
  ) => {
    if (uri === null || share < OBJECT_FLOOR) return;
    const known = items.get(uri);
    const likelier = Math.max(known?.probability ?? 0, probability * share);
    items.set(uri, {
      kind,
      uri,
      bytes: bytes ?? known?.bytes ?? null,
      task,
      probability: likelier,
      deadlineMs,
      producer,
    });
  };
  for (const object of inputs) add("object", object.uri, object.bytes, 1, null);
  for (const code of declared?.code ?? []) add("code", code.uri, code.bytes ?? null, 1, null);
  for (const object of declared?.objects ?? [])
    add("object", fillTemplate(object.uri, params), object.bytes ?? null, 1, null);
  for (const object of profile?.objects ?? [])
    add("object", object.uri, object.bytes, object.probability, object.producer);
  for (const t of profile?.templates ?? [])
    add("object", fillTemplate(t.template, params), t.bytes, t.probability, null);
  return [...items.values()].sort((a, b) => b.probability - a.probability).slice(0, PREFETCH_ITEMS_MAX);
}

/**
 * `https://store/videos/{videoId}.bin` with a parameter in place. A parameter fills a part of one path segment only, never a
 * scheme, host or bucket, and is percent-encoded. Null where a parameter is missing or would leave its segment.
 */
export function fillTemplate(template: string, params: Record<string, string | number | boolean>): string | null {
  if (!template.includes("{")) return template;
  const origin = /^[a-z][a-z0-9+.-]*:\/\/[^/{}]*\//i.exec(template)?.[0];
  if (origin === undefined) return null;
  let missing = false;
  const path = template.slice(origin.length).replace(/\{([^{}/]+)\}/g, (_, name: string) => {
    const value = Object.hasOwn(params, name) ? String(params[name]) : "";
    if (value === "" || value === "." || value === "..") missing = true;
    return encodeURIComponent(value);
  });
  return missing || path.includes("{") ? null : origin + path;
}

function totalOf(tasks: TaskDemand[]): Demand {
  const prefetch = new Map<string, PrefetchItem>();
  let cpuMs = 0;
  let networkBytes = 0;
  for (const task of tasks) {
    const expected = task.probability * task.multiplicity;
    cpuMs += expected * task.cpuMs;
    for (const service of task.services) networkBytes += expected * service.bytes;
    for (const object of task.objects) {
      const known = prefetch.get(object.uri);
      if (!known) networkBytes += object.probability * (object.bytes ?? 0);
      // One object that several tasks read is fetched once, for the first of them and the likeliest.
      prefetch.set(object.uri, {
        ...object,
        deadlineMs: Math.min(object.deadlineMs, known?.deadlineMs ?? Number.POSITIVE_INFINITY),
        probability: Math.max(object.probability, known?.probability ?? 0),
      });
    }
  }
  const items = [...prefetch.values()].sort((a, b) => a.deadlineMs - b.deadlineMs).slice(0, PREFETCH_ITEMS_MAX);
  return { cpuMs, peakMemoryBytes: peakMemory(tasks), networkBytes, prefetch: items };
}

/** The most memory held at one time, by the tasks' expected intervals [lead p50, + duration]: some task begins then. */
function peakMemory(tasks: TaskDemand[]): number {
  let peakBytes = 0;
  for (const { lead } of tasks) {
    const atMs = lead?.p50 ?? 0;
    let heldBytes = 0;
    for (const other of tasks) {
      const startMs = other.lead?.p50 ?? 0;
      if (startMs <= atMs && atMs < startMs + Math.max(other.durationMs, 1)) heldBytes += other.memoryBytes;
    }
    peakBytes = Math.max(peakBytes, heldBytes);
  }
  return peakBytes;
}

/** Score of one expected run: avoidable ms × sensitivity ÷ demand. (The chains of the graph multiply by runs per hour.) */
function score(chain: PredictedChain, tasks: TaskDemand[], total: Demand): Chain {
  let gbSeconds = 0;
  let avoidableMs = 0;
  let sensitiveMs = 0;
  for (const task of tasks.slice(1)) {
    const expected = task.probability;
    avoidableMs += expected * task.coldStartMs;
    sensitiveMs += expected * task.coldStartMs * task.latencySensitivity * task.latencyWeight;
  }
  for (const task of tasks) {
    gbSeconds += task.probability * task.multiplicity * (task.memoryBytes / BYTES_PER_GB) * (task.durationMs / 1000);
  }
  const resourceDemand =
    total.cpuMs / 1000 + gbSeconds * PRICE_PER_GB_SECOND + (total.networkBytes / BYTES_PER_GB) * PRICE_PER_GB;
  const latencySensitivity = avoidableMs > 0 ? sensitiveMs / avoidableMs : 0;
  return {
    tasks: chain.tasks,
    probability: chain.probability,
    score: resourceDemand > 0 ? (chain.probability * sensitiveMs) / resourceDemand : 0,
    resourceDemand,
    latencySensitivity,
  };
}

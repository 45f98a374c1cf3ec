// Predict. In: a task request and the model. Out: what starts first, what executes at all, by which route, as which chains.
// The engine answers `next` and `reach` by direct evidence; the walks here are bounded best-first searches that only name
// routes over transitions and enumerate likely paths: they never change a probability of the engine.
import type { Reach } from "../protocol.ts";
import type { History } from "./chain-engine.ts";
import { fnv1a } from "./fnv.ts";
import type { Model, Successor } from "./graph.ts";

/** Reach below this is noise to an operator and never worth a command. */
export const REACH_FLOOR = 0.01;
/** Tasks of `reach` unless the caller asks for fewer. */
const REACH_TASKS_MAX = 64;
/** Symbols asked of the engine for `next`; the contract says that nothing cuts it. */
const NEXT_TASKS_MAX = 4096;
/** Tasks at least this likely form the expected tree: more likely to execute than not. */
const TREE_FLOOR = 0.5;
/** Bounds of the walk for likely paths: tasks after the root, paths told, successors tried of each, least probability, expansions. */
const PATH_DEPTH_MAX = 16;
const PATHS_MAX = 4;
const PATH_BREADTH_MAX = 8;
const PATH_FLOOR = 0.05;
const PATH_EXPANSIONS_MAX = 32;
/** Bounds of the walk that names routes. */
const ROUTE_DEPTH_MAX = 16;
const ROUTE_EXPANSIONS_MAX = 256;
const ROUTE_FLOOR = 0.001;
/** A transition is a fan-out where one execution triggers this many at once on average, and a join where this many trigger one. */
export const TOGETHER_MIN = 1.5;

export interface ChainTask extends Reach {
  /** From the start of the asked execution; null where no lead time is known. */
  leadTimeMs: Reach["leadTimeMs"];
}

/** The likeliest way from the asked task (the root) to a later one, and how many executions of it the root causes at once. */
export interface Route {
  tasks: string[];
  /** For each task: p10 of the time from the start of the task before it, ms; 0 where unknown, and for the first. */
  leastLeadsMs: number[];
  /** p99 of the time from the start of the last task before it, ms; null: unknown. */
  mostLeadMs: number | null;
  /** Quantiles of the same time; null: unknown, or too few cases are known. */
  lastLeadMs: Successor["leadMs"] | null;
  /** How many executions the transition on the way that fans out most triggers, as a distribution; null: none fans out. */
  fanOut: { count: number; share: number }[] | null;
  /** The fan-outs of the other transitions on the way, multiplied. */
  factor: number;
  /** Fan-outs on the way that no later join has closed. */
  open: number;
  /** Joins that close branches opened before the root: each of the joined executions predicts the same one. */
  joins: number;
}

/** A chain before its cost is known: the root first, then the later tasks in order of their expected start. */
export interface PredictedChain {
  shape: "tree" | "path" | "task";
  tasks: string[];
  probability: number;
}

export interface ChainPrediction {
  modelVersion: number;
  next: { task: string | null; probability: number }[];
  reach: ChainTask[];
  /** The expected tree first, then the likeliest paths; always ends with the task alone, so that something can be placed. */
  chains: PredictedChain[];
}

export interface PredictInput {
  task: string;
  version: string | null;
  path: string[];
  pathStartMs: number[];
  horizonMs: number | null;
  maxTasks: number | null;
}

/** The answer where the model does not know the task: no probabilities are invented. */
export function predictNothing(task: string, modelVersion: number): ChainPrediction {
  return { modelVersion, next: [], reach: [], chains: [{ shape: "task", tasks: [task], probability: 1 }] };
}

/** What a caller wants beside the whole tree. Each part costs time, and not every caller uses it. */
export interface Wanted {
  /** What starts first: for readers, no plan needs it. */
  next: boolean;
  /** The likeliest paths, and the task alone: for where the whole tree has no room. */
  paths: boolean;
}

export function predict(input: PredictInput, nowMs: number, model: Model, wanted: Wanted): ChainPrediction {
  const history = historyOf(input, nowMs, model);
  if (history === null) return predictNothing(input.task, model.version);
  const next = wanted.next ? nextOf(history, model) : [];
  const reach = reachOf(history, input, model);
  const tree = treeOf(input.task, reach);
  const alone: PredictedChain = { shape: "task", tasks: [input.task], probability: 1 };
  const whole = tree ?? alone;
  if (!wanted.paths) return { modelVersion: model.version, next, reach, chains: [whole] };
  // Where there is a single path, it equals the tree and is left out.
  const paths = pathsOf(input.task, history, model).filter(({ tasks }) => !isSameSet(tasks, whole.tasks));
  return { modelVersion: model.version, next, reach, chains: [...(tree === null ? [] : [tree]), ...paths, alone] };
}

function isSameSet(some: string[], others: string[]): boolean {
  return some.length === others.length && some.every((task) => others.includes(task));
}

/** Null where the model has never seen the task. The history begins after the last task of the path that the model does not know. */
function historyOf(input: PredictInput, nowMs: number, model: Model): History | null {
  const last = model.taskIds.get(input.task);
  if (last === undefined) return null;
  const { path, pathStartMs } = input;
  let from = path.length;
  while (from > 0 && model.taskIds.has(path[from - 1]!)) from--;
  const tasks = new Uint32Array(path.length - from + 1);
  const startMs = new Float64Array(tasks.length);
  for (let i = from; i < path.length; i++) {
    tasks[i - from] = model.taskIds.get(path[i]!)!;
    startMs[i - from] = pathStartMs[i] ?? Number.NaN;
  }
  tasks[tasks.length - 1] = last;
  startMs[tasks.length - 1] = nowMs;
  return { tasks, startMs, version: input.version === null ? 0 : hashVersion(input.version) };
}

/** 0 is kept for "unknown". Learning and serving must agree on it. */
export function hashVersion(version: string): number {
  return fnv1a(version) || 1;
}

function nextOf(history: History, model: Model): ChainPrediction["next"] {
  const answer = model.engine.next(history, NEXT_TASKS_MAX);
  const next: ChainPrediction["next"] = Array.from(answer.tasks, (id, i) => ({
    task: model.tasks[id] ?? null,
    probability: answer.probabilities[i]!,
  }));
  next.push({ task: null, probability: answer.end });
  return next.sort((a, b) => b.probability - a.probability);
}

function reachOf(history: History, input: PredictInput, model: Model): ChainTask[] {
  const answer = model.engine.reach(history, REACH_FLOOR, input.maxTasks ?? REACH_TASKS_MAX);
  const routes = routesFrom(input.task, model);
  const reach: ChainTask[] = [];
  for (let i = 0; i < answer.tasks.length; i++) {
    const task = model.tasks[answer.tasks[i]!];
    // The model may be newer than the list of names: a task without a name is left out.
    if (task === undefined) continue;
    const p50 = answer.leadP50Ms[i]!;
    const leadTimeMs = Number.isNaN(p50) ? null : { p10: answer.leadP10Ms[i]!, p50, p90: answer.leadP90Ms[i]! };
    if (input.horizonMs !== null && (leadTimeMs === null || leadTimeMs.p50 > input.horizonMs)) continue;
    reach.push({
      task,
      probability: answer.probabilities[i]!,
      leadTimeMs,
      multiplicity: answer.multiplicities[i]!,
      // The walk over transitions did not reach it: the direct pair is all that is known.
      route: routes.get(task)?.tasks ?? [input.task, task],
    });
  }
  return reach;
}

const routesOf = new WeakMap<Model, Map<string, Map<string, Route>>>();

/** Most probable route to every task near `root`: Dijkstra over −log of the transition probabilities. Once per model and root. */
export function routesFrom(root: string, model: Model): ReadonlyMap<string, Route> {
  let known = routesOf.get(model);
  if (known === undefined) {
    known = new Map();
    routesOf.set(model, known);
  }
  let routes = known.get(root);
  if (routes === undefined) {
    routes = walkRoutes(root, model);
    known.set(root, routes);
  }
  return routes;
}

function walkRoutes(root: string, model: Model): Map<string, Route> {
  const routes = new Map<string, Route>();
  const start: Route = {
    tasks: [root],
    leastLeadsMs: [0],
    mostLeadMs: null,
    lastLeadMs: null,
    fanOut: null,
    factor: 1,
    open: 0,
    joins: 0,
  };
  const open = [{ task: root, probability: 1, route: start }];
  for (let expanded = 0; open.length > 0 && expanded < ROUTE_EXPANSIONS_MAX; expanded++) {
    const node = takeLikeliest(open);
    if (node.route.tasks.length > 1) {
      if (routes.has(node.task)) continue;
      routes.set(node.task, node.route);
      if (node.task === root) continue; // a loop: the first way back is its route
    }
    if (node.route.tasks.length > ROUTE_DEPTH_MAX) continue;
    for (const successor of model.profiles.get(node.task)?.successors ?? []) {
      const probability = node.probability * successor.probability;
      if (probability < ROUTE_FLOOR || routes.has(successor.task)) continue;
      open.push({ task: successor.task, probability, route: extendRoute(node.route, successor) });
    }
  }
  return routes;
}

function extendRoute(route: Route, successor: Successor): Route {
  const tasks = [...route.tasks, successor.task];
  const leastLeadsMs = [...route.leastLeadsMs, successor.leastLeadMs ?? 0];
  const mostLeadMs = successor.mostLeadMs ?? null;
  const lastLeadMs = successor.leadMs ?? null;
  const own = meanOf(successor.fanOut);
  const known = meanOf(route.fanOut);
  const fanIn = successor.fanIn ?? 1;
  let { open, joins } = route;
  if (fanIn >= TOGETHER_MIN && open > 0) open--;
  else if (fanIn >= TOGETHER_MIN) joins++;
  if (own >= TOGETHER_MIN) open++;
  if (own > known) {
    return {
      tasks,
      leastLeadsMs,
      mostLeadMs,
      lastLeadMs,
      fanOut: successor.fanOut ?? null,
      factor: (route.factor * known) / fanIn,
      open,
      joins,
    };
  }
  const factor = (route.factor * own) / fanIn;
  return { tasks, leastLeadsMs, mostLeadMs, lastLeadMs, fanOut: route.fanOut, factor, open, joins };
}

/** Mean of a fan-out; 1 where there is none. */
export function meanOf(fanOut: Successor["fanOut"] | null): number {
  if (fanOut === undefined || fanOut === null) return 1;
  return fanOut.reduce((sum, { count, share }) => sum + count * share, 0);
}

function takeLikeliest<T extends { probability: number }>(open: T[]): T {
  let best = 0;
  for (let i = 1; i < open.length; i++) if (open[i]!.probability > open[best]!.probability) best = i;
  return open.splice(best, 1)[0]!;
}

/** All tasks more likely to execute than not. Its probability is the least of theirs: an upper bound for all together. */
function treeOf(root: string, reach: ChainTask[]): PredictedChain | null {
  const expected = reach.filter((task) => task.probability >= TREE_FLOOR && task.task !== root);
  if (expected.length === 0) return null;
  const ordered = expected.sort((a, b) => (a.leadTimeMs?.p50 ?? 0) - (b.leadTimeMs?.p50 ?? 0));
  return {
    shape: "tree",
    tasks: [root, ...ordered.map((task) => task.task)],
    probability: Math.min(...expected.map((task) => task.probability)),
  };
}

/** Likeliest single paths by `next` along hypothetical continuations: their probabilities are conditional, so they multiply. */
function pathsOf(root: string, history: History, model: Model): PredictedChain[] {
  const found: PredictedChain[] = [];
  const open = [{ probability: 1, ids: [] as number[] }];
  for (let expanded = 0; open.length > 0 && expanded < PATH_EXPANSIONS_MAX && found.length < PATHS_MAX; expanded++) {
    const node = takeLikeliest(open);
    const answer = model.engine.next({ ...history, ...extended(history, node.ids) }, PATH_BREADTH_MAX);
    const ends = node.ids.length >= PATH_DEPTH_MAX ? 1 : answer.end;
    if (node.ids.length > 0 && node.probability * ends >= PATH_FLOOR) {
      const tasks = [root, ...node.ids.map((id) => model.tasks[id]!)];
      found.push({ shape: "path", tasks, probability: node.probability * ends });
    }
    if (node.ids.length >= PATH_DEPTH_MAX) continue;
    for (let i = 0; i < answer.tasks.length; i++) {
      const probability = node.probability * answer.probabilities[i]!;
      if (probability >= PATH_FLOOR) open.push({ probability, ids: [...node.ids, answer.tasks[i]!] });
    }
  }
  return found.sort((a, b) => b.probability - a.probability);
}

function extended(history: History, ids: number[]): Pick<History, "tasks" | "startMs" | "version"> {
  if (ids.length === 0) return history;
  const tasks = new Uint32Array(history.tasks.length + ids.length);
  tasks.set(history.tasks);
  tasks.set(ids, history.tasks.length);
  // The times of what has not happened are unknown; NaN says so to the engine.
  const startMs = new Float64Array(tasks.length).fill(Number.NaN);
  if (history.startMs) startMs.set(history.startMs);
  return { tasks, startMs, version: 0 };
}

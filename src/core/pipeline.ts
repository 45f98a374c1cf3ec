// The table of contents: one request through predict → demand → allocate → plan → commands.
// The Worker, the simulator and the CLI call `serve`; clock, ids and the hub come in as `Ports`.
// Logs → profile → graph run in the GraphWriter (profile.ts, graph.ts), outcomes come back in feedback.ts.
import type {
  Alternative,
  ClusterRefusal,
  Constraints,
  Demand,
  PlacementTerms,
  Policy,
  Prediction,
  SkippedItem,
  TaskDeclaration,
} from "../protocol.ts";
import { allocate, alternativesOf, type Candidate } from "./allocate.ts";
import { joined, opened } from "./branch.ts";
import { type ChainDemand, demandOf } from "./demand.ts";
import type { FleetIndex, NewPlacer } from "./fleet.ts";
import type { Model, TaskProfile } from "./graph.ts";
import { notSent, type Plan, planFor } from "./plan.ts";
import type { Hidden, PlannedCommand } from "./planned.ts";
import { meanOf, predict, predictNothing, routesFrom, TOGETHER_MIN, type Wanted } from "./predict.ts";

/** Hubs asked in turn before the request is told that nothing is suitable. */
const RESERVE_ATTEMPTS_MAX = 3;
/** A reservation outlives its chain's expected end by this factor and this slack, ms; the run's end releases it earlier. */
const RESERVATION_MARGIN = 2;
const RESERVATION_SLACK_MS = 5_000;
/** Told to callers when nothing is suitable: capacity changes at the pace of heartbeats, ms. */
export const RETRY_AFTER_MS = 2_000;
const NO_PROFILES: Map<string, TaskProfile> = new Map();
const ADMITTED_DRY: Admission = { ok: true, commandIds: {}, refusedKeys: {} };

export interface TaskRequest {
  task: string;
  version: string | null;
  /** The tasks from the run's root to here, oldest first, without `task`. */
  path: string[];
  /** Start of each task of `path`, ms since the epoch; empty where unknown. */
  pathStartMs: number[];
  params: Record<string, string | number | boolean>;
  runId: string;
  executionId: string;
  /** Objects that the caller names for this very execution. */
  inputs: { uri: string; bytes: number | null }[];
  constraints: Constraints;
  horizonMs: number | null;
  maxTasks: number | null;
  /** Cluster that holds this run's reservation, from the continuation. */
  heldCluster: string | null;
  /** VM prepared for a task by an earlier plan of this run, from the continuation. */
  heldVms: Record<string, string>;
  /** The answer is wanted, the machines are not to be touched. */
  dryRun: boolean;
  /**
   * Which of several parallel executions of one task this request comes after: each prepares instances of its own. From the
   * continuation; absent or null: no step has fanned out yet.
   */
  branch?: string | null;
  /** False: nobody will read why something was skipped, nor what starts first. Absent: both are told. */
  explains?: boolean;
}

/** What the hub is asked to hold and to send. */
export interface Offer {
  allocationId: string;
  runId: string;
  executionId: string;
  task: string;
  cluster: string;
  vm: string;
  reservation: { memoryBytes: number; cpuCores: number; expiresMs: number };
  commands: PlannedCommand[];
  /** The plan was meant to be sent, however much it holds: see Served. */
  acted: boolean;
  /** The tasks of the chain, the asked one first. */
  chain: string[];
  /** VM on which each later task is expected. */
  vms: Record<string, string>;
  /** What the plan, or runtimes that are idle now, hide of each later task's start. */
  hidden: Record<string, Hidden>;
  /** Of a run's first task: the terms of its placement without any correction; null else, and without a prediction. */
  expectedTerms: PlacementTerms | null;
  /** What the asked task's own start costs: how long its runtimes are to be held is learned from it. */
  start: { coldStartMs: number; slowStartMs?: number; latencySensitivity: number; memoryBytes: number };
}

/** The hub's answer, by `${vm} ${key}`: which command stands (a coalesced one keeps the earlier id), and which was refused why. */
export type Admission =
  | { ok: true; commandIds: Record<string, string>; refusedKeys: Record<string, string> }
  | { ok: false; reason: string };

export interface Ports {
  nowMs: number;
  newId(): string;
  /** Uniform in [0, 1); decides a canary's share. */
  random(): number;
  /** Places by the engine's SIMD on large fleets; absent: without, to the same result. */
  newPlacer?: NewPlacer;
  admit(offer: Offer): Promise<Admission>;
}

export interface Served {
  kind: "allocated";
  allocationId: string;
  prediction: Prediction;
  chain: string[];
  cluster: string;
  vm: string;
  url: string | null;
  /** Where each task of the chain is expected to run: for the continuation, so that later calls find what was prepared. */
  vms: Record<string, string>;
  plan: PlannedCommand[];
  skipped: SkippedItem[];
  alternatives: Alternative[];
  refused: ClusterRefusal[];
  /** Plan was sent (active, or a canary's run); in shadow and paused it is only told. */
  acted: boolean;
  /** What the plan, or runtimes that are idle now, hide of each later task's start. */
  hidden: Record<string, Hidden>;
  /** For the continuation: see TaskRequest. */
  branch: string | null;
  /** Terms of the placement before any correction: what outcomes are compared with. Null: nothing was weighed. */
  expectedTerms: PlacementTerms | null;
}

export interface Unsuitable {
  kind: "unsuitable";
  allocationId: string;
  prediction: Prediction;
  demand: Demand;
  refused: ClusterRefusal[];
  retryAfterMs: number;
}

/** What a prediction alone needs: no ids, no machines. */
export type PredictionAsk = Omit<
  TaskRequest,
  "runId" | "executionId" | "constraints" | "heldCluster" | "heldVms" | "dryRun" | "inputs"
>;

/** `/v1/predictions`: predict → demand, nothing is placed. */
export function predictFor(
  ask: PredictionAsk,
  model: Model | null,
  declarations: Record<string, TaskDeclaration>,
  nowMs: number,
): Prediction {
  return analyse({ ...ask, inputs: [] }, model, declarations, nowMs, { next: true, paths: true }).prediction;
}

/** Predict, place, reserve and plan for one task request. `model` null: no prediction, the task alone is placed. */
export async function serve(
  request: TaskRequest,
  model: Model | null,
  fleet: FleetIndex,
  ports: Ports,
): Promise<Served | Unsuitable> {
  const explains = request.explains ?? true;
  const { tasks: declarations, policy } = fleet.view;
  let { prediction, chains } = analyse(request, model, declarations, ports.nowMs, { next: explains, paths: false });
  const corrections = model?.adjustments?.placement ?? null;
  const { constraints, heldCluster, heldVms } = request;
  const rank = () =>
    allocate(
      { chains, constraints, heldCluster, heldVms, corrections, nowMs: ports.nowMs },
      fleet,
      ports.newPlacer ?? null,
    );
  let ranking = rank();
  if (ranking.lacksRoom) {
    // Somewhere the whole tree has no room: the likeliest paths are tried too. They cost most of a prediction's time.
    ({ prediction, chains } = analyse(request, model, declarations, ports.nowMs, { next: explains, paths: true }));
    ranking = rank();
  }
  const branch = branchOf(request, model);
  const allocationId = ports.newId();
  const acted = !request.dryRun && acts(policy, ports.random());
  const refused = [...ranking.refused];
  // Optimistic: the view may be a second old, the hub knows. Refused there, the next best is asked.
  for (const candidate of ranking.candidates.slice(0, RESERVE_ATTEMPTS_MAX)) {
    const plan = planFor(candidate, fleet, {
      nowMs: ports.nowMs,
      newId: ports.newId,
      heldVms,
      runId: request.runId,
      branch,
      explains,
      ...(model?.adjustments === undefined ? {} : { adjustments: model.adjustments }),
    });
    const offer = offerOf(request, candidate, plan, { acted, isPredicted: model !== null }, allocationId, ports.nowMs);
    const admission = request.dryRun ? ADMITTED_DRY : await ports.admit(offer);
    if (!admission.ok) {
      refused.push({ cluster: candidate.cluster.cluster, reason: admission.reason });
      continue;
    }
    return {
      kind: "allocated",
      allocationId,
      prediction,
      chain: candidate.demand.chain.tasks,
      cluster: candidate.cluster.cluster,
      vm: candidate.vm.vm,
      url: candidate.vm.url,
      vms: plan.vms,
      hidden: plan.hidden,
      ...admitted(plan, admission),
      alternatives: alternativesOf(ranking),
      refused,
      acted,
      branch,
      expectedTerms: candidate.expectedTerms,
    };
  }
  return {
    kind: "unsuitable",
    allocationId,
    prediction,
    demand: chains.at(-1)!.total,
    refused,
    retryAfterMs: RETRY_AFTER_MS,
  };
}

function analyse(
  ask: PredictionAsk & Pick<TaskRequest, "inputs">,
  model: Model | null,
  declarations: Record<string, TaskDeclaration>,
  nowMs: number,
  wanted: Wanted,
): { prediction: Prediction; chains: ChainDemand[] } {
  const predicted = model ? predict(ask, nowMs, model, wanted) : predictNothing(ask.task, 0);
  const routes = model ? { routes: routesFrom(ask.task, model) } : {};
  const knowledge = { profiles: model?.profiles ?? NO_PROFILES, declarations, ...routes };
  const chains = predicted.chains.map((chain, c) => demandOf(chain, predicted.reach, ask, knowledge, c === 0));
  const { modelVersion, next, reach } = predicted;
  // The task alone is placed where nothing else fits, but it is no chain that anybody asked about.
  const told = chains.filter((demand) => demand.chain.shape !== "task").map((demand) => demand.scored);
  return { prediction: { modelVersion, next, reach, chains: told, demand: chains[0]!.total }, chains };
}

/**
 * An execution that runs beside others of its task, all triggered at once, opens a branch of its own; those after it stay on it until a join.
 * Told by the transition from the path's last task to this one.
 */
function branchOf(request: TaskRequest, model: Model | null): string | null {
  const before = request.path.at(-1);
  if (before === undefined) {
    return (model?.profiles.get(request.task)?.rootsTogether ?? 1) >= TOGETHER_MIN ? request.executionId : null;
  }
  const successor = model?.profiles.get(before)?.successors.find(({ task }) => task === request.task);
  const joins = (successor?.fanIn ?? 1) >= TOGETHER_MIN;
  const branch = joined(request.branch ?? null, joins ? 1 : 0);
  const fansOut = successor !== undefined && meanOf(successor.fanOut) >= TOGETHER_MIN;
  // A join that a run has several of is not the trunk yet.
  const repeats = joins && branch === null && (model?.profiles.get(request.task)?.perRun ?? 1) >= TOGETHER_MIN;
  return fansOut || repeats ? opened(branch, request.executionId) : branch;
}

/** Shadow and paused tell, canary acts for its share of the runs. */
export function acts(policy: Policy, random: number): boolean {
  switch (policy.mode) {
    case "active":
      return true;
    case "canary":
      return random < policy.canaryShare;
    case "shadow":
    case "paused":
      return false;
  }
}

function offerOf(
  request: TaskRequest,
  candidate: Candidate,
  plan: Plan,
  { acted, isPredicted }: { acted: boolean; isPredicted: boolean },
  allocationId: string,
  nowMs: number,
): Offer {
  const { chain, tasks, total } = candidate.demand;
  const { coldStartMs, slowStartMs, latencySensitivity, memoryBytes } = tasks[0]!;
  const endsMs = Math.max(...tasks.map((task) => (task.lead?.p90 ?? 0) + task.durationMs + task.coldStartMs));
  return {
    allocationId,
    runId: request.runId,
    executionId: request.executionId,
    task: request.task,
    cluster: candidate.cluster.cluster,
    vm: candidate.vm.vm,
    reservation: {
      memoryBytes: total.peakMemoryBytes,
      cpuCores: Math.min(1, total.cpuMs / Math.max(endsMs, 1)),
      expiresMs: Math.round(nowMs + endsMs * RESERVATION_MARGIN + RESERVATION_SLACK_MS),
    },
    commands: acted ? plan.commands : [],
    acted,
    chain: chain.tasks,
    vms: plan.vms,
    hidden: plan.hidden,
    // They expect what the plan prepares: where nothing is sent, what comes is no evidence against them.
    expectedTerms: acted && isPredicted && request.path.length === 0 ? candidate.expectedTerms : null,
    start: { coldStartMs, slowStartMs, latencySensitivity, memoryBytes },
  };
}

/** The plan as the hub took it: coalesced commands keep the earlier id, refused ones are told as skipped. */
function admitted(plan: Plan, admission: Extract<Admission, { ok: true }>): Pick<Served, "plan" | "skipped"> {
  const taken: PlannedCommand[] = [];
  const skipped = [...plan.skipped];
  if (isEmpty(admission.refusedKeys) && isEmpty(admission.commandIds)) return { plan: plan.commands, skipped };
  for (const command of plan.commands) {
    const name = `${command.vm} ${command.key}`;
    const reason = admission.refusedKeys[name];
    const standingId = admission.commandIds[name];
    if (reason !== undefined) skipped.push(notSent(command, reason));
    else taken.push(standingId === undefined ? command : { ...command, commandId: standingId });
  }
  return { plan: taken, skipped };
}

function isEmpty(record: Record<string, unknown>): boolean {
  for (const _ in record) return false;
  return true;
}

// Allocate. In: the chains with their demands and the fleet. Out: (chain, cluster) pairs, best first, and why others were refused.
// Filter first (hard reasons, cheap), then score what is left: every term is expected milliseconds of the whole expected
// tree, so that a smaller chain on a near cluster competes fairly with the whole tree on a far one: what a chain leaves out
// is charged as unprepared. Terms stay by name beside the total.
// Order of work: the terms that need only columns are summed for every cluster; what is in a VM's cache has to be looked up,
// so transfers are added to the cheapest pairs only, until no pair left can be cheaper (branch and bound; exact).

import type { Alternative, ClusterRefusal, Constraints, PlacementTerms } from "../protocol.ts";
import type { Adjustments } from "./adjustments.ts";
import { corrected } from "./corrections.ts";
import type { ChainDemand, TaskDemand } from "./demand.ts";
import {
  type ClusterView,
  type ExpectedUse,
  type FleetIndex,
  type NewPlacer,
  TASK_ABSENT,
  TASK_STARTING,
  TASK_WARM,
  type VmView,
} from "./fleet.ts";

/** An agent that has been silent for longer counts as gone: three heartbeats of 5 s. */
export const HEARTBEAT_STALE_MS = 15_000;
/** Pairs that are tried, and shown as alternatives: the rest are worse, and nothing else is to be learned from them. */
const CANDIDATES_MAX = 8;
/** Another cluster takes a run from the one that holds its reservation only when it is better by both of these. */
const CLEARLY_WORSE_RATIO = 1.25;
const CLEARLY_WORSE_MS = 20;

export interface Candidate {
  demand: ChainDemand;
  cluster: ClusterView;
  /** Where the asked task runs. */
  vm: VmView;
  totalMs: number;
  terms: PlacementTerms;
  /** Terms before correction. */
  expectedTerms: PlacementTerms;
}

export interface Ranking {
  /** Best first. Empty: nothing is suitable, and `refused` says why. */
  candidates: Candidate[];
  refused: ClusterRefusal[];
  /** Some cluster that could run the task has no room for the whole first chain. */
  lacksRoom: boolean;
}

export interface PlacementInput {
  /** The expected tree first; the asked task alone last, unless only the first was worked out so far. */
  chains: ChainDemand[];
  constraints: Constraints;
  heldCluster: string | null;
  heldVms: Record<string, string>;
  nowMs: number;
  /** Learned from outcomes; absent or null: terms are taken as they are. */
  corrections?: Adjustments["placement"] | null;
}

/** A pair that passed the filter; `boundMs` is its total without transfers. */
interface Pair {
  cluster: number;
  vm: number;
  demand: ChainDemand;
  terms: PlacementTerms;
  expectedTerms: PlacementTerms;
  /** Of the transfers that are still to be added. */
  transferFactor: number;
  boundMs: number;
}

/** `newPlacer` null: services are summed without SIMD, to the same result. */
export function allocate(input: PlacementInput, index: FleetIndex, newPlacer: NewPlacer | null): Ranking {
  const { clusters } = index.view;
  const pairs: Pair[] = [];
  const refused: ClusterRefusal[] = [];
  const costs = columnCosts(input, index, newPlacer);
  let lacksRoom = false;
  for (let c = 0; c < clusters.length; c++) {
    const placed = placeOn(c, input, index);
    if ("reason" in placed) {
      refused.push({ cluster: clusters[c]!.cluster, reason: placed.reason });
      if (placed.isRoom) lacksRoom = true;
    } else {
      pairs.push({ ...placed, ...costs(c, placed.vm, placed.demand) });
      if (placed.demand !== input.chains[0]) lacksRoom = true;
    }
  }
  const ranked = keepHeld(cheapest(pairs, input, index), input.heldCluster);
  return { candidates: input.heldCluster === null ? explored(ranked, input) : ranked, refused, lacksRoom };
}

// ── Filter ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The largest chain that fits cluster c and the VM for its root, or the reason why none does. */
function placeOn(
  c: number,
  input: PlacementInput,
  index: FleetIndex,
): Pick<Pair, "cluster" | "vm" | "demand"> | { reason: string; isRoom: boolean } {
  const cluster = index.view.clusters[c]!;
  const reason = refuseCluster(cluster, input.constraints);
  if (reason !== null) return { reason, isRoom: false };
  const root = input.chains[0]!.tasks[0]!;
  const vm = chooseVm(root, c, index, input);
  if (vm < 0) return { reason: refuseVms(cluster, root.task, input.nowMs), isRoom: false };
  let tooSmall = "";
  for (const demand of input.chains) {
    const missing = missingRoom(demand, c, index, input.nowMs);
    if (missing === null) return { cluster: c, vm, demand };
    tooSmall = missing;
  }
  return { reason: tooSmall, isRoom: true };
}

/** Hard reasons, in the order an operator would check them. */
function refuseCluster(cluster: ClusterView, constraints: Constraints): string | null {
  const { clusters, excludeClusters, labels } = constraints;
  if (clusters && !clusters.includes(cluster.cluster)) return "not among the clusters asked for";
  if (excludeClusters?.includes(cluster.cluster)) return "excluded by the request";
  if (labels) {
    for (const [name, value] of Object.entries(labels)) {
      if (cluster.labels[name] !== value) return `label ${name} is ${cluster.labels[name] ?? "absent"}, not ${value}`;
    }
  }
  if (cluster.draining) return "cluster is draining";
  return cluster.vms.length === 0 ? "no VM is declared" : null;
}

function refuseVms(cluster: ClusterView, task: string, nowMs: number): string {
  const vm = cluster.vms.at(-1)!;
  return `${vm.vm}: ${refuseVm(vm, nowMs) ?? (vm.tasks.includes(task) ? "has no room" : "its agent does not have the task")}`;
}

/** Null where the VM can be used at all. */
function refuseVm(vm: VmView, nowMs: number): string | null {
  if (vm.draining) return "is draining";
  if (vm.lastHeartbeatMs === null) return "no agent has reported yet";
  const silentMs = nowMs - vm.lastHeartbeatMs;
  return silentMs > HEARTBEAT_STALE_MS ? `its agent has been silent for ${Math.round(silentMs / 1000)} s` : null;
}

function usable(vm: VmView, nowMs: number): boolean {
  return !vm.draining && vm.lastHeartbeatMs !== null && nowMs - vm.lastHeartbeatMs <= HEARTBEAT_STALE_MS;
}

/**
 * Index of the cluster's best VM for a task, or -1 where none has it: one with room before one without, then what was
 * prepared for this run, then warm, then starting, then the freer one.
 */
export function chooseVm(
  task: TaskDemand,
  c: number,
  index: FleetIndex,
  input: { nowMs: number; heldVms: Record<string, string> },
): number {
  const states = index.statesOf(task.task);
  const held = input.heldVms[task.task];
  let best = -1;
  let bestRank = Number.NEGATIVE_INFINITY;
  for (let v = index.vmOffsets[c]!; v < index.vmOffsets[c + 1]!; v++) {
    const vm = index.vms[v]!;
    if (!usable(vm, input.nowMs)) continue;
    const state = states.of(v);
    if (state === TASK_ABSENT) continue;
    const free = index.freeBytes[v]!;
    const rank =
      (free >= task.memoryBytes || state === TASK_WARM ? 8 : 0) +
      (held === vm.vm ? TASK_WARM + 1 : state) +
      0.5 * (free / vm.memoryBytes) -
      0.25 * vm.cpuLoad;
    if (rank > bestRank) [best, bestRank] = [v, rank];
  }
  return best;
}

/** Null if the chain's peak memory fits what is left of the cluster; else the reason. */
function missingRoom(demand: ChainDemand, c: number, index: FleetIndex, nowMs: number): string | null {
  let freeBytes = -index.view.clusters[c]!.reservedMemoryBytes;
  let largestBytes = 0;
  for (let v = index.vmOffsets[c]!; v < index.vmOffsets[c + 1]!; v++) {
    if (!usable(index.vms[v]!, nowMs)) continue;
    freeBytes += index.freeBytes[v]!;
    if (index.freeBytes[v]! > largestBytes) largestBytes = index.freeBytes[v]!;
  }
  const neededBytes = demand.total.peakMemoryBytes;
  if (freeBytes < neededBytes) return `memory: ${mib(freeBytes)} free, the chain needs ${mib(neededBytes)}`;
  if (largestBytes < demand.largestTaskBytes) return `memory: no VM has ${mib(demand.largestTaskBytes)} free`;
  return null;
}

function mib(bytes: number): string {
  return `${Math.max(0, Math.round(bytes / 2 ** 20))} MiB`;
}

// ── Score ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Everything but transfers. What does not depend on the cluster is summed once, before the clusters are walked. */
function columnCosts(input: PlacementInput, index: FleetIndex, newPlacer: NewPlacer | null) {
  const whole = input.chains[0]!;
  const columns = whole.tasks.map((task) => ({ task, weight: weightOf(task), states: index.statesOf(task.task) }));
  const servicesMsOf = index.servicesMs(expectedUses(whole), newPlacer);
  const rootStates = columns[0]!.states;
  const rootColdMs = whole.tasks[0]!.coldStartMs;
  let serviceTimeMs = 0;
  let gbSeconds = 0;
  for (const { task, weight } of columns) {
    serviceTimeMs += weight * task.multiplicity * task.durationMs;
    gbSeconds += (((task.probability * task.multiplicity * task.durationMs) / 1000) * task.memoryBytes) / 2 ** 30;
  }
  const held = input.heldCluster === null ? null : index.linksTo(input.heldCluster);
  const dial = gbSeconds * index.view.policy.msPerGbSecond;

  return (c: number, vm: number, demand: ChainDemand) => {
    const cluster = index.view.clusters[c]!;
    const servicesMs = servicesMsOf[c]!;
    const headStartMs = rootStates.of(vm) === TASK_WARM ? 0 : rootColdMs;
    let coldStartMs = 0;
    for (let i = 0; i < columns.length; i++) {
      const { task, weight, states } = columns[i]!;
      const state = states.of(vm);
      if (state === TASK_WARM || isPrepared(task, cluster.cluster, vm, input, index)) continue;
      const startMs = state === TASK_STARTING ? task.coldStartMs / 2 : task.coldStartMs;
      const leadMs = i > 0 && demand.members.has(task.task) ? (task.lead?.p10 ?? 0) + headStartMs : 0;
      coldStartMs += weight * Math.max(0, startMs - leadMs);
    }
    const queueMs = serviceTimeMs * index.waitFactor[vm]!;
    const hopsMs = held === null || input.heldCluster === cluster.cluster ? 0 : held.latencyMs[c]!;
    const priceMs = dial * cluster.pricePerGbSecond;
    const expectedTerms = { servicesMs, transferMs: 0, coldStartMs, queueMs, hopsMs, priceMs };
    const factors = input.corrections?.factors(cluster.cluster) ?? null;
    const terms = factors === null ? expectedTerms : corrected(expectedTerms, factors);
    return {
      terms,
      expectedTerms,
      transferFactor: factors?.transferMs ?? 1,
      boundMs: terms.servicesMs + terms.coldStartMs + terms.queueMs + terms.hopsMs + terms.priceMs,
    };
  };
}

/**
 * An earlier plan of this run has prepared the task here. The fleet's view is up to a second old and does not show it yet:
 * without this, a run would leave what was prepared for it.
 */
function isPrepared(task: TaskDemand, cluster: string, vm: number, input: PlacementInput, index: FleetIndex): boolean {
  return cluster === input.heldCluster && input.heldVms[task.task] === index.vms[vm]!.vm;
}

/** How much a ms of one execution of the task matters, times the probability that it comes. */
function weightOf(task: TaskDemand): number {
  return task.probability * task.latencyWeight * task.latencySensitivity;
}

/** Calls and bytes per service over the whole tree, weighted: clusters × services is then one product. */
function expectedUses(whole: ChainDemand): ExpectedUse[] {
  const uses = new Map<string, ExpectedUse>();
  for (const task of whole.tasks) {
    const expected = weightOf(task) * task.multiplicity;
    for (const { service, calls, bytes } of task.services) {
      const use = uses.get(service) ?? { service, calls: 0, bytes: 0 };
      use.calls += expected * calls;
      use.bytes += expected * bytes;
      uses.set(service, use);
    }
  }
  return [...uses.values()];
}

/** Transfers added in order of the bound, until no pair left can be among the cheapest. The held cluster is always scored. */
function cheapest(pairs: Pair[], input: PlacementInput, index: FleetIndex): Candidate[] {
  const found: Candidate[] = [];
  for (const pair of pairs.toSorted((a, b) => a.boundMs - b.boundMs)) {
    const cluster = index.view.clusters[pair.cluster]!;
    const full = found.length >= CANDIDATES_MAX && found[CANDIDATES_MAX - 1]!.totalMs <= pair.boundMs;
    if (full && (input.heldCluster === null || found.some((other) => other.cluster.cluster === input.heldCluster)))
      break;
    if (full && cluster.cluster !== input.heldCluster) continue;
    const expectedMs = transfers(pair, input, index);
    const transferMs = expectedMs * pair.transferFactor;
    const totalMs = pair.boundMs + transferMs;
    const terms = { ...pair.terms, transferMs };
    const expectedTerms = { ...pair.expectedTerms, transferMs: expectedMs };
    found.push({ demand: pair.demand, cluster, vm: index.vms[pair.vm]!, totalMs, terms, expectedTerms });
    found.sort((a, b) => a.totalMs - b.totalMs);
  }
  return found;
}

function transfers(pair: Pair, input: PlacementInput, index: FleetIndex): number {
  const whole = input.chains[0]!;
  const asked = whole.tasks[0]!;
  const isWarm = index.statesOf(asked.task).of(pair.vm) === TASK_WARM;
  const headStartMs = isWarm ? 0 : asked.coldStartMs;
  // While the asked task starts, its own objects come.
  const ownStartMs = isWarm || asked.prewarm === "never" ? 0 : asked.startMs;
  const cached = index.vms[pair.vm]!.uris;
  let sumMs = 0;
  for (const [i, task] of whole.tasks.entries()) {
    if (isPrepared(task, index.view.clusters[pair.cluster]!.cluster, pair.vm, input, index)) continue;
    const isLater = i > 0 && pair.demand.members.has(task.task);
    const leadMs = isLater ? (task.lead?.p10 ?? 0) + headStartMs : i === 0 ? ownStartMs : 0;
    for (const object of task.objects) {
      if (cached.includes(object.uri)) continue;
      const loadMs = index.transferMs(object.uri, object.bytes, pair.cluster, pair.vm);
      sumMs += object.probability * task.latencyWeight * task.latencySensitivity * Math.max(0, loadMs - leadMs);
    }
  }
  return sumMs;
}

/** Later tasks of a run follow its reservation unless another cluster is clearly better. */
function keepHeld(candidates: Candidate[], heldCluster: string | null): Candidate[] {
  const held = candidates.findIndex((candidate) => candidate.cluster.cluster === heldCluster);
  if (held > 0) {
    const best = candidates[0]!;
    const kept = candidates[held]!;
    const clearlyWorse =
      kept.totalMs > best.totalMs * CLEARLY_WORSE_RATIO && kept.totalMs > best.totalMs + CLEARLY_WORSE_MS;
    if (!clearlyWorse) candidates = [kept, ...candidates.filter((candidate) => candidate !== kept)];
  }
  return candidates.slice(0, CANDIDATES_MAX);
}

/** One of the near-best clusters of which less is known goes first: only where no reservation of the run is left for it. */
function explored(candidates: Candidate[], { corrections }: PlacementInput): Candidate[] {
  if (!corrections) return candidates;
  const options = candidates.map(({ cluster, expectedTerms, totalMs }) => ({
    cluster: cluster.cluster,
    terms: expectedTerms,
    totalMs,
  }));
  const chosen = corrections.choose(options);
  return chosen === 0 ? candidates : [candidates[chosen]!, ...candidates.filter((_, at) => at !== chosen)];
}

/** The candidates in the shape of the API. */
export function alternativesOf(ranking: Ranking): Alternative[] {
  return ranking.candidates.map((candidate) => ({
    chain: candidate.demand.chain.tasks,
    cluster: candidate.cluster.cluster,
    totalMs: candidate.totalMs,
    terms: candidate.terms,
  }));
}

// Allocate. In: the chains with their demands and the fleet. Out: (chain, cluster) pairs, best first, and why others were refused.
// Filter first (hard reasons, cheap), then score what is left: every term is expected milliseconds of the whole expected
// tree, so that a smaller chain on a near cluster competes fairly with the whole tree on a far one: what a chain leaves out
// is charged as unprepared. Terms stay by name beside the total.
import type { Alternative, ClusterRefusal, Constraints, PlacementTerms, Policy } from "../protocol.ts";
import type { ChainDemand, TaskDemand } from "./demand.ts";
import type { ClusterView, FleetView, VmView } from "./fleet.ts";

/** An agent that was silent for longer is taken for gone: three heartbeats of 5 s. */
export const HEARTBEAT_STALE_MS = 15_000;
/** Another cluster takes a run from the one that holds its reservation only when it is better by both of these. */
const CLEARLY_WORSE_RATIO = 1.25;
const CLEARLY_WORSE_MS = 20;
/** Bandwidth towards a store of which nothing is known, bytes per second: a slow link, so that known near ones win. */
const BANDWIDTH_UNKNOWN_BYTES_PER_SECOND = 20e6;
const LATENCY_UNKNOWN_MS = 20;
/** Utilisation is capped here, or the queueing formula has no end. */
const UTILISATION_MAX = 0.98;

export interface Candidate {
  demand: ChainDemand;
  cluster: ClusterView;
  /** Where the asked task runs. */
  vm: VmView;
  totalMs: number;
  terms: PlacementTerms;
}

export interface Ranking {
  /** Best first. Empty: nothing is suitable, and `refused` says why. */
  candidates: Candidate[];
  refused: ClusterRefusal[];
}

export interface PlacementInput {
  /** The expected tree first; the asked task alone last. */
  chains: ChainDemand[];
  constraints: Constraints;
  heldCluster: string | null;
  heldVms: Record<string, string>;
  nowMs: number;
}

export function allocate(input: PlacementInput, fleet: FleetView): Ranking {
  const whole = input.chains[0]!;
  const candidates: Candidate[] = [];
  const refused: ClusterRefusal[] = [];
  for (const cluster of fleet.clusters) {
    const filtered = filterCluster(cluster, whole.tasks[0]!.task, input);
    if ("reason" in filtered) {
      refused.push({ cluster: cluster.cluster, reason: filtered.reason });
      continue;
    }
    let tooSmall = "";
    for (const demand of input.chains) {
      const room = roomFor(demand, cluster, filtered.vms);
      if (room !== null) {
        tooSmall = room;
        continue;
      }
      candidates.push(scorePair(demand, whole, cluster, filtered.vms, input, fleet));
      break; // a smaller chain on the same cluster can only leave more unprepared
    }
    if (candidates.at(-1)?.cluster !== cluster) refused.push({ cluster: cluster.cluster, reason: tooSmall });
  }
  candidates.sort((a, b) => a.totalMs - b.totalMs);
  return { candidates: keepHeld(candidates, input.heldCluster), refused };
}

/** Later tasks of a run follow its reservation unless another cluster is clearly better. */
function keepHeld(candidates: Candidate[], heldCluster: string | null): Candidate[] {
  const held = candidates.findIndex((candidate) => candidate.cluster.cluster === heldCluster);
  if (held <= 0) return candidates;
  const best = candidates[0]!;
  const kept = candidates[held]!;
  if (kept.totalMs > best.totalMs * CLEARLY_WORSE_RATIO && kept.totalMs > best.totalMs + CLEARLY_WORSE_MS)
    return candidates;
  return [kept, ...candidates.filter((candidate) => candidate !== kept)];
}

/** Hard reasons, in the order an operator would check them. */
function filterCluster(
  cluster: ClusterView,
  task: string,
  input: PlacementInput,
): { vms: VmView[] } | { reason: string } {
  const { clusters, excludeClusters, labels } = input.constraints;
  if (clusters && !clusters.includes(cluster.cluster)) return { reason: "not among the clusters asked for" };
  if (excludeClusters?.includes(cluster.cluster)) return { reason: "excluded by the request" };
  for (const [name, value] of Object.entries(labels ?? {})) {
    if (cluster.labels[name] !== value)
      return { reason: `label ${name} is ${cluster.labels[name] ?? "absent"}, not ${value}` };
  }
  if (cluster.draining) return { reason: "cluster is draining" };
  if (cluster.vms.length === 0) return { reason: "no VM is declared" };
  let reason = "";
  const vms = cluster.vms.filter((vm) => {
    const refusal = refuseVm(vm, task, input.nowMs);
    if (refusal !== null) reason = `${vm.vm}: ${refusal}`;
    return refusal === null;
  });
  return vms.length > 0 ? { vms } : { reason };
}

/** `task` null: any task will do. */
export function refuseVm(vm: VmView, task: string | null, nowMs: number): string | null {
  if (vm.draining) return "is draining";
  if (vm.lastHeartbeatMs === null) return "no agent has reported yet";
  const silentMs = nowMs - vm.lastHeartbeatMs;
  if (silentMs > HEARTBEAT_STALE_MS) return `its agent has been silent for ${Math.round(silentMs / 1000)} s`;
  if (task !== null && !vm.tasks.includes(task)) return "its agent does not have the task";
  return null;
}

/** Null if the chain's peak memory and CPU fit what is left; else the reason. */
function roomFor(demand: ChainDemand, cluster: ClusterView, vms: VmView[]): string | null {
  let memoryBytes = -cluster.reservedMemoryBytes;
  let largestVmBytes = 0;
  for (const vm of vms) {
    const freeBytes = vm.memoryBytes - vm.memoryUsedBytes;
    memoryBytes += freeBytes;
    largestVmBytes = Math.max(largestVmBytes, freeBytes);
  }
  const neededBytes = demand.total.peakMemoryBytes;
  if (memoryBytes < neededBytes) return `memory: ${mib(memoryBytes)} free, the chain needs ${mib(neededBytes)}`;
  const largestTask = Math.max(...demand.tasks.map((task) => task.memoryBytes));
  if (largestVmBytes < largestTask) return `memory: no VM has ${mib(largestTask)} free`;
  return null;
}

function mib(bytes: number): string {
  return `${Math.max(0, Math.round(bytes / 2 ** 20))} MiB`;
}

function scorePair(
  demand: ChainDemand,
  whole: ChainDemand,
  cluster: ClusterView,
  vms: VmView[],
  input: PlacementInput,
  fleet: FleetView,
): Candidate {
  const root = whole.tasks[0]!;
  const vm = chooseVm(root, vms, input.heldVms);
  const prepared = new Set(demand.chain.tasks.slice(1));
  const rootColdMs = vm.warm[root.task] ? 0 : root.coldStartMs;
  const terms: PlacementTerms = { servicesMs: 0, transferMs: 0, coldStartMs: 0, queueMs: 0, hopsMs: 0, priceMs: 0 };
  for (const task of whole.tasks) {
    const leadMs = prepared.has(task.task) ? (task.lead?.p10 ?? 0) + rootColdMs : 0;
    addTask(terms, task, leadMs, vm, cluster, fleet);
  }
  terms.hopsMs += hopsMs(input, cluster, fleet);
  terms.priceMs = priceMs(whole, cluster, fleet.policy);
  const { servicesMs, transferMs, coldStartMs, queueMs, priceMs: price } = terms;
  return {
    demand,
    cluster,
    vm,
    terms,
    totalMs: servicesMs + transferMs + coldStartMs + queueMs + terms.hopsMs + price,
  };
}

/** What is held for the run, else warm, else starting, else the most free memory. */
export function chooseVm(task: TaskDemand, vms: VmView[], heldVms: Record<string, string>): VmView {
  let best = vms[0]!;
  let bestRank = Number.NEGATIVE_INFINITY;
  for (const vm of vms) {
    const freeShare = 1 - vm.memoryUsedBytes / vm.memoryBytes;
    const state = vm.vm === heldVms[task.task] ? 3 : vm.warm[task.task] ? 2 : vm.starting[task.task] ? 1 : 0;
    const fits = vm.memoryBytes - vm.memoryUsedBytes >= task.memoryBytes ? 4 : 0;
    const rank = fits + state + freeShare * 0.5 - vm.cpuLoad * 0.25;
    if (rank > bestRank) [best, bestRank] = [vm, rank];
  }
  return best;
}

/** Terms of one task; `leadMs` is the head start that preparation gets (0 where it is not prepared). */
function addTask(
  terms: PlacementTerms,
  task: TaskDemand,
  leadMs: number,
  vm: VmView,
  cluster: ClusterView,
  fleet: FleetView,
): void {
  const expected = task.probability * task.multiplicity * task.latencyWeight * task.latencySensitivity;
  for (const use of task.services) {
    const link = linkTo(use.service, cluster);
    terms.servicesMs += expected * (use.calls * link.latencyMs + (use.bytes / link.bandwidthBytesPerSecond) * 1000);
  }
  if (!vm.warm[task.task]) {
    const startMs = vm.starting[task.task] ? task.coldStartMs / 2 : task.coldStartMs;
    terms.coldStartMs +=
      task.probability * task.latencyWeight * task.latencySensitivity * Math.max(0, startMs - leadMs);
  }
  for (const object of task.objects) {
    if (vm.uris.includes(object.uri)) continue;
    const ms = Math.max(0, transferMs(object.uri, object.bytes, vm, cluster, fleet) - leadMs);
    terms.transferMs += object.probability * task.latencyWeight * task.latencySensitivity * ms;
  }
  terms.queueMs += expected * waitMs(task.durationMs, vm);
}

function linkTo(service: string, cluster: ClusterView): { latencyMs: number; bandwidthBytesPerSecond: number } {
  return (
    cluster.proximity[service] ?? {
      latencyMs: LATENCY_UNKNOWN_MS,
      bandwidthBytesPerSecond: BANDWIDTH_UNKNOWN_BYTES_PER_SECOND,
    }
  );
}

/** One transfer of an object into the VM: latency of its store, and its bytes over the narrower of link and VM. */
export function transferMs(
  uri: string,
  bytes: number | null,
  vm: VmView,
  cluster: ClusterView,
  fleet: FleetView,
): number {
  const service = serviceOf(uri, fleet);
  const link = linkTo(service ?? "", cluster);
  const bandwidth = Math.min(link.bandwidthBytesPerSecond, vm.networkBytesPerSecond ?? Number.POSITIVE_INFINITY);
  return link.latencyMs + ((bytes ?? 0) / bandwidth) * 1000;
}

/** The service whose declared hosts hold the URI; null where none does. */
export function serviceOf(uri: string, fleet: FleetView): string | null {
  const host = /^[a-z][a-z0-9+.-]*:\/\/([^/?#]+)/i.exec(uri)?.[1]?.toLowerCase();
  if (host === undefined) return null;
  for (const [service, { hosts }] of Object.entries(fleet.services)) if (hosts.includes(host)) return service;
  return null;
}

/**
 * Expected wait for one of c cores at utilisation u: Sakasegawa's approximation of M/M/c,
 * u^(√(2(c+1)) − 1) ÷ (c (1 − u)) service times. [H. Sakasegawa, Ann. Inst. Stat. Math. 29 (1977)]
 */
function waitMs(durationMs: number, vm: VmView): number {
  const utilisation = Math.min(vm.cpuLoad, UTILISATION_MAX);
  const cores = vm.cpuCores;
  return (durationMs * utilisation ** (Math.sqrt(2 * (cores + 1)) - 1)) / (cores * (1 - utilisation));
}

/** Moving a run away from the cluster where its data lies: one hop, and the bytes of its inputs. */
function hopsMs(input: PlacementInput, cluster: ClusterView, fleet: FleetView): number {
  if (input.heldCluster === null || input.heldCluster === cluster.cluster) return 0;
  const from = fleet.clusters.find((other) => other.cluster === input.heldCluster);
  const link = from?.proximity[cluster.cluster] ?? cluster.proximity[input.heldCluster];
  return link?.latencyMs ?? LATENCY_UNKNOWN_MS;
}

/** Memory seconds of the chain at the cluster's price, as ms of waiting at the operator's dial. */
function priceMs(whole: ChainDemand, cluster: ClusterView, policy: Policy): number {
  let gbSeconds = 0;
  for (const task of whole.tasks) {
    gbSeconds += (((task.probability * task.multiplicity * task.durationMs) / 1000) * task.memoryBytes) / 2 ** 30;
  }
  return gbSeconds * cluster.pricePerGbSecond * policy.msPerGbSecond;
}

/** Best candidate of each cluster in the shape of the API, cut at `limit`. */
export function alternativesOf(ranking: Ranking, limit: number): Alternative[] {
  return ranking.candidates.slice(0, limit).map((candidate) => ({
    chain: candidate.demand.chain.tasks,
    cluster: candidate.cluster.cluster,
    totalMs: candidate.totalMs,
    terms: candidate.terms,
  }));
}

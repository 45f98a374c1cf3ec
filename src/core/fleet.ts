// What is known of the machines, as one snapshot: declarations of the operator joined with the hubs' latest summaries.
// Plain data, so that it crosses Durable Object calls; `src/core/allocate.ts` reads it.
import type { Policy, TaskDeclaration } from "../protocol.ts";
import { PLACE_CLUSTERS_MAX, PLACE_SERVICES_MAX, type Placer } from "./place.ts";

export interface VmView {
  vm: string;
  /** Null where the VM cannot be reached from outside: it is then sent `execute` commands. */
  url: string | null;
  cpuCores: number;
  memoryBytes: number;
  networkBytesPerSecond: number | null;
  draining: boolean;
  /** Hub's clock; null where no agent has ever reported. */
  lastHeartbeatMs: number | null;
  /** Busy share of all cores, 0–1. */
  cpuLoad: number;
  /** In use by runtimes and reservations. */
  memoryUsedBytes: number;
  /** Of it, what idle runtimes hold: free for whoever starts one, because they end for it. Absent: none. */
  memoryIdleBytes?: number;
  executions: number;
  /** Tasks of the agent's own configuration; the only ones it can run. */
  tasks: string[];
  /** Idle runtimes that said ready, by task. */
  warm: Record<string, number>;
  /** When the last idle runtime of a task ends unless it is used, hub's clock; absent where it is not known. */
  warmUntilMs?: Record<string, number>;
  /** Being started now, by task. */
  starting: Record<string, number>;
  /** Most recently used objects of the cache. */
  uris: string[];
}

export interface Proximity {
  latencyMs: number;
  bandwidthBytesPerSecond: number;
}

export interface ClusterView {
  cluster: string;
  labels: Record<string, string>;
  draining: boolean;
  pricePerGbSecond: number;
  /** What memory is worth there now (price.ts); absent: the policy's dial. */
  msPerGbSecond?: number;
  /** The operator's keep-alive of tasks whose runtimes are held shorter there, because plans start them in time, ms: what plans may spend. */
  sparedMs?: Record<string, number>;
  internalLatencyMs: number;
  /** Held for chains that are not running yet. */
  reservedMemoryBytes: number;
  reservedCpuCores: number;
  /** To services and to other clusters, by name. */
  proximity: Record<string, Proximity>;
  vms: VmView[];
}

export interface FleetView {
  atMs: number;
  clusters: ClusterView[];
  /** Hosts (with port) of each service: an object's URI finds its service by them. */
  services: Record<string, { hosts: string[] }>;
  tasks: Record<string, TaskDeclaration>;
  policy: Policy;
  /** Absent: agents know every task by the name of this view. Else what they know it by (src/edge/task-names.ts). */
  names?: { own: Record<string, string>; exact: string[] };
}

/** How a VM stands to a task. Higher is better for whoever needs it now; 0 is left for what was not looked up yet. */
export const TASK_ABSENT = 1;
const TASK_COLD = 2;
export const TASK_STARTING = 3;
export const TASK_WARM = 4;

/** TASK_… of VMs for one task. Looked up when asked: a plan asks of the VMs of one cluster, an allocation of one VM per cluster. */
export class TaskStates {
  private readonly task: string;
  private readonly vms: VmView[];
  private atMs: number;
  private generation: number;
  private readonly known: Uint8Array;

  constructor(task: string, vms: VmView[], atMs: number, generation: number) {
    this.task = task;
    this.vms = vms;
    this.atMs = atMs;
    this.generation = generation;
    this.known = new Uint8Array(vms.length);
  }

  /** What was looked up before is forgotten. */
  renewed(generation: number, atMs: number): this {
    if (this.generation === generation) return this;
    this.generation = generation;
    this.atMs = atMs;
    this.known.fill(0);
    return this;
  }

  of(vm: number): number {
    return this.known[vm] || this.lookUp(vm);
  }

  private lookUp(v: number): number {
    const { task } = this;
    const { tasks, warm, warmUntilMs, starting } = this.vms[v]!;
    const isWarm = warm[task] && (warmUntilMs?.[task] ?? Number.POSITIVE_INFINITY) > this.atMs;
    const held = isWarm ? TASK_WARM : starting[task] ? TASK_STARTING : TASK_COLD;
    const state = tasks.includes(task) ? held : TASK_ABSENT;
    this.known[v] = state;
    return state;
  }
}

/** Links that nobody declared or measured: slow, so that known near ones win. */
const LATENCY_UNKNOWN_MS = 20;
const BANDWIDTH_UNKNOWN_BYTES_PER_SECOND = 20e6;
/** Utilisation is capped here: one sample of a second says little of a queue's steady state, and the formula has no end. */
const UTILISATION_MAX = 0.9;

/** Below so many clusters the crossing into WASM costs more than its SIMD saves. */
const PLACER_CLUSTERS_MIN = 64;
/** The other terms depend on the VM that a cluster would give: they are summed beside the filter. */
const NO_TERMS = new Float32Array(0);
const SERVICES_ALONE = Float32Array.of(1);

/** Makes a placer for so many clusters and services. */
export type NewPlacer = (clusters: number, services: number) => Placer;

/** What a chain asks of one service, by expectation. */
export interface ExpectedUse {
  service: string;
  calls: number;
  bytes: number;
}

/** A snapshot laid out for scoring: struct-of-arrays over VMs and clusters, columns per task and per peer built when asked. */
export class FleetIndex {
  readonly view: FleetView;
  readonly vms: VmView[];
  /** VMs of cluster c are vmOffsets[c] .. vmOffsets[c + 1]. */
  readonly vmOffsets: Uint32Array;
  readonly freeBytes: Float64Array;
  /** Expected wait for a core per ms of service. */
  readonly waitFactor: Float64Array;
  readonly clusterIds = new Map<string, number>();
  private readonly serviceOfHost = new Map<string, string>();
  private placer: Placer | null = null;
  private generation = 0;
  private readonly taskStates = new Map<string, TaskStates>();
  private readonly links = new Map<string, { latencyMs: Float64Array; msPerByte: Float64Array }>();

  constructor(view: FleetView) {
    this.view = view;
    this.vms = [];
    this.vmOffsets = new Uint32Array(view.clusters.length + 1);
    for (const [c, { cluster, vms }] of view.clusters.entries()) {
      for (const vm of vms) this.vms.push(vm);
      this.vmOffsets[c + 1] = this.vms.length;
      this.clusterIds.set(cluster, c);
    }
    this.freeBytes = new Float64Array(this.vms.length);
    this.waitFactor = new Float64Array(this.vms.length);
    for (const [v, vm] of this.vms.entries()) {
      this.freeBytes[v] = freeMemoryBytes(vm);
      this.waitFactor[v] = waitFactorOf(vm);
    }
    for (const [service, { hosts }] of Object.entries(view.services)) {
      for (const host of hosts) this.serviceOfHost.set(host.toLowerCase(), service);
    }
  }

  statesOf(task: string): TaskStates {
    const known = this.taskStates.get(task);
    if (known) return known.renewed(this.generation, this.view.atMs);
    const states = new TaskStates(task, this.vms, this.view.atMs, this.generation);
    this.taskStates.set(task, states);
    return states;
  }

  /** For who changes its view in place: runtimes, their memory's worth and the time are other ones; machines, links and loads are as they were. */
  renew(): void {
    this.generation++;
  }

  /** Links of every cluster to one peer (a service or a cluster). */
  linksTo(peer: string): { latencyMs: Float64Array; msPerByte: Float64Array } {
    let links = this.links.get(peer);
    if (!links) {
      const { clusters } = this.view;
      links = { latencyMs: new Float64Array(clusters.length), msPerByte: new Float64Array(clusters.length) };
      for (const [c, cluster] of clusters.entries()) {
        const link = cluster.proximity[peer];
        links.latencyMs[c] = link?.latencyMs ?? LATENCY_UNKNOWN_MS;
        links.msPerByte[c] = 1000 / (link?.bandwidthBytesPerSecond ?? BANDWIDTH_UNKNOWN_BYTES_PER_SECOND);
      }
      this.links.set(peer, links);
    }
    return links;
  }

  /** Expected ms in services on every cluster; on large fleets by the engine's SIMD. The next call overwrites the answer. */
  servicesMs(uses: ExpectedUse[], newPlacer: NewPlacer | null): ArrayLike<number> {
    const { clusters } = this.view;
    const services = Object.keys(this.view.services);
    const declared = uses.every(({ service }) => Object.hasOwn(this.view.services, service));
    const fits = services.length > 0 && services.length <= PLACE_SERVICES_MAX && clusters.length <= PLACE_CLUSTERS_MAX;
    if (newPlacer && declared && fits && clusters.length >= PLACER_CLUSTERS_MIN) {
      this.placer ??= this.placerOf(services, newPlacer);
      const of = (what: "calls" | "bytes") =>
        Float32Array.from(services, (name) => uses.find(({ service }) => service === name)?.[what] ?? 0);
      const demand = { calls: of("calls"), bytes: of("bytes"), terms: NO_TERMS, factors: SERVICES_ALONE };
      return this.placer.place(demand).serviceMs;
    }
    const sums = new Float64Array(clusters.length);
    for (const { service, calls, bytes } of uses) {
      const { latencyMs, msPerByte } = this.linksTo(service);
      for (let c = 0; c < sums.length; c++) sums[c]! += calls * latencyMs[c]! + bytes * msPerByte[c]!;
    }
    return sums;
  }

  private placerOf(services: string[], newPlacer: NewPlacer): Placer {
    const clusters = this.view.clusters.length;
    const latencyMs = new Float32Array(clusters * services.length);
    const msPerByte = new Float32Array(clusters * services.length);
    for (const [s, service] of services.entries()) {
      const links = this.linksTo(service);
      for (let c = 0; c < clusters; c++) {
        latencyMs[c * services.length + s] = links.latencyMs[c]!;
        msPerByte[c * services.length + s] = links.msPerByte[c]!;
      }
    }
    const placer = newPlacer(clusters, services.length);
    placer.setProximity(latencyMs, msPerByte);
    return placer;
  }

  /** The service whose declared hosts hold the URI; "" where none does. */
  serviceOf(uri: string): string {
    const host = /^[a-z][a-z0-9+.-]*:\/\/([^/?#]+)/i.exec(uri)?.[1]?.toLowerCase() ?? "";
    return this.serviceOfHost.get(host) ?? "";
  }

  /** One transfer of an object into a VM: latency of its store, and its bytes over the narrower of link and VM, ms. */
  transferMs(uri: string, bytes: number | null, cluster: number, vm: number): number {
    const links = this.linksTo(this.serviceOf(uri));
    const ownMsPerByte = 1000 / (this.vms[vm]!.networkBytesPerSecond ?? Number.POSITIVE_INFINITY);
    return links.latencyMs[cluster]! + (bytes ?? 0) * Math.max(links.msPerByte[cluster]!, ownMsPerByte);
  }
}

const INDEX = Symbol("index");

/**
 * For who keeps a view for many requests: it is indexed once. The view itself holds the index, hidden from copies of it: a weak map would
 * hold both until the whole heap is collected (docs/decisions/0053).
 */
export function indexOf(view: FleetView & { [INDEX]?: FleetIndex }): FleetIndex {
  const known = view[INDEX];
  if (known) return known;
  const index = new FleetIndex(view);
  Object.defineProperty(view, INDEX, { value: index });
  return index;
}

/** What a start would find: idle runtimes end for it. */
export function freeMemoryBytes({ memoryBytes, memoryUsedBytes, memoryIdleBytes = 0 }: VmView): number {
  return Math.max(0, memoryBytes - memoryUsedBytes + memoryIdleBytes);
}

/**
 * Expected wait for one of c cores at utilisation u: Sakasegawa's approximation of M/M/c,
 * u^(√(2(c+1)) − 1) ÷ (c (1 − u)) service times. [H. Sakasegawa, Ann. Inst. Stat. Math. 29 (1977)]
 */
function waitFactorOf(vm: VmView): number {
  const utilisation = Math.min(vm.cpuLoad, UTILISATION_MAX);
  return utilisation ** (Math.sqrt(2 * (vm.cpuCores + 1)) - 1) / (vm.cpuCores * (1 - utilisation));
}

// What is known of the machines, as one snapshot: declarations of the operator joined with the hubs' latest summaries.
// Plain data, so that it crosses Durable Object calls; `src/core/allocate.ts` reads it.
import type { Policy, TaskDeclaration } from "../protocol.ts";

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
  executions: number;
  /** Tasks of the agent's own configuration; the only ones it can run. */
  tasks: string[];
  /** Idle runtimes that said ready, by task. */
  warm: Record<string, number>;
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
}

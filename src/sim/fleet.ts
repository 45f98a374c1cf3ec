// The fleet of a simulation, as views (core/fleet.ts). In: what a machine and a cluster are. Out: both with nothing running, and free of charge.
import type { ClusterView, VmView } from "../core/fleet.ts";

export function idleVm(machine: Pick<VmView, "vm" | "cpuCores" | "memoryBytes" | "tasks">): VmView {
  return {
    ...machine,
    url: null,
    networkBytesPerSecond: null,
    draining: false,
    lastHeartbeatMs: 0,
    cpuLoad: 0,
    memoryUsedBytes: 0,
    executions: 0,
    warm: {},
    starting: {},
    uris: [],
  };
}

export function freeCluster(place: Pick<ClusterView, "cluster" | "proximity" | "vms">): ClusterView {
  return {
    ...place,
    labels: {},
    draining: false,
    pricePerGbSecond: 0,
    internalLatencyMs: 0,
    reservedMemoryBytes: 0,
    reservedCpuCores: 0,
  };
}

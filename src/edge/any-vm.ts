// A VM for a task without prediction, plan or hub: what a request falls back to when any of them fails.
import { HEARTBEAT_STALE_MS } from "../core/allocate.ts";
import { type FleetView, freeMemoryBytes, type VmView } from "../core/fleet.ts";
import { RETRY_AFTER_MS, type Served, type TaskRequest, type Unsuitable } from "../core/pipeline.ts";
import type { Prediction } from "../protocol.ts";
import { isBackAt, isUnreachable, type Target } from "./forward.ts";

/** An allocation of the task alone: nothing is predicted, held or prepared. */
export function serveBare(
  workspace: string,
  request: TaskRequest,
  fleet: FleetView,
  nowMs: number,
  allocationId: string,
): Served | Unsuitable {
  const { task, branch = null } = request;
  const prediction = { modelVersion: 0, next: [], reach: [], chains: [], demand: NO_DEMAND };
  const target = anyVm(workspace, task, fleet, new Set(), nowMs);
  if (target === null) return noneReached(allocationId, prediction, fleet);
  const { cluster, vm, url } = target;
  return {
    kind: "allocated",
    allocationId,
    prediction,
    chain: [task],
    cluster,
    vm,
    url,
    vms: {},
    plan: [],
    skipped: [],
    alternatives: [],
    refused: [],
    acted: false,
    hidden: {},
    branch,
    expectedTerms: null,
  };
}

/** There are VMs with the task, perhaps, but none takes a call. */
export function noneReached(allocationId: string, prediction: Prediction, fleet: FleetView): Unsuitable {
  const refused = fleet.clusters.map(({ cluster }) => ({ cluster, reason: "no VM with the task can be reached" }));
  const { demand } = prediction;
  return { kind: "unsuitable", allocationId, prediction, demand, refused, retryAfterMs: RETRY_AFTER_MS };
}

const NO_DEMAND = { cpuMs: 0, peakMemoryBytes: 0, networkBytes: 0, prefetch: [] };

/** A call through a hub's queue is slower than any other: such VMs come last. */
const QUEUED_PENALTY = 3;
/** An agent that is heard and was not reached may be behind a closed port still: after all that were reached. */
const BACK_PENALTY = 6;

/** An agent that was replaced may have another URL: that is another address of the same VM. */
export function addressOf({ cluster, vm, url }: Pick<Target, "cluster" | "vm" | "url">): string {
  return `${cluster}/${vm} ${url}`;
}

/** A fresh VM with the task and free memory whose address was not tried: warm first, then the least loaded. */
export function anyVm(
  workspace: string,
  task: string,
  fleet: FleetView,
  tried: ReadonlySet<string>,
  nowMs: number,
): Target | null {
  let best: Target | null = null;
  let bestRank = Number.NEGATIVE_INFINITY;
  for (const { cluster, draining, vms } of fleet.clusters) {
    if (draining) continue;
    for (const vm of vms) {
      if (!canRun(vm, task, nowMs)) continue;
      const isBack = isBackAt(vm.url, vm.lastHeartbeatMs);
      if (isUnreachable(vm.url) && !isBack) continue;
      if (tried.has(addressOf({ cluster, vm: vm.vm, url: vm.url }))) continue;
      const penalty = isBack ? BACK_PENALTY : vm.url === null ? QUEUED_PENALTY : 0;
      const rank = (vm.warm[task] ? 1 : 0) - vm.cpuLoad - penalty;
      if (rank > bestRank) [best, bestRank] = [{ workspace, cluster, vm: vm.vm, url: vm.url }, rank];
    }
  }
  return best;
}

function canRun(vm: VmView, task: string, nowMs: number): boolean {
  if (vm.draining || freeMemoryBytes(vm) === 0 || !vm.tasks.includes(task)) return false;
  return vm.lastHeartbeatMs !== null && nowMs - vm.lastHeartbeatMs <= HEARTBEAT_STALE_MS;
}

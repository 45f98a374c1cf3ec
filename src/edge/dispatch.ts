// Where a call goes, and the tries to bring it there. In: a task request. Out: the VM, or why there is none; then the response.
// The pipeline's choice first. Without it, or when its VM cannot be reached, any fresh VM that has the task: nothing of ours
// that fails may fail the call.
import { HEARTBEAT_STALE_MS } from "../core/allocate.ts";
import type { FleetView, VmView } from "../core/fleet.ts";
import type { Served, TaskRequest, Unsuitable } from "../core/pipeline.ts";
import { allocateTask } from "./allocator.ts";
import type { Env } from "./env.ts";
import { type Call, type Forwarded, forward, isUnreachable, type Target } from "./forward.ts";
import { newId } from "./ids.ts";

/** VMs tried for one call. */
const TRIES_MAX = 3;

/** Where the call goes: what the pipeline allocated, or a VM found without it. */
export interface Placed {
  kind: "placed";
  allocationId: string;
  workspace: string;
  cluster: string;
  vm: string;
  url: string | null;
  vms: Record<string, string>;
  branch: string | null;
  served: Served | null;
}

export async function place(
  env: Env,
  workspace: string,
  request: TaskRequest,
  fleet: FleetView,
  nowMs: number,
): Promise<Placed | Unsuitable> {
  let served: Served | Unsuitable | null = null;
  try {
    served = await allocateTask(env, workspace, request, fleet, nowMs);
  } catch (error) {
    console.error(`allocation failed, running without: ${error instanceof Error ? error.stack : error}`);
  }
  if (served?.kind === "allocated" && !isUnreachable(served.url)) {
    const { allocationId, cluster, vm, url, vms, branch } = served;
    return { kind: "placed", allocationId, workspace, cluster, vm, url, vms, branch, served };
  }
  // Reservations are for runs to come; a VM that has room now takes a call that is here now.
  const target = otherVm(workspace, request.task, fleet, new Set(), nowMs);
  if (target !== null) {
    const allocated = served?.kind === "allocated" ? served : null;
    return {
      kind: "placed",
      ...target,
      allocationId: served?.allocationId ?? newId(nowMs),
      vms: {},
      branch: request.branch ?? null,
      served: allocated,
    };
  }
  return (
    (served?.kind === "unsuitable" ? served : null) ?? {
      kind: "unsuitable",
      allocationId: served?.allocationId ?? newId(nowMs),
      prediction: { modelVersion: 0, next: [], reach: [], chains: [], demand: NO_DEMAND },
      demand: NO_DEMAND,
      refused: fleet.clusters.map(({ cluster }) => ({ cluster, reason: "no VM with the task can be reached" })),
      retryAfterMs: RETRY_AFTER_MS,
    }
  );
}

const NO_DEMAND = { cpuMs: 0, peakMemoryBytes: 0, networkBytes: 0, prefetch: [] };
const RETRY_AFTER_MS = 2_000;

/** A call through a hub's queue is slower than any other: such VMs come last. */
const QUEUED_PENALTY = 3;

/** A fresh VM with the task and free memory that was not tried: warm first, then the least loaded. */
function otherVm(workspace: string, task: string, fleet: FleetView, tried: Set<string>, nowMs: number): Target | null {
  let best: Target | null = null;
  let bestRank = Number.NEGATIVE_INFINITY;
  for (const { cluster, draining, vms } of fleet.clusters) {
    if (draining) continue;
    for (const vm of vms) {
      if (tried.has(`${cluster}/${vm.vm}`) || !canRun(vm, task, nowMs) || isUnreachable(vm.url)) continue;
      const rank = (vm.warm[task] ? 1 : 0) - vm.cpuLoad - (vm.url === null ? QUEUED_PENALTY : 0);
      if (rank > bestRank) [best, bestRank] = [{ workspace, cluster, vm: vm.vm, url: vm.url }, rank];
    }
  }
  return best;
}

function canRun(vm: VmView, task: string, nowMs: number): boolean {
  if (vm.draining || vm.memoryUsedBytes >= vm.memoryBytes || !vm.tasks.includes(task)) return false;
  return vm.lastHeartbeatMs !== null && nowMs - vm.lastHeartbeatMs <= HEARTBEAT_STALE_MS;
}

export interface Sent {
  target: Target;
  forwarded: Forwarded | { ok: false; reason: "aborted"; detail: string };
}

/** The chosen VM first; another one only when the call was certainly not begun and its body can be sent again. */
export async function send(env: Env, placed: Placed, call: Call, fleet: FleetView): Promise<Sent> {
  const tried = new Set<string>();
  let target: Target = placed;
  for (let attempt = 1; ; attempt++) {
    const nowMs = Date.now();
    tried.add(`${target.cluster}/${target.vm}`);
    let forwarded: Forwarded;
    try {
      forwarded = await forward(env, target, call, nowMs);
    } catch (error) {
      return { target, forwarded: { ok: false, reason: "aborted", detail: String(error) } };
    }
    if (
      forwarded.ok ||
      forwarded.reason !== "not-begun" ||
      call.body instanceof ReadableStream ||
      attempt >= TRIES_MAX
    ) {
      return { target, forwarded };
    }
    const next = otherVm(placed.workspace, call.task, fleet, tried, nowMs);
    if (next === null) return { target, forwarded };
    target = next;
  }
}

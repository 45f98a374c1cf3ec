// Where a call goes, and the tries to bring it there. In: a task request. Out: the VM, or why there is none; then the response.
// The pipeline's choice first. Without it, or when its VM cannot be reached, any fresh VM that has the task: nothing of ours
// that fails may fail the call.
import type { FleetView } from "../core/fleet.ts";
import type { Served, TaskRequest, Unsuitable } from "../core/pipeline.ts";
import { allocateTask } from "./allocator.ts";
import { addressOf, anyVm, noneReached } from "./any-vm.ts";
import type { Env } from "./env.ts";
import { fleetViewAnew } from "./fleet-cache.ts";
import { type Call, type Forwarded, forward, isUnreachable, type Target } from "./forward.ts";

/** VMs tried for one call. */
const TRIES_MAX = 3;
const NONE_TRIED: ReadonlySet<string> = new Set();

/** Where the call goes: what the pipeline allocated, or a VM found without it. */
export interface Placed {
  kind: "placed";
  allocationId: string;
  workspace: string;
  /** As the fleet view names it. */
  task: string;
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
  const served = await allocateTask(env, workspace, request, fleet, nowMs);
  const { allocationId } = served;
  const { task } = request;
  if (served.kind === "allocated" && !isUnreachable(served.url)) {
    const { cluster, vm, url, vms, branch } = served;
    return { kind: "placed", allocationId, workspace, task, cluster, vm, url, vms, branch, served };
  }
  // Reservations are for runs to come; a VM that has room now takes a call that is here now.
  const target =
    anyVm(workspace, task, fleet, NONE_TRIED, nowMs) ??
    (served.kind === "allocated" ? await movedVm(env, { workspace, task }, NONE_TRIED, nowMs) : null);
  if (target !== null) {
    const branch = request.branch ?? null;
    const allocated = served.kind === "allocated" ? served : null;
    return { kind: "placed", ...target, task, allocationId, vms: {}, branch, served: allocated };
  }
  return served.kind === "unsuitable" ? served : noneReached(allocationId, served.prediction, fleet);
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
    tried.add(addressOf(target));
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
    const next =
      anyVm(placed.workspace, placed.task, fleet, tried, nowMs) ?? (await movedVm(env, placed, tried, nowMs));
    if (next === null) return { target, forwarded };
    target = next;
  }
}

/** The view is up to a second old: an agent that was replaced may already be at another address. */
async function movedVm(
  env: Env,
  { workspace, task }: Pick<Placed, "workspace" | "task">,
  tried: ReadonlySet<string>,
  nowMs: number,
): Promise<Target | null> {
  const fleet = await fleetViewAnew(env, workspace, nowMs);
  return fleet && anyVm(workspace, task, fleet, tried, nowMs);
}

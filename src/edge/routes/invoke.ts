// ALL /v1/invoke/:task/*: allocate, forward to the chosen VM, stream the answer back. Any method, any path below the task.
// The chain goes on through the `forechain-continuation` of the answer, which the caller (or the task) hands to its next calls.
// Nothing of ours that fails may fail the call: without a prediction, a plan or a hub it still goes to a VM that has the task.
import { type Context, Hono } from "hono";
import { HEARTBEAT_STALE_MS } from "../../core/allocate.ts";
import type { FleetView, VmView } from "../../core/fleet.ts";
import type { Served, TaskRequest, Unsuitable } from "../../core/pipeline.ts";
import {
  ALLOCATION_HEADER,
  type AllocationAnswer,
  type AllocationRecord,
  CLUSTER_HEADER,
  COLD_START_HEADER,
  CONTINUATION_HEADER,
  Params,
  TaskDeclaration,
  TaskName,
} from "../../protocol.ts";
import { logAllocation } from "../allocation-log.ts";
import { allocateTask, answerOf, continuationOf, recordOfAnswer } from "../allocator.ts";
import type { AppEnv } from "../app.ts";
import { requireScope } from "../auth.ts";
import { fleetViewFor, knownTasks } from "../fleet-cache.ts";
import { answerHeaders, type Call, type Forwarded, forward, isUnreachable, type Target } from "../forward.ts";
import { newId } from "../ids.ts";
import { check, problem } from "../problem.ts";
import { readOrigin, traceIdOf } from "../task-request.ts";
import { unknownTask, unsuitable } from "./allocations.ts";

/** A JSON body up to this size is read for its parameters; everything else is passed through as a stream, bytes. */
const PARAMS_BODY_BYTES_MAX = 64 * 1024;
const PARAMS_MAX = 32;
/** VMs tried for one call. */
const TRIES_MAX = 3;
const TIMEOUT_MS_DEFAULT = TaskDeclaration.parse({}).timeoutMs;

export const invokeRoutes = new Hono<AppEnv>();

invokeRoutes.all("/v1/invoke/:task/*", requireScope("invoke"), async (c) => {
  const task = check(c, TaskName, c.req.param("task"), "Invalid task name");
  if (!task.ok) return task.response;
  const nowMs = Date.now();
  const { workspace } = c.get("key");
  const secret = c.env.FORECHAIN_SECRET;
  const read = await readOrigin(secret, workspace, c.req.header(CONTINUATION_HEADER), nowMs);
  if (!read.ok) return problem(c, 400, "Invalid continuation", `Header ${CONTINUATION_HEADER} ${read.detail}.`);
  const fleet = await fleetViewFor(c.env.FLEET, workspace, c.executionCtx, nowMs);
  if (!knownTasks(fleet).has(task.value)) return unknownTask(c, task.value);
  const body = await bodyOf(c.req.raw);
  const request: TaskRequest = {
    task: task.value,
    version: null,
    path: read.origin.path,
    pathStartMs: read.origin.pathStartMs,
    params: paramsOf(new URL(c.req.url).searchParams, body),
    runId: read.origin.runId ?? traceIdOf(c.req.header("traceparent")) ?? newId(nowMs),
    executionId: newId(nowMs),
    inputs: [],
    constraints: {},
    horizonMs: null,
    maxTasks: null,
    heldCluster: read.origin.heldCluster,
    heldVms: read.origin.heldVms,
    branch: read.origin.branch,
    dryRun: false,
  };
  const placed = await place(c, workspace, request, fleet, nowMs);
  if (placed.kind === "unsuitable") return unsuitable(c, placed);
  const continuation = await continuationOf(secret, workspace, request, placed, nowMs);
  const timeoutMs = fleet.tasks[task.value]?.timeoutMs ?? TIMEOUT_MS_DEFAULT;
  const call: Call = {
    task: task.value,
    rest: restOf(c),
    method: c.req.method,
    headers: c.req.raw.headers,
    body,
    context: contextOf(request, placed, read.origin.links, fleet),
    continuation,
    signal: AbortSignal.any([c.req.raw.signal, AbortSignal.timeout(timeoutMs)]),
  };
  const sent = await send(secret, placed, call, fleet);
  return answer(c, request, placed, sent, continuation, fleet);
});

/** Where the call goes: what the pipeline allocated, or a VM found without it. */
interface Placed {
  kind: "placed";
  allocationId: string;
  workspace: string;
  cluster: string;
  vm: string;
  url: string;
  vms: Record<string, string>;
  branch: string | null;
  served: Served | null;
}

async function place(
  c: Context<AppEnv>,
  workspace: string,
  request: TaskRequest,
  fleet: FleetView,
  nowMs: number,
): Promise<Placed | Unsuitable> {
  let served: Served | Unsuitable | null = null;
  try {
    served = await allocateTask(c.env, workspace, request, fleet, nowMs);
  } catch (error) {
    console.error(`allocation failed, running without: ${error instanceof Error ? error.stack : error}`);
  }
  if (served?.kind === "allocated" && served.url !== null && !isUnreachable(served.url)) {
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

/** A fresh VM with the task and free memory that was not tried: warm first, then the least loaded. */
function otherVm(workspace: string, task: string, fleet: FleetView, tried: Set<string>, nowMs: number): Target | null {
  let best: Target | null = null;
  let bestRank = Number.NEGATIVE_INFINITY;
  for (const { cluster, draining, vms } of fleet.clusters) {
    if (draining) continue;
    for (const vm of vms) {
      if (vm.url === null || tried.has(`${cluster}/${vm.vm}`) || !canRun(vm, task, nowMs)) continue;
      if (isUnreachable(vm.url)) continue;
      const rank = (vm.warm[task] ? 1 : 0) - vm.cpuLoad;
      if (rank > bestRank) [best, bestRank] = [{ workspace, cluster, vm: vm.vm, url: vm.url }, rank];
    }
  }
  return best;
}

function canRun(vm: VmView, task: string, nowMs: number): boolean {
  if (vm.draining || vm.memoryUsedBytes >= vm.memoryBytes || !vm.tasks.includes(task)) return false;
  return vm.lastHeartbeatMs !== null && nowMs - vm.lastHeartbeatMs <= HEARTBEAT_STALE_MS;
}

interface Sent {
  target: Target;
  forwarded: Forwarded | { ok: false; reason: "aborted"; detail: string };
}

/** The chosen VM first; another one only when the call was certainly not begun and its body can be sent again. */
async function send(secret: string, placed: Placed, call: Call, fleet: FleetView): Promise<Sent> {
  const tried = new Set<string>();
  let target: Target = placed;
  for (let attempt = 1; ; attempt++) {
    const nowMs = Date.now();
    tried.add(`${target.cluster}/${target.vm}`);
    let forwarded: Forwarded;
    try {
      forwarded = await forward(secret, target, call, nowMs);
    } catch (error) {
      return { target, forwarded: { ok: false, reason: "aborted", detail: String(error) } };
    }
    if (forwarded.ok || forwarded.reason === "lost" || call.body instanceof ReadableStream || attempt >= TRIES_MAX) {
      return { target, forwarded };
    }
    const next = otherVm(placed.workspace, call.task, fleet, tried, nowMs);
    if (next === null) return { target, forwarded };
    target = next;
  }
}

function answer(
  c: Context<AppEnv>,
  request: TaskRequest,
  placed: Placed,
  { target, forwarded }: Sent,
  continuation: string,
  fleet: FleetView,
): Response {
  logAllocation(c.env.DB, c.executionCtx, placed.workspace, recordOf(request, placed, target, forwarded, fleet));
  const own: Record<string, string> = {
    [ALLOCATION_HEADER]: placed.allocationId,
    [CLUSTER_HEADER]: target.cluster,
    [CONTINUATION_HEADER]: continuation,
  };
  if (forwarded.ok) {
    const { response } = forwarded;
    const headers = answerHeaders(response);
    for (const [name, value] of Object.entries(own)) headers.set(name, value);
    return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
  }
  const refusal = failure(c, target, forwarded);
  for (const [name, value] of Object.entries(own)) refusal.headers.set(name, value);
  return refusal;
}

function failure(c: Context<AppEnv>, target: Target, failed: Exclude<Sent["forwarded"], { ok: true }>): Response {
  const where = `VM ${target.cluster}/${target.vm}`;
  switch (failed.reason) {
    case "aborted":
      // Whoever asked may be gone, or its time is over: only the second can read this.
      return problem(c, 504, "Task timed out", `${where} did not answer within the task's time.`);
    case "lost":
      return problem(c, 502, "Connection lost", `The connection to ${where} broke; the task may or may not have run.`);
    case "not-begun":
      return problem(
        c,
        503,
        "No VM reachable",
        `${where} could not take the call (${failed.detail}), and no other has the task.`,
      );
  }
}

function recordOf(
  request: TaskRequest,
  placed: Placed,
  target: Target,
  forwarded: Sent["forwarded"],
  fleet: FleetView,
): AllocationRecord {
  const { allocationId, served } = placed;
  const explained: Partial<AllocationAnswer> = served ? answerOf(served, fleet, "") : { allocationId };
  const { cluster, vm, url } = target;
  const ran = forwarded.ok && forwarded.response.status < 500;
  const coldStartMs = forwarded.ok ? Number(forwarded.response.headers.get(COLD_START_HEADER) ?? 0) : 0;
  const outcome = !ran ? "failed" : coldStartMs > 0 ? "cold" : "warm";
  const explanation = { ...explained, allocationId } as AllocationAnswer;
  const record = recordOfAnswer(explanation, request, ran ? "executed" : "failed", outcome, Date.now());
  return { ...record, cluster, vm, url };
}

function contextOf(request: TaskRequest, placed: Placed, links: string[], fleet: FleetView): Call["context"] {
  const version = fleet.tasks[request.task]?.version;
  return {
    runId: request.runId,
    executionId: request.executionId,
    links,
    ...(version === undefined ? {} : { version }),
    ...(Object.keys(request.params).length === 0 ? {} : { params: request.params }),
    allocationId: placed.allocationId,
  };
}

/** Path and query below the task, as they were sent: decoding and encoding again would change them. */
function restOf(c: Context<AppEnv>): string {
  const { pathname, search } = new URL(c.req.url);
  const rest = /^\/v1\/invoke\/[^/]+(\/.*)?$/.exec(pathname)?.[1] ?? "";
  return `${rest}${search}`;
}

/** Small JSON is read whole, so that its parameters can be seen and the call can be sent again; the rest streams. */
async function bodyOf(request: Request): Promise<ArrayBuffer | ReadableStream | null> {
  if (request.body === null) return null;
  const length = Number(request.headers.get("content-length") ?? Number.NaN);
  return length <= PARAMS_BODY_BYTES_MAX ? request.arrayBuffer() : request.body;
}

/** Query parameters, and the scalars at the top of a small JSON body: what templates of object URIs are filled with. */
function paramsOf(query: URLSearchParams, body: ArrayBuffer | ReadableStream | null): TaskRequest["params"] {
  const params: [string, unknown][] = [...query];
  if (body instanceof ArrayBuffer && body.byteLength > 0) {
    const first = new Uint8Array(body, 0, 1)[0];
    if (first === "{".charCodeAt(0)) {
      try {
        params.push(...Object.entries(JSON.parse(new TextDecoder().decode(body)) as object));
      } catch {
        // Not JSON after all: the task will say so, parameters are only a help.
      }
    }
  }
  const kept = params.filter(([name, value]) => Params.safeParse({ [name]: value }).success).slice(0, PARAMS_MAX);
  return Object.fromEntries(kept) as TaskRequest["params"];
}

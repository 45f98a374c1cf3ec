// ALL /v1/invoke/:task/*: allocate, forward to the chosen VM, stream the answer back. Any method, any path below the task.
// The chain goes on through the `forechain-continuation` of the answer, which the caller (or the task) hands to its next calls.
// Nothing of ours that fails may fail the call: without a prediction, a plan or a hub it still goes to a VM that has the task.
import { type Context, Hono } from "hono";
import type { FleetView } from "../../core/fleet.ts";
import type { TaskRequest } from "../../core/pipeline.ts";
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
import { answerOf, continuationOf, recordOfAnswer } from "../allocator.ts";
import type { AppEnv } from "../app.ts";
import { requireScope } from "../auth.ts";
import { type Placed, place, type Sent, send } from "../dispatch.ts";
import { fleetViewForTask, knownTasks } from "../fleet-cache.ts";
import { answerHeaders, type Call, type Target } from "../forward.ts";
import { newId } from "../ids.ts";
import { checkName, problem } from "../problem.ts";
import { releaseLater } from "../releases.ts";
import { resolveTask } from "../task-names.ts";
import { readOrigin, traceIdOf } from "../task-request.ts";
import { unknownTask, unsuitable } from "./allocations.ts";

/** A JSON body up to this size is read for its parameters; everything else is passed through as a stream, bytes. */
const PARAMS_BODY_BYTES_MAX = 64 * 1024;
const PARAMS_MAX = 32;
const TIMEOUT_MS_DEFAULT = TaskDeclaration.parse({}).timeoutMs;

export const invokeRoutes = new Hono<AppEnv>();

invokeRoutes.all("/v1/invoke/:task/*", requireScope("invoke"), async (c) => {
  const task = checkName(c, "task", TaskName);
  if (!task.ok) return task.response;
  if (c.req.header("upgrade")?.toLowerCase() === "websocket") {
    return problem(
      c,
      501,
      "No WebSockets",
      "Calls are forwarded as HTTP requests; a WebSocket cannot be opened to a task.",
    );
  }
  const nowMs = Date.now();
  const { workspace } = c.get("key");
  const secret = c.env.FORECHAIN_SECRET;
  const read = await readOrigin(secret, workspace, c.req.header(CONTINUATION_HEADER), nowMs);
  if (!read.ok) return problem(c, 400, "Invalid continuation", `Header ${CONTINUATION_HEADER} ${read.detail}.`);
  const fleet = await fleetViewForTask(c.env, workspace, task.value, c.executionCtx, nowMs);
  const resolved = resolveTask(task.value, fleet, knownTasks(fleet));
  if (resolved === null) return unknownTask(c, task.value);
  const body = await bodyOf(c.req.raw);
  const request: TaskRequest = {
    task: resolved.task,
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
  const placed = await place(c.env, workspace, request, fleet, nowMs);
  if (placed.kind === "unsuitable") {
    // The call is refused now and does not wait; but what it lacks is what the operator may want to add.
    const told = c.env.FLEET.getByName(workspace).lacking(workspace, request, placed);
    c.executionCtx.waitUntil(told.catch((error) => console.warn(`Fleet was not told of missing capacity: ${error}`)));
    return unsuitable(c, placed);
  }
  const continuation = await continuationOf(secret, workspace, request, placed, nowMs);
  const timeoutMs = fleet.tasks[resolved.task]?.timeoutMs ?? TIMEOUT_MS_DEFAULT;
  const call: Call = {
    task: resolved.own,
    rest: restOf(c),
    method: c.req.method,
    headers: c.req.raw.headers,
    body,
    context: contextOf(request, placed, read.origin.links, fleet),
    continuation,
    signal: AbortSignal.any([c.req.raw.signal, AbortSignal.timeout(timeoutMs)]),
    endsMs: Date.now() + timeoutMs,
  };
  const sent = await send(c.env, placed, call, fleet);
  release(c, request, placed);
  return answer(c, request, placed, sent, continuation, fleet, nowMs);
});

/** Capacity held for this run is free again when nothing more is expected, or when the call that began it is answered. */
function release(c: Context<AppEnv>, request: TaskRequest, { served, workspace }: Placed): void {
  if (served === null) return;
  const over = served.chain.length === 1;
  if (!over && request.path.length > 0) return;
  releaseLater(c.env.CLUSTER_HUB, c.executionCtx, `${workspace}/${served.cluster}`, { runId: request.runId, over });
}

function answer(
  c: Context<AppEnv>,
  request: TaskRequest,
  placed: Placed,
  { target, forwarded }: Sent,
  continuation: string,
  fleet: FleetView,
  nowMs: number,
): Response {
  logAllocation(c.env.DB, c.executionCtx, placed.workspace, recordOf(request, placed, target, forwarded, fleet, nowMs));
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
    case "too-large":
      return problem(c, 413, "Body too large", `${failed.detail}.`);
    case "aborted":
    case "timeout":
      // Whoever asked may be gone, or its time is over: only the second can read this.
      return problem(c, 504, "Task timed out", `${where} did not answer within the task's time.`);
    case "lost":
      return problem(
        c,
        502,
        "Connection lost",
        `The connection to ${where} broke (${failed.detail}); the task may or may not have run.`,
      );
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
  nowMs: number,
): AllocationRecord {
  const { allocationId, served } = placed;
  const explained: Partial<AllocationAnswer> = served ? answerOf(served, fleet, "") : { allocationId };
  const { cluster, vm, url } = target;
  const ran = forwarded.ok && forwarded.response.status < 500;
  const coldStart = forwarded.ok ? forwarded.response.headers.get(COLD_START_HEADER) : null;
  const outcome = !ran ? "failed" : coldStart === null ? null : Number(coldStart) > 0 ? "cold" : "warm";
  const explanation = { ...explained, allocationId } as AllocationAnswer;
  const record = recordOfAnswer(explanation, request, ran ? "executed" : "failed", outcome, nowMs);
  return { ...record, cluster, vm, url, answeredMs: Date.now() };
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
  // Some clients send one with these; `fetch` refuses to.
  if (request.body === null || request.method === "GET" || request.method === "HEAD") return null;
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

// The pipeline's `serve` with the Worker's clock, ids, model and hubs. In: one task request. Out: where it runs and what was
// prepared, or why nowhere. Here invariant 6 is kept: a prediction that fails is left out, a hub that is down holds nothing
// and is sent nothing, and the request goes on.
import engineModule from "../../build/engine.wasm";
import type { FleetView } from "../core/fleet.ts";
import type { Model } from "../core/graph.ts";
import { type Admission, type Offer, type Served, serve, type TaskRequest, type Unsuitable } from "../core/pipeline.ts";
import { WasmPlacer } from "../core/place.ts";
import type { AllocationAnswer, AllocationRecord, PlanItem } from "../protocol.ts";
import { sealContinuation } from "./continuation.ts";
import type { Env } from "./env.ts";
import { newId } from "./ids.ts";
import { modelFor } from "./model-cache.ts";
import { continuationKey } from "./secrets.ts";

/** How long a request waits for a model in a cold isolate, ms; then it goes on without a prediction. */
export const MODEL_WAIT_MS = 50;
/** A hub that has not answered by then is taken for down: the request goes on without a reservation, ms. */
const HUB_WAIT_MS = 1_000;

export async function allocateTask(
  env: Pick<Env, "GRAPH_WRITER" | "CLUSTER_HUB">,
  workspace: string,
  request: TaskRequest,
  fleet: FleetView,
  nowMs: number,
  allocationId = newId(nowMs),
): Promise<Served | Unsuitable> {
  // The pipeline's first id is the allocation's: one that was pending keeps the id that its caller knows.
  let made = 0;
  const ports = {
    nowMs,
    newId: () => (made++ === 0 ? allocationId : newId(nowMs)),
    // The same for every task of a run: a canary covers whole runs.
    random: () => uniformOf(request.runId),
    newPlacer: (clusters: number, services: number) => new WasmPlacer(engineModule, clusters, services),
    admit: (offer: Offer) => admitAt(env.CLUSTER_HUB, workspace, offer),
  };
  const model = await modelOrNone(env.GRAPH_WRITER, workspace);
  if (model === null) return serve(request, null, fleet, ports);
  try {
    return await serve(request, model, fleet, ports);
  } catch (error) {
    console.error(`prediction failed, allocating without: ${error instanceof Error ? error.stack : error}`);
    made = 0;
    return serve(request, null, fleet, ports);
  }
}

/** FNV-1a over the id's characters, as a number in [0, 1). */
export function uniformOf(id: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), 0x01000193);
  // The last characters alone would decide the low bits: one more round spreads them.
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  return ((hash ^ (hash >>> 12)) >>> 0) / 2 ** 32;
}

async function modelOrNone(graphWriter: Env["GRAPH_WRITER"], workspace: string): Promise<Model | null> {
  try {
    return await modelFor(graphWriter, workspace, MODEL_WAIT_MS);
  } catch (error) {
    console.error(`no model: ${error}`);
    return null;
  }
}

async function admitAt(hubs: Env["CLUSTER_HUB"], workspace: string, offer: Offer): Promise<Admission> {
  const hub = hubs.getByName(`${workspace}/${offer.cluster}`);
  let timer: ReturnType<typeof setTimeout> | null = null;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${HUB_WAIT_MS} ms`)), HUB_WAIT_MS);
  });
  try {
    return await Promise.race([hub.admit(workspace, offer), timeout]);
  } catch (error) {
    console.error(`hub ${offer.cluster} is down, running without reservation: ${error}`);
    const refusedKeys = offer.commands.map(({ vm, key }) => [`${vm} ${key}`, "the cluster's hub did not answer"]);
    return { ok: true, commandIds: {}, refusedKeys: Object.fromEntries(refusedKeys) };
  } finally {
    clearTimeout(timer);
  }
}

/** The continuation that comes out of an execution: its path up to and with the task. */
export async function continuationOf(
  secret: string,
  workspace: string,
  request: TaskRequest,
  placed: { cluster: string | null; vms: Record<string, string>; branch: string | null },
  nowMs: number,
): Promise<string> {
  const path = request.path.map((task, i) => ({ task, startMs: knownOrNull(request.pathStartMs[i]) }));
  const continuation = {
    runId: request.runId,
    path: [...path, { task: request.task, startMs: nowMs }],
    executionId: request.executionId,
    cluster: placed.cluster,
    // What earlier plans prepared and this one does not speak of still holds.
    vms: { ...request.heldVms, ...placed.vms },
    branch: placed.branch,
  };
  return sealContinuation(await continuationKey(secret, workspace), continuation, nowMs);
}

function knownOrNull(startMs: number | undefined): number | null {
  return startMs === undefined || Number.isNaN(startMs) ? null : startMs;
}

export function answerOf(served: Served, fleet: FleetView, continuation: string): AllocationAnswer {
  const { allocationId, cluster, vm, url, chain, skipped, alternatives, refused } = served;
  return {
    allocationId,
    mode: fleet.policy.mode,
    cluster,
    vm,
    url,
    continuation,
    chain,
    plan: served.plan.map(planItemOf),
    skipped,
    alternatives,
    refused,
    modelVersion: served.prediction.modelVersion,
  };
}

function planItemOf(command: Served["plan"][number]): PlanItem {
  const { commandId, kind, task, uri, probability, notBeforeMs, deadlineMs, savedMs } = command;
  return {
    commandId,
    kind,
    ...(task === null ? {} : { task }),
    ...(uri === null ? {} : { uri }),
    probability,
    notBeforeMs,
    deadlineMs,
    savedMs,
  };
}

/** Of a request that nothing was suitable for. */
export function pendingRecord(unsuitable: Unsuitable, request: TaskRequest, nowMs: number): AllocationRecord {
  const { allocationId, refused } = unsuitable;
  const { runId, executionId, task } = request;
  return { allocationId, runId, executionId, task, refused, state: "pending", createdMs: nowMs, outcome: null };
}

export function recordOfAnswer(
  answer: AllocationAnswer,
  request: TaskRequest,
  state: AllocationRecord["state"],
  outcome: AllocationRecord["outcome"],
  nowMs: number,
): AllocationRecord {
  const { runId, executionId, task } = request;
  // The continuation is the caller's; whoever reads explanations has no use for it.
  const { continuation: _, ...explained } = answer;
  return { ...explained, runId, executionId, task, state, createdMs: nowMs, outcome };
}

// The pipeline's `serve` with the Worker's clock, ids, model and hubs. In: one task request. Out: where it runs and what was
// prepared, or why nowhere. Here invariant 6 is kept: a prediction that fails is left out, a hub that is down holds nothing
// and is sent nothing, and the request goes on.
import { LRUCache } from "lru-cache";
import engineModule from "../../build/engine.wasm";
import { HEARTBEAT_STALE_MS } from "../core/allocate.ts";
import { type FleetView, indexOf, type VmView } from "../core/fleet.ts";
import { uniformOf } from "../core/fnv.ts";
import type { Model } from "../core/graph.ts";
import { type Admission, type Offer, type Served, serve, type TaskRequest, type Unsuitable } from "../core/pipeline.ts";
import { WasmPlacer } from "../core/place.ts";
import type { AllocationAnswer, AllocationRecord, PlanItem } from "../protocol.ts";
import { serveBare } from "./any-vm.ts";
import { sealContinuation } from "./continuation.ts";
import type { Env } from "./env.ts";
import { newId } from "./ids.ts";
import { modelFor } from "./model-cache.ts";
import { continuationKey } from "./secrets.ts";
import { withOwnNames, withOwnTasks } from "./task-names.ts";
import { LateError, within } from "./within.ts";

/** How long a request waits for a model in a cold isolate, ms; then it goes on without a prediction. */
export const MODEL_WAIT_MS = 50;
/** A hub that has not answered by then is taken for down: the request goes on without a reservation, ms. */
const HUB_WAIT_MS = 1_000;
/** Then it is not asked for so long from here: each request would wait as long as the first, ms. */
const HUB_HANGS_MS = 2_000;
const hangingHubs = new LRUCache<string, true>({ max: 1_000, ttl: HUB_HANGS_MS });
/** One that is there is not asked whether it is for so long, ms: pending requests are tried again with every piece of news. */
const HUB_THERE_MS = 1_000;
const answeringHubs = new LRUCache<string, true>({ max: 1_000, ttl: HUB_THERE_MS });
/** Hubs asked whether they are there before a request is refused for the silence of their agents. */
const HUBS_ASKED_MAX = 8;

type Parts = Pick<Env, "GRAPH_WRITER" | "CLUSTER_HUB">;

export async function allocateTask(
  env: Parts,
  workspace: string,
  request: TaskRequest,
  fleet: FleetView,
  nowMs: number,
  allocationId = newId(nowMs),
): Promise<Served | Unsuitable> {
  const served = await allocateOn(env, workspace, request, fleet, nowMs, allocationId);
  if (served.kind === "allocated") return served;
  const believed = await withSilentBelieved(env.CLUSTER_HUB, workspace, request.task, fleet, nowMs);
  return believed === null ? served : allocateOn(env, workspace, request, believed, nowMs, allocationId);
}

async function allocateOn(
  env: Parts,
  workspace: string,
  request: TaskRequest,
  fleet: FleetView,
  nowMs: number,
  allocationId: string,
): Promise<Served | Unsuitable> {
  const serveWith = (model: Model | null) => {
    // The pipeline's first id is the allocation's: one that was pending keeps the id that its caller knows.
    let made = 0;
    return serve(request, model, indexOf(fleet), {
      nowMs,
      newId: () => (made++ === 0 ? allocationId : newId(nowMs)),
      // The same for every task of a run: a canary covers whole runs.
      random: () => uniformOf(request.runId),
      newPlacer: (clusters: number, services: number) => new WasmPlacer(engineModule, clusters, services),
      admit: (offer: Offer) => admitAt(env.CLUSTER_HUB, workspace, withOwnNames(offer, fleet)),
    });
  };
  const model = await modelOrNone(env.GRAPH_WRITER, workspace, fleet);
  for (const known of model === null ? [null] : [model, null]) {
    try {
      return await serveWith(known);
    } catch (error) {
      const without = known === null ? "anything that has the task" : "a prediction";
      console.error(`allocation failed, going on with ${without}: ${error instanceof Error ? error.stack : error}`);
    }
  }
  return serveBare(workspace, request, fleet, nowMs, allocationId);
}

async function modelOrNone(
  graphWriter: Env["GRAPH_WRITER"],
  workspace: string,
  fleet: FleetView,
): Promise<Model | null> {
  try {
    const model = await modelFor(graphWriter, workspace, MODEL_WAIT_MS);
    return model && withOwnTasks(model, fleet);
  } catch (error) {
    console.error(`no model: ${error}`);
    return null;
  }
}

async function admitAt(hubs: Env["CLUSTER_HUB"], workspace: string, offer: Offer): Promise<Admission> {
  const hub = `${workspace}/${offer.cluster}`;
  try {
    if (hangingHubs.has(hub)) throw new Error("it did not answer a moment ago");
    return await within<Admission>(HUB_WAIT_MS, "it", hubs.getByName(hub).admit(workspace, offer));
  } catch (error) {
    if (error instanceof LateError) hangingHubs.set(hub, true);
    console.error(`hub ${offer.cluster} is down, running without reservation: ${error}`);
    const refusedKeys = offer.commands.map(({ vm, key }) => [`${vm} ${key}`, "the cluster's hub did not answer"]);
    return { ok: true, commandIds: {}, refusedKeys: Object.fromEntries(refusedKeys) };
  }
}

/**
 * Nobody hears the agents of a cluster whose hub is down: their silence is no reason to refuse a request. The view with those
 * agents believed, or null where every silent agent's hub is there and says so too.
 */
async function withSilentBelieved(
  hubs: Env["CLUSTER_HUB"],
  workspace: string,
  task: string,
  fleet: FleetView,
  nowMs: number,
): Promise<FleetView | null> {
  const isSilent = ({ tasks, draining, lastHeartbeatMs }: VmView) =>
    !draining && lastHeartbeatMs !== null && nowMs - lastHeartbeatMs > HEARTBEAT_STALE_MS && tasks.includes(task);
  const asked = fleet.clusters.filter(({ vms }) => vms.some(isSilent)).slice(0, HUBS_ASKED_MAX);
  const down = await Promise.all(asked.map(({ cluster }) => isDown(hubs, `${workspace}/${cluster}`)));
  const deaf = new Set(asked.filter((_, i) => down[i]));
  if (deaf.size === 0) return null;
  const clusters = fleet.clusters.map((cluster) => {
    if (!deaf.has(cluster)) return cluster;
    return { ...cluster, vms: cluster.vms.map((vm) => (isSilent(vm) ? { ...vm, lastHeartbeatMs: nowMs } : vm)) };
  });
  return { ...fleet, clusters };
}

async function isDown(hubs: Env["CLUSTER_HUB"], hub: string): Promise<boolean> {
  if (hangingHubs.has(hub)) return true;
  if (answeringHubs.has(hub)) return false;
  try {
    await within(HUB_WAIT_MS, "it", hubs.getByName(hub).ping());
    answeringHubs.set(hub, true);
    return false;
  } catch {
    return true;
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
    acted: served.acted,
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

// POST /v1/allocations: predict, place, reserve and prepare, for callers that execute themselves.
// GET /v1/allocations: the recent ones. GET /v1/allocations/:id: one, with its explanation and outcome.
import { type Context, Hono } from "hono";
import type { TaskRequest, Unsuitable } from "../../core/pipeline.ts";
import { AllocationRequest } from "../../protocol.ts";
import { allocationById, logAllocation, recentAllocations } from "../allocation-log.ts";
import { allocateTask, answerOf, continuationOf, pendingRecord, recordOfAnswer } from "../allocator.ts";
import type { AppEnv } from "../app.ts";
import { requireScope } from "../auth.ts";
import { fleetViewForTask, knownTasks } from "../fleet-cache.ts";
import { newId } from "../ids.ts";
import { invalidContinuation, problem, queryNumber, readJson } from "../problem.ts";
import { resolveTask } from "../task-names.ts";
import { allocationAsk, readOrigin } from "../task-request.ts";

/** Allocations of one list. */
const LISTED_DEFAULT = 50;
const LISTED_MAX = 500;
/** Of one long-poll, ms. */
const WAIT_MS_MAX = 25_000;

export const allocationRoutes = new Hono<AppEnv>();

allocationRoutes.post("/v1/allocations", requireScope("invoke", "operate"), async (c) => {
  const body = await readJson(c, AllocationRequest);
  if (!body.ok) return body.response;
  const nowMs = Date.now();
  const { workspace } = c.get("key");
  const read = await readOrigin(c.env.FORECHAIN_SECRET, workspace, body.value.continuation, nowMs);
  if (!read.ok) return invalidContinuation(c, read.detail);
  if (read.origin.runId !== null && read.origin.runId !== body.value.runId) {
    const detail = `the continuation belongs to run ${read.origin.runId}`;
    return problem(c, 422, "Another run's continuation", `/runId: ${detail}.`, [{ pointer: "/runId", detail }]);
  }
  const fleet = await fleetViewForTask(c.env, workspace, body.value.task, c.executionCtx, nowMs);
  const resolved = resolveTask(body.value.task, fleet, knownTasks(fleet));
  if (resolved === null) return unknownTask(c, body.value.task);
  const ask = { ...body.value, task: resolved.task };
  const request = allocationAsk(ask, read.origin, body.value.executionId ?? newId(nowMs));
  const served = await allocateTask(c.env, workspace, request, fleet, nowMs);
  if (served.kind === "unsuitable") {
    if (!request.dryRun) {
      // Without Fleet nothing waits, but the answer is the same: nothing is suitable now.
      await pend(c, request, served, nowMs).catch((error) => console.warn(`Fleet was not told to wait: ${error}`));
    }
    return unsuitable(c, served, request.dryRun);
  }
  const continuation = await continuationOf(c.env.FORECHAIN_SECRET, workspace, request, served, nowMs);
  const answer = answerOf(served, fleet, continuation);
  if (!request.dryRun) {
    logAllocation(c.env.DB, c.executionCtx, workspace, recordOfAnswer(answer, request, "allocated", null, nowMs));
  }
  return c.json(answer);
});

allocationRoutes.get("/v1/allocations", requireScope("read", "operate"), async (c) => {
  const limit = queryNumber(c, "limit", LISTED_DEFAULT, 1, LISTED_MAX);
  if (!limit.ok) return limit.response;
  return c.json({ allocations: await recentAllocations(c.env.DB, c.get("key").workspace, limit.value) });
});

allocationRoutes.get("/v1/allocations/:id", requireScope("read", "operate", "invoke"), async (c) => {
  const waitMs = queryNumber(c, "waitMs", 0, 0, WAIT_MS_MAX);
  if (!waitMs.ok) return waitMs.response;
  const { workspace } = c.get("key");
  const allocationId = c.req.param("id");
  let record = await allocationById(c.env.DB, workspace, allocationId);
  if (record === null || record.state === "pending") {
    record = (await c.env.FLEET.getByName(workspace).pendingAllocation(allocationId, waitMs.value)) ?? record;
  }
  if (record === null)
    return problem(c, 404, "Unknown allocation", "There is no such allocation, or it is no longer kept.");
  return c.json(record);
});

/** It waits in Fleet for capacity, and the operator's webhook hears of what is missing. */
async function pend(c: Context<AppEnv>, request: TaskRequest, served: Unsuitable, nowMs: number): Promise<void> {
  const { workspace } = c.get("key");
  const record = pendingRecord(served, request, nowMs);
  logAllocation(c.env.DB, c.executionCtx, workspace, record);
  await c.env.FLEET.getByName(workspace).pend(workspace, { request, record }, served.demand);
}

export function unknownTask(c: Parameters<typeof problem>[0], task: string): Response {
  return problem(c, 404, "Unknown task", `No VM has task ${JSON.stringify(task)} and nothing is declared for it.`, [
    { pointer: "/task", detail: "unknown task" },
  ]);
}

/** A dry run leaves nothing behind that its id could be asked for. */
export function unsuitable(c: Parameters<typeof problem>[0], served: Unsuitable, isDryRun = false): Response {
  const { allocationId, refused, retryAfterMs } = served;
  const why = refused.map(({ cluster, reason }) => `${cluster}: ${reason}`).join("; ") || "no cluster is known";
  const detail = `No cluster can take the chain. ${why}`.slice(0, 1_000);
  return problem(c, 503, "No suitable cluster", detail, undefined, {
    refused,
    retryAfterMs,
    ...(isDryRun ? {} : { allocationId }),
  });
}

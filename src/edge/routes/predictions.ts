// POST /v1/predictions: what will follow, nothing is placed. Waits for the model, since the prediction is all that is asked.
import { Hono } from "hono";
import { predictFor } from "../../core/pipeline.ts";
import { normaliseTaskName } from "../../core/records.ts";
import { PredictionRequest } from "../../protocol.ts";
import type { AppEnv } from "../app.ts";
import { requireScope } from "../auth.ts";
import { fleetViewFor, knownTasks } from "../fleet-cache.ts";
import { modelFor } from "../model-cache.ts";
import { invalidContinuation, problem, readJson } from "../problem.ts";
import { resolveTask } from "../task-names.ts";
import { predictionAsk, readOrigin } from "../task-request.ts";

/** A cold isolate loads some MiB from the GraphWriter; past this something is wrong there, ms. */
const MODEL_WAIT_MS = 10_000;

export const predictionRoutes = new Hono<AppEnv>();

predictionRoutes.post("/v1/predictions", requireScope("predict", "operate"), async (c) => {
  const body = await readJson(c, PredictionRequest);
  if (!body.ok) return body.response;
  const nowMs = Date.now();
  const { workspace } = c.get("key");
  const origin = await readOrigin(c.env.FORECHAIN_SECRET, workspace, body.value.continuation, nowMs);
  if (!origin.ok) return invalidContinuation(c, origin.detail);
  const fleet = await fleetViewFor(c.env, workspace, c.executionCtx, nowMs);
  const model = await modelFor(c.env.GRAPH_WRITER, workspace, MODEL_WAIT_MS);
  const task = normaliseTaskName(body.value.task);
  if (!model?.taskIds.has(task) && resolveTask(body.value.task, fleet, knownTasks(fleet)) === null) {
    const detail = `Model ${model?.version ?? 0} has not seen task ${JSON.stringify(task)}, no VM has it and nothing is declared for it.`;
    return problem(c, 404, "Unknown task", detail, [{ pointer: "/task", detail: "unknown task" }]);
  }
  return c.json(predictFor(predictionAsk({ ...body.value, task }, origin.origin), model, fleet.tasks, nowMs));
});

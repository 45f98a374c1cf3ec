// The Worker: which call goes where. Each route file holds one kind of call with its full path; the stages behind
// them are src/core/pipeline.ts. Everything under /v1 needs a key; the page and its files do not, their data does.
import { Hono } from "hono";
import type { AppEnv } from "./edge/app.ts";
import { authenticate } from "./edge/auth.ts";
import { page } from "./edge/page.ts";
import { notFound, unexpected } from "./edge/problem.ts";
import { agentRoutes } from "./edge/routes/agents.ts";
import { allocationRoutes } from "./edge/routes/allocations.ts";
import { declareRoutes } from "./edge/routes/declare.ts";
import { eventRoutes } from "./edge/routes/events.ts";
import { graphRoutes } from "./edge/routes/graph.ts";
import { healthRoutes } from "./edge/routes/health.ts";
import { ingestRoutes } from "./edge/routes/ingest.ts";
import { invokeRoutes } from "./edge/routes/invoke.ts";
import { keyRoutes } from "./edge/routes/keys.ts";
import { learningRoutes } from "./edge/routes/learning.ts";
import { outcomeRoutes } from "./edge/routes/outcomes.ts";
import { predictionRoutes } from "./edge/routes/predictions.ts";

export { ClusterHub } from "./edge/cluster-hub.ts";
export { Fleet } from "./edge/fleet.ts";
export { GraphWriter } from "./edge/graph-writer.ts";

const app = new Hono<AppEnv>();

app.use("/v1/*", authenticate);
app.use("/metrics", authenticate);

app.route("/", healthRoutes); // /healthz /metrics /openapi.json /docs
app.route("/", ingestRoutes); // POST /v1/executions /v1/traces
app.route("/", predictionRoutes); // POST /v1/predictions
app.route("/", allocationRoutes); // POST /v1/allocations, GET /v1/allocations/:id
app.route("/", invokeRoutes); // ALL /v1/invoke/:task/*
app.route("/", declareRoutes); // /v1/tasks /v1/clusters /v1/services /v1/proximity /v1/policy
app.route("/", agentRoutes); // /v1/agents/:cluster/:vm/…
app.route("/", graphRoutes); // GET /v1/graph /v1/chains
app.route("/", outcomeRoutes); // GET /v1/outcomes
app.route("/", learningRoutes); // /v1/learning
app.route("/", eventRoutes); // GET /v1/events
app.route("/", keyRoutes); // /v1/keys

app.notFound((c) => {
  const isPage = (c.req.method === "GET" || c.req.method === "HEAD") && !c.req.path.startsWith("/v1/");
  return isPage ? page(c.env.ASSETS, c.req.raw) : notFound(app, c);
});
app.onError(unexpected);

export default app;

// What the profiler knows. GET /v1/graph: tasks and transitions, as JSON, DOT or GraphML. GET /v1/chains: chains by score.
// Both are read from the GraphWriter, which has the open runs too: D1's rows are some seconds behind.
// POST /v1/model/rebuild: a model made anew of the runs that are kept.
import { Hono } from "hono";
import { graphDot, graphMl } from "../../core/graph-text.ts";
import { normaliseTaskName } from "../../core/records.ts";
import type { GraphAnswer } from "../../protocol.ts";
import type { AppEnv } from "../app.ts";
import { requireScope } from "../auth.ts";
import { problem, queryNumber } from "../problem.ts";

const CHAINS_PER_PAGE = 100;
const CHAINS_PER_PAGE_MAX = 1_000;
const FORMATS = ["json", "dot", "graphml"];

export const graphRoutes = new Hono<AppEnv>();

graphRoutes.get("/v1/graph", requireScope("read", "operate", "predict"), async (c) => {
  const format = c.req.query("format") ?? "json";
  if (!FORMATS.includes(format)) {
    const detail = `must be one of ${FORMATS.join(", ")}`;
    return problem(c, 422, "Invalid query", `?format ${detail}.`, [{ pointer: "?format", detail }]);
  }
  const minCount = queryNumber(c, "minCount", 0, 0, Number.MAX_SAFE_INTEGER);
  if (!minCount.ok) return minCount.response;
  const task = c.req.query("task");
  const { workspace } = c.get("key");
  const writer = c.env.GRAPH_WRITER.get(c.env.GRAPH_WRITER.idFromName(workspace));
  const filter = { task: task === undefined ? null : normaliseTaskName(task), minCount: minCount.value };
  const text = await writer.graph(workspace, filter);
  if (format === "json") return c.body(text, 200, { "content-type": "application/json" });
  const graph = JSON.parse(text) as GraphAnswer;
  if (format === "dot") return c.body(graphDot(graph), 200, { "content-type": "text/vnd.graphviz; charset=utf-8" });
  return c.body(graphMl(graph), 200, { "content-type": "application/graphml+xml; charset=utf-8" });
});

graphRoutes.get("/v1/chains", requireScope("read", "operate", "predict"), async (c) => {
  const limit = queryNumber(c, "limit", CHAINS_PER_PAGE, 1, CHAINS_PER_PAGE_MAX);
  if (!limit.ok) return limit.response;
  const offset = queryNumber(c, "offset", 0, 0, Number.MAX_SAFE_INTEGER);
  if (!offset.ok) return offset.response;
  const cursor = c.req.query("cursor");
  const { workspace } = c.get("key");
  const writer = c.env.GRAPH_WRITER.get(c.env.GRAPH_WRITER.idFromName(workspace));
  const from = cursor === undefined ? { offset: Math.floor(offset.value) } : { cursor };
  const page = await writer.chains(workspace, from, Math.floor(limit.value));
  if (page !== null) return c.json(page);
  const detail =
    "is of a list that is not kept any more (ten minutes, and while the worker runs): begin anew without it";
  return problem(c, 410, "List is gone", `?cursor ${detail}.`, [{ pointer: "?cursor", detail }]);
});

graphRoutes.post("/v1/model/rebuild", requireScope("operate"), async (c) => {
  const { workspace } = c.get("key");
  const rebuilt = await c.env.GRAPH_WRITER.getByName(workspace).rebuild(workspace);
  if (rebuilt !== null) return c.json(rebuilt);
  return problem(c, 409, "Nothing to learn from", "No sealed run is kept: the model stays as it is.");
});

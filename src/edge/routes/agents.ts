// What agents call. A key of scope `agent` opens its own VM only; the hub of its cluster does the rest.
import { type Context, Hono } from "hono";
import { AgentReport, Heartbeat, type HeartbeatAnswer, PlaceName } from "../../protocol.ts";
import type { AppEnv } from "../app.ts";
import { requireOwnVm } from "../auth.ts";
import type { ClusterHub } from "../cluster-hub.ts";
import { LONG_POLL_MS_MAX } from "../hub/delivery.ts";
import { checkName, problem, queryNumber, readJson } from "../problem.ts";
import { vmKey } from "../secrets.ts";

/** Commands of one answer. */
const COMMANDS_MAX = 100;
const COMMANDS_DEFAULT = 16;

export const agentRoutes = new Hono<AppEnv>();

agentRoutes.use("/v1/agents/:cluster/:vm/*", async (c, next) => {
  for (const parameter of ["cluster", "vm"]) {
    const name = checkName(c, parameter, PlaceName);
    if (!name.ok) return name.response;
  }
  return next();
});
agentRoutes.use("/v1/agents/:cluster/:vm/*", requireOwnVm);

agentRoutes.post("/v1/agents/:cluster/:vm/heartbeat", async (c) => {
  const { cluster, vm } = c.req.param();
  const body = await readJson(c, Heartbeat);
  if (!body.ok) return body.response;
  const { workspace } = c.get("key");
  const result = await hubOf(c, cluster).heartbeat(workspace, cluster, vm, body.value);
  if (!result.ok) return problem(c, 409, "Superseded", result.detail);
  const { text: invokeKey } = await vmKey(c.env.FORECHAIN_SECRET, workspace, cluster, vm);
  return c.json({ ...result.answer, invokeKey } satisfies HeartbeatAnswer);
});

agentRoutes.get("/v1/agents/:cluster/:vm/commands", async (c) => {
  const { cluster, vm } = c.req.param();
  const waitMs = queryNumber(c, "waitMs", 0, 0, LONG_POLL_MS_MAX);
  if (!waitMs.ok) return waitMs.response;
  const max = queryNumber(c, "max", COMMANDS_DEFAULT, 1, COMMANDS_MAX);
  if (!max.ok) return max.response;
  const { workspace } = c.get("key");
  return c.json(await hubOf(c, cluster).commands(workspace, cluster, vm, waitMs.value, Math.floor(max.value)));
});

agentRoutes.post("/v1/agents/:cluster/:vm/results", async (c) => {
  const { cluster, vm } = c.req.param();
  const body = await readJson(c, AgentReport, REPORT_BODY_BYTES_MAX);
  if (!body.ok) return body.response;
  return c.json(await hubOf(c, cluster).report(c.get("key").workspace, cluster, vm, body.value));
});

/** The agent's WebSocket, which the hub holds while it sleeps. Agents fall back to long-polls where a proxy forbids this. */
agentRoutes.get("/v1/agents/:cluster/:vm/socket", (c) => {
  if (c.req.header("upgrade")?.toLowerCase() !== "websocket") {
    const response = problem(c, 426, "Upgrade required", "This is a WebSocket: send `Upgrade: websocket`.");
    response.headers.set("upgrade", "websocket");
    return response;
  }
  const { cluster, vm } = c.req.param();
  const { workspace, keyId } = c.get("key");
  const query = new URLSearchParams({ workspace, cluster, vm, key: keyId });
  return hubOf(c, cluster).fetch(new Request(`https://hub/socket?${query}`, { headers: { upgrade: "websocket" } }));
});

/** A report may carry the responses of `execute` commands, whose bodies are 1 MiB at most, in base64. */
const REPORT_BODY_BYTES_MAX = 8 * 1024 * 1024;

function hubOf(c: Context<AppEnv>, cluster: string): DurableObjectStub<ClusterHub> {
  return c.env.CLUSTER_HUB.getByName(`${c.get("key").workspace}/${cluster}`);
}

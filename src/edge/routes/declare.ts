// What the operator declares: tasks, clusters with their VMs, services, the proximity matrix, the policy.
// PUT replaces the whole thing; GET tells it; DELETE forgets it.
import { type Context, Hono } from "hono";
import { normaliseTaskName } from "../../core/records.ts";
import {
  type ClusterAnswer,
  ClusterDeclaration,
  type ClustersAnswer,
  type CommandStates,
  PlaceName,
  Policy,
  ProximityDeclaration,
  ServiceDeclaration,
  TaskDeclaration,
  TaskName,
} from "../../protocol.ts";
import type { AppEnv } from "../app.ts";
import { requireScope } from "../auth.ts";
import { webhookSecret } from "../fleet/webhook.ts";
import type { Declared, Fleet } from "../fleet.ts";
import { fleetViewFor, forgetFleetView } from "../fleet-cache.ts";
import { named } from "../named.ts";
import { checkName, problem, readJson } from "../problem.ts";

export const declareRoutes = new Hono<AppEnv>();

const canDeclare = requireScope("operate");
const canRead = requireScope("read", "operate");

function fleetOf(c: Context<AppEnv>): DurableObjectStub<Fleet> {
  return c.env.FLEET.getByName(c.get("key").workspace);
}

function declared(c: Context<AppEnv>, result: Declared, body: object): Response {
  forgetFleetView(c.get("key").workspace);
  return result.ok ? c.json(body) : problem(c, 409, "Bound reached", result.detail);
}

function forgotten(c: Context<AppEnv>, existed: boolean, what: string): Response {
  forgetFleetView(c.get("key").workspace);
  return existed ? c.body(null, 204) : problem(c, 404, "Not declared", `No such ${what} is declared.`);
}

function unknownCluster(c: Context<AppEnv>): Response {
  return problem(c, 404, "Unknown cluster", "No such cluster is declared, and no agent has spoken for it.");
}

// ── Tasks ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Declarations are kept by the name that the task is learned under, and found by any that is learned alike. */
declareRoutes.put("/v1/tasks/:task", canDeclare, async (c) => {
  const given = checkName(c, "task", TaskName);
  if (!given.ok) return given.response;
  const body = await readJson(c, TaskDeclaration);
  if (!body.ok) return body.response;
  const task = normaliseTaskName(given.value);
  const result = await fleetOf(c).declareTask(c.get("key").workspace, task, body.value);
  return declared(c, result, { task, ...body.value });
});

declareRoutes.get("/v1/tasks", canRead, async (c) => {
  const tasks = await fleetOf(c).tasks(c.get("key").workspace);
  return c.json({ tasks: Object.entries(tasks).map(([task, declaration]) => ({ task, ...declaration })) });
});

declareRoutes.get("/v1/tasks/:task", canRead, async (c) => {
  const task = normaliseTaskName(c.req.param("task"));
  const declaration = named(await fleetOf(c).tasks(c.get("key").workspace))[task];
  if (!declaration) return problem(c, 404, "Not declared", "No such task is declared.");
  return c.json({ task, ...declaration });
});

declareRoutes.delete("/v1/tasks/:task", canDeclare, async (c) =>
  forgotten(c, await fleetOf(c).forgetTask(c.get("key").workspace, normaliseTaskName(c.req.param("task"))), "task"),
);

// ── Clusters ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Names within one declaration are unique, and no VM is named twice. */
const ClusterBody = ClusterDeclaration.superRefine((cluster, context) => {
  const seen = new Set<string>();
  cluster.vms.forEach(({ vm }, i) => {
    if (seen.has(vm)) context.addIssue({ code: "custom", path: ["vms", i, "vm"], message: "is named twice" });
    seen.add(vm);
  });
});

declareRoutes.put("/v1/clusters/:cluster", canDeclare, async (c) => {
  const cluster = checkName(c, "cluster", PlaceName);
  if (!cluster.ok) return cluster.response;
  const body = await readJson(c, ClusterBody);
  if (!body.ok) return body.response;
  const result = await fleetOf(c).declareCluster(c.get("key").workspace, cluster.value, body.value);
  return declared(c, result, { cluster: cluster.value, ...body.value });
});

/** With what the agents last reported. */
declareRoutes.get("/v1/clusters", canRead, async (c) => {
  const fleet = await fleetViewFor(c.env, c.get("key").workspace, c.executionCtx, Date.now());
  return c.json({ atMs: fleet.atMs, clusters: fleet.clusters } satisfies ClustersAnswer);
});

declareRoutes.get("/v1/clusters/:cluster", canRead, async (c) => {
  const cluster = c.req.param("cluster");
  const { workspace } = c.get("key");
  const fleet = await fleetViewFor(c.env, workspace, c.executionCtx, Date.now());
  const view = fleet.clusters.find((known) => known.cluster === cluster);
  if (!view) return unknownCluster(c);
  const declaration = named(await fleetOf(c).clusters(workspace))[cluster] ?? null;
  return c.json({ ...view, declaration } satisfies ClusterAnswer);
});

/** How many commands are in which state, and those that were given up for good, latest first. */
declareRoutes.get("/v1/clusters/:cluster/commands", canRead, async (c) => {
  const cluster = checkName(c, "cluster", PlaceName);
  if (!cluster.ok) return cluster.response;
  const { workspace } = c.get("key");
  // A hub comes to be when it is asked: only clusters that there are have one.
  if (!(await fleetOf(c).clusterNames(workspace)).includes(cluster.value)) return unknownCluster(c);
  const states: CommandStates = await c.env.CLUSTER_HUB.getByName(`${workspace}/${cluster.value}`).commandStates();
  return c.json(states);
});

declareRoutes.delete("/v1/clusters/:cluster", canDeclare, async (c) =>
  forgotten(c, await fleetOf(c).forgetCluster(c.get("key").workspace, c.req.param("cluster")), "cluster"),
);

// ── Services and proximity ───────────────────────────────────────────────────────────────────────────────────────────

declareRoutes.put("/v1/services/:service", canDeclare, async (c) => {
  const service = checkName(c, "service", PlaceName);
  if (!service.ok) return service.response;
  const body = await readJson(c, ServiceDeclaration);
  if (!body.ok) return body.response;
  const result = await fleetOf(c).declareService(c.get("key").workspace, service.value, body.value);
  return declared(c, result, { service: service.value, ...body.value });
});

declareRoutes.get("/v1/services", canRead, async (c) => {
  const services = await fleetOf(c).services(c.get("key").workspace);
  return c.json({ services: Object.entries(services).map(([service, declaration]) => ({ service, ...declaration })) });
});

declareRoutes.get("/v1/services/:service", canRead, async (c) => {
  const service = c.req.param("service");
  const declaration = named(await fleetOf(c).services(c.get("key").workspace))[service];
  if (!declaration) return problem(c, 404, "Not declared", "No such service is declared.");
  return c.json({ service, ...declaration });
});

declareRoutes.delete("/v1/services/:service", canDeclare, async (c) =>
  forgotten(c, await fleetOf(c).forgetService(c.get("key").workspace, c.req.param("service")), "service"),
);

declareRoutes.put("/v1/proximity", canDeclare, async (c) => {
  const body = await readJson(c, ProximityDeclaration, PROXIMITY_BODY_BYTES_MAX);
  if (!body.ok) return body.response;
  const { entries } = body.value;
  return declared(c, await fleetOf(c).declareProximity(c.get("key").workspace, entries), { entries });
});

/** 20,000 entries of some 130 bytes. */
const PROXIMITY_BODY_BYTES_MAX = 4 * 1024 * 1024;

declareRoutes.get("/v1/proximity", canRead, async (c) =>
  c.json({ entries: await fleetOf(c).proximity(c.get("key").workspace) }),
);

// ── Policy ───────────────────────────────────────────────────────────────────────────────────────────────────────────

declareRoutes.put("/v1/policy", canDeclare, async (c) => {
  const body = await readJson(c, Policy);
  if (!body.ok) return body.response;
  return declared(c, await fleetOf(c).declarePolicy(c.get("key").workspace, body.value), body.value);
});

/** With it the operator's receiver checks the signatures of our events. */
declareRoutes.get("/v1/policy/webhook-secret", canDeclare, async (c) =>
  c.json({ secret: await webhookSecret(c.env.FORECHAIN_SECRET, c.get("key").workspace) }),
);

declareRoutes.get("/v1/policy", canRead, async (c) => c.json(await fleetOf(c).policy(c.get("key").workspace)));

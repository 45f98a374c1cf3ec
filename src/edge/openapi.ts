// The API described: one table of calls, from which /openapi.json and /docs are made. Bodies are the zod schemas of
// src/protocol.ts, so that what is documented is what is checked.
import { z } from "zod";
import { LearnedExport } from "../core/learned-export.ts";
import * as protocol from "../protocol.ts";

interface CallDescription {
  method: "get" | "post" | "put" | "delete";
  path: string;
  does: string;
  /** Scopes of which a key needs one; empty: no key. */
  scopes: protocol.Scope[];
  request?: z.ZodType;
  response?: z.ZodType;
  status?: number;
  query?: Record<string, string>;
}

const named = <T extends z.ZodType>(name: string, schema: T) => z.object({ [name]: z.string() }).and(schema);

export const CALLS: CallDescription[] = [
  {
    method: "post",
    path: "/v1/traces",
    does: "OTLP/HTTP spans: JSON or protobuf, gzip; partial success in the answer",
    scopes: ["ingest"],
  },
  {
    method: "post",
    path: "/v1/executions",
    does: "Execution records; durable before the answer",
    scopes: ["ingest"],
    request: z.object({ executions: z.array(protocol.Execution) }),
    response: protocol.IngestAnswer,
    status: 202,
  },
  {
    method: "post",
    path: "/v1/predictions",
    does: "What will follow a task, given its path",
    scopes: ["predict", "operate"],
    request: protocol.PredictionRequest,
    response: protocol.Prediction,
  },
  {
    method: "post",
    path: "/v1/allocations",
    does: "Predict, place, reserve and prepare; or 503 with a reason per cluster",
    scopes: ["invoke", "operate"],
    request: protocol.AllocationRequest,
    response: protocol.AllocationAnswer,
  },
  {
    method: "get",
    path: "/v1/allocations",
    does: "Recent allocations, latest first",
    scopes: ["read", "operate"],
    response: z.object({ allocations: z.array(protocol.AllocationRecord) }),
    query: { limit: "1–500" },
  },
  {
    method: "get",
    path: "/v1/allocations/{id}",
    does: "One allocation with its explanation, state and outcome",
    scopes: ["read", "operate", "invoke"],
    response: protocol.AllocationRecord,
  },
  {
    method: "post",
    path: "/v1/invoke/{task}/{path}",
    does: "Allocate, forward to the VM and stream the answer back; any method",
    scopes: ["invoke"],
  },
  { method: "get", path: "/v1/tasks", does: "Declared tasks", scopes: ["read", "operate"] },
  {
    method: "put",
    path: "/v1/tasks/{task}",
    does: "Declare a task",
    scopes: ["operate"],
    request: protocol.TaskDeclaration,
    response: named("task", protocol.TaskDeclaration),
  },
  {
    method: "get",
    path: "/v1/tasks/{task}",
    does: "A task's declaration",
    scopes: ["read", "operate"],
    response: named("task", protocol.TaskDeclaration),
  },
  { method: "delete", path: "/v1/tasks/{task}", does: "Forget a declaration", scopes: ["operate"], status: 204 },
  {
    method: "get",
    path: "/v1/clusters",
    does: "Clusters and VMs with their latest state",
    scopes: ["read", "operate"],
  },
  {
    method: "put",
    path: "/v1/clusters/{cluster}",
    does: "Declare a cluster and its VMs",
    scopes: ["operate"],
    request: protocol.ClusterDeclaration,
    response: named("cluster", protocol.ClusterDeclaration),
  },
  {
    method: "get",
    path: "/v1/clusters/{cluster}",
    does: "One cluster: its state and its declaration",
    scopes: ["read", "operate"],
  },
  { method: "delete", path: "/v1/clusters/{cluster}", does: "Forget a cluster", scopes: ["operate"], status: 204 },
  { method: "get", path: "/v1/services", does: "Declared services", scopes: ["read", "operate"] },
  {
    method: "put",
    path: "/v1/services/{service}",
    does: "Declare an auxiliary service",
    scopes: ["operate"],
    request: protocol.ServiceDeclaration,
    response: named("service", protocol.ServiceDeclaration),
  },
  {
    method: "get",
    path: "/v1/services/{service}",
    does: "A service's declaration",
    scopes: ["read", "operate"],
    response: named("service", protocol.ServiceDeclaration),
  },
  { method: "delete", path: "/v1/services/{service}", does: "Forget a service", scopes: ["operate"], status: 204 },
  {
    method: "put",
    path: "/v1/proximity",
    does: "Declare the whole proximity matrix",
    scopes: ["operate"],
    request: protocol.ProximityDeclaration,
    response: protocol.ProximityDeclaration,
  },
  {
    method: "get",
    path: "/v1/proximity",
    does: "The declared proximity matrix",
    scopes: ["read", "operate"],
    response: protocol.ProximityDeclaration,
  },
  {
    method: "put",
    path: "/v1/policy",
    does: "Mode, gate and budgets; what is left out takes its default",
    scopes: ["operate"],
    request: protocol.Policy,
    response: protocol.Policy,
  },
  {
    method: "get",
    path: "/v1/policy",
    does: "The policy in force",
    scopes: ["read", "operate"],
    response: protocol.Policy,
  },
  {
    method: "get",
    path: "/v1/graph",
    does: "The task graph",
    scopes: ["read", "operate", "predict"],
    response: protocol.GraphAnswer,
    query: { format: "json, dot or graphml", task: "this one and its transitions", minCount: "of transitions" },
  },
  {
    method: "get",
    path: "/v1/chains",
    does: "Learned chains by score, a page of them",
    scopes: ["read", "operate", "predict"],
    response: protocol.ChainsAnswer,
    query: { limit: "1–1000", offset: "chains before the page" },
  },
  {
    method: "post",
    path: "/v1/model/rebuild",
    does: "A new model of the runs that are kept (24 h), in the place of the one that has learned since the beginning",
    scopes: ["operate"],
    response: protocol.Rebuilt,
  },
  {
    method: "get",
    path: "/v1/outcomes",
    does: "What became of every preparation",
    scopes: ["read", "operate"],
    response: protocol.OutcomesAnswer,
    query: {
      fromMs: "with toMs: a window, ms since the epoch; exact up to an hour, else whole hours",
      toMs: "now where fromMs alone is given",
      task: "of one task",
      cluster: "of one cluster",
      groupBy: "hour, task, cluster or chain",
      limit: "0–1000",
    },
  },
  {
    method: "get",
    path: "/v1/learning",
    does: "Everything learned beside the graph, and how good predictions are",
    scopes: ["read", "operate"],
    response: protocol.LearningAnswer,
  },
  {
    method: "get",
    path: "/v1/learning/export",
    does: "The same, whole, to be saved",
    scopes: ["read", "operate"],
    response: LearnedExport,
    query: { model: "false leaves the model's image out" },
  },
  {
    method: "post",
    path: "/v1/learning/import",
    does: "Takes an export, or its named parts, in the place of what is known",
    scopes: ["operate"],
    request: LearnedExport,
    response: protocol.LearningImported,
  },
  {
    method: "post",
    path: "/v1/learning/freeze",
    does: "Parts stay as they are: asked, no longer changed; all where none is named",
    scopes: ["operate"],
    request: protocol.LearningParts,
    response: z.object({ frozen: z.array(protocol.LearnedPart) }),
  },
  {
    method: "post",
    path: "/v1/learning/unfreeze",
    does: "Parts are learned again; all where none is named",
    scopes: ["operate"],
    request: protocol.LearningParts,
    response: z.object({ frozen: z.array(protocol.LearnedPart) }),
  },
  {
    method: "post",
    path: "/v1/learning/reset",
    does: "Parts begin anew; the graph stays",
    scopes: ["operate"],
    request: protocol.LearningReset,
    response: z.object({ reset: z.array(protocol.LearnedPart) }),
  },
  {
    method: "get",
    path: "/v1/events",
    does: "Allocations, outcomes and the fleet's state as server-sent events",
    scopes: ["read", "operate"],
  },
  {
    method: "get",
    path: "/v1/clusters/{cluster}/commands",
    does: "Commands by state, and those given up for good",
    scopes: ["read", "operate"],
  },
  {
    method: "get",
    path: "/v1/policy/webhook-secret",
    does: "The secret with which scale-out events are signed",
    scopes: ["operate"],
  },
  {
    method: "get",
    path: "/v1/agents/{cluster}/{vm}/socket",
    does: "The agent's WebSocket: commands, reports, heartbeats",
    scopes: ["agent"],
  },
  {
    method: "post",
    path: "/v1/keys",
    does: "Make a key; its secret is told once",
    scopes: ["admin"],
    request: protocol.KeyRequest,
    response: protocol.KeyAnswer,
    status: 201,
  },
  { method: "get", path: "/v1/keys", does: "Keys, without their secrets", scopes: ["admin"] },
  { method: "delete", path: "/v1/keys/{keyId}", does: "Revoke a key", scopes: ["admin"], status: 204 },
  {
    method: "post",
    path: "/v1/agents/{cluster}/{vm}/heartbeat",
    does: "An agent tells its state",
    scopes: ["agent"],
    request: protocol.Heartbeat,
    response: protocol.HeartbeatAnswer,
  },
  {
    method: "get",
    path: "/v1/agents/{cluster}/{vm}/commands",
    does: "Commands that are due, by long-poll",
    scopes: ["agent"],
    response: protocol.CommandsAnswer,
    query: { waitMs: "0–25000", max: "1–100" },
  },
  {
    method: "post",
    path: "/v1/agents/{cluster}/{vm}/results",
    does: "Results, uses, ends and misses",
    scopes: ["agent"],
    request: protocol.AgentReport,
    response: protocol.AgentReportAnswer,
  },
  { method: "get", path: "/healthz", does: "The Worker answers", scopes: [] },
  { method: "get", path: "/metrics", does: "Prometheus metrics", scopes: ["read", "operate"] },
];

let made: object | null = null;

/** OpenAPI 3.1, made once per isolate. */
export function openApi(): object {
  made ??= {
    openapi: "3.1.0",
    info: {
      title: "Forechain",
      version: "1",
      description: "Predicts chains of tasks and prepares VMs before the later tasks are called.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: "/" }],
    components: {
      securitySchemes: { key: { type: "http", scheme: "bearer", description: "fck_<id>_<secret>" } },
      schemas: { Problem: jsonSchema(protocol.Problem, "output") },
    },
    paths: paths(),
  };
  return made;
}

function paths(): Record<string, Record<string, object>> {
  const byPath: Record<string, Record<string, object>> = {};
  for (const call of CALLS) {
    const operations = byPath[call.path] ?? {};
    operations[call.method] = operation(call);
    byPath[call.path] = operations;
  }
  return byPath;
}

function operation(call: CallDescription): object {
  const status = String(call.status ?? 200);
  const inPath = [...call.path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
    name,
    in: "path",
    required: true,
    schema: { type: "string" },
  }));
  const inQuery = Object.entries(call.query ?? {}).map(([name, description]) => ({
    name,
    in: "query",
    description,
    schema: { type: "string" },
  }));
  return {
    operationId: operationId(call),
    summary: call.does,
    ...(call.scopes.length > 0
      ? { security: [{ key: [] }], description: `Needs scope ${call.scopes.join(" or ")}.` }
      : { security: [] }),
    parameters: [...inPath, ...inQuery],
    ...(call.request ? { requestBody: { required: true, content: json(jsonSchema(call.request, "input")) } } : {}),
    responses: {
      [status]: {
        description: call.does,
        ...(call.response ? { content: json(jsonSchema(call.response, "output")) } : {}),
      },
      default: {
        description: "What went wrong (RFC 9457)",
        content: { "application/problem+json": { schema: { $ref: "#/components/schemas/Problem" } } },
      },
    },
  };
}

/** What client generators name the call: `putClustersByCluster`. */
function operationId({ method, path }: CallDescription): string {
  const words = path
    .replace(/^\/v1\//, "")
    .split(/[/-]/)
    .filter((word) => word !== "")
    .map((word) => word.replace(/^\{(\w+)\}$/, (_, name: string) => `By${capital(name)}`));
  return method + words.map(capital).join("");
}

function capital(word: string): string {
  return `${word.charAt(0).toUpperCase()}${word.slice(1)}`;
}

function json(schema: object): object {
  return { "application/json": { schema } };
}

function jsonSchema(schema: z.ZodType, io: "input" | "output"): object {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io, unrepresentable: "any", reused: "inline" });
  return rest;
}

// Every call of the API in one table: /openapi.json and /docs are made from it (openapi.ts, routes/health.ts). Bodies are the zod
// schemas of src/protocol.ts, so that what is documented is what is checked; a test holds that what is routed is what stands here.
import { z } from "zod";
import { LearnedExport } from "../core/learned-export.ts";
import * as protocol from "../protocol.ts";

export interface CallDescription {
  method: "get" | "post" | "put" | "delete";
  path: string;
  does: string;
  /** Scopes of which a key needs one (`admin` has all); empty: no key. */
  scopes: protocol.Scope[];
  query?: Record<string, z.ZodType>;
  request?: z.ZodType;
  isRequestOptional?: true;
  /** What the body may be instead of JSON. */
  requestTypes?: string[];
  response?: z.ZodType;
  /** What the answer may be instead of JSON. */
  responseTypes?: string[];
  /** Of success, where it is not 200. */
  status?: number;
  /** Refusals beside those that every call of its kind has: of keys, bodies and queries. */
  refuses?: Record<number, string>;
}

const NOT_DECLARED = { 404: "Nothing of this name is declared" };
const BOUND_REACHED = { 409: "A workspace has no room for more" };
const OTHER_VM = { 409: "A newer process has this VM's name" };
const NO_CLUSTER = { 503: "No suitable cluster: `refused` with a reason for each, `retryAfterMs`" };

const limit = (max: number) => z.int().min(1).max(max).describe("rows of the answer");
const waitMs = z.number().min(0).max(25_000).describe("how long to wait for news");
const Frozen = z.object({ frozen: z.array(protocol.LearnedPart) });
const PartialSuccess = z.object({ rejectedSpans: z.string(), errorMessage: z.string() });

export const CALLS: CallDescription[] = [
  {
    method: "post",
    path: "/v1/traces",
    does: "OTLP/HTTP spans: JSON or protobuf, gzip; partial success in the answer",
    scopes: ["ingest"],
    request: z.looseObject({ resourceSpans: z.array(z.looseObject({})).optional() }),
    requestTypes: ["application/x-protobuf"],
    response: z.object({ partialSuccess: PartialSuccess.optional() }),
    responseTypes: ["application/x-protobuf"],
  },
  {
    method: "post",
    path: "/v1/executions",
    does: "Execution records as one value or line by line, gzip or not; durable before the answer",
    scopes: ["ingest", "agent"],
    request: z.object({ executions: z.array(protocol.Execution) }),
    requestTypes: ["application/x-ndjson", "application/ndjson", "application/jsonl"],
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
    refuses: { 404: "Neither the model nor a VM nor a declaration knows the task" },
  },
  {
    method: "post",
    path: "/v1/allocations",
    does: "Predict, place, reserve and prepare; or 503 with a reason per cluster",
    scopes: ["invoke", "operate"],
    request: protocol.AllocationRequest,
    response: protocol.AllocationAnswer,
    refuses: {
      404: "No VM has the task and nothing is declared for it",
      503: `${NO_CLUSTER[503]}, and the \`allocationId\` under which it stays pending, but for a dry run`,
    },
  },
  {
    method: "get",
    path: "/v1/allocations",
    does: "Recent allocations, latest first",
    scopes: ["read", "operate"],
    query: { limit: limit(500) },
    response: z.object({ allocations: z.array(protocol.AllocationRecord) }),
  },
  {
    method: "get",
    path: "/v1/allocations/{id}",
    does: "One allocation with its explanation, state and outcome; `waitMs` waits while it is pending",
    scopes: ["read", "operate", "invoke"],
    query: { waitMs },
    response: protocol.AllocationRecord,
    refuses: { 404: "There is no such allocation, or it is no longer kept" },
  },
  {
    method: "post",
    path: "/v1/invoke/{task}/{path}",
    does: "Allocate, forward to the VM and stream the answer back, whatever it is; any method, with a path or without",
    scopes: ["invoke"],
    requestTypes: ["*/*"],
    responseTypes: ["*/*"],
    refuses: {
      400: "The continuation is not one of ours, not of this workspace, or too old",
      404: "No VM has the task and nothing is declared for it",
      413: "Too large for a VM that is sent commands",
      422: "No task has such a name",
      501: "A WebSocket",
      502: "The connection to the VM broke; the task may have run",
      503: `${NO_CLUSTER[503]}; or no VM could be reached`,
      504: "The task's `timeoutMs` is over",
    },
  },
  ...declarations("task", protocol.TaskDeclaration, protocol.DeclaredTask),
  {
    method: "get",
    path: "/v1/clusters",
    does: "Clusters and VMs with their latest state",
    scopes: ["read", "operate"],
    response: protocol.ClustersAnswer,
  },
  {
    method: "put",
    path: "/v1/clusters/{cluster}",
    does: "Declare a cluster and its VMs",
    scopes: ["operate"],
    request: protocol.ClusterDeclaration,
    response: protocol.DeclaredCluster,
    refuses: BOUND_REACHED,
  },
  {
    method: "get",
    path: "/v1/clusters/{cluster}",
    does: "One cluster: its state and its declaration",
    scopes: ["read", "operate"],
    response: protocol.ClusterAnswer,
    refuses: { 404: "It is not declared, and no agent has spoken for it" },
  },
  {
    method: "delete",
    path: "/v1/clusters/{cluster}",
    does: "Remove a cluster: no new requests, its agents are drained",
    scopes: ["operate"],
    status: 204,
    refuses: NOT_DECLARED,
  },
  {
    method: "get",
    path: "/v1/clusters/{cluster}/commands",
    does: "Commands by state, and those given up for good",
    scopes: ["read", "operate"],
    response: protocol.CommandStates,
    refuses: { 404: "It is not declared, and no agent has spoken for it" },
  },
  ...declarations("service", protocol.ServiceDeclaration, protocol.DeclaredService),
  {
    method: "put",
    path: "/v1/proximity",
    does: "Declare the whole proximity matrix",
    scopes: ["operate"],
    request: protocol.ProximityDeclaration,
    response: protocol.ProximityDeclaration,
    refuses: BOUND_REACHED,
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
    path: "/v1/policy/webhook-secret",
    does: "The secret with which scale-out events are signed",
    scopes: ["operate"],
    response: z.object({ secret: z.string() }),
  },
  {
    method: "get",
    path: "/v1/graph",
    does: "The task graph",
    scopes: ["read", "operate", "predict"],
    query: {
      format: z.enum(["json", "dot", "graphml"]),
      task: z.string().describe("this one and its transitions"),
      minCount: z.number().min(0).describe("of transitions"),
    },
    response: protocol.GraphAnswer,
    responseTypes: ["text/vnd.graphviz", "application/graphml+xml"],
  },
  {
    method: "get",
    path: "/v1/chains",
    does: "Learned chains by score, a page of them",
    scopes: ["read", "operate", "predict"],
    query: { limit: limit(1_000), offset: z.int().min(0), cursor: z.string().describe("`next` of the page before") },
    response: protocol.ChainsAnswer,
    refuses: { 410: "The cursor's list is not kept any more: begin anew" },
  },
  {
    method: "post",
    path: "/v1/model/rebuild",
    does: "A new model of the runs that are kept (24 h), in the place of the one that has learned since the beginning",
    scopes: ["operate"],
    response: protocol.Rebuilt,
    refuses: { 409: "No sealed run is kept: the model stays as it is" },
  },
  {
    method: "get",
    path: "/v1/outcomes",
    does: "What became of every preparation",
    scopes: ["read", "operate"],
    query: {
      fromMs: z.number().describe("a window, ms since the epoch; exact up to an hour, else whole hours"),
      toMs: z.number().describe("its end; now where fromMs alone is given"),
      task: z.string().describe("of one task"),
      cluster: z.string().describe("of one cluster"),
      groupBy: z.enum(["hour", "task", "cluster", "chain"]),
      limit: z.int().min(0).max(1_000).describe("of the recent ones"),
    },
    response: protocol.OutcomesAnswer,
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
    query: { model: z.enum(["true", "false"]).describe("false leaves the model's image out") },
    response: LearnedExport,
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
    isRequestOptional: true,
    response: Frozen,
  },
  {
    method: "post",
    path: "/v1/learning/unfreeze",
    does: "Parts are learned again; all where none is named",
    scopes: ["operate"],
    request: protocol.LearningParts,
    isRequestOptional: true,
    response: Frozen,
  },
  {
    method: "post",
    path: "/v1/learning/reset",
    does: "Parts begin anew; the graph stays",
    scopes: ["operate"],
    request: protocol.LearningReset,
    response: z.object({ reset: z.array(protocol.LearnedPart) }),
    refuses: { 503: "Not all hubs answered: ask again, it is safe" },
  },
  {
    method: "get",
    path: "/v1/events",
    does: "Allocations, outcomes, changes of the workflow and the fleet's state as server-sent events",
    scopes: ["read", "operate"],
    responseTypes: ["text/event-stream"],
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
  {
    method: "get",
    path: "/v1/keys",
    does: "Keys, without their secrets",
    scopes: ["admin"],
    response: protocol.KeysAnswer,
  },
  {
    method: "delete",
    path: "/v1/keys/{keyId}",
    does: "Revoke a key",
    scopes: ["admin"],
    status: 204,
    refuses: { 404: "No such key is in force" },
  },
  {
    method: "post",
    path: "/v1/agents/{cluster}/{vm}/heartbeat",
    does: "An agent tells its state",
    scopes: ["agent", "operate"],
    request: protocol.Heartbeat,
    response: protocol.HeartbeatAnswer,
    refuses: OTHER_VM,
  },
  {
    method: "get",
    path: "/v1/agents/{cluster}/{vm}/commands",
    does: "Commands that are due, by long-poll",
    scopes: ["agent", "operate"],
    query: { waitMs, max: z.int().min(1).max(100).describe("commands of the answer") },
    response: protocol.CommandsAnswer,
  },
  {
    method: "post",
    path: "/v1/agents/{cluster}/{vm}/results",
    does: "Results, uses, ends and misses",
    scopes: ["agent", "operate"],
    request: protocol.AgentReport,
    response: protocol.AgentReportAnswer,
  },
  {
    method: "get",
    path: "/v1/agents/{cluster}/{vm}/socket",
    does: "The agent's WebSocket: commands, reports, heartbeats",
    scopes: ["agent", "operate"],
    status: 101,
    refuses: { 426: "The request asks for no WebSocket" },
  },
  { method: "get", path: "/healthz", does: "The Worker answers", scopes: [], response: z.object({ ok: z.boolean() }) },
  {
    method: "get",
    path: "/metrics",
    does: "Prometheus metrics",
    scopes: ["read", "operate"],
    responseTypes: ["text/plain"],
  },
];

/** The four calls of what is declared one by one, and answered as it was declared. */
function declarations(thing: "task" | "service", request: z.ZodType, response: z.ZodType): CallDescription[] {
  const path = `/v1/${thing}s/{${thing}}`;
  return [
    {
      method: "get",
      path: `/v1/${thing}s`,
      does: `Declared ${thing}s`,
      scopes: ["read", "operate"],
      response: z.object({ [`${thing}s`]: z.array(response) }),
    },
    {
      method: "put",
      path,
      does: `Declare a ${thing}`,
      scopes: ["operate"],
      request,
      response,
      refuses: BOUND_REACHED,
    },
    {
      method: "get",
      path,
      does: `A ${thing}'s declaration`,
      scopes: ["read", "operate"],
      response,
      refuses: NOT_DECLARED,
    },
    {
      method: "delete",
      path,
      does: `Forget a ${thing}'s declaration`,
      scopes: ["operate"],
      status: 204,
      refuses: NOT_DECLARED,
    },
  ];
}

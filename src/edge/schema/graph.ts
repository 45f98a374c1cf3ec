// The graph's tables for drizzle. migrations/0002_graph.sql is what is run and says what each column means; a test holds both
// together.
import { integer, primaryKey, real, sqliteTable, text } from "drizzle-orm/sqlite-core";

export const graphApplied = sqliteTable("graph_applied", {
  workspace: text().notNull().primaryKey(),
  batchId: integer("batch_id").notNull(),
  modelVersion: integer("model_version").notNull(),
  newestDay: integer("newest_day"),
  appliedMs: integer("applied_ms").notNull(),
});

export const graphRuns = sqliteTable("graph_runs", {
  workspace: text().notNull().primaryKey(),
  runs: integer().notNull(),
  skewed: integer().notNull(),
  cyclic: integer().notNull(),
  orphans: integer().notNull(),
  counts: text().notNull(),
});

export const graphTasks = sqliteTable(
  "graph_tasks",
  {
    workspace: text().notNull(),
    task: text().notNull(),
    version: text().notNull(),
    count: integer().notNull(),
    roots: integer().notNull(),
    errors: integer().notNull(),
    retries: integer().notNull(),
    coldStarts: integer("cold_starts").notNull(),
    durationP50Ms: real("duration_p50_ms"),
    durationP90Ms: real("duration_p90_ms"),
    coldStartP50Ms: real("cold_start_p50_ms"),
    coldStartP90Ms: real("cold_start_p90_ms"),
    cpuP50Ms: real("cpu_p50_ms"),
    memoryP90Bytes: real("memory_p90_bytes"),
    outputP50Bytes: real("output_p50_bytes"),
    latencySensitivity: real("latency_sensitivity").notNull(),
    counts: text().notNull(),
  },
  (table) => [primaryKey({ columns: [table.workspace, table.task, table.version] })],
);

export const graphTransitions = sqliteTable(
  "graph_transitions",
  {
    workspace: text().notNull(),
    source: text().notNull(),
    target: text().notNull(),
    kind: text({ enum: ["call", "sequence", "link"] }).notNull(),
    count: integer().notNull(),
    weight: real().notNull(),
    probability: real().notNull(),
    multiplicity: real().notNull(),
    delayP10Ms: real("delay_p10_ms"),
    delayP50Ms: real("delay_p50_ms"),
    delayP90Ms: real("delay_p90_ms"),
    transferBytes: real("transfer_bytes"),
    counts: text().notNull(),
  },
  (table) => [primaryKey({ columns: [table.workspace, table.source, table.target, table.kind] })],
);

export const graphServices = sqliteTable(
  "graph_services",
  {
    workspace: text().notNull(),
    task: text().notNull(),
    service: text().notNull(),
    executions: integer().notNull(),
    calls: integer().notNull(),
    bytes: integer().notNull(),
    latencyMs: real("latency_ms"),
    counts: text().notNull(),
  },
  (table) => [primaryKey({ columns: [table.workspace, table.task, table.service] })],
);

export const graphObjects = sqliteTable(
  "graph_objects",
  {
    workspace: text().notNull(),
    task: text().notNull(),
    uri: text().notNull(),
    count: integer().notNull(),
    bytes: real().notNull(),
    counts: text().notNull(),
  },
  (table) => [primaryKey({ columns: [table.workspace, table.task, table.uri] })],
);

export const graphTemplates = sqliteTable(
  "graph_templates",
  {
    workspace: text().notNull(),
    task: text().notNull(),
    template: text().notNull(),
    count: integer().notNull(),
    bytes: real().notNull(),
    counts: text().notNull(),
  },
  (table) => [primaryKey({ columns: [table.workspace, table.task, table.template] })],
);

export const graphChains = sqliteTable(
  "graph_chains",
  {
    workspace: text().notNull(),
    chain: text().notNull(),
    runs: integer().notNull(),
    probability: real().notNull(),
    resourceDemand: real("resource_demand").notNull(),
    latencySensitivity: real("latency_sensitivity").notNull(),
    score: real().notNull(),
    counts: text().notNull(),
  },
  (table) => [primaryKey({ columns: [table.workspace, table.chain] })],
);

// The tables of migrations 0001, 0004, 0006 and 0010 for drizzle; test/edge/schema.test.ts holds both together.
import { index, integer, primaryKey, real, sqliteTable, text } from "drizzle-orm/sqlite-core";
import type { AllocationAnswer, AllocationRecord, Outcome, Policy, Scope, TaskDeclaration } from "../../protocol.ts";

export const workspaces = sqliteTable("workspaces", {
  workspace: text().notNull().primaryKey(),
  createdMs: integer("created_ms").notNull(),
});

export const keys = sqliteTable(
  "keys",
  {
    keyId: text("key_id").notNull().primaryKey(),
    workspace: text().notNull(),
    name: text().notNull(),
    scopes: text({ mode: "json" }).$type<Scope[]>().notNull(),
    cluster: text(),
    vm: text(),
    secretSha256: text("secret_sha256").notNull(),
    createdMs: integer("created_ms").notNull(),
    revokedMs: integer("revoked_ms"),
  },
  (table) => [index("keys_by_workspace").on(table.workspace, table.createdMs)],
);

export const clusters = sqliteTable(
  "clusters",
  {
    workspace: text().notNull(),
    cluster: text().notNull(),
    labels: text({ mode: "json" }).$type<Record<string, string>>().notNull(),
    draining: integer({ mode: "boolean" }).notNull(),
    approvedHosts: text("approved_hosts", { mode: "json" }).$type<string[]>().notNull(),
    pricePerGbSecond: real("price_per_gb_second").notNull(),
    internalLatencyMs: real("internal_latency_ms").notNull(),
    declaredMs: integer("declared_ms").notNull(),
  },
  (table) => [primaryKey({ columns: [table.workspace, table.cluster] })],
);

export const vms = sqliteTable(
  "vms",
  {
    workspace: text().notNull(),
    cluster: text().notNull(),
    vm: text().notNull(),
    url: text(),
    cpuCores: real("cpu_cores").notNull(),
    memoryBytes: integer("memory_bytes").notNull(),
    diskBytes: integer("disk_bytes"),
    networkBytesPerSecond: real("network_bytes_per_second"),
    draining: integer({ mode: "boolean" }).notNull(),
  },
  (table) => [primaryKey({ columns: [table.workspace, table.cluster, table.vm] })],
);

export const services = sqliteTable(
  "services",
  {
    workspace: text().notNull(),
    service: text().notNull(),
    kind: text().notNull(),
    hosts: text({ mode: "json" }).$type<string[]>().notNull(),
    probeUrl: text("probe_url"),
    declaredMs: integer("declared_ms").notNull(),
  },
  (table) => [primaryKey({ columns: [table.workspace, table.service] })],
);

export const proximity = sqliteTable(
  "proximity",
  {
    workspace: text().notNull(),
    cluster: text().notNull(),
    peer: text().notNull(),
    latencyMs: real("latency_ms").notNull(),
    bandwidthBytesPerSecond: real("bandwidth_bytes_per_second").notNull(),
  },
  (table) => [primaryKey({ columns: [table.workspace, table.cluster, table.peer] })],
);

export const taskDeclarations = sqliteTable(
  "task_declarations",
  {
    workspace: text().notNull(),
    task: text().notNull(),
    declaration: text({ mode: "json" }).$type<TaskDeclaration>().notNull(),
    declaredMs: integer("declared_ms").notNull(),
  },
  (table) => [primaryKey({ columns: [table.workspace, table.task] })],
);

export const policies = sqliteTable("policies", {
  workspace: text().notNull().primaryKey(),
  policy: text({ mode: "json" }).$type<Policy>().notNull(),
  declaredMs: integer("declared_ms").notNull(),
});

export const allocations = sqliteTable(
  "allocations",
  {
    workspace: text().notNull(),
    allocationId: text("allocation_id").notNull(),
    runId: text("run_id").notNull(),
    executionId: text("execution_id").notNull(),
    task: text().notNull(),
    state: text().$type<AllocationRecord["state"]>().notNull(),
    outcome: text().$type<NonNullable<AllocationRecord["outcome"]>>(),
    cluster: text(),
    vm: text(),
    answer: text({ mode: "json" }).$type<Partial<AllocationAnswer> & Pick<AllocationRecord, "answeredMs">>().notNull(),
    createdMs: integer("created_ms").notNull(),
  },
  (table) => [primaryKey({ columns: [table.workspace, table.allocationId] })],
);

export const outcomes = sqliteTable(
  "outcomes",
  {
    workspace: text().notNull(),
    atMs: integer("at_ms").notNull(),
    outcomeId: text("outcome_id").notNull(),
    commandId: text("command_id"),
    kind: text().$type<Outcome["kind"]>().notNull(),
    outcome: text().$type<Outcome["outcome"]>().notNull(),
    cluster: text().notNull(),
    vm: text().notNull(),
    task: text(),
    uri: text(),
    runId: text("run_id"),
    executionId: text("execution_id"),
    savedMs: real("saved_ms").notNull(),
    bytes: integer().notNull(),
    gbSeconds: real("gb_seconds").notNull(),
    reason: text(),
    // Added by migrations/0003_learning.sql.
    probability: real(),
    wholeStartMs: real("whole_start_ms"),
    // And by 0006_measures.sql.
    foretold: real(),
    context: text(),
    chain: text({ mode: "json" }).$type<string[]>(),
    // And by 0009_unsent.sql.
    unsent: integer({ mode: "boolean" }).notNull(),
  },
  (table) => [primaryKey({ columns: [table.workspace, table.atMs, table.outcomeId] })],
);

export const eventBatches = sqliteTable(
  "event_batches",
  {
    workspace: text().notNull(),
    seq: integer().notNull(),
    kind: text().$type<"allocation" | "outcome" | "change">().notNull(),
    /** JSON of event-log.ts keys, which alone reads and writes it. */
    keys: text().notNull(),
  },
  (table) => [primaryKey({ columns: [table.workspace, table.seq] })],
);

export const outcomeTotals = sqliteTable(
  "outcome_totals",
  {
    workspace: text().notNull(),
    cluster: text().notNull(),
    kind: text().$type<Outcome["kind"]>().notNull(),
    outcome: text().$type<Outcome["outcome"]>().notNull(),
    count: integer().notNull(),
    bytes: integer().notNull(),
    gbSeconds: real("gb_seconds").notNull(),
    savedMs: real("saved_ms").notNull(),
    // Added by migrations/0009_unsent.sql.
    unsent: integer().notNull(),
  },
  (table) => [primaryKey({ columns: [table.workspace, table.cluster, table.kind, table.outcome] })],
);

export const knownVms = sqliteTable(
  "known_vms",
  {
    workspace: text().notNull(),
    cluster: text().notNull(),
    /** JSON of known-vms.ts KnownVms, which alone reads and writes it. */
    vms: text().notNull(),
    knownMs: integer("known_ms").notNull(),
  },
  (table) => [primaryKey({ columns: [table.workspace, table.cluster] })],
);

export const removedClusters = sqliteTable(
  "removed_clusters",
  {
    workspace: text().notNull(),
    cluster: text().notNull(),
    removedMs: integer("removed_ms").notNull(),
  },
  (table) => [primaryKey({ columns: [table.workspace, table.cluster] })],
);

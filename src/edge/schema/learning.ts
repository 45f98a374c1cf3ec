// The tables of migrations/0005_learned.sql, 0006_measures.sql, 0008_scores_by_chain.sql and 0009_unsent.sql for drizzle; test/edge/schema.test.ts holds both together.
import { integer, primaryKey, real, sqliteTable, text } from "drizzle-orm/sqlite-core";
import type { CalibrationRow } from "../../core/calibration.ts";
import type { Outcome } from "../../protocol.ts";

export const learningFrozen = sqliteTable(
  "learning_frozen",
  {
    workspace: text().notNull(),
    part: text().notNull(),
    sinceMs: integer("since_ms").notNull(),
  },
  (table) => [primaryKey({ columns: [table.workspace, table.part] })],
);

export const outcomeHours = sqliteTable(
  "outcome_hours",
  {
    workspace: text().notNull(),
    hour: integer().notNull(),
    cluster: text().notNull(),
    task: text().notNull(),
    chain: text().notNull(),
    kind: text().$type<Outcome["kind"]>().notNull(),
    outcome: text().$type<Outcome["outcome"]>().notNull(),
    count: integer().notNull(),
    bytes: integer().notNull(),
    gbSeconds: real("gb_seconds").notNull(),
    savedMs: real("saved_ms").notNull(),
    unsent: integer().notNull(),
  },
  (table) => [
    primaryKey({
      columns: [table.workspace, table.hour, table.cluster, table.task, table.chain, table.kind, table.outcome],
    }),
  ],
);

export const calibrationHours = sqliteTable(
  "calibration_hours",
  {
    workspace: text().notNull(),
    hour: integer().notNull(),
    cluster: text().notNull(),
    task: text().notNull(),
    chain: text().notNull(),
    predictions: integer().notNull(),
    logLoss: real("log_loss").notNull(),
    brier: real().notNull(),
    leadsKnown: integer("leads_known").notNull(),
    leadsCovered: integer("leads_covered").notNull(),
    demandRuns: integer("demand_runs").notNull(),
    demandErrorMs: real("demand_error_ms").notNull(),
    demandCameMs: real("demand_came_ms").notNull(),
    counts: text({ mode: "json" }).$type<CalibrationRow>().notNull(),
  },
  (table) => [primaryKey({ columns: [table.workspace, table.hour, table.cluster, table.task, table.chain] })],
);

export const learningChanges = sqliteTable(
  "learning_changes",
  {
    workspace: text().notNull(),
    atMs: integer("at_ms").notNull(),
    root: text().notNull(),
    usualLoss: real("usual_loss").notNull(),
    loss: real().notNull(),
  },
  (table) => [primaryKey({ columns: [table.workspace, table.atMs, table.root] })],
);

// The tables of migrations/0005_learned.sql for drizzle; test/edge/schema.test.ts holds both together.
import { integer, primaryKey, sqliteTable, text } from "drizzle-orm/sqlite-core";

export const learningFrozen = sqliteTable(
  "learning_frozen",
  {
    workspace: text().notNull(),
    part: text().notNull(),
    sinceMs: integer("since_ms").notNull(),
  },
  (table) => [primaryKey({ columns: [table.workspace, table.part] })],
);

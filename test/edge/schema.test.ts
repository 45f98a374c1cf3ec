// Migrations and drizzle schema describe the same tables: names, types, NULLs and primary keys.
import { applyD1Migrations } from "cloudflare:test";
import { getTableConfig, type SQLiteTable } from "drizzle-orm/sqlite-core";
import { beforeAll, expect, test } from "vitest";
import * as control from "../../src/edge/schema/control.ts";
import * as learning from "../../src/edge/schema/learning.ts";
import { testEnv } from "./world.ts";

beforeAll(() => applyD1Migrations(testEnv.DB, testEnv.MIGRATIONS));

const TABLES = [...Object.values(control), ...Object.values(learning)];

test.each(TABLES.map((table) => getTableConfig(table as SQLiteTable)))("table $name", async (declared) => {
  const { results } = await testEnv.DB.prepare('SELECT name, type, "notnull", pk FROM pragma_table_info(?1)')
    .bind(declared.name)
    .all<{ name: string; type: string; notnull: number; pk: number }>();
  const key = declared.primaryKeys[0]?.columns ?? declared.columns.filter((column) => column.primary);
  expect(results).toEqual(
    declared.columns.map((column) => ({
      name: column.name,
      type: column.getSQLType().toUpperCase(),
      notnull: column.notNull ? 1 : 0,
      pk: key.findIndex((part) => part.name === column.name) + 1,
    })),
  );
});

test("every table has a schema", async () => {
  const sql = testEnv.MIGRATIONS.flatMap(({ queries }) => queries).join(";");
  const names = [...sql.matchAll(/CREATE TABLE (\w+)/g)].map((match) => match[1]!);
  // graph-schema.test.ts has the graph's.
  expect(names.filter((name) => !name.startsWith("graph_")).toSorted()).toEqual(
    TABLES.map((table) => getTableConfig(table as SQLiteTable).name).toSorted(),
  );
});

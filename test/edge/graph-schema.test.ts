// migrations/0002_graph.sql and the drizzle schema of the graph describe the same tables: names, types, NULLs, primary keys.
import { applyD1Migrations } from "cloudflare:test";
import { getTableConfig, type SQLiteTable } from "drizzle-orm/sqlite-core";
import { beforeAll, expect, test } from "vitest";
import * as graph from "../../src/edge/schema/graph.ts";
import { testEnv } from "./world.ts";

beforeAll(() => applyD1Migrations(testEnv.DB, testEnv.MIGRATIONS));

const tables = Object.values(graph).map((table) => getTableConfig(table as SQLiteTable));

test.each(tables)("table $name", async (declared) => {
  const { results } = await testEnv.DB.prepare('SELECT name, type, "notnull", pk FROM pragma_table_info(?1)')
    .bind(declared.name)
    .all();
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

test("every table of the migration has a schema, is STRICT and costs one row per upsert", async () => {
  const sql = testEnv.MIGRATIONS.find(({ name }) => name.startsWith("0002"))!.queries.join(";");
  const made = [...sql.matchAll(/CREATE TABLE (\w+)[\s\S]*?\)\s*(STRICT, WITHOUT ROWID)/g)];
  expect(made.map(([, name]) => name).sort()).toEqual(tables.map(({ name }) => name).sort());
  expect(sql.match(/CREATE (TABLE|INDEX)/g)).toHaveLength(made.length);
});

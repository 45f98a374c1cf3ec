// Migrations and drizzle schema describe the same tables: names, types, NULLs and primary keys.
import { applyD1Migrations } from "cloudflare:test";
import { getTableConfig, type SQLiteTable } from "drizzle-orm/sqlite-core";
import { beforeAll, expect, test } from "vitest";
import * as control from "../../src/edge/schema/control.ts";
import * as graph from "../../src/edge/schema/graph.ts";
import * as learning from "../../src/edge/schema/learning.ts";
import { testEnv } from "./world.ts";

beforeAll(() => applyD1Migrations(testEnv.DB, testEnv.MIGRATIONS));

const tablesOf = (schema: object) => Object.values(schema).map((table) => getTableConfig(table as SQLiteTable));
const TABLES = [control, learning, graph].flatMap(tablesOf);

test.each(TABLES)("table $name", async (declared) => {
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
  // A table whose key changed is made anew under another name, and takes the old one's.
  const renamed = new Map([...sql.matchAll(/ALTER TABLE (\w+) RENAME TO (\w+)/g)].map(([, from, to]) => [from!, to!]));
  const made = [...sql.matchAll(/CREATE TABLE (\w+)/g)].map(([, name]) => renamed.get(name!) ?? name!);
  const names = [...new Set(made)];
  expect(names.toSorted()).toEqual(TABLES.map(({ name }) => name).toSorted());
});

test("every table of the graph is STRICT and costs one row per upsert", async () => {
  const sql = testEnv.MIGRATIONS.find(({ name }) => name.startsWith("0002"))!.queries.join(";");
  const made = [...sql.matchAll(/CREATE TABLE (\w+)[\s\S]*?\)\s*(STRICT, WITHOUT ROWID)/g)];
  expect(made.map(([, name]) => name).sort()).toEqual(
    tablesOf(graph)
      .map(({ name }) => name)
      .sort(),
  );
  expect(sql.match(/CREATE (TABLE|INDEX)/g)).toHaveLength(made.length);
});

// A worker as a process of its own, to be killed at any instant: Miniflare with the bundled Worker, state in a folder.
// In: process messages. Out: process messages. `node worker-process.ts <bundle folder> <state folder>`
//   { sql: "…" }   runs it in D1                 → { done: true }
//   { rows: [table, …] }  reads tables of D1     → { rows: … }
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { convertV4MiniflareOptions, Miniflare } from "miniflare";

const [bundle, state] = process.argv.slice(2) as [string, string];

const wasm = readdirSync(bundle).filter((name) => name.endsWith(".wasm"));
const options = convertV4MiniflareOptions({
  host: "127.0.0.1",
  port: 0,
  modules: [
    { type: "ESModule", path: join(bundle, "worker.js") },
    ...wasm.map((name) => ({ type: "CompiledWasm" as const, path: join(bundle, name) })),
  ],
  modulesRoot: bundle,
  compatibilityDate: "2026-11-01",
  d1Databases: { DB: "forechain" },
  durableObjects: {
    GRAPH_WRITER: { className: "GraphWriter", useSQLite: true },
    FLEET: { className: "Fleet", useSQLite: true },
    CLUSTER_HUB: { className: "ClusterHub", useSQLite: true },
  },
  bindings: { FORECHAIN_SECRET: "test-secret-of-at-least-32-characters" },
  resourcePersistencePath: state,
});
const worker = new Miniflare(options);

const url = await worker.ready;
process.on("message", async (message: { sql?: string; rows?: string[] }) => {
  const db = await worker.getD1Database("DB");
  if (message.sql !== undefined) {
    for (const statement of message.sql.split(/;\s*\n/)) if (statement.trim() !== "") await db.prepare(statement).run();
    process.send!({ done: true });
  } else if (message.rows !== undefined) {
    const rows: unknown[] = [];
    for (const table of message.rows) rows.push((await db.prepare(`SELECT * FROM ${table}`).all()).results);
    process.send!({ rows });
  }
});
process.on("disconnect", () => process.exit());
process.send!({ url: url.href });

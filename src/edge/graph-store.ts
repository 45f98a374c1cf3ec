// The graph's rows in D1. In: the rows that changed, as counts. Out: one batch of statements, which is a transaction and also
// names itself in graph_applied, so that a flush whose answer was lost can be told from one that failed.
// Rows travel as JSON arrays through one bound parameter (json_each): D1 allows 100 parameters a statement.
import { minedChain } from "../core/chains.ts";
import { type RowFamily, rowParts } from "../core/contribution.ts";
import { graphTransition, type TaskProfile } from "../core/graph.ts";
import { countsOfText, countsText, GraphRows, newestDayOf, taskCountsOf, trimDays } from "../core/rows.ts";
import { type Counts, quantilesOf } from "../core/sketch.ts";
import type { GraphTransition, TaskDeclaration } from "../protocol.ts";

/** Text of one bound parameter, characters: D1 takes 2 MB for a whole row or parameter. */
const PARAMETER_CHARS_MAX = 1_000_000;
/** Rows of one read: each has some kilobytes of counts. */
const READ_ROWS = 2_000;

interface Table {
  family: RowFamily;
  table: string;
  /** Columns of the key after `workspace`. */
  keys: string[];
  columns: string[];
}

const TABLES: Table[] = [
  { family: "runs", table: "graph_runs", keys: [], columns: ["runs", "skewed", "cyclic", "orphans"] },
  {
    family: "task",
    table: "graph_tasks",
    keys: ["task", "version"],
    columns: [
      "count",
      "roots",
      "errors",
      "retries",
      "cold_starts",
      "duration_p50_ms",
      "duration_p90_ms",
      "cold_start_p50_ms",
      "cold_start_p90_ms",
      "cpu_p50_ms",
      "memory_p90_bytes",
      "output_p50_bytes",
      "latency_sensitivity",
    ],
  },
  {
    family: "transition",
    table: "graph_transitions",
    keys: ["source", "target", "kind"],
    columns: [
      "count",
      "weight",
      "probability",
      "multiplicity",
      "delay_p10_ms",
      "delay_p50_ms",
      "delay_p90_ms",
      "transfer_bytes",
    ],
  },
  {
    family: "service",
    table: "graph_services",
    keys: ["task", "service"],
    columns: ["executions", "calls", "bytes", "latency_ms"],
  },
  { family: "object", table: "graph_objects", keys: ["task", "uri"], columns: ["count", "bytes"] },
  { family: "template", table: "graph_templates", keys: ["task", "template"], columns: ["count", "bytes"] },
  {
    family: "chain",
    table: "graph_chains",
    keys: ["chain"],
    columns: ["runs", "probability", "resource_demand", "latency_sensitivity", "score"],
  },
];

interface Applied {
  /** Last journal entry that the rows hold; 0 where there was no flush. */
  batchId: number;
  newestDay: number | null;
}

/** What a flush writes: made in one go, so that it is the rows of one instant whatever comes while D1 is being written. */
export interface Flush {
  batchId: number;
  keys: string[];
  newestDay: number | null;
  statements: { sql: string; text: string }[];
}

/** The statements for the rows that changed. `changed` is emptied; give it back the keys where the flush fails. */
export function prepareFlush(
  rows: GraphRows,
  batchId: number,
  newestDayBefore: number | null,
  declarations: Record<string, TaskDeclaration>,
  profilesNow: () => TaskProfile[],
): Flush {
  const newestDay = newestDayOf(rows.rows);
  // Weights are measured from the newest day: when it moves, they all change.
  if (newestDay !== newestDayBefore) rows.touchDays();
  touchDependents(rows);
  const keys = [...rows.changed];
  rows.changed.clear();
  const written = new Map<RowFamily, unknown[][]>();
  const gone = new Map<RowFamily, string[][]>();
  const derive = deriver(rows, newestDay, declarations, profilesNow);
  for (const key of keys) {
    const { family, parts } = rowParts(key);
    const counts = rows.rows.get(key);
    if (counts === undefined) push(gone, family, parts);
    else {
      trimDays(counts, newestDay);
      push(written, family, [...parts, ...derive(family, parts, counts), countsText(counts)]);
    }
  }
  const statements: Flush["statements"] = [];
  for (const table of TABLES) {
    for (const text of jsonParts(written.get(table.family) ?? [])) statements.push({ sql: upsertSql(table), text });
    for (const text of jsonParts(gone.get(table.family) ?? [])) statements.push({ sql: deleteSql(table), text });
  }
  return { batchId, keys, newestDay, statements };
}

/** A transition's probability and a chain's demand are made of task rows too: where those change, they are written with them. */
function touchDependents(rows: GraphRows): void {
  const tasks = new Set<string>();
  for (const key of rows.changed) {
    const { family, parts } = rowParts(key);
    if (family === "task" || family === "service") tasks.add(parts[0]!);
  }
  if (tasks.size === 0) return;
  for (const key of rows.rows.keys()) {
    const { family, parts } = rowParts(key);
    const isTouched =
      (family === "transition" && tasks.has(parts[0]!)) ||
      (family === "chain" && (JSON.parse(parts[0]!) as string[]).some((task) => tasks.has(task)));
    if (isTouched) rows.changed.add(key);
  }
}

function push<T>(lists: Map<RowFamily, T[]>, family: RowFamily, item: T): void {
  const list = lists.get(family);
  if (list === undefined) lists.set(family, [item]);
  else list.push(item);
}

/** Writes a flush: whole or not at all. Out: rows written, which are what D1 bills. Errors: throws what D1 throws. */
export async function writeFlush(
  db: D1Database,
  workspace: string,
  flush: Flush,
  modelVersion: number,
  nowMs: number,
): Promise<number> {
  const statements = flush.statements.map(({ sql, text }) => db.prepare(sql).bind(text, workspace));
  const applied = db
    .prepare(
      `INSERT INTO graph_applied (workspace, batch_id, model_version, newest_day, applied_ms) VALUES (?1, ?2, ?3, ?4, ?5)
       ON CONFLICT (workspace) DO UPDATE SET batch_id = ?2, model_version = ?3, newest_day = ?4, applied_ms = ?5`,
    )
    .bind(workspace, flush.batchId, modelVersion, flush.newestDay, nowMs);
  const results = await db.batch([...statements, applied]);
  return results.reduce((sum, result) => sum + (result.meta.rows_written ?? 0), 0);
}

/** The rows as the last whole flush left them. */
export async function readRows(db: D1Database, workspace: string): Promise<{ rows: GraphRows; applied: Applied }> {
  const session = db.withSession("first-primary");
  const rows = new GraphRows();
  for (const { family, table, keys } of TABLES) {
    for (let offset = 0; ; offset += READ_ROWS) {
      const columns = [...keys, "counts"].join(", ");
      const order = keys.length > 0 ? `ORDER BY ${keys.join(", ")}` : "";
      const { results } = await session
        .prepare(`SELECT ${columns} FROM ${table} WHERE workspace = ?1 ${order} LIMIT ${READ_ROWS} OFFSET ?2`)
        .bind(workspace, offset)
        .all<Record<string, string>>();
      for (const row of results) {
        rows.restore(
          family,
          keys.map((key) => row[key]!),
          countsOfText(row.counts!),
        );
      }
      if (results.length < READ_ROWS) break;
    }
  }
  const applied = await session
    .prepare("SELECT batch_id, newest_day FROM graph_applied WHERE workspace = ?1")
    .bind(workspace)
    .first<{ batch_id: number; newest_day: number | null }>();
  return { rows, applied: { batchId: applied?.batch_id ?? 0, newestDay: applied?.newest_day ?? null } };
}

// ── Columns ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Makes the readable columns of a row, in the order of TABLES. */
function deriver(
  rows: GraphRows,
  newestDay: number | null,
  declarations: Record<string, TaskDeclaration>,
  profilesNow: () => TaskProfile[],
) {
  const taskCounts = taskCountsOf(rows.rows);
  const rootCounts = new Map<string, number>();
  for (const [key, counts] of rows.rows) {
    const { family, parts } = rowParts(key);
    if (family === "task") rootCounts.set(parts[0]!, (rootCounts.get(parts[0]!) ?? 0) + (counts.get("0") ?? 0));
  }
  let profiles: Map<string, TaskProfile> | null = null;
  return (family: RowFamily, parts: string[], counts: Counts): (number | null)[] => {
    const of = (field: string) => counts.get(field) ?? 0;
    switch (family) {
      case "runs":
        return [of("n"), of("s"), of("c"), of("o")];
      case "task":
        return taskColumns(counts);
      case "transition": {
        const [source, target, kind] = parts as [string, string, GraphTransition["kind"]];
        const row = graphTransition(source, target, kind, counts, taskCounts, newestDay);
        const { p10 = null, p50 = null, p90 = null } = row.delayMs ?? {};
        return [row.count, row.weight, row.probability, row.multiplicity, p10, p50, p90, row.transferBytes];
      }
      case "service":
        return [of("x"), of("n"), of("b"), of("L") === 0 ? null : of("l") / 1000 / of("L")];
      case "object":
      case "template":
        return [of("n"), of("b") / Math.max(1, of("n"))];
      case "chain": {
        profiles ??= new Map(profilesNow().map((profile) => [profile.task, profile]));
        const chain = minedChain(
          JSON.parse(parts[0]!) as string[],
          counts,
          rootCounts,
          newestDay,
          profiles,
          declarations,
        );
        return [chain.runs, chain.probability, chain.resourceDemand, chain.latencySensitivity, chain.score];
      }
    }
  };
}

function taskColumns(counts: Counts): (number | null)[] {
  const of = (field: string) => counts.get(field) ?? 0;
  const duration = quantilesOf(counts, "d");
  const coldStart = quantilesOf(counts, "c");
  return [
    of("n"),
    of("0"),
    of("x"),
    of("a"),
    of("k"),
    duration?.p50 ?? null,
    duration?.p90 ?? null,
    coldStart?.p50 ?? null,
    coldStart?.p90 ?? null,
    quantilesOf(counts, "u")?.p50 ?? null,
    quantilesOf(counts, "m")?.p90 ?? null,
    quantilesOf(counts, "o")?.p50 ?? null,
    of("l") / 1000 / Math.max(1, of("n")),
  ];
}

// ── SQL ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

function upsertSql({ table, keys, columns }: Table): string {
  const all = [...keys, ...columns, "counts"];
  const values = all.map((_, i) => `json_extract(value, '$[${i}]')`);
  const sets = [...columns, "counts"].map((column) => `${column} = excluded.${column}`);
  // WHERE true: without it the parser takes ON CONFLICT for a join's ON.
  return `INSERT INTO ${table} (workspace, ${all.join(", ")}) SELECT ?2, ${values.join(", ")} FROM json_each(?1) WHERE true
    ON CONFLICT (${["workspace", ...keys].join(", ")}) DO UPDATE SET ${sets.join(", ")}`;
}

function deleteSql({ table, keys }: Table): string {
  const match = keys.map((key, i) => ` AND ${key} = json_extract(item.value, '$[${i}]')`).join("");
  return `DELETE FROM ${table} WHERE workspace = ?2 AND EXISTS (SELECT 1 FROM json_each(?1) AS item WHERE true${match})`;
}

/** JSON arrays of these items, each short enough for one parameter. */
function jsonParts(items: unknown[]): string[] {
  const parts: string[] = [];
  let texts: string[] = [];
  let chars = 0;
  for (const item of items) {
    const text = JSON.stringify(item);
    if (chars + text.length > PARAMETER_CHARS_MAX && texts.length > 0) {
      parts.push(`[${texts.join(",")}]`);
      texts = [];
      chars = 0;
    }
    texts.push(text);
    chars += text.length + 1;
  }
  if (texts.length > 0) parts.push(`[${texts.join(",")}]`);
  return parts;
}

// GET /v1/outcomes: what became of every preparation, fresh: hubs bring what D1 does not have yet before it is read; and how good predictions
// were, fresh too: the GraphWriter tells the hours that D1 may not have. Of a window, a task, a cluster; as groups where asked for.
import { Hono } from "hono";
import { type CalibrationRow, currentRow, keyOf, scoresOf } from "../../core/calibration.ts";
import { HOUR_MS, hourOf } from "../../core/hour.ts";
import {
  type Outcome,
  type OutcomeGroup,
  type OutcomesAnswer,
  OutcomesQuery,
  type OutcomeTotal,
} from "../../protocol.ts";
import { alertsIn } from "../alerts.ts";
import type { AppEnv } from "../app.ts";
import { requireScope } from "../auth.ts";
import type { Env } from "../env.ts";
import { checkQuery } from "../problem.ts";

/** Up to so long a window is summed from single outcomes, ms. */
const EXACT_MS_MAX = HOUR_MS;
/** Scores are of so many hours where no window is asked for. */
const SCORED_HOURS = 24;
/** Hours × clusters × tasks × chains that scores are summed over: newest first. */
const SCORE_ROWS_MAX = 5_000;
const GROUPS_MAX = 1_000;
/** More hubs than this are not waited for: their outcomes are at most some seconds old. */
const HUBS_FLUSHED_MAX = 64;

export const outcomeRoutes = new Hono<AppEnv>();

outcomeRoutes.get("/v1/outcomes", requireScope("read", "operate"), async (c) => {
  const query = checkQuery(c, OutcomesQuery);
  if (!query.ok) return query.response;
  const { workspace } = c.get("key");
  await flushHubs(c.env, workspace);
  const window = windowOf(query.value, Date.now());
  const { groupBy, limit } = query.value;
  const scored = scoredIn(c.env, workspace, window);
  const [totals, groups, recent, rows, alerts] = await Promise.all([
    totalsOf(c.env.DB, workspace, window),
    groupBy === undefined ? null : groupsOf(c.env.DB, workspace, window, groupBy, scored),
    recentOf(c.env.DB, workspace, window, limit),
    scored,
    alertsIn(c.env.DB, workspace, Date.now()),
  ]);
  const { fromMs, toMs } = window;
  const scores = scoresOf(rows);
  const grouped = groups === null ? {} : { groups };
  const answer: OutcomesAnswer = { fromMs, toMs, totals, recent, ...grouped, scores, alerts };
  return c.json(answer);
});

// ── What is summed ───────────────────────────────────────────────────────────────────────────────────────────────────

interface Window {
  fromMs: number | null;
  toMs: number | null;
  /** Summed from single outcomes; else from whole hours. */
  isExact: boolean;
  task: string | null;
  cluster: string | null;
}

function windowOf({ fromMs, toMs, ...filter }: OutcomesQuery, nowMs: number): Window {
  const task = filter.task ?? null;
  const cluster = filter.cluster ?? null;
  if (fromMs === undefined && toMs === undefined) return { fromMs: null, toMs: null, isExact: false, task, cluster };
  const until = toMs ?? nowMs;
  const from = fromMs ?? 0;
  if (until - from <= EXACT_MS_MAX) return { fromMs: from, toMs: until, isExact: true, task, cluster };
  return { fromMs: floorHour(from), toMs: floorHour(until + HOUR_MS - 1), isExact: false, task, cluster };
}

function floorHour(ms: number): number {
  return hourOf(ms) * HOUR_MS;
}

/** Table, condition with its bindings from ?1 on, and how a row counts. */
function sourceOf(workspace: string, { fromMs, toMs, isExact, task, cluster }: Window) {
  const conditions = ["workspace = ?1"];
  const bindings: (string | number)[] = [workspace];
  const and = (condition: string, value: string | number) => {
    bindings.push(value);
    conditions.push(`${condition} ?${bindings.length}`);
  };
  if (isExact) {
    and("at_ms >=", fromMs!);
    and("at_ms <", toMs!);
  } else if (fromMs !== null) {
    and("hour >=", fromMs / HOUR_MS);
    and("hour <", toMs! / HOUR_MS);
  }
  if (task !== null) and("task =", task);
  if (cluster !== null) and("cluster =", cluster);
  const where = conditions.join(" AND ");
  return { table: isExact ? "outcomes" : "outcome_hours", where, bindings, count: isExact ? "1" : "count" };
}

const SUMS = "sum(unsent) AS unsent, sum(bytes) AS bytes, sum(gb_seconds) AS gbSeconds, sum(saved_ms) AS savedMs";

async function totalsOf(db: D1Database, workspace: string, window: Window): Promise<OutcomeTotal[]> {
  const { fromMs, task, cluster } = window;
  if (fromMs === null && task === null && cluster === null) {
    // Running totals go further back than the hours that are kept.
    const query = `SELECT kind, outcome, sum(count) AS count, ${SUMS} FROM outcome_totals WHERE workspace = ?1 GROUP BY kind, outcome`;
    return (await db.prepare(query).bind(workspace).all<OutcomeTotal>()).results;
  }
  const { table, where, bindings, count } = sourceOf(workspace, window);
  const query = `SELECT kind, outcome, sum(${count}) AS count, ${SUMS} FROM ${table} WHERE ${where} GROUP BY kind, outcome`;
  const { results } = await db
    .prepare(query)
    .bind(...bindings)
    .all<OutcomeTotal>();
  return results;
}

type GroupBy = NonNullable<OutcomesQuery["groupBy"]>;

async function groupsOf(
  db: D1Database,
  workspace: string,
  window: Window,
  groupBy: GroupBy,
  scored: Promise<CalibrationRow[]>,
): Promise<OutcomeGroup[]> {
  const { table, where, bindings, count } = sourceOf(workspace, window);
  const hour = window.isExact ? `CAST(at_ms / ${HOUR_MS} AS INTEGER)` : "hour";
  const name = groupBy === "hour" ? hour : `coalesce(${groupBy}, '')`;
  const query = `SELECT ${name} AS name, kind, outcome, sum(${count}) AS count, ${SUMS} FROM ${table} WHERE ${where}
    GROUP BY 1, kind, outcome ORDER BY 1 ${groupBy === "hour" ? "DESC" : ""}`;
  const rows = await db
    .prepare(query)
    .bind(...bindings)
    .all<OutcomeTotal & { name: string | number }>();
  const groups = new Map<string | number, { totals: OutcomeTotal[]; scored: CalibrationRow[] }>();
  const groupOf = (name: string | number) => {
    const group = groups.get(name) ?? (groups.size < GROUPS_MAX ? { totals: [], scored: [] } : null);
    if (group !== null) groups.set(name, group);
    return group;
  };
  for (const { name, ...total } of rows.results) groupOf(name)?.totals.push(total);
  for (const row of await scored) groupOf(row[groupBy])?.scored.push(row);
  const inOrder = [...groups];
  if (groupBy === "hour") inOrder.sort(([a], [b]) => Number(b) - Number(a));
  return inOrder.map(([name, { totals, scored }]) => ({
    ...named(groupBy, name),
    totals,
    ...(scored.length === 0 ? {} : { scores: scoresOf(scored) }),
  }));
}

function named(groupBy: GroupBy, name: string | number): Omit<OutcomeGroup, "totals"> {
  switch (groupBy) {
    case "hour":
      return { hourMs: Number(name) * HOUR_MS };
    case "chain":
      return { chain: name === "" ? [] : (JSON.parse(String(name)) as string[]) };
    default:
      return { [groupBy]: String(name) };
  }
}

async function recentOf(db: D1Database, workspace: string, window: Window, limit: number): Promise<Outcome[]> {
  const { fromMs, toMs } = window;
  const exact = { ...window, isExact: true, fromMs: fromMs ?? 0, toMs: toMs ?? Number.MAX_SAFE_INTEGER };
  const { where, bindings } = sourceOf(workspace, exact);
  const query = `SELECT outcome_id AS outcomeId, command_id AS commandId, kind, outcome, cluster, vm, task, uri, run_id AS runId,
      execution_id AS executionId, at_ms AS atMs, saved_ms AS savedMs, bytes, gb_seconds AS gbSeconds, reason, probability,
      foretold, context, chain, whole_start_ms AS wholeStartMs, unsent
    FROM outcomes WHERE ${where} ORDER BY at_ms DESC LIMIT ${limit}`;
  const { results } = await db
    .prepare(query)
    .bind(...bindings)
    .all<Omit<Outcome, "chain" | "unsent"> & { chain: string | null; unsent: number }>();
  return results.map(({ chain, unsent, ...row }) => ({
    ...row,
    chain: chain === null ? null : JSON.parse(chain),
    unsent: unsent === 1,
  }));
}

// ── Predictions ──────────────────────────────────────────────────────────────────────────────────────────────────────

async function scoredIn(
  env: Pick<Env, "DB" | "GRAPH_WRITER">,
  workspace: string,
  window: Window,
): Promise<CalibrationRow[]> {
  const toHour = window.toMs === null ? Number.MAX_SAFE_INTEGER : Math.ceil(window.toMs / HOUR_MS);
  const fromHour = window.fromMs === null ? hourOf(Date.now()) - SCORED_HOURS : hourOf(window.fromMs);
  const [stored, live] = await Promise.all([
    env.DB.prepare(
      `SELECT counts FROM calibration_hours WHERE workspace = ?1 AND hour >= ?2 AND hour < ?3 ORDER BY hour DESC LIMIT ${SCORE_ROWS_MAX}`,
    )
      .bind(workspace, fromHour, toHour)
      .all<{ counts: string }>(),
    liveRows(env.GRAPH_WRITER, workspace),
  ]);
  const rows = new Map<string, CalibrationRow>();
  const stale = stored.results.map(({ counts }) => currentRow(JSON.parse(counts) as CalibrationRow));
  // Both are absolute: the writer's are newer.
  for (const row of [...stale, ...live]) {
    if (row.hour < fromHour || row.hour >= toHour) continue;
    if (window.task !== null && row.task !== window.task) continue;
    if (window.cluster !== null && row.cluster !== window.cluster) continue;
    rows.set(keyOf(row), row);
  }
  return [...rows.values()];
}

async function liveRows(writers: Env["GRAPH_WRITER"], workspace: string): Promise<CalibrationRow[]> {
  try {
    return JSON.parse(await writers.getByName(workspace).calibration(workspace)) as CalibrationRow[];
  } catch (error) {
    console.warn(`scores are as of the last flush: ${error}`);
    return [];
  }
}

// ── Hubs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A hub that is down has its outcomes still and brings them later. */
async function flushHubs(env: Pick<Env, "FLEET" | "CLUSTER_HUB">, workspace: string): Promise<void> {
  const clusters = await env.FLEET.getByName(workspace).clusterNames(workspace);
  const flushes = clusters
    .slice(0, HUBS_FLUSHED_MAX)
    .map((cluster) => env.CLUSTER_HUB.getByName(`${workspace}/${cluster}`).flush());
  for (const flush of await Promise.allSettled(flushes)) {
    if (flush.status === "rejected") console.warn(`a hub's outcomes are not in D1 yet: ${flush.reason}`);
  }
}

// What people and monitors ask: is it up, how much of what, how is it called.

import { eq, sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/d1";
import { Hono } from "hono";
import { html } from "hono/html";
import { HEARTBEAT_STALE_MS } from "../../core/allocate.ts";
import type { FleetView } from "../../core/fleet.ts";
import { hourOf } from "../../core/hour.ts";
import type { RowLimit } from "../../core/rows.ts";
import { alertsIn } from "../alerts.ts";
import type { AppEnv } from "../app.ts";
import { requireScope } from "../auth.ts";
import { CALLS } from "../calls.ts";
import { fleetViewFor } from "../fleet-cache.ts";
import { openApi } from "../openapi.ts";
import { outcomeTotals } from "../schema/control.ts";
import { ALERT_MS } from "../writer/told.ts";

/** Of the mean scores. */
const SCORED_HOURS = 24;

export const healthRoutes = new Hono<AppEnv>();

healthRoutes.get("/healthz", (c) => c.json({ ok: true }));

healthRoutes.get("/openapi.json", (c) => c.json(openApi()));

healthRoutes.get("/docs", (c) =>
  c.html(html`<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<title>Forechain: HTTP API</title>
<style>body{font:16px/1.5 system-ui;max-width:70rem;margin:2rem auto;padding:0 1rem}table{border-collapse:collapse}
td,th{text-align:left;padding:.3rem .8rem;border-bottom:1px solid #8884;vertical-align:top}code{white-space:nowrap}</style>
<h1>Forechain: HTTP API</h1>
<p>Send <code>Authorization: Bearer fck_…</code>. Schemas of every body are in <a href="/openapi.json">openapi.json</a>.
Errors are problem+json (RFC 9457) and name the field by its pointer.</p>
<table><tr><th>Call</th><th>Does</th><th>Key's scope</th></tr>
${CALLS.map(
  ({ method, path, does, scopes }) =>
    html`<tr><td><code>${method.toUpperCase()} ${path}</code></td><td>${does}</td><td>${scopes.join(" or ") || "none"}</td></tr>`,
)}
</table>
</html>`),
);

healthRoutes.get("/metrics", requireScope("read", "operate"), async (c) => {
  const { workspace } = c.get("key");
  const nowMs = Date.now();
  const [fleet, waiting, limits, totals] = await Promise.all([
    fleetViewFor(c.env, workspace, c.executionCtx, nowMs),
    c.env.FLEET.getByName(workspace).waiting(workspace),
    c.env.GRAPH_WRITER.getByName(workspace).limits(),
    drizzle(c.env.DB)
      .select({
        kind: outcomeTotals.kind,
        outcome: outcomeTotals.outcome,
        count: sql<number>`sum(${outcomeTotals.count})`,
        bytes: sql<number>`sum(${outcomeTotals.bytes})`,
        savedMs: sql<number>`sum(${outcomeTotals.savedMs})`,
      })
      .from(outcomeTotals)
      .where(eq(outcomeTotals.workspace, workspace))
      .groupBy(outcomeTotals.kind, outcomeTotals.outcome),
  ]);
  const learning = await learningMetrics(c.env.DB, workspace, nowMs);
  const alerts = await alertsIn(c.env.DB, workspace, nowMs);
  const metrics: Metric[] = [
    ...fleetMetrics(fleet, nowMs),
    ...graphMetrics(limits),
    ...learning,
    {
      name: "forechain_alert",
      type: "gauge",
      help: "Of the last day: starts that were foreseen and never prepared, or prewarms that nobody used.",
      samples: alerts.map(({ kind, task, count }) => [{ kind, task }, count]),
    },
    {
      name: "forechain_commands_in_flight",
      type: "gauge",
      help: "Commands queued or leased.",
      samples: Object.entries(waiting).map(([cluster, hub]) => [{ cluster }, hub.inFlightCommands]),
    },
    {
      name: "forechain_outcomes_total",
      type: "counter",
      help: "Settled commands and predictions.",
      samples: totals.map(({ kind, outcome, count }) => [{ kind, outcome }, count]),
    },
    {
      name: "forechain_outcome_bytes_total",
      type: "counter",
      help: "Bytes that settled commands had loaded.",
      samples: totals.map(({ kind, outcome, bytes }) => [{ kind, outcome }, bytes]),
    },
    {
      name: "forechain_saved_milliseconds_total",
      type: "counter",
      help: "Latency taken off users' paths.",
      samples: totals.map(({ kind, outcome, savedMs }) => [{ kind, outcome }, savedMs]),
    },
  ];
  return c.body(metrics.map(exposition).join(""), 200, { "content-type": "text/plain; version=0.0.4; charset=utf-8" });
});

/** Predictions of the last hours, and changes of the workflow. An alert is the change of the last hour. */
async function learningMetrics(db: D1Database, workspace: string, nowMs: number): Promise<Metric[]> {
  const [scores, changes] = await db.batch<{
    predictions: number;
    logLoss: number;
    brier: number;
    n: number;
    latest: number;
  }>([
    db
      .prepare(
        `SELECT sum(predictions) AS predictions, sum(log_loss) AS logLoss, sum(brier) AS brier
         FROM calibration_hours WHERE workspace = ?1 AND hour >= ?2`,
      )
      .bind(workspace, hourOf(nowMs) - SCORED_HOURS),
    db.prepare("SELECT count(*) AS n, max(at_ms) AS latest FROM learning_changes WHERE workspace = ?1").bind(workspace),
  ]);
  const { predictions, logLoss, brier } = scores!.results[0]!;
  const { n, latest } = changes!.results[0]!;
  const mean = (sum: number): Metric["samples"] => (predictions > 0 ? [[{}, sum / predictions]] : []);
  return [
    {
      name: "forechain_prediction_log_loss",
      type: "gauge",
      help: "Mean per prediction of the last day, nats.",
      samples: mean(logLoss),
    },
    {
      name: "forechain_prediction_brier",
      type: "gauge",
      help: "Mean Brier score of the last day.",
      samples: mean(brier),
    },
    { name: "forechain_workflow_changes_total", type: "counter", help: "Changes of the workflow.", samples: [[{}, n]] },
    {
      name: "forechain_workflow_changed",
      type: "gauge",
      help: "1: the workflow has changed within the last hour.",
      samples: [[{}, nowMs - (latest ?? 0) < ALERT_MS ? 1 : 0]],
    },
  ];
}

interface Metric {
  name: string;
  type: "gauge" | "counter";
  help: string;
  samples: [Record<string, string>, number][];
}

function graphMetrics(limits: RowLimit[]): Metric[] {
  const of = (value: (limit: RowLimit) => number): Metric["samples"] =>
    limits.map((limit) => [{ rows: limit.rows }, value(limit)]);
  return [
    { name: "forechain_graph_rows", type: "gauge", help: "Rows of the graph.", samples: of(({ count }) => count) },
    { name: "forechain_graph_rows_max", type: "gauge", help: "Rows it may have.", samples: of(({ max }) => max) },
    {
      name: "forechain_graph_rows_refused_total",
      type: "counter",
      help: "Rows refused at that bound: above 0 the graph is not whole.",
      samples: of(({ refused }) => refused),
    },
  ];
}

function fleetMetrics({ clusters }: FleetView, nowMs: number): Metric[] {
  const gauge = (name: string, help: string, value: (cluster: FleetView["clusters"][number]) => number): Metric => ({
    name,
    type: "gauge",
    help,
    samples: clusters.map((cluster) => [{ cluster: cluster.cluster }, value(cluster)]),
  });
  const isFresh = (at: number | null) => at !== null && nowMs - at <= HEARTBEAT_STALE_MS;
  return [
    gauge("forechain_vms", "VMs declared or reporting.", ({ vms }) => vms.length),
    gauge(
      "forechain_vms_fresh",
      "VMs whose agents report.",
      ({ vms }) => vms.filter((vm) => isFresh(vm.lastHeartbeatMs)).length,
    ),
    gauge("forechain_executions", "Executions running now.", ({ vms }) =>
      vms.reduce((sum, vm) => sum + vm.executions, 0),
    ),
    gauge("forechain_memory_used_bytes", "Memory in use.", ({ vms }) =>
      vms.reduce((sum, vm) => sum + vm.memoryUsedBytes, 0),
    ),
    gauge("forechain_memory_reserved_bytes", "Memory held for chains.", (cluster) => cluster.reservedMemoryBytes),
  ];
}

/** The Prometheus text format. */
function exposition({ name, type, help, samples }: Metric): string {
  const lines = samples.map(([labels, value]) => {
    const inner = Object.entries(labels).map(([label, text]) => `${label}="${escapeLabel(text)}"`);
    return `${name}${inner.length === 0 ? "" : `{${inner.join(",")}}`} ${value}\n`;
  });
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join("")}`;
}

function escapeLabel(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

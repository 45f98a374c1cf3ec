// Prometheus text (version 0.0.4) of one agent. In: its parts. Out: their counters and gauges as text. Label values are escaped:
// task names are somebody's text.
import type { ObjectCache } from "./cache.ts";
import type { HubClock } from "./clock.ts";
import type { Commands } from "./commands.ts";
import type { ExecutionSpool } from "./executions.ts";
import type { Invoker } from "./invoke.ts";
import type { Reports } from "./reports.ts";
import type { RuntimePool } from "./runtimes.ts";

export interface Metric {
  name: string;
  kind: "counter" | "gauge";
  help: string;
  samples: { labels?: Record<string, string>; value: number }[];
}

export function prometheusText(metrics: Metric[]): string {
  return metrics
    .map(({ name, kind, help, samples }) => {
      const lines = samples.map(({ labels = {}, value }) => `${name}${labelText(labels)} ${value}`);
      return [`# HELP ${name} ${help}`, `# TYPE ${name} ${kind}`, ...lines].join("\n");
    })
    .join("\n")
    .concat("\n");
}

function labelText(labels: Record<string, string>): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`);
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

function escaped(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

export function metricsOf(parts: {
  pool: RuntimePool;
  cache: ObjectCache;
  invoker: Invoker;
  commands: Commands;
  spool: ExecutionSpool;
  reports: Reports;
  clock: HubClock;
}): Metric[] {
  const { pool, cache, invoker, commands, spool, reports, clock } = parts;
  const one = (name: string, kind: Metric["kind"], help: string, value: number): Metric => ({
    name: `forechain_agent_${name}`,
    kind,
    help,
    samples: [{ value }],
  });
  const states = Map.groupBy(pool.list(), (runtime) => `${runtime.state} ${runtime.task}`);
  return [
    one("calls_total", "counter", "Calls of tasks.", invoker.totals.calls),
    one("calls_cold_total", "counter", "Calls that waited beyond a warm execution.", invoker.totals.cold),
    one("calls_failed_total", "counter", "Calls that ended in an error or time-out.", invoker.totals.errors),
    one("cold_start_ms_total", "counter", "What calls waited beyond a warm execution.", invoker.totals.coldStartMs),
    one("calls_running", "gauge", "Calls that run now.", invoker.running()),
    one("runtime_starts_total", "counter", "Runtimes started.", pool.totals.starts),
    one("runtime_start_failures_total", "counter", "Runtimes that never became ready.", pool.totals.startFailures),
    {
      name: "forechain_agent_runtimes",
      kind: "gauge",
      help: "Runtimes by task and state.",
      samples: [...states.values()].map((runtimes) => ({
        labels: { task: runtimes[0]!.task, state: runtimes[0]!.state },
        value: runtimes.length,
      })),
    },
    one("cache_bytes", "gauge", "Bytes in the cache.", cache.bytes()),
    one("cache_bytes_max", "gauge", "Bytes that the cache may hold.", cache.maxBytes()),
    one("cache_hits_total", "counter", "Reads that found their object.", cache.totals.hits),
    one("cache_loads_total", "counter", "Objects loaded.", cache.totals.loads),
    one("cache_loaded_bytes_total", "counter", "Bytes loaded.", cache.totals.loadedBytes),
    one("cache_load_failures_total", "counter", "Loads that failed or were refused.", cache.totals.failures),
    one("cache_evictions_total", "counter", "Objects evicted.", cache.totals.evictions),
    {
      name: "forechain_agent_commands_total",
      kind: "counter",
      help: "Commands by kind and result.",
      samples: Object.entries(commands.totals).map(([counter, value]) => {
        const [kind = "", state = ""] = counter.split(" ");
        return { labels: { kind, state }, value };
      }),
    },
    one("executions_waiting", "gauge", "Execution records that the Worker has not accepted.", spool.waiting()),
    one("executions_dropped_total", "counter", "Execution records given up.", spool.totals.dropped),
    one("reports_waiting", "gauge", "Reports that the hub has not accepted.", reports.size()),
    one("clock_offset_ms", "gauge", "The hub's clock minus this machine's.", clock.offsetMs()),
  ];
}

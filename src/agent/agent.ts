// The agent of one VM: composes cache, runtimes, commands and calls, and keeps the link to the hub.
//
//   hub ── commands ──► Commands ──► ObjectCache, RuntimePool ◄── Invoker ◄── /invoke ── gateway
//    ▲                      │                  │                     │
//    └── heartbeats, reports ◄── Prepared ◄────┴── TaskObjects ──────┴──► ExecutionSpool ──► /v1/executions
//
// In: a checked configuration. Out: a running agent that can be stopped: it then finishes what runs, reports, signs off, and
// ends every process that it has started.
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { PassThrough } from "node:stream";
import {
  type AgentReport,
  CONTEXT_HEADER,
  type Command,
  type CommandResult,
  type Heartbeat,
  type HeartbeatAnswer,
  type PreparedEnd,
  type PreparedUse,
  type UnpreparedUse,
} from "../protocol.ts";
import { ObjectCache } from "./cache.ts";
import { HubClock } from "./clock.ts";
import { Commands, failed, type Outcome } from "./commands.ts";
import type { AgentConfig } from "./config.ts";
import { createDrivers } from "./drivers/create.ts";
import { ExecutionSpool } from "./executions.ts";
import { createFetcher } from "./fetchers.ts";
import { Invoker, TIMEOUT_MS_DEFAULT } from "./invoke.ts";
import { Link, type LinkAnswer, retryable } from "./link.ts";
import { cpuMeter, readCapacity } from "./machine.ts";
import { type Metric, prometheusText } from "./metrics.ts";
import { TaskObjects } from "./objects.ts";
import { backoffMs, Outbox, type Sent } from "./outbox.ts";
import { Prepared } from "./prepared.ts";
import { startReaper } from "./reaper.ts";
import { RuntimePool } from "./runtimes.ts";
import { createAgentServer, parseContext } from "./server.ts";
import { delay, Transfers } from "./transfer.ts";

export const AGENT_VERSION = "0.1.0";

/** Of a long-poll: below the idle time-outs of common proxies. */
const POLL_WAIT_MS = 25_000;
const COMMANDS_PER_POLL_MAX = 32;
/** Until the hub says otherwise. */
const HEARTBEAT_MS_FIRST = 2_000;
/** Reports leave together if they come within it; a warm runtime is worth knowing soon. */
const REPORT_LINGER_MS = 20;
const REPORT_BATCH_MAX = 500;
const REPORTS_MAX = 10_000;
/** For the last reports of a stop. */
const FAREWELL_MS = 3_000;
const HEARTBEAT_URIS_MAX = 2_000;
const HEARTBEAT_RUNTIMES_MAX = 1_000;
/** Of an answer that goes back inside a report. */
const EXECUTE_ANSWER_BYTES_MAX = 2 ** 20;
/** The Worker takes 8 MiB. */
const REPORT_BYTES_MAX = 6 * 2 ** 20;

type ReportItem =
  | { list: "results"; item: CommandResult }
  | { list: "uses"; item: PreparedUse }
  | { list: "ends"; item: PreparedEnd }
  | { list: "misses"; item: UnpreparedUse };

export interface AgentOptions {
  /** Aborts to stop. */
  signal?: AbortSignal;
  /** One line, for an operator. */
  log?: (line: string) => void;
}

export interface Agent {
  /** Where it listens. */
  host: string;
  port: number;
  /** Resolves after the stop with why it stopped. */
  stopped: Promise<"asked" | "superseded">;
  stop(): void;
}

/** Resolves when it listens; the hub may be away then, and is looked for until it is there. */
export async function startAgent(config: AgentConfig, options: AgentOptions = {}): Promise<Agent> {
  const log = options.log ?? (() => {});
  const clock = new HubClock();
  const nowMs = () => clock.localMs();
  await mkdir(config.cache.folder, { recursive: true });
  const capacity = await readCapacity(config);
  const link = new Link({ ...config, clock });
  const hub: { answer: HeartbeatAnswer | null; lastError: string } = { answer: null, lastError: "not asked yet" };
  const stopping = new AbortController();
  let whyStopped: "asked" | "superseded" = "asked";

  const spool = await ExecutionSpool.open(config.stateFolder, (records) => sendExecutions(link, records, log), log);
  const reports = new Outbox<ReportItem>({
    lingerMs: REPORT_LINGER_MS,
    batchMax: REPORT_BATCH_MAX,
    batchBytesMax: REPORT_BYTES_MAX,
    bytesOf: ({ list, item }) => (list === "results" ? (item.response?.body.length ?? 0) : 0),
    itemsMax: REPORTS_MAX,
    send: (items) => sendReport(link, items, log),
    onDropped: (items, detail) => log(`${items.length} reports dropped: ${detail}`),
  });
  const report = (item: ReportItem) => reports.add(item);

  const { prefetchBytesPerSecond, prefetchConcurrency } = config.objects;
  const transfers = new Transfers(prefetchBytesPerSecond ?? null, prefetchConcurrency, nowMs);
  const cache = await ObjectCache.open({ ...config.cache, fetcher: createFetcher(config.objects), transfers, nowMs });
  const prepared = new Prepared(clock, cache, {
    use: (item) => report({ list: "uses", item }),
    end: (item) => report({ list: "ends", item }),
    miss: (item) => report({ list: "misses", item }),
  });
  cache.onEvict = (uri) => prepared.evictedObject(uri);
  const objects = new TaskObjects(cache, prepared, nowMs);
  const reaper = startReaper();
  const pool: RuntimePool = new RuntimePool({
    tasks: config.tasks,
    drivers: createDrivers(config.tasks, reaper),
    memoryBytes: capacity.memoryBytes,
    objectsUrl: () => `http://${loopbackOf(config.listen.host)}:${port}/objects`,
    keepAliveMs: (task) => hub.answer?.tasks[task]?.keepAliveMs ?? config.tasks[task]!.keepAliveMs,
    loadObjects: async (runtime) => {
      const answers = await Promise.all(config.tasks[runtime.task]!.objects.map((uri) => objects.read(runtime, uri)));
      const bad = answers.find((answer) => !answer.ok);
      return bad === undefined || bad.ok
        ? { ok: true }
        : { ok: false, detail: `${bad.uri}: ${bad.reason}: ${bad.detail}` };
    },
    fetchedMs: (runtime) => objects.waitedMs(runtime),
    onEnd: (runtime, reason) => {
      prepared.endedRuntime(runtime, reason);
      if (reason !== "replaced") objects.settle(runtime);
    },
    nowMs,
  });
  const invoker = new Invoker({
    cluster: config.cluster,
    vm: config.vm,
    tasks: config.tasks,
    clock,
    pool,
    objects,
    prepared,
    timeoutMs: (task) => hub.answer?.tasks[task]?.timeoutMs ?? TIMEOUT_MS_DEFAULT,
    record: (execution) => spool.add(execution),
  });
  const commands = new Commands({
    tasks: config.tasks,
    clock,
    cache,
    pool,
    prepared,
    warmConcurrency: config.warmConcurrency ?? Math.max(1, Math.floor(capacity.cpuCores)),
    execute: (command) => execute(invoker, command, stopping.signal),
    drain: () => drain(config, pool, invoker),
    report: (item) => report({ list: "results", item }),
  });
  const server = createAgentServer({
    cluster: config.cluster,
    vm: config.vm,
    clock,
    invoker,
    pool,
    objects,
    invokeKey: () => hub.answer?.invokeKey ?? null,
    healthy: () => ({ ok: hub.answer !== null, detail: hub.answer === null ? hub.lastError : "linked to its hub" }),
    metrics: () => prometheusText(metricsOf({ pool, cache, invoker, commands, spool, reports, clock })),
  });
  server.listen(config.listen.port, config.listen.host);
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const url = config.announceUrl === "auto" ? `http://${config.listen.host}:${port}` : config.announceUrl;
  log(`agent ${config.cluster}/${config.vm} listens on ${config.listen.host}:${port}, hub ${config.url}`);

  const instanceId = randomUUID();
  const cpuLoad = cpuMeter();
  const beat = async (leaving: boolean): Promise<LinkAnswer<HeartbeatAnswer>> => {
    const heartbeat: Heartbeat = {
      agentVersion: AGENT_VERSION,
      nowMs: nowMs(),
      instanceId,
      ...(url === undefined ? {} : { url }),
      capacity: await readCapacity(config),
      load: { cpu: cpuLoad(), memoryBytes: pool.memoryUsedBytes(), executions: invoker.running() },
      runtimes: runtimesOf(pool, clock),
      cache: { bytes: cache.bytes(), maxBytes: cache.maxBytes(), uris: cache.uris(HEARTBEAT_URIS_MAX) },
      tasks: Object.entries(config.tasks).map(([task, { version }]) =>
        version === undefined ? { task } : { task, version },
      ),
      ...(leaving ? { leaving: true } : {}),
    };
    return link.heartbeat(heartbeat);
  };

  const heartbeats = async () => {
    for (let failures = 0; !stopping.signal.aborted; ) {
      const answer = await beat(false);
      if (answer.ok) {
        if (hub.answer === null) log("linked to the hub");
        hub.answer = answer.answer;
        failures = 0;
        await delay(answer.answer.nextHeartbeatMs, stopping.signal);
        continue;
      }
      if (answer.reason === "superseded") {
        log(`another agent has taken over ${config.cluster}/${config.vm}: ${answer.detail}`);
        whyStopped = "superseded";
        stopping.abort();
        return;
      }
      if (hub.lastError !== answer.detail) log(`heartbeat failed (${answer.reason}): ${answer.detail}`);
      hub.lastError = answer.detail;
      await delay(Math.min(HEARTBEAT_MS_FIRST, backoffMs(failures++, Math.random)), stopping.signal);
    }
  };
  const polls = async () => {
    for (let failures = 0; !stopping.signal.aborted; ) {
      // Commands name instants of the hub's clock: it has to be known first.
      if (hub.answer === null) {
        await delay(backoffMs(0, Math.random) / 4, stopping.signal);
        continue;
      }
      const answer = await link.commands(POLL_WAIT_MS, COMMANDS_PER_POLL_MAX, stopping.signal);
      if (answer.ok) {
        failures = 0;
        for (const command of answer.answer.commands) commands.receive(command);
        continue;
      }
      if (!stopping.signal.aborted) await delay(backoffMs(failures++, Math.random), stopping.signal);
    }
  };

  const stopped = (async () => {
    await Promise.all([heartbeats(), polls()]);
    log("stopping: finishing what runs");
    commands.stop();
    server.close();
    await Promise.race([invoker.untilIdle(), delay(config.stopGraceMs)]);
    prepared.stop();
    await Promise.all([pool.stop(), cache.stop()]);
    server.closeAllConnections();
    const farewell = AbortSignal.timeout(FAREWELL_MS);
    await Promise.all([spool.flush(farewell), reports.flush(farewell)]);
    if (whyStopped === "asked") await beat(true);
    reaper.stop();
    log("stopped");
    return whyStopped;
  })();
  const stop = () => stopping.abort();
  options.signal?.addEventListener("abort", stop, { once: true });
  if (options.signal?.aborted) stop();
  return { host: config.listen.host, port, stopped, stop };
}

function runtimesOf(pool: RuntimePool, clock: HubClock): Heartbeat["runtimes"] {
  return pool
    .list()
    .slice(0, HEARTBEAT_RUNTIMES_MAX)
    .flatMap(({ task, state, expiresMs }) =>
      state === "gone"
        ? []
        : [{ task, state, ...(Number.isFinite(expiresMs) ? { expiresMs: clock.toHubMs(expiresMs) } : {}) }],
    );
}

async function sendExecutions(link: Link, records: unknown[], log: (line: string) => void): Promise<Sent> {
  const answer = await link.executions(records);
  if (!answer.ok) return { ok: false, retry: retryable(answer), detail: answer.detail };
  for (const { index, reason } of answer.answer.rejected) log(`execution ${index} of a batch was rejected: ${reason}`);
  return { ok: true };
}

async function sendReport(link: Link, items: ReportItem[], log: (line: string) => void): Promise<Sent> {
  const report: AgentReport = { results: [], uses: [], ends: [], misses: [] };
  for (const { list, item } of items) (report[list] as (typeof item)[]).push(item);
  const answer = await link.report(report);
  if (!answer.ok) return { ok: false, retry: retryable(answer), detail: answer.detail };
  for (const { commandId, reason } of answer.answer.refused) log(`report on command ${commandId} refused: ${reason}`);
  return { ok: true };
}

/** No idle runtimes, and nothing running. Calls that still come are served: the gateway has been told, and stops soon. */
async function drain(config: AgentConfig, pool: RuntimePool, invoker: Invoker): Promise<void> {
  await Promise.all(Object.keys(config.tasks).map((task) => pool.evict(task)));
  await invoker.untilIdle();
}

/** A call that came as a command, because the gateway cannot reach this VM. */
async function execute(invoker: Invoker, command: Command, gone: AbortSignal): Promise<Outcome> {
  const { request, task } = command;
  if (request === undefined || task === undefined) return failed("an execute without a task or a request");
  const context = parseContext(request.headers[CONTEXT_HEADER]);
  if (context === null) return failed("an execute without a context");
  const body = new PassThrough();
  body.end(Buffer.from(request.body, "base64"));
  const { method, path, headers } = request;
  const answer = await invoker.invoke({ task, context, method, path, headers, body, gone });
  if (!answer.ok) return failed(`${answer.status} ${answer.title}: ${answer.detail}`);
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of answer.body as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > EXECUTE_ANSWER_BYTES_MAX) {
      answer.body.destroy();
      return failed(`the answer is larger than the ${EXECUTE_ANSWER_BYTES_MAX} bytes that a report may carry`);
    }
    chunks.push(chunk);
  }
  const flat = Object.entries(answer.headers).map(([name, value]) => [
    name,
    Array.isArray(value) ? value.join(", ") : value,
  ]);
  return {
    state: "done",
    response: {
      status: answer.status,
      headers: Object.fromEntries(flat),
      body: Buffer.concat(chunks).toString("base64"),
    },
  };
}

/** Tasks reach the agent on this machine, wherever it listens. */
function loopbackOf(host: string): string {
  return host === "0.0.0.0" || host === "::" || host === "localhost"
    ? "127.0.0.1"
    : host.includes(":")
      ? `[${host}]`
      : host;
}

function metricsOf(parts: {
  pool: RuntimePool;
  cache: ObjectCache;
  invoker: Invoker;
  commands: Commands;
  spool: ExecutionSpool;
  reports: Outbox<ReportItem>;
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

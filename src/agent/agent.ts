// The agent of one VM: composes cache, runtimes, commands and calls, and keeps the link to the hub.
//
//   hub ── commands ──► Commands ──► ObjectCache, RuntimePool ◄── Invoker ◄── /invoke ── gateway
//    ▲                      │                  │                     │
//    └── heartbeats, reports ◄── Prepared ◄────┴── TaskObjects ──────┴──► ExecutionSpool ──► /v1/executions
//
// In: a checked configuration. Out: a running agent that can be stopped: it then signs off, finishes what runs, reports, and
// ends every process that it has started.
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { type Command, HEARTBEAT_CALLS_MAX, type Heartbeat, type HeartbeatAnswer } from "../protocol.ts";
import { Bundles, TaskCode } from "./bundles.ts";
import { ObjectCache } from "./cache.ts";
import { HubClock } from "./clock.ts";
import { Commands } from "./commands.ts";
import type { AgentConfig, TaskConfig } from "./config.ts";
import { Containers, imageUri, routedObjects } from "./containers.ts";
import { createDrivers } from "./drivers/create.ts";
import { execute } from "./execute.ts";
import { ExecutionSpool } from "./executions.ts";
import { createFetcher } from "./fetchers/fetcher.ts";
import { holdFolders } from "./folder-lock.ts";
import { HubLoop } from "./hub-loop.ts";
import { IdleNotes } from "./idle-notes.ts";
import { Invoker, TIMEOUT_MS_DEFAULT } from "./invoke.ts";
import { Link } from "./link.ts";
import { retryable } from "./link-failure.ts";
import { type Capacity, cpuMeter, readCapacity } from "./machine.ts";
import { metricsOf, prometheusText } from "./metrics.ts";
import { TaskObjects } from "./objects.ts";
import type { Sent } from "./outbox.ts";
import { Prepared } from "./prepared.ts";
import { Probes } from "./probes.ts";
import { type Reaper, startReaper } from "./reaper.ts";
import { createReports, type Reports } from "./reports.ts";
import { RuntimePool } from "./runtimes.ts";
import { createAgentServer } from "./server.ts";
import { HubSocket } from "./socket.ts";
import { delay, Transfers } from "./transfer.ts";
import { VERSION } from "./version.ts";

/** For the last reports of a stop. */
const FAREWELL_MS = 3_000;
/** Beside its grace a stop takes no longer: the sign-off's answer, the ends of runtimes, the last reports. */
const WIND_UP_MS_MAX = 20_000;
const HEARTBEAT_URIS_MAX = 2_000;
/** A heartbeat a second has to stay small: long URIs leave room for fewer. */
const HEARTBEAT_URIS_CHARS_MAX = 64 * 1024;
const HEARTBEAT_RUNTIMES_MAX = 1_000;

type Log = (line: string) => void;
type Parts = Awaited<ReturnType<typeof assemble>>;

interface AgentOptions {
  /** Aborts to stop. */
  signal?: AbortSignal;
  /** One line, for an operator. */
  log?: Log;
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
  const stopping = new AbortController();
  const stop = () => stopping.abort();
  options.signal?.addEventListener("abort", stop, { once: true });
  if (options.signal?.aborted) stop();
  const release = await holdFolders([config.stateFolder, config.cache.folder]);
  const parts = await assemble(config, log);
  const { server, hub, clock } = parts;
  server.listen(config.listen.port, config.listen.host);
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  parts.place.port = port;
  log(`agent ${config.cluster}/${config.vm} listens on ${config.listen.host}:${port}, hub ${config.url}`);
  parts.probes.start();
  const stopped = hub.run(stopping.signal).then(async (why) => {
    stop();
    log("stopping: finishing what runs");
    if (why === "asked") await hub.leave(config.stopGraceMs + WIND_UP_MS_MAX);
    await wind(parts, config.stopGraceMs);
    release();
    log(`stopped; the hub's clock was ${Math.round(clock.offsetMs())} ms ahead of this machine's`);
    return why;
  });
  return { host: config.listen.host, port, stopped, stop };
}

/** Everything made and joined; nothing listens or calls yet. */
async function assemble(config: AgentConfig, log: Log) {
  const { cluster, vm, tasks } = config;
  const clock = new HubClock();
  const nowMs = () => clock.localMs();
  const capacity = await readCapacity(config);
  const link = new Link({ ...config, clock });
  const place = { port: config.listen.port };
  const declared = (task: string): HeartbeatAnswer["tasks"][string] | undefined => hub.answer?.tasks[task];

  const spool = await ExecutionSpool.open(config.stateFolder, (records) => sendExecutions(link, records, log), log);
  const reports = createReports(link, log, (results) => commands.told(results));
  const held = await openObjects(config, clock, reports, log);
  const { cache, containers, store, prepared, objects } = held;
  const reaper = startReaper();
  const idle = new IdleNotes();
  const pool = createPool(config, { ...held, reaper, log, place, clock, idle, nowMs, declared, capacity });
  const timeoutMs = (task: string) => declared(task)?.timeoutMs ?? TIMEOUT_MS_DEFAULT;
  const record = (execution: Parameters<typeof spool.add>[0]) => spool.add(execution);
  const invoker = new Invoker({ cluster, vm, tasks, clock, pool, objects, prepared, timeoutMs, record });
  const commands: Commands = new Commands({
    tasks,
    clock,
    objects: store,
    pool,
    prepared,
    execute: (command) => execute(invoker, command),
    declaredDraining: () => hub.answer?.draining ?? false,
    drain: () => drain(config, pool, invoker),
    report: (item) => reports.add({ list: "results", item }),
    log,
  });
  const services = () => hub.answer?.services ?? [];
  const hosts = [...config.probes.hosts, ...config.objects.hosts];
  const probes = new Probes({ everyMs: config.probes.everyMs, hosts, services, nowMs });
  const cpuLoad = cpuMeter(config);
  const identity = { agentVersion: VERSION, instanceId: randomUUID() };
  const receive = (command: Command) => commands.receive(command);
  const socket = config.socket ? new HubSocket({ url: link.socketUrl(), key: config.key, receive, log }) : null;
  link.socket = socket;
  const hub: HubLoop = new HubLoop({
    link,
    socket,
    log,
    receive,
    undrain: () => {
      commands.drained = false;
    },
    describe: async () => ({
      ...identity,
      ...describe(config, place.port, await readCapacity(config), { pool, cache, containers, clock }),
      load: loadOf(cpuLoad(), pool, invoker),
      probes: probes.list(),
      released: idle.take(),
      ...callsOf(commands),
    }),
  });
  const server = createAgentServer({
    cluster,
    vm,
    clock,
    invoker,
    pool,
    objects,
    invokeKey: () => hub.answer?.invokeKey ?? null,
    healthy: () => ({ ok: hub.answer !== null, detail: hub.answer === null ? hub.lastError : "linked to its hub" }),
    metrics: () => prometheusText(metricsOf({ pool, cache, invoker, commands, spool, reports, clock })),
  });
  return { place, clock, spool, reports, cache, prepared, reaper, pool, invoker, commands, probes, hub, server };
}

function loadOf(cpu: number, pool: RuntimePool, invoker: Invoker): Heartbeat["load"] {
  const [memoryBytes, idleMemoryBytes] = [pool.memoryUsedBytes(), pool.memoryIdleBytes()];
  return { cpu, memoryBytes, idleMemoryBytes, executions: invoker.running() };
}

/** All of them or none: those that are not named count as lost. */
function callsOf(commands: Commands): Pick<Heartbeat, "calls"> {
  const calls = commands.calls();
  return calls.length > HEARTBEAT_CALLS_MAX ? {} : { calls };
}

/** What is loaded, and what was prepared of it. */
async function openObjects(config: AgentConfig, clock: HubClock, reports: Reports, log: Log) {
  const nowMs = () => clock.localMs();
  const { prefetchBytesPerSecond, prefetchConcurrency } = config.objects;
  const transfers = new Transfers(prefetchBytesPerSecond ?? null, prefetchConcurrency, nowMs);
  const cache = await ObjectCache.open({ ...config.cache, fetcher: createFetcher(config.objects), transfers, nowMs });
  const containers = await createContainers(config, nowMs, log);
  const store = routedObjects(cache, containers);
  const prepared = new Prepared(clock, store, {
    use: (item) => reports.add({ list: "uses", item }),
    end: (item) => reports.add({ list: "ends", item }),
    miss: (item) => reports.add({ list: "misses", item }),
  });
  cache.onEvict = (uri) => prepared.evictedObject(uri);
  const objects = new TaskObjects(store, prepared, nowMs);
  const code = new TaskCode(
    objects,
    await Bundles.open(join(config.cache.folder, "bundles"), config.cache.maxBytes, nowMs),
  );
  return { cache, containers, store, prepared, objects, code };
}

interface PoolParts extends Awaited<ReturnType<typeof openObjects>> {
  reaper: Reaper;
  log: Log;
  place: { port: number };
  capacity: Capacity;
  declared: (task: string) => HeartbeatAnswer["tasks"][string] | undefined;
  clock: HubClock;
  idle: IdleNotes;
  nowMs: () => number;
}

function createPool(config: AgentConfig, parts: PoolParts): RuntimePool {
  const { tasks } = config;
  const { containers, prepared, objects, code, reaper, log, place, capacity, declared, clock, idle, nowMs } = parts;
  return new RuntimePool({
    tasks,
    drivers: createDrivers(tasks, containers, reaper, log),
    memoryBytes: capacity.memoryBytes,
    warmConcurrency: config.warmConcurrency ?? Math.max(1, Math.floor(capacity.cpuCores)),
    objectsUrl: () => `http://${hostOf(config.listen.host)}:${place.port}/objects`,
    keepAliveMs: (task) => declared(task)?.keepAliveMs ?? tasks[task]!.keepAliveMs,
    loadObjects: (runtime) => objects.readAll(runtime, objectsOf(tasks[runtime.task]!)),
    unpackCode: (runtime) => code.of(runtime, tasks[runtime.task]!),
    fetched: (runtime) => ({ ms: objects.waitedMs(runtime), bytes: objects.loadedBytes(runtime) }),
    onClaim: (runtime) => objects.hurry(runtime),
    onIdle: (task) => idle.note(task, clock.hubMs()),
    onEnd: (runtime, reason) => {
      prepared.endedRuntime(runtime, reason);
      if (reason === "replaced") return;
      objects.settle(runtime);
      code.release(runtime);
    },
    nowMs,
  });
}

/** The image of a container is what it needs to start like any object: prefetched, waited for and told the same way. */
function objectsOf(task: TaskConfig): string[] {
  return task.driver === "container" ? [imageUri(task.image), ...task.objects] : task.objects;
}

/** Asked for leftovers before anything is started: what is found then is nobody's. */
async function createContainers(config: AgentConfig, nowMs: () => number, log: Log): Promise<Containers | null> {
  if (config.containers === undefined) return null;
  const owner = `${config.cluster}/${config.vm}`;
  const containers = await Containers.open(config.containers.socketPath, owner, config.objects, nowMs);
  const removed = await containers.removeLeftovers();
  if (!removed.ok) log(`the container engine does not answer: ${removed.detail}`);
  else if (removed.count > 0) log(`removed ${removed.count} containers of an earlier agent`);
  return containers;
}

function describe(
  config: AgentConfig,
  port: number,
  capacity: Capacity,
  parts: { pool: RuntimePool; cache: ObjectCache; containers: Containers | null; clock: HubClock },
): Omit<
  Heartbeat,
  "agentVersion" | "instanceId" | "load" | "probes" | "released" | "calls" | "leaving" | "leavesWithinMs"
> {
  const url = config.announceUrl === "auto" ? `http://${hostOf(config.listen.host)}:${port}` : config.announceUrl;
  const { pool, cache, containers, clock } = parts;
  const uris = bounded([...(containers?.uris() ?? []), ...cache.uris(HEARTBEAT_URIS_MAX)]);
  const runtimes = pool.list().slice(0, HEARTBEAT_RUNTIMES_MAX);
  return {
    nowMs: clock.localMs(),
    ...(url === undefined ? {} : { url }),
    capacity,
    runtimes: runtimes.flatMap(({ task, state, expiresMs }) => {
      if (state === "gone") return [];
      const { version } = config.tasks[task]!;
      return [
        {
          task,
          ...(version === undefined ? {} : { version }),
          state,
          ...(Number.isFinite(expiresMs) ? { expiresMs: clock.toHubMs(expiresMs) } : {}),
        },
      ];
    }),
    cache: { bytes: cache.bytes(), maxBytes: cache.maxBytes(), uris },
    tasks: Object.entries(config.tasks).map(([task, { version, keepAliveMs }]) => ({
      task,
      ...(version === undefined ? {} : { version }),
      keepAliveMs,
    })),
  };
}

function bounded(uris: string[]): string[] {
  let chars = 0;
  return uris.slice(0, HEARTBEAT_URIS_MAX).filter((uri) => {
    chars += uri.length;
    return chars <= HEARTBEAT_URIS_CHARS_MAX;
  });
}

/** The order matters: calls end before runtimes, runtimes before the last reports, which tell of their ends. */
async function wind(parts: Parts, graceMs: number): Promise<void> {
  const { commands, probes, server, invoker, prepared, pool, cache, spool, reports, reaper } = parts;
  commands.stop();
  probes.stop();
  server.close();
  const idle = new AbortController();
  await Promise.race([invoker.untilIdle(), delay(graceMs, idle.signal)]);
  idle.abort();
  prepared.stop();
  await Promise.all([pool.stop(), cache.stop()]);
  server.closeAllConnections();
  const farewell = AbortSignal.timeout(FAREWELL_MS);
  await Promise.all([spool.flush(farewell), reports.flush(farewell)]);
  reaper.stop();
}

async function sendExecutions(link: Link, records: unknown[], log: Log): Promise<Sent> {
  const answer = await link.executions(records);
  if (!answer.ok) return { ok: false, retry: retryable(answer), detail: answer.detail };
  for (const { index, reason } of answer.answer.rejected) log(`execution ${index} of a batch was rejected: ${reason}`);
  return { ok: true };
}

/** No idle runtimes, and nothing running. Calls that still come are served: the gateway has been told, and stops soon. */
async function drain(config: AgentConfig, pool: RuntimePool, invoker: Invoker): Promise<void> {
  await Promise.all(Object.keys(config.tasks).map((task) => pool.evict(task)));
  await invoker.untilIdle();
}

/** For a URL. Tasks reach the agent on this machine, also where it listens on every address. */
function hostOf(host: string): string {
  if (host === "0.0.0.0" || host === "::") return "127.0.0.1";
  return host.includes(":") ? `[${host}]` : host;
}

// The VMs of one cluster as their agents describe them. In: heartbeats. Out: capacity, and a summary for Fleet.
// Heartbeats live in memory; SQLite holds the last one of each agent process and then one per minute, so that an evicted hub
// knows its VMs at once and a heartbeat is not a row written.

import { HEARTBEAT_STALE_MS } from "../../core/allocate.ts";
import type { Heartbeat } from "../../protocol.ts";
import type { HubConfig, VmSummary } from "./messages.ts";

/** Written to SQLite again after this long, ms. */
const STORED_EVERY_MS = 60_000;
/** A stored heartbeat of at most this age counts as fresh when the hub comes back: the next real one is seconds away, ms. */
const STORED_FRESH_MS = STORED_EVERY_MS + HEARTBEAT_STALE_MS;
/** Heartbeats of a hub, at most, per second: a hub has some hundred requests per second for everything. */
const HEARTBEATS_PER_SECOND = 100;
const HEARTBEAT_MS_MIN = 1_000;
const HEARTBEAT_MS_MAX = 5_000;
/** Earlier processes of one VM that are remembered as superseded. */
const SUPERSEDED_MAX = 8;
/** Cached objects told of one cluster, shared by its VMs: Fleet holds the summaries of a thousand clusters. */
const SUMMARY_URIS_PER_CLUSTER_MAX = 4_000;

export interface VmState {
  heartbeat: Heartbeat;
  heartbeatMs: number;
  tasks: Set<string>;
  superseded: string[];
  storedMs: number;
  /** This process's first heartbeat here; after an eviction, the hub's start. */
  sinceMs: number;
  /** Runtimes that said ready since the heartbeat, by task. */
  readySince: Map<string, number>;
}

export class Vms {
  readonly #sql: SqlStorage;
  readonly #byName = new Map<string, VmState>();

  constructor(sql: SqlStorage, nowMs: number) {
    this.#sql = sql;
    const rows = sql.exec<{ vm: string; heartbeat: string; heartbeat_ms: number; superseded: string }>(
      "SELECT vm, heartbeat, heartbeat_ms, superseded FROM vms",
    );
    for (const row of rows) {
      const heartbeatMs = nowMs - row.heartbeat_ms <= STORED_FRESH_MS ? nowMs : row.heartbeat_ms;
      const state = stateOf(JSON.parse(row.heartbeat), heartbeatMs, JSON.parse(row.superseded));
      this.#byName.set(row.vm, { ...state, storedMs: row.heartbeat_ms, sinceMs: nowMs });
    }
  }

  get(vm: string): VmState | null {
    return this.#byName.get(vm) ?? null;
  }

  /** `restarted`: another process than before speaks for the VM. `superseded`: an earlier one still does. */
  receive(vm: string, heartbeat: Heartbeat, nowMs: number): "known" | "new" | "restarted" | "superseded" {
    const before = this.#byName.get(vm);
    if (before?.superseded.includes(heartbeat.instanceId)) return "superseded";
    const isNew = before?.heartbeat.instanceId !== heartbeat.instanceId;
    const superseded = before?.superseded ?? [];
    if (before && isNew) superseded.unshift(before.heartbeat.instanceId);
    const state = stateOf(heartbeat, nowMs, superseded.slice(0, SUPERSEDED_MAX));
    state.storedMs = before?.storedMs ?? 0;
    if (before && !isNew) state.sinceMs = before.sinceMs;
    this.#byName.set(vm, state);
    if (isNew || nowMs - state.storedMs >= STORED_EVERY_MS) this.#store(vm, state, nowMs);
    if (!isNew) return "known";
    return before ? "restarted" : "new";
  }

  remove(vm: string): void {
    this.#byName.delete(vm);
    this.#sql.exec("DELETE FROM vms WHERE vm = ?", vm);
  }

  /** A runtime said ready: known before the next heartbeat tells. */
  noteWarm(vm: string, task: string | null): void {
    const state = this.#byName.get(vm);
    if (state && task !== null) state.readySince.set(task, (state.readySince.get(task) ?? 0) + 1);
  }

  /** What is free of the fresh VMs together. What the operator declared bounds what the agent says. */
  capacity(nowMs: number, config: HubConfig | null): { freeMemoryBytes: number; cpuCores: number } {
    let freeMemoryBytes = 0;
    let cpuCores = 0;
    for (const [vm, { heartbeat, heartbeatMs }] of this.#byName) {
      const declared = config?.vms[vm];
      if (nowMs - heartbeatMs > HEARTBEAT_STALE_MS || declared?.draining) continue;
      const memoryBytes = declared?.memoryBytes ?? heartbeat.capacity.memoryBytes;
      const { memoryBytes: usedBytes, idleMemoryBytes = 0 } = heartbeat.load;
      // Idle runtimes end for a start; and those that a run is to use are in its own reservation.
      freeMemoryBytes += Math.max(0, memoryBytes - usedBytes + idleMemoryBytes);
      cpuCores += declared?.cpuCores ?? heartbeat.capacity.cpuCores;
    }
    return { freeMemoryBytes, cpuCores };
  }

  /** Small clusters report every second, large ones less often, so that heartbeats alone never fill the hub. */
  get everyMs(): number {
    const everyMs = (this.#byName.size / HEARTBEATS_PER_SECOND) * 1000;
    return Math.min(HEARTBEAT_MS_MAX, Math.max(HEARTBEAT_MS_MIN, Math.ceil(everyMs)));
  }

  /** With the warm-ups that are under way: the agent's next heartbeat tells them, a run's next task may be sooner. */
  summaries(warming: { vm: string; task: string; n: number }[]): VmSummary[] {
    const urisPerVm = Math.ceil(SUMMARY_URIS_PER_CLUSTER_MAX / Math.max(1, this.#byName.size));
    const summaries = new Map([...this.#byName].map(([vm, state]) => [vm, summaryOf(vm, state, urisPerVm)]));
    for (const { vm, task, n } of warming) {
      const starting = summaries.get(vm)?.starting;
      if (starting) starting[task] = Math.max(starting[task] ?? 0, n);
    }
    return [...summaries.values()];
  }

  #store(vm: string, state: VmState, nowMs: number): void {
    state.storedMs = nowMs;
    // The cache's list is by far the longest part and the first to be wrong: it is not kept.
    const heartbeat: Heartbeat = { ...state.heartbeat, cache: { ...state.heartbeat.cache, uris: [] } };
    this.#sql.exec(
      `INSERT INTO vms (vm, heartbeat, heartbeat_ms, superseded) VALUES (?, ?, ?, ?)
       ON CONFLICT (vm) DO UPDATE SET heartbeat = excluded.heartbeat, heartbeat_ms = excluded.heartbeat_ms,
         superseded = excluded.superseded`,
      vm,
      JSON.stringify(heartbeat),
      nowMs,
      JSON.stringify(state.superseded),
    );
  }
}

function stateOf(heartbeat: Heartbeat, heartbeatMs: number, superseded: string[]): VmState {
  const tasks = new Set(heartbeat.tasks.map(({ task }) => task));
  return { heartbeat, heartbeatMs, tasks, superseded, storedMs: 0, sinceMs: heartbeatMs, readySince: new Map() };
}

function summaryOf(vm: string, state: VmState, urisMax: number): VmSummary {
  const { heartbeat } = state;
  const warm: Record<string, number> = Object.fromEntries(state.readySince);
  const warmUntilMs: Record<string, number> = {};
  const starting: Record<string, number> = {};
  for (const runtime of heartbeat.runtimes) {
    if (runtime.state === "ready") {
      warm[runtime.task] = (warm[runtime.task] ?? 0) + 1;
      // One that became ready since then lives longer than can be told here.
      if (runtime.expiresMs !== undefined && !state.readySince.has(runtime.task)) {
        warmUntilMs[runtime.task] = Math.max(warmUntilMs[runtime.task] ?? 0, runtime.expiresMs);
      }
    }
    if (runtime.state === "starting") starting[runtime.task] = (starting[runtime.task] ?? 0) + 1;
  }
  return {
    vm,
    announcedUrl: heartbeat.url ?? null,
    cpuCores: heartbeat.capacity.cpuCores,
    memoryBytes: heartbeat.capacity.memoryBytes,
    lastHeartbeatMs: state.heartbeatMs,
    cpuLoad: heartbeat.load.cpu,
    memoryUsedBytes: heartbeat.load.memoryBytes,
    memoryIdleBytes: heartbeat.load.idleMemoryBytes ?? 0,
    executions: heartbeat.load.executions,
    tasks: [...state.tasks],
    warm,
    warmUntilMs,
    starting,
    uris: heartbeat.cache.uris.slice(0, urisMax),
    probes: (heartbeat.probes ?? []).map((probe) => ({
      service: probe.service,
      latencyMs: probe.latencyMs,
      bandwidthBytesPerSecond: probe.bandwidthBytesPerSecond ?? null,
    })),
  };
}

// A workspace of its own for each test: keys straight into D1, then everything by the API, as callers and agents do it.

import { applyD1Migrations, type D1Migration, runDurableObjectAlarm } from "cloudflare:test";
import { env, exports } from "cloudflare:workers";
import { afterEach, beforeEach, expect, vi } from "vitest";
import type { Offer } from "../../src/core/pipeline.ts";
import type { PlannedCommand } from "../../src/core/planned.ts";
import type { ClusterHub } from "../../src/edge/cluster-hub.ts";
import type { Env } from "../../src/edge/env.ts";
import { newKey } from "../../src/edge/key-format.ts";
import { modelFor } from "../../src/edge/model-cache.ts";
import type { Heartbeat, Scope } from "../../src/protocol.ts";

export const testEnv = env as unknown as Env & { MIGRATIONS: D1Migration[] };
const main = (exports as unknown as { default: Fetcher }).default;

let workspaces = 0;
/** Above the time after which a whole run is sealed, ms. */
const SEALED_AFTER_MS = 6_000;

interface Answer {
  status: number;
  headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of any shape
  body: any;
}

export interface World {
  workspace: string;
  admin: string;
  key(scopes: Scope[], cluster?: string, vm?: string): Promise<string>;
  call(
    method: string,
    path: string,
    body?: unknown,
    key?: string | null,
    headers?: Record<string, string>,
  ): Promise<Answer>;
  heartbeat(cluster: string, vm: string, tasks: string[], changes?: Partial<Heartbeat>): Promise<Answer>;
  hub(cluster: string): DurableObjectStub<ClusterHub>;
  /** Whole runs: sealed, learned, and the model of them in this isolate. */
  learn(executions: object[]): Promise<void>;
}

export async function newWorld(): Promise<World> {
  await applyD1Migrations(testEnv.DB, testEnv.MIGRATIONS);
  const workspace = `w${++workspaces}-${crypto.randomUUID().slice(0, 8)}`;
  const key = async (scopes: Scope[], cluster: string | null = null, vm: string | null = null) => {
    const made = await newKey();
    await testEnv.DB.prepare(
      `INSERT INTO keys (key_id, workspace, name, scopes, cluster, vm, secret_sha256, created_ms)
       VALUES (?1, ?2, 'test', ?3, ?4, ?5, ?6, 0)`,
    )
      .bind(made.keyId, workspace, JSON.stringify(scopes), cluster, vm, made.secretSha256)
      .run();
    return made.key;
  };
  const admin = await key(["admin"]);
  const call: World["call"] = async (method, path, body, callKey = admin, headers = {}) => {
    const response = await main.fetch(`https://forechain.test${path}`, {
      method,
      headers: {
        ...(callKey === null ? {} : { authorization: `Bearer ${callKey}` }),
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    const isJson = /json/.test(response.headers.get("content-type") ?? "");
    return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : text };
  };
  return {
    workspace,
    admin,
    key,
    call,
    heartbeat: (cluster, vm, tasks, changes = {}) =>
      call("POST", `/v1/agents/${cluster}/${vm}/heartbeat`, { ...heartbeatOf(tasks), ...changes }),
    hub: (cluster) => testEnv.CLUSTER_HUB.getByName(`${workspace}/${cluster}`),
    async learn(executions) {
      const taken = await call("POST", "/v1/executions", { executions });
      expect(taken).toMatchObject({ status: 202, body: { accepted: executions.length } });
      vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + SEALED_AFTER_MS });
      await runDurableObjectAlarm(testEnv.GRAPH_WRITER.getByName(workspace));
      vi.useRealTimers();
      expect(await modelFor(testEnv.GRAPH_WRITER, workspace, 5_000)).not.toBeNull();
    },
  };
}

export const GIB = 2 ** 30;

export function heartbeatOf(tasks: string[]): Heartbeat {
  return {
    agentVersion: "test",
    nowMs: Date.now(),
    instanceId: "first",
    capacity: { cpuCores: 4, memoryBytes: 4 * GIB, diskBytes: GIB, diskFreeBytes: GIB },
    load: { cpu: 0, memoryBytes: 0, executions: 0 },
    runtimes: [],
    cache: { bytes: 0, maxBytes: GIB, uris: [] },
    tasks: tasks.map((task) => ({ task })),
  };
}

let offersMade = 0;

/** An offer of task a on vm-1 of paris with these commands; its ids are new each time. */
export function offerOf(commands: PlannedCommand[], changes: Partial<Offer> = {}): Offer {
  const id = `allocation-${++offersMade}`;
  return {
    allocationId: id,
    runId: `run of ${id}`,
    executionId: `execution of ${id}`,
    task: "a",
    cluster: "paris",
    vm: "vm-1",
    reservation: { memoryBytes: 0, cpuCores: 0, expiresMs: Date.now() + 60_000 },
    commands,
    acted: true,
    chain: ["a"],
    vms: {},
    hidden: {},
    expectedTerms: null,
    start: { coldStartMs: 0, latencySensitivity: 1, memoryBytes: 0 },
    ...changes,
  };
}

let commandsMade = 0;

/** A command to prepare task b on vm-1 now; its id is new each time. */
export function commandOf(changes: Partial<PlannedCommand> = {}): PlannedCommand {
  const nowMs = Date.now();
  return {
    commandId: `command-${++commandsMade}`,
    key: "warm b@",
    vm: "vm-1",
    kind: "warm",
    task: "b",
    version: null,
    uri: null,
    bytes: null,
    probability: 0.9,
    savedMs: 100,
    notBeforeMs: nowMs,
    deadlineMs: nowMs + 1_000,
    expiresMs: nowMs + 60_000,
    ...changes,
  };
}

/** Date.now runs ahead of the real clock by `aheadMs` in every test of the file that calls this, at first by nothing. */
export function clockAhead(): { aheadMs: number } {
  const clock = { aheadMs: 0 };
  beforeEach(() => {
    clock.aheadMs = 0;
    const now = Date.now.bind(Date);
    vi.spyOn(Date, "now").mockImplementation(() => now() + clock.aheadMs);
  });
  afterEach(() => {
    vi.restoreAllMocks();
  });
  return clock;
}

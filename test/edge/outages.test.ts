// Invariant 6: each part of ours fails in turn, in the ways that parts fail, in a warm and in a cold isolate; a request that a
// VM would have taken without Forechain is taken. The agents are played by a `fetch`; everything else is real.

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { WasmEngine } from "../../src/core/engine.ts";
import { FleetIndex } from "../../src/core/fleet.ts";
import { ClusterHub } from "../../src/edge/cluster-hub.ts";
import { Fleet } from "../../src/edge/fleet.ts";
import { forgetFleetView } from "../../src/edge/fleet-cache.ts";
import { GraphWriter } from "../../src/edge/graph-writer.ts";
import { GIB, newWorld, testEnv, type World } from "./world.ts";

const MIB = 2 ** 20;

let world: World;

beforeEach(async () => {
  world = await newWorld();
  vi.spyOn(globalThis, "fetch").mockImplementation(async (input, init) => {
    const { hostname } = new URL(new Request(input as RequestInfo, init as RequestInit).url);
    if (!hostname.endsWith(".agents.test") || hostname.startsWith("gone")) throw new Error("Network connection lost.");
    return new Response(hostname, { headers: { "forechain-cold-start-ms": "0" } });
  });
  vi.spyOn(console, "warn").mockImplementation(() => undefined);
  vi.spyOn(console, "error").mockImplementation(() => undefined);
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

/** One VM whose URL the operator declared, one whose own word counts because its host is approved. */
async function fleet(): Promise<void> {
  const vm = { cpuCores: 4, memoryBytes: 4 * GIB };
  await world.call("PUT", "/v1/clusters/paris", { vms: [{ vm: "vm", url: "http://paris.agents.test", ...vm }] });
  await world.call("PUT", "/v1/clusters/rome", { approvedHosts: ["*.agents.test"], vms: [] });
  await world.heartbeat("paris", "vm", ["a"]);
  await world.heartbeat("rome", "vm", ["b"], { url: "http://rome.agents.test" });
  await vi.waitFor(async () => {
    const { results } = await testEnv.DB.prepare("SELECT cluster FROM known_vms WHERE workspace = ?1 ORDER BY cluster")
      .bind(world.workspace)
      .all();
    expect(results).toEqual([{ cluster: "paris" }, { cluster: "rome" }]);
  });
}

/** Twenty sealed runs a → b, half a second apart, and a published model of them in this isolate. */
async function learned(): Promise<void> {
  const startMs = Date.now() - 60_000;
  const once = { status: "ok", memoryBytes: 64 * MIB, coldStartMs: 400 };
  const executions = Array.from({ length: 20 }, (_, run) => {
    const runId = `r${run}`;
    return [
      { ...once, runId, executionId: `${run}a`, task: "a", startMs, endMs: startMs + 10 },
      {
        ...once,
        runId,
        executionId: `${run}b`,
        parentId: `${run}a`,
        task: "b",
        startMs: startMs + 500,
        endMs: startMs + 900,
      },
    ];
  });
  await world.learn(executions.flat());
}

const down = () => {
  throw new Error("Internal error in Durable Object storage caused object to be reset.");
};
const corrupt = async () => ({
  version: 99,
  image: new Uint8Array(64),
  tasks: ["a"],
  profiles: "[]",
  adjustments: "{}",
});
const hanging = () => new Promise<never>(() => undefined);

const FAILURES: { part: string; fail: () => void }[] = [
  { part: "Fleet down", fail: () => vi.spyOn(Fleet.prototype, "view").mockImplementation(down) },
  { part: "Fleet hanging", fail: () => vi.spyOn(Fleet.prototype, "view").mockImplementation(hanging) },
  { part: "hubs down", fail: () => hubs(down) },
  { part: "hubs hanging", fail: () => hubs(hanging) },
  {
    part: "GraphWriter down",
    fail: () => {
      vi.spyOn(GraphWriter.prototype, "publishedVersion").mockImplementation(down);
      vi.spyOn(GraphWriter.prototype, "bundle").mockImplementation(down);
    },
  },
  {
    part: "GraphWriter hanging",
    fail: () => vi.spyOn(GraphWriter.prototype, "publishedVersion").mockImplementation(hanging),
  },
  {
    part: "the engine trapped",
    fail: () => {
      vi.spyOn(WasmEngine.prototype, "reach").mockImplementation(down);
      vi.spyOn(WasmEngine.prototype, "next").mockImplementation(down);
    },
  },
  {
    part: "the model's image corrupt",
    fail: () => vi.spyOn(GraphWriter.prototype, "bundle").mockImplementation(corrupt),
  },
  {
    part: "placement and plan broken",
    fail: () => vi.spyOn(FleetIndex.prototype, "statesOf").mockImplementation(down),
  },
  {
    part: "Fleet, hubs and GraphWriter down",
    fail: () => {
      vi.spyOn(Fleet.prototype, "view").mockImplementation(down);
      vi.spyOn(GraphWriter.prototype, "publishedVersion").mockImplementation(down);
      hubs(down);
    },
  },
];

function hubs(way: () => never | Promise<never>): void {
  for (const method of ["admit", "ping", "summary", "release"] as const)
    vi.spyOn(ClusterHub.prototype, method).mockImplementation(way as never);
}

describe.each(FAILURES)("$part", ({ fail }) => {
  test.each(["warm", "cold"])("in a %s isolate: invoked, allocated", async (isolate) => {
    await fleet();
    await learned();
    expect(await world.call("GET", "/v1/invoke/a")).toMatchObject({ status: 200, body: "paris.agents.test" });
    if (isolate === "cold") forgetFleetView(world.workspace);
    fail();
    expect(await world.call("GET", "/v1/invoke/a")).toMatchObject({ status: 200, body: "paris.agents.test" });
    expect(await world.call("GET", "/v1/invoke/b")).toMatchObject({ status: 200, body: "rome.agents.test" });
    const allocated = await world.call("POST", "/v1/allocations", { task: "b", runId: "r" });
    expect(allocated).toMatchObject({ status: 200, body: { cluster: "rome", url: "http://rome.agents.test" } });
  });
});

test("a budget that is spent costs the preparations, not the call", async () => {
  await fleet();
  await learned();
  await world.call("PUT", "/v1/clusters/rome", { vms: [], draining: true });
  await world.heartbeat("paris", "vm", ["a", "b"], { instanceId: "second" });
  await world.call("PUT", "/v1/policy", { mode: "active", budgets: { inFlightCommands: 0 } });
  const allocated = await world.call("POST", "/v1/allocations", { task: "a", runId: "r" });
  expect(allocated).toMatchObject({ status: 200, body: { cluster: "paris", plan: [] } });
  expect(allocated.body.skipped).toEqual([
    expect.objectContaining({ task: "b", reason: expect.stringContaining("budget of 0 commands in flight") }),
  ]);
  expect(await world.call("GET", "/v1/invoke/a")).toMatchObject({ status: 200, body: "paris.agents.test" });
});

describe("agents of whom nothing has been heard for a minute", () => {
  beforeEach(async () => {
    await fleet();
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 60_000 });
    forgetFleetView(world.workspace);
  });

  test("are not asked while their hub is there", async () => {
    const answer = await world.call("GET", "/v1/invoke/a");
    expect(answer).toMatchObject({ status: 503, body: { title: "No suitable cluster" } });
    expect(answer.body.refused).toContainEqual({
      cluster: "paris",
      reason: expect.stringContaining("silent for 60 s"),
    });
  });

  test.each([
    ["down", down],
    ["hanging", hanging],
  ])("are asked while their hub is %s", async (_, way) => {
    hubs(way);
    expect(await world.call("GET", "/v1/invoke/a")).toMatchObject({ status: 200, body: "paris.agents.test" });
    const allocated = await world.call("POST", "/v1/allocations", { task: "b", runId: "r" });
    expect(allocated).toMatchObject({ status: 200, body: { cluster: "rome" } });
  });
});

test("a view of an hour ago still finds the VMs while Fleet is down", async () => {
  await fleet();
  expect(await world.call("GET", "/v1/invoke/a")).toMatchObject({ status: 200 });
  vi.spyOn(Fleet.prototype, "view").mockImplementation(down);
  hubs(down);
  for (const hours of [1, 2]) {
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + hours * 3_600_000 });
    expect(await world.call("GET", "/v1/invoke/a")).toMatchObject({ status: 200, body: "paris.agents.test" });
  }
});

test("nothing is suitable and Fleet cannot be told to wait: the same 503", async () => {
  await fleet();
  await world.call("PUT", "/v1/tasks/c", {});
  expect(await world.call("POST", "/v1/allocations", { task: "c", runId: "r" })).toMatchObject({ status: 503 });
  vi.spyOn(Fleet.prototype, "pend").mockImplementation(down);
  expect(await world.call("POST", "/v1/allocations", { task: "c", runId: "r" })).toMatchObject({ status: 503 });
});

test("VMs that come and go are remembered, one row per cluster; a cluster that is forgotten is too", async () => {
  await fleet();
  await world.heartbeat("paris", "vm-2", ["a", "c"]);
  const rows = async () => {
    const { results } = await testEnv.DB.prepare(
      "SELECT cluster, vms FROM known_vms WHERE workspace = ?1 ORDER BY cluster",
    )
      .bind(world.workspace)
      .all<{ cluster: string; vms: string }>();
    return results.map(({ cluster, vms }) => ({ cluster, ...JSON.parse(vms) }));
  };
  await vi.waitFor(
    async () =>
      expect(await rows()).toMatchObject([
        { cluster: "paris", taskLists: [["a"], ["a", "c"]], vms: [{ vm: "vm" }, { vm: "vm-2", taskList: 1 }] },
        { cluster: "rome", taskLists: [["b"]], vms: [{ vm: "vm", announcedUrl: "http://rome.agents.test" }] },
      ]),
    { timeout: 5_000 },
  );
  await world.call("DELETE", "/v1/clusters/paris");
  expect(await rows()).toMatchObject([{ cluster: "rome" }]);
});

describe("D1 down", () => {
  const breakD1 = () => vi.spyOn(testEnv.DB, "prepare").mockImplementation(down);

  test("a key that was checked is believed for ten minutes more, a new one is not", async () => {
    await fleet();
    expect(await world.call("GET", "/v1/invoke/a")).toMatchObject({ status: 200 });
    const other = await world.key(["invoke"]);
    breakD1();
    vi.useFakeTimers({ toFake: ["Date", "performance"], now: Date.now() + 120_000 });
    await world.heartbeat("paris", "vm", ["a"], { instanceId: "second" });
    forgetFleetView(world.workspace);
    expect((await world.call("GET", "/v1/invoke/a", undefined, other)).status).toBe(500);
    expect(await world.call("GET", "/v1/invoke/a")).toMatchObject({ status: 200 });
  });
});

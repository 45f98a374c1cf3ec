// Names with ids in them. The graph learns `order-*`; callers say `order-<uuid>`, agents what their configuration says: each is
// understood, and the agent hears the name that it knows.
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { COLD_START_HEADER } from "../../src/protocol.ts";
import { GIB, newWorld, type World } from "./world.ts";

const ID_A = "550e8400-e29b-41d4-a716-446655440000";
const ID_B = "9f8e7d6c-5b4a-4392-8170-6f5e4d3c2b1a";

let world: World;
let called: string[];

beforeEach(async () => {
  world = await newWorld();
  called = [];
  vi.spyOn(globalThis, "fetch").mockImplementation(async (input) => {
    const { hostname, pathname } = new URL(input as string);
    called.push(`${hostname.split(".")[0]} ${decodeURIComponent(pathname)}`);
    return new Response("", { headers: { [COLD_START_HEADER]: "0" } });
  });
});
afterEach(() => vi.restoreAllMocks());

async function cluster(name: string, tasks: string[]): Promise<void> {
  await world.call("PUT", `/v1/clusters/${name}`, {
    vms: [{ vm: "vm", url: `http://${name}.test`, cpuCores: 4, memoryBytes: 4 * GIB }],
  });
  await world.heartbeat(name, "vm", tasks);
}

/** Twenty runs first → second, half a second apart, as their tasks name themselves in run i. */
async function learn(first: (i: number) => string, second: (i: number) => string): Promise<void> {
  const startMs = Date.now() - 60_000;
  const once = { status: "ok", memoryBytes: 2 ** 26, coldStartMs: 400 };
  const runs = Array.from({ length: 20 }, (_, i) => [
    { ...once, runId: `r${i}`, executionId: `${i}a`, task: first(i), startMs, endMs: startMs + 10 },
    {
      ...once,
      runId: `r${i}`,
      executionId: `${i}b`,
      parentId: `${i}a`,
      task: second(i),
      startMs: startMs + 500,
      endMs: startMs + 900,
    },
  ]);
  await world.learn(runs.flat());
}

const uuid = (i: number) => `${i.toString(16).padStart(8, "0")}-e29b-41d4-a716-446655440000`;

describe("a prediction", () => {
  beforeEach(() =>
    learn(
      (i) => `order-${uuid(i)}`,
      (i) => `items/${i + 1}/ship`,
    ),
  );

  test.each([
    ["uuid", { task: `order-${ID_A}` }, "items/*/ship"],
    ["the learned name", { task: "order-*" }, "items/*/ship"],
    ["the path holds an id", { task: "items/77/ship", path: [`order-${ID_B}`] }, null],
  ])("%s", async (_, ask, next) => {
    const { status, body } = await world.call("POST", "/v1/predictions", ask);
    expect(status).toBe(200);
    expect(body.next[0]).toMatchObject({ task: next });
    expect(body.next[0].probability).toBeGreaterThan(0.9);
  });

  test("a name that is learned nowhere is unknown", async () => {
    expect((await world.call("POST", "/v1/predictions", { task: `other-${ID_A}` })).status).toBe(404);
  });
});

test("a task whose own name holds digits: called, predicted and prepared by the name that its agent knows", async () => {
  await learn(
    () => "etl-20240115",
    () => "load-20240116",
  );
  await cluster("paris", ["etl-20240115", "load-20240116"]);
  await world.call("PUT", "/v1/policy", { mode: "active" });
  await world.call("PUT", "/v1/tasks/load-20240116", { version: "v7" });
  const allocated = await world.call("POST", "/v1/allocations", { task: "etl-20240115", runId: "r" });
  expect(allocated).toMatchObject({
    status: 200,
    body: { chain: ["etl-*", "load-*"], plan: [{ kind: "warm", task: "load-*" }] },
  });
  const { body } = await world.call("GET", "/v1/agents/paris/vm/commands");
  expect(body.commands).toMatchObject([{ kind: "warm", task: "load-20240116", version: "v7" }]);
  const answer = await world.call("POST", "/v1/invoke/etl-20240115/x", {});
  expect(answer.status).toBe(200);
  expect(called).toEqual(["paris /invoke/etl-20240115/x"]);
  const next = await world.call("POST", "/v1/invoke/load-20240116", {}, undefined, {
    "forechain-continuation": answer.headers.get("forechain-continuation")!,
  });
  expect(next.status).toBe(200);
  expect(called[1]).toBe("paris /invoke/load-20240116");
});

test("an agent that names its task with the star takes every id", async () => {
  await cluster("paris", ["order-*"]);
  expect((await world.call("POST", `/v1/invoke/order-${ID_A}/x`, {})).status).toBe(200);
  expect(called).toEqual(["paris /invoke/order-*/x"]);
});

test("tasks that are learned alike are not taken for each other", async () => {
  await learn(
    () => "job-10001",
    () => "done",
  );
  await cluster("paris", ["job-10001", "done"]);
  await cluster("rome", ["job-10002", "done"]);
  for (const [task, where] of [
    ["job-10001", "paris"],
    ["job-10002", "rome"],
  ]) {
    expect((await world.call("POST", `/v1/invoke/${task}`, {})).status).toBe(200);
    expect(called.at(-1)).toBe(`${where} /invoke/${task}`);
    const allocated = await world.call("POST", "/v1/allocations", { task, runId: `r ${task}`, dryRun: true });
    expect(allocated).toMatchObject({ status: 200, body: { cluster: where, chain: [task, "done"] } });
  }
  expect((await world.call("POST", "/v1/invoke/job-10003", {})).status).toBe(404);
});

test("one task of the fleet does not stand for another that is learned alike", async () => {
  await cluster("paris", ["etl-20240115"]);
  expect((await world.call("POST", "/v1/invoke/etl-20240116", {})).status).toBe(404);
  expect((await world.call("POST", "/v1/allocations", { task: "etl-20240116", runId: "r" })).status).toBe(404);
});

test("a declaration is kept by the learned name and found by any that is learned alike", async () => {
  const put = await world.call("PUT", `/v1/tasks/order-${ID_A}`, { keepAliveMs: 7_000 });
  expect(put).toMatchObject({ status: 200, body: { task: "order-*", keepAliveMs: 7_000 } });
  expect((await world.call("GET", `/v1/tasks/order-${ID_B}`)).body).toMatchObject({
    task: "order-*",
    keepAliveMs: 7_000,
  });
  await world.call("PUT", "/v1/clusters/paris", { vms: [] });
  const beat = await world.heartbeat("paris", "vm", [`order-${ID_A}`, "plain"]);
  expect(beat.body.tasks).toMatchObject({ [`order-${ID_A}`]: { keepAliveMs: 7_000 } });
  expect((await world.call("DELETE", `/v1/tasks/order-${ID_B}`)).status).toBe(204);
  expect((await world.call("GET", "/v1/tasks")).body).toEqual({ tasks: [] });
});

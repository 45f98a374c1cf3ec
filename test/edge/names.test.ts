// Task and place names are somebody's text: names that objects have by nature mean nothing, and any script works everywhere.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { COLD_START_HEADER } from "../../src/protocol.ts";
import { GIB, newWorld, type World } from "./world.ts";

let world: World;
beforeEach(async () => {
  world = await newWorld();
  vi.spyOn(globalThis, "fetch").mockImplementation(
    async (input) => new Response(new URL(input as string).pathname, { headers: { [COLD_START_HEADER]: "0" } }),
  );
});
afterEach(() => vi.restoreAllMocks());

test.each(["constructor", "toString", "hasOwnProperty"])("nobody declared %s", async (name) => {
  for (const path of [`/v1/tasks/${name}`, `/v1/services/${name}`, `/v1/clusters/${name}`]) {
    expect((await world.call("GET", path)).status, path).toBe(404);
  }
  expect((await world.call("GET", `/v1/invoke/${name}`)).status).toBe(404);
});

test.each([
  "constructor",
  "__proto__",
  "toString",
  "a/b c",
  "héllo ✓ 任务",
  "<script>alert(1)</script>",
  "100%",
  "a?b#c",
])("task %s works as any other", async (task) => {
  const encoded = encodeURIComponent(task);
  await world.call("PUT", "/v1/clusters/constructor", {
    vms: [{ vm: "toString", url: "http://agent.test", cpuCores: 1, memoryBytes: GIB }],
  });
  const beat = await world.heartbeat("constructor", "toString", [task]);
  expect(beat).toMatchObject({ status: 200, body: { tasks: {} } });
  expect((await world.call("POST", "/v1/allocations", { task, runId: "r" })).body).toMatchObject({ chain: [task] });
  const answer = await world.call("POST", `/v1/invoke/${encoded}/x`, {});
  expect(answer).toMatchObject({ status: 200, body: `/invoke/${encoded}/x` });
  await world.call("PUT", `/v1/tasks/${encoded}`, { keepAliveMs: 5 });
  expect((await world.call("GET", `/v1/tasks/${encoded}`)).body).toMatchObject({ task, keepAliveMs: 5 });
  const continuation = answer.headers.get("forechain-continuation")!;
  const next = await world.call("POST", `/v1/invoke/${encoded}`, {}, undefined, {
    "forechain-continuation": continuation,
  });
  expect(next.status).toBe(200);
});

// A cluster that the operator removes stays away, although its agents go on reporting; declared again, it is back.
import { evictDurableObject } from "cloudflare:test";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Fleet } from "../../src/edge/fleet.ts";
import { forgetFleetView } from "../../src/edge/fleet-cache.ts";
import { COLD_START_HEADER } from "../../src/protocol.ts";
import { GIB, newWorld, testEnv, type World } from "./world.ts";

let world: World;
beforeEach(async () => {
  world = await newWorld();
  vi.spyOn(globalThis, "fetch").mockImplementation(
    async () => new Response("ok", { headers: { [COLD_START_HEADER]: "0" } }),
  );
});
afterEach(() => vi.restoreAllMocks());

const DECLARATION = { vms: [{ vm: "vm", url: "http://paris.test", cpuCores: 4, memoryBytes: 4 * GIB }] };
const invoke = async () => {
  forgetFleetView(world.workspace);
  return (await world.call("GET", "/v1/invoke/a")).status;
};
const beat = async (instanceId: string) => (await world.heartbeat("paris", "vm", ["a"], { instanceId })).body.draining;

test("its agents are drained and get no call, also after a restart of Fleet; a declaration brings it back", async () => {
  await world.call("PUT", "/v1/clusters/paris", DECLARATION);
  expect(await beat("first")).toBe(false);
  expect(await invoke()).toBe(200);

  expect((await world.call("DELETE", "/v1/clusters/paris")).status).toBe(204);
  expect(await beat("first")).toBe(true);
  expect(await invoke()).toBe(404);
  expect(await beat("restarted")).toBe(true);
  expect(await invoke()).toBe(404);
  expect((await world.call("GET", "/v1/clusters/paris")).status).toBe(404);
  expect((await world.call("GET", "/v1/clusters/never-there/commands")).status).toBe(404);
  expect((await world.call("DELETE", "/v1/clusters/paris")).status).toBe(404);

  const away = vi.spyOn(Fleet.prototype, "view").mockRejectedValue(new Error("down"));
  expect(await invoke()).toBe(404); // of what D1 remembers
  away.mockRestore();

  await evictDurableObject(testEnv.FLEET.getByName(world.workspace));
  expect(await beat("restarted again")).toBe(true);
  expect(await invoke()).toBe(404);

  await world.call("PUT", "/v1/clusters/paris", DECLARATION);
  expect(await beat("restarted again")).toBe(false);
  await vi.waitFor(async () => expect(await invoke()).toBe(200), { timeout: 5_000 });
});

test("one that only agents spoke of can be removed too", async () => {
  expect(await beat("first")).toBe(false);
  expect((await world.call("DELETE", "/v1/clusters/paris")).status).toBe(204);
  expect(await beat("second")).toBe(true);
  expect(await invoke()).toBe(404);
  expect((await world.call("GET", "/v1/clusters")).body.clusters).toEqual([]);
});

test("one that nobody knows is 404", async () => {
  expect((await world.call("DELETE", "/v1/clusters/nowhere")).status).toBe(404);
});

// Calls through a hub's queue whose agent says nothing more, or does not know of them: what it never had goes to another VM, the
// rest is told to its caller, and nothing runs twice.
import { runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { beforeEach, describe, expect, test, vi } from "vitest";
import type { Command, Heartbeat } from "../../src/protocol.ts";
import { clockAhead, commandOf, newWorld, offerOf, type World } from "./world.ts";

const CLUSTER = "paris";
const clock = clockAhead();
let world: World;

beforeEach(async () => {
  world = await newWorld();
  // Longer than any silence that is waited for.
  await world.call("PUT", "/v1/tasks/a", { timeoutMs: 600_000 });
  await world.heartbeat(CLUSTER, "vm-1", ["a", "b"]);
});

const heard = (vm: string, changes: Partial<Heartbeat> = {}) => world.heartbeat(CLUSTER, vm, ["a", "b"], changes);
const invoke = () => world.call("GET", "/v1/invoke/a");
const poll = async (vm: string): Promise<Command[]> =>
  (await world.hub(CLUSTER).commands(world.workspace, CLUSTER, vm, 2_000, 16)).commands;
const states = async () => (await world.call("GET", `/v1/clusters/${CLUSTER}/commands`)).body;
const isQueued = () => vi.waitFor(async () => expect(await states()).toMatchObject({ states: { queued: 1 } }));
const alarmAtMs = () => runInDurableObject(world.hub(CLUSTER), (_, { storage }) => storage.getAlarm());
async function answer(vm: string, { commandId, leaseId }: Command, body: string) {
  const response = { status: 200, headers: {}, body: btoa(body) };
  const results = [{ commandId, leaseId, state: "done" as const, response }];
  const report = { results, uses: [], ends: [], misses: [] };
  return world.hub(CLUSTER).report(world.workspace, CLUSTER, vm, report);
}
/** Time goes on, and the hub looks. */
async function later(ms: number): Promise<void> {
  clock.aheadMs += ms;
  await runDurableObjectAlarm(world.hub(CLUSTER));
}

describe("a silent agent's call", () => {
  test("goes to another VM where it was never sent, once", async () => {
    const call = invoke();
    await isQueued();
    // Set when it was queued: the time at which the agent counts as silent, not the call's own limit.
    expect((await alarmAtMs())! - Date.now()).toBeLessThanOrEqual(15_001);
    await later(10_000);
    await heard("vm-2");
    expect(await states()).toMatchObject({ states: { queued: 1 } });
    await later(5_500);
    const [command] = await poll("vm-2");
    expect(command).toMatchObject({ kind: "execute", task: "a" });
    await answer("vm-2", command!, "elsewhere");
    expect(await call).toMatchObject({ status: 200, body: "elsewhere" });
    await heard("vm-1");
    expect(await states()).toMatchObject({ states: { cancelled: 1, done: 1 } });
  });

  test("is refused with its reason where no other VM has the task", async () => {
    const call = invoke();
    await isQueued();
    await later(15_500);
    expect(await call).toMatchObject({ status: 503, body: { detail: expect.stringContaining("its agent is silent") } });
  });

  test("is lost after a minute where it was sent, and no other VM gets it", async () => {
    const call = invoke();
    const [command] = await poll("vm-1");
    await later(50_000);
    await heard("vm-2");
    expect(await states()).toMatchObject({ states: { leased: 1 } });
    await later(10_500);
    const detail = expect.stringMatching(/its agent has been silent for 60 s.*may or may not have run/);
    expect(await call).toMatchObject({ status: 502, body: { title: "Connection lost", detail } });
    expect(await answer("vm-1", command!, "late")).toMatchObject({ refused: [{ reason: "settled before" }] });
    expect(await states()).toMatchObject({ states: { failed: 1 } });
  });

  test("waits on where the agent is heard again in time", async () => {
    const call = invoke();
    await isQueued();
    await later(10_000);
    await heard("vm-1");
    await later(10_000);
    const [command] = await poll("vm-1");
    await later(10_000);
    await heard("vm-1");
    await later(55_000);
    await answer("vm-1", command!, "after all");
    expect(await call).toMatchObject({ status: 200, body: "after all" });
  });
});

describe("a call that was given to an agent", () => {
  /** Heartbeats at these times after it was given; whether the call is ended by the last of them. */
  test.each<[string, { atMs: number; changes: Partial<Heartbeat> }[], boolean]>([
    ["is lost when its agent says twice that it has none", [at(5_100, none()), at(6_100, none())], true],
    ["may be on its way at first", [at(1_000, none()), at(5_900, none())], false],
    ["may have come between a heartbeat and the next", [at(6_100, none())], false],
    ["goes on where the agent names it", [at(6_000, none()), at(7_000, { calls: ["THE CALL"] })], false],
    ["goes on where the agent is of a version that does not tell", [at(6_000, {}), at(7_000, {})], false],
    [
      "goes on where a heartbeat comes late",
      [at(6_000, none()), at(7_000, { calls: [], nowMs: Date.now() - 60_000 })],
      false,
    ],
  ])("%s", async (_, heartbeats, isLost) => {
    const call = invoke();
    const [command] = await poll("vm-1");
    for (const { atMs, changes } of heartbeats) {
      clock.aheadMs = atMs;
      const calls = changes.calls?.map(() => command!.commandId);
      await heard("vm-1", { ...changes, ...(calls === undefined ? {} : { calls }) });
    }
    const told = await answer("vm-1", command!, "ran");
    expect(told.accepted).toBe(isLost ? 0 : 1);
    const detail = expect.stringContaining("its agent does not know of the call");
    expect(await call).toMatchObject(isLost ? { status: 502, body: { detail } } : { status: 200, body: "ran" });
  });

  test("is left to an agent that has signed off, though its successor does not know of it", async () => {
    const call = invoke();
    const [command] = await poll("vm-1");
    await heard("vm-1", { leaving: true });
    for (const atMs of [6_000, 12_000, 18_000]) {
      clock.aheadMs = atMs;
      await heard("vm-1", { instanceId: "second", calls: [] });
    }
    await answer("vm-1", command!, "finished");
    expect(await call).toMatchObject({ status: 200, body: "finished" });
  });
});

describe("a call of an agent that has signed off", () => {
  /** As its own agent, which has it, says that it stops. */
  async function leaving(): Promise<{ call: ReturnType<typeof invoke>; command: Command }> {
    const call = invoke();
    const [command] = await poll("vm-1");
    await heard("vm-1", { leaving: true, leavesWithinMs: 30_000, calls: [command!.commandId] });
    return { call, command: command! };
  }

  test("is lost when its grace is over", async () => {
    const { call, command } = await leaving();
    expect((await alarmAtMs())! - Date.now()).toBeLessThanOrEqual(30_000);
    await later(29_000);
    expect(await states()).toMatchObject({ states: { leased: 1 } });
    await later(1_500);
    const detail = expect.stringMatching(/its agent stopped without a word of it.*may or may not have run/);
    expect(await call).toMatchObject({ status: 502, body: { title: "Connection lost", detail } });
    expect(await answer("vm-1", command, "late")).toMatchObject({ refused: [{ reason: "settled before" }] });
  });

  test("is answered by what the agent still finishes", async () => {
    const { call, command } = await leaving();
    await later(29_000);
    await answer("vm-1", command, "finished");
    expect(await call).toMatchObject({ status: 200, body: "finished" });
  });

  test("leaves preparations that nobody began without an outcome", async () => {
    await world.hub(CLUSTER).admit(world.workspace, offerOf([commandOf()]));
    await heard("vm-1", { leaving: true, leavesWithinMs: 30_000 });
    expect(await states()).toMatchObject({ states: { cancelled: 1 } });
    expect((await world.call("GET", "/v1/outcomes")).body.totals).toEqual([]);
  });
});

test("a pause holds back preparations and no call", async () => {
  await world.call("PUT", "/v1/policy", { mode: "paused" });
  const call = invoke();
  const [command] = await poll("vm-1");
  await answer("vm-1", command!, "called");
  expect(await call).toMatchObject({ status: 200, body: "called" });
});

test("what waits for its agent does not wake the hub over and over", async () => {
  await world.hub(CLUSTER).admit(world.workspace, offerOf([commandOf()]));
  await later(100);
  expect((await alarmAtMs())! - Date.now()).toBeGreaterThan(500);
});

test("a lease wakes its hub when it runs out, however much longer its command lasts", async () => {
  const expiresMs = Date.now() + 600_000;
  await world.hub(CLUSTER).admit(world.workspace, offerOf([commandOf({ expiresMs })]));
  await poll("vm-1");
  expect((await alarmAtMs())! - Date.now()).toBeLessThanOrEqual(60_000);
  await later(60_500);
  await heard("vm-1");
  expect(await states()).toMatchObject({ states: { queued: 1 } });
});

function at(atMs: number, changes: Partial<Heartbeat>): { atMs: number; changes: Partial<Heartbeat> } {
  return { atMs, changes };
}

function none(): Partial<Heartbeat> {
  return { calls: [] };
}

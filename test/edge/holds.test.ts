// How long runtimes are held, learned at the hub from calls and releases and told to agents. Date.now is ours.
import { evictDurableObject, runDurableObjectAlarm } from "cloudflare:test";
import { beforeEach, describe, expect, test } from "vitest";
import type { Heartbeat } from "../../src/protocol.ts";
import { clockAhead, commandOf, GIB, heartbeatOf, newWorld, offerOf, type World } from "./world.ts";

const CLUSTER = "paris";
const VM = "vm-1";
const GAP_MS = 100_000;
const TASKS = ["a", "b"].map((task) => ({ task, keepAliveMs: 60_000 }));
let world: World;
const clock = clockAhead();

beforeEach(async () => {
  world = await newWorld();
  await world.call("PUT", "/v1/policy", { mode: "active" });
  await beat();
});

/** A heartbeat; its answer's keep-alive of task a. */
async function beat(released: { task: string; atMs: number }[] = []): Promise<number | null | undefined> {
  const beat: Heartbeat = { ...heartbeatOf([]), tasks: TASKS, released };
  const { status, body } = await world.call("POST", `/v1/agents/${CLUSTER}/${VM}/heartbeat`, beat);
  expect(status).toBe(200);
  return body.tasks.a?.keepAliveMs;
}

/** Task a is called and released 50 ms later, with `idleMs` before the next call; its start of 2 s is not hidden by anything. */
async function calls(count: number, idleMs: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const start = { coldStartMs: 2_000, latencySensitivity: 1, memoryBytes: GIB / 16 };
    await world.hub(CLUSTER).admit(world.workspace, offerOf([], { start }));
    clock.aheadMs += 50;
    await beat([{ task: "a", atMs: Date.now() }]);
    clock.aheadMs += idleMs;
    await beat();
  }
}

test("a task that comes back after its keep-alive is held until it does: where a start costs more than the memory", async () => {
  await calls(4, GAP_MS);
  expect(await beat()).toBeUndefined();
  await calls(50, GAP_MS);
  expect(await beat()).toBe(120_000);
  // 2 s of waiting against 100 s × 1/16 GB at the dial: dearer memory, and it is not worth it.
  await world.call("PUT", "/v1/policy", { mode: "active", msPerGbSecond: 20_000 });
  await calls(60, GAP_MS);
  expect((await beat()) ?? 0).toBeLessThanOrEqual(60_000);
});

test("what a plan hides of the start is no reason to hold its runtime", async () => {
  for (let i = 0; i < 24; i++) {
    const runId = `run-${i}`;
    const headMs = { p10: 2_000, p50: 2_000, p90: 2_000 };
    const hidden = { a: { headMs, surelyMs: 2_000 } };
    await world.hub(CLUSTER).admit(world.workspace, offerOf([], { runId, task: "b", hidden }));
    const start = { coldStartMs: 2_000, latencySensitivity: 1, memoryBytes: GIB / 16 };
    await world.hub(CLUSTER).admit(world.workspace, offerOf([], { runId, start }));
    clock.aheadMs += 50;
    await beat([{ task: "a", atMs: Date.now() }]);
    clock.aheadMs += GAP_MS;
    await beat();
  }
  // Nobody waits without it: nothing is held at all.
  expect(await beat()).toBe(0);
  // Plans are told so: what is spared is what they may spend.
  const spared = async () => (await world.hub(CLUSTER).summary(world.workspace, CLUSTER)).sparedMs;
  expect(await spared()).toEqual({ a: 60_000 });
  // Memory that the keep-alive would have cost is there for others: it has become cheaper, and stays so over an eviction.
  const price = async () => (await world.hub(CLUSTER).summary(world.workspace, CLUSTER)).msPerGbSecond!;
  const cheaper = await price();
  expect(cheaper).toBeLessThan(18);
  await runDurableObjectAlarm(world.hub(CLUSTER));
  await evictDurableObject(world.hub(CLUSTER));
  expect(await price()).toBeCloseTo(cheaper, 3);
});

test("a call that waits although a plan was to hide its start speaks for a longer hold; one that no plan named does not", async () => {
  const hidden = { a: { headMs: { p10: 2_000, p50: 2_000, p90: 2_000 }, surelyMs: 2_000 } };
  const start = { coldStartMs: 2_000, latencySensitivity: 1, memoryBytes: GIB / 16 };
  for (let i = 0; i < 24; i++) {
    await world.hub(CLUSTER).admit(world.workspace, offerOf([], { runId: `run-${i}`, task: "b", hidden }));
    await world.hub(CLUSTER).admit(world.workspace, offerOf([], { runId: `run-${i}`, start }));
    await beat([{ task: "a", atMs: Date.now() }]);
    clock.aheadMs += GAP_MS;
    await beat();
  }
  await world.hub(CLUSTER).admit(world.workspace, offerOf([], { runId: "plain", task: "b" }));
  const waiting = async () =>
    (await world.call("GET", "/v1/learning/export?model=false")).body.holds[CLUSTER].tasks.a.waiting;
  const missed = (runId: string) => {
    const miss = {
      kind: "warm" as const,
      task: "a",
      runId,
      executionId: `of ${runId}`,
      atMs: Date.now(),
      costMs: 2_000,
    };
    const report = { results: [], uses: [], ends: [], misses: [miss] };
    return world.hub(CLUSTER).report(world.workspace, CLUSTER, VM, report);
  };
  const before = await waiting();
  await missed("plain");
  await missed("nobody's");
  expect(await waiting()).toBe(before);
  await missed("run-23");
  expect(await waiting()).toBe(before + 1);
});

test("what prepared runtimes hold before their use, or in vain, counts in the price of memory, once", async () => {
  const start = { coldStartMs: 2_000, latencySensitivity: 1, memoryBytes: GIB / 16 };
  await world.hub(CLUSTER).admit(world.workspace, offerOf([], { task: "b", start }));
  const heldGbMs = async () => {
    const { body } = await world.call("GET", "/v1/learning/export?model=false");
    return body.holds[CLUSTER].price.heldGbMs as number;
  };
  const report = async (part: object) => {
    const { body } = await world.call("POST", `/v1/agents/${CLUSTER}/${VM}/results`, part);
    expect(body.refused).toEqual([]);
  };
  const warmed = async () => {
    await world.hub(CLUSTER).admit(world.workspace, offerOf([commandOf()]));
    const [command] = (await world.hub(CLUSTER).commands(world.workspace, CLUSTER, VM, 0, 16)).commands;
    const { commandId, leaseId } = command!;
    await report({ results: [{ commandId, leaseId, state: "done", readyMs: Date.now(), wholeStartMs: 100 }] });
    return commandId;
  };
  const used = await warmed();
  clock.aheadMs += 5_000;
  const use = { commandId: used, runId: "r", executionId: "e", usedMs: Date.now(), waitedMs: 0, savedMs: 100 };
  await report({ uses: [use] });
  const seconds = async () => ((await heldGbMs()) * 16) / 1_000;
  expect(await seconds()).toBeGreaterThan(4.9);
  expect(await seconds()).toBeLessThan(6);
  // Told again it is refused, and counts no more.
  expect((await world.call("POST", `/v1/agents/${CLUSTER}/${VM}/results`, { uses: [use] })).body.refused).toHaveLength(
    1,
  );
  expect(await seconds()).toBeLessThan(6);
  const wasted = await warmed();
  const end = { commandId: wasted, endedMs: Date.now() + 3_600_000, used: false, reason: "expired", bytes: 0 };
  // An agent whose clock is an hour ahead: no longer than the command let it hold.
  await report({ ends: [{ ...end, heldMs: 3_600_000, memoryBytes: 1 }] });
  expect(await seconds()).toBeGreaterThan(60);
  expect(await seconds()).toBeLessThan(70);
});

describe("is learned, and told only where it may be", () => {
  beforeEach(() => calls(50, GAP_MS));

  test("frozen it stays, whatever comes; reset it is forgotten", async () => {
    expect((await world.call("POST", "/v1/learning/freeze", { parts: ["holds"] })).status).toBe(200);
    await calls(20, 1_500);
    expect(await beat()).toBe(120_000);
    const { body } = await world.call("GET", "/v1/learning");
    expect(body.frozen).toEqual(["holds"]);
    expect(body.holds).toMatchObject([{ cluster: CLUSTER, task: "a", policy: "histogram", holdMs: 120_000 }]);
    await evictDurableObject(world.hub(CLUSTER));
    expect((await world.call("GET", "/v1/learning/export")).body.holds[CLUSTER]).toMatchObject({ frozen: true });
    expect((await world.call("POST", "/v1/learning/reset", { parts: ["holds"] })).status).toBe(200);
    expect(await beat()).toBeUndefined();
  });

  test("taken over by another workspace, but for the runtimes that are idle here", async () => {
    const exported = async () => (await world.call("GET", "/v1/learning/export?model=false")).body;
    const saved = await exported();
    expect(saved.holds[CLUSTER].tasks.a.releasesMs).toHaveLength(1);
    world = await newWorld();
    await world.call("PUT", "/v1/policy", { mode: "active" });
    expect(await beat()).toBeUndefined();
    const { body } = await world.call("POST", "/v1/learning/import", { ...saved, parts: ["holds"] });
    expect(body).toEqual({ imported: ["holds"], skipped: [] });
    expect(await beat()).toBe(120_000);
    const { holds } = await exported();
    expect(holds[CLUSTER].tasks.a).toMatchObject({ releasesMs: [], savedMs: saved.holds[CLUSTER].tasks.a.savedMs });
  });

  test("over an eviction", async () => {
    expect(await beat()).toBe(120_000);
    await runDurableObjectAlarm(world.hub(CLUSTER));
    await evictDurableObject(world.hub(CLUSTER));
    expect(await beat()).toBe(120_000);
  });

  test.each<[string, () => Promise<unknown>, number | null | undefined]>([
    ["in shadow", () => world.call("PUT", "/v1/policy", { mode: "shadow" }), undefined],
    ["in canary", () => world.call("PUT", "/v1/policy", { mode: "canary" }), undefined],
    ["never prewarmed", () => world.call("PUT", "/v1/tasks/a", { prewarm: "never" }), null],
    ["declared", () => world.call("PUT", "/v1/tasks/a", { keepAliveMs: 7 }), 7],
    ["bounded", () => world.call("PUT", "/v1/policy", { mode: "active", keepAliveMaxMs: 90_000 }), 90_000],
  ])("%s", async (_, arrange, expected) => {
    expect(await beat()).toBe(120_000);
    await arrange();
    clock.aheadMs += 2_000;
    await beat(); // a hub hears of a task's declaration with its next summary
    await expect.poll(() => beat()).toBe(expected);
  });
});

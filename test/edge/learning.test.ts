// What a workspace learns from outcomes, from the agent's report to the published profiles. Time is ours where alarms are run.
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { TaskProfile } from "../../src/core/graph.ts";
import type { Execution } from "../../src/protocol.ts";
import { commandOf, newWorld, offerOf, testEnv, type World } from "./world.ts";

const CLUSTER = "paris";
const VM = "vm-1";
const WHOLE_START_MS = 2_000;
let world: World;
let agentKey: string;
let aheadMs = 0;

beforeEach(async () => {
  aheadMs = 0;
  const now = Date.now.bind(Date);
  vi.spyOn(Date, "now").mockImplementation(() => now() + aheadMs);
  world = await newWorld();
  agentKey = await world.key(["agent"], CLUSTER, VM);
  await world.heartbeat(CLUSTER, VM, ["a", "b"]);
});
afterEach(() => {
  vi.restoreAllMocks();
});

const writer = () => testEnv.GRAPH_WRITER.getByName(world.workspace);
const report = (part: object) => world.call("POST", `/v1/agents/${CLUSTER}/${VM}/results`, part, agentKey);
/** The hub's outcomes reach D1 and the writer; then the writer's alarm seals, publishes and flushes. */
async function pass(ms: number): Promise<void> {
  expect((await world.call("GET", "/v1/outcomes")).status).toBe(200);
  aheadMs += ms;
  await runDurableObjectAlarm(writer());
}
async function profileOf(task: string): Promise<TaskProfile> {
  const { profiles } = (await writer().bundle(world.workspace))!;
  return (JSON.parse(profiles) as TaskProfile[]).find((profile) => profile.task === task)!;
}

/** Run n: a calls b, which waited `waitedMs` of its cold start. */
function executions(n: number, waitedMs: number): Execution[] {
  const startMs = Date.now() - 5_000;
  const run = { runId: `run-${n}`, status: "ok" as const };
  return [
    { ...run, executionId: `a${n}`, task: "a", startMs, endMs: startMs + 100 },
    {
      ...run,
      executionId: `b${n}`,
      parentId: `a${n}`,
      task: "b",
      startMs: startMs + 50,
      endMs: startMs + 90 + waitedMs,
      coldStartMs: waitedMs,
    },
  ];
}
const ingest = async (n: number, waitedMs: number) =>
  expect((await world.call("POST", "/v1/executions", { executions: executions(n, waitedMs) }, agentKey)).status).toBe(
    202,
  );

/** A prewarm of b that came too late by `waitedMs`. */
async function latePrewarm(n: number, waitedMs: number): Promise<void> {
  const run = { runId: `run-${n}`, executionId: `a${n}` };
  await world.hub(CLUSTER).admit(world.workspace, offerOf([commandOf()], run));
  const { commands } = await world.hub(CLUSTER).commands(world.workspace, CLUSTER, VM, 0, 16);
  const { commandId, leaseId } = commands[0]!;
  const use = { commandId, runId: `run-${n}`, executionId: `b${n}`, usedMs: Date.now(), waitedMs };
  const { body } = await report({
    results: [{ commandId, leaseId, state: "done", wholeStartMs: WHOLE_START_MS }],
    uses: [{ ...use, savedMs: WHOLE_START_MS }],
  });
  expect(body).toEqual({ accepted: 2, refused: [] });
}

test("late prewarms do not pull the learned cold start down, over restarts of the writer", async () => {
  for (let n = 0; n < 5; n++) {
    await ingest(n, WHOLE_START_MS);
    const miss = { kind: "warm", task: "b", runId: `run-${n}`, executionId: `b${n}`, atMs: Date.now() };
    await report({ misses: [{ ...miss, costMs: WHOLE_START_MS, wholeStartMs: WHOLE_START_MS }] });
  }
  await pass(6_000);
  expect((await profileOf("b")).coldStartMs!.p50).toBeGreaterThan(WHOLE_START_MS * 0.95);
  await world.heartbeat(CLUSTER, VM, ["a", "b"]);
  for (let n = 10; n < 50; n++) {
    await latePrewarm(n, 40);
    await ingest(n, 40);
    if (n === 30) await evictDurableObject(writer());
  }
  await pass(11_000);
  // What the records tell is a wait, and the graph says so; what plans are timed by is a start.
  const { body: graph } = await world.call("GET", "/v1/graph?task=b");
  expect(graph.tasks.find(({ task }: { task: string }) => task === "b").coldStartMs.p50).toBeLessThan(50);
  const published = await profileOf("b");
  expect(published.coldStartMs!.p50).toBeGreaterThan(WHOLE_START_MS * 0.95);
  expect(published.coldStartMs!.p50).toBeLessThan(WHOLE_START_MS * 1.05);
  await evictDurableObject(writer());
  await ingest(60, 40);
  await pass(11_000);
  expect((await profileOf("b")).coldStartMs).toEqual(published.coldStartMs);
});

test("an agent's misses teach no more than the executions that it recorded", async () => {
  for (let n = 0; n < 4; n++) await ingest(n, 100);
  const misses = Array.from({ length: 200 }, (_, n) => ({
    kind: "warm",
    task: "b",
    runId: `run-${n}`,
    executionId: `b${n}`,
    atMs: Date.now(),
    costMs: 1,
    wholeStartMs: 3_600_000,
  }));
  await report({ misses });
  await report({ misses });
  await pass(6_000);
  const starts = await runInDurableObject(writer(), (_, { storage }) => {
    const { bytes } = storage.sql.exec<{ bytes: ArrayBuffer }>("SELECT bytes FROM model WHERE kind = 'learned'").one();
    return JSON.parse(new TextDecoder().decode(bytes)).starts;
  });
  expect(starts).toEqual([["b", [[expect.any(String), 4]]]]);
});

test("a GraphWriter that is away costs neither outcomes nor what they teach", async () => {
  await ingest(1, 40);
  await latePrewarm(1, 40);
  vi.spyOn(console, "warn").mockImplementation(() => {});
  const failing = vi
    .spyOn((await import("../../src/edge/graph-writer.ts")).GraphWriter.prototype, "learnOutcomes")
    .mockRejectedValueOnce(new Error("away"));
  const { body } = await world.call("GET", "/v1/outcomes");
  expect(failing).toHaveBeenCalledTimes(1);
  expect(body.recent).toMatchObject([{ outcome: "late", probability: 0.9, wholeStartMs: WHOLE_START_MS }]);
  failing.mockRestore();
  expect((await world.hub(CLUSTER).summary(world.workspace, CLUSTER)).unflushedOutcomes).toBe(1);
  await pass(6_000);
  expect((await world.call("GET", "/v1/outcomes")).body.totals).toMatchObject([{ outcome: "late", count: 1 }]);
  expect((await profileOf("b")).coldStartMs!.p50).toBeGreaterThan(WHOLE_START_MS * 0.95);
});

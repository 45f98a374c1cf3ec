// What a workspace learns from outcomes, from the agent's report to the published profiles. Time is ours where alarms are run.
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { exports } from "cloudflare:workers";
import { beforeEach, describe, expect, test, vi } from "vitest";
import type { TaskProfile } from "../../src/core/graph.ts";
import { adjustmentsOf } from "../../src/core/learned.ts";
import { toBase64 } from "../../src/edge/secrets.ts";
import { type Execution, LearningAnswer } from "../../src/protocol.ts";
import { clockAhead, commandOf, newWorld, offerOf, testEnv, type World } from "./world.ts";

const CLUSTER = "paris";
const VM = "vm-1";
const WHOLE_START_MS = 2_000;
let world: World;
let agentKey: string;
const clock = clockAhead();

beforeEach(async () => {
  world = await newWorld();
  agentKey = await world.key(["agent"], CLUSTER, VM);
  await world.heartbeat(CLUSTER, VM, ["a", "b"]);
});

const writer = () => testEnv.GRAPH_WRITER.getByName(world.workspace);
const report = (part: object) => world.call("POST", `/v1/agents/${CLUSTER}/${VM}/results`, part, agentKey);
/** The hub's outcomes reach D1 and the writer; then the writer's alarm seals, publishes and flushes. */
async function pass(ms: number): Promise<void> {
  expect((await world.call("GET", "/v1/outcomes")).status).toBe(200);
  clock.aheadMs += ms;
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

/** Run n of task a, then `then`; ended just now. */
const sequence = (n: number, then: string, rest: Partial<Execution> = {}) => send(executionsOf(n, then, rest));
function executionsOf(n: number, then: string, rest: Partial<Execution> = {}): Execution[] {
  const startMs = Date.now() - 2_000;
  const run = { runId: `seq-${n}`, status: "ok" as const, cluster: CLUSTER, vm: VM, ...rest };
  const first = { ...run, executionId: `a of ${n}`, task: "a", startMs, endMs: startMs + 50 };
  const second = { ...run, executionId: `x of ${n}`, task: then, links: [first.executionId] };
  return [first, { ...second, startMs: startMs + 100, endMs: startMs + 150 }];
}
async function send(executions: Execution[]): Promise<void> {
  expect((await world.call("POST", "/v1/executions", { executions }, agentKey)).status).toBe(202);
}
const learning = async (): Promise<LearningAnswer> => {
  const { status, body } = await world.call("GET", "/v1/learning");
  expect(status).toBe(200);
  return LearningAnswer.parse(body);
};

describe("what sealed runs teach", () => {
  test("how good predictions are: scores, bins, lead times, demand; live, and by the hour in D1", async () => {
    const services = [{ service: "db", calls: 1, bytes: 1_000 }];
    const measured = { cpuMs: 10, memoryBytes: 50_000_000, services };
    for (let n = 0; n < 20; n++) await sequence(n, "b", measured);
    await pass(6_000);
    await world.heartbeat(CLUSTER, VM, ["a", "b"]);
    for (let n = 20; n < 40; n++) await sequence(n, "b", measured);
    await pass(11_000);
    const { scores, model } = await learning();
    expect(model).toMatchObject({ version: 2, tasks: 2 });
    expect(model.usedLines).toBeGreaterThan(0);
    // The last task alone tells what follows: its weight has risen from the 0.08 that all begin with.
    const { next, reach } = model.mixing;
    expect(next.views.find(({ view }) => view === "last task")!.weight).toBeGreaterThan(0.083);
    expect(next.views.find(({ view }) => view === "last 6")).toMatchObject({ evidence: 0 });
    expect(reach.mixers.map(({ mixer }) => mixer)).toEqual(["run before known", "last task", "known views", "depth"]);
    expect(scores.predictions).toBeGreaterThan(30);
    // b always follows a: confident and right in the last bin, wrong nowhere.
    expect(scores.logLoss).toBeLessThan(0.2);
    expect(scores.bins.at(-1)!.happened).toBe(1);
    expect(scores.bins.reduce((sum, { count }) => sum + count, 0)).toBe(scores.predictions);
    expect(scores.leadTimes.count).toBeGreaterThan(15);
    expect(scores.demand.runs).toBeGreaterThan(15);
    expect(scores.demand.relativeError).toBeLessThan(0.2);
    const { memory, network, duration } = scores.demand;
    for (const { runs, relativeError } of [memory, network, duration]) {
      expect(runs).toBe(scores.demand.runs);
      expect(relativeError).toBeLessThan(0.2);
    }
    // Of the chain that was expected of the runs, and of each task that was asked for.
    const groupsBy = async (what: string) => (await world.call("GET", `/v1/outcomes?groupBy=${what}`)).body.groups;
    const chains = await groupsBy("chain");
    expect(chains.find(({ chain }: { chain: string[] }) => chain.join() === "a,b").scores).toMatchObject({
      predictions: expect.any(Number),
      demand: { runs: scores.demand.runs, network: { runs: scores.demand.runs } },
    });
    const tasks = await groupsBy("task");
    expect(tasks.find(({ task }: { task: string }) => task === "a").scores.predictions).toBe(scores.predictions);
    const predictionsOf = async (query: string) =>
      (await world.call("GET", `/v1/outcomes?limit=0&${query}`)).body.scores.predictions;
    expect(await predictionsOf(`cluster=${CLUSTER}&task=a`)).toBe(scores.predictions);
    expect(await predictionsOf("cluster=elsewhere")).toBe(0);
    expect(await predictionsOf("task=b")).toBe(0);
    const [hour] = await groupsBy("hour");
    expect(hour.scores.logLoss).toBeLessThan(0.2);
    const { results } = await testEnv.DB.prepare(
      "SELECT cluster, task, predictions, log_loss, leads_known FROM calibration_hours WHERE workspace = ?1 AND task = 'a'",
    )
      .bind(world.workspace)
      .all<{ predictions: number; leads_known: number }>();
    expect(results.reduce((sum, row) => sum + row.predictions, 0)).toBeGreaterThan(15);
    expect(results[0]).toMatchObject({ cluster: CLUSTER, task: "a" });
    // Stored absolutely: the same rows after a restart, not doubled.
    await evictDurableObject(writer());
    expect((await learning()).scores).toEqual(scores);
  });

  test("a change of the workflow: told once, an alert, kept in D1 over restarts", async () => {
    for (let n = 0; n < 60; n++) {
      await sequence(n, "b");
      if (n % 15 === 14) await pass(11_000);
    }
    expect((await learning()).drift).toEqual({ alert: false, relearning: [], changes: [] });
    for (let n = 60; n < 66; n++) await sequence(n, "c");
    await pass(11_000);
    const { drift } = await learning();
    // Runs 62 to 65, of which the first told of the change, were learned with little kept of those before.
    expect(drift).toMatchObject({ alert: true, relearning: [{ root: "a", runs: 12 }], changes: [{ root: "a" }] });
    expect(drift.changes[0]!.loss).toBeGreaterThan(drift.changes[0]!.usualLoss);
    await evictDurableObject(writer());
    expect((await learning()).drift).toEqual(drift);
    const { results } = await testEnv.DB.prepare("SELECT root FROM learning_changes WHERE workspace = ?1")
      .bind(world.workspace)
      .all();
    expect(results).toEqual([{ root: "a" }]);
    const lines = (await world.call("GET", "/metrics")).body.split("\n");
    expect(lines).toContain("forechain_workflow_changes_total 1");
    expect(lines).toContain("forechain_workflow_changed 1");
    expect(lines.some((line: string) => /^forechain_prediction_log_loss 0\.\d+$/.test(line))).toBe(true);
    const stream = await (exports as unknown as { default: Fetcher }).default.fetch(
      "https://forechain.test/v1/events",
      {
        headers: { authorization: `Bearer ${world.admin}` },
      },
    );
    const reader = stream.body!.pipeThrough(new TextDecoderStream()).getReader();
    let heard = "";
    while (!heard.includes("event: change")) heard += (await reader.read()).value;
    await reader.cancel();
    expect(heard).toMatch(/"root":"a"/);
    clock.aheadMs += 3_700_000;
    expect((await learning()).drift.alert).toBe(false);
    expect((await world.call("GET", "/metrics")).body).toContain("forechain_workflow_changed 0");
  });

  test("a change within an imported log is listed with its own time, and is no alert", async () => {
    const YEAR_MS = 365 * 86_400_000;
    const nowMs = Date.now();
    // As far back as the log is long: the younger half runs c instead of b.
    for (let n = 0; n < 90; n++) {
      clock.aheadMs = n * 60_000 - YEAR_MS;
      const sent = executionsOf(n, n < 60 ? "b" : "c");
      clock.aheadMs = 0;
      await send(sent);
      if (n % 15 === 14) await pass(11_000);
    }
    await pass(11_000);
    const { drift } = await learning();
    expect(drift).toMatchObject({ alert: false, changes: [{ root: "a" }] });
    expect(drift.changes[0]!.atMs).toBeGreaterThan(nowMs - YEAR_MS + 60 * 60_000 - 10_000);
    expect(drift.changes[0]!.atMs).toBeLessThan(nowMs - YEAR_MS + 90 * 60_000);
    const lines = (await world.call("GET", "/metrics")).body.split("\n");
    expect(lines).toContain("forechain_workflow_changes_total 1");
    expect(lines).toContain("forechain_workflow_changed 0");
  });

  test("what a placement's terms came to, where the whole run was there", async () => {
    for (let n = 0; n < 20; n++) await sequence(n, "b");
    await pass(6_000);
    await world.heartbeat(CLUSTER, VM, ["a", "b"]);
    const nothing = { servicesMs: 0, transferMs: 0, coldStartMs: 0, queueMs: 0, hopsMs: 0, priceMs: 0 };
    for (let n = 100; n < 140; n++) {
      const expectedTerms = { ...nothing, servicesMs: 100 };
      await world.hub(CLUSTER).admit(world.workspace, offerOf([], { runId: `seq-${n}`, expectedTerms }));
    }
    await world.call("GET", "/v1/outcomes"); // the hub tells what it has
    for (let n = 100; n < 140; n++) {
      await sequence(n, "b", { services: [{ service: "db", calls: 2, bytes: 0, latencyMs: 100 }] });
    }
    await pass(11_000);
    const [known] = (await learning()).placement;
    expect(known).toMatchObject({ cluster: CLUSTER, observations: 40 });
    // Two executions × 2 calls × 100 ms against 100 ms expected, as far as they delay their run; a part may be the chain's own.
    expect(known!.factors.servicesMs).toBeGreaterThan(2);
    expect(known!.factors.coldStartMs).toBe(1);
    // The isolates that place have it.
    const { adjustments } = (await writer().bundle(world.workspace))!;
    expect(adjustmentsOf(adjustments).placement!.factors(CLUSTER).servicesMs).toBe(known!.factors.servicesMs);
  });

  test("an allocation whose caller executes itself is settled by the record of its execution", async () => {
    for (let n = 0; n < 3; n++) {
      const asked = { task: "a", runId: `run-${n}`, executionId: `a${n}` };
      expect((await world.call("POST", "/v1/allocations", asked)).status).toBe(200);
    }
    await expect.poll(async () => (await world.call("GET", "/v1/allocations")).body.allocations.length).toBe(3);
    await testEnv.DB.prepare("SELECT 1 FROM allocations WHERE workspace = ?1").bind(world.workspace).all();
    for (const [n, rest] of [{}, { coldStartMs: 30 }, { status: "error" as const }].entries()) {
      const [first] = executions(n, 0);
      const endMs = Date.now();
      const record = { ...first!, startMs: endMs - 100, endMs, ...rest };
      expect((await world.call("POST", "/v1/executions", { executions: [record] }, agentKey)).status).toBe(202);
    }
    await expect
      .poll(async () => {
        const query = "SELECT count(*) AS n FROM allocations WHERE workspace = ?1";
        return (await testEnv.DB.prepare(query).bind(world.workspace).first<{ n: number }>())!.n;
      })
      .toBe(3);
    await pass(6_000);
    const { results } = await testEnv.DB.prepare(
      "SELECT run_id, state, outcome FROM allocations WHERE workspace = ?1 ORDER BY run_id",
    )
      .bind(world.workspace)
      .all();
    expect(results).toEqual([
      { run_id: "run-0", state: "executed", outcome: "warm" },
      { run_id: "run-1", state: "executed", outcome: "cold" },
      { run_id: "run-2", state: "failed", outcome: "failed" },
    ]);
    const { allocations } = (await world.call("GET", "/v1/allocations")).body;
    expect(allocations.map(({ state }: { state: string }) => state).sort()).toEqual(["executed", "executed", "failed"]);
  });
});

/** A prewarm of b, planned when a was asked for, that nobody used. */
async function wasted(n: number): Promise<void> {
  const command = commandOf({ probability: 0.7, foretold: 0.9 });
  await world.hub(CLUSTER).admit(world.workspace, offerOf([command], { runId: `wasted-${n}`, chain: ["a", "b"] }));
  const { commands } = await world.hub(CLUSTER).commands(world.workspace, CLUSTER, VM, 0, 16);
  const { commandId, leaseId } = commands[0]!;
  const end = { commandId, endedMs: Date.now(), used: false, reason: "expired", heldMs: 1, memoryBytes: 1, bytes: 0 };
  await report({ results: [{ commandId, leaseId, state: "done", wholeStartMs: 100 }], ends: [end] });
}
const shiftOf = ({ gate }: LearningAnswer) =>
  gate.find(({ context, task }) => context === "a" && task === "b")?.shifts[2];

async function gzipped(bytes: Uint8Array): Promise<string> {
  const zipped = new Response(bytes).body!.pipeThrough(new CompressionStream("gzip"));
  return toBase64(new Uint8Array(await new Response(zipped).arrayBuffer()));
}

describe("what is learned can be", () => {
  beforeEach(async () => {
    await ingest(1, 0);
    for (let n = 0; n < 40; n++) await wasted(n);
    await pass(6_000);
  });

  test("read: prewarms in vain lower the gate's belief of what the model foretells", async () => {
    const known = await learning();
    expect(shiftOf(known)).toBeLessThan(-0.3);
    expect(known.starts).toMatchObject([{ task: "b", count: 40 }]);
    const { adjustments } = (await writer().bundle(world.workspace))!;
    expect(adjustmentsOf(adjustments).gate!.probability("a", "b", 0.9)).toBeCloseTo(0.9 + shiftOf(known)!, 6);
    expect((await world.call("GET", "/v1/outcomes")).body.recent[0]).toMatchObject({
      outcome: "waste",
      probability: 0.7,
      foretold: 0.9,
      context: "a",
      chain: ["a", "b"],
    });
  });

  test("frozen: over a restart, still asked, no longer changed; and learned again", async () => {
    const before = await learning();
    const parts = ["gate", "starts", "model"];
    expect((await world.call("POST", "/v1/learning/freeze", { parts })).body).toEqual({ frozen: parts });
    await evictDurableObject(writer());
    await world.heartbeat(CLUSTER, VM, ["a", "b"]);
    for (let n = 100; n < 120; n++) await wasted(n);
    await ingest(2, 0);
    await pass(11_000);
    const frozen = await learning();
    expect(frozen.frozen).toEqual(parts);
    expect(shiftOf(frozen)).toBe(shiftOf(before));
    expect(frozen.starts).toEqual(before.starts);
    expect(frozen.model.usedLines).toBe(before.model.usedLines);
    expect((await world.call("POST", "/v1/learning/unfreeze", {})).body).toEqual({ frozen: [] });
    await world.heartbeat(CLUSTER, VM, ["a", "b"]);
    for (let n = 200; n < 220; n++) await wasted(n);
    await pass(11_000);
    expect((await learning()).starts).toMatchObject([{ task: "b", count: 60 }]);
  });

  test("saved", async () => {
    const { status, headers, body } = await world.call("GET", "/v1/learning/export");
    expect(status).toBe(200);
    expect(headers.get("content-disposition")).toMatch(
      /^attachment; filename="forechain-learned-\d{4}-\d\d-\d\d\.json"$/,
    );
    expect(body).toMatchObject({
      workspace: world.workspace,
      learned: { starts: [["b", [[expect.any(String), 40]]]], gate: { pairs: { "a\tb": expect.any(Array) } } },
      holds: { [CLUSTER]: { frozen: false } },
    });
  });

  test("taken over by another workspace: told alike, asked alike; scores and what is frozen stay its own", async () => {
    await world.hub(CLUSTER).admit(world.workspace, offerOf([], { runId: "of a hold" }));
    const { body: saved } = await world.call("GET", "/v1/learning/export");
    const before = await learning();
    const from = world;
    world = await newWorld();
    agentKey = await world.key(["agent"], CLUSTER, VM);
    await world.heartbeat(CLUSTER, VM, ["a", "b"]);
    expect((await world.call("POST", "/v1/learning/freeze", { parts: ["gate"] })).status).toBe(200);
    saved.holds.nowhere = saved.holds[CLUSTER];
    expect((await world.call("POST", "/v1/learning/import", saved)).body).toEqual({
      imported: ["model", "gate", "margins", "placement", "starts", "holds"],
      skipped: [{ cluster: "nowhere", reason: "this workspace has no such cluster" }],
    });
    await evictDurableObject(writer());
    const after = await learning();
    expect(after).toMatchObject({ frozen: ["gate"], gate: before.gate, starts: before.starts, holds: before.holds });
    expect(after.model.mixing).toEqual(before.model.mixing);
    expect(after.scores.predictions).toBe(0);
    const ask = { task: "a" };
    const { next, reach } = (await world.call("POST", "/v1/predictions", ask)).body;
    expect({ next, reach }).toEqual({
      next: [{ task: "b", probability: expect.any(Number) }, expect.anything()],
      reach: [expect.objectContaining({ task: "b" })],
    });
    const { body: known } = await from.call("POST", "/v1/predictions", ask);
    expect(next).toEqual(known.next);
    // Its own hub's outcomes, whose numbers are lower than those of the other workspace, are taken all the same.
    expect((await world.call("POST", "/v1/learning/unfreeze")).status).toBe(200);
    for (let n = 0; n < 3; n++) await wasted(n);
    await pass(6_000);
    expect((await learning()).starts).toMatchObject([{ task: "b", count: 43 }]);
  });

  test("taken back in part; refused whole where anything is wrong, with what was got and what expected", async () => {
    const { body: saved } = await world.call("GET", "/v1/learning/export");
    const before = await learning();
    expect((await world.call("POST", "/v1/learning/reset", { parts: ["gate", "starts"] })).status).toBe(200);
    expect((await world.call("POST", "/v1/learning/import", { ...saved, parts: ["gate"] })).body).toEqual({
      imported: ["gate"],
      skipped: [],
    });
    const now = await learning();
    expect({ gate: now.gate, starts: now.starts }).toEqual({ gate: before.gate, starts: [] });
    const image = saved.model.image as string;
    const { body: withoutModel } = await world.call("GET", "/v1/learning/export?model=false");
    expect(withoutModel).not.toHaveProperty("model");
    const wrong: [object, string, RegExp][] = [
      [{ ...saved, format: 7 }, "/format", /got 7, expected 1/],
      [{ ...saved, luck: 1 }, "/luck", /unknown field/],
      [{ ...saved, learned: { gate: { pairs: { "a\tb": [[1, 2, 3]] } } } }, "/learned/gate/pairs/a\tb/0", /./],
      [{ ...saved, learned: { starts: [["b", [["c1", -1]]]] } }, "/learned/starts/0/1/0/1", />=0/],
      [{ ...saved, model: { tasks: [], image: image.slice(0, 40) } }, "/model/image", /expected gzip/],
      [
        { ...saved, model: { tasks: [], image: await gzipped(new Uint8Array(64)) } },
        "/model/image",
        /magic: got 0x0, expected 0x/,
      ],
      [{ ...saved, model: { tasks: ["a", "a"], image } }, "/model/image", /got a name twice/],
      [{ ...withoutModel, parts: ["model"] }, "/parts", /none of the parts/],
    ];
    for (const [body, pointer, detail] of wrong) {
      const { status, body: problem } = await world.call("POST", "/v1/learning/import", body);
      expect({ status, pointer: problem.errors?.[0]?.pointer }).toEqual({ status: 422, pointer });
      expect(problem.detail).toMatch(detail);
    }
    const { scores: _, ...kept } = await learning();
    expect(kept).toEqual({ ...now, scores: undefined });
  });

  test("reset, part by part; what is reset is named", async () => {
    expect(await world.call("POST", "/v1/learning/reset", {})).toMatchObject({ status: 422 });
    expect(await world.call("POST", "/v1/learning/reset", { parts: ["luck"] })).toMatchObject({ status: 422 });
    expect((await world.call("POST", "/v1/learning/reset", { parts: ["starts", "model", "holds"] })).status).toBe(200);
    await evictDurableObject(writer());
    const { starts, model, holds, ...kept } = await learning();
    expect({ starts, holds, used: model.usedLines }).toEqual({ starts: [], holds: [], used: 0 });
    expect(kept.gate).toHaveLength(1);
    expect((await world.call("GET", "/v1/graph")).body.tasks).toHaveLength(2);
  });

  test("neither changed by a key that may only read", async () => {
    const key = await world.key(["read"]);
    expect((await world.call("POST", "/v1/learning/freeze", {}, key)).status).toBe(403);
    expect((await world.call("POST", "/v1/learning/reset", { parts: ["gate"] }, key)).status).toBe(403);
    expect((await world.call("POST", "/v1/learning/import", { format: 1 }, key)).status).toBe(403);
    expect((await world.call("GET", "/v1/learning", undefined, key)).status).toBe(200);
  });
});

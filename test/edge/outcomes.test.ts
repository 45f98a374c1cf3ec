// GET /v1/outcomes over windows, tasks, clusters, chains and hours. Date.now is ours.
import { evictDurableObject } from "cloudflare:test";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { writeRecords } from "../../src/edge/allocation-log.ts";
import { newId } from "../../src/edge/ids.ts";
import { type AllocationRecord, type OutcomeGroup, OutcomesAnswer, type OutcomeTotal } from "../../src/protocol.ts";
import { commandOf, newWorld, offerOf, testEnv, type World } from "./world.ts";

const HOUR_MS = 3_600_000;
// Ten past an hour to come: alarms that are set by our clock do not fire meanwhile.
const START_MS = (Math.floor(Date.now() / HOUR_MS) + 2) * HOUR_MS + 600_000;
let world: World;
let nowMs = START_MS;

beforeEach(async () => {
  nowMs = START_MS;
  vi.spyOn(Date, "now").mockImplementation(() => nowMs);
  world = await newWorld();
  for (const cluster of ["paris", "rome"]) await world.heartbeat(cluster, "vm-1", ["a", "b", "c"]);
});
afterEach(() => {
  vi.restoreAllMocks();
});

/** A prewarm of the task on the cluster, and what became of it. */
async function settled(cluster: string, task: string, outcome: "hit" | "waste", chain = ["a", task]): Promise<void> {
  await world.heartbeat(cluster, "vm-1", ["a", "b", "c"]);
  const runId = `run-${crypto.randomUUID()}`;
  const hub = world.hub(cluster);
  await hub.admit(world.workspace, offerOf([commandOf({ task, key: `warm ${runId}` })], { cluster, runId, chain }));
  const { commands } = await hub.commands(world.workspace, cluster, "vm-1", 0, 16);
  const { commandId, leaseId } = commands[0]!;
  const use = { commandId, runId, executionId: runId, usedMs: nowMs, waitedMs: 0, savedMs: 50 };
  const end = {
    commandId,
    endedMs: nowMs,
    used: false,
    reason: "expired" as const,
    heldMs: 1_000,
    memoryBytes: 2 ** 30,
    bytes: 0,
  };
  const report = { results: [{ commandId, leaseId, state: "done" as const }], uses: [], ends: [], misses: [] };
  const told = outcome === "hit" ? { ...report, uses: [use] } : { ...report, ends: [end] };
  expect(await hub.report(world.workspace, cluster, "vm-1", told)).toEqual({ accepted: 2, refused: [] });
}
async function ask(query: string): Promise<OutcomesAnswer> {
  const { status, body } = await world.call("GET", `/v1/outcomes${query}`);
  expect(status).toBe(200);
  return OutcomesAnswer.parse(body);
}
const short = (totals: OutcomeTotal[]) => totals.map(({ outcome, count }) => `${outcome} ${count}`).sort();
const groupsOf = async (query: string, name: (group: OutcomeGroup) => unknown) =>
  ((await ask(query)).groups ?? []).map((group) => [name(group), short(group.totals)]);

describe("outcomes of three hours on two clusters", () => {
  beforeEach(async () => {
    await settled("paris", "b", "hit");
    await settled("rome", "c", "waste");
    nowMs = START_MS + HOUR_MS;
    await settled("paris", "b", "hit");
    await ask("");
    await settled("paris", "b", "hit");
    await settled("paris", "c", "hit", ["a", "b", "c"]);
    nowMs = START_MS + 2 * HOUR_MS;
    await settled("rome", "c", "waste");
  });

  test.each<[string, () => string, string[]]>([
    ["everything", () => "", ["hit 4", "waste 2"]],
    ["the last minute", () => `?fromMs=${nowMs - 60_000}&toMs=${nowMs + 1}`, ["waste 1"]],
    ["the hour before, exactly", () => `?fromMs=${nowMs - HOUR_MS}&toMs=${nowMs}`, ["hit 3"]],
    ["an hour as hours", () => `?fromMs=${START_MS + HOUR_MS}&toMs=${START_MS + HOUR_MS + 1}`, ["hit 3"]],
    ["two hours, whole ones", () => `?fromMs=${START_MS}&toMs=${START_MS + HOUR_MS + 60_000}`, ["hit 4", "waste 1"]],
    ["of a task", () => "?task=c", ["hit 1", "waste 2"]],
    ["of a cluster", () => "?cluster=rome", ["waste 2"]],
    ["of both", () => "?cluster=paris&task=c", ["hit 1"]],
    ["of neither", () => "?task=unknown", []],
  ])("%s", async (_, query, expected) => {
    expect(short((await ask(query())).totals)).toEqual(expected);
  });

  test("in groups", async () => {
    expect(await groupsOf("?groupBy=hour", ({ hourMs }) => (hourMs! - START_MS + 600_000) / HOUR_MS)).toEqual([
      [2, ["waste 1"]],
      [1, ["hit 3"]],
      [0, ["hit 1", "waste 1"]],
    ]);
    expect(await groupsOf("?groupBy=cluster", ({ cluster }) => cluster)).toEqual([
      ["paris", ["hit 4"]],
      ["rome", ["waste 2"]],
    ]);
    expect(await groupsOf("?groupBy=task&cluster=paris", ({ task }) => task)).toEqual([
      ["b", ["hit 3"]],
      ["c", ["hit 1"]],
    ]);
    expect(await groupsOf("?groupBy=chain", ({ chain }) => chain!.join(" "))).toEqual([
      ["a b c", ["hit 1"]],
      ["a b", ["hit 3"]],
      ["a c", ["waste 2"]],
    ]);
    expect(
      await groupsOf(`?groupBy=chain&fromMs=${nowMs - 60_000}&toMs=${nowMs + 1}`, ({ chain }) => chain!.join(" ")),
    ).toEqual([["a c", ["waste 1"]]]);
  });

  test("sums are absolute: a flush that D1 took and that was not marked is not counted twice", async () => {
    await ask("");
    await settled("paris", "b", "hit");
    const writer = testEnv.GRAPH_WRITER.getByName(world.workspace);
    await writer.publishedVersion(world.workspace);
    const proto = Object.getPrototypeOf(testEnv.DB) as D1Database;
    const batch = testEnv.DB.batch.bind(testEnv.DB);
    vi.spyOn(console, "warn").mockImplementation(() => {});
    const lost = vi.spyOn(proto, "batch").mockImplementationOnce(async (statements: D1PreparedStatement[]) => {
      lost.mockRestore();
      await batch(statements);
      throw new Error("the answer was lost");
    });
    await ask("");
    await settled("paris", "b", "hit");
    await evictDurableObject(world.hub("paris"));
    expect(short((await ask("?cluster=paris&task=b")).totals)).toEqual(["hit 5"]);
    expect(short((await ask("?cluster=paris")).totals)).toEqual(["hit 6"]);
    const [total] = (await ask("?cluster=paris&task=b")).totals;
    expect(total).toMatchObject({ savedMs: 250, gbSeconds: 0 });
    expect((await ask("?cluster=rome")).totals).toMatchObject([{ outcome: "waste", gbSeconds: 2 }]);
  });
});

describe("what executions waited for", () => {
  const missesOf = (runId: string) =>
    [1, 2].map((at) => ({
      kind: "warm" as const,
      task: "b",
      runId,
      executionId: `${runId} ${at}`,
      atMs: nowMs,
      costMs: 400,
    }));
  const wait = async (runId: string) => {
    const report = { results: [], uses: [], ends: [], misses: missesOf(runId) };
    await world.hub("paris").report(world.workspace, "paris", "vm-1", report);
  };
  const admit = (runId: string, acted: boolean) =>
    world.hub("paris").admit(world.workspace, offerOf([], { runId, acted }));

  test("is told apart by a hub that was evicted in mid-run too, and knows the run's chain", async () => {
    const chain = ["a", "b", "c"];
    await world.hub("paris").admit(world.workspace, offerOf([], { runId: "in shadow", acted: false, chain }));
    await world.hub("paris").admit(world.workspace, offerOf([], { runId: "in shadow", acted: false, chain: ["b"] }));
    await world.hub("paris").admit(world.workspace, offerOf([], { runId: "active", acted: true, chain }));
    await world.hub("paris").admit(world.workspace, offerOf([], { runId: "active", acted: false, chain: ["b"] }));
    await evictDurableObject(world.hub("paris"));
    // Its next call comes before it is told what the one before waited for.
    await admit("in shadow", false);
    await wait("in shadow");
    await wait("active");
    const { recent, totals } = await ask("");
    expect(totals).toMatchObject([{ outcome: "miss", count: 4, unsent: 2 }]);
    for (const outcome of recent) expect(outcome).toMatchObject({ chain, unsent: outcome.runId === "in shadow" });
  });

  test("35: counts for the task that was meant, also where no VM has a runtime of it, nor its agent the task", async () => {
    await admit("active", true);
    const misses = missesOf("active").map((miss) => ({ ...miss, task: "nowhere" }));
    const report = { results: [], uses: [], ends: [], misses };
    await world.hub("paris").report(world.workspace, "paris", "vm-1", report);
    const { groups } = await ask("?groupBy=task");
    const counted = groups!.map(({ task, totals }) => [
      task,
      totals.map(({ outcome, count }) => `${outcome} ${count}`),
    ]);
    expect(counted).toEqual([["nowhere", ["miss 2"]]]);
  });

  test("is no miss of preparation in a run that no plan was sent for: shadow first, active later", async () => {
    const allocate = async (runId: string) => {
      const constraints = { clusters: ["paris"] };
      const asked = await world.call("POST", "/v1/allocations", { task: "a", runId, constraints });
      expect(asked).toMatchObject({ status: 200, body: { cluster: "paris" } });
    };
    await allocate("in shadow");
    await wait("in shadow");
    expect((await ask("")).totals).toMatchObject([{ outcome: "miss", count: 2, unsent: 2 }]);
    await world.call("PUT", "/v1/policy", { mode: "active" });
    await allocate("active");
    await wait("active");
    // Its second task came when plans were sent, and whether the first one's was is known no more.
    await admit("changed over", false);
    await admit("changed over", true);
    await wait("changed over");
    await wait("of nobody's allocation");
    await settled("paris", "b", "hit");
    for (const query of ["", "?task=b", `?fromMs=${nowMs - 1}&toMs=${nowMs + 1}`, "?groupBy=task"]) {
      const { totals, recent, groups } = await ask(query);
      const sums = [
        { outcome: "hit", count: 1, unsent: 0, savedMs: 50 },
        { outcome: "miss", count: 8, unsent: 2, savedMs: 0 },
      ];
      expect(totals).toMatchObject(sums);
      if (groups !== undefined) expect(groups).toMatchObject([{ task: "b", totals: sums }]);
      expect(recent.filter(({ unsent }) => unsent).map(({ runId }) => runId)).toEqual(["in shadow", "in shadow"]);
    }
  });
});

describe("alerts", () => {
  const alerts = async () => (await ask("?limit=0")).alerts.map(({ kind, task, count }) => `${kind} ${task} ${count}`);
  const metric = async () => String((await world.call("GET", "/metrics")).body).match(/^forechain_alert\{.*$/gm) ?? [];

  test("a task that is prepared in vain, until one preparation is used", async () => {
    for (let at = 0; at < 19; at++) await settled("paris", "b", "waste");
    expect(await alerts()).toEqual([]);
    await settled("rome", "b", "waste");
    expect(await alerts()).toEqual(["always_wasted b 20"]);
    expect(await metric()).toEqual(['forechain_alert{kind="always_wasted",task="b"} 20']);
    nowMs += 25 * HOUR_MS;
    expect(await alerts()).toEqual([]);
  });

  test("a task that plans are sure of and never prepare, whose users wait", async () => {
    const waited = Array.from({ length: 10 }, (_, at) => ({
      kind: "warm" as const,
      task: "b",
      runId: `run-${at}`,
      executionId: `execution-${at}`,
      atMs: nowMs,
      costMs: 400,
    }));
    const report = { results: [], uses: [], ends: [], misses: waited };
    await world.hub("paris").report(world.workspace, "paris", "vm-1", report);
    // Nothing was ever prepared for it, and it is counted all the same: for the task that was meant.
    expect(await groupsOf("?groupBy=task", ({ task }) => task)).toEqual([["b", ["miss 10"]]]);
    expect(await alerts()).toEqual([]);
    const plan = (mode: "active" | "shadow", probability: number, reason: string) => {
      const skipped = [{ kind: "warm", task: "b", probability, savedMs: 400, reason }];
      const allocationId = newId(nowMs);
      const answer = { allocationId, mode, skipped, runId: "r", executionId: "e", task: "a" };
      const record = { ...answer, state: "executed", createdMs: nowMs, outcome: "warm" } as unknown as AllocationRecord;
      return writeRecords(testEnv.DB, world.workspace, [record]);
    };
    await plan("shadow", 0.95, "shadow");
    await plan("active", 0.5, "below the gate");
    await plan("active", 0.95, "already warm on vm-1");
    expect(await alerts()).toEqual([]);
    await plan("active", 0.95, "budget of 0 commands in flight");
    // What runs waited for that no plan was sent for is nobody's lack.
    await testEnv.DB.prepare("UPDATE outcome_hours SET unsent = 1 WHERE workspace = ?1").bind(world.workspace).run();
    expect(await alerts()).toEqual([]);
    await testEnv.DB.prepare("UPDATE outcome_hours SET unsent = 0 WHERE workspace = ?1").bind(world.workspace).run();
    expect(await alerts()).toEqual(["never_prepared b 10"]);
    expect((await ask("?limit=0")).alerts[0]!.detail).toContain("budget of 0 commands in flight");
    await settled("paris", "b", "hit");
    expect(await alerts()).toEqual([]);
  });
});

test.each(["?fromMs=x", "?fromMs=10&toMs=5", "?groupBy=luck", "?limit=1001", "?hours=3", "?cluster=no/where"])(
  "%s is refused",
  async (query) => {
    const { status, body } = await world.call("GET", `/v1/outcomes${query}`);
    expect(status).toBe(422);
    expect(body.errors).toMatchObject([{ pointer: /^\?\w+/.exec(query)![0] }]);
  },
);

// What a hub remembers of runs, VMs and holds, each part by itself, with the clock in the test's hand.
import { runInDurableObject } from "cloudflare:test";
import { describe, expect, test } from "vitest";
import type { Hidden } from "../../src/core/planned.ts";
import { Quotas } from "../../src/core/quotas.ts";
import { Holds } from "../../src/edge/hub/holds.ts";
import type { HubConfig } from "../../src/edge/hub/messages.ts";
import { ExpectedRuns } from "../../src/edge/hub/runs.ts";
import { Vms } from "../../src/edge/hub/vms.ts";
import { type Heartbeat, Policy, TaskDeclaration, VmDeclaration } from "../../src/protocol.ts";
import { GIB, heartbeatOf, offerOf, testEnv } from "./world.ts";

const NOW_MS = Date.UTC(2030, 0, 1);
const EVERY_MS = 1_000;
/** A hub of its own, which nobody else speaks to. */
const onTables = (use: (sql: SqlStorage) => void) =>
  runInDurableObject(testEnv.CLUSTER_HUB.getByName(crypto.randomUUID()), (_, { storage }) => use(storage.sql));
const configOf = (known: Partial<HubConfig> = {}): HubConfig => ({
  version: "1",
  policy: Policy.parse({ mode: "active" }),
  draining: false,
  vms: {},
  tasks: {},
  services: [],
  frozen: [],
  ...known,
});

describe("of a run", () => {
  const sent = (headMs: number): Hidden => ({
    headMs: { p10: headMs, p50: headMs, p90: headMs },
    surelyMs: headMs,
    isSent: true,
  });
  const of = (known: Parameters<typeof offerOf>[1]) => offerOf([], { runId: "run", ...known });

  test("a start that an earlier plan has begun goes on, with its head start", () => {
    const runs = new ExpectedRuns();
    runs.note(of({ task: "A", hidden: { C: sent(500) } }));
    runs.note(of({ task: "B", hidden: { C: sent(10) } }));
    expect(runs.note(of({ task: "C" }))).toEqual(sent(500));
    expect(runs.note(offerOf([], { runId: "another", task: "C" }))).toBeNull();
  });

  test("the chain stays what it was expected to be first; that a plan was sent stays true; VMs gather", () => {
    const runs = new ExpectedRuns();
    runs.note(of({ chain: ["A", "B", "C"], acted: true, vms: { B: "vm-1" } }));
    runs.note(of({ chain: ["B", "C"], acted: false, vms: { C: "vm-2" } }));
    expect(runs.get("run")).toMatchObject({
      chain: ["A", "B", "C"],
      sent: true,
      vms: { B: "vm-1", C: "vm-2" },
    });
  });

  test("its placement is told once", () => {
    const runs = new ExpectedRuns();
    const expectedTerms = { servicesMs: 1, transferMs: 0, coldStartMs: 0, queueMs: 0, hopsMs: 0, priceMs: 0 };
    for (const task of ["A", "B"]) runs.note(of({ task, expectedTerms }));
    expect(runs.takePlacements()).toEqual([{ runId: "run", cluster: "paris", expectedTerms }]);
    expect(runs.takePlacements()).toEqual([]);
  });

  test("what it writes is brought to four VMs at most, and to each once", () => {
    const runs = new ExpectedRuns();
    const tasks = Array.from({ length: 12 }, (_, i) => `T${i}`);
    runs.note(of({ vms: Object.fromEntries(tasks.map((task, i) => [task, `vm-${Math.floor(i / 2)}`])) }));
    expect([...runs.readersOf("run", tasks)]).toEqual([
      ["vm-0", "T0"],
      ["vm-1", "T2"],
      ["vm-2", "T4"],
      ["vm-3", "T6"],
    ]);
    expect([...runs.readersOf("run", ["T11", "elsewhere"])]).toEqual([["vm-5", "T11"]]);
  });
});

describe("of holds", () => {
  const start = { coldStartMs: 2_000, latencySensitivity: 1, memoryBytes: GIB / 16 };
  const call = (runId = "run") => ({ runId, task: "a", start });
  const beat = (released: Heartbeat["released"] = []): Heartbeat => ({
    ...heartbeatOf([]),
    tasks: [{ task: "a", keepAliveMs: 60_000 }],
    released,
  });
  const idleOf = (holds: Holds) => holds.state().tasks.a?.releasesMs;

  test("calls and releases are taken in the order in which they happened, whoever tells first", () =>
    onTables((sql) => {
      const holds = new Holds(sql, null, new Quotas());
      // Released before the call, and told after it: it is the one that the call found.
      holds.called(call(), null, NOW_MS + 1_000);
      holds.heard(beat(), EVERY_MS, NOW_MS + 1_100);
      holds.heard(beat([{ task: "a", atMs: NOW_MS + 900 }]), EVERY_MS, NOW_MS + 2_000);
      expect(idleOf(holds)).toBeUndefined();
      holds.heard(beat(), EVERY_MS, NOW_MS + 5_000);
      expect(idleOf(holds)).toEqual([]);
    }));

  test("a release in the future, or of long ago, is a clock's fault", () =>
    onTables((sql) => {
      const holds = new Holds(sql, null, new Quotas());
      holds.called(call(), null, NOW_MS - 100_000);
      const released = [NOW_MS - 3_600_000, NOW_MS + 3_600_000].map((atMs) => ({ task: "a", atMs }));
      holds.heard(beat(released), EVERY_MS, NOW_MS);
      holds.heard(beat(), EVERY_MS, NOW_MS + 10_000);
      expect(idleOf(holds)).toEqual([NOW_MS - 60_000, NOW_MS]);
    }));

  /** Runs of two calls at once, whose starts plans hide. `given`: preparations that the run's quota has given. */
  function afterRuns(sql: SqlStorage, given: number): Holds {
    const quotas = new Quotas();
    const holds = new Holds(sql, configOf(), quotas);
    const hidden = { headMs: { p10: 2_000, p50: 2_000, p90: 2_000 }, surelyMs: 2_000, isSent: true };
    let atMs = NOW_MS;
    for (let i = 0; i < 60; i++) {
      const runId = `run-${i}`;
      for (let ask = 0; ask < given; ask++) quotas.gives(runId, "a", `of ${ask}`, { first: 1, power: 1 });
      for (let calls = 0; calls < 2; calls++) holds.called(call(runId), hidden, atMs);
      const release = { task: "a", atMs: atMs + 50 };
      holds.heard(beat([release, release]), EVERY_MS, atMs + 100);
      atMs += 30_000;
      holds.heard(beat(), EVERY_MS, atMs - 100);
    }
    return holds;
  }

  test("nothing is held where each call of a run has a preparation of its own, and plans may spend what that spares", () =>
    onTables((sql) => {
      const holds = afterRuns(sql, 2);
      expect(holds.keepAliveMs("a", undefined, configOf())).toBe(0);
      expect(holds.sparedMs(configOf())).toEqual({ a: 60_000 });
    }));

  test("nothing is spared where the operator's word stands, or nothing is told to agents", () =>
    onTables((sql) => {
      const holds = afterRuns(sql, 2);
      const declared = { tasks: { a: TaskDeclaration.parse({ keepAliveMs: 5 }) } };
      expect(holds.sparedMs(configOf(declared))).toEqual({});
      expect(holds.sparedMs(configOf({ policy: Policy.parse({ mode: "shadow" }) }))).toEqual({});
    }));

  test("a call beyond the preparations that its run was given speaks for a hold, though a plan was to hide its start", () =>
    onTables((sql) => {
      expect(afterRuns(sql, 1).keepAliveMs("a", undefined, configOf()) ?? 60_000).toBeGreaterThanOrEqual(30_000);
    }));
});

describe("of VMs", () => {
  test("what the operator declared bounds what the agent says, and silent ones have nothing to give", () =>
    onTables((sql) => {
      const vms = new Vms(sql, NOW_MS);
      vms.receive("vm-1", heartbeatOf(["a"]), NOW_MS);
      vms.receive("silent", heartbeatOf(["a"]), NOW_MS - 15_001);
      expect(vms.capacity(NOW_MS, configOf())).toEqual({ freeMemoryBytes: 4 * GIB, cpuCores: 4 });
      const declared = VmDeclaration.parse({ vm: "vm-1", memoryBytes: GIB, cpuCores: 1 });
      const capacity = vms.capacity(NOW_MS, configOf({ vms: { "vm-1": declared } }));
      expect(capacity).toEqual({ freeMemoryBytes: GIB, cpuCores: 1 });
    }));

  test("those heard of a minute ago are there when a hub comes back, those of an hour ago are not", () =>
    onTables((sql) => {
      new Vms(sql, NOW_MS).receive("vm-1", heartbeatOf(["a"]), NOW_MS);
      expect(new Vms(sql, NOW_MS + 60_000).get("vm-1")!.heartbeatMs).toBe(NOW_MS + 60_000);
      expect(new Vms(sql, NOW_MS + 3_600_000).get("vm-1")!.heartbeatMs).toBe(NOW_MS);
    }));

  test("a runtime that has become ready since is told as warm, and not as ending with the one before", () =>
    onTables((sql) => {
      const vms = new Vms(sql, NOW_MS);
      const runtimes = [{ task: "a", state: "ready" as const, expiresMs: NOW_MS + 3_000 }];
      vms.receive("vm-1", { ...heartbeatOf(["a"]), runtimes }, NOW_MS);
      expect(vms.summaries([])[0]).toMatchObject({ warm: { a: 1 }, warmUntilMs: { a: NOW_MS + 3_000 } });
      vms.noteWarm("vm-1", "a");
      const { warm, warmUntilMs } = vms.summaries([])[0]!;
      expect([warm, warmUntilMs]).toEqual([{ a: 2 }, {}]);
    }));

  test("a warm-up that both the queue and the agent tell of is one", () =>
    onTables((sql) => {
      const vms = new Vms(sql, NOW_MS);
      const runtimes = ["a", "a"].map((task) => ({ task, state: "starting" as const }));
      vms.receive("vm-1", { ...heartbeatOf(["a", "b"]), runtimes }, NOW_MS);
      const warming = [
        { vm: "vm-1", task: "a", n: 1 },
        { vm: "vm-1", task: "b", n: 3 },
        { vm: "gone", task: "a", n: 1 },
      ];
      expect(vms.summaries(warming).map(({ starting }) => starting)).toEqual([{ a: 2, b: 3 }]);
    }));

  test("of a name's earlier processes the last eight are refused", () =>
    onTables((sql) => {
      const vms = new Vms(sql, NOW_MS);
      for (let i = 0; i < 10; i++) vms.receive("vm-1", { ...heartbeatOf([]), instanceId: `process ${i}` }, NOW_MS);
      const met = [1, 8].map((i) => vms.receive("vm-1", { ...heartbeatOf([]), instanceId: `process ${i}` }, NOW_MS));
      expect(met).toEqual(["superseded", "superseded"]);
    }));

  test("a hub of many VMs is told less often", () =>
    onTables((sql) => {
      const vms = new Vms(sql, NOW_MS);
      const paceOf = (count: number) => {
        while (vms.summaries([]).length < count) vms.receive(`vm-${vms.summaries([]).length}`, heartbeatOf([]), NOW_MS);
        return vms.everyMs;
      };
      expect([1, 100, 250, 600].map(paceOf)).toEqual([1_000, 1_000, 2_500, 5_000]);
    }));
});

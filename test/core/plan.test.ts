// What is prepared, when, and what is left with which reason: plan.ts and prewarm.ts, asked through `serve` with a model of tables.
import { describe, expect, it } from "vitest";
import type { AtOnceLaw } from "../../src/core/at-once.ts";
import { FleetIndex, type FleetView, type VmView } from "../../src/core/fleet.ts";
import { serve } from "../../src/core/pipeline.ts";
import type { PlannedCommand } from "../../src/core/planned.ts";
import { Quotas } from "../../src/core/quotas.ts";
import {
  clusterOf,
  declared,
  fleetOf,
  LINEAR,
  MIB,
  modelOf,
  NOW_MS,
  plan,
  policy,
  portsOf,
  requestOf,
  type TableModel,
  vmOf,
} from "./knowledge.ts";

/** What the plans of so many executions of B, all of one run, prepare together: each distinct thing once, as many as the run's quotas give. */
async function preparedBy(table: TableModel, executions: number): Promise<PlannedCommand[]> {
  const quotas = new Quotas();
  const warm = fleetOf([clusterOf("c", { vms: [vmOf("vm", { warm: { A: 1, B: 1 } })] })]);
  const commands = new Map<string, PlannedCommand>();
  for (let i = 0; i < executions; i++) {
    const known = { task: "B", path: ["A"], executionId: `part-${i}`, runId: "run" };
    for (const command of (await plan(table, warm, known)).plan) {
      const { quota, task, key } = command;
      if (quota === undefined || quotas.gives("run", task!, key, quota)) commands.set(key, command);
    }
  }
  return [...commands.values()];
}

/** A triggers 400 of B at once, and each of these one C. */
function branchesOf(atOnce: AtOnceLaw): TableModel {
  return {
    next: {},
    reach: { "A B": { C: { probability: 1, leadMs: [900, 1_000, 1_100] } } },
    profiles: {
      A: { successors: [{ task: "B", probability: 1, fanOut: [{ count: 400, share: 1 }] }] },
      B: { successors: [{ task: "C", probability: 1 }] },
      C: { perRun: 400, atOnce },
    },
  };
}

describe("plan", () => {
  it("warms the later tasks of the chain, in order of need", async () => {
    const { plan: commands, acted, offers } = await plan(LINEAR);
    expect(acted).toBe(true);
    expect(commands.map(({ kind, task, vm }) => [kind, task, vm])).toEqual([
      ["warm", "B", "vm"],
      ["warm", "C", "vm"],
    ]);
    expect(offers[0]!.commands).toEqual(commands);
  });

  it("a known gap of 30 s: ready before the call, and not 25 s early", async () => {
    const gap = { A: { B: { probability: 1, leadMs: [29_000, 30_000, 31_000] as [number, number, number] } } };
    const { plan: commands } = await plan({ ...LINEAR, reach: gap });
    const [warm] = commands;
    expect(warm!.notBeforeMs).toBeGreaterThan(NOW_MS + 25_000);
    expect(warm!.notBeforeMs + 400).toBeLessThanOrEqual(NOW_MS + 29_000);
    expect(warm!.expiresMs).toBeGreaterThan(NOW_MS + 31_000);
  });

  it("gives later tasks the root's own cold start as a head start", async () => {
    const cold = fleetOf([clusterOf("c", { vms: [vmOf("vm")] })]);
    const { plan: commands } = await plan(LINEAR, cold);
    expect(commands[0]!.deadlineMs).toBe(NOW_MS + 40 + 400);
  });

  it("starts what follows by its runtime's own start, not by what calls waited for objects too", async () => {
    const startMs = { p10: 100, p50: 100, p90: 100 };
    const reach = { A: { B: { probability: 1, leadMs: [1_000, 1_000, 1_000] as [number, number, number] } } };
    const { plan: commands } = await plan({ ...LINEAR, reach, profiles: { A: {}, B: { startMs } } });
    const [warm] = commands;
    expect(warm!.notBeforeMs).toBeGreaterThan(NOW_MS + 600);
    expect(warm!.notBeforeMs + 100).toBeLessThan(warm!.deadlineMs);
  });

  describe("objects of the asked task", () => {
    const own = { uri: "https://store/own", bytes: 10e6, probability: 1, producer: null };
    const start = { p10: 100, p50: 100, p90: 100 };
    const table: TableModel = { ...LINEAR, profiles: { A: { objects: [own], startMs: start }, B: {}, C: {} } };
    const near = { store: { latencyMs: 50, bandwidthBytesPerSecond: 50e6 } };
    const fleet = (vm: Partial<VmView>, known: Partial<FleetView> = {}) =>
      fleetOf([clusterOf("c", { vms: [vmOf("vm", vm)], proximity: near })], {
        services: { store: { hosts: ["store"] } },
        ...known,
      });
    const prefetches = async (view: ReturnType<typeof fleet>) =>
      (await plan(table, view)).plan.filter(({ kind }) => kind === "prefetch");

    it("come while it starts, and what follows is expected when the longer of both is over", async () => {
      const { plan: commands } = await plan(table, fleet({}));
      const [fetch] = commands;
      expect(fetch).toMatchObject({ kind: "prefetch", task: "A", uri: own.uri, notBeforeMs: NOW_MS });
      // Its load takes 250 ms, its start 100, one after the other they took 400.
      expect(commands.find(({ task }) => task === "B")!.deadlineMs).toBe(NOW_MS + 40 + 250);
    });

    it("are left to it where it is warm, has them, or is never prepared", async () => {
      expect(await prefetches(fleet({ warm: { A: 1 } }))).toEqual([]);
      expect(await prefetches(fleet({ uris: [own.uri] }))).toEqual([]);
      expect(await prefetches(fleet({}, { tasks: { A: declared({ prewarm: "never" }) } }))).toEqual([]);
    });
  });

  it("an idle runtime that ends before it is needed is held on, not trusted", async () => {
    const until = (ms: number) => {
      const vm = vmOf("vm", {
        warm: { A: 1, B: 1, C: 1 },
        warmUntilMs: { A: NOW_MS + 9_000, B: NOW_MS + ms, C: NOW_MS + ms },
      });
      return fleetOf([clusterOf("c", { vms: [vm] })]);
    };
    expect((await plan(LINEAR, until(9_000))).plan).toEqual([]);
    expect((await plan(LINEAR, until(5))).plan.map(({ kind, task }) => [kind, task])).toEqual([
      ["warm", "B"],
      ["warm", "C"],
    ]);
  });

  it("100 equally likely successors: below the gate nothing, and each is told", async () => {
    const tasks = Array.from({ length: 100 }, (_, i) => `T${i}`);
    const each = (value: object) => Object.fromEntries(tasks.map((task) => [task, value]));
    const table: TableModel = {
      next: {},
      reach: { A: each({ probability: 0.01, leadMs: [40, 50, 60] }) as TableModel["reach"][string] },
      profiles: { A: {}, ...each({}) },
    };
    const fleet = fleetOf([clusterOf("c", { vms: [vmOf("vm", { tasks: ["A", ...tasks] })] })]);
    expect((await plan(table, fleet)).plan).toEqual([]);
  });

  it("cuts the fan-out at the policy's bound, keeping the most valuable", async () => {
    const fleet = fleetOf([clusterOf("c", { vms: [vmOf("vm", { warm: { A: 1 } })] })], policy({ fanOutMax: 1 }));
    const { plan: commands, skipped } = await plan(LINEAR, fleet);
    expect(commands).toHaveLength(1);
    expect(skipped.map((item) => item.reason)).toContain("beyond the fan-out of 1 commands");
  });

  it("turns the operator's dial: where memory is dear, an unlikely task is left cold", async () => {
    const unlikely: TableModel = { ...LINEAR, reach: { A: { B: { probability: 0.55, leadMs: [390, 400, 410] } } } };
    expect((await plan(unlikely)).plan).toHaveLength(1);
    const dear = fleetOf([clusterOf("c", { vms: [vmOf("vm", { warm: { A: 1 } })] })], policy({ msPerGbSecond: 5_000 }));
    const { plan: commands, skipped } = await plan(unlikely, dear);
    expect(commands).toEqual([]);
    expect(skipped[0]!.reason).toMatch(/^below the gate: 0\.55 × 400\.0 ms saved/);
  });

  it.each([
    ["an object that all of a hundred parallel readers wait for delays the run", 1, ["https://store/shared"]],
    ["one that a single reader waits for seldom does", 0.01, []],
  ])("%s", async (_, share, expected) => {
    const shared = { uri: "https://store/shared", bytes: 500e6, probability: share, producer: null };
    const { plan: commands } = await plan({
      ...LINEAR,
      reach: { A: { B: { probability: 0.95, leadMs: [1_000, 2_000, 3_000], multiplicity: 100 } } },
      profiles: { A: {}, B: { objects: [shared], latencySensitivity: 0.01 } },
    });
    expect(commands.flatMap(({ uri }) => uri ?? [])).toEqual(expected);
  });

  it("skips what is warm, cached, declared never, made during the run, or at home nowhere", async () => {
    const object = (uri: string, producer: string | null) => ({ uri, bytes: 10e6, probability: 1, producer });
    const table: TableModel = {
      ...LINEAR,
      reach: {
        A: {
          B: { probability: 1, leadMs: [40, 50, 60] },
          C: { probability: 1, leadMs: [90, 100, 110] },
          D: { probability: 1, leadMs: [90, 100, 110] },
        },
      },
      profiles: {
        A: {},
        B: { objects: [object("https://store/cached", null), object("https://store/made", "A")] },
        C: { objects: [object("https://store/never", null)] },
        D: {},
      },
    };
    const vm = vmOf("vm", { warm: { A: 1, B: 1 }, uris: ["https://store/cached"], tasks: ["A", "B", "C"] });
    const fleet = fleetOf([clusterOf("c", { vms: [vm] })], { tasks: { C: declared({ prewarm: "never" }) } });
    const { plan: commands, skipped } = await plan(table, fleet);
    expect(commands).toEqual([]);
    expect(skipped.map(({ task, reason }) => `${task}: ${reason}`).sort()).toEqual([
      "B: already in the cache of vm",
      "B: already warm on vm",
      "B: made during the run by A",
      "C: declared prewarm: never",
      "D: no VM of the cluster has the task",
    ]);
  });

  it("prefetches an object named by a request parameter that was never seen before", async () => {
    const templates = [{ template: "https://store/videos/{videoId}.bin", bytes: 10e6, probability: 1 }];
    const table = { ...LINEAR, profiles: { ...LINEAR.profiles, B: { templates } } };
    const { plan: commands } = await plan(table, undefined, { params: { videoId: "brand-new" } });
    const uris = commands.filter((command) => command.kind === "prefetch").map((command) => command.uri);
    expect(uris).toEqual(["https://store/videos/brand-new.bin"]);
  });

  it("asks for one object once where two tasks read it", async () => {
    const objects = [{ uri: "https://store/shared", bytes: 1000, probability: 1, producer: null }];
    const table = { ...LINEAR, profiles: { ...LINEAR.profiles, B: { objects }, C: { objects } } };
    const prefetches = async (asked: TableModel) =>
      (await plan(asked)).plan.filter((command) => command.kind === "prefetch");
    const shared = await prefetches(table);
    expect(shared).toHaveLength(1);
    // In time for the earlier of the two.
    const [alone] = await prefetches({ ...LINEAR, profiles: { ...LINEAR.profiles, B: { objects } } });
    const [later] = await prefetches({ ...LINEAR, profiles: { ...LINEAR.profiles, C: { objects } } });
    expect(shared[0]).toMatchObject({ notBeforeMs: alone!.notBeforeMs, deadlineMs: alone!.deadlineMs });
    expect(alone!.deadlineMs).toBeLessThan(later!.deadlineMs);
    // Kept for the later, and as likely as for the likelier: what is asked first is seldom read by B, nearly always by C.
    const seldom = [{ ...objects[0]!, probability: 0.3 }];
    const [both] = await prefetches({
      ...LINEAR,
      profiles: { ...LINEAR.profiles, B: { objects: seldom }, C: { objects } },
    });
    expect(both).toMatchObject({ deadlineMs: alone!.deadlineMs, probability: 0.9 });
    expect(both!.expiresMs).toBeGreaterThan(alone!.expiresMs);
  });

  describe("an object of a later task", () => {
    const large = { uri: "https://store/large", bytes: 500e6, probability: 1, producer: null };
    const table: TableModel = {
      ...LINEAR,
      reach: { A: { B: { probability: 0.9, leadMs: [30_000, 31_000, 32_000] } } },
      profiles: { A: {}, B: { objects: [large] } },
    };
    const fleet = (known: object) =>
      fleetOf(
        [
          clusterOf("c", {
            vms: [vmOf("vm", { warm: { A: 1 } })],
            proximity: { store: { latencyMs: 50, bandwidthBytesPerSecond: 50e6 } },
          }),
        ],
        { services: { store: { hosts: ["store"] } }, ...policy(known) },
      );
    const fetched = async (known: object) => {
      const { plan: commands, skipped } = await plan(table, fleet(known));
      const reasons = skipped.filter(({ uri }) => uri === large.uri).map(({ reason }) => reason);
      return { fetch: commands.find(({ uri }) => uri === large.uri), reasons };
    };

    it("is there before it is read, and its load of 10 s does not begin at once where it has 30", async () => {
      const { fetch } = await fetched({});
      expect(fetch!.notBeforeMs).toBeGreaterThan(NOW_MS + 12_000);
      expect(fetch!.notBeforeMs + 10_050).toBeLessThan(fetch!.deadlineMs);
    });

    it("is left where moving it in vain would cost more than it saves, and is told so", async () => {
      // 0.9 × 10 s saved against 0.1 × 0.47 GB at 200 s a GB: just below, and at 190 just above.
      const dear = await fetched({ msPerGb: 200_000 });
      expect(dear.fetch).toBeUndefined();
      expect(dear.reasons).toEqual([expect.stringMatching(/^below the gate: 0\.90 × 10050\.0 ms saved is not more/)]);
      expect((await fetched({ msPerGb: 190_000 })).fetch).toMatchObject({ task: "B" });
    });
  });

  it("believes what outcomes taught the gate: what is never used where it was foretold is no longer prepared", async () => {
    const asked: string[] = [];
    const probability = (context: string, task: string, foretold: number) => {
      asked.push(`${context} ${task} ${foretold}`);
      return task === "B" ? 0.001 : foretold;
    };
    const { plan: commands } = await plan({ ...LINEAR, adjustments: { gate: { probability } } });
    expect(commands.map(({ task }) => task)).toEqual(["C"]);
    expect(asked).toEqual(["A B 1", "A C 0.9"]);
  });

  it.each([
    ["shadow", {}, false],
    ["paused", {}, false],
    ["active", {}, true],
    ["canary", { canaryShare: 0.6 }, true],
    ["canary", { canaryShare: 0.4 }, false],
  ])("mode %s %j acts: %s", async (mode, known, acts) => {
    const fleet = fleetOf([clusterOf("c")], policy({ mode, ...known }));
    const answer = await plan(LINEAR, fleet);
    expect(answer.acted).toBe(acts);
    expect(answer.plan).toHaveLength(2);
    expect(answer.offers[0]!.commands).toHaveLength(acts ? 2 : 0);
  });
});

describe("serve", () => {
  it("asks the next best cluster where the hub refuses, and tells both", async () => {
    const { ports, offers } = portsOf(async (offer) =>
      offer.cluster === "a"
        ? { ok: false, reason: "reserved by others" }
        : { ok: true, commandIds: {}, refusedKeys: {} },
    );
    const answer = await serve(
      requestOf(),
      modelOf(LINEAR),
      new FleetIndex(fleetOf([clusterOf("a"), clusterOf("b")])),
      ports,
    );
    expect(offers.map((offer) => offer.cluster)).toEqual(["a", "b"]);
    expect(answer).toMatchObject({ cluster: "b", refused: [{ cluster: "a", reason: "reserved by others" }] });
  });

  it("keeps the earlier id of a coalesced command, and tells a refused one as skipped", async () => {
    const { ports } = portsOf(async () => ({
      ok: true,
      commandIds: { "c-vm warm B@": "earlier" },
      refusedKeys: { "c-vm warm C@": "over the budget of in-flight commands" },
    }));
    const answer = await serve(requestOf(), modelOf(LINEAR), new FleetIndex(fleetOf([clusterOf("c")])), ports);
    expect(answer).toMatchObject({ plan: [{ commandId: "earlier", task: "B" }] });
    expect(answer.kind === "allocated" && answer.skipped.at(-1)!.reason).toBe("over the budget of in-flight commands");
  });

  it("a dry run answers without touching a hub", async () => {
    const { ports, offers } = portsOf();
    const answer = await serve(
      requestOf({ dryRun: true }),
      modelOf(LINEAR),
      new FleetIndex(fleetOf([clusterOf("c")])),
      ports,
    );
    expect(offers).toEqual([]);
    expect(answer).toMatchObject({ kind: "allocated", acted: false });
  });

  it("reserves the chain's peak memory until past its expected end", async () => {
    const { ports, offers } = portsOf();
    await serve(requestOf(), modelOf(LINEAR), new FleetIndex(fleetOf([clusterOf("c")])), ports);
    const { reservation } = offers[0]!;
    expect(reservation.memoryBytes).toBe(128 * MIB);
    expect(reservation.expiresMs).toBeGreaterThan(NOW_MS + 150);
  });
});

describe("plan of a fan-out", () => {
  const lead = [900, 1_000, 1_100] as [number, number, number];
  const fanOut = (counts: { count: number; share: number }[], task = "B") => ({
    next: { A: { B: 1 } },
    reach: { A: { B: { probability: 1, leadMs: lead } } },
    profiles: { A: { successors: [{ task, probability: 1, fanOut: counts }] }, B: {}, C: {} },
  });

  it("prepares as many instances as are needed, each under a key of its own", async () => {
    const { plan: commands } = await plan(fanOut([{ count: 3, share: 1 }]));
    expect(commands.map(({ key }) => key).sort()).toEqual(["warm B@", "warm B@ #1", "warm B@ #2"]);
  });

  it("weighs each instance by how likely so many are needed", async () => {
    const rarely = fanOut([
      { count: 1, share: 0.99 },
      { count: 50, share: 0.01 },
    ]);
    const { plan: commands } = await plan(rarely);
    expect(commands).toHaveLength(1);
  });

  it("lets parallel executions prepare each for themselves, and those that join share", async () => {
    const table: TableModel = {
      next: {},
      reach: { "A B": { C: { probability: 1, leadMs: lead } } },
      profiles: {
        A: { successors: [{ task: "B", probability: 1, fanOut: [{ count: 5, share: 1 }] }] },
        B: { successors: [{ task: "C", probability: 1 }] },
        C: {},
      },
    };
    const warm = fleetOf([clusterOf("c", { vms: [vmOf("vm", { warm: { A: 1, B: 1 } })] })]);
    const known = { task: "B", path: ["A"], executionId: "part-3" };
    const own = await plan(table, warm, known);
    expect(own.plan.map(({ key }) => key)).toEqual(["warm C@ of part-3"]);
    expect(own.branch).toBe("part-3");
    table.profiles.B = { successors: [{ task: "C", probability: 1, fanIn: 5 }] };
    expect((await plan(table, warm, known)).plan.map(({ key }) => key)).toEqual(["warm C@"]);
  });

  it("prepares all that a run has of a join with several groups, once for the run", async () => {
    const table: TableModel = {
      next: {},
      reach: { "A B": { C: { probability: 1, leadMs: [5_000, 5_500, 6_000] } } },
      profiles: {
        A: { successors: [{ task: "B", probability: 1, fanOut: [{ count: 20, share: 1 }] }] },
        B: { successors: [{ task: "C", probability: 1, fanIn: 5 }] },
        C: { durationMs: { p10: 2_000, p50: 2_000, p90: 2_000 }, perRun: 3.6 },
      },
    };
    const warm = fleetOf([clusterOf("c", { vms: [vmOf("vm", { warm: { A: 1, B: 1 } })] })]);
    const known = { task: "B", path: ["A"], executionId: "part-3", runId: "run" };
    const keys = (await plan(table, warm, known)).plan.map(({ key }) => key);
    expect(keys).toEqual(["warm C@ of run", "warm C@ of run #1", "warm C@ of run #2", "warm C@ of run #3"]);
  });

  it("before joins of which larger runs have more each execution asks for its part", async () => {
    const table: TableModel = {
      next: {},
      reach: { "A B": { C: { probability: 1, leadMs: [5_000, 5_500, 6_000] } } },
      profiles: {
        A: { successors: [{ task: "B", probability: 1, fanOut: [{ count: 100, share: 1 }] }] },
        B: { successors: [{ task: "C", probability: 1, fanIn: 5 }] },
        C: { durationMs: { p10: 2_000, p50: 2_000, p90: 2_000 }, perRun: 20, perRunSpread: 4 },
      },
    };
    // A hundred executions join by fives, a run of forty has eight joins: the plans know no run's size.
    expect(await preparedBy(table, 100)).toHaveLength(20);
    expect(await preparedBy(table, 40)).toHaveLength(8);
    expect(await preparedBy(table, 1)).toHaveLength(1);
  });

  it.each<[string, AtOnceLaw, number, number]>([
    ["all at one time: each for itself", { first: 1, power: 1, spread: 0 }, 400, 400],
    ["a tenth at one time: a tenth", { first: 0.1, power: 1, spread: 0 }, 400, 40],
    ["the square root at one time, in a large run", { first: 1, power: 0.5, spread: 0 }, 400, 20],
    ["the square root at one time, in a small run", { first: 1, power: 0.5, spread: 0 }, 16, 4],
    [
      "half as many or twice as many as that: one and a half deviations more",
      { first: 1, power: 0.5, spread: 1 },
      400,
      57,
    ],
  ])("of executions that run %s", async (_, atOnce, executions, prepared) => {
    expect(await preparedBy(branchesOf(atOnce), executions)).toHaveLength(prepared);
  });

  it("of what one execution triggers at once no more are prepared than run at one time", async () => {
    const table: TableModel = fanOut([{ count: 10, share: 1 }]);
    table.profiles.B = { perRun: 10, atOnce: { first: 0.3, power: 1, spread: 0 } };
    expect((await plan(table)).plan).toHaveLength(3);
  });

  it("what is believed to be used more often than was foretold is no surer than certain", async () => {
    const table: TableModel = {
      ...branchesOf({ first: 0.1, power: 1, spread: 1 }),
      adjustments: { gate: { probability: () => 0.99 } },
    };
    const probabilities = (await preparedBy(table, 100)).map(({ probability }) => probability);
    expect(probabilities.length).toBeGreaterThan(0);
    expect(Math.max(...probabilities)).toBe(1);
  });

  it.each([
    ["several joins of a run: each is a branch", 3, "join-2"],
    ["one join: the trunk", 1, null],
  ])("%s", async (_, perRun, branch) => {
    const table: TableModel = {
      next: {},
      reach: {},
      profiles: { B: { successors: [{ task: "C", probability: 1, fanIn: 5 }] }, C: { perRun } },
    };
    const asked = { task: "C", path: ["A", "B"], branch: "part-3", executionId: "join-2" };
    expect((await plan(table, undefined, asked)).branch).toBe(branch);
  });

  it("inside two fan-outs a join returns to the outer branch", async () => {
    const table: TableModel = {
      next: {},
      reach: { "A B": { C: { probability: 1, leadMs: lead } } },
      profiles: { A: {}, B: { successors: [{ task: "C", probability: 1, fanIn: 5 }] }, C: {} },
    };
    const warm = fleetOf([clusterOf("c", { vms: [vmOf("vm", { warm: { A: 1, B: 1 } })] })]);
    const known = { task: "B", path: ["A"], branch: "outer > inner" };
    expect((await plan(table, warm, known)).plan.map(({ key }) => key)).toEqual(["warm C@ of outer"]);
  });
});

describe("whose preparation it is", () => {
  const quantiles = (value: number) => ({ p10: value, p50: value, p90: value });
  it.each([
    ["milliseconds: any run's", { durationMs: quantiles(20) }, null, "warm B@"],
    [
      "seconds: the run's own, a second run would find it busy",
      { durationMs: quantiles(5_000) },
      null,
      "warm B@ of run",
    ],
    ["seconds, in a branch", { durationMs: quantiles(5_000), perRun: 7 }, "x", "warm B@ of x"],
    ["seconds, once a run, whatever the branch", { durationMs: quantiles(5_000), perRun: 1 }, "x", "warm B@ of run"],
  ])("%s", async (_, profile, branch, key) => {
    const table: TableModel = {
      next: {},
      reach: { A: { B: { probability: 1, leadMs: [900, 1_000, 1_100] } } },
      profiles: { A: { successors: [{ task: "B", probability: 1 }] }, B: profile },
    };
    const { plan: commands } = await plan(table, undefined, { runId: "run", path: ["gone"], branch });
    expect(commands.map((command) => command.key)).toEqual([key]);
  });
});

describe("where runtimes are held shorter than the operator's keep-alive", () => {
  // One of a hundred parallel executions: a cold one alone hardly delays the run.
  const table: TableModel = {
    next: {},
    reach: { A: { B: { probability: 1, leadMs: [5_000, 10_000, 20_000] } } },
    profiles: { A: { successors: [{ task: "B", probability: 1 }] }, B: { latencySensitivity: 0.01 } },
  };
  const fleet = (known: object) =>
    fleetOf([clusterOf("c", { vms: [vmOf("vm", { warm: { A: 1, B: 1 } })], ...known })], policy({}));

  it("a preparation may cost what that spares, and counts on no idle runtime", async () => {
    const held = await plan(table, fleet({}));
    expect(held.plan).toEqual([]);
    const spared = await plan(table, fleet({ sparedMs: { B: 60_000 } }));
    expect(spared.plan.map(({ task }) => task)).toEqual(["B"]);
    expect((await plan(table, fleet({ sparedMs: { B: 2_000 } }))).plan).toEqual([]);
  });

  it("tells which share of a fan-out's calls it is for", async () => {
    const fans: TableModel = structuredClone(table);
    fans.reach.A!.B!.leadMs = [1_000, 1_050, 1_100];
    fans.profiles.A!.successors![0]!.fanOut = [
      { count: 3, share: 0.98 },
      { count: 6, share: 0.02 },
    ];
    const { covered, heldMs } = (await plan(fans, fleet({}))).offers[0]!.hidden.B!;
    // Three of the six are there in every run, the other three in one of fifty.
    expect(covered).toBeCloseTo(3 / (3 + 3 * 0.02), 5);
    expect(heldMs).toBeLessThan(60_000);
  });

  it("tells what a preparation would hide and cost before it is relied on, and nothing where it is and none is made", async () => {
    const held = (await plan(table, fleet({}))).offers[0]!.hidden.B!;
    expect(held.headMs.p50).toBeGreaterThan(400);
    expect(held.surelyMs).toBeGreaterThan(400);
    // About the mean lead time, less what it can safely begin later, and a start of 400 ms of a core, worth 29 s of 128 MB.
    expect(held.heldMs).toBeGreaterThan(29_000 + 5_000);
    expect(held.heldMs).toBeLessThan(29_000 + 12_000);
    expect((await plan(table, fleet({ sparedMs: { B: 2_000 } }))).offers[0]!.hidden.B).toBeUndefined();
  });
});

describe("timing", () => {
  const chain = (leads: Record<string, [number, number, number]>, leastLeadMs = 0, mostLeadMs = 0): TableModel => ({
    next: {},
    reach: { A: Object.fromEntries(Object.entries(leads).map(([task, leadMs]) => [task, { probability: 1, leadMs }])) },
    profiles: {
      A: { successors: [{ task: "B", probability: 1, mostLeadMs }] },
      B: { successors: [{ task: "C", probability: 1, leastLeadMs }] },
      C: {},
    },
  });

  it("a step that is warm delays nothing after it, and what is warm is told as if it had to be prepared", async () => {
    const table = chain({ B: [5, 10, 20], C: [10, 20, 40] });
    const hidden = async (warm: Record<string, number>) =>
      (await plan(table, fleetOf([clusterOf("c", { vms: [vmOf("vm", { warm })] })], policy({})))).offers[0]!.hidden;
    const cold = await hidden({ A: 1 });
    const warm = await hidden({ A: 1, B: 1 });
    expect(warm.B).toEqual(cold.B);
    expect(warm.B!.heldMs).toBeGreaterThan(0);
    expect(warm.C!.headMs.p50).toBe(20);
    expect(cold.C!.headMs.p50).toBeGreaterThan(100);
  });

  it("leaves to a later task what follows it long enough after, however wide both lead times are", async () => {
    const leads: Parameters<typeof chain>[0] = { B: [1_000, 20_000, 90_000], C: [3_000, 25_000, 99_000] };
    expect((await plan(chain(leads, 2_000))).plan.map(({ task }) => task)).toEqual(["B"]);
    expect((await plan(chain(leads, 300))).plan.map(({ task }) => task)).toEqual(["B", "C"]);
  });

  it("holds on into the tail of the lead time while those who come so late are worth it", async () => {
    const heldMs = async (memoryMsPerGb: number) => {
      const fleet = fleetOf(
        [clusterOf("c", { vms: [vmOf("vm", { warm: { A: 1 } })] })],
        policy({ msPerGbSecond: memoryMsPerGb }),
      );
      return (await plan(chain({ B: [6_000, 20_000, 40_000] }), fleet)).plan[0]!.expiresMs - NOW_MS;
    };
    expect(await heldMs(1)).toBeGreaterThan(70_000);
    expect(await heldMs(150)).toBeLessThan(50_000);
  });

  it("holds for what the next step's own tail is known to be, longer than any curve through p90 has it", async () => {
    const fleet = fleetOf([clusterOf("c", { vms: [vmOf("vm", { warm: { A: 1 } })] })], policy({ msPerGbSecond: 1 }));
    const { plan: commands } = await plan(chain({ B: [6_000, 20_000, 30_000] }, 0, 120_000), fleet);
    expect(commands[0]!.expiresMs - NOW_MS).toBeGreaterThanOrEqual(120_000);
  });
});

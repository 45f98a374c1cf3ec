// One later task at a time: which of its runtimes are started, when, how long they are kept, and what is told of it (prewarm.ts).
import { describe, expect, it } from "vitest";
import type { Quota } from "../../src/core/planned.ts";
import { clusterOf, fleetOf, NOW_MS, plan, policy, type TableModel, vmOf } from "./knowledge.ts";

type Lead = [p10: number, p50: number, p90: number];

/** A, then B after this time; B has this profile. */
function followedBy(leadMs: Lead, B: TableModel["profiles"][string] = {}, probability = 1): TableModel {
  return {
    next: {},
    reach: { A: { B: { probability, leadMs } } },
    profiles: { A: { successors: [{ task: "B", probability: 1 }] }, B },
  };
}

/** One cluster with one VM, where A is warm and so is what is named. */
const fleet = (warm: Record<string, number> = {}, cluster = {}, of = policy({})) =>
  fleetOf([clusterOf("c", { vms: [vmOf("vm", { warm: { A: 1, ...warm } })], ...cluster })], of);
const spared = { sparedMs: { B: 60_000 } };
const reasons = (skipped: { task?: string | undefined; reason: string }[]) =>
  skipped.map(({ task, reason }) => `${task}: ${reason}`);

describe("an idle runtime that is there", () => {
  it("is counted on within ten seconds", async () => {
    const { plan: commands, skipped } = await plan(followedBy([1_000, 1_500, 2_000]), fleet({ B: 1 }));
    expect([commands, reasons(skipped)]).toEqual([[], ["B: already warm on vm"]]);
  });

  it("is not where the cluster holds the task for less than its operator would: it may end any moment", async () => {
    const { plan: commands } = await plan(followedBy([1_000, 1_500, 2_000]), fleet({ B: 1 }, spared));
    expect(commands.map(({ key }) => key)).toEqual(["warm B@"]);
  });

  it("is told as such also where its preparation would be another task's", async () => {
    const table: TableModel = {
      next: {},
      reach: {
        A: {
          B: { probability: 1, leadMs: [1_000, 3_000, 5_000] },
          C: { probability: 1, leadMs: [4_000, 6_000, 8_000] },
        },
      },
      profiles: {
        A: { successors: [{ task: "B", probability: 1 }] },
        B: { successors: [{ task: "C", probability: 1, leastLeadMs: 3_000 }] },
        C: {},
      },
    };
    expect(reasons((await plan(table)).skipped)).toEqual(["C: left to B, which begins before this would have to"]);
    expect(reasons((await plan(table, fleet({ C: 1 }))).skipped)).toEqual(["C: already warm on vm"]);
  });
});

it("what follows a task that may not come is not left to it", async () => {
  const table = (probability: number): TableModel => ({
    next: {},
    reach: {
      A: {
        B: { probability, leadMs: [1_000, 3_000, 5_000] },
        C: { probability: 0.9, leadMs: [4_000, 6_000, 8_000] },
      },
    },
    profiles: {
      A: { successors: [{ task: "B", probability: 1 }] },
      B: { successors: [{ task: "C", probability: 1, leastLeadMs: 3_000 }] },
      C: {},
    },
  });
  expect((await plan(table(0.9))).plan.map(({ task }) => task)).toEqual(["B"]);
  expect((await plan(table(0.8))).plan.map(({ task }) => task)).toEqual(["B", "C"]);
});

describe("when", () => {
  const startedMs = async (of: ReturnType<typeof fleet>) =>
    (await plan(followedBy([10_000, 10_500, 11_000]), of)).plan[0]!.notBeforeMs - NOW_MS;

  it("what is relied on is ready at seven tenths of the p10 lead time: half as long again as its start of 400 ms before", async () => {
    expect(await startedMs(fleet({}, spared))).toBe(7_000 - 600);
  });

  it("other preparations are ready just before nearly all calls", async () => {
    expect(await startedMs(fleet())).toBeGreaterThan(8_500);
    expect(await startedMs(fleet())).toBeLessThan(10_000 - 600);
  });

  it("a runtime that is called before it can be ready does not expire while it starts", async () => {
    const { plan: commands } = await plan(followedBy([5, 10, 20]), fleet({}, {}, policy({ holdMs: 0 })));
    expect(commands[0]!.expiresMs - NOW_MS).toBe(600);
  });
});

describe("what is told of a preparation", () => {
  it("a head start shorter than the cold start saves only that much", async () => {
    expect((await plan(followedBy([90, 100, 110]))).plan[0]!.savedMs).toBe(100);
    expect((await plan(followedBy([900, 1_000, 1_100]))).plan[0]!.savedMs).toBe(400);
  });

  it("the probability that the gate believes, beside what the model had foretold", async () => {
    const table = { ...followedBy([900, 1_000, 1_100], {}, 0.8), adjustments: { gate: { probability: () => 0.6 } } };
    expect((await plan(table)).plan[0]).toMatchObject({ probability: 0.6, foretold: 0.8 });
  });

  it("its version: two versions are two things", async () => {
    const { plan: commands } = await plan(followedBy([900, 1_000, 1_100], { version: "v2" }));
    expect(commands.map(({ key, version }) => [key, version])).toEqual([["warm B@v2", "v2"]]);
  });

  it("below the gate, what is lost where nobody comes: its start and its hold, at the price of memory", async () => {
    const { skipped } = await plan(followedBy([1_000, 1_000, 1_000], { latencySensitivity: 0.01 }, 0.05));
    // An eighth of a GB at 20 ms each second, for a start of 400 ms and the 1,500 ms until half a second past twice the lead time.
    expect(reasons(skipped)).toEqual([
      expect.stringMatching(/^B: below the gate: 0.05 × 4.0 ms saved is not more than 0.95 × 4.[78] ms wasted/),
    ]);
  });

  it("of a fan-out, the first instance that is too unlikely", async () => {
    const table = followedBy([900, 1_000, 1_100]);
    table.profiles.A!.successors![0]!.fanOut = [
      { count: 2, share: 0.99 },
      { count: 50, share: 0.01 },
    ];
    const { plan: commands, skipped } = await plan(table);
    expect(commands).toHaveLength(2);
    expect(reasons(skipped)).toEqual([expect.stringMatching(/^B: instance 3: below the gate/)]);
  });
});

describe("how many", () => {
  const wide = (count: number, B: TableModel["profiles"][string]) => {
    const table = followedBy([900, 1_000, 1_100], B);
    table.profiles.A!.successors![0]!.fanOut = [{ count, share: 1 }];
    return table;
  };

  it("never more than there are executions, whatever the runs before needed", async () => {
    const many = { perRun: 4, atOnce: { first: 5, power: 1, spread: 0 } };
    expect((await plan(wide(4, many))).plan).toHaveLength(4);
  });

  it("before joins that differ in number each asks for its part of the square root of the whole", async () => {
    const table: TableModel = {
      next: {},
      reach: { "A B": { C: { probability: 1, leadMs: [5_000, 5_500, 6_000] } } },
      profiles: {
        A: { successors: [{ task: "B", probability: 1, fanOut: [{ count: 100, share: 1 }] }] },
        B: { successors: [{ task: "C", probability: 1, fanIn: 4 }] },
        C: {
          durationMs: { p10: 2_000, p50: 2_000, p90: 2_000 },
          perRun: 25,
          perRunSpread: 4,
          atOnce: { first: 1, power: 0.5, spread: 0 },
        },
      },
    };
    const asked = { task: "B", path: ["A"], executionId: "part", runId: "run" };
    const { quota } = (await plan(table, fleet({ B: 1 }), asked)).plan[0]!;
    // A hundred asks for 25 joins, of which five run at one time: 0.5 × √100.
    expect(quota).toEqual<Quota>({ first: 0.5, power: 0.5 });
  });
});

describe("of a fan-out whose later instances are unlikely", () => {
  const table = followedBy([1_000, 1_050, 1_100]);
  table.profiles.A!.successors![0]!.fanOut = [
    { count: 3, share: 0.95 },
    { count: 6, share: 0.05 },
  ];

  const dear = policy({ msPerGbSecond: 500 });

  it("those that would be kept for longer than the usual keep-alive are not told as hidden", async () => {
    const { plan: commands, offers } = await plan(table, fleet({}, {}, dear));
    expect(commands).toHaveLength(3);
    expect(offers[0]!.hidden.B!.covered).toBeCloseTo(3 / (3 + 3 * 0.05), 5);
  });

  it("where they are relied on, what is made counts as sent, for its share of the calls", async () => {
    const { plan: commands, offers } = await plan(table, fleet({}, { sparedMs: { B: 1_000 } }, dear));
    expect(commands).toHaveLength(3);
    expect(offers[0]!.hidden.B).toMatchObject({ isSent: true, covered: expect.closeTo(3 / (3 + 3 * 0.05), 5) });
  });
});

// The simulated world by itself: waits, instances and memory of single runs that can be worked out by hand.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Accounts } from "../../src/sim/accounting.ts";
import { arrivalsOf } from "../../src/sim/arrivals.ts";
import { Cache } from "../../src/sim/cache.ts";
import { fixedColdStarts } from "../../src/sim/cold-starts.ts";
import { clairvoyant, runClairvoyant } from "../../src/sim/policies/clairvoyant.ts";
import { fixed } from "../../src/sim/policies/fixed.ts";
import { greedyDual } from "../../src/sim/policies/greedy-dual.ts";
import { hybridHistogram } from "../../src/sim/policies/hybrid-histogram.ts";
import { Pool } from "../../src/sim/pool.ts";
import type { Workload } from "../../src/sim/workload.ts";
import { type Policy, World } from "../../src/sim/world.ts";
import { NESTED, PARALLEL, type Step, workloadOfSteps } from "./logs.ts";

const COLD_MS = 200;
const GB = 0.25;

async function run(
  workload: Workload,
  policy: Policy,
  known: { gapSeconds?: number; runs?: number; store?: number; progress?: (runs: number) => void } = {},
): Promise<Accounts> {
  return new World({
    workload,
    arrivals: arrivalsOf(workload, `poisson:${known.gapSeconds ?? 3_600}`, known.runs ?? 3, 7),
    coldStarts: fixedColdStarts(workload, COLD_MS),
    seed: 7,
    policy,
    storeBytesPerSecond: known.store ?? null,
    progress: known.progress ?? (() => {}),
  }).simulate();
}

it("tells how many runs have ended, after each", async () => {
  const told: number[] = [];
  await run(workloadOfSteps(NESTED, 4), fixed(60), { runs: 4, progress: (runs) => told.push(runs) });
  expect(told).toEqual([1, 2, 3, 4]);
});

describe("waits", () => {
  it("add up along a chain, and synchronous callers wait for their callees", async () => {
    const accounts = await run(workloadOfSteps(NESTED, 4), fixed(0));
    expect([...accounts.overheadMs].map(Math.round)).toEqual([600, 600, 600]);
  });

  it("do not add up between parallel callees", async () => {
    const accounts = await run(workloadOfSteps(PARALLEL, 4), fixed(0));
    expect(Math.round(accounts.overheadMs[0]!)).toBe(400);
  });

  it("are none where an instance is held until the next run", async () => {
    const accounts = await run(workloadOfSteps(NESTED, 4), fixed(1e6));
    expect([...accounts.overheadMs].map(Math.round)).toEqual([600, 0, 0]);
  });

  it("are swallowed by slack: a callee nobody waits for delays no caller", async () => {
    const detached: Step[] = [
      { task: "A", from: 0, to: 1_000 },
      { task: "B", from: 10, to: 100, parent: "A" },
    ];
    const accounts = await run(workloadOfSteps(detached, 4), fixed(0));
    // Only A's own start: B is over long before A ends, A's tail starts after B.
    expect(Math.round(accounts.overheadMs[0]!)).toBe(400);
  });

  it("of instances: one request at a time, as many instances as needed", async () => {
    const twice: Step[] = [
      { task: "A", from: 0, to: 100 },
      { task: "B", from: 10, to: 90, parent: "A" },
    ];
    // All three arrive within a second of each other and a run takes a tenth of it.
    const accounts = await run(workloadOfSteps(twice, 4), fixed(60), { gapSeconds: 0.001 });
    expect(accounts.coldExecutions).toBe(6);
  });

  it("for a start under way are taken only where a start of one's own would take longer", () => {
    const pool = new Pool(0, GB, new Accounts(1), { gb: 0 });
    const ahead = pool.bear(0, 500, "starting");
    expect(pool.take(100, 400)).toBeNull();
    expect(pool.take(100, 401)).toBe(ahead);
    expect(pool.take(100, 401)).toBeNull();
  });
});

describe("books", () => {
  it("tell used, idle and wasted memory of a case done by hand", async () => {
    const accounts = await run(workloadOfSteps([{ task: "A", from: 0, to: 100 }], 4), fixed(10), { runs: 2 });
    expect(accounts.usedGbMs).toBeCloseTo(2 * (COLD_MS + 100) * GB, 6);
    expect(accounts.idleGbMs).toBeCloseTo(2 * 10_000 * GB, 6);
    expect(accounts.wastedGbMs).toBe(0);
  });

  it("charge a start that nobody used as wasted", async () => {
    const policy: Policy = {
      name: "too eager",
      dial: 0,
      begin: (world) => {
        world.claim(0, 0, 5_000, 0);
      },
      keepAliveMs: () => 0,
    };
    const accounts = await run(workloadOfSteps([{ task: "A", from: 0, to: 100 }], 4), policy);
    expect(accounts.wastedGbMs).toBeCloseTo(5_000 * GB, 6);
  });

  it("notice when they do not close", async () => {
    const accounts = await run(workloadOfSteps(NESTED, 4), fixed(10));
    accounts.idleGbMs += 1;
    expect(() => accounts.check()).toThrow(/do not close/);
  });

  it("close for every policy over random workflows, and the clairvoyant never waits", async () => {
    const step = fc.record({
      caller: fc.nat(5),
      from: fc.nat(50),
      length: fc.integer({ min: 1, max: 400 }),
      task: fc.nat(3),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 1, maxLength: 6 }),
        fc.integer({ min: 1, max: 400 }),
        async (drawn, gap) => {
          const steps: Step[] = [{ task: "root", from: 0, to: 1_000 }];
          for (const [i, { caller, from, length, task }] of drawn.entries()) {
            const parent = steps[caller % steps.length]!;
            steps.push({
              task: `T${i}-${task}`,
              from: parent.from + from,
              to: parent.from + from + length,
              parent: parent.task,
            });
          }
          const workload = workloadOfSteps(steps, 4);
          for (const policy of [fixed(60), runClairvoyant(60), hybridHistogram(), greedyDual(1), clairvoyant()]) {
            const accounts = await run(workload, policy, { gapSeconds: gap, runs: 8 });
            if (policy.knowsAll) expect(Math.max(...accounts.overheadMs)).toBeLessThan(1e-6);
          }
        },
      ),
      { numRuns: 60 },
    );
  });
});

describe("bounds", () => {
  it("run-clairvoyant waits for the root alone", async () => {
    const accounts = await run(workloadOfSteps(NESTED, 4), runClairvoyant(0));
    expect([...accounts.overheadMs].map(Math.round)).toEqual([200, 200, 200]);
  });
});

describe("objects", () => {
  const object = (uri: string, bytes: number) => ({ uri, bytes });
  const steps: Step[] = [
    { task: "A", from: 0, to: 1_000, outputs: [object("https://store/made", 10e6)] },
    { task: "B", from: 10, to: 900, parent: "A", outputs: [object("https://store/early", 10e6)] },
    {
      task: "C",
      from: 2_000,
      to: 3_000,
      parent: "A",
      inputs: [object("https://store/made", 10e6), object("https://store/given", 20e6)],
    },
  ];

  it("are waited for at the bandwidth of the link, and once", async () => {
    const accounts = await run(workloadOfSteps(steps, 4), fixed(0), { store: 10e6, runs: 2 });
    // 30 MB at 10 MB/s in the first run; what the run itself wrote is new in the second, the given object is still there.
    expect(accounts.fetchWaitMs).toBeCloseTo(4_000, 0);
    expect(accounts.demandBytes).toBe(40e6);
  });

  it("that are still on their way are waited for by whoever reads them, and are no waste", () => {
    const accounts = new Accounts(1);
    const cache = new Cache(accounts, 1_000_000);
    cache.prefetch(1, 500_000, 0);
    expect(cache.read(1, 500_000, 200)).toBe(500);
    expect(cache.read(1, 500_000, 700)).toBe(700);
    cache.prefetch(2, 1_000, 700);
    cache.close();
    expect(accounts).toMatchObject({ prefetchBytes: 501_000, usedPrefetchBytes: 500_000, wastedBytes: 1_000 });
  });

  it("cost the run-clairvoyant no wait where there is time", async () => {
    const accounts = await run(workloadOfSteps(steps, 4), runClairvoyant(0), { store: 100e6, runs: 2 });
    expect(accounts.fetchWaitMs).toBe(0);
    expect(accounts.wastedBytes).toBe(0);
  });
});

// Whole simulations of made logs: what Forechain must save of each shape, and that the accounts add up.
import { beforeAll, describe, expect, it } from "vitest";
import { engineModule } from "../../src/cli/build.ts";
import { reportHtml } from "../../src/sim/report.ts";
import { ablate, policyAsks, type Simulation, type SimulationSpec, simulate } from "../../src/sim/simulate.ts";
import { Simulator } from "../../src/sim/simulator.ts";
import { NESTED, SHAPES, type Step, workloadOfSteps } from "./logs.ts";

let spec: SimulationSpec;
beforeAll(async () => {
  spec = {
    arrivals: "poisson:300",
    coldStarts: { kind: "fixed", ms: 200 },
    runs: 150,
    seed: 5,
    storeBytesPerSecond: null,
    policies: policyAsks("fixed:60,run-clairvoyant:60,forechain:20"),
    module: await engineModule(),
    progress: () => {},
  };
});

async function simulated(stepsOf: Parameters<typeof workloadOfSteps>[0], known: Partial<SimulationSpec> = {}) {
  const simulation = await simulate(workloadOfSteps(stepsOf, 60), { ...spec, ...known });
  if ("reason" in simulation) throw new Error(simulation.reason);
  return simulation;
}

function of(simulation: Simulation, name: string) {
  const result = simulation.results.find((candidate) => candidate.name === name);
  if (result === undefined) throw new Error(`no result of ${name}`);
  return result;
}

/** Share of the run-clairvoyant's saving over fixed 60 s. */
function savingShare(simulation: Simulation): number {
  const baseline = of(simulation, "fixed").overheadMs.mean;
  return (
    (baseline - of(simulation, "forechain").overheadMs.mean) /
    (baseline - of(simulation, "run-clairvoyant").overheadMs.mean)
  );
}

describe("Forechain through the production pipeline", () => {
  it("saves on a chain what can be saved, for no more idle memory", async () => {
    const simulation = await simulated(NESTED);
    expect(savingShare(simulation)).toBeGreaterThan(0.96);
    const { idleGbSeconds } = of(simulation, "forechain");
    expect(idleGbSeconds).toBeLessThanOrEqual(1.05 * of(simulation, "fixed").idleGbSeconds);
    expect(of(simulation, "forechain").harmedRuns).toBeLessThanOrEqual(0.01);
  });

  it("saves on a choice between two ways", async () => {
    const way = (last: string): Step[] => [
      { task: "A", from: 0, to: 900 },
      { task: "B", from: 400, to: 880, parent: "A" },
      { task: last, from: 600, to: 860, parent: "B" },
    ];
    const simulation = await simulated((run) => way(run % 3 === 0 ? "rare" : "usual"));
    expect(savingShare(simulation)).toBeGreaterThan(0.9);
  });

  it("prepares as many instances as a step fans out to", async () => {
    const fanOut: Step[] = [{ task: "A", from: 0, to: 3_000 }];
    for (let i = 0; i < 8; i++) fanOut.push({ task: "part", from: 1_000, to: 2_900, parent: "A" });
    // Executions of one name and parent need ids of their own.
    const { recordsOf } = await import("./logs.ts");
    const { workloadOf } = await import("../../src/sim/workload.ts");
    const records = recordsOf(fanOut, 60).map((record, i) => ({
      ...record,
      executionId: record.task === "A" ? record.executionId : `part-${i}`,
    }));
    const workload = workloadOf(records);
    if ("reason" in workload) throw new Error(workload.reason);
    const simulation = await simulate(workload, { ...spec, arrivals: "poisson:1800" });
    if ("reason" in simulation) throw new Error(simulation.reason);
    expect(of(simulation, "forechain").chainColdRate).toBeLessThan(0.1);
    expect(of(simulation, "fixed").chainColdRate).toBeGreaterThan(0.8);
  });

  it.each(SHAPES)(
    "$shape: no more overhead than the chain policies of the literature, for no more memory",
    async ({ stepsOf, atMost }) => {
      const simulation = await simulated(stepsOf, {
        policies: policyAsks("forechain:20,most-likely-path:60,dependency-sets:60"),
      });
      const memory = (name: string) => of(simulation, name).idleGbSeconds + of(simulation, name).wastedGbSeconds;
      for (const other of ["most-likely-path", "dependency-sets"]) {
        const ratio = of(simulation, "forechain").overheadMs.mean / of(simulation, other).overheadMs.mean;
        expect(ratio, other).toBeLessThanOrEqual(atMost);
        expect(memory("forechain"), other).toBeLessThanOrEqual(1.02 * memory(other));
      }
    },
  );

  it("is back at 90 % of the saving within 50 runs after a task was replaced in all runs", async () => {
    const steps = (middle: string): Step[] => [
      { task: "A", from: 0, to: 900 },
      { task: middle, from: 400, to: 880, parent: "A" },
      { task: "C", from: 600, to: 860, parent: middle },
    ];
    // The first half knows B alone; the second, which is replayed, has its replacement.
    const workload = workloadOfSteps((run) => steps(run < 30 ? "B" : "B2"), 60);
    const after = await simulate(workload, { ...spec, runs: 50 });
    const longer = await simulate(workload, { ...spec, runs: 150 });
    if ("reason" in after || "reason" in longer) throw new Error("refused");
    // Overhead of runs 50 to 150, from the two means.
    const late = (name: string) =>
      (150 * of(longer, name).overheadMs.mean - 50 * of(after, name).overheadMs.mean) / 100;
    const share = (late("fixed") - late("forechain")) / (late("fixed") - late("run-clairvoyant"));
    expect(share).toBeGreaterThan(0.9);
  });

  it("gives the same numbers for the same seed", async () => {
    const strip = (simulation: Simulation) => simulation.results.map(({ decisionMicros: _, ...result }) => result);
    expect(strip(await simulated(NESTED))).toEqual(strip(await simulated(NESTED)));
  });
});

describe("what is asked for", () => {
  it("names policies and dials, or is told what is wrong", () => {
    expect(policyAsks("fixed:30, clairvoyant")).toEqual([
      { name: "fixed", dial: 30 },
      { name: "clairvoyant", dial: 0 },
    ]);
    expect(() => policyAsks("magic")).toThrow(/unknown policy "magic"/);
    expect(() => policyAsks("fixed:soon")).toThrow(/dial of fixed: got "soon"/);
    expect(() => policyAsks("fixed:60:7")).toThrow(/dial of fixed: got "60:7"/);
    expect(() => policyAsks("fixed:Infinity")).toThrow(/dial of fixed: got "Infinity"/);
  });

  it("is refused where every run overlaps with every other", async () => {
    const simulation = await simulate(workloadOfSteps([{ task: "A", from: 0, to: 50_000 }], 4), {
      ...spec,
      arrivals: "poisson:1",
      runs: 5,
    });
    expect(simulation).toMatchObject({ reason: "longer-than-horizon", longestMs: 50_000 });
  });

  it("all policies of the literature run beside", async () => {
    const simulation = await simulated(NESTED, {
      policies: policyAsks(
        "hybrid-histogram:240,greedy-dual:1,dependency-sets:60,most-likely-path:60,fixed:60,clairvoyant",
      ),
    });
    const overhead = (name: string) => of(simulation, name).overheadMs.mean;
    expect(overhead("clairvoyant")).toBe(0);
    expect(overhead("most-likely-path")).toBeLessThan(overhead("fixed"));
    expect(overhead("dependency-sets")).toBeLessThan(overhead("fixed"));
    expect(overhead("hybrid-histogram")).toBeLessThan(overhead("fixed"));
  });
});

describe("report", () => {
  it("is one page that needs nothing else, and escapes names", async () => {
    const simulation = await simulated(NESTED, { runs: 20 });
    const workload = workloadOfSteps(NESTED, 20);
    const ablation = await ablate(workload, { ...spec, runs: 20 }, 20);
    expect(ablation.map(({ name }) => name)[0]).toBe("all parts");
    const placed = await new Simulator(workload, { ...spec, runs: 20 }).placement(5, 20);
    const input = {
      workload: {
        files: ["/logs/<script>alert(1).csv", ...Array.from({ length: 999 }, (_, i) => `/logs/${i}.csv`)],
        formats: ["csv"],
        runs: 20,
        executions: 60,
        tasks: 3,
        arrivals: "poisson:300",
        seed: 5,
        simulatedRuns: 20,
        simulatedExecutions: 60,
        meanGapMs: 300_000,
        notes: ["a <b> note"],
      },
      seeds: [simulation.results, simulation.results],
      ablation: [ablation],
      placement: [placed],
      dial: 20,
    };
    const html = reportHtml(input);
    expect(/<script|<b>|https?:\/\//.exec(html)).toBeNull();
    expect(html.includes("&#60;script&#62;alert(1).csv")).toBe(true);
    expect(/<svg[^>]*role="img"/.test(html)).toBe(true);
    expect(html.includes("NaN")).toBe(false);
    expect(html).toContain("10.csv and 988 more");
    // An interval wider than its mean is no number to show.
    expect(html).not.toContain("too few seeds");
    const other = placed.map((result) => ({ ...result, share: -result.share }));
    expect(reportHtml({ ...input, placement: [placed, other] })).toContain("too few seeds");
  });
});

// How good predictions were, in literal numbers: what a sealed run adds to the sums, and what people read of them.
import { describe, expect, it } from "vitest";
import { Calibration, scoresOf } from "../../src/core/calibration.ts";
import { HOUR_MS } from "../../src/core/hour.ts";
import type { Foretold } from "../../src/core/review.ts";
import { record, run } from "./run.ts";

const AT_MS = 100 * HOUR_MS;
const RUN = run(
  record("a 0-100", { cluster: "east", cpuMs: 30, memoryBytes: 1_000 }),
  record("b < a 10-60", { cluster: "west", cpuMs: 50, memoryBytes: 500 }),
);
const EXPECTED = { chain: ["a", "b"], demand: { cpuMs: 100, memoryBytes: 1_200, networkBytes: 7, durationMs: 100 } };
const LEAD = { p10: 10, p50: 20, p90: 30 };

const foretold = (probability: number, happened: boolean, leadMs = Number.NaN, execution = 0): Foretold => ({
  execution,
  context: execution === 0 ? "a" : "b",
  task: "c",
  probability,
  happened,
  lead: probability === 0 ? null : LEAD,
  leadMs: happened ? leadMs : Number.NaN,
});

function scoresAfter(...all: Foretold[]) {
  const calibration = new Calibration();
  calibration.note(RUN, all, EXPECTED, AT_MS);
  return scoresOf(calibration.rows());
}

describe("scores", () => {
  it("are means over predictions: log-loss in nats, and the Brier score", () => {
    const { predictions, logLoss, brier } = scoresAfter(foretold(0.8, true), foretold(0.3, false), foretold(0, true));
    expect(predictions).toBe(3);
    // What was not foretold at all had less than 0.01.
    expect(logLoss).toBeCloseTo(-(Math.log(0.8) + Math.log(0.7) + Math.log(0.01)) / 3, 12);
    expect(brier).toBeCloseTo((0.2 ** 2 + 0.3 ** 2 + 1) / 3, 12);
  });

  it("are not rounded where the model was sure, and bounded where it was wrong", () => {
    expect(scoresAfter(foretold(0.9999, true)).logLoss).toBeCloseTo(0.0001, 7);
    expect(scoresAfter(foretold(0.9999, false)).logLoss).toBeCloseTo(-Math.log(0.0001), 6);
    expect(scoresAfter(foretold(1, false)).logLoss).toBeCloseTo(-Math.log(1e-6), 12);
  });

  it("put each prediction into its tenth, 1 into the last", () => {
    const { bins } = scoresAfter(
      foretold(0.1, false),
      foretold(0.19, true),
      foretold(0.96, true),
      foretold(1, true),
      foretold(0, true),
    );
    expect(bins.map(({ count }) => count)).toEqual([1, 2, 0, 0, 0, 0, 0, 0, 0, 2]);
    expect(bins[0]).toEqual({ count: 1, foretold: 0, happened: 1 });
    expect(bins[1]!.foretold).toBeCloseTo(0.145, 12);
    expect(bins[1]!.happened).toBe(0.5);
    expect(bins[5]).toEqual({ count: 0, foretold: null, happened: null });
  });

  it("tell how many lead times came before p10, within, and after p90, of those that are known", () => {
    const { leadTimes } = scoresAfter(
      foretold(0.8, true, 9),
      foretold(0.8, true, 10),
      foretold(0.8, true, 30),
      foretold(0.8, true, 31),
      foretold(0.8, true, 300),
      foretold(0.8, true),
      foretold(0.8, false),
      foretold(0, true, 20),
    );
    expect(leadTimes).toEqual({ count: 5, early: 0.2, covered: 0.4, late: 0.4 });
  });

  it("tell how far off the demand of runs was that tell all of it: of network nobody did", () => {
    const { demand } = scoresAfter(foretold(0.8, true));
    expect(demand).toEqual({
      runs: 1,
      relativeError: 20 / 80,
      memory: { runs: 1, relativeError: 300 / 1_500 },
      network: { runs: 0, relativeError: null },
      duration: { runs: 1, relativeError: 0 },
    });
    // Too much of one run and too little of another are two errors.
    const calibration = new Calibration();
    for (const cpuMs of [60, 100]) {
      calibration.note(RUN, [], { ...EXPECTED, demand: { ...EXPECTED.demand, cpuMs } }, AT_MS);
    }
    expect(scoresOf(calibration.rows()).demand.relativeError).toBeCloseTo(40 / 160, 12);
  });

  it("are unknown, not 0, where nothing was measured", () => {
    expect(scoresOf([])).toMatchObject({ predictions: 0, logLoss: null, brier: null, leadTimes: { covered: null } });
  });
});

describe("rows", () => {
  it("are of the hour, the cluster where the asked task ran, the task and the run's chain", () => {
    const calibration = new Calibration();
    calibration.note(RUN, [foretold(0.8, true), foretold(0.8, true, 20, 1)], EXPECTED, AT_MS);
    calibration.note(RUN, [foretold(0.8, true)], EXPECTED, AT_MS + HOUR_MS - 1);
    calibration.note(RUN, [foretold(0.8, true)], null, AT_MS + HOUR_MS);
    const told = calibration.rows().map(({ hour, cluster, task, chain, predictions, demand }) => ({
      row: `${hour} ${cluster} ${task} ${chain}`,
      predictions,
      runs: demand.cpuMs[0],
    }));
    expect(told).toEqual([
      { row: '100 east a ["a","b"]', predictions: 2, runs: 2 },
      { row: '100 west b ["a","b"]', predictions: 1, runs: 0 },
      { row: "101 east a ", predictions: 1, runs: 0 },
    ]);
  });

  it("leave memory when their hour is over and they are stored, and not before", () => {
    const calibration = new Calibration();
    const noteAt = (hour: number) => calibration.note(RUN, [foretold(0.8, true)], EXPECTED, hour * HOUR_MS);
    const hours = () => calibration.rows().map(({ hour }) => hour);
    noteAt(100);
    const unstored = calibration.takeChanged();
    calibration.giveBack(unstored);
    noteAt(102);
    expect(hours()).toEqual([100, 102]);
    expect(calibration.takeChanged().map(({ hour }) => hour)).toEqual([100, 102]);
    expect(calibration.takeChanged()).toEqual([]);
    noteAt(103);
    expect(hours()).toEqual([102, 103]);
    expect(new Calibration(calibration.rows()).takeChanged()).toHaveLength(2);
  });

  it("are bounded in an hour: first without their chain, then together", () => {
    const calibration = new Calibration();
    for (let r = 0; r < 1_500; r++) {
      const expected = { ...EXPECTED, chain: ["a", `of ${r}`] };
      calibration.note(RUN, [{ ...foretold(0.8, true), context: `asked ${r % 900}` }], expected, AT_MS);
    }
    const rows = calibration.rows();
    expect(rows.length).toBeLessThanOrEqual(1_025);
    expect(rows.some(({ task, chain }) => task.startsWith("asked") && chain === "")).toBe(true);
    expect(rows.find(({ task }) => task === "*")?.predictions).toBeGreaterThan(0);
    expect(scoresOf(rows).predictions).toBe(1_500);
  });
});

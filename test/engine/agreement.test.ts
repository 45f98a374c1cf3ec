// The WASM engine and the oracle learn the same seeded runs and must give the same answers, to 1e-3.
// Runs are few and the model large, so that no context gives way to another: forgetting is the engine's alone. (Seed 7 has three
// contexts in one pair of lines.)

import { expect, test } from "vitest";
import { engineModule } from "../../src/cli/build.ts";
import { type NextPrediction, OCCURRENCES_MAX, type ReachPrediction } from "../../src/core/chain-engine.ts";
import { createEngine } from "../../src/core/engine.ts";
import { seededRandom } from "../../src/core/random.ts";
import { historyOf, OracleEngine } from "../oracle/engine.ts";
import { randomRun } from "./runs.ts";

const RUNS = 24;
const TOLERANCE = 1e-3;
/** Weights of a model that has learned nothing. */
const INITIAL = { next: 0.08, reach: 0.18 };
/** Starts of random runs lie this far apart, ms: with the half of it some of the runs before are known and some are not. */
const SPREAD_MS = 1e9;
const module = await engineModule();

/** Largest difference of a column, matched by task; infinite where the tasks differ. */
function difference(
  a: { tasks: readonly number[] },
  columnA: readonly number[],
  b: { tasks: readonly number[] },
  columnB: readonly number[],
  isRelative = false,
): number {
  if (a.tasks.length !== b.tasks.length) return Number.POSITIVE_INFINITY;
  let worst = 0;
  a.tasks.forEach((task, i) => {
    const x = columnA[i] as number;
    const y = columnB[b.tasks.indexOf(task)] ?? Number.POSITIVE_INFINITY;
    if (Object.is(x, y)) return;
    const d = Math.abs(x - y) / (isRelative ? Math.max(1e-6, Math.abs(y)) : 1);
    worst = Math.max(worst, Number.isNaN(d) ? Number.POSITIVE_INFINITY : d);
  });
  return worst;
}

function nextDifference(a: NextPrediction, b: NextPrediction): number {
  return Math.max(Math.abs(a.end - b.end), difference(a, a.probabilities, b, b.probabilities));
}

function reachDifference(a: ReachPrediction, b: ReachPrediction): number {
  return Math.max(
    difference(a, a.probabilities, b, b.probabilities),
    difference(a, a.multiplicities, b, b.multiplicities),
    difference(a, a.leadP10Ms, b, b.leadP10Ms, true),
    difference(a, a.leadP50Ms, b, b.leadP50Ms, true),
    difference(a, a.leadP90Ms, b, b.leadP90Ms, true),
  );
}

test.each([
  [1, 0],
  [2, 0],
  [3, 0],
  [4, 0],
  [5, 0],
  [6, SPREAD_MS / 10],
  [8, SPREAD_MS / 10],
  [9, SPREAD_MS / 2],
])("agrees with the oracle on random runs, seed %i, runs known %i ms after their end", (seed, knownAfterMs) => {
  const random = seededRandom(seed);
  const wasm = createEngine(module, "large", knownAfterMs);
  const oracle = new OracleEngine("large", knownAfterMs);
  for (let k = 0; k < RUNS; k++) {
    const run = randomRun(random, 12, 25);
    for (let i = 0; i < run.tasks.length; i++) {
      const history = historyOf(run, i);
      const where = `seed ${seed}, run ${k}, path ${history.tasks.join()}`;
      expect(nextDifference(wasm.next(history, 255), oracle.next(history, 255)), where).toBeLessThan(TOLERANCE);
      expect(reachDifference(wasm.reach(history, 0, 255), oracle.reach(history, 0, 255)), where).toBeLessThan(
        TOLERANCE,
      );
    }
    wasm.observe(run);
    oracle.observe(run);
  }
  const mixing = wasm.mixing();
  const expected = oracle.mixing();
  for (const question of ["next", "reach"] as const) {
    for (const [v, { view, weight, evidence }] of mixing[question].views.entries()) {
      const own = expected[question].get(v) ?? { weight: INITIAL[question], evidence: 0 };
      expect(Math.abs(weight - own.weight), `weight of ${question}, ${view}`).toBeLessThan(TOLERANCE);
      expect(Math.abs(evidence - own.evidence) / (1 + own.evidence), `evidence of ${view}`).toBeLessThan(TOLERANCE);
    }
    expect(Math.max(...mixing[question].views.map(({ evidence }) => evidence))).toBeGreaterThan(10);
  }
});

test.each([11, 12, 13])("agrees with the oracle where many runs start and end at the same moments, seed %i", (seed) => {
  const random = seededRandom(seed);
  const wasm = createEngine(module, "large");
  const oracle = new OracleEngine("large");
  const round = (ms: number) => Math.round(ms / (SPREAD_MS / 8)) * (SPREAD_MS / 8);
  for (let k = 0; k < 2 * RUNS; k++) {
    const run = randomRun(random, 12, 5);
    run.startMs.set(run.startMs.map(round));
    run.endMs.set(run.startMs);
    const history = historyOf(run, 0);
    expect(
      reachDifference(wasm.reach(history, 0, 255), oracle.reach(history, 0, 255)),
      `seed ${seed}, run ${k}`,
    ).toBeLessThan(TOLERANCE);
    wasm.observe(run);
    oracle.observe(run);
  }
});

test.each([21, 22])("agrees with the oracle where some runs leave little of what was before, seed %i", (seed) => {
  const random = seededRandom(seed);
  const wasm = createEngine(module, "large");
  const oracle = new OracleEngine("large");
  const kepts = [1, 2, 4, 7, 64, OCCURRENCES_MAX];
  for (let k = 0; k < 2 * RUNS; k++) {
    const run = randomRun(random, 12, 20);
    for (let i = 0; i < run.tasks.length; i += 3) {
      const history = historyOf(run, i);
      const where = `seed ${seed}, run ${k}, path ${history.tasks.join()}`;
      expect(nextDifference(wasm.next(history, 255), oracle.next(history, 255)), where).toBeLessThan(TOLERANCE);
      expect(reachDifference(wasm.reach(history, 0, 255), oracle.reach(history, 0, 255)), where).toBeLessThan(
        TOLERANCE,
      );
    }
    const kept = kepts[Math.floor(random() * kepts.length)] as number;
    wasm.observe(run, kept);
    oracle.observe(run, kept);
  }
});

test("the comparison can fail: an oracle that missed one run differs", () => {
  const random = seededRandom(1);
  const wasm = createEngine(module, "large");
  const oracle = new OracleEngine("large");
  for (let k = 0; k < 4; k++) {
    const run = randomRun(random, 12, 25);
    wasm.observe(run);
    if (k > 0) oracle.observe(run);
  }
  const history = { tasks: Uint32Array.of(0) };
  expect(nextDifference(wasm.next(history, 255), oracle.next(history, 255))).toBeGreaterThan(TOLERANCE);
});

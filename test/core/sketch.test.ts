// Means that single values cannot move: what one agent or key tells counts as often as it tells it, however large the value.
import { describe, expect, it, test } from "vitest";
import { contributionOf } from "../../src/core/contribution.ts";
import { graphAnswer } from "../../src/core/graph.ts";
import { assembleRun } from "../../src/core/profile.ts";
import { profilesOf } from "../../src/core/profiles.ts";
import type { RunRecord } from "../../src/core/records.ts";
import { GraphRows } from "../../src/core/rows.ts";
import { boundedMean, bucketField, type Counts, highOf, quantilesOf } from "../../src/core/sketch.ts";

function sketchOf(values: number[]): Counts {
  const counts: Counts = new Map();
  for (const value of values) {
    const field = bucketField("v", value);
    counts.set(field, (counts.get(field) ?? 0) + 1);
  }
  return counts;
}

describe("the high end of a sketch", () => {
  test.each([
    ["two of a hundred are beyond", [...new Array(98).fill(10), 40, 40], 40],
    ["one of two hundred may be anybody's mistake", [...new Array(199).fill(10), 70], 10],
    ["of few each counts, and none for more than eight medians", [10, 10, 10, 1e9], 80],
    ["nothing is known", [], 0],
  ])("%s", (_, values, expected) => {
    const counts = sketchOf(values);
    const high = highOf(counts, "v", quantilesOf(counts, "v")?.p50 ?? 0);
    expect(high).toBeGreaterThanOrEqual(expected * 0.95);
    expect(high).toBeLessThanOrEqual(expected * 1.1);
  });
});

describe("a bounded mean", () => {
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const times = (count: number, value: number) => new Array<number>(count).fill(value);

  it.each<[string, number[], number]>([
    ["of equal values is exact", times(10, 1_234_567), 1_234_567],
    ["of values that differ as values do is exact", [1, 2, 3, 4, 5, 6, 7], 4],
    ["of nothing but zeros and ones has no median to go by", [...times(9, 0), 10], 1],
  ])("%s", (_, values, expected) => {
    expect(boundedMean(mean(values), sketchOf(values), "v")).toBe(expected);
  });

  it("moves by no more than eight medians times the share of those who tell nonsense", () => {
    for (const [wrong, count] of [
      [1e15, 1],
      [1e15, 10],
      [1e300, 1],
    ] as const) {
      const values = [...times(1_000 - count, 1_000), ...times(count, wrong)];
      const bounded = boundedMean(mean(values), sketchOf(values), "v");
      expect(bounded).toBeGreaterThan(900);
      expect(bounded).toBeLessThan(1_000 * 1.05 + (8 * 1_050 * count) / 1_000);
    }
  });

  it("follows where most values change", () => {
    expect(boundedMean(5e6, sketchOf([...times(4, 10), ...times(6, 1e7)]), "v")).toBe(5e6);
  });

  it("without a sketch, as older rows are, is the mean", () => {
    expect(boundedMean(77, new Map([["n", 3]]), "v")).toBe(77);
  });
});

test("one record of a thousand that tells absurd sizes and latencies leaves profiles and graph as they were", () => {
  const run = (n: number, factor: number): RunRecord[] => {
    const at = 1_790_000_000_000 + n * 1_000;
    const record = (executionId: string, parentId: string | null, rest: RunRecord["rest"]): RunRecord => ({
      ...{ runId: `r${n}`, executionId, parentId, task: executionId, startMs: at, endMs: at + 10, status: "ok", rest },
    });
    return [
      record("a", null, { outputBytes: 500 * factor }),
      record("b", "a", {
        inputs: [{ uri: "https://store/model", bytes: 1_000_000 * factor }],
        services: [{ service: "db", calls: 2 * factor, bytes: 300 * factor, latencyMs: 4 * factor }],
      }),
    ];
  };
  const told = (records: RunRecord[][]) => {
    const rows = new GraphRows();
    for (const each of records) rows.apply(contributionOf(assembleRun(each)), 1);
    const { services, objects } = profilesOf(rows.rows).find(({ task }) => task === "b")!;
    const { transitions } = graphAnswer(rows.rows, 0, { task: null, minCount: 0 });
    const { calls, bytes, latencyMs } = services[0]!;
    return [calls, bytes, latencyMs!, objects[0]!.bytes!, transitions[0]!.transferBytes!];
  };
  const usual = Array.from({ length: 999 }, (_, n) => run(n, 1));
  const honest = told([...usual, run(999, 1)]);
  expect(honest).toEqual([2, 300, 4, 1_000_000, 500]);
  for (const [i, value] of told([...usual, run(999, 1e6)]).entries()) {
    expect(Math.abs(value / honest[i]! - 1)).toBeLessThan(0.06);
  }
});

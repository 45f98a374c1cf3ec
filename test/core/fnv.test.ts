// Shares of ids: a canary's runs, and the branches that prepare for all.
import { describe, expect, test } from "vitest";
import { uniformOf } from "../../src/core/fnv.ts";

describe("a share of ids", () => {
  const kinds: [string, (i: number) => string][] = [
    ["counted ids", (i) => `run-${i}`],
    ["trace ids", (i) => (i * 2_654_435_761).toString(16).padStart(32, "0")],
    ["branches of a run", (i) => `12.${i} > 12.${i + 1} task`],
    ["ids that differ at the front", (i) => `${i}-of-the-same-long-workflow`],
  ];
  test.each(kinds)("is what was asked for: %s", (_, idOf) => {
    const numbers = Array.from({ length: 10_000 }, (_unused, i) => uniformOf(idOf(i)));
    for (const share of [0.01, 0.1, 0.5, 0.9]) {
      const covered = numbers.filter((number) => number < share).length / numbers.length;
      // Five standard deviations of a fair draw.
      expect(Math.abs(covered - share)).toBeLessThan(5 * Math.sqrt((share * (1 - share)) / numbers.length));
    }
  });

  test("is the same for the same id", () => {
    expect(uniformOf("run")).toBe(uniformOf("run"));
    expect(uniformOf("")).toBeGreaterThanOrEqual(0);
  });
});

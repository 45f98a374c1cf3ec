// Branches of a fan-out: opened step by step, to a bound, and joined again.
import { describe, expect, it } from "vitest";
import { joined, opened } from "../../src/core/branch.ts";

describe("branch", () => {
  it.each([
    [null, "a", "a"],
    ["a", "b", "a > b"],
    ["a > b > c > d", "e", "a > b > c > d"],
  ])("of %s, opened by %s: %s", (branch, executionId, expected) => {
    expect(opened(branch, executionId)).toBe(expected);
  });

  it.each([
    [null, 1, null],
    ["a > b", 0, "a > b"],
    ["a > b", 1, "a"],
    ["a > b", 2, null],
    ["a > b", 5, null],
  ])("%s after %i joins: %s", (branch, joins, expected) => {
    expect(joined(branch, joins)).toBe(expected);
  });
});

// What is told of a policy, from accounts written out by hand.
import { expect, it } from "vitest";
import { Accounts, resultOf } from "../../src/sim/accounting.ts";

function accountsOf(overheadMs: number[], changes: Partial<Accounts> = {}): Accounts {
  const accounts = new Accounts(overheadMs.length);
  accounts.overheadMs.set(overheadMs);
  return Object.assign(accounts, changes);
}

it("mean and percentiles are of runs, whatever their order", () => {
  const descending = Array.from({ length: 200 }, (_, r) => 200 - r);
  const { overheadMs } = resultOf("fixed", 60, accountsOf(descending), null);
  expect(overheadMs).toEqual({ mean: 100.5, p50: 101, p95: 191, p99: 199 });
  expect(resultOf("fixed", 60, accountsOf([7]), null).overheadMs).toEqual({ mean: 7, p50: 7, p95: 7, p99: 7 });
});

it("a run is harmed that ends over 1 ms later than the same run of the baseline", () => {
  const baseline = accountsOf([0, 100, 100, 500]);
  expect(resultOf("forechain", 20, accountsOf([1, 101.5, 101.1, 400]), baseline).harmedRuns).toBe(0.5);
  expect(resultOf("fixed", 60, baseline, baseline).harmedRuns).toBe(0);
});

it("books that do not close are a fault: bytes beyond a rounding, GB·s, a run without an end", () => {
  const closed = { usedGbMs: 1, idleGbMs: 2, wastedGbMs: 3, lifetimeGbMs: 6, demandBytes: 5, usedPrefetchBytes: 6 };
  const books = (changes: Partial<Accounts>) => () =>
    accountsOf([0], { ...closed, wastedBytes: 7, fetchedBytes: 18, ...changes }).check();
  expect(books({})).not.toThrow();
  expect(books({ wastedBytes: 8 })).toThrow("bytes do not close: used + wasted is 19, fetched were 18");
  expect(books({ idleGbMs: 2.1 })).toThrow("GB·s do not close");
  expect(() => accountsOf([Number.NaN]).check()).toThrow("a run never ended");
});

it("shares are of all executions and of those after the first; memory is told in GB·s, decisions in µs", () => {
  const accounts = accountsOf([0], {
    executions: 10,
    coldExecutions: 4,
    laterExecutions: 8,
    coldLaterExecutions: 2,
    usedGbMs: 1_000,
    idleGbMs: 2_000,
    wastedGbMs: 3_000,
    decisions: 4,
    decisionMs: 2,
  });
  expect(resultOf("forechain", 20, accounts, null)).toMatchObject({
    coldRate: 0.4,
    chainColdRate: 0.25,
    usedGbSeconds: 1,
    idleGbSeconds: 2,
    wastedGbSeconds: 3,
    decisionMicros: 500,
  });
  expect(resultOf("fixed", 0, accountsOf([0]), null)).toMatchObject({
    coldRate: 0,
    chainColdRate: 0,
    decisionMicros: 0,
  });
});

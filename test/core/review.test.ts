// A sealed run beside what was foretold of it: which predictions count, and how lead times are measured.
import { describe, expect, it } from "vitest";
import { reviewRun } from "../../src/core/review.ts";
import { modelOf, type TableModel } from "./knowledge.ts";
import { record, run } from "./run.ts";

const LEAD: [number, number, number] = [10, 20, 30];
const model = (reach: TableModel["reach"]) => modelOf({ next: {}, reach, profiles: { a: {}, b: {}, c: {}, d: {} } });

/** `asked -> task probability came-after-ms`, or `no` where it did not come. */
const told = (assembled: Parameters<typeof reviewRun>[0], reach: TableModel["reach"]) =>
  reviewRun(assembled, model(reach)).foretold.map(
    ({ context, task, probability, happened, leadMs }) =>
      `${context} -> ${task} ${probability} ${happened ? leadMs : "no"}`,
  );

describe("what was foretold of each execution", () => {
  it("is asked of the path to it; what came unforetold counts as 0", () => {
    const reach = {
      a: { b: { probability: 0.9, leadMs: LEAD }, d: { probability: 0.2, leadMs: LEAD } },
      "a b": { c: { probability: 0.6, leadMs: LEAD } },
      b: { d: { probability: 1, leadMs: LEAD } },
    };
    expect(told(run("a 0-100", "b < a 10-90", "c < b 40-80"), reach)).toEqual([
      "a -> b 0.9 10",
      "a -> d 0.2 no",
      "a -> c 0 40",
      "b -> c 0.6 30",
    ]);
  });

  it("is only of descendants: a parallel branch is none", () => {
    const reach = { "a b": { c: { probability: 0.3, leadMs: LEAD } } };
    expect(told(run("a 0-100", "b < a 10-50", "c < a 20-90"), reach)).toEqual([
      "a -> b 0 10",
      "a -> c 0 20",
      "b -> c 0.3 no",
    ]);
  });

  it("has the first of several executions of a task as its lead time, without the cold starts on the way", () => {
    const cold = run(
      record("a 0-200", { coldStartMs: 50 }),
      record("b < a 60-150", { coldStartMs: 30 }),
      "c1:c < b 100-110",
      "c2:c < b 105-120",
    );
    const reach = { a: { b: { probability: 1, leadMs: LEAD }, c: { probability: 1, leadMs: LEAD } } };
    expect(told(cold, reach)).toEqual(["a -> b 1 10", "a -> c 1 20", "b -> c 0 10"]);
  });

  it("is told from where the path is known: a task that the model has never seen ends it", () => {
    const reach = { b: { c: { probability: 0.7, leadMs: LEAD } }, "a b": { c: { probability: 0.1, leadMs: LEAD } } };
    expect(told(run("a 0-100", "new < a 5-95", "b < new 10-90", "c < b 40-80"), reach)).toContain("b -> c 0.7 30");
  });
});

it("of a run of thousands some executions are looked at, evenly spread", () => {
  const lines = Array.from({ length: 3_200 }, (_, i) => `e${i}:a ${i * 10}-${i * 10 + 5}`);
  const asked = new Set(reviewRun(run(...lines), model({})).foretold.map(({ execution }) => execution));
  expect(asked.size).toBeLessThanOrEqual(32);
  expect(Math.max(...asked)).toBeGreaterThan(3_000);
});

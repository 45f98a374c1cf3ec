// Triggers and paths of single runs, as tables: DESIGN "Profile", and the faults of other systems that FAILURES.md lists.
import { describe, expect, test } from "vitest";
import { contributionOf } from "../../src/core/contribution.ts";
import { graphAnswer } from "../../src/core/graph.ts";
import { TRIGGERS_MAX } from "../../src/core/profile/triggers.ts";
import { observedRun } from "../../src/core/profile.ts";
import type { RunRecord } from "../../src/core/records.ts";
import { GraphRows } from "../../src/core/rows.ts";
import { sensitivityOf } from "../../src/core/sensitivity.ts";
import { BASE_MS, counts, execution, paths, record, run, transitions } from "./run.ts";

describe("triggers", () => {
  test("an orchestrator that calls A then B: A → B, and O → A only", () => {
    expect(transitions(run("o 0-100", "a < o 10-20", "b < o 30-40"))).toEqual(["a -sequence-> b 1", "o -call-> a 1"]);
  });

  test("A ∥ B, then C: both trigger C, and the path goes through the smaller name", () => {
    const assembled = run("o 0-100", "b < o 10-30", "a < o 11-20", "c < o 40-50");
    expect(transitions(assembled)).toEqual([
      "a -sequence-> c 1",
      "b -sequence-> c 1",
      "o -call-> a 1",
      "o -call-> b 1",
    ]);
    expect(paths(assembled).c).toBe("o a c");
  });

  test("only the frontier triggers: A, B after A, then C: B → C", () => {
    expect(transitions(run("o 0-100", "a < o 1-5", "b < o 6-9", "c < o 10-12"))).toEqual([
      "a -sequence-> b 1",
      "b -sequence-> c 1",
      "o -call-> a 1",
    ]);
  });

  test("a sibling that still runs is no trigger", () => {
    expect(transitions(run("o 0-100", "a < o 1-50", "b < o 10-20", "c < o 60-70"))).toEqual([
      "a -sequence-> c 1",
      "b -sequence-> c 1",
      "o -call-> a 1",
      "o -call-> b 1",
    ]);
  });

  test("siblings of no duration at one instant: the total order decides, and none is lost", () => {
    expect(transitions(run("o 0-100", "a < o 10-10", "b < o 10-10", "c < o 20-20"))).toEqual([
      "a -sequence-> b 1",
      "b -sequence-> c 1",
      "o -call-> a 1",
    ]);
  });

  test("an asynchronous child starts after its parent has ended", () => {
    expect(transitions(run("o 0-10", "a < o 20-30"))).toEqual(["o -sequence-> a 1"]);
  });

  test("no parents at all: the event before, by time, then sequence, then id", () => {
    expect(transitions(run("a 0-5", "b 6-7", "c 8-9"))).toEqual(["a -sequence-> b 1", "b -sequence-> c 1"]);
    const sameInstant = [
      record("x 5-5", { sequence: 2 }),
      record("y 5-5", { sequence: 1 }),
      record("z 5-5", { sequence: 3 }),
    ];
    expect(paths(run(...sameInstant)).z).toBe("y x z");
  });

  test("links are the triggers where there are any", () => {
    const assembled = run("o 0-100", "a < o 1-5", "b < o 6-9", record("c < o 10-12", { links: ["a"] }));
    expect(transitions(assembled)).toContain("a -link-> c 1");
    expect(transitions(assembled)).not.toContain("b -sequence-> c 1");
  });

  test("a link to nothing that is there leaves the other rules", () => {
    expect(transitions(run("o 0-100", record("a < o 1-5", { links: ["gone"] })))).toEqual(["o -call-> a 1"]);
  });

  test("a wide join after a wide fan-out has a bounded number of triggers", () => {
    const wide = Array.from({ length: 300 }, (_, i) => record(`a${i}:a < o 10-${20 + (i % 5)}`));
    const joined = run("o 0-100", ...wide, "b < o 50-60").executions.find(({ task }) => task === "b")!;
    expect(joined.triggers).toHaveLength(TRIGGERS_MAX);
  });
});

describe("faults of other systems", () => {
  test("1: prewarm starts that come back as logs count nothing, nor does what they called", () => {
    // As an agent posts it: the mark has to come through from the wire.
    const times = { startMs: BASE_MS + 5, endMs: BASE_MS + 6 };
    const speculative = execution({ executionId: "p", parentId: "o", task: "a", ...times, speculative: true });
    const assembled = run("o 0-100", "a < o 10-20", speculative, "q:b < p 5-6");
    expect(counts(assembled)).toEqual({ a: 1, o: 1 });
  });

  test("19: A → B(error) → B(ok) is one A → B, attempts kept apart", () => {
    const assembled = run("a 0-100", "b1:b < a 10-20!", "b2:b < a 30-40");
    expect(transitions(assembled)).toEqual(["a -call-> b 1"]);
    const rows = new GraphRows();
    rows.apply(contributionOf(assembled), 1);
    const b = graphAnswer(rows.rows, 0, { task: "b", minCount: 0 }).tasks.find(({ task }) => task === "b");
    expect(b).toMatchObject({ count: 1, retries: 1, errors: 0 });
  });

  test("19: attempt numbers tell retries even where the first attempt's answer was lost, in parallel too", () => {
    const attempts = [0, 0, 1, 1].map((attempt, i) => record(`b${i}:b < a ${10 + 10 * i}-${15 + 10 * i}`, { attempt }));
    expect(counts(run("a 0-100", ...attempts))).toEqual({ a: 1, b: 2 });
  });

  test("19: what a failed attempt had called counts no more than the attempt", () => {
    const assembled = run("a 0-100", "b1:b < a 10-20!", "c1:c < b1 11-12", "b2:b < a 30-40", "c2:c < b2 31-32");
    expect(counts(assembled)).toEqual({ a: 1, b: 1, c: 1 });
  });

  test("19: in a log without parents only the failed attempt right before is retried", () => {
    expect(counts(run("a 0-1", "b1:b 2-3!", "b2:b 4-5", "c 6-7", "b3:b 8-9"))).toEqual({ a: 1, b: 2, c: 1 });
  });

  test("19: the trigger is that of the first attempt, whatever came before the last one", () => {
    const again = ["r1:r < o 10-20!", "r2:r < o 500-600"];
    expect(transitions(run("o 0-1000", "a < o 30-100", "b < o 110-400", ...again))).toEqual([
      "a -sequence-> b 1",
      "o -call-> a 1",
      "o -call-> r 1",
    ]);
  });

  test("19: a second success is a second execution", () => {
    expect(counts(run("a 0-100", "b1:b < a 10-20", "b2:b < a 30-40"))).toEqual({ a: 1, b: 2 });
  });

  test("21: internal spans collapse, real recursion stays and ends", () => {
    const assembled = run("a 0-100", "i:- < a 1-90", "a2:a < i 2-50", "j:- < a2 3-40", "a3:a < j 4-30");
    expect(counts(assembled)).toEqual({ a: 3 });
    expect(transitions(assembled)).toEqual(["a -call-> a 2"]);
  });

  test("22: without the root of {A→B, A→C} there is no invented B → C", () => {
    expect(transitions(run("b < gone 10-20", "c < gone 30-40"))).toEqual([]);
  });

  test("26: a consumer joined to its producer by a link only, through collapsed spans", () => {
    const assembled = run("a 0-100", "p:- < a 10-20", record("c 200-210", { links: ["p"] }));
    expect(transitions(assembled)).toEqual(["a -link-> c 1"]);
  });

  test("28: end before start, start = end and unknown times give no duration or a zero one, never NaN", () => {
    const backwards = { ...record("b < a 20-20"), endMs: BASE_MS + 5 };
    const unknown = { ...record("c < a 20-20"), startMs: null, endMs: null };
    const rows = new GraphRows();
    rows.apply(contributionOf(run("a 0-100", backwards, unknown, "d < a 30-30")), 1);
    const { tasks, transitions: found, skewed } = graphAnswer(rows.rows, 0, { task: null, minCount: 0 });
    const of = (name: string) => tasks.find(({ task }) => task === name)!.durationMs;
    expect(of("b")).toBeNull();
    expect(of("c")).toBeNull();
    expect(of("d")).toEqual({ p10: 0, p50: 0, p90: 0 });
    expect(skewed).toBe(1);
    expect(JSON.stringify([tasks, found])).not.toMatch(/NaN|Infinity/);
  });

  test("clock skew: a child that starts before its parent stays below it, its delay is 0 and the run is flagged", () => {
    const assembled = run("a 50-100", "b < a 10-20");
    expect(transitions(assembled)).toEqual(["a -call-> b 1"]);
    expect(assembled.skewed).toBe(true);
    expect(assembled.executions.map(({ task }) => task)).toEqual(["a", "b"]);
  });

  test("circles of parents and of links end, in the same order every time", () => {
    const parents = [record("a < b 0-10"), record("b < a 1-9")];
    const links = [record("a 0-10", { links: ["b"] }), record("b 1-9", { links: ["a"] })];
    for (const records of [parents, links]) {
      const assembled = run(...records);
      expect(assembled.cyclic).toBe(true);
      expect(assembled.executions).toHaveLength(2);
      expect(transitions(run(...records.toReversed()))).toEqual(transitions(assembled));
    }
    expect(run("c1:- < c2 0-1", "c2:- < c1 0-1", "a < c1 0-1").executions).toHaveLength(1);
  });
});

test("a client span that called a task is a transition, one that called none is a service", () => {
  const service = { service: "db", calls: 1, bytes: 10, latencyMs: 2 };
  const called = record("k1:- < a 1-9", { services: [{ ...service, service: "b.host" }] });
  const assembled = run("a 0-100", called, "b < k1 2-8", record("k2:- < a 20-22", { services: [service] }));
  expect(assembled.executions.map(({ services }) => services)).toEqual([[service], []]);
});

test("latency sensitivity: 1 on the critical path, less beside it", () => {
  const rows = new GraphRows();
  rows.apply(contributionOf(run("o 0-2000", "slow < o 10-1900", "fast < o 10-1650", "idle < o 10-100")), 1);
  const { tasks } = graphAnswer(rows.rows, 0, { task: null, minCount: 0 });
  const of = (name: string) => tasks.find(({ task }) => task === name)!.latencySensitivity;
  expect(of("o")).toBe(1);
  expect(of("slow")).toBe(1);
  expect(of("fast")).toBe(0.5); // 250 of the 500 ms of a common cold start are slack
  expect(of("idle")).toBe(0);
});

test("latency sensitivity: a task that calls with its own continuation waits for its callee, as one that is a parent does", () => {
  const sensitivity = (...lines: (string | RunRecord)[]) => [...sensitivityOf(run(...lines))];
  const byParents = sensitivity("o 0-1000", "a < o 10-500", "b < o 510-700", "c < o 510-800");
  expect(byParents).toEqual([1000, 1000, 800, 1000]);
  const called = [["o"], ["a"], ["a"]].map((links, i) => record(["a 10-500", "b 510-700", "c 510-800"][i]!, { links }));
  expect(sensitivity("o 0-1000", ...called)).toEqual(byParents);
  // What ended before its follower began was not called by it.
  expect(sensitivity("o 0-400", record("a 410-1000", { links: ["o"] }))).toEqual([1000, 1000]);
});

test("transfer: shared objects, else what the source put out, else unknown", () => {
  const rows = new GraphRows();
  const outputs = [
    { uri: "s3://b/x", bytes: 100 },
    { uri: "s3://b/y", bytes: 900 },
  ];
  rows.apply(
    contributionOf(
      run(
        execution({ executionId: "a", task: "a", outputs, outputBytes: 5 }),
        execution({
          executionId: "b",
          task: "b",
          links: ["a"],
          inputs: [{ uri: "s3://b/x", bytes: 100 }],
          outputBytes: 7,
        }),
        execution({ executionId: "c", task: "c", links: ["b"] }),
        execution({ executionId: "d", task: "d", links: ["c"] }),
      ),
    ),
    1,
  );
  const found = graphAnswer(rows.rows, 0, { task: null, minCount: 0 }).transitions;
  const of = (source: string) => found.find((transition) => transition.source === source)!.transferBytes;
  expect([of("a"), of("b"), of("c")]).toEqual([100, 7, null]);
});

test("the engine's view: triggers point backwards, and a run that is too long is cut", () => {
  const tasks: string[] = [];
  const intern = (task: string) => (tasks.includes(task) ? tasks.indexOf(task) : tasks.push(task) - 1);
  const observed = observedRun(run("o 0-100", "b < o 10-30", "a < o 11-20", "c < o 40-50"), intern, () => 1);
  expect(tasks).toEqual(["o", "b", "a", "c"]);
  expect([...observed.pathTriggers]).toEqual([-1, 0, 0, 2]);
  expect([...observed.triggerOffsets]).toEqual([0, 0, 1, 2, 4]);
  expect(new Set(observed.triggers.subarray(2))).toEqual(new Set([1, 2]));
  const cold = observedRun(run(record("o 0-100", { coldStartMs: 9 }), "b < o 10-30", "a < o 40-50"), intern, () => 1);
  expect([...cold.coldBeforeMs]).toEqual([0, 9, 9]);
  const long = Array.from({ length: 5000 }, (_, i) => record(`e${i}:a ${i}-${i}`));
  const cut = observedRun(run(...long), intern, () => 1);
  expect(cut.tasks).toHaveLength(4096);
  expect(cut.triggerOffsets.at(-1)).toBe(cut.triggers.length);
});

// What outcomes teach, whoever tells them and however often.
import { describe, expect, it } from "vitest";
import { Learned } from "../../src/core/learned.ts";
import { LearnedExport } from "../../src/core/learned-export.ts";
import type { Outcome } from "../../src/protocol.ts";
import { modelOf } from "./knowledge.ts";
import { BASE_MS, record, run } from "./run.ts";

const outcome = (changes: Partial<Outcome>): Outcome => ({
  outcomeId: "c1",
  commandId: "c1",
  kind: "warm",
  outcome: "hit",
  cluster: "near",
  vm: "vm-1",
  task: "B",
  uri: null,
  runId: "r",
  executionId: "e",
  atMs: 1,
  savedMs: 0,
  bytes: 0,
  gbSeconds: 0,
  reason: null,
  probability: 0.9,
  foretold: 0.9,
  context: "A",
  chain: ["A", "B"],
  wholeStartMs: 800,
  unsent: false,
  ...changes,
});
const recordedBy = (vm: string) => (runId: string, executionId: string, by: string) =>
  runId === "r" && executionId === "e" && by === vm;

describe("a whole start is learned from", () => {
  it.each<[string, Partial<Outcome>, string, number]>([
    ["a hit", {}, "vm-1", 1],
    ["a late one", { outcome: "late" }, "vm-1", 1],
    ["waste: it was a start all the same", { outcome: "waste", executionId: null }, "vm-1", 1],
    ["a miss whose execution its VM recorded", { outcome: "miss", commandId: null }, "vm-1", 1],
    ["not a miss of an execution that nobody recorded", { outcome: "miss", executionId: "x" }, "vm-1", 0],
    ["not a miss of another VM's execution", { outcome: "miss" }, "vm-2", 0],
    ["not where nothing was started", { wholeStartMs: null, outcome: "failed" }, "vm-1", 0],
    ["not a prefetch", { kind: "prefetch", uri: "s3://o" }, "vm-1", 0],
  ])("%s", (_, changes, recorder, starts) => {
    const learned = new Learned();
    expect(learned.take("near", [{ seq: 1, outcome: outcome(changes) }], recordedBy(recorder))).toBe(starts > 0);
    expect(learned.starts.learned().map(({ task, count }) => `${task} ${count}`)).toEqual(starts > 0 ? ["B 1"] : []);
  });
});

it("a batch that comes again, or grown, teaches each outcome once; another cluster's numbers are its own", () => {
  const learned = new Learned();
  const batch = [1, 2, 3].map((seq) => ({ seq, outcome: outcome({ outcomeId: `c${seq}` }) }));
  const has = recordedBy("vm-1");
  learned.take("near", batch.slice(0, 2), has);
  expect(learned.knows("near", batch.slice(0, 2))).toBe(true);
  expect(learned.knows("near", batch)).toBe(false);
  learned.take("near", batch, has);
  learned.take("far", batch.slice(0, 1), has);
  expect(learned.starts.learned()).toMatchObject([{ task: "B", count: 4 }]);
});

it("stored and restored it is the same", () => {
  const learned = new Learned();
  for (let seq = 1; seq <= 300; seq++) {
    learned.take("near", [{ seq, outcome: outcome({ wholeStartMs: 500 + seq }) }], () => true);
  }
  const text = JSON.stringify(learned.text());
  const restored = new Learned(JSON.parse(text));
  expect(JSON.stringify(restored.text())).toBe(text);
  expect(restored.starts.learned()).toEqual(learned.starts.learned());
  expect(restored.knows("near", [{ seq: 300 }])).toBe(true);
});

describe("a sealed run", () => {
  const model = modelOf({
    next: {},
    reach: { a: { b: { probability: 0.95, leadMs: [10, 20, 30] } } },
    profiles: { a: {}, b: {} },
  });
  const EXPECTED_TERMS = { servicesMs: 0, transferMs: 100, coldStartMs: 200, queueMs: 0, hopsMs: 0, priceMs: 0 };
  const placed = (...lines: Parameters<typeof run>) => {
    const learned = new Learned();
    learned.placed([{ runId: "run", cluster: "near", expectedTerms: EXPECTED_TERMS }]);
    learned.sealed(run(...lines), model, BASE_MS + 1_000);
    return learned.learning.placement.state();
  };

  it("tells what its placement came to, each wait once: of a start without its queue and its objects", () => {
    const { clusters } = placed(record("a 0-900", { cluster: "near", coldStartMs: 350, queueMs: 50, fetchMs: 100 }));
    // As expected: 100 ms of transfer and 200 ms of start.
    expect(clusters.near).toMatchObject({ count: 2, factors: [1, 1, 1, 1, 1] });
  });

  it("says nothing of its placement where parts of it ran elsewhere", () => {
    const far = record("b < a 10-60", { cluster: "far", fetchMs: 900 });
    expect(placed(record("a 0-100", { cluster: "near", fetchMs: 900 }), far).clusters).toEqual({});
  });

  const surprised = (learned: Learned) => {
    for (let i = 0; i < 40; i++) learned.sealed(run("a 0-100", "b < a 20-60"), model, BASE_MS + 1_000);
    for (let i = 0; i < 10; i++) learned.sealed(run("a 0-100"), model, BASE_MS + 1_000);
    return learned;
  };

  it("that shows a change of the workflow makes what was learned before weigh a tenth, but for what is frozen", () => {
    const taught = (frozen: boolean) => {
      const learned = new Learned();
      for (let seq = 1; seq <= 100; seq++)
        learned.take("near", [{ seq, outcome: outcome({ context: "x", task: "y" }) }], () => true);
      if (frozen) learned.freeze(["gate"]);
      return surprised(learned).learning.gate.learned()[0]!.observations;
    };
    expect(taught(false)).toBeCloseTo(10, 6);
    expect(taught(true)).toBe(100);
  });

  it("ages what outcomes taught of each prediction: half of it after 140", () => {
    const learned = new Learned();
    const used = outcome({ context: "a", task: "b", foretold: 0.95 });
    for (let seq = 1; seq <= 100; seq++) learned.take("near", [{ seq, outcome: used }], () => true);
    for (let i = 0; i < 139; i++) learned.sealed(run("a 0-100", "b < a 20-60"), model, BASE_MS + 1_000);
    expect(learned.learning.gate.learned()[0]!.observations).toBeCloseTo(50, 0);
  });

  it("has a change at its own end, and not later than now where its clock is ahead", () => {
    expect(surprised(new Learned()).learning.drift.changes()[0]!.atMs).toBe(BASE_MS + 100);
    const ahead = new Learned();
    for (let i = 0; i < 40; i++) ahead.sealed(run("a 0-100", "b < a 20-60"), model, BASE_MS + 50);
    for (let i = 0; i < 10; i++) ahead.sealed(run("a 0-100"), model, BASE_MS + 50);
    expect(ahead.learning.drift.changes()[0]!.atMs).toBe(BASE_MS + 50);
  });

  it("changes go with the model: reset and taken over with it, and with no other part", () => {
    const learned = surprised(new Learned());
    const from = LearnedExport.shape.learned.parse(JSON.parse(JSON.stringify(learned.text())));
    const changes = [...learned.learning.drift.changes()];
    expect(changes).toHaveLength(1);
    learned.reset("gate");
    expect(learned.learning.drift.changes()).toEqual(changes);
    learned.reset("model");
    expect(learned.learning.drift.changes()).toEqual([]);
    learned.adopt(["gate"], from);
    expect(learned.learning.drift.changes()).toEqual([]);
    learned.adopt(["model"], from);
    expect(learned.learning.drift.changes()).toEqual(changes);
  });
});

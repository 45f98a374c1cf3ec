// What outcomes teach, whoever tells them and however often.
import { describe, expect, it } from "vitest";
import { Learned } from "../../src/core/learned.ts";
import type { Outcome } from "../../src/protocol.ts";

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

// Facts that an agent tells, settled as outcomes: a table of each kind, and that none counts twice.
import { describe, expect, it } from "vitest";
import { type CommandFacts, settleEnd, settleFailure, settleMiss, settleUse } from "../../src/core/feedback.ts";
import { Outcome } from "../../src/protocol.ts";

const command: CommandFacts = {
  commandId: "c1",
  kind: "warm",
  cluster: "near",
  vm: "vm-1",
  task: "B",
  uri: null,
  runId: "planned-for",
  bytes: 10,
  probability: 0.8,
  foretold: 0.9,
  context: "A",
  chain: ["A", "B"],
  wholeStartMs: 300,
};
const use = { commandId: "c1", runId: "r", executionId: "e", usedMs: 5_000, waitedMs: 0, savedMs: 300 };
const end = {
  commandId: "c1",
  endedMs: 9_000,
  used: false,
  reason: "expired" as const,
  heldMs: 4_000,
  memoryBytes: 2 ** 29,
  bytes: 10,
};

describe("feedback", () => {
  it.each([
    ["ready when it was called", { waitedMs: 0 }, "hit", 300],
    ["still starting", { waitedMs: 120 }, "late", 180],
    ["no faster than without", { waitedMs: 400 }, "late", 0],
  ])("a use of what was %s", (_, known, outcome, savedMs) => {
    expect(settleUse(command, { ...use, ...known })).toMatchObject({ outcome, savedMs, runId: "r", outcomeId: "c1" });
  });

  it("an end without a use is waste, in GB·s and bytes, with its reason", () => {
    const waste = settleEnd(command, end);
    expect(waste).toMatchObject({ outcome: "waste", gbSeconds: 2, bytes: 10, reason: "expired", runId: "planned-for" });
  });

  it("wastes what the command loaded, where its end tells less: an object that others had brought is no bytes of its end", () => {
    expect(settleEnd({ ...command, bytes: 500 }, end)).toMatchObject({ bytes: 500 });
  });

  it("an end after a use settles nothing twice", () => {
    expect(settleEnd(command, { ...end, used: true })).toBeNull();
  });

  it("a miss takes its id from the execution, so that a repeated report is the same outcome", () => {
    const miss = { kind: "warm" as const, task: "B", runId: "r", executionId: "e", atMs: 1, costMs: 250 };
    const first = settleMiss(miss, "near", "vm-1");
    expect(first.outcomeId).toBe(settleMiss(miss, "near", "vm-1").outcomeId);
    expect(first).toMatchObject({ outcome: "miss", commandId: null, reason: "250 ms paid" });
  });

  it("every outcome has the shape of the API", () => {
    const miss = {
      kind: "prefetch" as const,
      task: "B",
      uri: "https://s/x",
      runId: "r",
      executionId: "e",
      atMs: 1,
      costMs: 2,
    };
    for (const outcome of [
      settleUse(command, use),
      settleEnd(command, end),
      settleFailure(command, 1, "no"),
      settleMiss(miss, "c", "v"),
    ]) {
      expect(Outcome.parse(outcome)).toEqual(outcome);
    }
  });
});

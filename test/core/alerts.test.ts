// What operators are alerted of, and what not.
import { describe, expect, it } from "vitest";
import { alertsOf, type LeftOut, neverPrepared, type TaskCount } from "../../src/core/alerts.ts";

const of = (task: string, counts: Partial<Record<TaskCount["outcome"], number>>): TaskCount[] =>
  Object.entries(counts).map(([outcome, count]) => ({ task, outcome: outcome as TaskCount["outcome"], count }));
const spent = { task: "b", reason: "budget of 0 commands in flight" };

describe("an alert", () => {
  it.each<[string, TaskCount[], LeftOut[], string[]]>([
    ["foreseen, waited for, and nothing was ever sent", of("b", { miss: 10 }), [spent], ["never_prepared b 10"]],
    [
      "known otherwise to its agent",
      of("order-20240115", { miss: 12 }),
      [{ task: "order-*", reason: "x" }],
      ["never_prepared order-20240115 12"],
    ],
    ["not foreseen", of("b", { miss: 100 }), [], []],
    ["waited for a few times", of("b", { miss: 9 }), [spent], []],
    ["sent now and then, late or in vain", of("b", { miss: 50, late: 1 }), [spent], []],
    ["sent and failed", of("b", { miss: 50, failed: 3 }), [spent], []],
    ["prepared in vain, always", of("b", { waste: 20 }), [], ["always_wasted b 20"]],
    ["prepared in vain, mostly", of("b", { waste: 200, hit: 1 }), [], []],
    ["prepared in vain a few times", of("b", { waste: 19 }), [], []],
    ["of nobody's task", of("", { waste: 100 }), [], []],
    [
      "of several, worst first",
      [...of("b", { miss: 30 }), ...of("c", { waste: 40 })],
      [spent],
      ["always_wasted c 40", "never_prepared b 30"],
    ],
  ])("%s", (_, counts, leftOut, expected) => {
    expect(alertsOf(counts, leftOut).map(({ kind, task, count }) => `${kind} ${task} ${count}`)).toEqual(expected);
  });

  it("tells the reason that plans give most often", () => {
    const [alert] = alertsOf(of("b", { miss: 10 }), [{ task: "b", reason: "beyond the fan-out" }, spent, spent]);
    expect(alert!.detail).toContain("never prepared: budget of 0 commands in flight");
  });

  it("asks plans only where nothing was sent", () => {
    expect([...neverPrepared([...of("b", { miss: 10 }), ...of("c", { miss: 10, hit: 1 })])]).toEqual([["b", 10]]);
  });
});

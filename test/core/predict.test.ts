// What a prediction tells of a model of tables: next, reach with routes, the tree and the paths.
import { describe, expect, it } from "vitest";
import type { Model } from "../../src/core/graph.ts";
import { hashVersion, predict } from "../../src/core/predict.ts";
import { LINEAR, modelOf, NOW_MS } from "./knowledge.ts";

const ask = (task: string, path: string[] = [], known = {}) => ({
  task,
  version: null,
  path,
  pathStartMs: [],
  horizonMs: null,
  maxTasks: null,
  ...known,
});

const predictionOf = (asked: ReturnType<typeof ask>, model: Model) =>
  predict(asked, NOW_MS, model, { next: true, paths: true });

describe("predict", () => {
  it("tells next with the end as null, summing to 1", () => {
    const { next } = predictionOf(ask("B", ["A"]), modelOf(LINEAR));
    expect(next).toEqual([
      { task: "C", probability: 0.9 },
      { task: null, probability: 0.1 },
    ]);
  });

  it("tells reach with lead time and the likeliest route", () => {
    const { reach } = predictionOf(ask("A"), modelOf(LINEAR));
    expect(reach.map(({ task, probability, route }) => [task, probability, route])).toEqual([
      ["B", 1, ["A", "B"]],
      ["C", 0.9, ["A", "B", "C"]],
    ]);
    expect(reach[1]!.leadTimeMs).toEqual({ p10: 90, p50: 100, p90: 120 });
  });

  it("tells the expected tree first, then the paths that are not the tree, then the task alone", () => {
    const { chains } = predictionOf(ask("A"), modelOf(LINEAR));
    expect(chains).toEqual([
      { shape: "tree", tasks: ["A", "B", "C"], probability: 0.9 },
      { shape: "path", tasks: ["A", "B"], probability: 0.1 },
      { shape: "task", tasks: ["A"], probability: 1 },
    ]);
  });

  it("takes into the tree what is more likely to execute than not", () => {
    const seldom = { probability: 0.49, leadMs: [90, 100, 120] as [number, number, number] };
    const reach = { A: { ...LINEAR.reach.A, C: seldom } };
    const { chains } = predictionOf(ask("A"), modelOf({ ...LINEAR, reach }));
    expect(chains[0]).toEqual({ shape: "tree", tasks: ["A", "B"], probability: 1 });
  });

  it("invents nothing for a task it has never seen", () => {
    const prediction = predictionOf(ask("unseen"), modelOf(LINEAR));
    expect(prediction).toMatchObject({ modelVersion: 7, next: [], reach: [] });
    expect(prediction.chains).toEqual([{ shape: "task", tasks: ["unseen"], probability: 1 }]);
  });

  it("lets an unknown task inside the path end the known history there", () => {
    const { next } = predictionOf(ask("A", ["B", "unseen"]), modelOf(LINEAR));
    expect(next[0]).toEqual({ task: "B", probability: 1 });
  });

  it("keeps to the horizon and to maxTasks, which never cut next", () => {
    const model = modelOf(LINEAR);
    expect(predictionOf(ask("A", [], { horizonMs: 60 }), model).reach.map((task) => task.task)).toEqual(["B"]);
    const cut = predictionOf(ask("A", [], { maxTasks: 1 }), model);
    expect(cut.reach).toHaveLength(1);
    expect(cut.next.reduce((sum, { probability }) => sum + probability, 0)).toBe(1);
  });

  it("ends on loops and names the way back to the root", () => {
    const model = modelOf({
      next: { A: { B: 1 }, "A B": { A: 1 }, "A B A": { B: 1 } },
      reach: { A: { A: { probability: 0.8, leadMs: [1, 2, 3] }, B: { probability: 1, leadMs: [1, 2, 3] } } },
      profiles: {
        A: { successors: [{ task: "B", probability: 1 }] },
        B: { successors: [{ task: "A", probability: 0.8 }] },
      },
    });
    const { reach, chains } = predictionOf(ask("A"), model);
    expect(reach[0]!.route).toEqual(["A", "B", "A"]);
    expect(chains.every((chain) => chain.tasks.length <= 17)).toBe(true);
  });

  it("hashes a version to a u32 that is never 0", () => {
    expect(hashVersion("1.2.3")).toBe(hashVersion("1.2.3"));
    expect(hashVersion("1.2.3")).not.toBe(hashVersion("1.2.4"));
    expect(hashVersion("")).toBeGreaterThan(0);
  });
});

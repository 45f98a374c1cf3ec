// After a change of the workflow the GraphWriter's model is taught as the simulator's is, forgets what is gone, and stays as it is where it is frozen.
import { beforeEach, expect, test } from "vitest";
import module from "../../build/engine.wasm";
import { createEngine } from "../../src/core/engine.ts";
import { Learned } from "../../src/core/learned.ts";
import { KNOWN_AFTER_MS } from "../../src/core/ledger.ts";
import type { AssembledRun } from "../../src/core/profile.ts";
import { modelOf, type State, sealing } from "../../src/edge/writer/state.ts";
import { Learner } from "../../src/sim/learner.ts";
import { BASE_MS, run } from "../core/run.ts";

const NOW_MS = BASE_MS + 1e9;
const RUNS = 200;
const RUNS_AFTER = 14;

/** Run n of a workflow a, `then`, c; a minute apart. */
function runOf(n: number, then: string): AssembledRun {
  const at = n * 60_000;
  return run(`a ${at}-${at + 50}`, `x:${then} < a ${at + 10}-${at + 20}`, `c < a ${at + 30}-${at + 40}`);
}
const before = Array.from({ length: RUNS }, (_, n) => runOf(n, "gone"));
const after = Array.from({ length: RUNS_AFTER }, (_, n) => runOf(RUNS + n, "fresh"));

let state: State;
beforeEach(() => {
  const learns = { engine: createEngine(module, "default", KNOWN_AFTER_MS), tasks: [], taskIds: new Map() };
  const parts = { ...learns, learned: new Learned(), ended: [], changes: [], unpublished: 0, modelVersion: 0 };
  // What sealing asks of a state; the rest belongs to storage.
  state = { ...parts, model: modelOf(parts, []) } as unknown as State;
});

function seal(runs: AssembledRun[]): void {
  for (const each of runs) sealing(state, 1, NOW_MS)(each);
}

/** Foretold at the start of the next run. */
function foretold(): Record<string, number> {
  const tasks = Uint32Array.of(state.taskIds.get("a")!);
  const startMs = Float64Array.of(BASE_MS + (RUNS + RUNS_AFTER) * 60_000);
  const answer = state.engine.reach({ tasks, startMs }, 0, 10);
  return Object.fromEntries(answer.tasks.map((task, i) => [state.tasks[task], answer.probabilities[i]]));
}

test("the model forgets what is gone, and is the simulator's to the last byte", () => {
  seal([...before, ...after]);
  expect(state.changes).toMatchObject([{ root: "a" }]);
  const { gone, fresh, c } = foretold();
  expect(gone).toBeLessThan(0.1);
  expect(fresh).toBeGreaterThan(0.9);
  expect(c).toBeGreaterThan(0.95);
  const parts = { measuresStarts: true, fansOut: true, believes: true, learnsMargins: true };
  const simulated = (noticesDrift: boolean) => {
    const learner = new Learner(module, { ...parts, noticesDrift, countsAtOnce: true, knowsTails: true });
    for (const each of [...before, ...after]) learner.learn(each, NOW_MS);
    return learner.trained().image;
  };
  expect(Buffer.compare(simulated(true), state.engine.exportImage())).toBe(0);
  expect(Buffer.compare(simulated(false), state.engine.exportImage())).not.toBe(0);
});

test("a frozen model keeps all; once it is learned again, it follows", () => {
  seal(before);
  const image = state.engine.exportImage();
  state.learned.freeze(["model"]);
  seal(after);
  expect(Buffer.compare(state.engine.exportImage(), image)).toBe(0);
  expect(state.learned.learning.drift.relearning()).toEqual([{ root: "a", runs: 16 }]);
  state.learned.freeze([]);
  seal(after);
  expect(foretold().gone).toBeLessThan(0.1);
});

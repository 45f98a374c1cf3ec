// One suite for every ChainEngine: the WASM engine and the oracle must both pass it.

import { describe, expect, test } from "vitest";
import { engineModule } from "../../src/cli/build.ts";
import {
  type ChainEngine,
  EngineError,
  endOf,
  type History,
  PATH_TASKS_MAX,
  TASKS_MAX,
} from "../../src/core/chain-engine.ts";
import { createEngine } from "../../src/core/engine.ts";
import { seededRandom } from "../../src/core/random.ts";
import { OracleEngine } from "../oracle/engine.ts";
import { chainRun, type Row, runOf } from "./runs.ts";

const module = await engineModule();
const engines: [string, (knownAfterMs?: number) => ChainEngine][] = [
  // Large enough that no context gives way to another: forgetting is the table's, and has tests of its own (hostile.test.ts).
  ["WASM", (knownAfterMs) => createEngine(module, "default", knownAfterMs)],
  ["oracle", (knownAfterMs) => new OracleEngine("small", knownAfterMs)],
];

function path(...tasks: number[]): History {
  return { tasks: Uint32Array.from(tasks) };
}

function probabilityOf(
  prediction: { tasks: readonly number[]; probabilities: readonly number[] },
  task: number,
): number {
  return prediction.probabilities[prediction.tasks.indexOf(task)] ?? 0;
}

describe.each(engines)("%s engine", (_name, create) => {
  test("an empty model answers: the end is certain, nothing is reached", () => {
    const engine = create();
    expect(engine.next(path(3, 1), 10)).toEqual({
      tasks: [],
      probabilities: [],
      end: 1,
    });
    expect(engine.reach(path(3, 1), 0, 10).tasks.length).toBe(0);
  });

  test("an empty path answers the same, also after learning", () => {
    const engine = create();
    engine.observe(chainRun([0, 1]));
    expect(engine.next(path(), 10).end).toBe(1);
    expect(engine.reach(path(), 0, 10).tasks.length).toBe(0);
  });

  test("a chain seen a few times is predicted to its end", () => {
    const engine = create();
    for (let i = 0; i < 20; i++) engine.observe(chainRun([0, 1, 2], i * 1000));
    expect(probabilityOf(engine.next(path(0), 5), 1)).toBeGreaterThan(0.9);
    expect(probabilityOf(engine.next(path(0, 1), 5), 2)).toBeGreaterThan(0.9);
    expect(engine.next(path(0, 1, 2), 5).end).toBeGreaterThan(0.9);
    const reach = engine.reach(path(0), 0.01, 10);
    expect([...reach.tasks].sort()).toEqual([1, 2]);
    expect(Math.min(...reach.probabilities)).toBeGreaterThan(0.9);
  });

  test("probabilities of next and of the end sum to 1, and limit only cuts the list", () => {
    const engine = create();
    for (let i = 0; i < 30; i++) engine.observe(chainRun([0, 1 + (i % 9)], i * 1000));
    const all = engine.next(path(0), 100);
    expect(all.end + all.probabilities.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 5);
    expect([...all.probabilities]).toEqual([...all.probabilities].sort((a, b) => b - a));
    const two = engine.next(path(0), 2);
    expect(two.tasks).toEqual(all.tasks.slice(0, 2));
    expect(two.end).toBe(all.end);
    expect(engine.next(path(0), 0).tasks.length).toBe(0);
  });

  test("a longer context decides where the last task alone cannot", () => {
    const engine = create();
    for (let i = 0; i < 40; i++) engine.observe(chainRun(i % 2 ? [0, 2, 3] : [1, 2, 4], i * 1000));
    expect(probabilityOf(engine.next(path(0, 2), 5), 3)).toBeGreaterThan(0.9);
    expect(probabilityOf(engine.next(path(1, 2), 5), 4)).toBeGreaterThan(0.9);
  });

  test("what follows the end of a run is told by that run, whatever it took, only if it is known by then", () => {
    const known = create();
    const late = create(60_000);
    const random = seededRandom(5);
    let now = 1.8e12;
    // A form (0 → 1) is answered by a redirect 6 ms after it ends; a page (0 → 2) by nothing. A third client asks in between.
    const ask = (startMs: number, task: number, durationMs: number) =>
      runOf([
        { task: 0, startMs, triggers: [], durationMs },
        { task, startMs: startMs + 1, triggers: [0], durationMs: 1 },
      ]);
    for (let i = 0; i < 150; i++) {
      const durationMs = 20 + random() * 400;
      const isForm = random() < 0.5;
      const first = ask(now, isForm ? 1 : 2, durationMs);
      const between = ask(now + random() * 10, 2, 700);
      const second = ask(now + durationMs + (isForm ? 6 : 400), isForm ? 3 : 2, 30);
      for (const engine of [known, late]) for (const run of [first, between, second]) engine.observe(run);
      now += 3_000 + random() * 4_000;
    }
    for (const engine of [known, late]) {
      engine.observe(ask(now, 1, 300));
      engine.observe(ask(now + 290, 2, 500));
    }
    const redirect = { tasks: Uint32Array.of(0), startMs: Float64Array.of(now + 306) };
    expect(probabilityOf(known.reach(redirect, 0, 10), 3)).toBeGreaterThan(0.8);
    expect(probabilityOf(known.next(redirect, 10), 3)).toBeGreaterThan(0.8);
    expect(probabilityOf(late.next(redirect, 10), 3)).toBeLessThan(0.4);
    const page = { tasks: Uint32Array.of(0), startMs: Float64Array.of(now + 250) };
    expect(probabilityOf(known.reach(page, 0, 10), 3)).toBeLessThan(0.1);
    const unknown = probabilityOf(late.reach(redirect, 0, 10), 3);
    expect(unknown).toBeGreaterThan(0.05);
    expect(unknown).toBeLessThan(0.35);
  });

  test("runs that overlap too much to know of one another in learning change nothing in serving", () => {
    const engine = create();
    const random = seededRandom(5);
    const startMs = (run: number) => 1.8e12 + 40_000 + run * 1_000;
    for (let i = 0; i < 200; i++) {
      const later = { task: random() < 0.3 ? 1 : 2, startMs: startMs(i) + random() * 50_000, triggers: [0] };
      engine.observe(runOf([{ task: 0, startMs: startMs(i), triggers: [], durationMs: 60_000 }, later]));
    }
    // The last run ended 4 s before, and this one begins another five minutes.
    const told = engine.reach({ tasks: Uint32Array.of(0), startMs: Float64Array.of(startMs(263)) }, 0, 10);
    expect(told).toEqual(engine.reach(path(0), 0, 10));
  });

  test("XOR: reach shares the probability between the branches, and knows better once one is taken", () => {
    const engine = create();
    const random = seededRandom(7);
    for (let i = 0; i < 90; i++) engine.observe(chainRun(random() < 1 / 3 ? [0, 1, 3] : [0, 2, 4], i * 1000));
    const reach = engine.reach(path(0), 0, 10);
    expect(probabilityOf(reach, 3)).toBeGreaterThan(0.15);
    expect(probabilityOf(reach, 3)).toBeLessThan(0.6);
    expect(probabilityOf(reach, 3) + probabilityOf(reach, 4)).toBeCloseTo(1, 0);
    expect(probabilityOf(engine.reach(path(0, 1), 0, 10), 3)).toBeGreaterThan(0.9);
    expect(probabilityOf(engine.reach(path(0, 1), 0, 10), 4)).toBeLessThan(0.1);
  });

  test("AND: parallel branches and their join are all reached; next names the earliest", () => {
    const engine = create();
    const rows = (startMs: number): Row[] => [
      { task: 0, startMs, triggers: [] },
      { task: 1, startMs: startMs + 5, triggers: [0] },
      { task: 2, startMs: startMs + 6, triggers: [0] },
      { task: 3, startMs: startMs + 20, triggers: [1, 2] },
    ];
    for (let i = 0; i < 20; i++) engine.observe(runOf(rows(i * 1000)));
    expect(probabilityOf(engine.next(path(0), 5), 1)).toBeGreaterThan(0.9);
    const reach = engine.reach(path(0), 0.5, 10);
    expect([...reach.tasks].sort()).toEqual([1, 2, 3]);
    // The join executes once, although both branches cause it.
    expect(reach.multiplicities[reach.tasks.indexOf(3)]).toBeCloseTo(1, 5);
    expect(probabilityOf(engine.reach(path(0, 2), 0, 10), 3)).toBeGreaterThan(0.9);
  });

  test("loops and recursion: multiplicity counts repetitions, and the answer ends", () => {
    const engine = create();
    for (let i = 0; i < 20; i++) engine.observe(chainRun([0, 1, 1, 1, 1, 2], i * 1000));
    const reach = engine.reach(path(0), 0.5, 10);
    expect(reach.multiplicities[reach.tasks.indexOf(1)]).toBeCloseTo(4, 5);
    expect(reach.multiplicities[reach.tasks.indexOf(2)]).toBeCloseTo(1, 5);
    expect(probabilityOf(engine.reach(path(0, 1), 0, 10), 1)).toBeGreaterThan(0.9);
  });

  test("lead times: quantiles around the observed gap, in order, without cold starts", () => {
    const engine = create();
    const rows = (startMs: number, coldMs: number): Row[] => [
      { task: 0, startMs, triggers: [] },
      { task: 1, startMs: startMs + 100 + coldMs, triggers: [0], coldBeforeMs: coldMs },
    ];
    for (let i = 0; i < 40; i++) engine.observe(runOf(rows(i * 10_000, i % 2 ? 500 : 0)));
    const reach = engine.reach(path(0), 0, 5);
    const [p10, p50, p90] = [reach.leadP10Ms[0] as number, reach.leadP50Ms[0] as number, reach.leadP90Ms[0] as number];
    expect(p10).toBeGreaterThan(80);
    expect(p10).toBeLessThanOrEqual(p50);
    expect(p50).toBeLessThanOrEqual(p90);
    expect(p90).toBeLessThan(125);
  });

  test("unknown times give NaN lead times, known probabilities", () => {
    const engine = create();
    for (let i = 0; i < 20; i++) engine.observe(chainRun([0, 1], Number.NaN));
    const reach = engine.reach(path(0), 0, 5);
    expect(reach.leadP50Ms[0]).toBeNaN();
    expect(reach.probabilities[0]).toBeGreaterThan(0.8);
  });

  test("a version has statistics of its own and inherits where it is new", () => {
    const engine = create();
    const run = (version: number, target: number, startMs: number) =>
      runOf([
        { task: 0, startMs, triggers: [], version },
        { task: target, startMs: startMs + 1, triggers: [0] },
      ]);
    for (let i = 0; i < 60; i++) engine.observe(i % 2 ? run(1, 5, i * 1000) : run(2, 6, i * 1000));
    expect(probabilityOf(engine.next({ ...path(0), version: 1 }, 5), 5)).toBeGreaterThan(0.7);
    expect(probabilityOf(engine.next({ ...path(0), version: 2 }, 5), 6)).toBeGreaterThan(0.7);
    expect(probabilityOf(engine.next({ ...path(0), version: 3 }, 5), 5)).toBeGreaterThan(0.2);
  });

  test("learnNext prefix by prefix teaches next the same as observe at once", () => {
    const [whole, prefixes] = [create(), create()];
    for (let i = 0; i < 25; i++) {
      const run = chainRun([0, 1, i % 3, 2, 3 + (i % 2)], i * 977);
      whole.observe(run);
      for (let j = 1; j <= run.tasks.length; j++) {
        const history = { tasks: run.tasks.slice(0, j), startMs: run.startMs.slice(0, j) };
        prefixes.learnNext(history, run.tasks[j] ?? null, j === run.tasks.length ? endOf(run) : undefined);
      }
    }
    for (const history of [path(0), path(0, 1), path(0, 1, 2), path(0, 1, 0, 2)]) {
      expect(prefixes.next(history, 10)).toEqual(whole.next(history, 10));
    }
    const soon = { tasks: Uint32Array.of(0), startMs: Float64Array.of(24 * 977 + 400) };
    expect(prefixes.next(soon, 10)).toEqual(whole.next(soon, 10));
  });

  test("told of a change, it forgets what is gone within a dozen runs", () => {
    const changed = (kept?: number) => {
      const engine = create();
      for (let i = 0; i < 300; i++) engine.observe(chainRun([0, 1, 3], i * 60_000));
      for (let i = 300; i < 312; i++) engine.observe(chainRun([0, 2, 3], i * 60_000), kept);
      const reach = engine.reach({ ...path(0), startMs: Float64Array.of(312 * 60_000) }, 0, 10);
      return { gone: probabilityOf(reach, 1), fresh: probabilityOf(reach, 2), stays: probabilityOf(reach, 3) };
    };
    const untold = changed();
    const told = changed(4);
    expect(told.gone).toBeLessThan(0.1);
    expect(told.gone).toBeLessThan(untold.gone / 2);
    expect(told.fresh).toBeGreaterThan(0.9);
    expect(told.stays).toBeGreaterThan(0.95);
  });

  test("it follows a change of the workflow", () => {
    const engine = create();
    for (let i = 0; i < 200; i++) engine.observe(chainRun([0, 1], i * 1000));
    for (let i = 200; i < 240; i++) engine.observe(chainRun([0, 2], i * 1000));
    expect(probabilityOf(engine.next(path(0), 5), 2)).toBeGreaterThan(0.5);
  });

  test.each([
    ["a task beyond the limit", () => create().next(path(TASKS_MAX), 1), "task-out-of-range"],
    [
      "a path that is too long",
      () => create().next({ tasks: new Uint32Array(PATH_TASKS_MAX + 1) }, 1),
      "path-too-long",
    ],
    ["a run that is too long", () => create().observe(chainRun(new Array(4097).fill(0))), "run-too-long"],
    ["an actual that is no task", () => create().learnNext(path(0), -1), "task-out-of-range"],
    [
      "a trigger after its effect",
      () => create().observe({ ...chainRun([0, 1]), triggers: Uint32Array.of(1) }),
      "malformed-run",
    ],
    [
      "a path trigger after its effect",
      () => create().observe({ ...chainRun([0, 1]), pathTriggers: Int32Array.of(-1, 1) }),
      "malformed-run",
    ],
    [
      "offsets that go back",
      () => create().observe({ ...chainRun([0, 1, 2]), triggerOffsets: Uint32Array.of(0, 2, 1, 2) }),
      "malformed-run",
    ],
    [
      "fields of different length",
      () => create().observe({ ...chainRun([0]), startMs: new Float64Array(2) }),
      "malformed-run",
    ],
  ])("refuses %s with a typed error", (_case, act, reason) => {
    let fault: unknown;
    try {
      act();
    } catch (error) {
      fault = error instanceof EngineError ? error.fault.reason : error;
    }
    expect(fault).toBe(reason);
  });
});

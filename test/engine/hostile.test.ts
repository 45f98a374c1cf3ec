// Input that no one means to send, and a model that is full: sensible answers, bounded memory, nothing but EngineError.

import { expect, test } from "vitest";
import { engineModule } from "../../src/cli/build.ts";
import { EngineError, type History, PATH_TASKS_MAX } from "../../src/core/chain-engine.ts";
import { createEngine, type WasmEngine } from "../../src/core/engine.ts";
import { seededRandom } from "../../src/core/random.ts";
import { chainRun, randomRun } from "./runs.ts";

const module = await engineModule();
const SEED = 1125;
const STRANGE_MS = [
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  -1,
  0,
  1e300,
  -1e300,
  8.64e15,
  5e-324,
];

function expectSound(engine: WasmEngine, history: History, where: string): void {
  const next = engine.next(history, 255);
  expect(Math.abs(next.end + next.probabilities.reduce((a, b) => a + b, 0) - 1), where).toBeLessThan(1e-4);
  const reach = engine.reach(history, 0, 255);
  const numbers = [...reach.probabilities, ...reach.multiplicities];
  expect(numbers.every(Number.isFinite), where).toBe(true);
  for (const quantiles of [reach.leadP10Ms, reach.leadP50Ms, reach.leadP90Ms]) {
    // Unknown is NaN; what is known is a time.
    expect(
      quantiles.every((ms) => Number.isNaN(ms) || (ms >= 0 && ms < Number.POSITIVE_INFINITY)),
      where,
    ).toBe(true);
  }
}

test(`strange times, in learning and in asking (seed ${SEED})`, () => {
  const random = seededRandom(SEED);
  const engine = createEngine(module, "small");
  const strange = () => STRANGE_MS[Math.floor(random() * STRANGE_MS.length)] as number;
  for (let i = 0; i < 300; i++) {
    const run = randomRun(random, 20, 20);
    const startMs = run.startMs.map((ms) => (random() < 0.5 ? strange() : ms));
    const coldBeforeMs = run.coldBeforeMs.map((ms) => (random() < 0.2 ? strange() : ms));
    engine.observe({ ...run, startMs, coldBeforeMs, endMs: startMs });
    expectSound(
      engine,
      { tasks: run.tasks, startMs, version: Math.floor(random() * 2 ** 32) },
      `seed ${SEED}, run ${i}`,
    );
  }
});

test("start times that are fewer than the tasks, or more", () => {
  const engine = createEngine(module, "small");
  for (let i = 0; i < 20; i++) engine.observe(chainRun([0, 1, 2], i * 1000));
  expectSound(engine, { tasks: Uint32Array.of(0, 1), startMs: Float64Array.of(5) }, "fewer");
  expectSound(engine, { tasks: Uint32Array.of(0, 1), startMs: Float64Array.of(5, 15, 25) }, "more");
});

test.each([-1, 0, 0.5, 3, 1e9, Number.NaN, Number.POSITIVE_INFINITY])(
  "a limit of %d rows gives no more, and no error",
  (limit) => {
    const engine = createEngine(module, "small");
    for (let i = 0; i < 40; i++) engine.observe(chainRun([0, 1 + (i % 10)], i * 1000));
    const most = limit >= 1 ? limit : 0;
    expect(engine.next({ tasks: Uint32Array.of(0) }, limit).tasks.length).toBeLessThanOrEqual(most);
    expect(engine.reach({ tasks: Uint32Array.of(0) }, Number.NaN, limit).tasks.length).toBeLessThanOrEqual(most);
  },
);

test("the longest path and the longest run are taken; the next longer ones are refused", () => {
  const engine = createEngine(module, "small");
  const tasks = Array.from({ length: PATH_TASKS_MAX }, (_, i) => i % 7);
  engine.observe(chainRun(tasks));
  expectSound(engine, { tasks: Uint32Array.from(tasks) }, "longest path");
  expect(() => engine.observe(chainRun([...tasks, 0]))).toThrow(EngineError);
});

test("a model far over its capacity keeps what is frequent, in the same memory", () => {
  const engine = createEngine(module, "small");
  const random = seededRandom(SEED);
  const bytes = engine.exportImage().byteLength;
  for (let i = 0; i < 3_000; i++) {
    engine.observe(chainRun([0, 1, 2, 3], i * 60_000));
    engine.observe(randomRun(random, 50_000, 20));
  }
  const { usedLines, lines } = engine.usage();
  expect(usedLines / lines).toBeGreaterThan(0.95);
  expect(engine.exportImage().byteLength).toBe(bytes);
  const next = engine.next({ tasks: Uint32Array.of(0, 1, 2) }, 1);
  expect(next.tasks[0]).toBe(3);
  expect(next.probabilities[0]).toBeGreaterThan(0.9);
  for (let i = 0; i < 50; i++)
    expectSound(engine, randomRun(random, 50_000, 20), `seed ${SEED}, full model, path ${i}`);
});

test("answers stay what they were when more are asked", () => {
  const engine = createEngine(module, "small");
  for (let i = 0; i < 40; i++) engine.observe(chainRun([0, 1 + (i % 9)], i * 1000));
  const first = engine.next({ tasks: Uint32Array.of(0) }, 20);
  const copy = structuredClone(first);
  // Several chunks of answers further on.
  for (let i = 0; i < 5_000; i++) engine.reach({ tasks: Uint32Array.of(0) }, 0, 20);
  expect(first).toEqual(copy);
});

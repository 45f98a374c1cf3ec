// The model image and hostile input: a typed error or a sensible answer, never a trap, never NaN.

import { describe, expect, test } from "vitest";
import { engineModule } from "../../src/cli/build.ts";
import { EngineError, type History, OCCURRENCES_MAX, TASKS_MAX } from "../../src/core/chain-engine.ts";
import { createEngine, loadEngine, type WasmEngine } from "../../src/core/engine.ts";
import { seededRandom } from "../../src/core/random.ts";
import { chainRun, randomRun, runOf } from "./runs.ts";

const module = await engineModule();

function trained(seed: number, runs: number): WasmEngine {
  const engine = createEngine(module, "small");
  const random = seededRandom(seed);
  for (let i = 0; i < runs; i++) engine.observe(randomRun(random, 40, 40));
  return engine;
}

/** `sumLeast`: where an image may name symbols that are no task, their shares are missing. */
function expectSound(engine: WasmEngine, history: History, where: string, sumLeast = 1 - 1e-4): void {
  const next = engine.next(history, 255);
  const sum = next.end + next.probabilities.reduce((a, b) => a + b, 0);
  expect(sum >= sumLeast && sum < 1 + 1e-4, `${where}: a sum of ${sum}`).toBe(true);
  const reach = engine.reach(history, 0, 255);
  for (const task of [...next.tasks, ...reach.tasks]) expect(task, where).toBeLessThan(TASKS_MAX);
  for (const p of reach.probabilities) expect(p >= 0 && p <= 1, where).toBe(true);
  for (const m of reach.multiplicities) expect(m >= 1, where).toBe(true);
  reach.leadP10Ms.forEach((p10, i) => {
    if (Number.isNaN(p10)) return;
    const [p50, p90] = [reach.leadP50Ms[i] as number, reach.leadP90Ms[i] as number];
    expect(p10 >= 0 && p10 <= p50 && p50 <= p90 && p90 < Number.POSITIVE_INFINITY, where).toBe(true);
  });
}

function faultOf(act: () => void): unknown {
  try {
    act();
    return "no error";
  } catch (error) {
    return error instanceof EngineError && error.fault.reason === "bad-image" ? error.fault.field : error;
  }
}

/** assembly/model.ts modelChecksum, written again: a forger can do the same. */
function signImage(image: Uint8Array<ArrayBuffer>): void {
  const words = new BigUint64Array(image.buffer);
  const wrap = (x: bigint) => BigInt.asUintN(64, x);
  const rotate = (x: bigint, by: bigint) => wrap(x << by) | (x >> (64n - by));
  const lane = (sum: bigint, word: bigint) =>
    wrap(rotate(wrap(sum + word * 0xc2b2ae3d27d4eb4fn), 31n) * 0x9e3779b185ebca87n);
  const lanes = [0x9e3779b185ebca87n, 0xc2b2ae3d27d4eb4fn, 0x165667b19e3779f9n, 0x85ebca77c2b2ae63n];
  for (let w = 0; w < words.length; w++) {
    if (w !== 3) lanes[w % 4] = lane(lanes[w % 4] as bigint, words[w] as bigint);
  }
  const [a, b, c, d] = lanes as [bigint, bigint, bigint, bigint];
  let h = rotate(a, 1n) ^ rotate(b, 7n) ^ rotate(c, 12n) ^ rotate(d, 18n);
  h = wrap((h ^ (h >> 33n)) * 0xff51afd7ed558ccdn);
  words[3] = h ^ (h >> 33n);
}

describe("image", () => {
  test("a loaded engine answers and learns as the one that was saved", () => {
    const engine = trained(11, 60);
    const copy = loadEngine(module, engine.exportImage());
    const run = chainRun([0, 1, 3, 7], 1.6e12);
    for (let round = 0; round < 2; round++) {
      for (let j = 1; j <= 4; j++) {
        const history = { tasks: run.tasks.slice(0, j), startMs: run.startMs.slice(0, j) };
        expect(copy.next(history, 20)).toEqual(engine.next(history, 20));
        expect(copy.reach(history, 0, 50)).toEqual(engine.reach(history, 0, 50));
      }
      engine.observe(run);
      copy.observe(run);
    }
    expect(copy.exportImage()).toEqual(engine.exportImage());
  });

  test("a copy that is not the newest takes the run before for unknown", () => {
    const engine = createEngine(module, "small", 1_000);
    const run = (startMs: number, task: number) =>
      runOf([
        { task: 0, startMs, triggers: [] },
        { task, startMs: startMs + 10, triggers: [0] },
      ]);
    const startMs = (i: number) => 1.8e12 + i * 60_000;
    for (let i = 0; i < 300; i++) engine.observe(run(startMs(i), i % 2 ? 1 : 2));
    const copy = loadEngine(module, engine.exportImage());
    const share = (i: number) => {
      const { tasks, probabilities } = copy.reach(
        { tasks: Uint32Array.of(0), startMs: Float64Array.of(startMs(i)) },
        0,
        5,
      );
      return probabilities[tasks.indexOf(1)] as number;
    };
    expect(share(300)).toBeLessThan(0.1);
    // Of run 301 the copy does not know that it follows run 300.
    copy.knowsRunsUntil(startMs(300));
    expect(share(300)).toBeLessThan(0.1);
    expect(share(301)).toBeGreaterThan(0.3);
    expect(share(301)).toBeLessThan(0.7);
  });

  test("an image read from the middle of a larger buffer loads", () => {
    const image = trained(12, 5).exportImage();
    const padded = new Uint8Array(image.length + 13);
    padded.set(image, 13);
    expect(loadEngine(module, padded.subarray(13)).exportImage()).toEqual(image);
  });

  test("says what it got and what it expected", () => {
    const image = trained(13, 1).exportImage();
    image[4] = 99;
    expect(() => loadEngine(module, image)).toThrow(/model image: format: got 99, expected \d/);
  });

  test.each([
    ["magic", 0],
    ["format", 4],
    ["capacity", 8],
    ["counts", 12],
    ["checksum", 16],
    ["checksum", 24],
    ["checksum", 64],
    ["checksum", (1 << 20) - 1],
  ])("refuses a wrong %s (byte %i changed)", (field, byte) => {
    const image = trained(14, 3).exportImage();
    image[byte] = (image[byte] as number) ^ 0x40;
    expect(faultOf(() => loadEngine(module, image))).toBe(field);
  });

  test("refuses every truncation within the header, and shorter or longer images", () => {
    const image = trained(15, 3).exportImage();
    for (let length = 0; length < 64; length++) {
      expect(
        faultOf(() => loadEngine(module, image.subarray(0, length))),
        `${length} bytes`,
      ).toBe("size");
    }
    for (const length of [64, 65, 4096, image.length - 1]) {
      expect(
        faultOf(() => loadEngine(module, image.subarray(0, length))),
        `${length} bytes`,
      ).toBe("size");
    }
    const longer = new Uint8Array(image.length + 1);
    longer.set(image);
    expect(faultOf(() => loadEngine(module, longer))).toBe("size");
  });

  test("an engine that refused an image goes on empty and sound", () => {
    const engine = trained(16, 5);
    const image = engine.exportImage();
    image[5000] = (image[5000] as number) ^ 1;
    expect(faultOf(() => engine.importImage(image))).toBe("checksum");
    expectSound(engine, { tasks: Uint32Array.of(0) }, "after a refused image");
  });

  const SEED = 20261125;
  test(`random bit flips are always refused (seed ${SEED})`, () => {
    const random = seededRandom(SEED);
    const image = trained(17, 20).exportImage();
    const engine = createEngine(module, "small");
    for (let i = 0; i < 300; i++) {
      const byte = Math.floor(random() * image.length);
      const bit = 1 << Math.floor(random() * 8);
      image[byte] = (image[byte] as number) ^ bit;
      expect(
        faultOf(() => engine.importImage(image)),
        `seed ${SEED}, flip ${i} at byte ${byte}`,
      ).not.toBe("no error");
      image[byte] = (image[byte] as number) ^ bit;
    }
    engine.importImage(image);
  });

  test(`whatever an image says of the runs before, answers are sound (seed ${SEED})`, () => {
    const random = seededRandom(SEED + 2);
    const values = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -1, 0, 5e-324, 1.8e12, 1.7e308];
    const engine = createEngine(module, "small");
    for (let i = 0; i < 60; i++) {
      const image = trained(i % 7, 4).exportImage();
      // Behind the header: the run before (64 bytes) and the ring of runs that ended (320).
      const state = new Float64Array(image.buffer, 64, (64 + 320) / 8);
      for (let w = 0; w < state.length; w++) {
        if (random() < 0.5) state[w] = values[Math.floor(random() * values.length)] as number;
      }
      signImage(image);
      engine.importImage(image);
      for (let k = 0; k < 3; k++) {
        const run = randomRun(random, 40, 12);
        expectSound(engine, { tasks: run.tasks, startMs: run.startMs }, `seed ${SEED + 2}, image ${i}`);
        engine.observe(run);
      }
    }
  });

  test(`a hostile image with a right checksum cannot trap or give NaN (seed ${SEED})`, () => {
    const random = seededRandom(SEED + 1);
    for (let i = 0; i < 5; i++) {
      const image = trained(i, 10).exportImage();
      // A tenth of the words becomes anything at all: weights, symbols, counts, cells.
      const words = new Uint32Array(image.buffer, 64);
      for (let w = 0; w < words.length; w++) if (random() < 0.1) words[w] = Math.floor(random() * 2 ** 32);
      signImage(image);
      const engine = loadEngine(module, image);
      const where = `seed ${SEED + 1}, image ${i}`;
      for (let k = 0; k < 10; k++) {
        const run = randomRun(random, 40, 30);
        expectSound(engine, { tasks: run.tasks, startMs: run.startMs }, where, 0);
        engine.observe(run, k % 2 === 0 ? OCCURRENCES_MAX : 4);
      }
    }
  });
});

// The index of kept runs: finds every run it was told of, newest pack first, through growth, and hardly any that it was not.
import { expect, test } from "vitest";
import { hashRunId, PackIndex } from "../../src/edge/writer/pack-index.ts";

const RUNS = 50_000;
const traceId = (n: number) => (n * 2_654_435_761).toString(16).padStart(32, "0");

test("every run is found, by growth too, and the newest pack comes first", () => {
  const index = new PackIndex();
  for (let run = 0; run < RUNS; run++) index.add(hashRunId(traceId(run))[0], 1 + Math.floor(run / 1000));
  index.add(hashRunId(traceId(7))[0], 99);
  expect(index.size).toBe(RUNS + 1);
  for (let run = 0; run < RUNS; run++) {
    expect(index.candidates(hashRunId(traceId(run))[0])).toContain(1 + Math.floor(run / 1000));
  }
  expect(index.candidates(hashRunId(traceId(7))[0]).slice(0, 2)).toEqual([99, 1]);
});

test("a million runs take 8 MB; a small workspace 33 kB", () => {
  const index = new PackIndex();
  index.add(hashRunId(traceId(0))[0], 1);
  expect(index.bytes).toBeLessThan(33_000);
  // Consecutive multiples of an odd number are as evenly spread as hashes.
  for (let run = 1; run < 1_000_000; run++) index.add(Math.imul(run, 0x9e3779b1) >>> 0, 1 + Math.floor(run / 400));
  expect(index.bytes).toBeLessThan(8_400_000);
});

test("packs of a run each, more than a table can number", () => {
  const index = new PackIndex();
  const packs = 150_000;
  for (let pack = 1; pack <= packs; pack++) index.add(hashRunId(traceId(pack))[0], pack);
  for (let pack = 1; pack <= packs; pack += 7) expect(index.candidates(hashRunId(traceId(pack))[0])).toContain(pack);
  const unknown = Array.from({ length: 10_000 }, (_, run) => index.candidates(hashRunId(`other-${run}`)[0]).length);
  expect(unknown.filter((count) => count > 0).length).toBeLessThan(5);
});

test("ids alike in all but a character spread over the whole range, in both hashes", () => {
  for (const which of [0, 1] as const) {
    const hashes = Array.from({ length: RUNS }, (_, run) => hashRunId(`run-${run}`)[which]!);
    // Birthdays: 50,000² ÷ 2³³ are 0.3 equal pairs.
    expect(RUNS - new Set(hashes).size).toBeLessThan(5);
    const buckets = new Uint32Array(64);
    for (const hash of hashes) buckets[hash & 63]!++;
    expect(Math.max(...buckets)).toBeLessThan((RUNS / 64) * 1.2);
    expect(Math.min(...buckets)).toBeGreaterThan((RUNS / 64) * 0.8);
  }
});

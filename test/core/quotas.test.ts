import { expect, test } from "vitest";
import { Quotas } from "../../src/core/quotas.ts";

const HALF = { first: 0.5, power: 1 };

test("of a run's asks so many are given as its quota says, whoever asks, and the first one is", () => {
  const quotas = new Quotas();
  const given = Array.from({ length: 6 }, (_, i) => quotas.gives("run", "T", `of ${i}`, HALF));
  expect(given).toEqual([true, false, true, false, true, false]);
});

test("the number follows the run's size: a power of its asks", () => {
  const quotas = new Quotas();
  const given = Array.from({ length: 100 }, (_, i) => quotas.gives("run", "T", `of ${i}`, { first: 1, power: 0.5 }));
  expect(given.slice(0, 9).filter(Boolean)).toHaveLength(3);
  expect(given.filter(Boolean)).toHaveLength(10);
});

test("a share of the asks is that share, whatever rounding makes of it", () => {
  const quotas = new Quotas();
  const given = Array.from({ length: 100 }, (_, i) => quotas.gives("run", "T", `of ${i}`, { first: 0.07, power: 1 }));
  // 0.07 × 100 is 7.000000000000001.
  expect(given.filter(Boolean)).toHaveLength(7);
});

test("what asks again is answered as before and counts once", () => {
  const quotas = new Quotas();
  for (let i = 0; i < 5; i++) expect(quotas.gives("run", "T", "of a", HALF)).toBe(true);
  for (let i = 0; i < 5; i++) expect(quotas.gives("run", "T", "of b", HALF)).toBe(false);
  expect(quotas.gives("run", "T", "of c", HALF)).toBe(true);
});

test("runs and tasks are counted apart", () => {
  const quotas = new Quotas();
  for (const [runId, task] of [
    ["one", "T"],
    ["two", "T"],
    ["one", "U"],
  ] as const) {
    expect(quotas.gives(runId, task, `${task} of a`, HALF)).toBe(true);
    expect(quotas.gives(runId, task, `${task} of b`, HALF)).toBe(false);
  }
});

test("under a hold shorter than a call's idle time all calls of the run after as long or longer need preparations", () => {
  const quotas = new Quotas();
  for (let i = 0; i < 4; i++) quotas.gives("run", "T", `of ${i}`, HALF);
  // Two were given.
  expect([7, 7].map((bin) => quotas.covers("run", "T", bin))).toEqual([true, true]);
  // Held for less than this one's, it is the third; held for more, it finds a runtime that the run itself has left.
  expect(quotas.covers("run", "T", 1)).toBe(false);
  expect(quotas.covers("run", "T", 7)).toBe(false);
});

test("a call after a long idle time needs a preparation under few holds, and those of short ones under them all: they leave it its own", () => {
  const quotas = new Quotas();
  quotas.gives("run", "T", "of a", HALF);
  expect([1, 1, 1].map((bin) => quotas.covers("run", "T", bin))).toEqual([true, false, false]);
  // Only a hold shorter than this one's idle time makes it wait, and under that the three before found runtimes.
  expect(quotas.covers("run", "T", 7)).toBe(true);
});

test("what nobody of the run has asked for is not its matter", () => {
  const quotas = new Quotas();
  quotas.gives("run", "T", "of a", HALF);
  expect(quotas.covers("run", "U", 3)).toBeNull();
  expect(quotas.covers("another", "T", 3)).toBeNull();
});

test("a run that asks more than is remembered is counted all the same, and pushes no other out", () => {
  const quotas = new Quotas();
  quotas.gives("small", "T", "of a", HALF);
  let given = 0;
  for (let i = 0; i < 60_000; i++) if (quotas.gives("huge", "T", `of ${i}`, HALF)) given++;
  expect(given).toBe(30_000);
  expect(quotas.covers("small", "T", 0)).not.toBeNull();
});

test("a run that still asks is not the one that asked longest ago", () => {
  const quotas = new Quotas();
  for (const key of ["of a", "of b"]) quotas.gives("first", "T", key, HALF);
  for (let run = 0; run < 8; run++) {
    for (let i = 0; i < 8_000; i++) quotas.gives(`run ${run}`, "T", `of ${i}`, HALF);
    // Forgotten, it would be the first to ask.
    expect(quotas.gives("first", "T", "of b", HALF)).toBe(false);
  }
  expect(quotas.covers("run 0", "T", 0)).toBeNull();
});

test("a run goes on where it was stored: counts, calls, and whoever asks again", () => {
  const [whole, before, after] = [new Quotas(), new Quotas(), new Quotas()];
  const quota = { first: 1, power: 0.5 };
  const ask = (quotas: Quotas, i: number) => quotas.gives("run", "T", `of ${i}`, quota);
  for (const quotas of [whole, before]) {
    for (let i = 0; i < 20; i++) ask(quotas, i);
    // Bins are told with gaps.
    quotas.covers("run", "T", 7);
  }
  expect(before.stored("another")).toBeNull();
  after.restore("run", JSON.parse(JSON.stringify(before.stored("run"))));
  for (let i = 10; i < 60; i++) expect(ask(after, i), `ask ${i}`).toBe(ask(whole, i));
  for (const bin of [3, 7, 7, 0])
    for (const _ of "123") expect(after.covers("run", "T", bin)).toBe(whole.covers("run", "T", bin));
});

test("of a wide run the latest asks are stored, and the counts of all", () => {
  const [before, after] = [new Quotas(), new Quotas()];
  for (let i = 0; i < 4_000; i++) before.gives("run", "T", `of ${i}`, HALF);
  const stored = before.stored("run")!;
  expect(JSON.stringify(stored).length).toBeLessThan(7_000);
  expect(stored.tasks).toEqual([["T", 4_000, 2_000, []]]);
  after.restore("run", stored);
  for (let i = 3_500; i < 4_000; i++) expect(after.gives("run", "T", `of ${i}`, HALF)).toBe(i % 2 === 0);
});

test("runs that asked long ago are forgotten", () => {
  const quotas = new Quotas();
  quotas.gives("first", "T", "of a", HALF);
  for (let i = 0; i < 50_000; i++) quotas.gives("second", "T", `of ${i % 8_000}`, HALF);
  expect(quotas.covers("first", "T", 0)).not.toBeNull();
  for (let run = 0; run < 8; run++) for (let i = 0; i < 8_000; i++) quotas.gives(`run ${run}`, "T", `of ${i}`, HALF);
  expect(quotas.covers("first", "T", 0)).toBeNull();
  expect(quotas.covers("run 7", "T", 0)).not.toBeNull();
});

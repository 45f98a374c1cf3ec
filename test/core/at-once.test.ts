import { describe, expect, test } from "vitest";
import { atOnceFields, atOnceLawOf, atOnceOf } from "../../src/core/at-once.ts";
import { contributionOf } from "../../src/core/contribution.ts";
import { profilesOf } from "../../src/core/profiles.ts";
import { seededRandom } from "../../src/core/random.ts";
import { GraphRows } from "../../src/core/rows.ts";
import { record, run } from "./run.ts";

const SEED = 7;

describe("executions of a task at one time", () => {
  test.each<[string, string[], { executions: number; most: number } | undefined]>([
    ["one", ["r 0-9", "a:T <r 1-2"], undefined],
    ["one after the other", ["r 0-9", "a:T <r 1-2", "b:T <r 2-3", "c:T <r 3-4"], { executions: 3, most: 1 }],
    ["all at once", ["r 0-9", "a:T <r 1-5", "b:T <r 1-6", "c:T <r 2-4"], { executions: 3, most: 3 }],
    ["two of three", ["r 0-9", "a:T <r 1-5", "b:T <r 2-8", "c:T <r 5-6"], { executions: 3, most: 2 }],
    ["of no length", ["r 0-9", "a:T <r 3-3", "b:T <r 3-3"], { executions: 2, most: 1 }],
  ])("%s", (_, lines, expected) => {
    expect(atOnceOf(run(...lines)).get("T")).toEqual(expected);
  });

  test(`as counted instant by instant (seed ${SEED})`, () => {
    const random = seededRandom(SEED);
    for (let round = 0; round < 50; round++) {
      const times = Array.from({ length: 2 + Math.floor(random() * 20) }, () => {
        const start = Math.floor(random() * 50);
        return [start, start + 1 + Math.floor(random() * 20)] as const;
      });
      const lines = times.map(([start, end], i) => `x${i}:T <r ${start}-${end}`);
      const busy = Array.from({ length: 80 }, (_, at) => times.filter(([s, e]) => s <= at && at < e).length);
      const most = atOnceOf(run("r 0-99", ...lines)).get("T")!.most;
      expect(most).toBe(Math.max(...busy));
    }
  });

  test("an unknown time tells nothing", () => {
    const unknown = { ...record("b:T <r 2-3"), endMs: null };
    expect(atOnceOf(run("r 0-9", "a:T <r 1-2", unknown)).has("T")).toBe(false);
  });

  test("in a profile: a power of how many a run has, which runs can be taken out of, and how much runs differ", () => {
    const rows = new GraphRows();
    const few = run("r 0-9", "a:T <r 1-2", "b:T <r 2-3");
    const many = run("r 0-9", ...Array.from({ length: 8 }, (_, i) => `x${i}:T <r 1-5`));
    for (const each of [few, few, many, many, run("r 0-9", "a:T <r 1-2")]) rows.apply(contributionOf(each), 1);
    const profile = profilesOf(rows.rows).find(({ task }) => task === "T")!;
    // Through (2, 1) and (8, 8) the power is 1.5: no more than all of them can run.
    expect(profile.atOnce).toMatchObject({ power: 1 });
    expect(profile.perRunSpread).toBeGreaterThan(2);
    for (const each of [many, many]) rows.apply(contributionOf(each), -1);
    // All runs alike: a share of however many a run has.
    const alike = profilesOf(rows.rows).find(({ task }) => task === "T")!.atOnce!;
    expect(alike).toMatchObject({ first: 0.5, power: 1, spread: 0 });
  });

  test(`the law that runs follow is found, and how far they stray from it (seed ${SEED})`, () => {
    const random = seededRandom(SEED);
    const counts = new Map<string, number>();
    const runs = 200;
    for (let i = 0; i < runs; i++) {
      const executions = Math.round(4 * 2 ** (7 * random()));
      const octavesOff = random() < 0.5 ? 0.25 : -0.25;
      for (const [field, sum] of atOnceFields({ executions, most: 2 * executions ** 0.5 * 2 ** octavesOff })) {
        counts.set(field, (counts.get(field) ?? 0) + sum);
      }
    }
    const { first, power, spread } = atOnceLawOf(counts, runs)!;
    expect(power).toBeCloseTo(0.5, 1);
    expect(first * 64 ** power).toBeGreaterThan(15);
    expect(first * 64 ** power).toBeLessThan(17);
    expect(spread).toBeCloseTo(0.25, 1);
  });

  test("sums are whole numbers, so that a run that is taken back leaves nothing", () => {
    const fields = atOnceFields({ executions: 7, most: 3 });
    expect(fields.map(([, sum]) => sum)).toEqual(fields.map(([, sum]) => Math.round(sum)));
  });

  test("larger runs that need fewer: as many whatever the size, not fewer the more there are", () => {
    const counts = new Map<string, number>();
    for (const seen of [
      { executions: 2, most: 2 },
      { executions: 64, most: 1 },
    ]) {
      for (let i = 0; i < 20; i++) {
        for (const [field, sum] of atOnceFields(seen)) counts.set(field, (counts.get(field) ?? 0) + sum);
      }
    }
    expect(atOnceLawOf(counts, 40)).toMatchObject({ power: 0, first: expect.closeTo(Math.SQRT2, 3) });
  });

  test("no run has told of several: nothing is known", () => {
    expect(atOnceLawOf(new Map(), 0)).toBeNull();
  });
});

test("how early a task follows: one case in a hundred, from fifty on", () => {
  const rows = new GraphRows();
  const leadOf = () => profilesOf(rows.rows).find(({ task }) => task === "r")?.successors[0]?.leadMs;
  for (let i = 0; i < 49; i++) rows.apply(contributionOf(run("r 0-900", `a:T <r ${300 + i}-800`)), 1);
  expect(leadOf()).toBeUndefined();
  rows.apply(contributionOf(run("r 0-900", "a:T <r 100-800")), 1);
  // The fiftieth is the earliest, and log buckets are ±4.4 % wide.
  expect(leadOf()!.p01).toBeGreaterThan(95);
  expect(leadOf()!.p01).toBeLessThan(105);
  expect(leadOf()!.p10).toBeGreaterThan(285);
});

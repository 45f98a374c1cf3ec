import { expect, it } from "vitest";
import { engineModule } from "../../src/cli/build.ts";
import { PLACEMENT_WAYS, placements } from "../../src/sim/placement.ts";
import { NESTED, workloadOfSteps } from "./logs.ts";

const SEEDS = [1, 2, 3, 4, 5];

it(`learned placement comes near to knowing the truth where declarations are wrong and a link slows down (seeds ${SEEDS})`, async () => {
  const workload = workloadOfSteps(NESTED, 60);
  const module = await engineModule();
  const sumsMs = new Map<string, number>();
  for (const seed of SEEDS) {
    const results = await placements(workload, seed, 400, module);
    expect(results.map(({ way }) => way)).toEqual([...PLACEMENT_WAYS]);
    for (const { way, beforeMs, afterMs } of results) sumsMs.set(way, (sumsMs.get(way) ?? 0) + beforeMs + afterMs);
  }
  const savedMs = (way: (typeof PLACEMENT_WAYS)[number]) => sumsMs.get("declared")! - sumsMs.get(way)!;
  expect(savedMs("truth known")).toBeGreaterThan(0);
  expect(savedMs("learned") / savedMs("truth known")).toBeGreaterThan(0.6);
  expect(savedMs("learned, nothing tried") / savedMs("truth known")).toBeGreaterThan(0.5);
});

// The report's scenario of learned placement, small.
import { expect, it } from "vitest";
import { engineModule } from "../../src/cli/build.ts";
import { trainedOn } from "../../src/sim/learner.ts";
import { PLACEMENT_PARTS, PLACEMENT_WAYS, placements } from "../../src/sim/placement.ts";
import { halves } from "../../src/sim/workload.ts";
import { NESTED, type Step, workloadOfSteps } from "./logs.ts";

const SEEDS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
/** Workflows of their own tasks: with one alone, nothing tells what is the cluster's from what is the chain's. */
const CHAINS = 6;

/** Step by step as `NESTED`, for each chain with names of its own. */
function stepsOf(run: number): Step[] {
  const named = (task: string) => `${task}${run % CHAINS}`;
  return NESTED.map(({ task, parent, ...step }) => ({
    ...step,
    task: named(task),
    ...(parent === undefined ? {} : { parent: named(parent) }),
  }));
}

it(`learned placement comes near to knowing the truth where declarations are wrong and a link slows down (seeds ${SEEDS})`, async () => {
  const workload = workloadOfSteps(stepsOf, 60 * CHAINS);
  const module = await engineModule();
  const trained = trainedOn(
    halves(workload.runs).train.map(({ assembled }) => assembled),
    module,
    PLACEMENT_PARTS,
  );
  const sumsMs = new Map<string, number>();
  for (const seed of SEEDS) {
    const results = await placements(workload, seed, 400, module, trained);
    expect(results.map(({ way }) => way)).toEqual([...PLACEMENT_WAYS]);
    for (const { way, beforeMs, afterMs } of results) sumsMs.set(way, (sumsMs.get(way) ?? 0) + beforeMs + afterMs);
  }
  const savedMs = (way: (typeof PLACEMENT_WAYS)[number]) => sumsMs.get("declared")! - sumsMs.get(way)!;
  expect(savedMs("truth known")).toBeGreaterThan(0);
  expect(savedMs("learned") / savedMs("truth known")).toBeGreaterThan(0.6);
  expect(savedMs("learned, nothing tried") / savedMs("truth known")).toBeGreaterThan(0.5);
});

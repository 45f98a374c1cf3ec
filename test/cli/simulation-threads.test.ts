// Parts of a simulation on one thread and on several: the same numbers, in the order of the parts.
import { expect, it } from "vitest";
import { engineModule } from "../../src/cli/build.ts";
import { type Numbers, numbersOf, type Parts } from "../../src/cli/simulation-threads.ts";
import { ABLATIONS, type Scenario } from "../../src/sim/simulator.ts";
import { NESTED, workloadOfSteps } from "../sim/logs.ts";

const SCENARIO: Omit<Scenario, "progress" | "module"> = {
  arrivals: "poisson:300",
  coldStarts: { kind: "fixed", ms: 200 },
  runs: 40,
  storeBytesPerSecond: null,
};
const PARTS: Parts = {
  policies: [3, 4].flatMap((seed) => [
    { seed, ask: { name: "fixed", dial: 10 } },
    { seed, ask: { name: "forechain", dial: 20 } },
    { seed, ask: { name: "forechain", dial: 20 }, without: ABLATIONS[1]!.name },
  ]),
  placements: [
    { seed: 3, runs: 20 },
    { seed: 4, runs: 20 },
  ],
};

/** What is measured of this machine is left out. */
function simulated({ policies, placements }: Numbers) {
  return { policies: policies.map(({ decisionMicros: _, ...rest }) => rest), placements };
}

it("three threads give what one gives", async () => {
  const module = await engineModule();
  const workload = workloadOfSteps(NESTED, 60);
  const numbers = (threads: number) => numbersOf(workload, { ...SCENARIO, module }, PARTS, () => {}, threads);
  const [alone, together] = [simulated(await numbers(1)), simulated(await numbers(3))];
  expect(alone.policies.map(({ name, dial }) => `${name} ${dial}`)).toEqual(
    PARTS.policies.map(({ ask }) => `${ask.name} ${ask.dial}`),
  );
  expect(alone.policies[1]!.overheadMs).not.toEqual(alone.policies[4]!.overheadMs);
  expect(together).toEqual(alone);
});

it("a thread that fails ends the work with its reason", async () => {
  const workload = workloadOfSteps(NESTED, 60);
  const scenario = { ...SCENARIO, arrivals: "poisson:0.0001", module: await engineModule() };
  await expect(numbersOf(workload, scenario, PARTS, () => {}, 2)).rejects.toThrow("longer-than-horizon");
});

// What training comes to, copied: each copy is as if it had learned the runs itself, and none changes another.
import { expect, it } from "vitest";
import { engineModule } from "../../src/cli/build.ts";
import { ALL_PARTS, Learner, trainedOn } from "../../src/sim/learner.ts";
import { SHAPES, workloadOfSteps } from "./logs.ts";

it.each(SHAPES)("$shape: a copy of what was learned goes on as the one that learned it", async ({ stepsOf }) => {
  const module = await engineModule();
  const runs = workloadOfSteps(stepsOf, 90).runs.map(({ assembled }) => assembled);
  const whole = new Learner(module, ALL_PARTS);
  for (const run of runs) whole.learn(run, 0);
  const trained = trainedOn(runs.slice(0, 60), module, ALL_PARTS);
  const [first, second] = [new Learner(module, ALL_PARTS, trained), new Learner(module, ALL_PARTS, trained)];
  for (const copy of [first, second]) {
    expect(copy.model.version).toBe(60);
    for (const run of runs.slice(60)) copy.learn(run, 0);
    expect(copy.model.profiles).toEqual(whole.model.profiles);
    expect(copy.model.tasks).toEqual(whole.model.tasks);
    const { image, ...rest } = copy.trained();
    const { image: wholeImage, ...wholeRest } = whole.trained();
    expect(rest).toEqual(wholeRest);
    expect(Buffer.compare(image, wholeImage)).toBe(0);
  }
  // With the evidence of one run more the image is another.
  first.learn(runs[0]!, 0);
  expect(Buffer.compare(first.trained().image, second.trained().image)).not.toBe(0);
});

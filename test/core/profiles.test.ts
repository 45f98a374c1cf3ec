// Profiles that follow their rows, beside profiles made of all rows at once.
import { expect, it } from "vitest";
import { contributionOf } from "../../src/core/contribution.ts";
import { assembleRun } from "../../src/core/profile.ts";
import { Profiles, profilesOf } from "../../src/core/profiles.ts";
import { seededRandom } from "../../src/core/random.ts";
import { recordOfExecution } from "../../src/core/records.ts";
import { GraphRows } from "../../src/core/rows.ts";
import { Execution } from "../../src/protocol.ts";

const SEED = 11;
const RUNS = 60;

/** A random tree over a few tasks of two versions, some with services and objects. */
function runOf(number: number, random: () => number) {
  const below = (most: number) => Math.floor(random() * most);
  const startMs = 1_700_000_000_000 + number * 40_000_000;
  const count = 1 + below(6);
  return assembleRun(
    Array.from({ length: count }, (_, i) => {
      const atMs = startMs + i * 10 + below(30);
      const bytes = 1 + below(1_000);
      return recordOfExecution(
        Execution.parse({
          ...{ runId: `${number}`, executionId: `${number}-${i}`, task: `task ${below(9)}`, version: `1.${below(2)}` },
          ...{ startMs: atMs, endMs: atMs + 5 + below(50) },
          ...(i === 0 ? {} : { parentId: `${number}-${below(i)}` }),
          ...(random() < 0.3 ? { services: [{ service: `s${below(3)}`, calls: 1, bytes }] } : {}),
          ...(random() < 0.3 ? { inputs: [{ uri: `https://store/${below(4)}`, bytes }] } : {}),
          ...(random() < 0.3 ? { outputs: [{ uri: `https://store/${below(4)}`, bytes }] } : {}),
        }),
      );
    }),
  );
}

it(`profiles of changed rows alone are those of all rows, after each of ${RUNS} runs (seed ${SEED})`, () => {
  const random = seededRandom(SEED);
  const rows = new GraphRows();
  const profiles = new Profiles(rows.rows);
  let kept = 0;
  for (let number = 0; number < RUNS; number++) {
    rows.apply(contributionOf(runOf(number, random)), 1);
    const before = new Map(profiles.byTask);
    profiles.update(rows.changed);
    rows.changed.clear();
    expect(profiles.byTask).toEqual(new Map(profilesOf(rows.rows).map((profile) => [profile.task, profile])));
    for (const [task, profile] of before) if (profiles.byTask.get(task) === profile) kept++;
  }
  // Most were not made anew.
  expect(kept).toBeGreaterThan(RUNS);
});

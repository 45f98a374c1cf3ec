// What a run came to, of each resource that is known of all of it.
import { expect, test } from "vitest";
import { cameOf, expectedOf } from "../../src/core/demand-came.ts";
import { assembleRun } from "../../src/core/profile.ts";
import type { RunRecord } from "../../src/core/records.ts";
import { LINEAR, modelOf } from "./knowledge.ts";

const record = (
  executionId: string,
  parentId: string | null,
  startMs: number,
  endMs: number,
  rest = {},
): RunRecord => ({
  runId: "r",
  executionId,
  parentId,
  task: executionId,
  startMs: 1_000_000 + startMs,
  endMs: 1_000_000 + endMs,
  status: "ok",
  rest,
});
const service = (bytes: number) => [{ service: "db", calls: 1, bytes }];
const object = (uri: string, bytes: number) => ({ uri: `https://store/${uri}`, bytes });

test.each<[string, RunRecord[], object]>([
  ["one execution of which only times are known", [record("a", null, 0, 100)], { durationMs: 100 }],
  [
    "two after one another under a third: memory at one time, CPU and bytes of all",
    [
      record("root", null, 0, 300, { cpuMs: 5, memoryBytes: 100, services: service(10) }),
      record("x", "root", 50, 100, { cpuMs: 7, memoryBytes: 30, services: service(1) }),
      record("y", "root", 100, 200, { cpuMs: 9, memoryBytes: 40, services: service(2) }),
    ],
    { cpuMs: 21, memoryBytes: 140, networkBytes: 13, durationMs: 300 },
  ],
  [
    "an object that two read is loaded once",
    [
      record("root", null, 0, 100, { inputs: [object("a", 1_000)] }),
      record("x", "root", 10, 20, { inputs: [object("a", 1_000), object("b", 500)] }),
    ],
    { networkBytes: 1_500, durationMs: 100 },
  ],
  [
    "cold starts on the way are no part of the duration",
    [record("a", null, 0, 500, { coldStartMs: 400 }), record("b", "a", 500, 900, { coldStartMs: 300 })],
    { durationMs: 200 },
  ],
  [
    "what one execution does not tell is not known of the run",
    [record("a", null, 0, 100, { cpuMs: 5, memoryBytes: 1, services: service(1) }), record("b", "a", 10, 20)],
    { durationMs: 100 },
  ],
])("%s", (_, records, expected) => {
  expect(cameOf(assembleRun(records))).toEqual(expected);
});

test("expected is as the first task's allocation would have it: the whole tree, and the end of its latest likely task", () => {
  const seldom = { probability: 0.3, leadMs: [900, 900, 900] as [number, number, number] };
  const model = modelOf({
    ...LINEAR,
    reach: { A: { ...LINEAR.reach.A, D: seldom } },
    profiles: { ...LINEAR.profiles, C: { durationMs: { p10: 300, p50: 300, p90: 300 } } },
  });
  const { chain, demand } = expectedOf(assembleRun([record("A", null, 0, 400)]), model)!;
  expect(chain).toEqual(["A", "B", "C"]);
  // C comes after 100 ms and takes 300; D comes in three of ten runs only: the tree does without it.
  expect(demand.durationMs).toBe(400);
  expect(demand.cpuMs).toBeCloseTo(20 * (1 + 1 + 0.9), 9);
  expect(expectedOf(assembleRun([record("unknown", null, 0, 400)]), model)).toBeNull();
});

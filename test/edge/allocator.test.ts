// Which answers tell that their plan was sent, and ids that sort by time.
import { expect, test } from "vitest";
import { uniformOf } from "../../src/core/fnv.ts";
import { forgetFleetView } from "../../src/edge/fleet-cache.ts";
import { newId, timePrefix } from "../../src/edge/ids.ts";
import { newWorld } from "./world.ts";

const NOW_MS = 1_800_000_000_000;

test("an allocation tells whether its plan was sent", async () => {
  const world = await newWorld();
  await world.heartbeat("paris", "vm", ["a"]);
  const acted = async (policy: object, request: object) => {
    await world.call("PUT", "/v1/policy", policy);
    forgetFleetView(world.workspace);
    return (await world.call("POST", "/v1/allocations", { task: "a", runId: "run-1", ...request })).body.acted;
  };
  const at = uniformOf("run-1");
  expect(await acted({ mode: "shadow" }, {})).toBe(false);
  expect(await acted({ mode: "active" }, {})).toBe(true);
  expect(await acted({ mode: "active" }, { dryRun: true })).toBe(false);
  expect(await acted({ mode: "canary", canaryShare: at + 0.01 }, {})).toBe(true);
  expect(await acted({ mode: "canary", canaryShare: at - 0.01 }, {})).toBe(false);
});

test("ids are unique and sort by time", () => {
  const ids = Array.from({ length: 2_000 }, (_, i) => newId(NOW_MS + Math.floor(i / 10)));
  expect(new Set(ids).size).toBe(ids.length);
  expect(ids.filter((_, i) => i % 10 === 0).toSorted()).toEqual(ids.filter((_, i) => i % 10 === 0));
  expect(ids.every((id) => id >= timePrefix(NOW_MS) && id < timePrefix(NOW_MS + 200))).toBe(true);
});

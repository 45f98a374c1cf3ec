// POST /v1/model/rebuild: the model anew of the kept runs, as they are by now.
import { evictDurableObject } from "cloudflare:test";
import { beforeEach, expect, test, vi } from "vitest";
import { newWorld, testEnv, type World } from "./world.ts";

let world: World;
beforeEach(async () => {
  world = await newWorld();
});

const RUNS = 20;
const startMs = Date.now() - 60_000;
function executions(task: string, parent: string | null, afterMs: number) {
  return Array.from({ length: RUNS }, (_, run) => ({
    runId: `r${run}`,
    executionId: `${run}${task}`,
    ...(parent === null ? {} : { parentId: `${run}${parent}` }),
    task,
    startMs: startMs + afterMs,
    endMs: startMs + afterMs + 10,
    status: "ok",
  }));
}

const nextAfter = async (task: string, path: string[]) => {
  const { body } = await world.call("POST", "/v1/predictions", { task, path });
  return { version: body.modelVersion, task: body.next?.[0]?.task };
};

test("late records, which corrected the rows only, are learned; a restart keeps the new model; rows stay", async () => {
  await world.learn([...executions("a", null, 0), ...executions("b", "a", 20)]);
  await world.call("POST", "/v1/executions", { executions: executions("c", "b", 40) });
  expect(await nextAfter("b", ["a"])).toEqual({ version: 1, task: null });
  const { version: _, unpublishedRuns: __, ...graph } = (await world.call("GET", "/v1/graph")).body;
  const answer = await world.call("POST", "/v1/model/rebuild");
  expect(answer).toMatchObject({
    status: 200,
    body: { modelVersion: 2, runs: RUNS, executions: 3 * RUNS, tasks: 3, tasksForgotten: 0 },
  });
  await evictDurableObject(testEnv.GRAPH_WRITER.getByName(world.workspace));
  vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 10_000 }); // the isolate looks for a new version
  await vi.waitFor(async () => expect(await nextAfter("b", ["a"])).toEqual({ version: 2, task: "c" }));
  vi.useRealTimers();
  expect((await world.call("GET", "/v1/graph")).body).toMatchObject(graph);
});

test("the same runs make the same model whenever it is rebuilt", async () => {
  await world.learn([...executions("a", null, 0), ...executions("b", "a", 20)]);
  const writer = testEnv.GRAPH_WRITER.getByName(world.workspace);
  const images: Uint8Array[] = [];
  for (let i = 0; i < 2; i++) {
    await world.call("POST", "/v1/model/rebuild");
    images.push(new Uint8Array((await writer.bundle(world.workspace))!.image));
  }
  expect(images[1]).toEqual(images[0]);
});

test("where no run is kept, the model stays", async () => {
  expect(await world.call("POST", "/v1/model/rebuild")).toMatchObject({
    status: 409,
    body: { title: "Nothing to learn from" },
  });
});

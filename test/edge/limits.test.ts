// How full the graph is, where people and their monitoring look for it.
import { runDurableObjectAlarm } from "cloudflare:test";
import { afterEach, expect, test, vi } from "vitest";
import { GraphRows } from "../../src/core/rows.ts";
import { newWorld, testEnv } from "./world.ts";

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

test("GET /v1/graph and /metrics tell rows, bounds and refusals; a graph that is whole warns of nothing", async () => {
  const world = await newWorld();
  const at = Date.now() - 60_000;
  const one = { runId: "r", status: "ok", startMs: at, endMs: at + 10 };
  await world.learn([
    { ...one, executionId: "1", task: "a" },
    { ...one, executionId: "2", task: "b", parentId: "1" },
  ]);
  const { body } = await world.call("GET", "/v1/graph");
  expect(body.limits).toContainEqual({ rows: "task", count: 2, max: 4_096, refused: 0 });
  expect(body.warnings).toBeUndefined();
  vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 60_000 });
  await runDurableObjectAlarm(testEnv.GRAPH_WRITER.getByName(world.workspace));
  vi.useRealTimers();
  const metrics = (await world.call("GET", "/metrics")).body;
  expect(metrics).toContain('forechain_graph_rows{rows="task"} 2\n');
  expect(metrics).toContain('forechain_graph_rows_max{rows="object"} 16384\n');
  expect(metrics).toContain('forechain_graph_rows_refused_total{rows="chain"} 0\n');
});

test("what was refused is told in words", async () => {
  const refusing = [{ rows: "object" as const, count: 16_384, max: 16_384, refused: 7 }];
  vi.spyOn(GraphRows.prototype, "limits").mockReturnValue(refusing);
  const world = await newWorld();
  const { body } = await world.call("GET", "/v1/graph");
  expect(body).toMatchObject({ limits: refusing, warnings: [expect.stringContaining("has refused 7 more")] });
});

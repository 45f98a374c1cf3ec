// Bad input: each fault gets its status and names its field; nothing becomes a 500, and nothing of ours leaks.
import { Hono } from "hono";
import { beforeAll, expect, test } from "vitest";
import { unexpected } from "../../src/edge/problem.ts";
import { newWorld, type World } from "./world.ts";

let world: World;
beforeAll(async () => {
  world = await newWorld();
});

const VM = { vm: "v", cpuCores: 1, memoryBytes: 1 };

test.each<[what: string, method: string, path: string, body: unknown, status: number, pointer: string | null]>([
  ["malformed JSON", "PUT", "/v1/policy", '{"mode":', 400, ""],
  ["JSON of another type", "PUT", "/v1/policy", "[]", 422, ""],
  ["unknown field", "PUT", "/v1/policy", { modus: "active" }, 422, "/modus"],
  ["unknown field, deep", "PUT", "/v1/policy", { budgets: { x: 1 } }, 422, "/budgets/x"],
  ["wrong type", "PUT", "/v1/policy", { holdMs: "5" }, 422, "/holdMs"],
  ["out of range", "PUT", "/v1/policy", { canaryShare: 2 }, 422, "/canaryShare"],
  ["not among the values", "PUT", "/v1/policy", { mode: "on" }, 422, "/mode"],
  ["webhook of another scheme", "PUT", "/v1/policy", { webhookUrl: "file:///etc/passwd" }, 422, "/webhookUrl"],
  ["missing field", "POST", "/v1/predictions", {}, 422, "/task"],
  ["empty task", "POST", "/v1/predictions", { task: "" }, 422, "/task"],
  ["task with control characters", "POST", "/v1/predictions", { task: "a\u0000b" }, 422, "/task"],
  ["task too long", "POST", "/v1/predictions", { task: "a".repeat(257) }, 422, "/task"],
  ["path of another type", "POST", "/v1/predictions", { task: "a", path: ["b", 3] }, 422, "/path/1"],
  ["path too long", "POST", "/v1/predictions", { task: "a", path: Array(257).fill("b") }, 422, "/path"],
  [
    "33 parameters",
    "POST",
    "/v1/predictions",
    { task: "a", params: Object.fromEntries(Array.from({ length: 33 }, (_, i) => [`p${i}`, i])) },
    422,
    "/params",
  ],
  ["nested parameter", "POST", "/v1/predictions", { task: "a", params: { p: {} } }, 422, "/params/p"],
  ["no run", "POST", "/v1/allocations", { task: "a" }, 422, "/runId"],
  ["unknown task", "POST", "/v1/allocations", { task: "nobody-has-it", runId: "r" }, 404, "/task"],
  ["two VMs of one name", "PUT", "/v1/clusters/c", { vms: [VM, VM] }, 422, "/vms/1/vm"],
  ["VM without memory", "PUT", "/v1/clusters/c", { vms: [{ ...VM, memoryBytes: 0 }] }, 422, "/vms/0/memoryBytes"],
  ["URL of another scheme", "PUT", "/v1/clusters/c", { vms: [{ ...VM, url: "ftp://x" }] }, 422, "/vms/0/url"],
  ["cluster name with a slash", "PUT", "/v1/clusters/a%2Fb", {}, 422, "/cluster"],
  ["cluster name of dots", "PUT", "/v1/clusters/..%2e", {}, 422, "/cluster"],
  [
    "bandwidth 0",
    "PUT",
    "/v1/proximity",
    { entries: [{ cluster: "c", peer: "s", latencyMs: 1, bandwidthBytesPerSecond: 0 }] },
    422,
    "/entries/0/bandwidthBytesPerSecond",
  ],
  ["heartbeat without capacity", "POST", "/v1/agents/c/v/heartbeat", { agentVersion: "1" }, 422, "/nowMs"],
  [
    "result of another state",
    "POST",
    "/v1/agents/c/v/results",
    { results: [{ commandId: "c", leaseId: "l", state: "ready" }] },
    422,
    "/results/0/state",
  ],
  ["key of another scope", "POST", "/v1/keys", { name: "n", scopes: ["root"] }, 422, "/scopes/0"],
  ["field name with a slash", "PUT", "/v1/policy", { "a/b~c": 1 }, 422, "/a~1b~0c"],
])("%s", async (_what, method, path, body, status, pointer) => {
  const answer = await world.call(method, path, body);
  expect(answer.status).toBe(status);
  expect(answer.headers.get("content-type")).toBe("application/problem+json");
  expect(answer.body).toMatchObject({ status, title: expect.any(String), detail: expect.any(String) });
  expect(answer.body.errors.map((error: { pointer: string }) => error.pointer)).toContain(pointer);
  // Zod's words for a union that nothing fits: they tell nobody what to send.
  expect(answer.body.detail).not.toContain("Invalid input");
});

test.each([
  ["waitMs of another type", "/v1/agents/c/v/commands?waitMs=soon", "?waitMs"],
  ["waitMs too long", "/v1/agents/c/v/commands?waitMs=60000", "?waitMs"],
  ["max of nothing", "/v1/agents/c/v/commands?max=0", "?max"],
  ["limit of nothing", "/v1/outcomes?limit=-1", "?limit"],
])("%s", async (_what, path, pointer) => {
  expect(await world.call("GET", path)).toMatchObject({ status: 422, body: { errors: [{ pointer }] } });
});

test.each([
  ["declared length", { "content-length": String(10 * 2 ** 20) }],
  ["counted", {}],
])("413 for a 10 MB body: %s", async (_what, headers) => {
  const body = JSON.stringify({ labels: { a: "x".repeat(10 * 2 ** 20) } });
  expect((await world.call("PUT", "/v1/clusters/c", body, undefined, headers)).status).toBe(413);
});

test.each(["text/plain", "application/x-www-form-urlencoded", "application/jsonp"])("415 for %s", async (type) => {
  const answer = await world.call("PUT", "/v1/policy", "{}", undefined, { "content-type": type });
  expect(answer).toMatchObject({ status: 415, body: { title: "Unsupported media type" } });
});

test.each(["application/json", "application/json; charset=utf-8", "application/cloudevents+json"])(
  "%s is JSON",
  async (type) => {
    expect((await world.call("PUT", "/v1/policy", "{}", undefined, { "content-type": type })).status).toBe(200);
  },
);

test.each([
  ["PATCH", "/v1/policy", "GET, PUT"],
  ["POST", "/v1/tasks/a", "GET, PUT, DELETE"],
  ["GET", "/v1/predictions", "POST"],
])("405 for %s %s", async (method, path, allow) => {
  const answer = await world.call(method, path);
  expect(answer.status).toBe(405);
  expect(answer.headers.get("allow")).toBe(allow);
});

test("404 for an unknown route", async () => {
  expect(await world.call("GET", "/v1/nothing")).toMatchObject({ status: 404, body: { title: "Not found" } });
});

test.each(["retryable", "overloaded"])("a part of ours that is %s is a 503 with the time to wait", async (mark) => {
  const app = new Hono().get("/", () => {
    throw Object.assign(new Error("secret detail"), { [mark]: true });
  });
  app.onError(unexpected);
  const response = await app.request("/");
  expect(response.status).toBe(503);
  expect(response.headers.get("retry-after")).toBe("1");
  expect(await response.text()).not.toContain("secret");
});

test("a fault of ours tells an id and nothing else", async () => {
  const app = new Hono().get("/", () => {
    throw new Error("secret detail");
  });
  app.onError(unexpected);
  const response = await app.request("/");
  const text = await response.text();
  expect(response.status).toBe(500);
  expect(text).not.toContain("secret");
  expect(JSON.parse(text)).toMatchObject({ title: "Internal error", status: 500 });
});

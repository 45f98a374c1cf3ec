// Who may do what: keys, scopes, agents' own VMs, and that no workspace sees another's data.
import { beforeAll, describe, expect, test } from "vitest";
import type { Scope } from "../../src/protocol.ts";
import { heartbeatOf, newWorld, type World } from "./world.ts";

let world: World;
beforeAll(async () => {
  world = await newWorld();
});

describe("401 without a key that is in force", () => {
  test.each([
    ["no header", null, undefined],
    ["not a bearer key", null, "Basic abc"],
    ["not of the form", null, "Bearer abc"],
    ["unknown id", null, `Bearer fck_${"0".repeat(12)}_${"a".repeat(64)}`],
  ])("%s", async (_, key, header) => {
    const answer = await world.call("GET", "/v1/policy", undefined, key, header ? { authorization: header } : {});
    expect(answer).toMatchObject({ status: 401, body: { title: "Key needed", status: 401 } });
    expect(answer.headers.get("content-type")).toBe("application/problem+json");
    expect(answer.headers.get("www-authenticate")).toBe("Bearer");
  });

  test("right id, wrong secret", async () => {
    const key = world.admin.slice(0, -1) + (world.admin.endsWith("0") ? "1" : "0");
    expect((await world.call("GET", "/v1/policy", undefined, key)).status).toBe(401);
    expect((await world.call("GET", "/v1/policy")).status).toBe(200);
  });

  test("revoked", async () => {
    const made = await world.call("POST", "/v1/keys", { name: "short", scopes: ["read"] });
    expect(made.status).toBe(201);
    expect((await world.call("GET", "/v1/policy", undefined, made.body.key)).status).toBe(200);
    expect((await world.call("DELETE", `/v1/keys/${made.body.keyId}`)).status).toBe(204);
    expect((await world.call("GET", "/v1/policy", undefined, made.body.key)).status).toBe(401);
    expect((await world.call("DELETE", `/v1/keys/${made.body.keyId}`)).status).toBe(404);
  });
});

const CALLS: [method: string, path: string, body: unknown, scopes: Scope[]][] = [
  ["GET", "/v1/policy", undefined, ["read", "operate"]],
  ["PUT", "/v1/policy", {}, ["operate"]],
  ["PUT", "/v1/tasks/a", {}, ["operate"]],
  ["GET", "/v1/tasks", undefined, ["read", "operate"]],
  ["PUT", "/v1/clusters/c", {}, ["operate"]],
  ["PUT", "/v1/services/s", {}, ["operate"]],
  ["PUT", "/v1/proximity", { entries: [] }, ["operate"]],
  ["GET", "/v1/allocations", undefined, ["read", "operate"]],
  ["POST", "/v1/allocations", { task: "a", runId: "r" }, ["invoke", "operate"]],
  ["POST", "/v1/predictions", { task: "a" }, ["predict", "operate"]],
  ["GET", "/v1/outcomes", undefined, ["read", "operate"]],
  ["GET", "/v1/graph", undefined, ["read", "operate", "predict"]],
  ["POST", "/v1/executions", { executions: [] }, ["ingest"]],
  ["GET", "/v1/keys", undefined, []],
  ["POST", "/v1/keys", { name: "k", scopes: ["read"] }, []],
  ["GET", "/metrics", undefined, ["read", "operate"]],
  ["POST", "/v1/model/rebuild", undefined, ["operate"]],
  ["GET", "/v1/invoke/a", undefined, ["invoke"]],
];

describe("403 names the scope", () => {
  const scopes: Scope[] = ["operate", "ingest", "predict", "invoke", "read"];
  test.each(CALLS)("%s %s", async (method, path, body, allowed) => {
    for (const scope of scopes) {
      const answer = await world.call(method, path, body, await world.key([scope]));
      if (allowed.includes(scope)) expect(answer.status, scope).not.toBe(403);
      else {
        expect(answer.status, scope).toBe(403);
        for (const needed of allowed) expect(answer.body.detail).toContain(`\`${needed}\``);
      }
    }
    expect((await world.call(method, path, body)).status, "admin").not.toBe(403);
  });
});

describe("an agent's key", () => {
  test("opens its own VM only", async () => {
    const key = await world.key(["agent"], "paris", "vm-1");
    const beat = (cluster: string, vm: string) =>
      world.call("POST", `/v1/agents/${cluster}/${vm}/heartbeat`, heartbeatOf(["a"]), key);
    expect((await beat("paris", "vm-1")).status).toBe(200);
    expect((await beat("paris", "vm-2")).status).toBe(403);
    expect((await beat("rome", "vm-1")).status).toBe(403);
    expect((await world.call("GET", "/v1/agents/rome/vm-1/commands", undefined, key)).status).toBe(403);
    expect((await world.call("POST", "/v1/agents/rome/vm-1/results", {}, key)).status).toBe(403);
    expect((await world.call("GET", "/v1/clusters", undefined, key)).status).toBe(403);
  });

  test("needs its place when it is made", async () => {
    const answer = await world.call("POST", "/v1/keys", { name: "a", scopes: ["agent"] });
    expect(answer).toMatchObject({ status: 422, body: { errors: [{ pointer: "/vm" }] } });
  });
});

test("one workspace never sees another's data", async () => {
  const other = await newWorld();
  await world.call("PUT", "/v1/tasks/secret-task", {});
  await world.call("PUT", "/v1/services/secret-service", {});
  await world.call("PUT", "/v1/clusters/secret", {});
  await world.heartbeat("secret", "vm-1", ["secret-task"]);
  const allocated = await world.call("POST", "/v1/allocations", { task: "secret-task", runId: "r" });
  expect(allocated.status).toBe(200);
  for (const path of ["/v1/tasks", "/v1/services", "/v1/clusters", "/v1/allocations", "/v1/keys", "/metrics"]) {
    const text = JSON.stringify((await other.call("GET", path)).body);
    expect(text, path).not.toContain("secret");
    expect(text, path).not.toContain(world.workspace);
  }
  expect((await other.call("GET", `/v1/allocations/${allocated.body.allocationId}`)).status).toBe(404);
  const continued = await other.call("POST", "/v1/predictions", {
    task: "a",
    continuation: allocated.body.continuation,
  });
  expect(continued).toMatchObject({ status: 422, body: { errors: [{ pointer: "/continuation" }] } });
  // The same names in another workspace are other things.
  await other.heartbeat("secret", "vm-1", ["other-task"]);
  const commands = await other.call("GET", "/v1/agents/secret/vm-1/commands");
  expect(commands.body.commands).toEqual([]);
});

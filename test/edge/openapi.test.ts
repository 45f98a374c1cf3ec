// /openapi.json: what the Worker routes is what is described, and the description is whole.
import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { CALLS } from "../../src/edge/calls.ts";
import app from "../../src/worker.ts";
import { newWorld, type World } from "./world.ts";

interface Operation {
  operationId: string;
  parameters: { name: string; in: string }[];
  requestBody?: { content: Record<string, object> };
  responses: Record<string, object>;
}

async function described(): Promise<{ paths: Record<string, Record<string, Operation>>; [key: string]: unknown }> {
  const answer = await app.request("/openapi.json", {}, env);
  expect(answer.status).toBe(200);
  return answer.json();
}

/** Hono's `:task/*` and regular expressions as OpenAPI writes them. */
function template(path: string): string {
  return path.replace(/:(\w+)(\{[^}]*\})?/g, "{$1}").replace(/\/\*$/, "/{path}");
}

describe("openapi.json", () => {
  it("describes every call that is routed, and no other", async () => {
    const { paths } = await described();
    const told = new Set(
      Object.entries(paths).flatMap(([path, calls]) => Object.keys(calls).map((method) => `${method} ${path}`)),
    );
    const middleware = new Set(["/v1/*", "/metrics ALL"]);
    const routed = new Set(
      app.routes
        .filter(({ method, path }) => method !== "ALL" || path.startsWith("/v1/invoke"))
        .filter(({ path }) => !middleware.has(path) && path !== "/openapi.json" && path !== "/docs")
        // Any method may invoke; POST stands for all.
        .map(({ method, path }) => `${method === "ALL" ? "post" : method.toLowerCase()} ${template(path)}`)
        .filter((call) => call !== "post /v1/invoke/{task}"),
    );
    expect([...told].sort()).toEqual([...routed].sort());
  });

  it("names each call once, tells its parameters, and refers to what is there", async () => {
    const document = await described();
    const operations = Object.entries(document.paths).flatMap(([path, calls]) =>
      Object.values(calls).map((operation) => ({ path, ...operation })),
    );
    const names = operations.map(({ operationId }) => operationId);
    expect(new Set(names).size).toBe(names.length);
    for (const { path, parameters, responses } of operations) {
      const inPath = parameters.filter((parameter) => parameter.in === "path").map(({ name }) => `{${name}}`);
      expect(path.match(/\{\w+\}/g) ?? []).toEqual(inPath);
      expect(Object.keys(responses)).toContain("default");
    }
    for (const [, name] of JSON.stringify(document).matchAll(/"\$ref":"#\/components\/schemas\/(\w+)"/g)) {
      expect((document.components as { schemas: object }).schemas).toHaveProperty(name!);
    }
    const { content } = document.paths["/v1/allocations"]!.post!.requestBody!;
    expect(JSON.stringify(content)).toContain('"runId"');
  });

  it("tells of every call what it takes, answers and refuses", async () => {
    const { paths } = await described();
    const told = paths["/v1/executions"]!.post!;
    expect(Object.keys(told.requestBody!.content)).toContain("application/x-ndjson");
    expect(Object.keys(told.responses).sort()).toEqual(["202", "400", "401", "403", "413", "415", "422", "default"]);
    for (const [path, calls] of Object.entries(paths)) {
      for (const [method, { responses }] of Object.entries(calls)) {
        const [success] = Object.entries(responses);
        const isEmpty = ["101", "204"].includes(success![0]);
        expect("content" in success![1], `${method} ${path}`).toBe(!isEmpty);
      }
    }
  });

  it("has every field of the answers", async () => {
    const world = await newWorld();
    await filled(world);
    // What is read with nothing in its path, and one of each that has a name.
    const asked = CALLS.filter(({ method, response }) => method === "get" && response !== undefined).flatMap(
      ({ path, response }) => {
        const named = path.replace("{task}", "a").replace("{cluster}", "paris").replace("{service}", "db");
        return named.includes("{") ? [] : [[named, response!] as const];
      },
    );
    expect(asked.length).toBeGreaterThan(15);
    for (const [path, response] of asked) {
      const { status, body } = await world.call("GET", path);
      expect(status, path).toBe(200);
      // Parsing drops what the schema does not have. An export also has the workspace's own accounts, which no import takes.
      const known = response.parse(body);
      if (path === "/v1/learning/export") expect(body).toMatchObject(known as object);
      else expect(known, path).toEqual(body);
    }
  });
});

/** A workspace with something of each kind. */
async function filled(world: World): Promise<void> {
  const startMs = Date.now() - 60_000;
  await world.call("PUT", "/v1/clusters/paris", { vms: [{ vm: "vm-1", cpuCores: 4, memoryBytes: 2 ** 32 }] });
  await world.call("PUT", "/v1/services/db", { hosts: ["db.example.net"] });
  await world.call("PUT", "/v1/tasks/a", { coldStartMs: 500 });
  const entries = [{ cluster: "paris", peer: "db", latencyMs: 1, bandwidthBytesPerSecond: 1e6 }];
  await world.call("PUT", "/v1/proximity", { entries });
  await world.heartbeat("paris", "vm-1", ["a", "b"]);
  await world.learn([
    { runId: "r", executionId: "1", task: "a", startMs, endMs: startMs + 10 },
    { runId: "r", executionId: "2", parentId: "1", task: "b", startMs: startMs + 20, endMs: startMs + 30 },
  ]);
  const answer = await world.call("POST", "/v1/allocations", { task: "a", runId: "r2" });
  expect(answer.status).toBe(200);
}

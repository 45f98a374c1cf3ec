// /openapi.json: what the Worker routes is what is described, and the description is whole.
import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import app from "../../src/worker.ts";

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
});

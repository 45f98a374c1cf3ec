// The API described for machines: OpenAPI 3.1 made from the table of calls (calls.ts).
import { z } from "zod";
import { Problem } from "../protocol.ts";
import { CALLS, type CallDescription } from "./calls.ts";

let made: object | null = null;

/** Made once per isolate. */
export function openApi(): object {
  made ??= {
    openapi: "3.1.0",
    info: {
      title: "Forechain",
      version: "1",
      description: "Predicts chains of tasks and prepares VMs before the later tasks are called.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: "/" }],
    components: {
      securitySchemes: { key: { type: "http", scheme: "bearer", description: "fck_<id>_<secret>" } },
      schemas: { Problem: jsonSchema(Problem, "output") },
    },
    paths: paths(),
  };
  return made;
}

function paths(): Record<string, Record<string, object>> {
  const byPath: Record<string, Record<string, object>> = {};
  for (const call of CALLS) {
    const operations = byPath[call.path] ?? {};
    operations[call.method] = operation(call);
    byPath[call.path] = operations;
  }
  return byPath;
}

function operation(call: CallDescription): object {
  const { path, does, scopes, query = {}, status = 200 } = call;
  const inPath = namesIn(path).map((name) => ({ name, in: "path", required: true, schema: { type: "string" } }));
  const inQuery = Object.entries(query).map(([name, schema]) => {
    const { description, ...rest } = jsonSchema(schema, "input");
    return { name, in: "query", ...(description === undefined ? {} : { description }), schema: rest };
  });
  const isKeyed = scopes.length > 0;
  return {
    operationId: operationId(call),
    summary: does,
    ...(isKeyed ? { description: `Needs scope ${scopes.join(" or ")}.` } : {}),
    security: isKeyed ? [{ key: [] }] : [],
    parameters: [...inPath, ...inQuery],
    ...requestOf(call),
    responses: {
      [status]: { description: does, ...contentOf(call.response, "output", call.responseTypes) },
      ...Object.fromEntries(Object.entries(refusalsOf(call)).map(([code, why]) => [code, refusal(why)])),
      default: refusal("What went wrong (RFC 9457)"),
    },
  };
}

function namesIn(path: string): string[] {
  return [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name as string);
}

function requestOf({ request, requestTypes, isRequestOptional }: CallDescription): object {
  if (request === undefined && requestTypes === undefined) return {};
  // Whatever is forwarded may be nothing.
  const required = isRequestOptional !== true && request !== undefined;
  return { requestBody: { required, ...contentOf(request, "input", requestTypes) } };
}

/** The refusals that every call of its kind has, and its own. */
function refusalsOf({ scopes, query, request, refuses }: CallDescription): Record<number, string> {
  const all: Record<number, string> = {};
  if (scopes.length > 0) {
    all[401] = "No key, or one that is not in force";
    all[403] = "The key may not do this";
  }
  if (request !== undefined) {
    all[400] = "The body is not what its content-type says";
    all[413] = "Too large";
    all[415] = "Another content-type";
  }
  if (request !== undefined || query !== undefined) {
    all[422] = "A field or parameter is not as described; `errors` names each";
  }
  return { ...all, ...refuses };
}

function refusal(description: string): object {
  return {
    description,
    content: { "application/problem+json": { schema: { $ref: "#/components/schemas/Problem" } } },
  };
}

function contentOf(schema: z.ZodType | undefined, io: "input" | "output", types: string[] = []): object {
  const content: Record<string, object> = {};
  if (schema !== undefined) content["application/json"] = { schema: jsonSchema(schema, io) };
  // Of no schema: bytes, lines or text.
  for (const type of types) content[type] = {};
  return Object.keys(content).length === 0 ? {} : { content };
}

/** What client generators name the call: `putClustersByCluster`. */
function operationId({ method, path }: CallDescription): string {
  const words = path
    .replace(/^\/v1\//, "")
    .split(/[/-]/)
    .filter((word) => word !== "")
    .map((word) => word.replace(/^\{(\w+)\}$/, (_, name: string) => `By${capital(name)}`));
  return method + words.map(capital).join("");
}

function capital(word: string): string {
  return `${word.charAt(0).toUpperCase()}${word.slice(1)}`;
}

function jsonSchema(schema: z.ZodType, io: "input" | "output"): Record<string, unknown> {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, {
    io,
    unrepresentable: "any",
    reused: "inline",
    // Answers may grow: only what is sent has no other fields.
    override: ({ jsonSchema: made }) => {
      if (io === "output" && made.additionalProperties === false) delete made.additionalProperties;
    },
  });
  return rest;
}

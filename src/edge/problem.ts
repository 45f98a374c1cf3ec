// Errors as RFC 9457 problem+json. In: what went wrong, as a value. Out: a response that names the field by JSON pointer
// (RFC 6901) and leaks nothing of ours. Bodies are read here too, because reading is where most client errors arise.
import type { Context } from "hono";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import type { z } from "zod";
import type { Problem } from "../protocol.ts";
import type { AppEnv } from "./app.ts";
import { readWithin } from "./read-within.ts";

/** Control calls are small; batches of executions have their own bound, bytes. */
const CONTROL_BODY_BYTES_MAX = 1024 * 1024;
/** Errors told of one body: enough to mend it, and an answer that stays small. */
const ERRORS_MAX = 32;

interface FieldError {
  /** JSON pointer into the body; "" is the whole body. Query parameters are told as `?name`. */
  pointer: string;
  detail: string;
}

type ProblemExtra = Pick<Problem, "refused" | "retryAfterMs" | "allocationId">;

/** A problem+json answer. `type` is about:blank: title and status say what kind it is. */
export function problem(
  c: Context,
  status: ContentfulStatusCode,
  title: string,
  detail: string,
  errors?: FieldError[],
  extra?: ProblemExtra,
): Response {
  const body: Problem = {
    type: "about:blank",
    title,
    status,
    detail,
    ...(errors ? { errors: errors.slice(0, ERRORS_MAX) } : {}),
    ...extra,
  };
  const headers: Record<string, string> = { "content-type": "application/problem+json" };
  if (extra?.retryAfterMs !== undefined) headers["retry-after"] = String(Math.ceil(extra.retryAfterMs / 1000));
  return c.body(JSON.stringify(body), status, headers);
}

/** Of a JSON call; `detail` says what the continuation is or is not. */
export function invalidContinuation(c: Context, detail: string): Response {
  return problem(c, 422, "Invalid continuation", `The continuation ${detail}.`, [{ pointer: "/continuation", detail }]);
}

/** Zod's issues as pointers. An unknown field is named itself, not the object that holds it. */
export function fieldErrors(error: z.ZodError, prefix = ""): FieldError[] {
  return error.issues.flatMap((issue) => {
    const at = prefix + issue.path.map((part) => `/${pointerPart(part)}`).join("");
    if (issue.code === "unrecognized_keys")
      return issue.keys.map((key) => ({ pointer: `${at}/${pointerPart(key)}`, detail: "unknown field" }));
    return [{ pointer: at, detail: issue.message }];
  });
}

function pointerPart(part: PropertyKey): string {
  return String(part).replaceAll("~", "~0").replaceAll("/", "~1");
}

export type Read<T> = { ok: true; value: T } | { ok: false; response: Response };

/** The JSON body checked against a schema; else the problem to answer with: 400, 413, 415 or 422. */
export async function readJson<T extends z.ZodType>(
  c: Context<AppEnv>,
  schema: T,
  bytesMax = CONTROL_BODY_BYTES_MAX,
): Promise<Read<z.output<T>>> {
  const type = c.req.header("content-type") ?? "";
  if (!/^application\/(?:[\w.+-]+\+)?json\s*(?:;|$)/i.test(type)) {
    const got = type === "" ? "no content-type" : `content-type ${type.slice(0, 100)}`;
    return refused(problem(c, 415, "Unsupported media type", `The body must be application/json; got ${got}.`));
  }
  const text = await readText(c, bytesMax);
  if (!text.ok) return text;
  let body: unknown;
  try {
    body = JSON.parse(text.value);
  } catch (error) {
    // V8's message tells the position, and quotes at most some characters of the caller's own text.
    const detail = error instanceof SyntaxError ? error.message : "not JSON";
    return refused(problem(c, 400, "Malformed JSON", "The body is not valid JSON.", [{ pointer: "", detail }]));
  }
  return check(c, schema, body);
}

/** A value checked against a schema, with a 422 that names each field. */
export function check<T extends z.ZodType>(c: Context, schema: T, value: unknown): Read<z.output<T>> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return { ok: true, value: parsed.data };
  const errors = fieldErrors(parsed.error);
  const first = errors[0]!;
  const detail = `${first.pointer === "" ? "the body" : first.pointer}: ${first.detail}`;
  return refused(problem(c, 422, "Invalid fields", detail, errors));
}

/** A name from the path, checked. */
export function checkName<T extends z.ZodType>(c: Context, parameter: string, schema: T): Read<z.output<T>> {
  const parsed = schema.safeParse(c.req.param(parameter));
  if (parsed.success) return { ok: true, value: parsed.data };
  const errors = fieldErrors(parsed.error, `/${parameter}`);
  const detail = `The ${parameter} in the path: ${errors[0]!.detail}.`;
  return refused(problem(c, 422, `Invalid ${parameter} name`, detail, errors));
}

/** The whole query, checked; fields are named as `?name`. */
export function checkQuery<T extends z.ZodType>(c: Context, schema: T): Read<z.output<T>> {
  const parsed = schema.safeParse(c.req.query());
  if (parsed.success) return { ok: true, value: parsed.data };
  const errors = fieldErrors(parsed.error).map(({ pointer, detail }) => ({
    pointer: pointer.replace(/^\//, "?"),
    detail,
  }));
  const first = errors[0]!;
  return refused(problem(c, 422, "Invalid query", `${first.pointer} ${first.detail}.`, errors));
}

/** A number from the query, within bounds; `fallback` where it is absent. */
export function queryNumber(c: Context, name: string, fallback: number, min: number, max: number): Read<number> {
  const text = c.req.query(name);
  if (text === undefined) return { ok: true, value: fallback };
  const value = Number(text);
  if (text.trim() !== "" && Number.isFinite(value) && value >= min && value <= max) return { ok: true, value };
  const detail = `must be a number from ${min} to ${max}`;
  return refused(problem(c, 422, "Invalid query", `?${name} ${detail}.`, [{ pointer: `?${name}`, detail }]));
}

/** The body as text, or 413 as soon as it is longer than allowed: a declared length is believed, a missing one counted. */
async function readText(c: Context<AppEnv>, bytesMax: number): Promise<Read<string>> {
  const tooLarge = () => refused(problem(c, 413, "Body too large", `The body may have at most ${bytesMax} bytes.`));
  const declared = Number(c.req.header("content-length") ?? Number.NaN);
  if (declared > bytesMax) return tooLarge();
  if (declared <= bytesMax) return { ok: true, value: await c.req.text() };
  const read = await readWithin(c.req.raw.body, bytesMax);
  return read === null ? tooLarge() : { ok: true, value: new TextDecoder().decode(read) };
}

function refused(response: Response): { ok: false; response: Response } {
  return { ok: false, response };
}

/** Methods that a path could have been meant for: what tells 405 from 404. */
const METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH"];

interface Routes {
  router: { match(method: string, path: string): readonly unknown[] };
}

/** 405 with `Allow` where another method has a route, else 404. */
export function notFound(app: Routes, c: Context): Response {
  const allowed = METHODS.filter((method) => method !== c.req.method && hasRoute(app, method, c.req.path));
  if (allowed.length === 0) return problem(c, 404, "Not found", "There is nothing at this path.");
  const response = problem(
    c,
    405,
    "Method not allowed",
    `${c.req.method} is not possible here; ${allowed.join(", ")} is.`,
  );
  response.headers.set("allow", allowed.join(", "));
  return response;
}

/** Middleware matches too, but is registered for ALL methods: only a route of the very method counts. */
function hasRoute(app: Routes, method: string, path: string): boolean {
  const [handlers] = app.router.match(method, path) as [[[unknown, { method: string }], unknown][]];
  return handlers.some(([[, route]]) => route.method === method);
}

/** Asked again after this, ms: an object that restarts is back within a second. */
const UNAVAILABLE_RETRY_MS = 1_000;

/** A fault of ours: logged whole, told as nothing but an id that finds it in the log. */
export function unexpected(error: Error, c: Context): Response {
  const id = crypto.randomUUID();
  console.error(JSON.stringify({ level: "error", id, method: c.req.method, path: c.req.path, error: error.stack }));
  // Durable Objects mark what passes: a restart (`retryable`), too many requests (`overloaded`).
  if (("retryable" in error && error.retryable) || ("overloaded" in error && error.overloaded)) {
    const detail = `A part of this service is restarting or overloaded; the log has it under ${id}.`;
    return problem(c, 503, "Temporarily unavailable", detail, undefined, { retryAfterMs: UNAVAILABLE_RETRY_MS });
  }
  return problem(c, 500, "Internal error", `Something went wrong on our side; the log has it under ${id}.`);
}

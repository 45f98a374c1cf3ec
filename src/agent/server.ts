// The agent's HTTP server. In: calls of the gateway (/invoke, signed), of the VM's own tasks (/objects, by token), of people and
// monitors (/healthz, /metrics). Out: streamed answers, or problem+json.
import type { webcrypto } from "node:crypto";
import { createReadStream } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { pipeline } from "node:stream/promises";
import { verify } from "hono/jwt";
import { COLD_START_HEADER, CONTEXT_HEADER, INVOKE_SIGNATURE_HEADER, InvokeContext } from "../protocol.ts";
import type { HubClock } from "./clock.ts";
import type { Answered, Invoker } from "./invoke.ts";
import type { TaskObjects } from "./objects.ts";
import { rangeOf } from "./range.ts";
import type { RuntimePool } from "./runtimes.ts";

interface ServerOptions {
  cluster: string;
  vm: string;
  clock: HubClock;
  invoker: Invoker;
  pool: RuntimePool;
  objects: TaskObjects;
  /** Base64url; null until the first heartbeat was answered. */
  invokeKey: () => string | null;
  healthy: () => { ok: boolean; detail: string };
  metrics: () => string;
}

/** A signature is made for one call; one that claims to live longer was not made by the gateway. */
const SIGNATURE_MS_MAX = 60_000;
/** Between two clocks that have just been compared. */
const CLOCK_MARGIN_MS = 2_000;
/** Of caller's headers: a continuation is up to 4 KiB, and several may be joined. */
const HEADERS_BYTES_MAX = 64 * 1024;

/** Longer than gateways and balancers keep idle connections: they are to close first, or a call meets a closing one. */
const KEEP_ALIVE_MS = 75_000;

export interface Problem {
  status: number;
  title: string;
  detail: string;
}

export function createAgentServer(options: ServerOptions): Server {
  const server = createServer({ maxHeaderSize: HEADERS_BYTES_MAX }, (request, response) => {
    route(options, request, response).catch((error: unknown) => {
      // Programmer errors reach the process's handler; what is left here is a connection that broke while it was written to.
      if (!isBrokenConnection(error)) throw error;
      response.destroy();
    });
  });
  // A task may take long to send its input and its answer; its own time-out bounds it.
  server.requestTimeout = 0;
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  return server;
}

async function route(options: ServerOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = request.url ?? "/";
  if (url.startsWith("/invoke/")) return invoke(options, request, response);
  const { pathname, searchParams } = new URL(url, "http://agent");
  if (pathname === "/objects") return serveObject(options, request, response, searchParams);
  if (pathname === "/healthz") {
    const { ok, detail } = options.healthy();
    response.writeHead(ok ? 200 : 503, { "content-type": "application/json" });
    response.end(JSON.stringify({ ok, detail }));
    return;
  }
  if (pathname === "/metrics") {
    response.writeHead(200, { "content-type": "text/plain; version=0.0.4" });
    response.end(options.metrics());
    return;
  }
  refuse(response, { status: 404, title: "Not found", detail: "There is nothing at this path." });
}

// ── /invoke ──────────────────────────────────────────────────────────────────────────────────────────────────────────

async function invoke(options: ServerOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const target = splitTarget(request.url ?? "");
  if (target === null) return refuse(response, { status: 400, title: "Bad path", detail: "Expected /invoke/<task>/…" });
  const refusal = await checkSignature(options, request, target.task);
  if (refusal !== null) return refuse(response, refusal);
  const context = parseContext(request.headers[CONTEXT_HEADER]);
  if (context === null) {
    return refuse(response, {
      status: 400,
      title: "Bad context",
      detail: `${CONTEXT_HEADER} is missing or malformed.`,
    });
  }
  const gone = new AbortController();
  response.once("close", () => {
    if (!response.writableFinished) gone.abort();
  });
  const { method = "GET", headers } = request;
  const answer = await options.invoker.invoke({
    ...target,
    context,
    method,
    headers,
    body: request,
    gone: gone.signal,
  });
  await send(response, answer);
}

async function send(response: ServerResponse, answer: Answered): Promise<void> {
  if (!answer.ok) return refuse(response, answer);
  response.writeHead(answer.status, { ...answer.headers, [COLD_START_HEADER]: answer.coldStartMs.toFixed(1) });
  await pipeline(answer.body, response);
}

/** `/invoke/<task>/rest?query` → the task, and what the task itself is asked for. */
function splitTarget(url: string): { task: string; path: string } | null {
  const match = /^\/invoke\/([^/?]+)(\/[^?]*)?(\?.*)?$/.exec(url);
  if (match === null) return null;
  try {
    return { task: decodeURIComponent(match[1]!), path: `${match[2] ?? "/"}${match[3] ?? ""}` };
  } catch {
    return null;
  }
}

async function checkSignature(options: ServerOptions, request: IncomingMessage, task: string): Promise<Problem | null> {
  const key = options.invokeKey();
  if (key === null) return { status: 503, title: "Not ready", detail: "The agent has not reached the hub yet." };
  const unsigned = (detail: string) => ({ status: 401, title: "Bad signature", detail });
  const token = request.headers[INVOKE_SIGNATURE_HEADER];
  if (typeof token !== "string") return unsigned(`${INVOKE_SIGNATURE_HEADER} is missing.`);
  try {
    // Expiry is judged below, by the hub's clock: this machine's may be off.
    const payload = await verify(token, await imported(key), {
      alg: "HS256",
      exp: false,
      nbf: false,
      iat: false,
      aud: `${options.cluster}/${options.vm}`,
    });
    if (payload.sub !== task) return unsigned("The signature is for another task.");
    const expiresMs = typeof payload.exp === "number" ? payload.exp * 1000 : 0;
    const leftMs = expiresMs - options.clock.hubMs();
    if (leftMs < -CLOCK_MARGIN_MS) return unsigned("The signature has expired.");
    if (leftMs > SIGNATURE_MS_MAX + CLOCK_MARGIN_MS) return unsigned("The signature lives too long.");
    return null;
  } catch {
    return unsigned("The signature is not one of this VM's gateway.");
  }
}

let lastKey: { text: string; key: Promise<webcrypto.CryptoKey> } | null = null;

/** The hub gives the same key with every heartbeat: made usable once. */
function imported(text: string): Promise<webcrypto.CryptoKey> {
  if (lastKey?.text !== text) {
    const algorithm = { name: "HMAC", hash: "SHA-256" };
    const key = crypto.subtle.importKey("raw", Buffer.from(text, "base64url"), algorithm, false, ["verify"]);
    lastKey = { text, key };
  }
  return lastKey.key;
}

export function parseContext(header: string | string[] | undefined): InvokeContext | null {
  if (typeof header !== "string") return null;
  try {
    const parsed = InvokeContext.safeParse(JSON.parse(Buffer.from(header, "base64url").toString("utf8")));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}

// ── /objects ─────────────────────────────────────────────────────────────────────────────────────────────────────────

async function serveObject(
  options: ServerOptions,
  request: IncomingMessage,
  response: ServerResponse,
  query: URLSearchParams,
): Promise<void> {
  const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1];
  const runtime = token === undefined ? null : options.pool.byToken(token);
  if (runtime === null)
    return refuse(response, { status: 401, title: "Bad token", detail: "Expected a runtime's token." });
  if (request.method !== "GET") return refuse(response, { status: 405, title: "Bad method", detail: "Expected GET." });
  const uri = query.get("uri");
  if (uri === null || uri === "") return refuse(response, { status: 400, title: "No URI", detail: "Expected ?uri=…" });
  const as = query.get("as");
  if (as !== null && as !== "path")
    return refuse(response, { status: 400, title: "Bad form", detail: "Expected as=path." });
  if (/^oci:/i.test(uri)) {
    const detail = "An image is kept by the container engine, and is no object that could be read.";
    return refuse(response, { status: 403, title: "Object not loaded", detail });
  }
  const answer = await options.objects.read(runtime, uri);
  if (!answer.ok) {
    const status = answer.reason === "refused" ? 403 : answer.reason === "not_found" ? 404 : 502;
    return refuse(response, { status, title: "Object not loaded", detail: `${answer.reason}: ${answer.detail}` });
  }
  if (as === "path") {
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ path: answer.path, bytes: answer.bytes }));
    return;
  }
  const { path, bytes } = answer;
  // A condition on a version cannot be judged here: the whole object is then the right answer.
  const range = request.headers["if-range"] === undefined ? rangeOf(request.headers.range, bytes) : null;
  const headers = { "content-type": "application/octet-stream", "accept-ranges": "bytes" };
  if (range === "unsatisfiable") {
    response.writeHead(416, { ...headers, "content-range": `bytes */${bytes}`, "content-length": 0 }).end();
  } else if (range === null) {
    response.writeHead(200, { ...headers, "content-length": bytes });
    await pipeline(createReadStream(path), response);
  } else {
    const { first, last } = range;
    const told = { "content-range": `bytes ${first}-${last}/${bytes}`, "content-length": last - first + 1 };
    response.writeHead(206, { ...headers, ...told });
    await pipeline(createReadStream(path, { start: first, end: last }), response);
  }
}

function refuse(response: ServerResponse, { status, title, detail }: Problem): void {
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  // What is left of the request's body is not read: the connection cannot be used again.
  response.writeHead(status, { "content-type": PROBLEM_TYPE, connection: "close" });
  response.end(problemText({ status, title, detail }));
}

export const PROBLEM_TYPE = "application/problem+json";

export function problemText({ status, title, detail }: Problem): string {
  return JSON.stringify({ type: "about:blank", title, status, detail });
}

function isBrokenConnection(error: unknown): boolean {
  return error instanceof Error && "code" in error;
}

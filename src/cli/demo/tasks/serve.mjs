// What every demo task does: serve HTTP on $PORT, read objects through the agent, call services, tell what was called.
// The task's own work is `answer`; the server listens only when its start-up (models, indexes) is done, so that "ready" is true.
// Plain JavaScript and node:http alone, as a function platform would run it: a start costs what the task itself needs.
import { createServer, request as httpRequest } from "node:http";

const BODY_BYTES_MAX = 1024 * 1024;
/** How often a task looks whether the agent that started it is still there, ms. */
const PARENT_POLL_MS = 1_000;

/**
 * @typedef {object} Call
 * @property {URLSearchParams} query
 * @property {unknown} body Parsed JSON; null where there is none.
 * @property {(name: string, method: "GET" | "PUT", key: string, record?: unknown) => Promise<any>} service
 *   Calls a service at its address from the environment, and notes the call for the execution's record.
 */

/** Bytes of an object, through the agent's cache. Errors: throws when the agent cannot load it. @param {string} uri */
export async function readObject(uri) {
  const authorization = `Bearer ${needed("FORECHAIN_TOKEN")}`;
  const url = `${needed("FORECHAIN_OBJECTS")}?uri=${encodeURIComponent(uri)}`;
  const { status, bytes } = await exchange(url, "GET", { authorization });
  if (status !== 200) throw new Error(`object ${uri}: ${status} ${bytes}`);
  return bytes;
}

/** @param {string} name */
export function needed(name) {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set`);
  return value;
}

/** @param {(call: Call) => Promise<unknown>} answer */
export function serveTask(answer) {
  const server = createServer((request, response) => {
    handle(request, response, answer).catch((error) => {
      response.writeHead(500, { "content-type": "application/json" });
      response.end(JSON.stringify({ detail: String(error) }));
    });
  });
  server.listen(Number(needed("PORT")), "127.0.0.1");
  const parent = process.ppid;
  setInterval(() => {
    // An agent that was killed cannot stop its runtimes.
    if (process.ppid !== parent) process.exit(1);
  }, PARENT_POLL_MS).unref();
}

async function handle(request, response, answer) {
  const url = new URL(request.url ?? "/", "http://task");
  if (url.pathname === "/healthz") return void response.end("ready");
  /** @type {Map<string, { service: string, calls: number, bytes: number, latencyMs: number }>} */
  const uses = new Map();
  const body = await readAll(request);
  const result = await answer({
    query: url.searchParams,
    body: body.length === 0 ? null : JSON.parse(body.toString()),
    service: (name, method, key, record) => callService(uses, name, method, key, record),
  });
  response.writeHead(200, {
    "content-type": "application/json",
    ...(uses.size > 0 ? { "forechain-services": JSON.stringify([...uses.values()]) } : {}),
  });
  response.end(JSON.stringify(result));
}

async function callService(uses, service, method, key, record) {
  const startMs = performance.now();
  const sent = record === undefined ? "" : JSON.stringify(record);
  const url = `${needed(`${service.toUpperCase()}_URL`)}/records/${encodeURIComponent(key)}`;
  const { status, bytes } = await exchange(url, method, { "content-type": "application/json" }, sent);
  if (status !== 200) throw new Error(`${service}: ${status} ${bytes}`);
  const use = uses.get(service) ?? { service, calls: 0, bytes: 0, latencyMs: 0 };
  // `latencyMs` is the mean over the calls.
  use.latencyMs = (use.latencyMs * use.calls + performance.now() - startMs) / (use.calls + 1);
  use.calls++;
  use.bytes += sent.length + bytes.length;
  uses.set(service, use);
  return JSON.parse(bytes.toString());
}

/** @returns {Promise<{ status: number, bytes: Buffer }>} */
function exchange(url, method, headers, body = "") {
  return new Promise((resolve, reject) => {
    const request = httpRequest(url, { method, headers }, (response) => {
      readAll(response, Number.POSITIVE_INFINITY).then(
        (bytes) => resolve({ status: response.statusCode ?? 0, bytes }),
        reject,
      );
    });
    request.on("error", reject);
    request.end(body);
  });
}

async function readAll(stream, bytesMax = BODY_BYTES_MAX) {
  const pieces = [];
  let bytes = 0;
  for await (const piece of stream) {
    bytes += piece.length;
    if (bytes > bytesMax) throw new Error("body too large");
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

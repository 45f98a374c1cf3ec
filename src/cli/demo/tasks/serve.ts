// What every demo task does: serve HTTP on $PORT, read objects through the agent, call services, tell what was called.
// The task's own work is `answer`; the server listens only when its start-up (models, indexes) is done, so that "ready" is true.
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";

const BODY_BYTES_MAX = 1024 * 1024;
/** How often a task looks whether the agent that started it is still there. */
const PARENT_POLL_MS = 1_000;

export interface Call {
  query: URLSearchParams;
  /** Parsed JSON body; null where there is none. */
  body: unknown;
  /** Calls a service at its address from the environment, and notes the call for the execution's record. */
  service(name: string, method: "GET" | "PUT", key: string, record?: unknown): Promise<unknown>;
}

interface Use {
  service: string;
  calls: number;
  bytes: number;
  latencyMs: number;
}

/** Bytes of an object, through the agent's cache. Errors: throws when the agent cannot load it. */
export async function readObject(uri: string): Promise<Uint8Array> {
  const response = await fetch(`${needed("FORECHAIN_OBJECTS")}?uri=${encodeURIComponent(uri)}`, {
    headers: { authorization: `Bearer ${needed("FORECHAIN_TOKEN")}` },
  });
  if (!response.ok) throw new Error(`object ${uri}: ${response.status} ${await response.text()}`);
  return new Uint8Array(await response.arrayBuffer());
}

export function needed(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set`);
  return value;
}

export function serveTask(answer: (call: Call) => Promise<unknown>): void {
  const server = createServer((request, response) => {
    handle(request, response, answer).catch((error: unknown) => {
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

async function handle(
  request: IncomingMessage,
  response: ServerResponse,
  answer: (call: Call) => Promise<unknown>,
): Promise<void> {
  const url = new URL(request.url ?? "/", "http://task");
  if (url.pathname === "/healthz") return void response.end("ready");
  const uses = new Map<string, Use>();
  const result = await answer({
    query: url.searchParams,
    body: await readBody(request),
    service: (name, method, key, record) => callService(uses, name, method, key, record),
  });
  response.writeHead(200, {
    "content-type": "application/json",
    ...(uses.size > 0 ? { "forechain-services": JSON.stringify([...uses.values()]) } : {}),
  });
  response.end(JSON.stringify(result));
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of request) {
    bytes += (piece as Buffer).length;
    if (bytes > BODY_BYTES_MAX) throw new Error("body too large");
    pieces.push(piece as Buffer);
  }
  return bytes === 0 ? null : JSON.parse(Buffer.concat(pieces).toString("utf8"));
}

async function callService(
  uses: Map<string, Use>,
  service: string,
  method: "GET" | "PUT",
  key: string,
  record: unknown,
): Promise<unknown> {
  const startMs = performance.now();
  const sent = record === undefined ? "" : JSON.stringify(record);
  const response = await fetch(`${needed(`${service.toUpperCase()}_URL`)}/records/${encodeURIComponent(key)}`, {
    method,
    ...(record === undefined ? {} : { body: sent, headers: { "content-type": "application/json" } }),
  });
  const received = await response.text();
  if (!response.ok) throw new Error(`${service}: ${response.status} ${received}`);
  const use = uses.get(service) ?? { service, calls: 0, bytes: 0, latencyMs: 0 };
  const tookMs = performance.now() - startMs;
  // `latencyMs` is the mean over the calls.
  use.latencyMs = (use.latencyMs * use.calls + tookMs) / (use.calls + 1);
  use.calls++;
  use.bytes += sent.length + received.length;
  uses.set(service, use);
  return JSON.parse(received);
}

// A link with a latency and a bandwidth, in front of a real HTTP server: what makes one cluster far from a service and
// another one near, on one machine. In: a whole body. Out: its bytes on the socket, no earlier than the link allows.
// The bandwidth is that of one connection, as object stores give it; parallel transfers do not slow each other.
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { setTimeout as delay } from "node:timers/promises";

export interface Link {
  /** From the request to the first byte of the answer. */
  latencyMs: number;
  bytesPerSecond: number;
}

/** Time between two pieces of a body: timers are not finer than 1 ms, and too many of them cost CPU. */
const PIECE_MS = 8;
const REQUEST_BYTES_MAX = 64 * 1024;

export interface Answer {
  status: number;
  headers: Record<string, string>;
  body: Buffer;
}

export interface LinkedServer {
  port: number;
  close(): Promise<void>;
}

/** Serves `answer` on a free loopback port, behind `link`. */
export async function serveBehind(
  link: Link,
  answer: (method: string, url: URL, body: Buffer) => Answer,
): Promise<LinkedServer> {
  const server = createServer((request, response) => {
    respond(request, response, link, answer).catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  // The demo is over when its work is, not when somebody closes the last link.
  server.unref();
  const { port } = server.address() as { port: number };
  const close = () =>
    new Promise<void>((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  return { port, close };
}

async function respond(
  request: IncomingMessage,
  response: ServerResponse,
  link: Link,
  answer: (method: string, url: URL, body: Buffer) => Answer,
): Promise<void> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of request) {
    bytes += (piece as Buffer).length;
    if (bytes > REQUEST_BYTES_MAX) throw new Error("request too large");
    pieces.push(piece as Buffer);
  }
  const url = new URL(request.url ?? "/", "http://link");
  const { status, headers, body } = answer(request.method ?? "GET", url, Buffer.concat(pieces));
  await delay(link.latencyMs);
  response.writeHead(status, { ...headers, "content-length": String(body.length) });
  if (request.method === "HEAD") return void response.end();
  await pace(response, body, link.bytesPerSecond);
  response.end();
}

/** Against the clock, not by fixed steps: a late timer is made up for by the next piece. */
async function pace(response: ServerResponse, body: Buffer, bytesPerSecond: number): Promise<void> {
  const startMs = performance.now();
  let sent = 0;
  while (sent < body.length && !response.destroyed) {
    const due = Math.min(body.length, Math.ceil(((performance.now() - startMs + PIECE_MS) / 1000) * bytesPerSecond));
    if (due > sent) response.write(body.subarray(sent, due));
    sent = due;
    // Also after the last piece: it takes its time on the link like the others.
    await delay(PIECE_MS);
  }
}

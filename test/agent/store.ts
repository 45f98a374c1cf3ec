// An origin store for tests: real HTTP, with faults by path. It counts what it was asked for and what it sent.
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export type Handler = (request: IncomingMessage, response: ServerResponse) => void;

export class TestStore {
  readonly requests: string[] = [];
  readonly #handlers = new Map<string, Handler>();
  readonly #server: Server;
  #watchers = new Set<() => void>();

  private constructor() {
    this.#server = createServer((request, response) => {
      const path = request.url ?? "/";
      this.requests.push(path);
      const handler = this.#handlers.get(path);
      if (handler !== undefined) handler(request, response);
      else response.writeHead(404).end();
      for (const look of this.#watchers) look();
    });
  }

  static async start(): Promise<TestStore> {
    const store = new TestStore();
    await new Promise<void>((resolve) => store.#server.listen(0, "127.0.0.1", resolve));
    return store;
  }

  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  uri(path: string): string {
    return `http://${this.host}${path}`;
  }

  on(path: string, handler: Handler): string {
    this.#handlers.set(path, handler);
    return this.uri(path);
  }

  /** A plain object; its checksum is told. */
  put(path: string, bytes: Buffer): string {
    return this.on(path, (_request, response) => {
      const digest = createHash("sha256").update(bytes).digest("base64");
      response.writeHead(200, { "content-length": bytes.length, "repr-digest": `sha-256=:${digest}:` });
      response.end(bytes);
    });
  }

  asked(path: string): number {
    return this.requests.filter((request) => request === path).length;
  }

  async untilAsked(path: string, times = 1): Promise<void> {
    if (this.asked(path) >= times) return;
    await new Promise<void>((resolve) => {
      const look = () => {
        if (this.asked(path) < times) return;
        this.#watchers.delete(look);
        resolve();
      };
      this.#watchers.add(look);
    });
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** Bytes that differ from place to place, so that a cut or shift is seen. */
export function pattern(bytes: number, seed = 1): Buffer {
  const buffer = Buffer.alloc(bytes);
  let state = seed;
  for (let at = 0; at < bytes; at++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    buffer[at] = state >>> 24;
  }
  return buffer;
}

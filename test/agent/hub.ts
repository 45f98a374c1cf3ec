// A hub for tests: speaks the agent's side of protocol.ts over real HTTP and checks every message against its schema. It keeps
// what it was told, and resolves waits when something that matches arrives, so that no test sleeps.
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { sign } from "hono/jwt";
import {
  AgentMessage,
  AgentReport,
  CONTEXT_HEADER,
  type Command,
  type CommandResult,
  Execution,
  Heartbeat,
  type HeartbeatAnswer,
  INVOKE_SIGNATURE_HEADER,
  type InvokeContext,
  type PreparedEnd,
  type PreparedUse,
  type UnpreparedUse,
} from "../../src/protocol.ts";
import { acceptSocket, type ServerSocket } from "./frames.ts";

export const TEST_KEY = "fck_test_secret";
const INVOKE_KEY = Buffer.alloc(32, 7).toString("base64url");

interface Waiter {
  matches: () => unknown;
  resolve: (found: unknown) => void;
}

export class TestHub {
  readonly heartbeats: Heartbeat[] = [];
  readonly executions: Execution[] = [];
  readonly results: CommandResult[] = [];
  readonly uses: PreparedUse[] = [];
  readonly ends: PreparedEnd[] = [];
  readonly misses: UnpreparedUse[] = [];
  /** Faults that a test switches on: status codes for the next calls of a route. */
  readonly failures: Record<"heartbeat" | "commands" | "results" | "executions", number[]> = {
    heartbeat: [],
    commands: [],
    results: [],
    executions: [],
  };
  calls: Record<string, number> = {};
  /** The hub's clock against this machine's. */
  clockOffsetMs = 0;
  answer: Partial<HeartbeatAnswer> = {};
  /** Whether WebSockets are accepted; a proxy in between may forbid them. */
  acceptsSockets = false;
  socket: ServerSocket | null = null;
  /** Messages that came by socket, by type. */
  answersPings = true;
  readonly said: Record<string, number> = {};
  /** Every message that did not fit its schema. */
  readonly malformed: string[] = [];
  #queue: Command[] = [];
  #polls = new Set<() => void>();
  #waiters = new Set<Waiter>();
  readonly #server: Server;
  #commandCount = 0;

  private constructor() {
    this.#server = createServer((request, response) => {
      this.#serve(request).then(
        ({ status, body }) => {
          response.writeHead(status, { "content-type": "application/json" });
          response.end(JSON.stringify(body));
          this.#look();
        },
        () => response.destroy(),
      );
    });
  }

  static async start(): Promise<TestHub> {
    const hub = new TestHub();
    hub.#server.on("upgrade", (request, stream) => hub.#upgrade(request, stream));
    await new Promise<void>((resolve) => hub.#server.listen(0, "127.0.0.1", resolve));
    return hub;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  nowMs(): number {
    return performance.timeOrigin + performance.now() + this.clockOffsetMs;
  }

  async stop(): Promise<void> {
    for (const wake of this.#polls) wake();
    this.socket?.drop();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** Queues a command and gives its id. */
  send(command: Partial<Command> & Pick<Command, "kind">): string {
    const nowMs = this.nowMs();
    const commandId = command.commandId ?? `c${++this.#commandCount}`;
    this.#queue.push({
      leaseId: `lease-${commandId}`,
      leaseMs: 30_000,
      notBeforeMs: nowMs,
      deadlineMs: nowMs + 10_000,
      expiresMs: nowMs + 30_000,
      probability: 0.9,
      attempt: 1,
      ...command,
      commandId,
    });
    if (this.socket !== null) this.#push();
    for (const wake of this.#polls) wake();
    return commandId;
  }

  /** Resolves with what `find` finds, now or after a later message. Vitest's own time-out bounds it. */
  async until<T>(find: () => T | undefined | false | null): Promise<T> {
    const found = find();
    if (found) return found;
    return (await new Promise<unknown>((resolve) => this.#waiters.add({ matches: find, resolve }))) as T;
  }

  result(commandId: string, leaseId?: string): Promise<CommandResult> {
    return this.until(() =>
      this.results.find((result) => result.commandId === commandId && (leaseId ?? result.leaseId) === result.leaseId),
    );
  }

  execution(executionId: string): Promise<Execution> {
    return this.until(() => this.executions.find((execution) => execution.executionId === executionId));
  }

  /** Headers of a call to /invoke as the gateway makes it. */
  async invokeHeaders(
    task: string,
    context: Partial<InvokeContext> & Pick<InvokeContext, "executionId">,
    claims: { aud?: string; sub?: string; exp?: number; key?: string } = {},
  ): Promise<Record<string, string>> {
    const full: InvokeContext = { runId: "run-1", links: [], allocationId: "a-1", ...context };
    const { key = INVOKE_KEY, ...overrides } = claims;
    const payload = { aud: "east/east-1", sub: task, exp: Math.floor(this.nowMs() / 1000) + 30, ...overrides };
    return {
      [INVOKE_SIGNATURE_HEADER]: await sign(payload, { kty: "oct", k: key, alg: "HS256" }, "HS256"),
      [CONTEXT_HEADER]: Buffer.from(JSON.stringify(full)).toString("base64url"),
    };
  }

  #look(): void {
    for (const waiter of this.#waiters) {
      const found = waiter.matches();
      if (!found) continue;
      this.#waiters.delete(waiter);
      waiter.resolve(found);
    }
  }

  async #serve(request: IncomingMessage): Promise<{ status: number; body: unknown }> {
    const url = new URL(request.url ?? "/", this.url);
    const route = (url.pathname.split("/").at(-1) ?? "") as keyof TestHub["failures"];
    this.calls[route] = (this.calls[route] ?? 0) + 1;
    const text = await bodyOf(request);
    const status = this.failures[route]?.shift();
    if (status === 0) throw new Error("connection dropped on purpose");
    if (status !== undefined) return { status, body: { title: "on purpose", status } };
    if (request.headers.authorization !== `Bearer ${TEST_KEY}`) return { status: 401, body: {} };
    switch (route) {
      case "heartbeat":
        return this.#heartbeat(text);
      case "commands":
        return { status: 200, body: await this.#commands(Number(url.searchParams.get("waitMs")), request) };
      case "results":
        return this.#report(text);
      case "executions":
        return this.#ingest(text);
      default:
        return { status: 404, body: {} };
    }
  }

  #upgrade(request: IncomingMessage, stream: Duplex): void {
    this.calls.socket = (this.calls.socket ?? 0) + 1;
    stream.on("error", () => {}); // an agent that is killed resets its connections
    const authorised = request.headers.authorization === `Bearer ${TEST_KEY}`;
    if (!this.acceptsSockets || !authorised) {
      stream.end("HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n");
      this.#look();
      return;
    }
    const socket = acceptSocket(request, stream, (text) => this.#hear(text, socket));
    this.socket = socket;
    stream.once("close", () => {
      if (this.socket === socket) this.socket = null;
    });
    this.#push();
    this.#look();
  }

  #push(): void {
    if (this.#queue.length === 0) return;
    this.socket?.send(
      JSON.stringify({ type: "commands", answer: { nowMs: this.nowMs(), commands: this.#queue.splice(0) } }),
    );
  }

  #hear(text: string, socket: ServerSocket): void {
    if (text === "ping") {
      this.said.ping = (this.said.ping ?? 0) + 1;
      if (this.answersPings) socket.send("pong");
      this.#look();
      return;
    }
    const parsed = AgentMessage.safeParse(JSON.parse(text));
    if (!parsed.success) {
      this.malformed.push(`socket: ${parsed.error.message}`);
      return;
    }
    const message = parsed.data;
    this.said[message.type] = (this.said[message.type] ?? 0) + 1;
    const route = message.type === "heartbeat" ? "heartbeat" : "results";
    const status = this.failures[route].shift();
    const { body } =
      message.type === "heartbeat"
        ? status === undefined
          ? this.#heartbeat(JSON.stringify(message.heartbeat))
          : { body: null }
        : status === undefined
          ? this.#report(JSON.stringify(message.report))
          : { body: null };
    const { id, type } = message;
    socket.send(
      JSON.stringify(
        status === undefined ? { type, id, answer: body } : { type: "refused", id, status, detail: "on purpose" },
      ),
    );
    this.#look();
  }

  #heartbeat(text: string): { status: number; body: unknown } {
    const parsed = Heartbeat.safeParse(JSON.parse(text));
    if (!parsed.success) return this.#malformed("heartbeat", parsed.error.message);
    this.heartbeats.push(parsed.data);
    const answer: HeartbeatAnswer = {
      nowMs: this.nowMs(),
      nextHeartbeatMs: 200,
      invokeKey: INVOKE_KEY,
      draining: false,
      tasks: {},
      services: [],
      ...this.answer,
    };
    return { status: 200, body: answer };
  }

  async #commands(waitMs: number, request: IncomingMessage): Promise<unknown> {
    if (this.#queue.length === 0) {
      await new Promise<void>((resolve) => {
        const wake = () => {
          clearTimeout(timer);
          this.#polls.delete(wake);
          resolve();
        };
        const timer = setTimeout(wake, waitMs);
        this.#polls.add(wake);
        request.socket.once("close", wake);
      });
      if (request.socket.destroyed) throw new Error("the agent has gone");
    }
    return { nowMs: this.nowMs(), commands: this.#queue.splice(0) };
  }

  #report(text: string): { status: number; body: unknown } {
    const parsed = AgentReport.safeParse(JSON.parse(text));
    if (!parsed.success) return this.#malformed("results", parsed.error.message);
    const { results, uses, ends, misses } = parsed.data;
    this.results.push(...results);
    this.uses.push(...uses);
    this.ends.push(...ends);
    this.misses.push(...misses);
    return { status: 200, body: { accepted: results.length + uses.length + ends.length + misses.length, refused: [] } };
  }

  #ingest(text: string): { status: number; body: unknown } {
    const { executions } = JSON.parse(text) as { executions: unknown[] };
    for (const record of executions) {
      const parsed = Execution.strict().safeParse(record);
      if (!parsed.success) return this.#malformed("executions", parsed.error.message);
      this.executions.push(parsed.data);
    }
    return { status: 202, body: { accepted: executions.length, duplicates: 0, rejected: [] } };
  }

  #malformed(route: string, detail: string): { status: number; body: unknown } {
    this.malformed.push(`${route}: ${detail}`);
    return { status: 400, body: { detail } };
  }
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString("utf8");
}

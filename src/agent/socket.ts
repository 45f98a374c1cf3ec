// The agent's WebSocket to its hub: commands arrive as they become due, heartbeats and reports go out, each answered by id. In:
// messages of protocol.ts. Out: the same answers as by HTTP. Some proxies forbid WebSockets: whoever holds this falls back to
// long-polls whenever it is not open. A connection that says nothing for too long is taken for dead: proxies drop some unseen.
import { type AgentMessage, type Command, HubMessage } from "../protocol.ts";
import { failureOf, type LinkFailure } from "./link-failure.ts";
import { delay } from "./transfer.ts";

interface SocketOptions {
  /** ws: or wss: */
  url: string;
  key: string;
  receive: (command: Command) => void;
  log: (line: string) => void;
  pingEveryMs?: number;
}

type Body<Type extends AgentMessage["type"]> = Omit<Extract<AgentMessage, { type: Type }>, "type" | "id">;
type Answer<Type extends AgentMessage["type"]> = Extract<HubMessage, { type: Type }>["answer"];
type Settled = { ok: true; message: HubMessage } | LinkFailure;

const CONNECT_MS_MAX = 10_000;
const ANSWER_MS_MAX = 10_000;
/** Below the idle time-outs of common proxies. The hub's runtime answers without waking the hub. */
const PING_EVERY_MS = 20_000;
/** Silence in which pings go unanswered, as a multiple of their pace. */
const SILENCE_PINGS_MAX = 2;

export class HubSocket {
  readonly #options: SocketOptions;
  #socket: WebSocket | null = null;
  #lastHeardMs = 0;
  #messages = 0;
  readonly #waiting = new Map<number, (settled: Settled) => void>();

  constructor(options: SocketOptions) {
    this.#options = options;
  }

  isOpen(): boolean {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Connects and stays until the connection ends. Resolves with whether it was ever open. */
  async stay(signal: AbortSignal): Promise<"forbidden" | "closed"> {
    const { url, key, pingEveryMs = PING_EVERY_MS } = this.#options;
    // `headers` is Node's own addition to the standard.
    const socket = new WebSocket(url, { headers: { authorization: `Bearer ${key}` } } as unknown as string[]);
    const ended = new AbortController();
    const opened = new Promise<boolean>((resolve) => {
      socket.addEventListener("open", () => resolve(true), { once: true });
      socket.addEventListener("close", () => resolve(false), { once: true });
      socket.addEventListener("error", () => resolve(false), { once: true });
    });
    socket.addEventListener("close", () => ended.abort(), { once: true });
    socket.addEventListener("error", () => ended.abort(), { once: true });
    socket.addEventListener("message", ({ data }) => this.#hear(String(data)));
    const limit = AbortSignal.any([signal, AbortSignal.timeout(CONNECT_MS_MAX)]);
    const isOpen = await Promise.race([opened, aborted(limit).then(() => false)]);
    if (isOpen) {
      this.#socket = socket;
      this.#lastHeardMs = performance.now();
      await this.#keepAlive(socket, pingEveryMs, AbortSignal.any([signal, ended.signal]));
    }
    this.#socket = null;
    if (socket.readyState === WebSocket.OPEN || socket.readyState === WebSocket.CONNECTING) socket.close();
    for (const settle of this.#waiting.values())
      settle({ ok: false, reason: "unreachable", detail: "the socket closed" });
    this.#waiting.clear();
    return isOpen ? "closed" : "forbidden";
  }

  /** Null where there is no open socket: to be said by HTTP. */
  async say<Type extends AgentMessage["type"]>(
    type: Type,
    body: Body<Type>,
  ): Promise<{ ok: true; answer: Answer<Type> } | LinkFailure | null> {
    const socket = this.#socket;
    if (socket === null || !this.isOpen()) return null;
    const id = ++this.#messages;
    const settled = await new Promise<Settled>((resolve) => {
      const timer = setTimeout(
        () => resolve({ ok: false, reason: "unreachable", detail: `no answer within ${ANSWER_MS_MAX} ms` }),
        ANSWER_MS_MAX,
      );
      this.#waiting.set(id, (answer) => {
        clearTimeout(timer);
        resolve(answer);
      });
      socket.send(JSON.stringify({ type, id, ...body }));
    });
    this.#waiting.delete(id);
    if (!settled.ok) return settled;
    const { message } = settled;
    if (message.type !== type)
      return { ok: false, reason: "bad_answer", detail: `a ${message.type} answered a ${type}` };
    return { ok: true, answer: message.answer as Answer<Type> };
  }

  async #keepAlive(socket: WebSocket, everyMs: number, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await delay(everyMs, signal);
      if (signal.aborted) return;
      if (performance.now() - this.#lastHeardMs > everyMs * SILENCE_PINGS_MAX) {
        this.#options.log("the hub's socket has gone silent");
        return;
      }
      socket.send("ping");
    }
  }

  #hear(text: string): void {
    this.#lastHeardMs = performance.now();
    if (text === "pong") return;
    const message = parsed(text);
    if (message === null) {
      this.#options.log("the hub said what this agent does not understand");
    } else if (message.type === "commands") {
      for (const command of message.answer.commands) this.#options.receive(command);
    } else if (message.type === "refused") {
      const failure = failureOf(message.status, message.detail);
      if (message.id === null) this.#options.log(`the hub refused a message: ${failure.detail}`);
      else this.#waiting.get(message.id)?.(failure);
    } else {
      this.#waiting.get(message.id)?.({ ok: true, message });
    }
  }
}

function parsed(text: string): HubMessage | null {
  try {
    const answer = HubMessage.safeParse(JSON.parse(text));
    return answer.success ? answer.data : null;
  } catch {
    return null;
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}

// Agents' WebSockets, which hibernate: between messages the hub may be evicted, and the socket stays. One socket per VM; a second
// one takes the first one's place, and one whose key was revoked is closed. What a socket says is src/protocol.ts `AgentMessage`, what it hears `HubMessage`.
import { AgentMessage, type HubMessage } from "../../protocol.ts";

/** Close code for a socket whose VM has opened another, or whose process was superseded. */
const CLOSE_REPLACED = 4000;
const CLOSE_REVOKED = 4003;
/** Between looks at whether the keys that opened the sockets are still in force, ms: as long as isolates believe a key. */
const KEYS_EVERY_MS = 60_000;
/** A report may carry the response of an `execute` command. */
const MESSAGE_CHARACTERS_MAX = 2 * 1024 * 1024;

/** What a socket carries over the hub's sleep. */
interface Opened {
  vm: string;
  keyId: string;
}

export class Sockets {
  readonly #ctx: DurableObjectState;
  #keysSeenMs = 0;

  constructor(ctx: DurableObjectState) {
    this.#ctx = ctx;
    // Answered by the runtime without waking the hub.
    ctx.setWebSocketAutoResponse(new WebSocketRequestResponsePair("ping", "pong"));
  }

  /** The response that opens a VM's socket. */
  accept(vm: string, keyId: string): Response {
    this.close(vm, "another socket of this VM was opened");
    const { 0: client, 1: server } = new WebSocketPair();
    this.#ctx.acceptWebSocket(server, [vm]);
    server.serializeAttachment({ vm, keyId } satisfies Opened);
    return new Response(null, { status: 101, webSocket: client });
  }

  vmOf(socket: WebSocket): string {
    return openedOf(socket).vm;
  }

  /** A call's key is looked at with each call, a socket's only here: one question a minute, of all. While D1 is away they stay open. */
  async closeRevoked(db: D1Database, nowMs: number): Promise<void> {
    if (nowMs < this.#keysSeenMs + KEYS_EVERY_MS) return;
    this.#keysSeenMs = nowMs;
    const open = this.#ctx.getWebSockets();
    const keyIds = JSON.stringify([...new Set(open.map((socket) => openedOf(socket).keyId))]);
    const { results } = await db
      .prepare("SELECT key_id FROM json_each(?1) JOIN keys ON key_id = value WHERE revoked_ms IS NOT NULL")
      .bind(keyIds)
      .all<{ key_id: string }>();
    const revoked = new Set(results.map((row) => row.key_id));
    for (const socket of open) if (revoked.has(openedOf(socket).keyId)) socket.close(CLOSE_REVOKED, "key revoked");
  }

  has(vm: string): boolean {
    return this.#open(vm) !== undefined;
  }

  /** False where the VM has no socket, or it broke: the lease then runs out and the command is given again. */
  send(vm: string, message: HubMessage): boolean {
    const socket = this.#open(vm);
    if (!socket) return false;
    try {
      socket.send(JSON.stringify(message));
      return true;
    } catch {
      return false;
    }
  }

  close(vm: string, reason: string): void {
    for (const socket of this.#ctx.getWebSockets(vm)) socket.close(CLOSE_REPLACED, reason);
  }

  #open(vm: string): WebSocket | undefined {
    return this.#ctx.getWebSockets(vm).find((socket) => socket.readyState === WebSocket.OPEN);
  }
}

function openedOf(socket: WebSocket): Opened {
  return socket.deserializeAttachment() as Opened;
}

export type MessageRead = { ok: true; message: AgentMessage } | { ok: false; status: 413 | 422; detail: string };

/** What came through a socket, checked. */
export function readMessage(text: string | ArrayBuffer): MessageRead {
  if (typeof text !== "string" || text.length > MESSAGE_CHARACTERS_MAX)
    return { ok: false, status: 413, detail: "text of at most 2 MiB" };
  try {
    return { ok: true, message: AgentMessage.parse(JSON.parse(text)) };
  } catch (error) {
    return { ok: false, status: 422, detail: error instanceof Error ? error.message.slice(0, 1_000) : "malformed" };
  }
}

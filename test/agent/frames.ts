// The server's side of a WebSocket (RFC 6455), as much as tests need: text both ways, close, no extensions.
import { createHash } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";

const MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

export interface ServerSocket {
  send(text: string): void;
  /** Ends it without a word, as a proxy does. */
  drop(): void;
}

export function acceptSocket(
  request: IncomingMessage,
  stream: Duplex,
  hear: (text: string, socket: ServerSocket) => void,
): ServerSocket {
  const key = createHash("sha1").update(`${request.headers["sec-websocket-key"]}${MAGIC}`).digest("base64");
  stream.write(
    `HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ${key}\r\n\r\n`,
  );
  const socket: ServerSocket = {
    send: (text) => stream.write(frame(1, Buffer.from(text))),
    drop: () => stream.destroy(),
  };
  let pending = Buffer.alloc(0);
  stream.on("data", (chunk: Buffer) => {
    pending = Buffer.concat([pending, chunk]);
    for (let read = parse(pending); read !== null; read = parse(pending)) {
      pending = pending.subarray(read.bytes);
      if (read.opcode === 1) hear(read.payload.toString("utf8"), socket);
      if (read.opcode === 8) stream.end(frame(8, read.payload));
    }
  });
  return socket;
}

function frame(opcode: number, payload: Buffer): Buffer {
  const length = payload.length;
  const head = length < 126 ? Buffer.alloc(2) : length < 65_536 ? Buffer.alloc(4) : Buffer.alloc(10);
  head[0] = 0x80 | opcode;
  if (head.length === 2) head[1] = length;
  else if (head.length === 4) {
    head[1] = 126;
    head.writeUInt16BE(length, 2);
  } else {
    head[1] = 127;
    head.writeBigUInt64BE(BigInt(length), 2);
  }
  return Buffer.concat([head, payload]);
}

/** Null until a whole frame is there. A client's are masked. */
function parse(bytes: Buffer): { opcode: number; payload: Buffer; bytes: number } | null {
  if (bytes.length < 2) return null;
  const short = bytes[1]! & 0x7f;
  const headBytes = short === 127 ? 10 : short === 126 ? 4 : 2;
  if (bytes.length < headBytes + 4) return null;
  const length = short === 127 ? Number(bytes.readBigUInt64BE(2)) : short === 126 ? bytes.readUInt16BE(2) : short;
  const total = headBytes + 4 + length;
  if (bytes.length < total) return null;
  const mask = bytes.subarray(headBytes, headBytes + 4);
  const payload = Buffer.from(bytes.subarray(headBytes + 4, total));
  for (let at = 0; at < length; at++) payload[at]! ^= mask[at % 4]!;
  return { opcode: bytes[0]! & 0x0f, payload, bytes: total };
}

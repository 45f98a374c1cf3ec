// Ports for the programs that a task starts, and whose they are. In: nothing; a port. Out: a port that nobody listens on; whether a process does.
// A program takes its port when it has loaded what it needs, which may be seconds after the port was found free. Meanwhile the kernel may
// give it to anybody who asks for any port: so ports come from below those that the kernel gives away, and whoever answers is looked at.
import { closeSync, openSync, readdirSync, readlinkSync, readSync } from "node:fs";
import { descendants, membersOf } from "./drivers/proc.ts";
import { freePort } from "./free-port.ts";

/** Above the fixed ports of most servers, below Linux's own range (32,768 up) and Kubernetes' node ports (30,000 up). */
const PORT_FIRST = 20_000;
const PORTS = 10_000;
/** So many taken ones in a row, and the kernel is asked for any. */
const TRIES_MAX = 64;
/** State of a listening socket in /proc/net/tcp. */
const LISTENING = "0A";
const TABLE_PIECE_BYTES = 4_096;

/** By chance, not in order: several agents of one machine then hardly meet. Errors: as of `freePort`, when none is left. */
export async function portForProgram(): Promise<number> {
  for (let tries = 0; tries < TRIES_MAX; tries++) {
    try {
      return await freePort(PORT_FIRST + Math.floor(Math.random() * PORTS));
    } catch {
      // Taken.
    }
  }
  return await freePort();
}

/** Whether the process group, or what has descended from its leader, listens on the port; null where this machine does not tell. */
export function listensOn(groupId: number, port: number): boolean | null {
  const wanted = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const sockets = new Set<string>();
  let isTold = false;
  // Each table costs a walk over the kernel's own: the second is read only where the first does not hold it.
  for (const table of ["/proc/net/tcp", "/proc/net/tcp6"]) {
    const listening = listeningSockets(table);
    isTold ||= listening !== null;
    for (const { address, inode } of listening ?? []) if (address.endsWith(wanted)) sockets.add(`socket:[${inode}]`);
    const holds = sockets.size === 0 ? false : anyHolds(descendants(groupId), sockets);
    if (holds !== false) return holds;
  }
  if (!isTold) return null;
  // Nearly always the leader itself; the whole group is looked for only where it is none of its children either.
  return sockets.size === 0 ? false : anyHolds(membersOf(groupId), sockets);
}

/** Null: one of them is another user's, and not ours to look at. */
function anyHolds(processes: number[], sockets: Set<string>): boolean | null {
  for (const id of processes) {
    const holds = holdsOneOf(id, sockets);
    if (holds !== false) return holds;
  }
  return false;
}

/**
 * The kernel writes the table as it is read, listening sockets first: the rest, of a busy machine some 10,000 lines and 10 ms, is not asked for.
 */
function listeningSockets(table: string): { address: string; inode: string }[] | null {
  const sockets: { address: string; inode: string }[] = [];
  const piece = Buffer.alloc(TABLE_PIECE_BYTES);
  let file: number;
  try {
    file = openSync(table, "r");
  } catch {
    return null;
  }
  try {
    let rest = "";
    for (let isHead = true; ; ) {
      const bytes = readSync(file, piece, 0, piece.length, null);
      if (bytes === 0) return sockets;
      const lines = (rest + piece.toString("latin1", 0, bytes)).split("\n");
      rest = lines.pop()!;
      for (const line of lines) {
        // Number, local address, remote address, state, …, inode in the tenth.
        const [, address, , state, , , , , , inode] = line.trim().split(/\s+/);
        if (!isHead && state !== LISTENING) return sockets;
        if (!isHead) sockets.push({ address: address!, inode: inode! });
        isHead = false;
      }
    }
  } catch {
    return null;
  } finally {
    closeSync(file);
  }
}

function holdsOneOf(id: number, sockets: Set<string>): boolean | null {
  const folder = `/proc/${id}/fd`;
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EACCES" ? null : false;
  }
  return names.some((name) => {
    try {
      return sockets.has(readlinkSync(`${folder}/${name}`));
    } catch {
      // Closed since.
      return false;
    }
  });
}

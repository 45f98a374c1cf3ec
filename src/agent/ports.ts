// Ports for the programs that a task starts, and whose they are. In: nothing; a port. Out: a port that nobody listens on; whether a process does.
// A program takes its port when it has loaded what it needs, which may be seconds after the port was found free. Meanwhile the kernel may
// give it to anybody who asks for any port: so ports come from below those that the kernel gives away, and whoever answers is looked at.
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { descendants, membersOf } from "./drivers/proc.ts";
import { freePort } from "./free-port.ts";

/** Above the fixed ports of most servers, below Linux's own range (32,768 up) and Kubernetes' node ports (30,000 up). */
const PORT_FIRST = 20_000;
const PORTS = 10_000;
/** So many taken ones in a row, and the kernel is asked for any. */
const TRIES_MAX = 64;
/** State of a listening socket in /proc/net/tcp. */
const LISTENING = "0A";

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
  const inodes = listeningInodes(port);
  if (inodes === null) return null;
  const sockets = new Set(inodes.map((inode) => `socket:[${inode}]`));
  // Nearly always the leader itself; the whole group is looked for only where it is none of its children either.
  for (const processes of [() => descendants(groupId), () => membersOf(groupId)]) {
    for (const id of processes()) {
      const holds = holdsOneOf(id, sockets);
      // Of another user: not ours to look at.
      if (holds !== false) return holds;
    }
  }
  return false;
}

function listeningInodes(port: number): string[] | null {
  const wanted = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const inodes: string[] = [];
  let isTold = false;
  for (const table of ["/proc/net/tcp", "/proc/net/tcp6"]) {
    let text: string;
    try {
      text = readFileSync(table, "utf8");
    } catch {
      continue;
    }
    isTold = true;
    for (const line of text.split("\n")) {
      // Number, local address, remote address, state, …, inode in the tenth.
      const fields = line.trim().split(/\s+/);
      if (fields[3] === LISTENING && fields[1]?.endsWith(wanted)) inodes.push(fields[9]!);
    }
  }
  return isTold ? inodes : null;
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

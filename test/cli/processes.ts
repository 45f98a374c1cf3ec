// Whole processes under test: started in their own group, their descendants known by pid and start time, so that a test can
// tell that none of them is left. Linux only (/proc).
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";

export const HAS_PROC = existsSync("/proc/self/stat");
const POLL_MS = 25;

export interface Identity {
  pid: number;
  parent: number;
  /** In clock ticks since boot: with the pid it names a process for good. */
  startTicks: string;
  command: string;
}

function identities(): Identity[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const stat = readFileSync(`/proc/${name}/stat`, "utf8");
        const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
        if (fields[0] === "Z") return [];
        const command = readFileSync(`/proc/${name}/cmdline`, "utf8").replaceAll("\0", " ");
        return [{ pid: Number(name), parent: Number(fields[1]), startTicks: fields[19]!, command }];
      } catch {
        return []; // Ended meanwhile.
      }
    });
}

/** All processes below `pid`, with it. */
export function descendants(pid: number): Identity[] {
  const all = identities();
  const found = all.filter((one) => one.pid === pid);
  for (let i = 0; i < found.length; i++) found.push(...all.filter((one) => one.parent === found[i]!.pid));
  return found;
}

/** Those of `known` that still run. */
export function alive(known: Identity[]): Identity[] {
  const now = new Map(identities().map((one) => [one.pid, one.startTicks]));
  return known.filter((one) => now.get(one.pid) === one.startTicks);
}

export async function waitFor<T>(what: string, withinMs: number, look: () => T | null | undefined | false): Promise<T> {
  const endMs = performance.now() + withinMs;
  for (;;) {
    const found = look();
    if (found) return found;
    if (performance.now() > endMs) throw new Error(`not within ${withinMs} ms: ${what}`);
    await delay(POLL_MS);
  }
}

export interface Started {
  child: ChildProcess;
  pid: number;
  stdout(): string;
  stderr(): string;
  exited: Promise<number | string>;
  /** To the whole group, as a terminal or a supervisor does. */
  signal(name: NodeJS.Signals): void;
}

export function start(command: string[], options: { cwd: string; env?: NodeJS.ProcessEnv }): Started {
  const child = spawn(command[0]!, command.slice(1), {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  child.stdout!.on("data", (piece: Buffer) => {
    stdout += piece.toString();
  });
  child.stderr!.on("data", (piece: Buffer) => {
    stderr += piece.toString();
  });
  const pid = child.pid!;
  return {
    child,
    pid,
    stdout: () => stdout,
    stderr: () => stderr,
    exited: new Promise((resolve) => child.once("close", (code, signal) => resolve(code ?? signal ?? "unknown"))),
    signal: (name) => {
      try {
        process.kill(-pid, name);
      } catch {
        // Gone already.
      }
    },
  };
}

// Children of the CLI, each the leader of a process group of its own, so that a child's children (wrangler's workerd, an
// agent's runtimes) end with it. In: a command line. Out: a handle that stops the whole group.
//
// The groups must also end when this process is killed outright, which leaves it no chance to act. So one `reaper.ts`
// watches: it is told each group over a pipe, and when the pipe closes (the kernel does that) it ends those still listed.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** From SIGTERM to SIGKILL: an agent finishes and reports within it. */
const STOP_GRACE_MS = 10_000;
/** Between looks at whether the last member of a group is gone: the kernel tells nobody. */
const GROUP_POLL_MS = 20;

export interface GroupOptions {
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  /** File that receives both outputs; absent: they come as the child's `stdout` and `stderr` streams. */
  logPath?: string;
}

export interface ProcessGroup {
  name: string;
  child: ChildProcess;
  /** Resolves with the leader's exit code, or its signal's name. */
  exited: Promise<number | string>;
  /** SIGTERM to the group, SIGKILL after `graceMs`; resolves when no member is left. */
  stop(graceMs?: number): Promise<void>;
}

const groups = new Set<ProcessGroup>();
let reaper: ChildProcess | null = null;

function tellReaper(line: string): void {
  if (reaper === null) {
    reaper = spawn(process.execPath, [fileURLToPath(new URL("./reaper.ts", import.meta.url))], {
      detached: true,
      stdio: ["pipe", "ignore", "ignore"],
      env: { PATH: process.env.PATH },
    });
    // It must outlive us, never hold us.
    reaper.unref();
    const pipe = reaper.stdin as NodeJS.WritableStream & { unref?(): void };
    pipe.unref?.();
    pipe.on("error", () => {}); // A reaper that is gone must not take us with it: the normal stop needs none.
  }
  reaper.stdin?.write(`${line}\n`);
}

/** Sends a signal to every process of a group; false when none is left. */
function signalGroup(leaderPid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(-leaderPid, signal);
    return true;
  } catch {
    return false;
  }
}

/** Starts `command` as the leader of its own group. Errors: rejects when it cannot be started. */
export async function startGroup(name: string, command: string[], options: GroupOptions = {}): Promise<ProcessGroup> {
  const [file, ...rest] = command;
  if (file === undefined) throw new Error("startGroup needs a command");
  const log = options.logPath === undefined ? null : openSync(options.logPath, "a", 0o600);
  const child = spawn(file, rest, {
    detached: true,
    cwd: options.cwd,
    env: options.env ?? process.env,
    stdio: log === null ? ["ignore", "pipe", "pipe"] : ["ignore", log, log],
  });
  if (log !== null) closeSync(log);
  const exited = new Promise<number | string>((resolve) => {
    child.once("exit", (code, signal) => resolve(code ?? signal ?? "unknown"));
  });
  await once(child, "spawn");
  const pid = child.pid as number;
  tellReaper(`+${pid}`);
  const group: ProcessGroup = {
    name,
    child,
    exited,
    stop: async (graceMs = STOP_GRACE_MS) => {
      await stopGroup(pid, exited, graceMs);
      groups.delete(group);
    },
  };
  groups.add(group);
  return group;
}

async function stopGroup(pid: number, exited: Promise<number | string>, graceMs: number): Promise<void> {
  const killAtMs = performance.now() + graceMs;
  signalGroup(pid, "SIGTERM");
  // The leader may end before the others do: the group is gone only when no signal can be delivered to it.
  while (signalGroup(pid, 0)) {
    if (performance.now() > killAtMs) signalGroup(pid, "SIGKILL");
    await new Promise((resolve) => setTimeout(resolve, GROUP_POLL_MS));
  }
  await exited;
  tellReaper(`-${pid}`);
}

/** Ends every group that was started and still runs, all at the same time. */
export async function stopGroups(): Promise<void> {
  await Promise.all([...groups].map((group) => group.stop()));
}

/**
 * On the first SIGINT, SIGTERM or SIGHUP: ends every group, then exits with 0, as being stopped is how a server ends.
 * Later signals are ignored: npm passes on a signal that the terminal has sent to the whole group already.
 * `requested` tells code whose awaited process has just ended whether that was meant.
 */
export function stopOnSignal(): { requested: boolean } {
  const state = { requested: false };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      if (state.requested) return;
      state.requested = true;
      stopGroups().then(
        () => process.exit(0),
        (error: unknown) => {
          process.stderr.write(`forechain: while stopping: ${String(error)}\n`);
          process.exit(1);
        },
      );
    });
  }
  return state;
}

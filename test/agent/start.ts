// Starts a real agent process through the CLI, with its own folders and a generated configuration, and ends it with the test.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { onTestFinished } from "vitest";
import { stringify } from "yaml";
import { TEST_KEY, TestHub } from "./hub.ts";

const ROOT = resolve(import.meta.dirname, "../..");
export const TASK_PROGRAM = join(ROOT, "test/agent/tasks/echo.mjs");

export interface RunningAgent {
  hub: TestHub;
  url: string;
  folder: string;
  child: ChildProcess;
  log(): string;
  /** A call to /invoke with a good signature. */
  invoke(task: string, executionId: string, path?: string, init?: RequestInit & { runId?: string }): Promise<Response>;
  exited: Promise<number | string>;
  signal(name: NodeJS.Signals): void;
}

export interface StartOptions {
  hub?: TestHub;
  folder?: string;
  config?: Record<string, unknown>;
  tasks?: Record<string, unknown>;
}

export function echoTask(overrides: Record<string, unknown> = {}): Record<string, unknown> {
  return { driver: "process", command: [process.execPath, TASK_PROGRAM], ...overrides };
}

export async function startTestAgent(options: StartOptions = {}): Promise<RunningAgent> {
  const hub = options.hub ?? (await TestHub.start());
  const folder = options.folder ?? (await mkdtemp(join(tmpdir(), "forechain-agent-")));
  const config = {
    url: hub.url,
    cluster: "east",
    vm: "east-1",
    listen: { host: "127.0.0.1", port: 0 },
    announceUrl: "auto",
    stateFolder: "state",
    cache: { folder: "cache", maxBytes: "64 MiB" },
    tasks: options.tasks ?? { echo: echoTask() },
    ...options.config,
  };
  const path = join(folder, "agent.yaml");
  await writeFile(path, stringify(config));
  const child = spawn(process.execPath, [join(ROOT, "src/cli/main.ts"), "agent", "--config", path], {
    // Agents are started by the dozen: compiled once, a start takes half the CPU.
    env: { ...process.env, FORECHAIN_KEY: TEST_KEY, NODE_COMPILE_CACHE: join(tmpdir(), "forechain-test-compiled") },
    detached: true,
    stdio: ["ignore", "ignore", "pipe"],
  });
  let log = "";
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
    log += chunk;
  });
  const exited = once(child, "exit").then(([code, signal]) => (code ?? signal) as number | string);
  const signal = (name: NodeJS.Signals) => {
    if (child.exitCode === null && child.signalCode === null) process.kill(child.pid!, name);
  };
  onTestFinished(async () => {
    signal("SIGTERM");
    await exited;
    if (options.hub === undefined) await hub.stop();
    if (options.folder === undefined) await rm(folder, { recursive: true, force: true });
  });
  const beat = await Promise.race([
    hub.until(() => hub.heartbeats.at(-1)?.url !== undefined && hub.heartbeats.at(-1)),
    exited.then((code) => {
      throw new Error(`the agent ended (${code}) before its first heartbeat:\n${log}`);
    }),
  ]);
  const url = beat.url!;
  const invoke: RunningAgent["invoke"] = async (task, executionId, path = "/", init = {}) => {
    const { runId = "run-1", headers, ...rest } = init;
    const signed = await hub.invokeHeaders(task, { executionId, runId });
    return fetch(`${url}/invoke/${encodeURIComponent(task)}${path}`, { ...rest, headers: { ...headers, ...signed } });
  };
  return { hub, url, folder, child, log: () => log, invoke, exited, signal };
}

/** A process that has ended and waits for its parent to notice is not alive. */
export function isAlive(pid: number): boolean {
  try {
    const line = readFileSync(`/proc/${pid}/stat`, "utf8");
    return !/^[ZX]/.test(line.slice(line.lastIndexOf(")") + 2));
  } catch {
    return false;
  }
}

/** Resolves when the process has ended; Vitest's time-out bounds it. The kernel tells only the parent, so this looks. */
export async function gone(pid: number): Promise<void> {
  while (isAlive(pid)) await new Promise((resolve) => setTimeout(resolve, 10));
}

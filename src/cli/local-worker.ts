// The worker on this machine, for `dev` and `demo`: build → migrations → workspace → `wrangler dev` → healthy.
//
// In: a port and a state folder. Out: its URL and the admin key of workspace `default`.
// The state folder holds everything that a second start finds again:
//   storage/     D1 and Durable Objects (wrangler's --persist-to)
//   worker.env   FORECHAIN_SECRET, mode 0600      admin.key  the admin key, mode 0600
//   worker.log   all that wrangler said           worker.pid who uses the folder now
//   dev.json     {"url","adminKey"}, mode 0600, there while the worker is healthy
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { freePort } from "../agent/free-port.ts";
import { build, ROOT } from "./build.ts";
import { type ProcessGroup, startGroup } from "./process-group.ts";
import { newWorkspace } from "./workspace.ts";

/** A cold start on a busy two-core machine takes about 5 s. */
const HEALTHY_WITHIN_MS = 90_000;
const HEALTH_POLL_MS = 100;
/** Of wrangler's log, in the error that tells why it did not start. */
const LOG_TAIL_LINES = 30;
const SECRET_BYTES = 32;
const HOST = "127.0.0.1";

export interface LocalWorkerOptions {
  /** 0: any free port. */
  port: number;
  stateFolder: string;
  /** Worker's entry instead of wrangler.toml's: benchmarks serve bare routes beside the real ones. */
  entry?: string;
  /** Where a debugger finds it; absent: nowhere that anybody knows. */
  inspectorPort?: number;
  /** Told what is being done, for people. */
  onProgress(line: string): void;
}

export interface LocalWorker {
  url: string;
  adminKey: string;
  logPath: string;
  /** Resolves when wrangler ended. It is stopped with all other groups, by `stopGroups`. */
  exited: Promise<number | string>;
}

/** Starts the worker; resolves when /healthz answers. Errors: throws with what a person can do about it. */
export async function startLocalWorker(options: LocalWorkerOptions): Promise<LocalWorker> {
  const state = resolve(options.stateFolder);
  const port = await portToUse(options.port);
  mkdirSync(state, { recursive: true, mode: 0o700 });
  takeFolder(state);
  // Of the run before: whoever waits for the file must not read it now.
  rmSync(join(state, "dev.json"), { force: true });
  try {
    const made = await build();
    if (made.length > 0) options.onProgress(`built ${made.join(" and ")}`);
    const logPath = join(state, "worker.log");
    writeFileSync(logPath, "", { mode: 0o600 });
    const adminKey = await prepareDatabase(state, logPath);
    const group = await startWrangler(state, port, logPath, options);
    const url = `http://${HOST}:${port}`;
    try {
      await waitUntilHealthy(url, group, logPath);
    } catch (error) {
      await group.stop();
      throw error;
    }
    writeFileSync(join(state, "dev.json"), `${JSON.stringify({ url, adminKey })}\n`, { mode: 0o600 });
    void group.exited.then(() => releaseFolder(state));
    return { url, adminKey, logPath, exited: group.exited };
  } catch (error) {
    releaseFolder(state);
    throw error;
  }
}

/** As `freePort`. Errors: throws with what a person can do about it. */
async function portToUse(port: number): Promise<number> {
  try {
    return await freePort(port);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "EADDRINUSE") {
      throw new Error(`port ${port} is in use: end the process that listens there, or choose another with PORT=…`);
    }
    throw new Error(`port ${port} cannot be used: ${code ?? String(error)}`);
  }
}

/** Two workers on one database would corrupt each other's state. */
function takeFolder(state: string): void {
  const path = join(state, "worker.pid");
  try {
    writeFileSync(path, String(process.pid), { flag: "wx", mode: 0o600 });
  } catch {
    const holder = Number(readFileSync(path, "utf8"));
    if (isAlive(holder)) {
      throw new Error(
        `${state} is in use by process ${holder}: stop it, or choose another folder with FORECHAIN_STATE=…`,
      );
    }
    writeFileSync(path, String(process.pid), { mode: 0o600 });
  }
}

/** The key stays in admin.key; dev.json says that a worker runs. */
function releaseFolder(state: string): void {
  for (const name of ["worker.pid", "dev.json"]) rmSync(join(state, name), { force: true });
}

function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 1 || pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Migrations, then workspace `default` with its admin key: made at the first start, kept ever after. */
async function prepareDatabase(state: string, logPath: string): Promise<string> {
  await wrangler(["d1", "migrations", "apply", "forechain", "--local"], state, logPath);
  const secret = join(state, "worker.env");
  if (!existsSync(secret)) {
    writeFileSync(secret, `FORECHAIN_SECRET=${randomBytes(SECRET_BYTES).toString("base64url")}\n`, { mode: 0o600 });
  }
  const keyPath = join(state, "admin.key");
  if (existsSync(keyPath)) return readFileSync(keyPath, "utf8");
  const { adminKey, sql } = await newWorkspace("default", Date.now());
  const sqlPath = join(state, "workspace.sql");
  writeFileSync(sqlPath, sql, { mode: 0o600 });
  await wrangler(["d1", "execute", "forechain", "--local", "--yes", "--file", sqlPath], state, logPath);
  rmSync(sqlPath);
  // Last: a key that the database does not know would be worse than none.
  writeFileSync(keyPath, adminKey, { mode: 0o600 });
  return adminKey;
}

const WRANGLER = [process.execPath, join(ROOT, "node_modules/wrangler/bin/wrangler.js")];

function wranglerEnv(state: string): NodeJS.ProcessEnv {
  return {
    ...process.env,
    // `[build]` runs npm, whose scripts must meet this very node whatever the system has.
    PATH: `${join(ROOT, "node_modules/.bin")}:${process.env.PATH ?? ""}`,
    WRANGLER_SEND_METRICS: "false",
    WRANGLER_HIDE_BANNER: "true",
    WRANGLER_WRITE_LOGS: "false",
    // Dev sessions of this user find each other by name there; ours must stay alone.
    WRANGLER_REGISTRY_PATH: join(state, "registry"),
    FORCE_COLOR: "0",
    NO_COLOR: "1",
  };
}

async function wrangler(operands: string[], state: string, logPath: string): Promise<void> {
  const [file, ...script] = WRANGLER as [string, string];
  const all = [...script, ...operands, "--persist-to", join(state, "storage")];
  try {
    const { stdout, stderr } = await promisify(execFile)(file, all, { cwd: ROOT, env: wranglerEnv(state) });
    appendFileSync(logPath, stdout + stderr);
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: string; stderr?: string };
    throw new Error(`wrangler ${operands.slice(0, 2).join(" ")} failed\n${stdout ?? ""}${stderr ?? String(error)}`);
  }
}

async function startWrangler(
  state: string,
  port: number,
  logPath: string,
  { entry, inspectorPort = 0 }: LocalWorkerOptions,
): Promise<ProcessGroup> {
  const operands = [
    "dev",
    ...(entry === undefined ? [] : [entry]),
    "--ip",
    HOST,
    "--port",
    String(port),
    "--inspector-port",
    String(inspectorPort),
  ];
  operands.push("--persist-to", join(state, "storage"), "--env-file", join(state, "worker.env"));
  operands.push("--show-interactive-dev-session=false", "--log-level", "info");
  const group = await startGroup("worker", [...WRANGLER, ...operands], { cwd: ROOT, env: wranglerEnv(state) });
  for (const stream of [group.child.stdout, group.child.stderr]) {
    if (stream === null) continue;
    // The whole log goes to the file. Errors are also told: a reload that does not compile must not be silent.
    createInterface({ input: stream }).on("line", (line) => {
      appendFileSync(logPath, `${line}\n`);
      if (/\[ERROR\]|wrangler:error/.test(line)) process.stderr.write(`worker: ${line.trim()}\n`);
    });
  }
  return group;
}

async function waitUntilHealthy(url: string, group: ProcessGroup, logPath: string): Promise<void> {
  const untilMs = performance.now() + HEALTHY_WITHIN_MS;
  let ended: number | string | null = null;
  void group.exited.then((code) => {
    ended = code;
  });
  // Wrangler waits for an edit when the source does not compile; whoever starts it should not wait with it.
  const broken = () => readFileSync(logPath, "utf8").includes("Build failed with");
  while (ended === null && !broken() && performance.now() < untilMs) {
    const answer = await fetch(`${url}/healthz`, { signal: AbortSignal.timeout(2_000) }).catch(() => null);
    if (answer?.ok) return;
    await new Promise((done) => setTimeout(done, HEALTH_POLL_MS));
  }
  const tail = readFileSync(logPath, "utf8").trimEnd().split("\n").slice(-LOG_TAIL_LINES).join("\n");
  const late = broken() ? "does not build" : `was not healthy within ${HEALTHY_WITHIN_MS / 1000} s`;
  const what = ended === null ? late : `ended with ${ended}`;
  throw new Error(`the worker ${what}; the end of ${logPath}:\n${tail}`);
}

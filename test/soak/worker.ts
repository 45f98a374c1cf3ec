// The bundled Worker in processes that can be killed at any instant. In: folders. Out: its URL, a key, D1's rows.
import { execFile, fork } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { newWorkspace } from "../../src/cli/workspace.ts";

const ROOT = join(import.meta.dirname, "../..");

export class Worker {
  #child: ReturnType<typeof fork> | null = null;
  url = "";
  readonly #bundle: string;
  readonly #state: string;

  constructor(bundle: string, state: string) {
    this.#bundle = bundle;
    this.#state = state;
  }

  async start(): Promise<void> {
    // Leader of a group of its own: workerd is in it and dies with it.
    const child = fork(join(import.meta.dirname, "worker-process.ts"), [this.#bundle, this.#state], {
      detached: true,
      stdio: ["ignore", "ignore", "pipe", "ipc"],
    });
    this.#child = child;
    let said = "";
    child.stderr?.on("data", (chunk: Buffer) => {
      said = (said + chunk.toString()).slice(-4000);
    });
    const ended = once(child, "exit").then(() => Promise.reject(new Error(`the worker did not start:\n${said}`)));
    const [message] = (await Promise.race([once(child, "message"), ended])) as [{ url: string }];
    ended.catch(() => {});
    this.url = message.url;
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, "exit");
    process.kill(-child.pid, "SIGKILL");
    await gone;
  }

  async ask<T>(message: object): Promise<T> {
    const answer = once(this.#child!, "message");
    this.#child!.send(message);
    return (await answer)[0] as T;
  }
}

/** Bundles the Worker into `folder`/bundle, as a deployment would. */
export async function bundle(folder: string): Promise<void> {
  const config = readFileSync(join(ROOT, "wrangler.toml"), "utf8")
    .replace(/^\[build\]\n(?:.+\n)*/m, "")
    .replace(/^\[assets\]\n(?:.+\n)*/m, "")
    .replace('main = "src/worker.ts"', `main = "${join(ROOT, "src/worker.ts")}"`);
  const path = join(folder, "wrangler.toml");
  writeFileSync(path, config);
  const wrangler = join(ROOT, "node_modules/wrangler/bin/wrangler.js");
  const operands = [wrangler, "deploy", "--dry-run", "--config", path, "--outdir", join(folder, "bundle")];
  await promisify(execFile)(process.execPath, operands, {
    cwd: ROOT,
    env: { ...process.env, WRANGLER_SEND_METRICS: "false" },
  });
}

/** Starts a worker on fresh state, with the tables and a key. */
export async function fresh(folder: string, name: string): Promise<{ worker: Worker; key: string }> {
  const worker = new Worker(join(folder, "bundle"), join(folder, name));
  await worker.start();
  for (const migration of readdirSync(join(ROOT, "migrations"))
    .filter((file) => file.endsWith(".sql"))
    .sort()) {
    const sql = readFileSync(join(ROOT, "migrations", migration), "utf8").replace(/--.*$/gm, "");
    await worker.ask({ sql: `${sql}\n` });
  }
  const { adminKey, sql } = await newWorkspace("default", Date.now());
  await worker.ask({ sql: `${sql}\n` });
  return { worker, key: adminKey };
}

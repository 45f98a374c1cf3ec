// A whole Forechain on this machine, as processes: a worker, and agents of its cluster `here`. Started by a test and ended after it, with
// everything that they have started themselves.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { ROOT } from "../../src/cli/build.ts";
import { alive, descendants, type Identity, type Started, start, waitFor } from "./processes.ts";

export const WITHIN_MS = 240_000;
const GONE_WITHIN_MS = 10_000;

export class Place {
  readonly folder = mkdtempSync(join(tmpdir(), "forechain-place-"));
  readonly #running: Started[] = [];
  #started: Identity[] = [];
  url = "";
  admin = "";

  /** Resolves when the worker serves and the cluster is declared. */
  async start(): Promise<void> {
    const state = join(this.folder, ".forechain");
    const worker = start(["node", "src/cli/main.ts", "dev"], { cwd: ROOT, env: { PORT: "0", FORECHAIN_STATE: state } });
    this.#running.push(worker);
    await waitFor("the worker is healthy", WITHIN_MS, () => worker.stderr().includes("Ctrl-C stops it."));
    const dev = JSON.parse(readFileSync(join(state, "dev.json"), "utf8")) as { url: string; adminKey: string };
    this.url = dev.url;
    this.admin = dev.adminKey;
    await this.call("PUT", "/v1/clusters/here", { approvedHosts: ["127.0.0.1"] });
  }

  /** Throws where it is refused. */
  async call(method: string, path: string, body?: object, headers: Record<string, string> = {}) {
    const answer = await fetch(this.url + path, {
      method,
      headers: { authorization: `Bearer ${this.admin}`, "content-type": "application/json", ...headers },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return { text, headers: answer.headers };
  }

  /** Resolves when it is linked and its tasks can be called. `name`: of its folders, where a VM has several agents. */
  async agent(
    vm: string,
    config: { tasks: object; announceUrl?: "auto"; objects?: object },
    name = vm,
  ): Promise<Started> {
    const key = { name, scopes: ["agent"], cluster: "here", vm };
    const { key: secret } = JSON.parse((await this.call("POST", "/v1/keys", key)).text) as { key: string };
    const path = join(this.folder, `${name}.yaml`);
    const whole = {
      url: this.url,
      cluster: "here",
      vm,
      listen: { host: "127.0.0.1", port: 0 },
      stateFolder: join(this.folder, name, "state"),
      cache: { folder: join(this.folder, name, "cache"), maxBytes: "100 MiB", diskFreeBytesMin: 0 },
      ...config,
    };
    // JSON is YAML.
    writeFileSync(path, JSON.stringify(whole));
    const agent = start(["node", "src/cli/main.ts", "agent", "--config", path], {
      cwd: ROOT,
      env: { FORECHAIN_KEY: secret },
    });
    this.#running.push(agent);
    await waitFor(`the agent of ${name}`, WITHIN_MS, () => agent.stderr().includes("linked to the hub"));
    for (const task of Object.keys(config.tasks)) await this.#untilPlaced(task);
    return agent;
  }

  async #untilPlaced(task: string): Promise<void> {
    const whole = async () => (await this.call("POST", "/v1/allocations", { task, runId: "probe", dryRun: true })).text;
    while (!(await whole().catch(() => "")).includes('"vm":')) await delay(200);
  }

  /** Throws where a process is left. */
  async stop(): Promise<void> {
    this.#started = this.#running.flatMap(({ pid }) => descendants(pid));
    for (const one of this.#running.toReversed()) one.signal("SIGTERM");
    await Promise.all(this.#running.map(({ exited }) => exited));
    await waitFor("no process is left", GONE_WITHIN_MS, () => alive(this.#started).length === 0);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

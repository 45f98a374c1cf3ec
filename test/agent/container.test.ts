// Driver `container` and `oci:` objects against podman's Docker-compatible socket and a local registry, all with folders of
// their own. The image is made here: this Node, its libraries and the test's task.
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { freePort } from "../../src/agent/free-port.ts";
import { isAlive, startTestAgent, TASK_PROGRAM } from "./start.ts";
import { pattern, TestStore } from "./store.ts";

const NEEDED = ["podman", "runc", "docker-registry"];
const missing = NEEDED.filter((program) => spawnSync("which", [program]).status !== 0);
const reason = missing.length > 0 ? `no ${missing.join(", ")}` : process.getuid?.() !== 0 ? "not root" : null;

/** Asks again until something answers. */
async function answering(options: { host?: string; port?: number; socketPath?: string; path: string }): Promise<void> {
  for (;;) {
    const answered = await new Promise<boolean>((resolve) => {
      request(options, (response) => {
        response.resume();
        resolve(true);
      })
        .on("error", () => resolve(false))
        .end();
    });
    if (answered) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

describe.skipIf(reason !== null)(`containers${reason === null ? "" : ` (skipped: ${reason})`}`, () => {
  let folder: string;
  let socketPath: string;
  let registry: string;
  let image: string;
  const children: ChildProcess[] = [];
  let engine: ChildProcess;
  let startEngine: () => Promise<void>;
  let podman: (...operands: string[]) => Buffer;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "forechain-podman-"));
    registry = `127.0.0.1:${await freePort()}`;
    image = `${registry}/echo:1`;
    const file = (name: string, text: string) => {
      writeFileSync(join(folder, name), text);
      return join(folder, name);
    };
    const env = {
      ...process.env,
      CONTAINERS_CONF: file(
        "containers.conf",
        `[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]\nnetns = "host"\n[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n`,
      ),
      CONTAINERS_REGISTRIES_CONF: file("registries.conf", `[[registry]]\nlocation = "${registry}"\ninsecure = true\n`),
    };
    const store = ["--root", join(folder, "store"), "--runroot", join(folder, "run"), "--storage-driver", "vfs"];
    podman = (...operands) =>
      execFileSync("podman", [...store, ...operands], { env, stdio: ["ignore", "pipe", "pipe"] });
    const config = file(
      "registry.yml",
      `version: 0.1\nstorage: {filesystem: {rootdirectory: ${join(folder, "registry")}}}\nhttp: {addr: "${registry}"}\nlog: {level: error}\n`,
    );
    children.push(spawn("docker-registry", ["serve", config], { detached: true, stdio: "ignore" }));
    socketPath = join(folder, "podman.sock");
    const service = [...store, "system", "service", "--time=0", `unix://${socketPath}`];
    startEngine = async () => {
      engine = spawn("podman", service, { env, detached: true, stdio: "ignore" });
      await answering({ socketPath, path: "/_ping" });
    };
    const engineStarts = startEngine();

    const root = join(folder, "root");
    const place = (from: string, to: string) => {
      mkdirSync(dirname(join(root, to)), { recursive: true });
      cpSync(realpathSync(from), join(root, to));
    };
    const libraries = execFileSync("ldd", [process.execPath], { encoding: "utf8" }).match(/\/\S+/g) ?? [];
    for (const library of libraries) place(library, library);
    place(process.execPath, "/bin/node");
    place(TASK_PROGRAM, "/task/echo.mjs");
    const tar = join(folder, "root.tar");
    execFileSync("tar", ["-C", root, "-cf", tar, "."]);
    podman("import", "--change", 'CMD ["/bin/node","/task/echo.mjs"]', tar, image);
    await answering({ host: "127.0.0.1", port: Number(registry.split(":")[1]), path: "/v2/" });
    podman("push", image);
    podman("rmi", image);
    await engineStarts;
  });

  afterAll(async () => {
    podman("rm", "--all", "--force");
    for (const child of [...children, engine]) {
      process.kill(-child.pid!, "SIGTERM");
      await once(child, "exit");
    }
    rmSync(folder, { recursive: true, force: true });
  });

  const task = () => ({ driver: "container", image, network: "host", keepAliveMs: 60_000 });
  const config = () => ({
    containers: { socketPath },
    objects: { schemes: ["oci"], hosts: [registry] },
  });
  const running = () => podman("ps", "--quiet").toString().trim().split("\n").filter(Boolean);

  it("an image is prefetched, a container of it warmed, called, measured and ended", async () => {
    const agent = await startTestAgent({ config: config(), tasks: { echo: task() } });
    const { hub } = agent;
    const uri = `oci://${image}`;
    const prefetched = await hub.result(hub.send({ kind: "prefetch", uri }));
    expect(prefetched.state).toBe("done");
    expect(prefetched.bytes).toBeGreaterThan(50 * 2 ** 20);
    const warmed = await hub.result(hub.send({ kind: "warm", task: "echo" }));
    expect(warmed).toMatchObject({ state: "done" });
    expect(running()).toHaveLength(1);
    const answer = await agent.invoke("echo", "e1", "/work");
    expect(await answer.text()).toBe("worked true");
    const record = await hub.execution("e1");
    expect(record).toMatchObject({ status: "ok", coldStartMs: 0, inputs: [{ uri, bytes: prefetched.bytes }] });
    expect(record.cpuMs).toBeGreaterThanOrEqual(80);
    expect(record.memoryBytes).toBeGreaterThan(48 * 2 ** 20);
    const use = await hub.until(() => hub.uses.find(({ commandId }) => commandId === prefetched.commandId));
    expect(use.savedMs).toBeGreaterThan(10);
    await hub.until(() => hub.heartbeats.at(-1)?.cache.uris.includes(uri));
    agent.signal("SIGTERM");
    expect(await agent.exited).toBe(0);
    expect(running()).toEqual([]);
    podman("rmi", image);
  });

  it("with a network of its own a container is reached by its published port, and reaches the agent's objects", async () => {
    const store = await TestStore.start();
    const uri = store.put("/model.bin", pattern(300_000));
    const port = await freePort();
    const agent = await startTestAgent({
      config: {
        ...config(),
        // Its own address is not the containers': they call by the gateway's.
        listen: { host: "0.0.0.0", port },
        announceUrl: `http://127.0.0.1:${port}`,
        objects: { schemes: ["oci", "http"], hosts: [registry, store.host] },
      },
      tasks: { echo: { ...task(), network: "bridge", env: { HOST: "0.0.0.0" }, memoryLimitBytes: "200 MiB" } },
    });
    const answer = await agent.invoke("echo", "e1", `/read?uri=${encodeURIComponent(uri)}`);
    expect(await answer.json()).toMatchObject({ status: 200, bytes: 300_000 });
    const { inputs } = await agent.hub.execution("e1");
    expect(inputs).toContainEqual({ uri, bytes: 300_000 });
    const [id] = running();
    const inspected = podman("inspect", "--format", "{{.HostConfig.NetworkMode}} {{.HostConfig.Memory}}", id!);
    expect(inspected.toString().trim()).toBe(`bridge ${200 * 2 ** 20}`);
    agent.signal("SIGTERM");
    expect(await agent.exited).toBe(0);
    expect(running()).toEqual([]);
    await store.stop();
    podman("rmi", image);
  });

  it("without anything prepared the image is pulled on the call's path, and told as missed", async () => {
    const agent = await startTestAgent({ config: config(), tasks: { echo: task() } });
    const { pid } = (await (await agent.invoke("echo", "e1")).json()) as { pid: number };
    expect(pid).toBe(1);
    const record = await agent.hub.execution("e1");
    expect(record.fetchMs).toBeGreaterThan(10);
    const misses = await agent.hub.until(() => agent.hub.misses.length >= 2 && agent.hub.misses);
    expect(misses.map(({ kind }) => kind).sort()).toEqual(["prefetch", "warm"]);
  });

  it("a killed agent's containers end with it; the next agent removes what is left of them", async () => {
    const agent = await startTestAgent({ config: config(), tasks: { echo: task() } });
    await (await agent.invoke("echo", "e1")).text();
    const [id] = running();
    const leader = Number(podman("inspect", "--format", "{{.State.Pid}}", id!).toString());
    agent.signal("SIGKILL");
    await agent.exited;
    while (isAlive(leader)) await new Promise((resolve) => setTimeout(resolve, 10));
    const next = await startTestAgent({ config: config(), tasks: { echo: task() } });
    expect(next.log()).toContain("removed 1 containers");
    expect(podman("ps", "--all", "--quiet").toString().trim()).toBe("");
  });

  it("an engine that goes away costs what has to be started, not what runs; and nothing once it is back", async () => {
    const tasks = { echo: task(), brief: { ...task(), keepAliveMs: 0 } };
    const agent = await startTestAgent({ config: config(), tasks });
    const call = (name: string, id: string) => agent.invoke(name, id);
    const { pid } = (await (await call("echo", "e1")).json()) as { pid: number };
    expect(pid).toBe(1);
    const [id] = running();
    const leader = Number(podman("inspect", "--format", "{{.State.Pid}}", id!).toString());
    process.kill(-engine.pid!, "SIGTERM");
    await once(engine, "exit");
    expect((await call("echo", "e2")).status).toBe(200);
    for (const again of ["b1", "b2"]) {
      const refused = await call("brief", again);
      expect(refused.status).toBe(503);
      expect(await refused.text()).toContain("the container engine cannot be reached");
    }
    // The hub wants the runtime gone, and it goes.
    const evicted = agent.hub.send({ kind: "evict", task: "echo" });
    expect(await agent.hub.result(evicted)).toMatchObject({ state: "done" });
    expect(isAlive(leader)).toBe(false);
    const metrics = await (await fetch(`${agent.url}/metrics`)).text();
    expect(metrics).toMatch(/^forechain_agent_calls_running 0$/m);
    expect(metrics).not.toMatch(/forechain_agent_runtimes\{.*\} [1-9]/);
    await startEngine();
    expect((await call("brief", "b3")).status).toBe(200);
    expect(agent.child.exitCode).toBeNull();
    expect(agent.hub.malformed).toEqual([]);
  });

  it("an unknown image, a program that ends and a registry that is not allowed fail with a reason", async () => {
    const tasks = {
      unknown: { ...task(), image: `${registry}/none:1` },
      ending: { ...task(), command: ["/bin/node", "-e", "console.error('no model here'); process.exit(3)"] },
    };
    const { hub } = await startTestAgent({ config: config(), tasks });
    const warm = async (name: string) => (await hub.result(hub.send({ kind: "warm", task: name }))).reason;
    expect(await warm("unknown")).toContain("not_found");
    expect(await warm("ending")).toContain("no model here");
    const foreign = await hub.result(hub.send({ kind: "prefetch", uri: "oci://registry.example.net/x:1" }));
    expect(foreign.reason).toContain("refused: refused: host registry.example.net");
    expect(running()).toEqual([]);
  });
});

it("containers need their engine's socket in the configuration", async () => {
  const { parseConfig } = await import("../../src/agent/config.ts");
  const text =
    "url: http://h\nkey: k\ncluster: a\nvm: b\nstateFolder: s\ncache: {folder: c, maxBytes: 1}\ntasks:\n  t:\n    driver: container\n    image: x\n";
  const answer = await parseConfig(text, "/tmp", {});
  expect(answer).toMatchObject({ ok: false, faults: [{ line: 9, field: "tasks.t.driver" }] });
});

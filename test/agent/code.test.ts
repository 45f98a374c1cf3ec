// Code bundles: prefetched as objects, unpacked once, a working folder for programs; and archives that mean harm.
import { spawnSync } from "node:child_process";
import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { type Header, pack } from "tar-stream";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Bundles } from "../../src/agent/bundles.ts";
import { startTestAgent, TASK_PROGRAM } from "./start.ts";
import { pattern, TestStore } from "./store.ts";

const MB = 2 ** 20;

async function tar(entries: (Partial<Header> & { name: string } & { text?: string | Buffer })[]): Promise<Buffer> {
  const archive = pack();
  for (const { text, ...header } of entries) archive.entry(header, text ?? "");
  archive.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of archive) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

describe("an archive", () => {
  let folder: string;
  let bundles: Bundles;
  let nowMs = 0;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "forechain-bundles-"));
    bundles = await Bundles.open(join(folder, "bundles"), MB, () => nowMs++);
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  async function unpack(name: string, bytes: Buffer) {
    const path = join(folder, name);
    await writeFile(path, bytes);
    return bundles.unpack(path);
  }

  it("is unpacked once, plain or gzip, with the right to run", async () => {
    const files = await tar([
      { name: "src", type: "directory" },
      { name: "src/main.js", text: "1" },
      { name: "run", mode: 0o755, text: "2" },
    ]);
    for (const [name, bytes] of [
      ["a.tar", files],
      ["b.tgz", gzipSync(files)],
    ] as const) {
      const [first, second] = await Promise.all([unpack(name, bytes), unpack(name, bytes)]);
      expect(first).toEqual(second);
      if (!first.ok) throw new Error(first.detail);
      expect(await readFile(join(first.folder, "src/main.js"), "utf8")).toBe("1");
      await rm(first.folder, { recursive: true });
      expect(await Promise.all([unpack(name, bytes), unpack(name, bytes)])).toEqual([first, first]);
      expect(await readFile(join(first.folder, "src/main.js"), "utf8")).toBe("1");
    }
    expect(await readdir(join(folder, "bundles"))).toHaveLength(2);
  });

  const harm: [string, (Partial<Header> & { name: string } & { text?: string | Buffer })[], string][] = [
    ["a path upwards", [{ name: "../evil", text: "x" }], "leads out"],
    ["a path upwards further down", [{ name: "a/../../evil", text: "x" }], "leads out"],
    ["an absolute path", [{ name: "/evil", text: "x" }], "leads out"],
    ["a link", [{ name: "l", type: "symlink", linkname: "/etc" }], "only files"],
    ["a hard link", [{ name: "l", type: "link", linkname: "/etc/passwd" }], "only files"],
    ["a device", [{ name: "d", type: "character-device" }], "only files"],
    ["more bytes than the bound", [{ name: "big", text: Buffer.alloc(2 * MB) }], "bytes when unpacked"],
    ["nothing", [], "empty"],
    [
      "the same file twice",
      [
        { name: "a", text: "1" },
        { name: "a", text: "2" },
      ],
      "EEXIST",
    ],
  ];
  for (const [name, entries, reason] of harm) {
    it(`with ${name} is refused, and nothing is left`, async () => {
      const answer = await unpack("x.tar", await tar(entries));
      expect(answer).toMatchObject({ ok: false, reason: "bad_bundle" });
      if (!answer.ok) expect(answer.detail).toContain(reason);
      expect(await readdir(join(folder, "bundles"))).toEqual([]);
    });
  }

  it("that is none is refused", async () => {
    expect(await unpack("x.tar", pattern(5000))).toMatchObject({ ok: false });
    expect(await unpack("y.tgz", Buffer.from([0x1f, 0x8b, 1, 2, 3]))).toMatchObject({ ok: false });
  });

  it("in use stays while others go for room", async () => {
    const archive = async (seed: number) => tar([{ name: "f", text: pattern(0.6 * MB, seed) }]);
    const used = await unpack("used.tar", await archive(1));
    const free = await unpack("free.tar", await archive(2));
    if (!used.ok || !free.ok) throw new Error("not unpacked");
    await bundles.release(free.folder);
    expect(await readdir(join(folder, "bundles"))).toEqual([used.folder.split("/").at(-1)]);
  });
});

/** Root may write anywhere: the agent's part is played by who may not, where that one can read this checkout. */
const asUser = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};
const mayRead = spawnSync(process.execPath, ["-e", ""], { cwd: import.meta.dirname, ...asUser }).status === 0;

describe.skipIf(!mayRead)(
  `folders that a program has closed${mayRead ? "" : " (skipped: no user who may read this)"}`,
  () => {
    const PROGRAM = `
    import { chmod, mkdir, readdir, writeFile } from "node:fs/promises";
    const [module, folder, archive] = process.argv.slice(1);
    const { Bundles } = await import(module);
    const close = async (folder) => {
      await mkdir(folder + "/cache/inner", { recursive: true });
      await writeFile(folder + "/cache/inner/file", "x");
      await chmod(folder + "/cache/inner", 0o555);
      await chmod(folder + "/cache", 0);
    };
    await close(folder + "/left");
    const bundles = await Bundles.open(folder, 1, Date.now);
    const before = await readdir(folder);
    const roomy = await Bundles.open(folder, 1_000_000, Date.now);
    const unpacked = await roomy.unpack(archive);
    await close(unpacked.folder);
    const tight = await Bundles.open(folder, 1_000_000, Date.now);
    console.log(JSON.stringify([before, await readdir(folder)]));
  `;

    it("go with their bundle, and stop no start", async () => {
      const folder = await mkdtemp(join(tmpdir(), "forechain-closed-"));
      await chmod(folder, 0o777);
      const archive = join(folder, "archive.tar");
      await writeFile(archive, await tar([{ name: "main.js", text: "1" }]));
      const args = [join(import.meta.dirname, "../../src/agent/bundles.ts"), join(folder, "bundles"), archive];
      const ran = spawnSync(process.execPath, ["--input-type=module", "-e", PROGRAM, ...args], asUser);
      expect([ran.stdout.toString(), ran.stderr.toString()]).toEqual(["[[],[]]\n", ""]);
      await rm(folder, { recursive: true, force: true });
    });
  },
);

describe("a task with code", () => {
  it("starts in its unpacked bundle, which a command has prefetched", async () => {
    const store = await TestStore.start();
    const program = await readFile(TASK_PROGRAM);
    const code = store.put("/code.tgz", gzipSync(await tar([{ name: "app/echo.mjs", text: program }])));
    const agent = await startTestAgent({
      config: { objects: { schemes: ["http"], hosts: [store.host] } },
      tasks: { echo: { command: [process.execPath, "app/echo.mjs"], code } },
    });
    const { hub } = agent;
    const prefetched = hub.send({ kind: "prefetch", uri: code });
    expect((await hub.result(prefetched)).state).toBe("done");
    await (await agent.invoke("echo", "e1")).text();
    expect(await hub.execution("e1")).toMatchObject({ status: "ok", fetchMs: 0, inputs: [{ uri: code }] });
    await hub.until(() => hub.uses.find(({ commandId }) => commandId === prefetched));
    expect(store.asked("/code.tgz")).toBe(1);
    await store.stop();
  });

  it("that a command starts: its code is the command's to account for, and a user's as soon as one comes", async () => {
    const store = await TestStore.start();
    const bytes = gzipSync(await tar([{ name: "app/echo.mjs", text: await readFile(TASK_PROGRAM) }]));
    let finish = () => {};
    const code = store.on("/code.tgz", (_request, response) => {
      response.writeHead(200, { "content-length": bytes.length }).write(bytes.subarray(0, 100));
      finish = () => response.end(bytes.subarray(100));
    });
    const task = (overrides: object) => ({ command: [process.execPath, "app/echo.mjs"], code, ...overrides });
    const { hub, invoke } = await startTestAgent({
      // A prefetch of it would take minutes.
      config: { objects: { schemes: ["http"], hosts: [store.host], prefetchBytesPerSecond: 10 } },
      tasks: { echo: task({}), other: task({}) },
    });
    const first = hub.send({ kind: "warm", task: "echo" });
    await store.untilAsked("/code.tgz");
    const call = invoke("echo", "e1");
    finish();
    expect(await hub.result(first)).toMatchObject({ state: "done", bytes: bytes.length });
    await (await call).text();
    expect(await hub.execution("e1")).toMatchObject({ status: "ok", inputs: [{ uri: code, bytes: bytes.length }] });
    // What was there is nobody's: no byte was loaded for this one.
    expect(await hub.result(hub.send({ kind: "warm", task: "other" }))).toMatchObject({ state: "done", bytes: 0 });
    expect(store.asked("/code.tgz")).toBe(1);
    await store.stop();
  });
});

// `npm run dev` as a whole: healthy, key kept over a restart, nothing left after SIGTERM or after the parent was killed.
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { ROOT } from "../../src/cli/build.ts";
import { alive, descendants, HAS_PROC, type Started, start, waitFor } from "./processes.ts";

const HEALTHY_WITHIN_MS = 60_000;
const GONE_WITHIN_MS = 10_000;
const state = mkdtempSync(join(tmpdir(), "forechain-dev-test-"));
const running: Started[] = [];

function dev(env: NodeJS.ProcessEnv): Started {
  const started = start(["npm", "run", "-s", "dev"], { cwd: ROOT, env: { FORECHAIN_STATE: state, PORT: "0", ...env } });
  running.push(started);
  return started;
}

async function healthy(started: Started): Promise<{ url: string; adminKey: string }> {
  const path = join(state, "dev.json");
  let ended: number | string | null = null;
  void started.exited.then((code) => {
    ended = code;
  });
  await waitFor(`dev.json is there\n${started.stderr()}`, HEALTHY_WITHIN_MS, () => existsSync(path) || ended !== null);
  if (ended !== null) throw new Error(`dev ended with ${ended}: ${started.stderr()}`);
  // Written in one go, but read it only when it is whole.
  return waitFor("dev.json is whole", 1_000, () => {
    const text = readFileSync(path, "utf8");
    return text.endsWith("\n") && (JSON.parse(text) as { url: string; adminKey: string });
  });
}

const call = (url: string, key: string, path: string, init: RequestInit = {}) =>
  fetch(`${url}${path}`, { ...init, headers: { authorization: `Bearer ${key}`, "content-type": "application/json" } });

const reason = HAS_PROC ? "" : " (skipped: no /proc)";

describe.skipIf(!HAS_PROC)(`npm run dev${reason}`, () => {
  afterEach(async () => {
    for (const started of running.splice(0)) {
      started.signal("SIGKILL");
      await started.exited;
    }
  });
  afterAll(() => rmSync(state, { recursive: true, force: true }));

  // Several starts of a worker: half a minute, and more on a machine that has other work.
  it("serves, keeps key and data over a restart, and leaves nothing behind", { timeout: 180_000 }, async () => {
    const first = dev({});
    const { url, adminKey } = await healthy(first);
    expect(statSync(join(state, "dev.json")).mode & 0o777).toBe(0o600);
    expect(statSync(join(state, "worker.env")).mode & 0o777).toBe(0o600);
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
    const page = await fetch(`${url}/`);
    expect(page.headers.get("content-type")).toContain("text/html");
    expect(page.headers.get("content-security-policy")).toContain("default-src 'none'; script-src 'self'");
    expect((await fetch(`${url}/v1/policy`)).status).toBe(401);
    const declared = await call(url, adminKey, "/v1/services/bucket", { method: "PUT", body: '{"kind":"bucket"}' });
    expect(declared.status).toBeLessThan(300);

    const family = descendants(first.pid);
    expect(family.some((one) => one.command.includes("workerd"))).toBe(true);
    first.signal("SIGTERM");
    await first.exited;
    await waitFor("all processes are gone", GONE_WITHIN_MS, () => alive(family).length === 0);

    const second = dev({});
    const again = await healthy(second);
    expect(again.adminKey).toBe(adminKey);
    const kept = await call(again.url, adminKey, "/v1/services/bucket");
    expect(kept.status).toBe(200);
    expect(await kept.json()).toMatchObject({ kind: "bucket" });

    // Killed outright it cannot stop anything itself: the reaper does.
    const orphans = descendants(second.pid);
    second.signal("SIGKILL");
    await second.exited;
    await waitFor("the reaper ended the rest", GONE_WITHIN_MS, () => alive(orphans).length === 0);
  });

  it("`forechain learning` finds it, shows, saves, takes over, freezes and resets", async () => {
    rmSync(join(state, "dev.json"), { force: true }); // of a worker that was killed
    await healthy(dev({}));
    const forechain = async (...operands: string[]) => {
      const command = ["node", "src/cli/main.ts", "learning", ...operands];
      const started = start(command, { cwd: ROOT, env: { FORECHAIN_STATE: state } });
      return { code: await started.exited, stdout: started.stdout(), stderr: started.stderr() };
    };
    expect(await forechain()).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^model 0: 0 tasks.*frozen: nothing/),
    });
    expect(await forechain("freeze", "gate", "holds")).toMatchObject({ code: 0, stdout: "frozen now: gate, holds\n" });
    expect(JSON.parse((await forechain("show", "--json")).stdout)).toMatchObject({ frozen: ["gate", "holds"] });
    expect(await forechain("unfreeze", "--json")).toMatchObject({ code: 0, stdout: '{"frozen":[]}\n' });
    const file = join(state, "learned.json");
    expect(await forechain("export", file)).toMatchObject({ code: 0, stdout: expect.stringContaining("bytes in") });
    expect(JSON.parse(readFileSync(file, "utf8"))).toMatchObject({ format: 1, learned: { starts: [] } });
    const taken = await forechain("import", file, "--part", "gate", "starts");
    expect(taken).toMatchObject({ code: 0, stdout: "taken over: gate, starts\n" });
    writeFileSync(file, '{"format": 2}');
    const refused = await forechain("import", file, "--json");
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining("/format: got 2, expected 1") });
    expect(JSON.parse(refused.stdout)).toHaveProperty("error");
    expect(await forechain("reset", "holds")).toMatchObject({ code: 0, stdout: "begun anew: holds\n" });
    expect(await forechain("reset")).toMatchObject({ code: 1, stderr: expect.stringContaining("missing required") });
    expect(await forechain("reset", "luck")).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("Allowed choices"),
    });
  });

  it("tells what to do when the port is taken, and starts nothing", async () => {
    const holder = createServer();
    await new Promise<void>((resolve) => holder.listen(0, "127.0.0.1", resolve));
    const { port } = holder.address() as { port: number };
    const started = dev({ PORT: String(port) });
    expect(await started.exited).toBe(1);
    expect(started.stderr()).toContain(`port ${port} is in use`);
    expect(started.stdout()).toBe("");
    holder.close();
  });

  it("refuses a port that is none", async () => {
    const started = dev({ PORT: "eighty" });
    expect(await started.exited).toBe(1);
    expect(started.stderr()).toContain('PORT must be 0–65535, got "eighty"');
  });
});

// What an operator runs to deploy, as far as it needs no account: the bundle that would be uploaded, the first workspace, and the
// package that brings the agent to a VM.
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { promisify } from "node:util";
import { afterAll, describe, expect, it } from "vitest";
import { ROOT } from "../../src/cli/build.ts";

const run = promisify(execFile);
const folder = mkdtempSync(join(tmpdir(), "forechain-deploy-test-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** An isolate starts within 1 s and its script is bounded; ours is far below both. Uncompressed. */
const BUNDLE_BYTES_MAX = 3 << 20;

describe("deployment", () => {
  it("wrangler bundles the worker, its engine and the page as wrangler.toml says", async () => {
    const wrangler = join(ROOT, "node_modules/wrangler/bin/wrangler.js");
    const { stdout } = await run(process.execPath, [wrangler, "deploy", "--dry-run", "--outdir", folder], {
      cwd: ROOT,
      env: {
        ...process.env,
        PATH: `${join(ROOT, "node_modules/.bin")}:${process.env.PATH}`,
        WRANGLER_SEND_METRICS: "false",
        NO_COLOR: "1",
      },
    });
    for (const binding of ["GRAPH_WRITER", "FLEET", "CLUSTER_HUB", "DB", "ASSETS"]) {
      expect(stdout).toContain(`env.${binding} `);
    }
    expect(statSync(join(folder, "worker.js")).size).toBeLessThan(BUNDLE_BYTES_MAX);
    expect(readdirSync(folder).filter((name) => name.endsWith("engine.wasm"))).toHaveLength(1);
  });

  it("the SQL of `forechain workspace` lets exactly the printed key in", async () => {
    const operands = ["src/cli/main.ts", "workspace", "acme", "--json"];
    const { stdout } = await run(process.execPath, operands, { cwd: ROOT });
    const { workspace, adminKey, sql } = JSON.parse(stdout) as { workspace: string; adminKey: string; sql: string };
    expect(workspace).toBe("acme");
    const database = new DatabaseSync(":memory:");
    for (const name of readdirSync(join(ROOT, "migrations")).sort()) {
      if (name.endsWith(".sql")) database.exec(readFileSync(join(ROOT, "migrations", name), "utf8"));
    }
    database.exec(sql);
    const [, keyId, secret] = adminKey.split("_") as [string, string, string];
    const rows = database.prepare("SELECT key_id, workspace, scopes, secret_sha256 FROM keys").all();
    expect(rows).toEqual([
      {
        key_id: keyId,
        workspace: "acme",
        scopes: '["admin"]',
        secret_sha256: createHash("sha256").update(secret).digest("hex"),
      },
    ]);
    expect(sql).not.toContain(secret);
    database.close();
  });

  it("the packed command line runs outside the checkout with its declared dependencies alone", async () => {
    const away = join(folder, "away");
    mkdirSync(away);
    await run("npm", ["pack", "--pack-destination", away], { cwd: ROOT });
    const archive = readdirSync(away).find((name) => name.endsWith(".tgz"))!;
    await run("tar", ["xzf", archive], { cwd: away });
    const manifest = JSON.parse(readFileSync(join(away, "package/package.json"), "utf8")) as {
      bin: { forechain: string };
      dependencies: Record<string, string>;
    };
    // Only what an installation would bring: a package that is named as a development dependency is not found.
    for (const name of installed(Object.keys(manifest.dependencies))) {
      mkdirSync(dirname(join(away, "node_modules", name)), { recursive: true });
      symlinkSync(join(ROOT, "node_modules", name), join(away, "node_modules", name));
    }
    const main = join(away, "package", manifest.bin.forechain);
    const forechain = (...operands: string[]) => run(process.execPath, [main, ...operands], { cwd: away });
    const help = (await forechain("--help")).stdout;
    expect(help).toContain("agent");
    expect(help).not.toContain("demo");
    const log = join(away, "log.csv");
    const rows = Array.from({ length: 12 }, (_, i) => `r${i},a,${i * 10}\nr${i},b,${i * 10 + 1}`);
    writeFileSync(log, `case,activity,timestamp\n${rows.join("\n")}\n`);
    expect(JSON.parse((await forechain("evaluate", log, "--json")).stdout)).toMatchObject({ cases: 12, tasks: 2 });
    for (const command of ["import", "simulate", "workspace"]) {
      expect((await forechain(command, "--help")).stdout).toContain(`Usage: forechain ${command}`);
    }
    const example = join(away, "package/docs/agent.example.yaml");
    await expect(forechain("agent", "--config", example, "--check")).rejects.toThrow(/agent\.key/);
  });
});

/** The packages of these names, and whatever those depend on, by name: the checkout's tree is flat but for clashing versions. */
function installed(names: string[]): Set<string> {
  const found = new Set<string>();
  const ask = [...names];
  for (let name = ask.pop(); name !== undefined; name = ask.pop()) {
    if (found.has(name)) continue;
    const path = join(ROOT, "node_modules", name, "package.json");
    const manifest = statSync(path, { throwIfNoEntry: false }) ? JSON.parse(readFileSync(path, "utf8")) : null;
    if (manifest === null) continue; // Nested below its dependent, which is linked whole.
    found.add(name);
    ask.push(...Object.keys((manifest as { dependencies?: Record<string, string> }).dependencies ?? {}));
  }
  return found;
}

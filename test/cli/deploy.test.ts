// What an operator runs to deploy, as far as it needs no account: the bundle that would be uploaded, and the first workspace.
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
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
});

// The command line itself: help, unknown commands, and standard output that stays one JSON value.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ROOT } from "../../src/cli/build.ts";
import { start } from "./processes.ts";

/** Nothing listens there. */
const NOBODY = "http://127.0.0.1:9";
const COMMANDS = ["demo", "dev", "workspace", "agent", "evaluate", "import", "learning", "simulate"];

async function forechain(...operands: string[]) {
  return forechainWith({}, ...operands);
}

async function forechainWith(env: Record<string, string>, ...operands: string[]) {
  const started = start(["npm", "run", "-s", "forechain", "--", ...operands], { cwd: ROOT, env });
  return { code: await started.exited, stdout: started.stdout(), stderr: started.stderr() };
}

describe("forechain", () => {
  it("lists its commands with examples", async () => {
    const { code, stdout } = await forechain("--help");
    expect(code).toBe(0);
    for (const name of COMMANDS) expect(stdout).toMatch(new RegExp(`^ +${name}\\b`, "m"));
    expect(stdout).toContain("Examples:");
  });

  it.each(COMMANDS)("explains %s", async (name) => {
    const { code, stdout } = await forechain(name, "--help");
    expect(code).toBe(0);
    expect(stdout).toContain(`Usage: forechain ${name}`);
  });

  it("refuses an unknown command on standard error", async () => {
    const { code, stdout, stderr } = await forechain("predict");
    expect(code).toBe(1);
    expect(stdout).toBe("");
    expect(stderr).toContain("unknown command 'predict'");
  });

  it("refuses a wrong option value with what is expected", async () => {
    const { code, stderr } = await forechain("demo", "--seed", "x");
    expect(code).toBe(1);
    expect(stderr).toContain("expected an integer");
  });

  it("tells the package's version", async () => {
    const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { version: string };
    expect(await forechain("--version")).toMatchObject({ code: 0, stdout: `${version}\n` });
  });

  const failures: [string, string[], Record<string, string>, RegExp][] = [
    ["an unknown option", ["import", "x", "--bogus"], {}, /'--bogus'\n\(forechain import --help/],
    ["a missing argument", ["learning", "reset"], {}, /'part'\n\(forechain learning reset --help/],
    ["a missing file", ["evaluate", "none.csv"], {}, /none\.csv: there is no such file/],
    ["a missing log to import", ["import", "--dry-run", "none.csv"], {}, /^none\.csv: there is no such file$/m],
    ["a missing configuration", ["agent", "--config", "none.yaml"], {}, /^none\.yaml: there is no such file$/m],
    [
      "a folder where a file is wanted",
      ["learning", "import", "src", "--url", NOBODY, "--key", "k"],
      {},
      /it is a folder/,
    ],
    ["an unknown command of a command", ["learning", "forget"], {}, /unknown command 'forget'/],
    [
      "a result that cannot be written",
      ["evaluate", "none.csv", "--predictions", "none/out.ndjson"],
      {},
      /none\/out\.ndjson: there is no folder none/,
    ],
    ["a URL without a key", ["learning", "--url", NOBODY], {}, /no key for .*: give --key or FORECHAIN_KEY/],
    [
      "what is no URL",
      ["learning", "--url", "localhost", "--key", "k"],
      {},
      /http:\/\/ or https:\/\/, got "localhost"/,
    ],
    [
      "a worker that is not there",
      ["learning", "show"],
      { FORECHAIN_URL: NOBODY, FORECHAIN_KEY: "k" },
      /127\.0\.0\.1:9 does not answer .*npm run dev.*--url/,
    ],
  ];
  it.each(failures)("tells what to do about %s", async (_, operands, env, expected) => {
    const { code, stderr } = await forechainWith(env, ...operands);
    expect(code).toBe(1);
    expect(stderr).toMatch(expected);
  });

  it("with --json prints exactly one JSON value, also when it fails", async () => {
    const folder = mkdtempSync(join(tmpdir(), "forechain-cli-test-"));
    const log = join(folder, "log.csv");
    const rows = Array.from({ length: 12 }, (_, run) => `r${run},a,${run * 10}\nr${run},b,${run * 10 + 1}`);
    writeFileSync(log, `case,activity,timestamp\n${rows.join("\n")}\n`);
    const good = await forechain("evaluate", log, "--json");
    expect(good.code, good.stderr).toBe(0);
    expect(JSON.parse(good.stdout)).toMatchObject({ cases: 12 });
    const bad = await forechain("evaluate", join(folder, "missing.csv"), "--json");
    expect(bad.code).not.toBe(0);
    expect(JSON.parse(bad.stdout)).toHaveProperty("error");
    expect(bad.stderr).not.toBe("");
    rmSync(folder, { recursive: true });
  });
});

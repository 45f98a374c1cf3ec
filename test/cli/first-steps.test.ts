// docs/first-steps.md, as written: its commands run one after another in a shell. Only the worker's port and the folder are others.
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { ROOT } from "../../src/cli/build.ts";
import { alive, descendants, HAS_PROC, type Identity, type Started, start, waitFor } from "./processes.ts";

const DOC = readFileSync(join(ROOT, "docs/first-steps.md"), "utf8");
const URL_WRITTEN = "http://127.0.0.1:8787";
const WITHIN_MS = 240_000;
const GONE_WITHIN_MS = 10_000;
/** What the tasks take to start, and what is left of that where two of three starts are hidden: far from both on a busy machine. */
const FASTER_THAN = 0.75;

const folder = mkdtempSync(join(tmpdir(), "forechain-first-steps-"));
const running: Started[] = [];
/** Of the shell, as last seen: the agent that it leaves in the background is in a group of its own. */
let started: Identity[] = [];
const reason = HAS_PROC ? "" : " (skipped: no /proc)";

/** The seconds that each run took, as the last commands print them. */
function seconds(text: string): number[] {
  return [...text.matchAll(/^(\d+\.\d+) s$/gm)].map((match) => Number(match[1]));
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

describe.skipIf(!HAS_PROC)(`docs/first-steps.md${reason}`, () => {
  afterAll(async () => {
    for (const one of running) {
      one.signal("SIGKILL");
      await one.exited;
    }
    for (const { pid } of alive(started)) process.kill(pid, "SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  });

  it("leads from nothing to runs that are faster than without preparation", { timeout: WITHIN_MS }, async () => {
    for (const name of ["package.json", "src", "node_modules", "build"])
      symlinkSync(join(ROOT, name), join(folder, name));
    const worker = start(["npm", "run", "-s", "dev"], {
      cwd: folder,
      env: { PORT: "0", FORECHAIN_STATE: ".forechain" },
    });
    running.push(worker);
    await waitFor("the worker is healthy", WITHIN_MS, () => worker.stderr().includes("Ctrl-C stops it."));
    const { url } = JSON.parse(readFileSync(join(folder, ".forechain/dev.json"), "utf8")) as { url: string };

    const [first, ...blocks] = [...DOC.matchAll(/^```sh\n(.*?)^```$/gms)].map((match) => match[1]!);
    expect(first).toContain("npm run dev");
    expect(DOC).toContain(URL_WRITTEN);
    // With job control, as in a terminal: `kill %1` then reaches the agent itself, not npm alone.
    const script = `set -e -m\n${blocks.join("").replaceAll(URL_WRITTEN, url)}\nkill %1\nwait %1 || test $? = 143 # npm tells the signal\n`;
    const shell = start(["bash", "-c", script], { cwd: folder, env: {} });
    running.push(shell);
    await waitFor(`six runs\n${shell.stderr()}`, WITHIN_MS, () => {
      started = descendants(shell.pid);
      return seconds(shell.stdout()).length >= 6 || started.length === 0;
    });
    expect(await shell.exited, shell.stderr()).toBe(0);
    const taken = seconds(shell.stdout());
    expect(taken).toHaveLength(12);
    expect(shell.stdout()).toContain('"mode":"active"');
    expect(median(taken.slice(6)) / median(taken.slice(0, 6))).toBeLessThan(FASTER_THAN);
    await waitFor("the agent and its runtimes are gone", GONE_WITHIN_MS, () => alive(started).length === 0);
  });
});

// Who goes first on a VM's cores: what is started ahead steps back, until somebody waits for it or it is ready. Real processes, Linux.
import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { getPriority } from "node:os";
import { afterEach, describe, expect, it } from "vitest";
import { canStepBack, comeForward, stepBack } from "../../src/agent/drivers/priority.ts";

const started: ReturnType<typeof spawn>[] = [];
afterEach(() => {
  for (const child of started.splice(0)) child.kill("SIGKILL");
});

/** A program of several threads with a child of its own, once both run. */
async function program(): Promise<{ leader: number; child: number }> {
  const code = `const child = require("node:child_process").spawn(process.execPath, ["-e", "setInterval(() => {}, 1e6)"]);
    console.log(child.pid); setInterval(() => {}, 1e6)`;
  const leader = spawn(process.execPath, ["-e", code], { stdio: ["ignore", "pipe", "inherit"], detached: true });
  started.push(leader);
  const child = await new Promise<number>((resolve) => leader.stdout!.once("data", (text) => resolve(Number(text))));
  started.push({ kill: () => process.kill(child, "SIGKILL") } as unknown as (typeof started)[0]);
  return { leader: leader.pid!, child };
}

/** Niceness of each thread: field 19 of its stat, the 17th after the program's name. */
function nicenessOf(id: number): number[] {
  return readdirSync(`/proc/${id}/task`).map((thread) => {
    const line = readFileSync(`/proc/${id}/task/${thread}/stat`, "utf8");
    return Number(line.slice(line.lastIndexOf(")") + 2).split(" ")[16]);
  });
}

const reason = canStepBack() ? "" : " (skipped: no right to come forward again)";

describe.skipIf(!canStepBack())(`a program started ahead${reason}`, () => {
  it("steps back with all threads and children, and comes forward with all of them", async () => {
    const own = getPriority();
    const { leader, child } = await program();
    expect(new Set([...nicenessOf(leader), ...nicenessOf(child)])).toEqual(new Set([own]));
    expect(nicenessOf(leader).length).toBeGreaterThan(1);
    stepBack(leader);
    expect(new Set([...nicenessOf(leader), ...nicenessOf(child)])).toEqual(new Set([Math.min(19, own + 5)]));
    comeForward(leader);
    expect(new Set([...nicenessOf(leader), ...nicenessOf(child)])).toEqual(new Set([own]));
    // This test's own process was left alone.
    expect(getPriority()).toBe(own);
  });

  it("that is gone already is no fault", async () => {
    const { leader } = await program();
    process.kill(-leader, "SIGKILL");
    await new Promise((resolve) => started[0]!.once("exit", resolve));
    expect(() => {
      stepBack(leader);
      comeForward(leader);
    }).not.toThrow();
  });
});

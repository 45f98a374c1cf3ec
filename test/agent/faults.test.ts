// An agent that dies, or sleeps, in every state of a command. Real processes: what is left of them is looked for in /proc.

import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import type { Command } from "../../src/protocol.ts";
import { Gate } from "./gate.ts";
import { TestHub } from "./hub.ts";
import { echoTask, gone, isAlive, type RunningAgent, startTestAgent } from "./start.ts";
import { pattern, TestStore } from "./store.ts";

/** Processes whose environment names `mark`. */
function marked(mark: string): number[] {
  const ids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return ids.map(Number).filter((id) => {
    try {
      return readFileSync(`/proc/${id}/environ`, "utf8").includes(`TEST_MARK=${mark}`) && isAlive(id);
    } catch {
      return false;
    }
  });
}

interface World {
  hub: TestHub;
  store: TestStore;
  gate: Gate;
  agent: RunningAgent;
}

interface State {
  name: string;
  command: (world: World) => Partial<Command> & Pick<Command, "kind">;
  /** Resolves when the command is in the state in which the agent is to die. */
  reached: (world: World) => Promise<unknown>;
  runtimes: number;
}

const object = (world: World) => world.store.uri("/object");

const STATES: State[] = [
  {
    name: "not begun",
    command: ({ hub }) => ({ kind: "warm", task: "echo", notBeforeMs: hub.nowMs() + 5_000 }),
    // Taken by the agent: it has asked for the next ones.
    reached: ({ hub }) => hub.until(() => hub.calls.commands! >= 2),
    runtimes: 0,
  },
  {
    name: "downloading",
    command: (world) => ({ kind: "prefetch", uri: object(world) }),
    reached: ({ store }) => store.untilAsked("/object"),
    runtimes: 0,
  },
  {
    name: "starting",
    command: () => ({ kind: "warm", task: "gated" }),
    reached: ({ gate }) => gate.untilHeld(1),
    runtimes: 1,
  },
  {
    name: "ready",
    command: () => ({ kind: "warm", task: "echo" }),
    reached: ({ hub }) => hub.result("c"),
    runtimes: 1,
  },
  {
    name: "in use",
    command: () => ({ kind: "warm", task: "echo" }),
    reached: async ({ hub, agent, gate }) => {
      await hub.result("c");
      agent.invoke("echo", "e1", `/wait?gate=${encodeURIComponent(gate.url)}`).catch(() => {});
      await gate.untilHeld(1);
    },
    runtimes: 1,
  },
];

describe("an agent killed while a command is", () => {
  for (const state of STATES) {
    it(`${state.name}: nothing of it is left, and the next one carries it out anew`, async () => {
      const hub = await TestHub.start();
      const store = await TestStore.start();
      const gate = await Gate.start();
      const folder = await mkdtemp(join(tmpdir(), "forechain-agent-"));
      onTestFinished(async () => {
        await Promise.all([hub.stop(), store.stop()]);
        await rm(folder, { recursive: true, force: true });
      });
      let holds = true;
      store.on("/object", (_request, response) => {
        response.writeHead(200, { "content-length": 90_000 });
        if (holds) response.write(pattern(40_000));
        else response.end(pattern(90_000));
      });
      const mark = folder;
      const tasks = {
        echo: echoTask({ env: { TEST_MARK: mark } }),
        gated: echoTask({ env: { TEST_MARK: mark, GATE: gate.url } }),
      };
      const config = { objects: { schemes: ["http"], hosts: [store.host] } };
      const agent = await startTestAgent({ hub, folder, tasks, config });
      const world = { hub, store, gate, agent };
      const command = state.command(world);
      hub.send({ ...command, commandId: "c", leaseId: "l1" });
      await state.reached(world);
      const before = marked(mark);
      expect(before).toHaveLength(state.runtimes);
      agent.signal("SIGKILL");
      await agent.exited;
      await Promise.all(before.map(gone));
      holds = false;
      gate.open();
      hub.heartbeats.length = 0;
      await startTestAgent({ hub, folder, tasks, config });
      expect(await readdir(join(folder, "cache", "incoming"))).toEqual([]);
      hub.send({ ...command, commandId: "c", leaseId: "l2", attempt: 2, notBeforeMs: hub.nowMs() });
      expect(await hub.result("c", "l2")).toMatchObject({ state: "done" });
      expect(marked(mark)).toHaveLength(command.kind === "warm" ? 1 : 0);
      if (command.kind === "prefetch") expect((await hub.result("c", "l2")).bytes).toBe(90_000);
    });
  }
});

describe("an agent that sleeps past its lease", () => {
  it("has one effect, and answers under the lease that it then has", async () => {
    const gate = await Gate.start();
    const mark = `sleeping-${process.pid}`;
    const agent = await startTestAgent({ tasks: { gated: echoTask({ env: { GATE: gate.url, TEST_MARK: mark } }) } });
    const { hub } = agent;
    hub.send({ kind: "warm", task: "gated", commandId: "c", leaseId: "l1" });
    await gate.untilHeld(1);
    agent.signal("SIGSTOP");
    onTestFinished(() => agent.signal("SIGCONT"));
    hub.send({ kind: "warm", task: "gated", commandId: "c", leaseId: "l2", attempt: 2 });
    gate.open();
    expect(hub.results).toEqual([]);
    agent.signal("SIGCONT");
    expect(await hub.result("c", "l2")).toMatchObject({ state: "done" });
    expect(marked(mark)).toHaveLength(1);
    await (await agent.invoke("gated", "e1")).text();
    await hub.until(() => hub.uses.length > 0);
    expect(hub.uses.filter(({ commandId }) => commandId === "c")).toHaveLength(1);
  });
});

describe("a hub that asks for a failed command again", () => {
  it("gets another try; one that repeats a finished one gets its result", async () => {
    const store = await TestStore.start();
    let status = 500;
    const uri = store.on("/flaky", (_request, response) => response.writeHead(status).end(pattern(1_000)));
    const { hub } = await startTestAgent({ config: { objects: { schemes: ["http"], hosts: [store.host] } } });
    hub.send({ kind: "prefetch", uri, commandId: "c", leaseId: "l1", attempt: 1 });
    expect(await hub.result("c", "l1")).toMatchObject({
      state: "failed",
      reason: "store_error: the store answered 500",
    });
    status = 200;
    hub.send({ kind: "prefetch", uri, commandId: "c", leaseId: "l2", attempt: 2 });
    expect(await hub.result("c", "l2")).toMatchObject({ state: "done", bytes: 1_000 });
    hub.send({ kind: "prefetch", uri, commandId: "c", leaseId: "l3", attempt: 3 });
    expect(await hub.result("c", "l3")).toMatchObject({ state: "done", bytes: 1_000 });
    expect(store.asked("/flaky")).toBe(2);
    await store.stop();
  });
});

// How runtimes live and end, and how the agent comes, goes, dies and finds its hub again. Real processes.
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { Gate } from "./gate.ts";
import { TestHub } from "./hub.ts";
import { echoTask, gone, isAlive, startTestAgent } from "./start.ts";
import { pattern, TestStore } from "./store.ts";

async function pidOf(answer: Response): Promise<number> {
  return ((await answer.json()) as { pid: number }).pid;
}

describe("runtimes", () => {
  it("one request at a time each; more are started up to the task's bound, the rest waits its turn", async () => {
    const gate = await Gate.start();
    const agent = await startTestAgent({ tasks: { echo: echoTask({ maxInstances: 2 }) } });
    const wait = (id: string) => agent.invoke("echo", id, `/wait?gate=${encodeURIComponent(gate.url)}`);
    const calls = [wait("e1"), wait("e2"), wait("e3")];
    await gate.untilHeld(2);
    const beat = await agent.hub.until(() => agent.hub.heartbeats.find(({ load }) => load.executions === 3));
    expect(beat.runtimes).toHaveLength(2);
    gate.open();
    for (const answer of await Promise.all(calls)) expect(await answer.text()).toBe("waited");
    const records = await Promise.all(["e1", "e2", "e3"].map((id) => agent.hub.execution(id)));
    expect(records.filter(({ queueMs }) => queueMs! > 0)).toHaveLength(1);
  });

  it("end when their keep-alive is over, with all their children", async () => {
    const agent = await startTestAgent({ tasks: { echo: echoTask({ keepAliveMs: 400 }) } });
    const pid = await pidOf(await agent.invoke("echo", "e1"));
    const child = Number(await (await agent.invoke("echo", "e2", "/child")).text());
    expect(isAlive(child)).toBe(true);
    await gone(pid);
    await gone(child);
    await agent.hub.until(() => agent.hub.heartbeats.at(-1)?.runtimes.length === 0);
  });

  it("what the operator declared as keep-alive goes before the configuration", async () => {
    const hub = await TestHub.start();
    hub.answer = { tasks: { echo: { keepAliveMs: 300, timeoutMs: 60_000 } } };
    const agent = await startTestAgent({ hub, tasks: { echo: echoTask({ keepAliveMs: 3_600_000 }) } });
    await hub.until(() => hub.heartbeats.length > 1);
    await gone(await pidOf(await agent.invoke("echo", "e1")));
    onTestFinished(() => hub.stop());
  });

  it("are held as the hub has learned, past their configured keep-alive, and give way to what is foreseen", async () => {
    const hub = await TestHub.start();
    onTestFinished(() => hub.stop());
    hub.answer = { tasks: { echo: { keepAliveMs: 3_600_000, timeoutMs: 60_000 } } };
    const size = { memoryBytes: "600 MiB" };
    const tasks = {
      echo: echoTask({ ...size, keepAliveMs: 50 }),
      other: echoTask({ ...size, keepAliveMs: 3_600_000 }),
    };
    const agent = await startTestAgent({ hub, tasks, config: { capacity: { memoryBytes: "1 GiB" } } });
    await hub.until(() => hub.heartbeats.length > 1);
    expect(hub.heartbeats[0]!.tasks).toContainEqual({ task: "echo", keepAliveMs: 50 });
    const beforeMs = hub.nowMs();
    const pid = await pidOf(await agent.invoke("echo", "e1"));
    const beat = await hub.until(() => hub.heartbeats.find(({ released }) => released!.length > 0));
    expect(beat.released).toEqual([{ task: "echo", atMs: expect.any(Number) }]);
    expect(beat.released![0]!.atMs).toBeGreaterThanOrEqual(beforeMs);
    expect(beat.released![0]!.atMs).toBeLessThanOrEqual(hub.nowMs());
    await hub.until(() => hub.heartbeats.at(-1)!.nowMs > beat.released![0]!.atMs + 200);
    expect(isAlive(pid)).toBe(true);
    expect(await hub.result(hub.send({ kind: "warm", task: "other" }))).toMatchObject({ state: "done" });
    await gone(pid);
    // What is within its own keep-alive, or held by a command, does not.
    expect(await hub.result(hub.send({ kind: "warm", task: "echo" }))).toMatchObject({
      state: "failed",
      reason: expect.stringContaining("no_memory"),
    });
  });

  it("prewarmed ones are held to the command's expiry, not to a shorter keep-alive, and then told as waste", async () => {
    const agent = await startTestAgent({ tasks: { echo: echoTask({ keepAliveMs: 50 }) } });
    const { hub } = agent;
    const expiresMs = hub.nowMs() + 1_500;
    const commandId = hub.send({ kind: "warm", task: "echo", expiresMs });
    const { readyMs } = await hub.result(commandId);
    const end = await hub.until(() => hub.ends.find((candidate) => candidate.commandId === commandId));
    expect(end).toMatchObject({ used: false, reason: "expired" });
    // The agent knows the hub's clock no better than a heartbeat on a busy machine tells it.
    expect(end.endedMs).toBeGreaterThanOrEqual(expiresMs - 200);
    expect(end.heldMs).toBeGreaterThanOrEqual(expiresMs - readyMs! - 200);
    expect(end.memoryBytes).toBeGreaterThan(2 ** 20);
  });

  it("are not warm until they say ready: a user who comes before waits the rest, and the use is told as late", async () => {
    const gate = await Gate.start();
    const agent = await startTestAgent({ tasks: { echo: echoTask({ env: { GATE: gate.url } }) } });
    const { hub } = agent;
    const commandId = hub.send({ kind: "warm", task: "echo" });
    await gate.untilHeld(1);
    const call = agent.invoke("echo", "e1");
    await hub.until(() => hub.heartbeats.find(({ load }) => load.executions === 1));
    const beat = await hub.until(() => hub.heartbeats.at(-1));
    expect(beat.runtimes.map(({ state }) => state)).toEqual(["starting"]);
    expect(hub.results).toEqual([]);
    gate.open();
    await (await call).text();
    const use = await hub.until(() => hub.uses.find((candidate) => candidate.commandId === commandId));
    expect(use.waitedMs).toBeGreaterThan(10);
    expect(use.savedMs).toBeGreaterThanOrEqual(use.waitedMs);
    expect((await hub.execution("e1")).coldStartMs).toBeCloseTo(use.waitedMs, -1);
    const result = await hub.result(commandId);
    expect(result.state).toBe("done");
    // A late start is told whole: the wait is the rest of it.
    expect(result.wholeStartMs).toBe(use.savedMs);
    expect(hub.misses).toEqual([]);
  });

  it("a command that comes while an idle runtime is there holds that one, and claims no saving", async () => {
    const agent = await startTestAgent();
    const { hub } = agent;
    const pid = await pidOf(await agent.invoke("echo", "e1"));
    const commandId = hub.send({ kind: "warm", task: "echo" });
    expect(await hub.result(commandId)).not.toHaveProperty("wholeStartMs");
    expect(await hub.until(() => hub.misses[0])).toMatchObject({ kind: "warm", wholeStartMs: expect.any(Number) });
    expect(await pidOf(await agent.invoke("echo", "e2"))).toBe(pid);
    expect(await hub.until(() => hub.uses.find((use) => use.commandId === commandId))).toMatchObject({ savedMs: 0 });
  });

  it("are never taken for another program that took their port while they were loading", async () => {
    // Whoever asks the gate is loading; the first one's port is taken by a server that answers everything.
    const stranger = createServer((_request, response) => response.end("stranger"));
    const ports: number[] = [];
    const gate = createServer((request, response) => {
      ports.push(Number(new URL(request.url ?? "", "http://gate").searchParams.get("port")));
      if (ports.length > 1) response.end();
      else stranger.listen(ports[0], "127.0.0.1");
    });
    onTestFinished(() => {
      for (const server of [gate, stranger]) {
        server.closeAllConnections();
        server.close();
      }
    });
    await once(gate.listen(0, "127.0.0.1"), "listening");
    const env = { GATE: `http://127.0.0.1:${(gate.address() as AddressInfo).port}/` };
    const agent = await startTestAgent({ tasks: { echo: echoTask({ env }) } });
    const answer = await agent.invoke("echo", "e1");
    expect(answer.status).toBe(200);
    expect(await answer.json()).toMatchObject({ pid: expect.any(Number) });
    expect(ports).toHaveLength(2);
    expect(ports[1]).not.toBe(ports[0]);
  });

  it("a runtime that dies while it is called costs that call only", async () => {
    const store = await TestStore.start();
    onTestFinished(() => store.stop());
    const env = { START_OBJECT: store.put("/model", pattern(50_000)) };
    const config = { objects: { schemes: ["http"], hosts: [store.host] } };
    const agent = await startTestAgent({ config, tasks: { echo: echoTask({ env }) } });
    expect((await agent.invoke("echo", "e2", "/crash")).status).toBe(502);
    expect((await agent.invoke("echo", "e3")).status).toBe(200);
    // Its first call, so that it had waited for an object; what it told of that died with it, and the record still holds.
    expect(await agent.hub.execution("e2")).toMatchObject({ status: "error" });
    expect(agent.hub.malformed).toEqual([]);
    expect(await agent.hub.execution("e3")).toMatchObject({ status: "ok" });
  });

  it("a call over its time-out is answered 504, its runtime ends", async () => {
    const hub = await TestHub.start();
    hub.answer = { tasks: { echo: { keepAliveMs: null, timeoutMs: 700 } } };
    const gate = await Gate.start();
    const agent = await startTestAgent({ hub });
    await hub.until(() => hub.heartbeats.length > 1);
    const pid = await pidOf(await agent.invoke("echo", "e1"));
    const answer = await agent.invoke("echo", "e2", `/wait?gate=${encodeURIComponent(gate.url)}`);
    expect(answer.status).toBe(504);
    expect(await hub.execution("e2")).toMatchObject({ status: "timeout" });
    await gone(pid);
    onTestFinished(() => hub.stop());
  });

  it("a caller that goes away ends its call", async () => {
    const gate = await Gate.start();
    const agent = await startTestAgent();
    await pidOf(await agent.invoke("echo", "e1"));
    const abort = new AbortController();
    const call = agent.invoke("echo", "e2", `/wait?gate=${encodeURIComponent(gate.url)}`, { signal: abort.signal });
    await gate.untilHeld(1);
    abort.abort();
    await expect(call).rejects.toThrow();
    expect(await agent.hub.execution("e2")).toMatchObject({ status: "error" });
    await agent.hub.until(() => agent.hub.heartbeats.at(-1)?.load.executions === 0);
  });

  it("warm-ups run a few at a time, the earliest deadline first", async () => {
    const gate = await Gate.start();
    const slow = echoTask({ env: { GATE: gate.url } });
    const agent = await startTestAgent({ config: { warmConcurrency: 1 }, tasks: { a: slow, b: slow, c: slow } });
    const { hub } = agent;
    const nowMs = hub.nowMs();
    hub.send({ kind: "warm", task: "a", deadlineMs: nowMs + 9_000 });
    await gate.untilHeld(1);
    const late = hub.send({ kind: "warm", task: "c", deadlineMs: nowMs + 8_000 });
    const soon = hub.send({ kind: "warm", task: "b", deadlineMs: nowMs + 1_000 });
    // Both have arrived when a later heartbeat answers a poll that took them.
    await hub.until(() => (hub.calls.commands ?? 0) >= 3);
    gate.open();
    const ready = await Promise.all([hub.result(soon), hub.result(late)]);
    expect(ready[0]!.readyMs).toBeLessThan(ready[1]!.startedMs! + 1);
  });
});

describe("the agent", () => {
  it("stops in order on SIGTERM: finishes what runs, reports, signs off, leaves no process", async () => {
    const gate = await Gate.start();
    const agent = await startTestAgent();
    const { hub } = agent;
    const held = hub.send({ kind: "warm", task: "echo" });
    await hub.result(held);
    const pid = await pidOf(await agent.invoke("echo", "e1"));
    const second = hub.send({ kind: "warm", task: "echo" });
    await hub.result(second);
    const call = agent.invoke("echo", "e2", `/wait?gate=${encodeURIComponent(gate.url)}`);
    await gate.untilHeld(1);
    agent.signal("SIGTERM");
    await hub.until(() => agent.log().includes("stopping"));
    gate.open();
    expect(await (await call).text()).toBe("waited");
    expect(await agent.exited).toBe(0);
    expect(isAlive(pid)).toBe(false);
    expect(hub.executions.map(({ executionId }) => executionId)).toEqual(["e1", "e2"]);
    // The second command took over the runtime that the first had started and that was used since.
    expect(hub.ends.find(({ commandId }) => commandId === held)).toMatchObject({ reason: "replaced", used: true });
    expect(hub.ends.find(({ commandId }) => commandId === second)).toMatchObject({ reason: "stopped", used: true });
    expect(hub.heartbeats.at(-1)).toMatchObject({ leaving: true, leavesWithinMs: expect.any(Number) });
    expect(hub.malformed).toEqual([]);
  });

  it("finishes calls that came as commands too, and tells their answers", async () => {
    const gate = await Gate.start();
    const agent = await startTestAgent();
    const { hub } = agent;
    const headers = await hub.invokeHeaders("echo", { executionId: "e1" });
    const path = `/wait?gate=${encodeURIComponent(gate.url)}`;
    const call = hub.send({ kind: "execute", task: "echo", request: { method: "GET", path, headers, body: "" } });
    await gate.untilHeld(1);
    agent.signal("SIGTERM");
    await hub.until(() => hub.heartbeats.at(-1)?.leaving);
    gate.open();
    expect(await agent.exited).toBe(0);
    const { state, response } = await hub.result(call);
    expect([state, Buffer.from(response!.body, "base64").toString()]).toEqual(["done", "waited"]);
  });

  it("keeps its folders to itself while it runs, and not beyond", async () => {
    const agent = await startTestAgent();
    // Of another hub, by a mistake in its configuration.
    const another = { folder: agent.folder };
    await expect(startTestAgent(another)).rejects.toThrow(/another agent of this machine uses .*(state|cache)/);
    await (await agent.invoke("echo", "e1")).text();
    agent.signal("SIGKILL");
    await agent.exited;
    await startTestAgent(another);
  });

  it("killed outright, it leaves no runtime behind", async () => {
    const agent = await startTestAgent();
    const pid = await pidOf(await agent.invoke("echo", "e1"));
    const child = Number(await (await agent.invoke("echo", "e2", "/child")).text());
    agent.signal("SIGKILL");
    await agent.exited;
    await gone(pid);
    await gone(child);
  });

  it("loses no execution to a hub that fails, nor to its own death", async () => {
    const hub = await TestHub.start();
    const folder = await mkdtemp(join(tmpdir(), "forechain-agent-"));
    onTestFinished(async () => {
      await hub.stop();
      await rm(folder, { recursive: true, force: true });
    });
    hub.failures.executions = Array(100).fill(503);
    const before = await startTestAgent({ hub, folder });
    await (await before.invoke("echo", "e1")).text();
    await (await before.invoke("echo", "e2")).text();
    await hub.until(() => (hub.calls.executions ?? 0) > 0);
    before.signal("SIGKILL");
    await before.exited;
    expect(hub.executions).toEqual([]);
    hub.failures.executions = [500, 0, 429];
    hub.heartbeats.length = 0;
    await startTestAgent({ hub, folder });
    await hub.execution("e1");
    await hub.execution("e2");
    await hub.until(() => hub.executions.length === 2);
    // Emptied once the agent has read the answer.
    const path = join(folder, "state", "executions.ndjson");
    while ((await readFile(path, "utf8")) !== "") await new Promise((resolve) => setTimeout(resolve, 10));
  });

  it("reports again until the hub has accepted", async () => {
    const agent = await startTestAgent();
    agent.hub.failures.results = [500, 0, 503];
    const commandId = agent.hub.send({ kind: "warm", task: "echo" });
    expect((await agent.hub.result(commandId)).state).toBe("done");
    expect(agent.hub.calls.results).toBeGreaterThanOrEqual(4);
  });

  it("whose clock is off by an hour tells instants, keeps deadlines and checks signatures by the hub's", async () => {
    for (const offMs of [3_600_000, -3_600_000]) {
      const hub = await TestHub.start();
      hub.clockOffsetMs = offMs;
      const agent = await startTestAgent({ hub });
      const commandId = hub.send({ kind: "warm", task: "echo", expiresMs: hub.nowMs() + 10_000 });
      const result = await hub.result(commandId);
      expect(result.state).toBe("done");
      expect(Math.abs(result.readyMs! - hub.nowMs())).toBeLessThan(5_000);
      expect((await agent.invoke("echo", "e1")).status).toBe(200);
      expect(Math.abs((await hub.execution("e1")).startMs - hub.nowMs())).toBeLessThan(5_000);
      agent.signal("SIGTERM");
      await agent.exited;
      await hub.stop();
    }
  });

  it("ends with code 3 when another agent has taken its VM's name, and takes its runtimes with it", async () => {
    const agent = await startTestAgent();
    const pid = await pidOf(await agent.invoke("echo", "e1"));
    agent.hub.failures.heartbeat = [409];
    expect(await agent.exited).toBe(3);
    expect(isAlive(pid)).toBe(false);
    expect(agent.hub.heartbeats.some(({ leaving }) => leaving)).toBe(false);
  });

  it("runs a call that comes as a command, and returns its answer", async () => {
    const agent = await startTestAgent();
    const headers = await agent.hub.invokeHeaders("echo", { executionId: "e1" });
    const commandId = agent.hub.send({
      kind: "execute",
      task: "echo",
      request: {
        method: "PUT",
        path: "/x?y=1",
        headers: { ...headers, "x-user": "1" },
        body: Buffer.from("in").toString("base64"),
      },
    });
    const { state, response } = await agent.hub.result(commandId);
    expect(state).toBe("done");
    expect(response?.status).toBe(200);
    expect(JSON.parse(Buffer.from(response!.body, "base64").toString())).toMatchObject({
      method: "PUT",
      url: "/x?y=1",
      body: "in",
    });
    expect(await agent.hub.execution("e1")).toMatchObject({ status: "ok" });
  });

  it("outlives what tasks do to calls that come as commands, and tells each", async () => {
    const tasks = { echo: echoTask(), broken: echoTask({ env: { CRASH: "no model" } }) };
    const { hub, child } = await startTestAgent({ tasks });
    const execute = async (task: string, path: string) => {
      const headers = await hub.invokeHeaders(task, { executionId: path });
      return hub.result(hub.send({ kind: "execute", task, request: { method: "GET", path, headers, body: "" } }));
    };
    const bodyOf = (result: Awaited<ReturnType<typeof execute>>) => Buffer.from(result.response!.body, "base64");
    expect(await execute("echo", "/break")).toMatchObject({
      state: "failed",
      reason: expect.stringContaining("The answer broke off after 5 bytes"),
      response: { status: 502 },
    });
    const large = { reason: expect.stringContaining("is larger than"), response: { status: 502 } };
    expect(await execute("echo", "/large")).toMatchObject(large);
    const crashed = await execute("echo", "/crash");
    expect(crashed).toMatchObject({ state: "failed", response: { status: 502 } });
    expect(JSON.parse(bodyOf(crashed).toString())).toMatchObject({ title: "Task failed" });
    // Not begun: another VM may be tried.
    expect(await execute("broken", "/")).toMatchObject({ reason: expect.stringMatching(/^refused: 503 .*no model/s) });
    const answered = await execute("echo", "/headers");
    expect(answered).toMatchObject({ state: "done", response: { status: 200 } });
    expect(bodyOf(answered).toString()).toBe("headers");
    expect(answered.response!.headers["set-cookie"]).toHaveLength(2);
    // Of the one connection.
    expect(answered.response!.headers["x-hop"]).toBeUndefined();
    expect(child.exitCode).toBeNull();
    expect(hub.malformed).toEqual([]);
  });

  it("drains: idle runtimes end, nothing new is prepared until the operator takes the VM back", async () => {
    const agent = await startTestAgent();
    const { hub } = agent;
    const pid = await pidOf(await agent.invoke("echo", "e1"));
    expect((await hub.result(hub.send({ kind: "drain" }))).state).toBe("done");
    await gone(pid);
    expect(await hub.result(hub.send({ kind: "warm", task: "echo" }))).toMatchObject({ reason: "refused: draining" });
    // Calls that still come are served: only preparing has ended.
    expect((await agent.invoke("echo", "e2")).status).toBe(200);
    const beats = async (draining: boolean) => {
      hub.answer = { draining };
      const seen = hub.heartbeats.length;
      await hub.until(() => hub.heartbeats.length >= seen + 3);
    };
    await beats(true);
    expect(await hub.result(hub.send({ kind: "warm", task: "echo" }))).toMatchObject({ reason: "refused: draining" });
    await beats(false);
    expect(await hub.result(hub.send({ kind: "warm", task: "echo" }))).toMatchObject({ state: "done" });
  });
});

// A real agent process against a hub that speaks the protocol: calls, measurements, commands, reports, stops.

import { createHash } from "node:crypto";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { rangeOf } from "../../src/agent/range.ts";
import { CONTINUATION_HEADER } from "../../src/protocol.ts";
import { Gate } from "./gate.ts";
import { echoTask, gone, startTestAgent } from "./start.ts";
import { pattern, TestStore } from "./store.ts";

/** Between two clocks compared over a loaded machine's loopback: half of the quickest round trip. */
const CLOCK_ERROR_MS = 100;

describe("a call to /invoke", () => {
  it("is streamed to the task and back, without Forechain's own headers, and recorded", async () => {
    const agent = await startTestAgent();
    const answer = await agent.invoke("echo", "e1", "/a/b?c=1", {
      method: "POST",
      body: "hello",
      headers: { "x-user": "1", traceparent: "00-1-2-01", [CONTINUATION_HEADER]: "abc", authorization: "Bearer user" },
    });
    expect(answer.status).toBe(200);
    expect(answer.headers.get("x-task")).toBe("echo");
    expect(Number(answer.headers.get("forechain-cold-start-ms"))).toBeGreaterThan(0);
    const seen = (await answer.json()) as {
      method: string;
      url: string;
      body: string;
      headers: Record<string, string>;
      env: string[];
    };
    expect(seen).toMatchObject({ method: "POST", url: "/a/b?c=1", body: "hello" });
    expect(seen.headers).toMatchObject({ "x-user": "1", traceparent: "00-1-2-01", [CONTINUATION_HEADER]: "abc" });
    for (const name of ["forechain-signature", "forechain-context", "authorization"])
      expect(seen.headers[name]).toBeUndefined();
    expect(seen.env).not.toContain("FORECHAIN_KEY");

    const cold = await agent.hub.execution("e1");
    expect(cold).toMatchObject({ runId: "run-1", task: "echo", status: "ok", cluster: "east", vm: "east-1" });
    expect(cold.coldStartMs).toBeGreaterThan(10);
    expect(cold.endMs - cold.startMs).toBeGreaterThanOrEqual(cold.coldStartMs!);
    await agent.hub.until(() =>
      agent.hub.misses.find(
        ({ kind, task, executionId }) => kind === "warm" && task === "echo" && executionId === "e1",
      ),
    );

    const warm = await agent.invoke("echo", "e2");
    expect(warm.headers.get("forechain-cold-start-ms")).toBe("0.0");
    await warm.text();
    expect(await agent.hub.execution("e2")).toMatchObject({ coldStartMs: 0, queueMs: 0, fetchMs: 0 });
    expect(agent.hub.malformed).toEqual([]);
  });

  it("is measured: CPU, peak memory, bytes, objects written and services called", async () => {
    const agent = await startTestAgent();
    await (await agent.invoke("echo", "e1")).text();
    const answer = await agent.invoke("echo", "e2", "/work");
    expect(answer.headers.get("forechain-outputs")).toBeNull();
    expect(answer.headers.get("forechain-services")).toBeNull();
    expect(await answer.text()).toBe("worked true");
    const { cpuMs, memoryBytes, ...rest } = await agent.hub.execution("e2");
    expect(cpuMs).toBeGreaterThanOrEqual(80);
    expect(memoryBytes).toBeGreaterThan(48 * 2 ** 20);
    expect(rest).toMatchObject({
      outputBytes: "worked true".length,
      outputs: [{ uri: "https://store/out", bytes: 12 }],
      services: [{ service: "db", calls: 2, bytes: 30, latencyMs: 1.5 }],
    });
  });

  it("is refused without a good signature and context", async () => {
    const agent = await startTestAgent();
    const { hub } = agent;
    const good = await hub.invokeHeaders("echo", { executionId: "e" });
    const second = Math.floor(hub.nowMs() / 1000);
    const bad: [string, Record<string, string>, number][] = [
      ["none", {}, 401],
      ["another task's", await hub.invokeHeaders("echo", { executionId: "e" }, { sub: "other" }), 401],
      ["another VM's", await hub.invokeHeaders("echo", { executionId: "e" }, { aud: "east/east-2" }), 401],
      ["expired", await hub.invokeHeaders("echo", { executionId: "e" }, { exp: second - 10 }), 401],
      ["too long", await hub.invokeHeaders("echo", { executionId: "e" }, { exp: second + 3600 }), 401],
      [
        "another key",
        await hub.invokeHeaders("echo", { executionId: "e" }, { key: Buffer.alloc(32, 8).toString("base64url") }),
        401,
      ],
      ["no context", { "forechain-signature": good["forechain-signature"]! }, 400],
      ["a broken context", { ...good, "forechain-context": "e30" }, 400],
    ];
    for (const [name, headers, status] of bad) {
      const answer = await fetch(`${agent.url}/invoke/echo/`, { headers });
      expect([name, answer.status]).toEqual([name, status]);
      expect(answer.headers.get("content-type")).toBe("application/problem+json");
    }
    expect((await agent.invoke("nobody", "e")).status).toBe(404);
    expect((await fetch(`${agent.url}/objects?uri=file:///etc/passwd`)).status).toBe(401);
    expect(hub.executions).toEqual([]);
  });
});

describe("objects", () => {
  it("are loaded once, read as bytes or as a file, and told in the record", async () => {
    const store = await TestStore.start();
    const uri = store.put("/model.bin", pattern(300_000));
    const agent = await startTestAgent({ config: { objects: { schemes: ["http"], hosts: [store.host] } } });
    const read = (id: string, as = "") => agent.invoke("echo", id, `/read?uri=${encodeURIComponent(uri)}${as}`);
    expect(await (await read("e1")).json()).toMatchObject({ status: 200, bytes: 300_000 });
    const first = await agent.hub.execution("e1");
    expect(first.inputs).toEqual([{ uri, bytes: 300_000 }]);
    expect(first.fetchMs).toBeGreaterThan(0);
    const miss = await agent.hub.until(() => agent.hub.misses.find(({ kind }) => kind === "prefetch"));
    expect(miss).toMatchObject({ uri, bytes: 300_000, executionId: "e1", task: "echo" });
    expect(await (await agent.invoke("echo", "e0", "/read?uri=oci://registry/image:1")).json()).toMatchObject({
      status: 403,
      text: expect.stringContaining("An image is kept by the container engine"),
    });
    const asPath = (await (await read("e2", "&as=path")).json()) as { text: string };
    expect(JSON.parse(asPath.text)).toMatchObject({ bytes: 300_000 });
    expect(await agent.hub.execution("e2")).toMatchObject({
      fetchMs: 0,
      coldStartMs: 0,
      inputs: [{ uri, bytes: 300_000 }],
    });
    expect(store.asked("/model.bin")).toBe(1);
    await store.stop();
  });
});

it("an agent whose cache is removed while it runs loads again what is asked for", async () => {
  const store = await TestStore.start();
  const uri = store.put("/model.bin", pattern(300_000));
  const agent = await startTestAgent({ config: { objects: { schemes: ["http"], hosts: [store.host] } } });
  const { hub } = agent;
  const read = async (id: string) => (await agent.invoke("echo", id, `/read?uri=${encodeURIComponent(uri)}`)).json();
  expect(await read("e1")).toMatchObject({ status: 200, bytes: 300_000 });
  await rm(join(agent.folder, "cache"), { recursive: true });
  await hub.until(() => hub.heartbeats.at(-1)?.capacity.diskFreeBytes === 0);
  expect(await read("e2")).toMatchObject({ status: 200, bytes: 300_000 });
  expect(store.asked("/model.bin")).toBe(2);
  await hub.until(() => hub.heartbeats.at(-1)!.capacity.diskFreeBytes > 0);
  expect(hub.malformed).toEqual([]);
  await store.stop();
});

describe("a range of an object", () => {
  const SIZE = 1000;
  it.each([
    ["bytes=0-9", { first: 0, last: 9 }],
    ["bytes=990-", { first: 990, last: 999 }],
    ["bytes=990-5000", { first: 990, last: 999 }],
    ["bytes=-10", { first: 990, last: 999 }],
    ["bytes=-5000", { first: 0, last: 999 }],
    ["bytes=1000-", "unsatisfiable"],
    ["bytes=-0", "unsatisfiable"],
    ["bytes=9-0", null],
    ["bytes=0-1,5-6", null],
    ["bytes=-", null],
    ["items=0-9", null],
    [undefined, null],
  ])("%s", (header, range) => expect(rangeOf(header, SIZE)).toEqual(range));

  it("is read by a task, from the cache", async () => {
    const store = await TestStore.start();
    const bytes = pattern(300_000);
    const uri = store.put("/model.bin", bytes);
    const agent = await startTestAgent({ config: { objects: { schemes: ["http"], hosts: [store.host] } } });
    const read = async (id: string, range: string) => {
      const query = `/read?uri=${encodeURIComponent(uri)}&range=${encodeURIComponent(range)}`;
      return (await agent.invoke("echo", id, query)).json();
    };
    const digest = createHash("sha256").update(bytes.subarray(100_000, 200_000)).digest("hex");
    expect(await read("e1", "bytes=100000-199999")).toMatchObject({
      status: 206,
      range: "bytes 100000-199999/300000",
      bytes: 100_000,
      digest,
    });
    expect(await read("e2", "bytes=300000-")).toMatchObject({ status: 416, range: "bytes */300000", bytes: 0 });
    expect(await read("e3", "bytes=0-1,5-6")).toMatchObject({ status: 200, bytes: 300_000 });
    expect(store.asked("/model.bin")).toBe(1);
    await store.stop();
  });
});

describe("a task that uses more memory than its limit", () => {
  it("is ended, its call is told why, and the next call has a new runtime", async () => {
    const agent = await startTestAgent({ tasks: { echo: echoTask({ memoryLimitBytes: "200 MiB" }) } });
    const before = (await (await agent.invoke("echo", "e1")).json()) as { pid: number };
    const answer = await agent.invoke("echo", "e2", "/grow");
    expect(answer.status).toBe(502);
    expect(((await answer.json()) as { detail: string }).detail).toMatch(/: it used \d+ MiB, its limit is 200 MiB\.$/);
    expect(await agent.hub.execution("e2")).toMatchObject({ status: "error" });
    expect(agent.log()).toMatch(/\[echo\] ended: it used \d+ MiB/);
    const after = (await (await agent.invoke("echo", "e3")).json()) as { pid: number };
    expect(after.pid).not.toBe(before.pid);
    await gone(before.pid);
  });

  it("and cannot even start: the start fails with the reason", async () => {
    const { url } = await Gate.start();
    const { hub } = await startTestAgent({
      tasks: { echo: echoTask({ memoryLimitBytes: "1 MiB", env: { GATE: url } }) },
    });
    const result = await hub.result(hub.send({ kind: "warm", task: "echo" }));
    expect(result).toMatchObject({ state: "failed", reason: expect.stringContaining("its limit is 1 MiB") });
  });
});

describe("people and monitors", () => {
  it("are told health and numbers", async () => {
    const agent = await startTestAgent({ tasks: { 'a "b"': echoTask() } });
    await (await agent.invoke('a "b"', "e1")).text();
    const health = await fetch(`${agent.url}/healthz`);
    expect([health.status, await health.json()]).toEqual([200, { ok: true, detail: "linked to its hub" }]);
    const metrics = await (await fetch(`${agent.url}/metrics`)).text();
    expect(metrics).toContain("# TYPE forechain_agent_calls_total counter\nforechain_agent_calls_total 1\n");
    expect(metrics).toContain('forechain_agent_runtimes{task="a \\"b\\"",state="ready"} 1');
    for (const line of metrics.trim().split("\n"))
      expect(line).toMatch(/^(# (HELP|TYPE) |forechain_agent_\w+(\{.*\})? -?[\d.e+-]+$)/);
    expect((await fetch(`${agent.url}/else`)).status).toBe(404);
  });
});

describe("commands", () => {
  it("begin at their instant, not before", async () => {
    const agent = await startTestAgent();
    const { hub } = agent;
    const notBeforeMs = hub.nowMs() + 900;
    const result = await hub.result(hub.send({ kind: "warm", task: "echo", notBeforeMs }));
    expect(result.startedMs).toBeGreaterThanOrEqual(notBeforeMs - CLOCK_ERROR_MS);
    expect(
      hub.heartbeats
        .filter(({ runtimes }) => runtimes.length > 0)
        .every(({ nowMs }) => nowMs >= notBeforeMs - CLOCK_ERROR_MS),
    ).toBe(true);
  });

  it("warm: done when the runtime said ready; its first use is reported, and costs the user nothing", async () => {
    const agent = await startTestAgent();
    const { hub } = agent;
    const commandId = hub.send({ kind: "warm", task: "echo" });
    const result = await hub.result(commandId);
    expect(result.state).toBe("done");
    expect(result.readyMs! - result.startedMs!).toBeGreaterThan(10);
    await (await agent.invoke("echo", "e1")).text();
    expect(await hub.execution("e1")).toMatchObject({ coldStartMs: 0 });
    const use = await hub.until(() => hub.uses.find((candidate) => candidate.commandId === commandId));
    expect(use).toMatchObject({ executionId: "e1", waitedMs: 0 });
    expect(use.savedMs).toBeGreaterThan(10);
    expect(hub.misses).toEqual([]);
  });

  it("prefetch: done with its bytes; its first use is reported", async () => {
    const store = await TestStore.start();
    const uri = store.put("/a.bin", pattern(100_000));
    const agent = await startTestAgent({ config: { objects: { schemes: ["http"], hosts: [store.host] } } });
    const { hub } = agent;
    const commandId = hub.send({ kind: "prefetch", uri });
    expect(await hub.result(commandId)).toMatchObject({ state: "done", bytes: 100_000 });
    const again = hub.send({ kind: "prefetch", uri });
    expect(await hub.result(again)).toMatchObject({ state: "done", bytes: 0 });
    await (await agent.invoke("echo", "e1", `/read?uri=${encodeURIComponent(uri)}`)).text();
    const use = await hub.until(() => hub.uses.find((candidate) => candidate.commandId === commandId));
    expect(use).toMatchObject({ executionId: "e1", waitedMs: 0 });
    expect(hub.misses.filter(({ kind }) => kind === "prefetch")).toEqual([]);
    await store.stop();
  });

  it("are idempotent: a second delivery under a new lease is answered with the first result", async () => {
    const agent = await startTestAgent();
    const { hub } = agent;
    hub.send({ kind: "warm", task: "echo", commandId: "same", leaseId: "l1" });
    const first = await hub.result("same", "l1");
    hub.send({ kind: "warm", task: "echo", commandId: "same", leaseId: "l2" });
    const second = await hub.result("same", "l2");
    expect(second).toEqual({ ...first, leaseId: "l2" });
    const beat = await hub.until(() => hub.heartbeats.find(({ runtimes }) => runtimes.length > 0));
    expect(beat.runtimes).toHaveLength(1);
  });

  it("a start that crashes fails with the program's last words; the next call is told too", async () => {
    const agent = await startTestAgent({ tasks: { broken: echoTask({ env: { CRASH: "no model" } }) } });
    const result = await agent.hub.result(agent.hub.send({ kind: "warm", task: "broken" }));
    expect(result.state).toBe("failed");
    expect(result.reason).toContain("cannot start: no model");
    expect(agent.log()).toContain("[broken] cannot start: no model\n");
    const answer = await agent.invoke("broken", "e1");
    // Nothing has begun: the gateway may try another VM, which then tells the execution.
    expect(answer.status).toBe(503);
    expect(answer.headers.get("forechain-cold-start-ms")).toBeNull();
    agent.signal("SIGTERM");
    await agent.exited;
    expect(agent.hub.executions).toEqual([]);
  });

  it("expired, unknown tasks, unknown versions and forbidden URIs fail with a reason", async () => {
    const agent = await startTestAgent({ tasks: { echo: echoTask({ version: "2" }) } });
    const { hub } = agent;
    const cases: [string, Parameters<TestHubSend>[0], string][] = [
      ["expired", { kind: "warm", task: "echo", expiresMs: hub.nowMs() - 1 }, "expired"],
      ["unknown task", { kind: "warm", task: "nobody" }, "no task nobody"],
      ["other version", { kind: "warm", task: "echo", version: "1" }, "version 2"],
      ["scheme", { kind: "prefetch", uri: "http://127.0.0.1:1/x" }, "refused"],
      ["file", { kind: "prefetch", uri: "file:///etc/passwd" }, "refused"],
    ];
    for (const [name, command, reason] of cases) {
      const result = await hub.result(hub.send(command));
      expect([name, result.state]).toEqual([name, "failed"]);
      expect(result.reason).toContain(reason);
    }
  });
});

describe("heartbeats name the calls that came as commands", () => {
  it("from when they came until the hub has their results", async () => {
    const gate = await Gate.start();
    const { hub } = await startTestAgent();
    const headers = await hub.invokeHeaders("echo", { executionId: "e1" });
    const path = `/wait?gate=${encodeURIComponent(gate.url)}`;
    const call = hub.send({ kind: "execute", task: "echo", request: { method: "GET", path, headers, body: "" } });
    // A command that is no call is not named.
    await hub.result(hub.send({ kind: "warm", task: "echo" }));
    await gate.untilHeld(1);
    const saysNext = (calls: string[]) => {
      const seen = hub.heartbeats.length;
      return hub.until(() => hub.heartbeats.slice(seen).some((beat) => String(beat.calls) === String(calls)));
    };
    await saysNext([call]);
    // The hub is away when the result comes: it is still this agent's to tell.
    hub.failures.results = Array(4).fill(503);
    gate.open();
    await hub.until(() => hub.failures.results.length === 2);
    expect(hub.results.some(({ commandId }) => commandId === call)).toBe(false);
    await saysNext([call]);
    expect(await hub.result(call)).toMatchObject({ state: "done" });
    await saysNext([]);
  });
});

type TestHubSend = Awaited<ReturnType<typeof startTestAgent>>["hub"]["send"];

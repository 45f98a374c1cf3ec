// The WebSocket between agent and hub, and what happens where there is none.
import { describe, expect, it, onTestFinished } from "vitest";
import { HubSocket } from "../../src/agent/socket.ts";
import { TEST_KEY, TestHub } from "./hub.ts";
import { startTestAgent } from "./start.ts";

async function socketHub(): Promise<TestHub> {
  const hub = await TestHub.start();
  hub.acceptsSockets = true;
  onTestFinished(() => hub.stop());
  return hub;
}

describe("an agent with a socket", () => {
  it("hears commands without asking, and says heartbeats and reports through it", async () => {
    const hub = await socketHub();
    const agent = await startTestAgent({ hub });
    await hub.until(() => hub.socket);
    const beats = hub.calls.heartbeat!;
    const commandId = hub.send({ kind: "warm", task: "echo" });
    expect((await hub.result(commandId)).state).toBe("done");
    await hub.until(() => hub.said.heartbeat! >= 2);
    expect(hub.calls.commands).toBeUndefined();
    expect(hub.calls.results).toBeUndefined();
    expect(hub.calls.heartbeat).toBe(beats);
    expect((await agent.invoke("echo", "e1")).status).toBe(200);
    expect(hub.malformed).toEqual([]);
  });

  it("opens another when it was dropped; what was refused through it is said again", async () => {
    const hub = await socketHub();
    await startTestAgent({ hub });
    const first = await hub.until(() => hub.socket);
    hub.failures.results = [503];
    hub.send({ kind: "warm", task: "echo", commandId: "c" });
    await hub.result("c");
    first.drop();
    await hub.until(() => hub.socket !== null && hub.socket !== first);
    expect((await hub.result(hub.send({ kind: "warm", task: "echo" }))).state).toBe("done");
  });

  it("stops with code 3 when it is told there that another process has its name", async () => {
    const hub = await socketHub();
    const agent = await startTestAgent({ hub });
    await hub.until(() => hub.said.heartbeat);
    hub.failures.heartbeat = [409];
    expect(await agent.exited).toBe(3);
  });
});

describe("where sockets are forbidden", () => {
  it("commands come by long-poll", async () => {
    const agent = await startTestAgent();
    const { hub } = agent;
    expect((await hub.result(hub.send({ kind: "warm", task: "echo" }))).state).toBe("done");
    expect(hub.calls.socket).toBe(1);
    expect(hub.calls.commands).toBeGreaterThan(0);
  });
});

describe("a socket", () => {
  const open = (hub: TestHub, pingEveryMs: number, url = hub.url.replace("http", "ws")) =>
    new HubSocket({
      url: `${url}/v1/agents/east/east-1/socket`,
      key: TEST_KEY,
      receive: () => {},
      log: () => {},
      pingEveryMs,
    });

  it("that answers pings stays; one that has gone silent is given up", async () => {
    const hub = await socketHub();
    const staying = open(hub, 30);
    const left = staying.stay(new AbortController().signal);
    await hub.until(() => hub.said.ping! >= 5);
    expect(staying.isOpen()).toBe(true);
    hub.answersPings = false;
    expect(await left).toBe("closed");
  });

  it("that cannot be opened is told as forbidden", async () => {
    const hub = await TestHub.start();
    expect(await open(hub, 1_000).stay(new AbortController().signal)).toBe("forbidden");
    const { url } = hub;
    await hub.stop();
    expect(await open(hub, 1_000, url.replace("http", "ws")).stay(new AbortController().signal)).toBe("forbidden");
  });

  it("that closes fails what waits for an answer, and then has nothing to say", async () => {
    const hub = await socketHub();
    const socket = open(hub, 1_000);
    const left = socket.stay(new AbortController().signal);
    const server = await hub.until(() => hub.socket);
    await hub.until(() => socket.isOpen());
    // A report that the hub does not understand is never answered.
    const said = socket.say("report", { report: { results: [], uses: [], ends: [], misses: [], extra: 1 } as never });
    await hub.until(() => hub.malformed.length > 0);
    server.drop();
    expect(await said).toMatchObject({ ok: false, reason: "unreachable" });
    await left;
    expect(await socket.say("report", { report: { results: [], uses: [], ends: [], misses: [] } })).toBeNull();
  });
});

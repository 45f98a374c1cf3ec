// Agents' WebSockets: commands come as they are due, reports and heartbeats go the same way, the hub sleeps in between.
// And calls to VMs without a URL, which go the way of commands.
import { evictDurableObject } from "cloudflare:test";
import { exports } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Offer } from "../../src/core/pipeline.ts";
import type { PlannedCommand } from "../../src/core/planned.ts";
import { readMessage } from "../../src/edge/hub/sockets.ts";
import { type AgentMessage, type Command, HubMessage, InvokeContext } from "../../src/protocol.ts";
import { commandOf, heartbeatOf, newWorld, offerOf, type World } from "./world.ts";

const CLUSTER = "paris";
let world: World;
let sockets: WebSocket[];
let made = 0;

beforeEach(async () => {
  world = await newWorld();
  sockets = [];
  await world.heartbeat(CLUSTER, "vm-1", ["a", "b"]);
});
afterEach(() => {
  for (const socket of sockets) socket.close();
  vi.restoreAllMocks();
});

/** An agent's end: what it hears can be awaited in order. */
class Line {
  readonly socket: WebSocket;
  readonly #heard: HubMessage[] = [];
  readonly #waiting: ((message: HubMessage) => void)[] = [];
  closed: Promise<CloseEvent>;

  constructor(socket: WebSocket) {
    this.socket = socket;
    socket.addEventListener("message", ({ data }) => {
      if (data === "pong") return;
      const message = HubMessage.parse(JSON.parse(data as string));
      const next = this.#waiting.shift();
      if (next) next(message);
      else this.#heard.push(message);
    });
    this.closed = new Promise((resolve) => socket.addEventListener("close", resolve));
    socket.accept();
    sockets.push(socket);
  }

  hear(): Promise<HubMessage> {
    const message = this.#heard.shift();
    return message ? Promise.resolve(message) : new Promise((resolve) => this.#waiting.push(resolve));
  }

  async commands(): Promise<Command[]> {
    const message = await this.hear();
    if (message.type !== "commands") throw new Error(`heard ${JSON.stringify(message)}`);
    return message.answer.commands;
  }

  say(message: AgentMessage): void {
    this.socket.send(JSON.stringify(message));
  }
}

async function open(vm = "vm-1", key = world.admin): Promise<Response> {
  return (exports as unknown as { default: Fetcher }).default.fetch(
    `https://forechain.test/v1/agents/${CLUSTER}/${vm}/socket`,
    { headers: { authorization: `Bearer ${key}`, upgrade: "websocket" } },
  );
}
const line = async (vm = "vm-1") => new Line((await open(vm)).webSocket!);

test("a socket whose key was revoked is closed, another agent's is not", async () => {
  const { keyId, key } = (
    await world.call("POST", "/v1/keys", { name: "vm-1", scopes: ["agent"], cluster: CLUSTER, vm: "vm-1" })
  ).body;
  const revoked = new Line((await open("vm-1", key)).webSocket!);
  const other = await line("vm-2");
  const beat = async (at: Line) => {
    at.say({ type: "heartbeat", id: 1, heartbeat: heartbeatOf(["a"]) });
    while ((await at.hear()).type !== "heartbeat");
  };
  await beat(revoked);
  expect((await world.call("DELETE", `/v1/keys/${keyId}`)).status).toBe(204);
  await beat(revoked);
  const later = Date.now() + 61_000;
  vi.spyOn(Date, "now").mockImplementation(() => later);
  await beat(other);
  expect(await revoked.closed).toMatchObject({ code: 4003 });
  expect((await open("vm-1", key)).status).toBe(401);
  await beat(other);
});

function offer(changes: Partial<PlannedCommand> = {}): Offer {
  const id = `command-${++made}`;
  const command = commandOf({ commandId: id, key: `warm ${id}`, ...changes });
  return offerOf([command]);
}
const admit = (given: Offer) => world.hub(CLUSTER).admit(world.workspace, given);

test("a command comes as soon as it is queued, and its report is answered", async () => {
  const agent = await line();
  await admit(offer());
  const [command] = await agent.commands();
  expect(command).toMatchObject({ kind: "warm", task: "b", attempt: 1 });
  const { commandId, leaseId } = command!;
  const report = { results: [{ commandId, leaseId, state: "done" as const }], uses: [], ends: [], misses: [] };
  agent.say({ type: "report", id: 7, report });
  expect(await agent.hear()).toEqual({ type: "report", id: 7, answer: { accepted: 1, refused: [] } });
});

test("what was queued before the socket opened comes with it", async () => {
  await admit(offer());
  expect(await (await line()).commands()).toHaveLength(1);
});

test("a command waits for its notBefore, by alarm", async () => {
  const agent = await line();
  const notBeforeMs = Date.now() + 200;
  await admit(offer({ notBeforeMs }));
  expect(await agent.commands()).toHaveLength(1);
  expect(Date.now()).toBeGreaterThanOrEqual(notBeforeMs);
});

test("more commands than one message holds come with the next ones", async () => {
  const agent = await line();
  await admit(offerOf(Array.from({ length: 230 }, (_, i) => commandOf({ key: `warm ${i}` }))));
  const counts: number[] = [];
  while (counts.reduce((sum, count) => sum + count, 0) < 230) counts.push((await agent.commands()).length);
  expect(counts).toEqual([100, 100, 30]);
});

test("heartbeats are answered as over HTTP", async () => {
  const agent = await line();
  agent.say({ type: "heartbeat", id: 1, heartbeat: heartbeatOf(["a"]) });
  const answer = await agent.hear();
  const { body } = await world.heartbeat(CLUSTER, "vm-1", ["a"]);
  expect(answer).toMatchObject({ type: "heartbeat", id: 1, answer: { invokeKey: body.invokeKey, draining: false } });
});

test("it survives the hub's sleep", async () => {
  const agent = await line();
  await evictDurableObject(world.hub(CLUSTER));
  await admit(offer());
  const [command] = await agent.commands();
  await evictDurableObject(world.hub(CLUSTER));
  const result = { commandId: command!.commandId, leaseId: command!.leaseId, state: "done" as const };
  agent.say({ type: "report", id: 1, report: { results: [result], uses: [], ends: [], misses: [] } });
  expect(await agent.hear()).toMatchObject({ answer: { accepted: 1 } });
});

test("a second socket of a VM takes the first one's place", async () => {
  const first = await line();
  const second = await line();
  expect((await first.closed).code).toBe(4000);
  await admit(offer());
  expect(await second.commands()).toHaveLength(1);
});

test("what the first one was sent is given again to the second: its connection is dead, though nobody has noticed", async () => {
  const first = await line();
  await admit(offer());
  const [lost] = await first.commands();
  const [again] = await (await line()).commands();
  expect(again).toMatchObject({ commandId: lost!.commandId, attempt: 2 });
});

test.each<[string, string | ArrayBuffer, number]>([
  ["longer than 2 MiB", " ".repeat(2 * 1024 * 1024 + 1), 413],
  ["binary", new ArrayBuffer(4), 413],
  ["no JSON", "hello", 422],
  ["no message", '{"type":"gossip"}', 422],
])("what is said that is %s is refused", (_, text, status) => {
  expect(readMessage(text)).toMatchObject({ ok: false, status });
});

test("what was sent into a connection that broke is given again on the next", async () => {
  const first = await line();
  await admit(offer());
  const [lost] = await first.commands();
  first.socket.close();
  const second = await line();
  const [again] = await second.commands();
  expect(again).toMatchObject({ commandId: lost!.commandId, attempt: 2 });
  const stale = { commandId: lost!.commandId, leaseId: lost!.leaseId, state: "done" as const };
  second.say({ type: "report", id: 1, report: { results: [stale], uses: [], ends: [], misses: [] } });
  expect(await second.hear()).toMatchObject({ answer: { refused: [{ reason: "stale lease" }] } });
});

test("another process supersedes the one behind the socket", async () => {
  const agent = await line();
  await world.heartbeat(CLUSTER, "vm-1", ["a"], { instanceId: "second" });
  agent.say({ type: "heartbeat", id: 3, heartbeat: heartbeatOf(["a"]) });
  expect(await agent.hear()).toMatchObject({ type: "refused", id: 3, status: 409 });
  expect((await agent.closed).code).toBe(4001);
});

test.each([
  ["not JSON", "hello"],
  ["unknown type", '{"type":"drop","id":1}'],
  ["unknown field", '{"type":"report","id":1,"report":{"x":1}}'],
])("%s is refused and the socket stays", async (_, text) => {
  const agent = await line();
  agent.socket.send(text);
  expect(await agent.hear()).toMatchObject({ type: "refused", status: 422 });
  await admit(offer());
  expect(await agent.commands()).toHaveLength(1);
});

test("only a VM's own key opens its socket, and only by an upgrade", async () => {
  const key = await world.key(["agent"], CLUSTER, "vm-1");
  expect((await open("vm-2", key)).status).toBe(403);
  const own = await open("vm-1", key);
  expect(own.status).toBe(101);
  own.webSocket!.accept();
  sockets.push(own.webSocket!);
  expect(await world.call("GET", `/v1/agents/${CLUSTER}/vm-1/socket`)).toMatchObject({ status: 426 });
});

describe("a call to a VM without a URL", () => {
  const answerNext = async (agent: Line, answer: (command: Command) => object) => {
    const [command] = await agent.commands();
    const { commandId, leaseId } = command!;
    const results = [{ commandId, leaseId, ...answer(command!) } as never];
    agent.say({ type: "report", id: 1, report: { results, uses: [], ends: [], misses: [] } });
    return command!;
  };

  test("goes as an execute command and comes back as its response", async () => {
    const agent = await line();
    const answer = world.call("POST", "/v1/invoke/a/x?y=1", { z: 2 });
    const command = await answerNext(agent, () => ({
      state: "done",
      response: { status: 201, headers: { "x-task": "1" }, body: btoa("made") },
    }));
    expect(command).toMatchObject({ kind: "execute", task: "a", request: { method: "POST", path: "/x?y=1" } });
    expect(atob(command.request!.body)).toBe('{"z":2}');
    expect(command.request!.headers.authorization).toBeUndefined();
    const context = InvokeContext.parse(
      JSON.parse(atob(command.request!.headers["forechain-context"]!.replaceAll("-", "+").replaceAll("_", "/"))),
    );
    expect(context.params).toEqual({ y: "1", z: 2 });
    expect(await answer).toMatchObject({ status: 201, body: "made" });
    expect((await answer).headers.get("x-task")).toBe("1");
  });

  test("that the agent refuses is a 503, one that broke a 502", async () => {
    const agent = await line();
    const refused = world.call("GET", "/v1/invoke/a");
    await answerNext(agent, () => ({ state: "failed", reason: "refused: draining" }));
    expect(await refused).toMatchObject({ status: 503 });
    await agent.hear();
    const broken = world.call("GET", "/v1/invoke/a");
    await answerNext(agent, () => ({ state: "failed", reason: "the runtime crashed" }));
    expect(await broken).toMatchObject({ status: 502, body: { title: "Connection lost" } });
  });

  test("that failed on the VM is answered as its agent tells, with every cookie of its own", async () => {
    const agent = await line();
    const failed = world.call("GET", "/v1/invoke/a");
    const told = { title: "Task failed", status: 502, detail: "The runtime of a broke the connection." };
    const headers = { "content-type": "application/problem+json", "set-cookie": ["a=1, 2", "b=3"] };
    const response = { status: 502, headers, body: btoa(JSON.stringify(told)) };
    await answerNext(agent, () => ({ state: "failed", reason: "502 Task failed", response }));
    expect(await failed).toMatchObject({ status: 502, body: told });
    expect((await failed).headers.getSetCookie()).toEqual(["a=1, 2", "b=3"]);
    const { body } = await world.call("GET", `/v1/clusters/${CLUSTER}/commands`);
    expect(body).toMatchObject({ deadLetters: [{ kind: "execute", state: "failed" }] });
  });

  test("ends when the process that had it is dead, and is refused when its agent leaves without it", async () => {
    const agent = await line();
    const taken = world.call("GET", "/v1/invoke/a");
    await agent.commands();
    await world.heartbeat(CLUSTER, "vm-1", ["a", "b"], { instanceId: "second" });
    expect(await taken).toMatchObject({ status: 502, body: { title: "Connection lost" } });
    agent.socket.close();
    const waiting = world.call("GET", "/v1/invoke/a");
    const isQueued = async () => {
      const { body } = await world.call("GET", `/v1/clusters/${CLUSTER}/commands`);
      return expect(body).toMatchObject({ states: { queued: 1 } });
    };
    await vi.waitFor(isQueued);
    await world.heartbeat(CLUSTER, "vm-1", ["a", "b"], { instanceId: "second", leaving: true });
    expect(await waiting).toMatchObject({ status: 503, body: { detail: expect.stringContaining("its agent left") } });
  });

  test("with a large body is refused", async () => {
    const answer = await world.call("POST", "/v1/invoke/a", "x".repeat(1024 * 1024 + 1), undefined, {
      "content-type": "text/plain",
    });
    expect(answer).toMatchObject({ status: 413 });
  });

  test("ends when the task's time is over", async () => {
    await world.call("PUT", "/v1/tasks/a", { timeoutMs: 60 });
    expect(await world.call("GET", "/v1/invoke/a")).toMatchObject({ status: 504 });
  });
});

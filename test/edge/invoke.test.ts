// /v1/invoke as a router. The agents are played by a `fetch` that answers for their hosts; everything else is real.

import { verify } from "hono/jwt";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { forgetFleetView } from "../../src/edge/fleet-cache.ts";
import { vmKey } from "../../src/edge/secrets.ts";
import { COLD_START_HEADER, InvokeContext } from "../../src/protocol.ts";
import { GIB, newWorld, offerOf, testEnv, type World } from "./world.ts";

type Agent = (request: Request) => Response | Promise<Response>;

let world: World;
let agents: Record<string, Agent>;
let seen: Request[];

beforeEach(async () => {
  world = await newWorld();
  seen = [];
  agents = {};
  vi.spyOn(globalThis, "fetch").mockImplementation(async (input, init) => {
    const request = new Request(input as RequestInfo, init as RequestInit);
    seen.push(request.clone());
    const agent = agents[new URL(request.url).hostname];
    if (!agent) throw new Error("Network connection lost.");
    return agent(request);
  });
});
afterEach(() => vi.restoreAllMocks());

/** A cluster of one VM whose agent answers with `agent`. */
async function cluster(name: string, tasks: string[], agent: Agent): Promise<void> {
  const host = `${name}.agents.test`;
  agents[host] = agent;
  await world.call("PUT", `/v1/clusters/${name}`, {
    vms: [{ vm: "vm", url: `http://${host}`, cpuCores: 4, memoryBytes: 4 * GIB }],
  });
  await world.heartbeat(name, "vm", tasks);
}

const ok: Agent = async (request) =>
  new Response(`${request.method} ${await request.text()}`, { headers: { [COLD_START_HEADER]: "0.0" } });
const contextOf = (request: Request) =>
  InvokeContext.parse(
    JSON.parse(atob(request.headers.get("forechain-context")!.replaceAll("-", "+").replaceAll("_", "/"))),
  );

describe("what the agent receives", () => {
  test("method, path, query and body as they were sent; secrets and hop-by-hop headers not", async () => {
    await cluster("paris", ["resize video"], ok);
    const answer = await world.call("PUT", "/v1/invoke/resize%20video/a%2Fb/c?x=1&x=2", "body", undefined, {
      "content-type": "text/plain",
      cookie: "c=1",
      connection: "x-hop",
      "x-hop": "1",
      te: "trailers",
      "forechain-signature": "mine",
      traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    });
    expect(answer).toMatchObject({ status: 200, body: "PUT body" });
    const [request] = seen;
    expect(request!.url).toBe("http://paris.agents.test/invoke/resize%20video/a%2Fb/c?x=1&x=2");
    for (const dropped of ["authorization", "x-hop", "te", "connection"])
      expect(request!.headers.get(dropped)).toBeNull();
    expect(request!.headers.get("cookie")).toBe("c=1");
    expect(request!.headers.get("traceparent")).toContain("4bf92f35");
    expect(contextOf(request!)).toMatchObject({ runId: "4bf92f3577b34da6a3ce929d0e0e4736", links: [] });
  });

  test("a signature for this VM and task alone", async () => {
    await cluster("paris", ["a"], ok);
    await world.call("GET", "/v1/invoke/a");
    const { text } = await vmKey(testEnv.FORECHAIN_SECRET, world.workspace, "paris", "vm");
    const token = seen[0]!.headers.get("forechain-signature")!;
    const claims = await verify(token, { kty: "oct", k: text, alg: "HS256" }, { alg: "HS256", aud: "paris/vm" });
    expect(claims).toMatchObject({ aud: "paris/vm", sub: "a" });
    expect(claims.exp! - Date.now() / 1000).toBeLessThanOrEqual(60);
    const { text: other } = await vmKey(testEnv.FORECHAIN_SECRET, world.workspace, "paris", "vm-2");
    await expect(verify(token, { kty: "oct", k: other, alg: "HS256" }, "HS256")).rejects.toThrow();
  });

  test("parameters of the query and of a small JSON body", async () => {
    await cluster("paris", ["a"], ok);
    await world.call("POST", "/v1/invoke/a?video=v1&n=2", {
      frame: 7,
      deep: { no: 1 },
      flag: true,
      long: "x".repeat(600),
    });
    expect(contextOf(seen[0]!).params).toEqual({ video: "v1", n: "2", frame: 7, flag: true });
  });
});

describe("what the caller receives", () => {
  test("status, headers and body of the task; ours beside them, the agent's own not", async () => {
    await cluster(
      "paris",
      ["a"],
      () =>
        new Response("teapot", {
          status: 418,
          headers: { "x-task": "1", "forechain-context": "no", "keep-alive": "1", [COLD_START_HEADER]: "12.5" },
        }),
    );
    const answer = await world.call("GET", "/v1/invoke/a");
    expect(answer).toMatchObject({ status: 418, body: "teapot" });
    expect(answer.headers.get("x-task")).toBe("1");
    expect(answer.headers.get("forechain-context")).toBeNull();
    expect(answer.headers.get("keep-alive")).toBeNull();
    expect(answer.headers.get(COLD_START_HEADER)).toBe("12.5");
    expect(answer.headers.get("forechain-cluster")).toBe("paris");
    const record = await world.call("GET", `/v1/allocations/${answer.headers.get("forechain-allocation")}`);
    expect(record.body).toMatchObject({ task: "a", state: "executed", cluster: "paris", vm: "vm", chain: ["a"] });
  });

  test("a redirect of the task is the caller's to follow", async () => {
    await cluster(
      "paris",
      ["a"],
      () =>
        new Response(null, { status: 302, headers: { location: "http://elsewhere.test/", [COLD_START_HEADER]: "0" } }),
    );
    const request = new Request("https://forechain.test/v1/invoke/a", {
      headers: { authorization: `Bearer ${world.admin}` },
      redirect: "manual",
    });
    const { exports } = await import("cloudflare:workers");
    const response = await (exports as unknown as { default: Fetcher }).default.fetch(request);
    expect(response.status).toBe(302);
    expect(response.headers.get("location")).toBe("http://elsewhere.test/");
  });

  test("the continuation carries run, path and links to the next call", async () => {
    await cluster("paris", ["a", "b", "c"], ok);
    const first = await world.call("GET", "/v1/invoke/a");
    const { runId, executionId } = contextOf(seen[0]!);
    const handOn = { "forechain-continuation": first.headers.get("forechain-continuation")! };
    expect(seen[0]!.headers.get("forechain-continuation")).toBe(handOn["forechain-continuation"]);
    const branches = await Promise.all(
      ["b", "c"].map((task) => world.call("GET", `/v1/invoke/${task}`, undefined, undefined, handOn)),
    );
    for (const request of seen.slice(1)) expect(contextOf(request)).toMatchObject({ runId, links: [executionId] });
    const joined = branches.map((branch) => branch.headers.get("forechain-continuation")).join(",");
    await world.call("GET", "/v1/invoke/a", undefined, undefined, { "forechain-continuation": joined });
    expect(contextOf(seen[3]!)).toMatchObject({
      runId,
      links: seen.slice(1, 3).map((request) => contextOf(request).executionId),
    });
  });
});

describe("a call that cannot go on is told why", () => {
  test("unknown task", async () => {
    await cluster("paris", ["a"], ok);
    expect(await world.call("GET", "/v1/invoke/b")).toMatchObject({ status: 404, body: { title: "Unknown task" } });
  });

  test("a name that is none, by its place in the path", async () => {
    expect(await world.call("GET", "/v1/invoke/%00/x")).toMatchObject({
      status: 422,
      body: { title: "Invalid task name", errors: [{ pointer: "/task" }] },
    });
  });

  test("a WebSocket; an offer of HTTP/2 is no such thing", async () => {
    await cluster("paris", ["a"], ok);
    const upgrade = (protocol: string) =>
      world.call("GET", "/v1/invoke/a", undefined, undefined, { connection: "upgrade", upgrade: protocol });
    expect(await upgrade("WebSocket")).toMatchObject({ status: 501, body: { title: "No WebSockets" } });
    expect(await upgrade("h2c")).toMatchObject({ status: 200 });
  });

  test("forged continuation", async () => {
    await cluster("paris", ["a"], ok);
    const answer = await world.call("GET", "/v1/invoke/a", undefined, undefined, {
      "forechain-continuation": "eyJ9.AAAA",
    });
    expect(answer).toMatchObject({ status: 400, body: { title: "Invalid continuation" } });
  });

  test("declared, but no VM has it: 503 with a reason per cluster", async () => {
    await cluster("paris", ["a"], ok);
    await world.call("PUT", "/v1/tasks/b", {});
    const answer = await world.call("GET", "/v1/invoke/b");
    expect(answer).toMatchObject({
      status: 503,
      body: {
        refused: [{ cluster: "paris", reason: "vm: its agent does not have the task" }],
        retryAfterMs: expect.any(Number),
      },
    });
    expect(Number(answer.headers.get("retry-after"))).toBeGreaterThan(0);
  });

  test("the task's time is over", async () => {
    await cluster(
      "paris",
      ["a"],
      (request) =>
        new Promise((_, reject) => request.signal.addEventListener("abort", () => reject(request.signal.reason))),
    );
    await world.call("PUT", "/v1/tasks/a", { timeoutMs: 50 });
    expect(await world.call("GET", "/v1/invoke/a")).toMatchObject({ status: 504, body: { title: "Task timed out" } });
  });
});

test("a caller who leaves takes the call along", async () => {
  // A flag, no promise: what goes on in the context of a cancelled request, be it this test, cannot speak to anybody any more.
  let left = false;
  await cluster(
    "paris",
    ["a"],
    (request) =>
      new Promise((_, reject) => {
        request.signal.addEventListener("abort", () => {
          left = true;
          reject(request.signal.reason);
        });
      }),
  );
  const caller = new AbortController();
  const { exports } = await import("cloudflare:workers");
  const call = (exports as unknown as { default: Fetcher }).default.fetch("https://forechain.test/v1/invoke/a", {
    headers: { authorization: `Bearer ${world.admin}` },
    signal: caller.signal,
  });
  call.catch(() => undefined);
  await vi.waitFor(() => expect(seen).toHaveLength(1));
  caller.abort();
  await vi.waitFor(() => expect(left).toBe(true));
});

describe("another VM is tried", () => {
  const both = async (first: Agent, second: Agent) => {
    let calls = 0;
    const inTurn: Agent = (request) => (calls++ === 0 ? first(request) : second(request));
    await cluster("paris", ["a"], inTurn);
    await cluster("rome", ["a"], inTurn);
  };
  const stopping: Agent = () => new Response("{}", { status: 503 });

  test("when the agent says that it did not begin, with the same body", async () => {
    await both(stopping, ok);
    expect(await world.call("POST", "/v1/invoke/a", { x: 1 })).toMatchObject({ status: 200, body: 'POST {"x":1}' });
    expect(seen).toHaveLength(2);
    expect(contextOf(seen[1]!).executionId).toBe(contextOf(seen[0]!).executionId);
  });

  test("not when the task itself answered with an error", async () => {
    await both(() => new Response("task's own", { status: 503, headers: { [COLD_START_HEADER]: "0" } }), ok);
    expect(await world.call("POST", "/v1/invoke/a", {})).toMatchObject({ status: 503, body: "task's own" });
    expect(seen).toHaveLength(1);
  });

  test("at once where an agent was replaced and has another address than the view, which is up to a second old", async () => {
    await world.call("PUT", "/v1/clusters/paris", { approvedHosts: ["*.agents.test"] });
    agents["one.agents.test"] = ok;
    await world.heartbeat("paris", "vm", ["a"], { url: "http://one.agents.test" });
    expect(await world.call("POST", "/v1/invoke/a", { x: 1 })).toMatchObject({ status: 200 });
    agents = { "one.agents.test": stopping, "two.agents.test": ok };
    await world.heartbeat("paris", "vm", ["a"], { url: "http://two.agents.test", instanceId: "second" });
    expect(await world.call("POST", "/v1/invoke/a", { x: 2 })).toMatchObject({ status: 200, body: 'POST {"x":2}' });
    expect(seen.map(({ url }) => new URL(url).hostname.slice(0, 3))).toEqual(["one", "one", "two"]);
  });

  test.each([
    ["under another URL", "two"],
    ["where it was", "one"],
  ])("at once where an agent died, a call came, and then its successor joined %s", async (_, place) => {
    // A name of its own: that a URL was not reached is remembered for some seconds.
    const urlOf = (name: string) => `http://${name}.${world.workspace}.agents.test`;
    const join = (name: string, instanceId: string) =>
      world.heartbeat("paris", "vm", ["a"], { url: urlOf(name), instanceId });
    let nowMs = Date.now();
    vi.spyOn(Date, "now").mockImplementation(() => nowMs);
    await world.call("PUT", "/v1/clusters/paris", { approvedHosts: ["*.agents.test"] });
    agents[new URL(urlOf("one")).hostname] = ok;
    await join("one", "first");
    expect(await world.call("GET", "/v1/invoke/a")).toMatchObject({ status: 200 });
    agents = {};
    const { Fleet } = await import("../../src/edge/fleet.ts");
    const asked = vi.spyOn(Fleet.prototype, "view");
    for (let call = 0; call < 5; call++) {
      expect(await world.call("GET", "/v1/invoke/a")).toMatchObject({ status: 503 });
      nowMs += 10;
    }
    // By the call that found it dead; those after it within a moment do not ask.
    expect(asked).toHaveBeenCalledTimes(1);
    nowMs += 200;
    agents[new URL(urlOf(place)).hostname] = ok;
    await join(place, "second");
    seen = [];
    expect(await world.call("GET", "/v1/invoke/a")).toMatchObject({ status: 200 });
    expect(seen.map(({ url }) => new URL(url).hostname.slice(0, 3))).toEqual([place]);
  });

  test("not when there is none", async () => {
    await cluster("paris", ["a"], stopping);
    expect(await world.call("POST", "/v1/invoke/a", {})).toMatchObject({
      status: 503,
      body: { title: "No VM reachable" },
    });
    expect(seen).toHaveLength(1);
  });
});

test("a hub that is down costs the reservation, not the call", async () => {
  await cluster("paris", ["a"], ok);
  const { ClusterHub } = await import("../../src/edge/cluster-hub.ts");
  const admit = vi.spyOn(ClusterHub.prototype, "admit").mockRejectedValue(new Error("down"));
  expect(await world.call("GET", "/v1/invoke/a")).toMatchObject({ status: 200 });
  expect(admit).toHaveBeenCalled();
});

test("capacity held for runs to come does not refuse a call that is here", async () => {
  await cluster("paris", ["a"], ok);
  const held = { memoryBytes: 4 * GIB, cpuCores: 0, expiresMs: Date.now() + 60_000 };
  const offer = offerOf([], { vm: "vm", reservation: held });
  expect(await world.hub("paris").admit(world.workspace, offer)).toMatchObject({ ok: true });
  expect(await world.call("GET", "/v1/invoke/a")).toMatchObject({ status: 200 });
  expect(await world.call("POST", "/v1/allocations", { task: "a", runId: "r" })).toMatchObject({ status: 503 });
});

test("memory of idle runtimes is free for a chain: they end for its starts", async () => {
  await cluster("paris", ["a"], ok);
  const full = { cpu: 0, memoryBytes: 4 * GIB, executions: 0 };
  const allocate = async (runId: string, load: object, instanceId: string) => {
    await world.heartbeat("paris", "vm", ["a"], { instanceId, load: { ...full, ...load } });
    return world.call("POST", "/v1/allocations", { task: "a", runId });
  };
  expect(await allocate("r1", {}, "second")).toMatchObject({
    status: 503,
    body: { refused: [{ cluster: "paris", reason: expect.stringContaining("memory") }] },
  });
  forgetFleetView(world.workspace);
  expect(await allocate("r2", { idleMemoryBytes: GIB }, "third")).toMatchObject({ status: 200 });
});

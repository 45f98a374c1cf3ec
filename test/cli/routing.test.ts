// /v1/invoke as a router, with real processes from the caller to the task: a worker, an agent that it reaches by URL, and one that it reaches
// through its hub's queue. What a task is sent and what a caller gets; streams; and agents that die or are replaced at work.
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { request as httpRequest } from "node:http";
import { join } from "node:path";
import { Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Gate } from "../agent/gate.ts";
import { Place, WITHIN_MS } from "./place.ts";
import { HAS_PROC, type Started, waitFor } from "./processes.ts";

/** More than all socket buffers from the task to the caller hold: the kernel lets each grow to tens of MB. */
const MUCH_BYTES = 2 ** 31;

const PROGRAM = `
import { createServer } from "node:http";
import { createHash, randomBytes } from "node:crypto";
import { renameSync, writeFileSync } from "node:fs";
createServer(async (request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://task");
  switch (pathname) {
    case "/healthz":
      return response.end("ready");
    case "/status":
      response.statusCode = Number(searchParams.get("code"));
      response.setHeader("etag", '"v1"');
      return response.end();
    case "/headers":
      response.setHeader("set-cookie", ["a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT", "b=2"]);
      response.setHeader("connection", "x-hop");
      response.setHeader("x-hop", "1");
      response.setHeader("x-kept", "2");
      return response.end("headers");
    case "/events":
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write("data: first\\n\\n");
      await fetch(searchParams.get("gate"));
      return response.end("data: last\\n\\n");
    case "/much": {
      // At random: what lies between may pack it.
      const piece = randomBytes(65_536);
      let sentBytes = 0;
      const tell = (hasLeft) => {
        writeFileSync("told.new", JSON.stringify({ sentBytes, hasLeft }));
        renameSync("told.new", "told.json");
      };
      response.on("close", () => tell(!response.writableFinished));
      const more = () => {
        while (!response.destroyed && sentBytes < ${MUCH_BYTES}) {
          sentBytes += piece.length;
          if (response.write(piece)) continue;
          tell(false);
          return response.once("drain", more);
        }
        response.end();
      };
      return more();
    }
    case "/digest": {
      const hash = createHash("sha256");
      let bytes = 0;
      for await (const piece of request) {
        bytes += piece.length;
        hash.update(piece);
      }
      return response.end(JSON.stringify({ bytes, digest: hash.digest("hex") }));
    }
    case "/wait":
      await fetch(searchParams.get("gate"));
      return response.end("waited");
    case "/break":
      response.writeHead(200, { "content-length": 100 });
      response.write("begun");
      return setTimeout(() => response.destroy(), 50);
  }
  let body = "";
  for await (const piece of request) body += piece;
  response.end(JSON.stringify({ method: request.method, url: request.url, headers: request.headers, body }));
}).listen(Number(process.env.PORT), "127.0.0.1");
`;

const place = new Place();
const agents: Record<string, Started> = {};

function startAgent(vm: string, task: string, name = vm): Promise<Started> {
  const tasks = {
    [task]: { driver: "process", command: ["node", "task.mjs"], cwd: place.folder, readyPath: "/healthz" },
  };
  return place.agent(vm, vm === "reached" ? { tasks, announceUrl: "auto" } : { tasks }, name);
}

function invoke(path: string, init: RequestInit & { duplex?: "half" } = {}): Promise<Response> {
  const headers = { ...(init.headers as Record<string, string>), authorization: `Bearer ${place.admin}` };
  return fetch(`${place.url}/v1/invoke/${path}`, { ...init, headers, redirect: "manual" });
}

/** As no `fetch` would send it. */
function sent(path: string, headers: Record<string, string>): Promise<number> {
  return new Promise((resolve, reject) => {
    const all = { ...headers, authorization: `Bearer ${place.admin}` };
    const request = httpRequest(`${place.url}/v1/invoke/${path}`, { headers: all }, (response) => {
      response.resume();
      resolve(response.statusCode!);
    });
    request.on("error", reject);
    request.end();
  });
}

/** By the task's own word, which it leaves in its folder: another call would reach another runtime. */
function told(): { sentBytes: number; hasLeft: boolean } {
  return JSON.parse(readFileSync(join(place.folder, "told.json"), "utf8"));
}

describe.skipIf(!HAS_PROC)(`a call through worker and agent${HAS_PROC ? "" : " (skipped: no /proc)"}`, () => {
  beforeAll(async () => {
    writeFileSync(join(place.folder, "task.mjs"), PROGRAM);
    await place.start();
    [agents.reached, agents.queued] = await Promise.all([
      startAgent("reached", "direct"),
      startAgent("queued", "by command"),
    ]);
  }, WITHIN_MS);
  afterAll(() => place.stop(), WITHIN_MS);

  describe.each(["direct", "by%20command"])("of task %s", (task) => {
    it.each(["GET", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"])(
      "%s keeps path, query and body",
      async (method) => {
        const body = method === "GET" ? {} : { body: "grün" };
        const answer = await invoke(`${task}/a%2Fb/%C3%BC/c?x=1&x=2&y=%26+`, { method, ...body });
        expect(answer.status).toBe(200);
        expect(await answer.json()).toMatchObject({
          method,
          url: "/a%2Fb/%C3%BC/c?x=1&x=2&y=%26+",
          body: body.body ?? "",
        });
      },
    );

    it("HEAD has the headers and no body", async () => {
      const answer = await invoke(`${task}/headers`, { method: "HEAD" });
      expect([answer.status, answer.headers.get("x-kept"), await answer.text()]).toEqual([200, "2", ""]);
    });

    it("the caller's headers and trace are the task's, secrets and ours are not", async () => {
      const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
      const own = { traceparent, tracestate: "a=b", baggage: "k=v", cookie: "c=1" };
      const answer = await invoke(`${task}/x`, { headers: { ...own, "x-own": "1", "forechain-signature": "mine" } });
      const { headers } = (await answer.json()) as { headers: Record<string, string> };
      expect(headers).toMatchObject({ ...own, "x-own": "1" });
      expect(headers["forechain-continuation"]).toBe(answer.headers.get("forechain-continuation"));
      for (const name of ["authorization", "forechain-signature", "forechain-context"])
        expect(headers[name]).toBeUndefined();
    });

    it("every cookie comes, headers of the connection do not", async () => {
      const { headers } = await invoke(`${task}/headers`);
      expect(headers.getSetCookie()).toEqual(["a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT", "b=2"]);
      expect([headers.get("x-kept"), headers.get("x-hop")]).toEqual(["2", null]);
      expect(headers.get("forechain-cluster")).toBe("here");
    });

    it.each([201, 204, 304, 302, 404, 418, 500, 503])("status %d is the task's own", async (code) => {
      const answer = await invoke(`${task}/status?code=${code}`);
      expect([answer.status, answer.headers.get("etag"), await answer.text()]).toEqual([code, '"v1"', ""]);
    });

    it("an answer that breaks off costs that call only", async () => {
      const broken = invoke(`${task}/break`).then(async (answer) => [answer.status, await answer.text()]);
      if (task === "direct") await expect(broken).rejects.toThrow();
      else expect(await broken).toEqual([502, expect.stringContaining("broke off after 5 bytes")]);
      expect((await invoke(`${task}/x`)).status).toBe(200);
    });
  });

  it("a stream comes as it is made", async () => {
    const gate = await Gate.start();
    const answer = await invoke(`direct/events?gate=${encodeURIComponent(gate.url)}`);
    const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
    expect((await reader.read()).value).toBe("data: first\n\n");
    gate.open();
    expect((await reader.read()).value).toBe("data: last\n\n");
    expect((await reader.read()).done).toBe(true);
  });

  it("a task waits for a caller who reads slowly, and hears of one who leaves", { timeout: WITHIN_MS }, async () => {
    const leaves = new AbortController();
    const answer = await invoke("direct/much", { signal: leaves.signal });
    const reader = answer.body!.getReader();
    await reader.read();
    let sentBytes = -1;
    // Until it stands still: what lies between is full.
    for (let now = told(); now.sentBytes > sentBytes; now = told()) {
      sentBytes = now.sentBytes;
      await delay(500);
    }
    expect(sentBytes).toBeLessThan(MUCH_BYTES / 2);
    leaves.abort();
    await waitFor("the task hears of it", WITHIN_MS, () => told().hasLeft);
  });

  it("100 MB arrive whole", { timeout: WITHIN_MS }, async () => {
    const piece = Buffer.alloc(100_000, "forechain");
    const hash = createHash("sha256");
    for (let at = 0; at < 1_000; at++) hash.update(piece);
    const pieces = Readable.from(Array.from({ length: 1_000 }, () => piece));
    const body = Readable.toWeb(pieces) as unknown as NonNullable<RequestInit["body"]>;
    const answer = await invoke("direct/digest", { method: "POST", body, duplex: "half" });
    expect(await answer.json()).toEqual({ bytes: 100_000_000, digest: hash.digest("hex") });
  });

  it("a large body waits for its 100 Continue, a WebSocket is refused", async () => {
    expect(await sent("direct/digest", { expect: "100-continue" })).toBe(200);
    const upgrade = { connection: "Upgrade", upgrade: "websocket", "sec-websocket-version": "13" };
    expect(await sent("direct/x", { ...upgrade, "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==" })).toBe(501);
  });

  it("through a dead agent is told so as soon as there is another, and runs once", { timeout: WITHIN_MS }, async () => {
    const gate = await Gate.start();
    const call = invoke(`by%20command/wait?gate=${encodeURIComponent(gate.url)}`);
    await gate.untilHeld(1);
    process.kill(agents.queued!.pid, "SIGKILL");
    await agents.queued!.exited;
    agents.queued = await startAgent("queued", "by command");
    const answer = await call;
    expect(answer.status).toBe(502);
    expect(await answer.text()).toContain("may or may not have run");
    expect(gate.held).toBe(1);
    expect((await invoke("by%20command/x")).status).toBe(200);
  });

  it("that a dead agent never had runs on another VM, once", { timeout: WITHIN_MS }, async () => {
    const gate = await Gate.start();
    agents.queued!.signal("SIGKILL");
    await agents.queued!.exited;
    // Nobody has noticed yet.
    const call = invoke(`by%20command/wait?gate=${encodeURIComponent(gate.url)}`);
    await startAgent("other", "by command");
    await gate.untilHeld(1);
    gate.open();
    const answer = await call;
    expect([answer.status, await answer.text(), gate.asked]).toEqual([200, "waited", 1]);
    agents.queued = await startAgent("queued", "by command");
    const commands = JSON.parse((await place.call("GET", "/v1/clusters/here/commands")).text);
    expect(commands).toMatchObject({ states: { cancelled: 1 } });
    expect(commands.states.queued).toBeUndefined();
  });

  it("goes to the newer of two agents of one VM; the older one ends, with code 3", { timeout: WITHIN_MS }, async () => {
    await startAgent("reached", "direct", "reached-again");
    expect(await agents.reached!.exited).toBe(3);
    await waitFor("it says why", WITHIN_MS, () =>
      agents.reached!.stderr().includes("another agent speaks for this VM"),
    );
    // The worker's view of the fleet may be a second old: it is read anew when nobody is at the older one's address.
    expect((await invoke("direct/x")).status).toBe(200);
  });
});

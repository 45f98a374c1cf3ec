// Driver `http`, and probes of services: endpoints that are somebody else's.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, it, onTestFinished } from "vitest";
import { Probes } from "../../src/agent/probes.ts";
import { startTestAgent } from "./start.ts";

async function serve(handler: (request: IncomingMessage, response: ServerResponse) => void): Promise<string> {
  const server: Server = createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

describe("driver http", () => {
  it("an endpoint is warmed, called below its path, and kept warm", async () => {
    const asked: string[] = [];
    let pinged = () => {};
    const secondPing = new Promise<void>((resolve) => {
      pinged = resolve;
    });
    const host = await serve((request, response) => {
      asked.push(request.url!);
      if (asked.filter((path) => path === "/fn/ready").length >= 3) pinged();
      response.end(`answer to ${request.method} ${request.url}`);
    });
    const agent = await startTestAgent({
      tasks: { remote: { driver: "http", endpoint: `http://${host}/fn/`, readyPath: "/ready", pingEveryMs: 1_000 } },
    });
    const { hub } = agent;
    expect((await hub.result(hub.send({ kind: "warm", task: "remote" }))).state).toBe("done");
    expect(asked).toEqual(["/fn/ready"]);
    const answer = await agent.invoke("remote", "e1", "/a?b=1", { method: "POST", body: "x" });
    expect(await answer.text()).toBe("answer to POST /fn/a?b=1");
    const record = await hub.execution("e1");
    expect(record).toMatchObject({ status: "ok", coldStartMs: 0 });
    expect(record.cpuMs).toBeUndefined();
    expect(record.memoryBytes).toBeUndefined();
    await secondPing;
  });
});

describe("probes", () => {
  const nowMs = () => performance.now();

  it("measure latency and bandwidth, and smooth them", async () => {
    let pauseMs = 0;
    const host = await serve((_request, response) => {
      setTimeout(() => response.end(Buffer.alloc(512 * 1024)), pauseMs);
    });
    const services = () => [{ service: "store", probeUrl: `http://${host}/` }];
    const probes = new Probes({ everyMs: 1_000, hosts: [host], services, nowMs });
    onTestFinished(() => probes.stop());
    await probes.round();
    const [first] = probes.list();
    expect(first!.latencyMs).toBeLessThan(60);
    expect(first!.bandwidthBytesPerSecond).toBeGreaterThan(2 ** 20);
    pauseMs = 200;
    await probes.round();
    const [second] = probes.list();
    expect(second!.latencyMs).toBeGreaterThan(0.25 * 200);
    expect(second!.latencyMs).toBeLessThan(0.7 * 200);
  });

  it("go to no loopback that is not listed, nor to link-local; an unreachable service keeps its last measurement", async () => {
    let asked = 0;
    const host = await serve((_request, response) => {
      asked++;
      response.end("ok");
    });
    let probeUrl = `http://${host}/`;
    const services = () => [
      { service: "moving", probeUrl },
      { service: "metadata", probeUrl: "http://169.254.169.254/latest" },
    ];
    const unlisted = new Probes({ everyMs: 1_000, hosts: [], services, nowMs });
    await unlisted.round();
    expect(asked).toBe(0);
    expect(unlisted.list()).toEqual([]);
    const listed = new Probes({ everyMs: 1_000, hosts: [host], services, nowMs });
    onTestFinished(() => listed.stop());
    await listed.round();
    const before = listed.list();
    expect(before.map(({ service }) => service)).toEqual(["moving"]);
    probeUrl = "http://127.0.0.1:1/";
    await listed.round();
    expect(listed.list()).toEqual(before);
  });

  it("are told in heartbeats", async () => {
    const host = await serve((_request, response) => response.end("ok"));
    const { TestHub } = await import("./hub.ts");
    const hub = await TestHub.start();
    onTestFinished(() => hub.stop());
    hub.answer = { services: [{ service: "db", probeUrl: `http://${host}/` }] };
    await startTestAgent({ hub, config: { probes: { everyMs: 200, hosts: [host] } } });
    const beat = await hub.until(() => hub.heartbeats.find(({ probes }) => probes?.length === 1));
    expect(beat.probes![0]).toMatchObject({ service: "db" });
    expect(hub.malformed).toEqual([]);
  });
});

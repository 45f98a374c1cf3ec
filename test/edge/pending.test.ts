// Nothing suitable: the request waits and is filled when capacity appears; the operator's webhook hears of what is missing.
import { runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { GIB, heartbeatOf, newWorld, testEnv, type World } from "./world.ts";

const HOOK = "https://scaler.test/hook";
let world: World;
let received: { url: string; headers: Headers; body: string }[];
let hookStatus: number;

beforeEach(async () => {
  world = await newWorld();
  received = [];
  hookStatus = 204;
  vi.spyOn(globalThis, "fetch").mockImplementation(async (input, init) => {
    const request = new Request(input as RequestInfo, init as RequestInit);
    received.push({ url: request.url, headers: request.headers, body: await request.text() });
    return new Response(null, { status: hookStatus });
  });
  await world.call("PUT", "/v1/tasks/a", { memoryBytes: GIB });
});
afterEach(() => vi.restoreAllMocks());

const allocate = (runId = "run") => world.call("POST", "/v1/allocations", { task: "a", runId });
const tell = (id: string, waitMs = 0) => world.call("GET", `/v1/allocations/${id}?waitMs=${waitMs}`);
const fleet = () => testEnv.FLEET.getByName(world.workspace);
/** What time alone would do: everything in a table of Fleet becomes due. */
async function due(statement: string): Promise<void> {
  await runInDurableObject(fleet(), async (_, { storage }) => {
    storage.sql.exec(statement);
    await storage.setAlarm(Date.now());
  });
  await runDurableObjectAlarm(fleet());
}

describe("a pending allocation", () => {
  test("is told, waits, and is filled when a VM joins", async () => {
    const refused = await allocate();
    expect(refused).toMatchObject({
      status: 503,
      body: { title: "No suitable cluster", retryAfterMs: expect.any(Number) },
    });
    const { allocationId } = refused.body;
    expect(await tell(allocationId)).toMatchObject({
      status: 200,
      body: { state: "pending", task: "a", runId: "run" },
    });
    const waiting = tell(allocationId, 10_000);
    await world.heartbeat("paris", "vm-1", ["a"]);
    expect(await waiting).toMatchObject({
      status: 200,
      body: {
        state: "allocated",
        allocationId,
        cluster: "paris",
        vm: "vm-1",
        continuation: expect.stringContaining("."),
      },
    });
    const listed = await world.call("GET", "/v1/allocations");
    expect(listed.body.allocations).toMatchObject([{ allocationId, state: "allocated" }]);
  });

  test("is filled when a reservation frees the room", async () => {
    await world.heartbeat("paris", "vm-1", ["a"], { capacity: { ...heartbeatOf([]).capacity, memoryBytes: GIB } });
    expect((await allocate("first")).status).toBe(200);
    const { allocationId } = (await allocate("second")).body;
    const waiting = tell(allocationId, 10_000);
    await world.hub("paris").release([{ runId: "first", over: true }]);
    expect(await waiting).toMatchObject({ body: { state: "allocated", runId: "second" } });
  });

  test("expires", async () => {
    const { allocationId } = (await allocate()).body;
    await due("UPDATE pending SET until_ms = 1");
    expect(await tell(allocationId)).toMatchObject({ body: { state: "expired" } });
    await world.heartbeat("paris", "vm-1", ["a"]);
    expect(await tell(allocationId)).toMatchObject({ body: { state: "expired" } });
  });

  test("is not made by a dry run, and is another workspace's not", async () => {
    const dry = await world.call("POST", "/v1/allocations", { task: "a", runId: "r", dryRun: true });
    expect(dry.status).toBe(503);
    expect(dry.body).toMatchObject({ retryAfterMs: expect.any(Number), refused: expect.any(Array) });
    expect(dry.body.allocationId).toBeUndefined();
    expect((await world.call("GET", "/v1/allocations")).body.allocations).toEqual([]);
    const { allocationId } = (await allocate()).body;
    expect((await (await newWorld()).call("GET", `/v1/allocations/${allocationId}`)).status).toBe(404);
  });
});

describe("the scale-out event", () => {
  beforeEach(() => world.call("PUT", "/v1/policy", { mode: "active", webhookUrl: HOOK }));

  test("is a CloudEvent, signed so that its receiver can check it", async () => {
    const { allocationId } = (await allocate()).body;
    await due("UPDATE deliveries SET next_ms = 1");
    expect(received).toHaveLength(1);
    const [request] = received;
    expect(request!.url).toBe(HOOK);
    expect(request!.headers.get("content-type")).toContain("application/cloudevents+json");
    const body = request!.body;
    expect(JSON.parse(body)).toMatchObject({
      specversion: "1.0",
      type: "dev.forechain.scale-out",
      subject: "a",
      data: { allocationId, task: "a", runId: "run", pending: 1, demand: { peakMemoryBytes: GIB } },
    });
    const { secret } = (await world.call("GET", "/v1/policy/webhook-secret")).body;
    const bytes = Uint8Array.from(atob(secret.slice("whsec_".length)), (character) => character.charCodeAt(0));
    const key = await crypto.subtle.importKey("raw", bytes, { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
    const signature = request!.headers.get("webhook-signature")!.slice("v1,".length);
    const signed = `${request!.headers.get("webhook-id")}.${request!.headers.get("webhook-timestamp")}.${body}`;
    const given = Uint8Array.from(atob(signature), (character) => character.charCodeAt(0));
    expect(await crypto.subtle.verify("HMAC", key, given, new TextEncoder().encode(signed))).toBe(true);
  });

  test("is tried again with the same id until it is taken, and not for ever", async () => {
    hookStatus = 500;
    await allocate();
    for (let attempt = 0; attempt < 8; attempt++) await due("UPDATE deliveries SET next_ms = 1");
    expect(received).toHaveLength(6);
    expect(new Set(received.map((request) => request.headers.get("webhook-id"))).size).toBe(1);
  });

  test("is not sent for each of many requests", async () => {
    for (let i = 0; i < 5; i++) await allocate(`run-${i}`);
    await due("UPDATE deliveries SET next_ms = 1");
    expect(received).toHaveLength(1);
  });

  test("comes of refused calls too", async () => {
    expect((await world.call("GET", "/v1/invoke/a")).status).toBe(503);
    await vi.waitFor(async () => {
      await due("UPDATE deliveries SET next_ms = 1");
      expect(received).toHaveLength(1);
    });
  });
});

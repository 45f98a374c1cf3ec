// Which runtime a call or a command gets, what is refused, and what is told of a command's hold when it is used or over. Runtimes are servers in
// this process; the clock is ours.
import { createServer } from "node:http";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { HubClock } from "../../src/agent/clock.ts";
import type { Driver } from "../../src/agent/drivers/driver.ts";
import type { ObjectStore } from "../../src/agent/object-store.ts";
import { Prepared } from "../../src/agent/prepared.ts";
import type { Runtime } from "../../src/agent/runtime.ts";
import { RuntimePool } from "../../src/agent/runtimes.ts";
import type { PreparedEnd, PreparedUse } from "../../src/protocol.ts";

const MIB = 2 ** 20;
const KEEP_ALIVE_MS = 60_000;
const never = new AbortController().signal;
const USER = { runId: "r", executionId: "e" };

let nowMs: number;
let pool: RuntimePool;
let prepared: Prepared;
let uses: PreparedUse[];
let ends: PreparedEnd[];
let dropped: string[];
/** So many of the next starts end at once. */
let failing: number;
/** Programs are spawned when this is over. */
let holdStart: Promise<void>;

beforeEach(() => {
  nowMs = 1_000_000;
  [uses, ends, dropped, failing] = [[], [], [], 0];
  holdStart = Promise.resolve();
  const clock = { localMs: () => nowMs, toHubMs: (ms: number) => ms } as unknown as HubClock;
  const store = { dropHold: (uri: string) => void dropped.push(uri) } as unknown as ObjectStore;
  prepared = new Prepared(clock, store, { use: (use) => uses.push(use), end: (end) => ends.push(end), miss: () => {} });
  pool = new RuntimePool({
    tasks: Object.fromEntries(["a", "b", "c"].map((task) => [task, config()])),
    drivers: new Map(["a", "b", "c"].map((task) => [task, server()])),
    memoryBytes: 250 * MIB,
    warmConcurrency: 4,
    objectsUrl: () => "",
    keepAliveMs: () => KEEP_ALIVE_MS,
    onIdle: () => undefined,
    loadObjects: async () => ({ ok: true }),
    unpackCode: async () => ({ ok: true, folder: null }),
    fetched: () => ({ ms: 0, bytes: 0 }),
    onClaim: () => {},
    onEnd: (runtime, reason) => prepared.endedRuntime(runtime, reason),
    nowMs: () => nowMs,
  });
});
afterEach(() => pool.stop());

/** Two instances of 100 MiB each at most; the VM has room for two in all. */
function config() {
  const fields = { driver: "http", memoryBytes: 100 * MIB, maxInstances: 2, keepAliveMs: KEEP_ALIVE_MS };
  const task = { ...fields, startTimeoutMs: 10_000, readyPath: "/" };
  return task as unknown as ConstructorParameters<typeof RuntimePool>[0]["tasks"][string];
}

function server(): Driver {
  return {
    async start({ port }) {
      const isFailing = failing-- > 0;
      await holdStart;
      const listening = createServer((_request, response) => response.end());
      if (!isFailing) await new Promise<void>((resolve) => listening.listen(port, "127.0.0.1", resolve));
      const exited = isFailing
        ? Promise.resolve({ code: 1, lastLines: "no luck" })
        : new Promise<never>(() => undefined);
      const stop = async () => {
        listening.closeAllConnections();
        listening.close();
      };
      const place = { secure: false, host: "127.0.0.1", port, basePath: "" };
      return { ...place, exited, usage: () => null, resetPeak() {}, stop };
    },
  };
}

async function acquired(task: string): Promise<Runtime> {
  const answer = await pool.acquire(task, never);
  if (!answer.ok) throw new Error(answer.detail);
  return answer.runtime;
}
const prewarm = (task: string, commandId: string, forMs: number) =>
  pool.prewarm(task, { commandId, probability: 0.9, untilMs: nowMs + forMs, deadlineMs: nowMs });

describe("a call", () => {
  it("takes the held runtime whose hold ends first, before one that nobody holds", async () => {
    const [first, second] = [await acquired("a"), await acquired("a")];
    for (const runtime of [first, second]) pool.release(runtime, true);
    await prewarm("a", "long", 50_000);
    await prewarm("a", "short", 40_000);
    expect((await acquired("a")).hold).toMatchObject({ commandId: "short" });
    expect((await acquired("a")).hold).toMatchObject({ commandId: "long" });
  });

  it("waits its turn where all instances are in use: who came first is first", async () => {
    const busy = [await acquired("a"), await acquired("a")];
    const order: string[] = [];
    const waiting = ["first", "second"].map((name) => acquired("a").then(() => order.push(name)));
    for (const runtime of busy) {
      pool.release(runtime, true);
      await Promise.race(waiting);
    }
    await Promise.all(waiting);
    expect(order).toEqual(["first", "second"]);
  });

  it("that waits for room starts when another task's runtime is gone", async () => {
    const busy = await acquired("a");
    await acquired("b");
    const waiting = pool.acquire("c", never);
    pool.release(busy, false);
    expect(await waiting).toMatchObject({ ok: true, how: "cold", runtime: { task: "c" } });
  });

  it("does not fail because the start that a command had begun for it does: it starts one of its own", async () => {
    failing = 1;
    let spawn = () => {};
    holdStart = new Promise((resolve) => {
      spawn = resolve;
    });
    const warming = prewarm("a", "command", 10_000);
    await vi.waitFor(() => expect(pool.totals.starts).toBe(1));
    const call = pool.acquire("a", never);
    spawn();
    expect(await call).toMatchObject({ ok: true, how: "cold" });
    expect(pool.totals).toMatchObject({ starts: 2, startFailures: 1 });
    expect(await warming).toMatchObject({ ok: false, detail: expect.stringContaining("no luck") });
  });

  it("fails with its program's last words where its own start does", async () => {
    failing = 1;
    const answer = await pool.acquire("a", never);
    expect(answer).toMatchObject({ ok: false, detail: expect.stringContaining("no luck") });
  });

  it("of a task that is larger than the VM runs where it is alone", async () => {
    const runtime = await acquired("a");
    pool.measured(runtime, 300 * MIB);
    expect(pool.memoryUsedBytes()).toBe(300 * MIB);
    expect(await prewarm("b", "command", 10_000)).toMatchObject({ ok: false, reason: "no_memory" });
    await pool.end(runtime, "crashed");
    expect(await pool.acquire("a", never)).toMatchObject({ ok: true });
  });
});

describe("a command", () => {
  it("is refused where the task has all its instances", async () => {
    for (let i = 0; i < 2; i++) await acquired("a");
    expect(await prewarm("a", "third", 10_000)).toMatchObject({ ok: false, reason: "no_instance" });
  });

  it("whose hold ends sooner than the keep-alive does not shorten it", async () => {
    pool.release(await acquired("a"), true);
    await prewarm("a", "command", 1_000);
    expect(pool.list()[0]!.expiresMs).toBe(nowMs + KEEP_ALIVE_MS);
  });

  it("has saved nothing where its runtime was alive anyway, and something from then on", async () => {
    for (const [afterMs, savedMs] of [
      [KEEP_ALIVE_MS - 1, 0],
      [KEEP_ALIVE_MS, 400],
    ] as const) {
      const runtime = await acquired("a");
      pool.release(runtime, true);
      runtime.initMs = 400;
      await prewarm("a", "command", 2 * KEEP_ALIVE_MS);
      nowMs += afterMs;
      prepared.usedRuntime(await acquired("a"), USER, 0);
      expect(uses.at(-1)).toMatchObject({ commandId: "command", savedMs, usedMs: nowMs });
      await pool.end(runtime, "crashed");
    }
  });

  it("told once as used, however often its runtime is called", async () => {
    await prewarm("a", "command", 10_000);
    for (let i = 0; i < 2; i++) {
      const runtime = await acquired("a");
      prepared.usedRuntime(runtime, USER, 0);
      pool.release(runtime, true);
    }
    expect(uses).toHaveLength(1);
  });

  it("gives a used hold's place to the next, and its end is told with the time since its use", async () => {
    await prewarm("a", "first", 10_000);
    const runtime = await acquired("a");
    prepared.usedRuntime(runtime, USER, 0);
    nowMs += 5_000;
    pool.release(runtime, true);
    nowMs += 700;
    await prewarm("a", "second", 10_000);
    expect(ends).toMatchObject([{ commandId: "first", used: true, reason: "replaced", heldMs: 700 }]);
    expect(runtime.hold).toMatchObject({ commandId: "second", used: false });
  });

  it("of a runtime that was idle holds it, and costs, only from when it would have ended", async () => {
    const runtime = await acquired("a");
    pool.release(runtime, true);
    await prewarm("a", "command", 100_000);
    nowMs += KEEP_ALIVE_MS + 1_500;
    await pool.end(runtime, "expired");
    expect(ends).toMatchObject([{ commandId: "command", used: false, reason: "expired", heldMs: 1_500 }]);
  });

  it("whose start fails ends nothing: its failure says it", async () => {
    failing = 1;
    expect(await prewarm("a", "command", 10_000)).toMatchObject({ ok: false });
    expect(ends).toEqual([]);
  });
});

describe("an object that a command holds", () => {
  it("evicted: told with its bytes, unless it is still being loaded", () => {
    const ready = prepared.beginObject("ready", "o:1", nowMs + 10_000);
    prepared.readyObject(ready, { bytes: 7, savedMs: 100 });
    prepared.beginObject("loading", "o:1", nowMs + 10_000);
    prepared.evictedObject("o:1");
    expect(ends).toMatchObject([{ commandId: "ready", used: false, reason: "evicted", bytes: 7 }]);
    prepared.stop();
  });

  it("is held for the next command once the first one's task has read it, and no longer when both have", () => {
    const holds = ["first", "second"].map((id) => prepared.beginObject(id, "o:1", nowMs + 10_000));
    for (const hold of holds) prepared.readyObject(hold, { bytes: 7, savedMs: 100 });
    prepared.takeObject(prepared.findObject("o:1")!, nowMs);
    expect(dropped).toEqual([]);
    prepared.takeObject(prepared.findObject("o:1")!, nowMs);
    expect(dropped).toEqual(["o:1"]);
    expect(prepared.findObject("o:1")).toBeNull();
    prepared.stop();
  });
});

// Memory of a VM that is full of idle runtimes: who may take it; and whose turn it is to start ahead. Runtimes are servers in this process; the clock is ours.
import { createServer, type Server } from "node:http";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Driver } from "../../src/agent/drivers/driver.ts";
import { RuntimePool } from "../../src/agent/runtimes.ts";

const MIB = 2 ** 20;
const KEEP_ALIVE_MS = 60_000;
const HOLD_MS = 1_000_000;

let pool: RuntimePool;
let nowMs: number;
let keepAliveMs: number;
let ended: string[];
/** How programs were started, and when they were told to hurry. */
let starts: string[];
/** Programs are spawned when this is over. */
let holdStart: Promise<void>;
const never = new AbortController().signal;

/** Every task needs 100 MiB; the VM has room for two. */
beforeEach(() => {
  nowMs = 1_000_000;
  keepAliveMs = KEEP_ALIVE_MS;
  ended = [];
  starts = [];
  holdStart = Promise.resolve();
  const tasks = ["a", "b", "c", "big"];
  pool = new RuntimePool({
    tasks: Object.fromEntries(tasks.map((task) => [task, configOf(task === "big" ? 220 : 100)])),
    drivers: new Map(tasks.map((task) => [task, inProcess()])),
    memoryBytes: 250 * MIB,
    warmConcurrency: 1,
    objectsUrl: () => "",
    keepAliveMs: () => keepAliveMs,
    onIdle: () => undefined,
    loadObjects: async () => ({ ok: true }),
    unpackCode: async () => ({ ok: true, folder: null }),
    fetched: () => ({ ms: 0, bytes: 0 }),
    onClaim: () => {},
    onEnd: (runtime, reason) => ended.push(`${runtime.task} ${reason}`),
    nowMs: () => nowMs,
  });
});
afterEach(() => pool.stop());

function configOf(mib: number) {
  const config = {
    driver: "http",
    memoryBytes: mib * MIB,
    maxInstances: 8,
    keepAliveMs: KEEP_ALIVE_MS,
    startTimeoutMs: 10_000,
    readyPath: "/",
  };
  return config as unknown as ConstructorParameters<typeof RuntimePool>[0]["tasks"][string];
}

function inProcess(): Driver {
  return {
    async start({ port, ahead }) {
      starts.push(ahead ? "ahead" : "wanted");
      await holdStart;
      const server: Server = createServer((_request, response) => response.end());
      await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
      const stop = async () => {
        server.closeAllConnections();
        server.close();
      };
      const exited = new Promise<never>(() => undefined);
      const hurry = () => void starts.push("hurried");
      return {
        secure: false,
        host: "127.0.0.1",
        port,
        basePath: "",
        exited,
        usage: () => null,
        resetPeak() {},
        hurry,
        stop,
      };
    },
  };
}

/** Called and answered: idle from now on. */
async function used(task: string): Promise<void> {
  const answer = await pool.acquire(task, never);
  if (!answer.ok) throw new Error(answer.detail);
  pool.release(answer.runtime, true);
}

const prewarm = (task: string, deadlineMs = nowMs) =>
  pool.prewarm(task, { commandId: `command ${task}`, probability: 0.9, untilMs: nowMs + HOLD_MS, deadlineMs });

it("a keep-alive of months is not over at once, as a timer of so many ms would be", async () => {
  await used("a");
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  try {
    keepAliveMs = 100 * 86_400_000;
    await used("a");
    vi.advanceTimersByTime(60_000);
    expect(ended).toEqual([]);
    nowMs += keepAliveMs;
    vi.advanceTimersByTime(2 ** 31);
    expect(ended).toEqual(["a expired"]);
  } finally {
    vi.useRealTimers();
  }
});

describe("on the VM's cores", () => {
  it("a user's call starts like any program, a command's steps back until it is ready", async () => {
    await used("a");
    expect(starts).toEqual(["wanted"]);
    starts.length = 0;
    expect(await prewarm("b")).toMatchObject({ ok: true, started: true });
    expect(starts).toEqual(["ahead", "hurried"]);
  });

  it("what is claimed while it starts comes forward at once", async () => {
    let begin = () => {};
    holdStart = new Promise((resolve) => {
      begin = resolve;
    });
    const warming = prewarm("b");
    await expect.poll(() => starts).toEqual(["ahead"]);
    const called = pool.acquire("b", never);
    begin();
    expect(await called).toMatchObject({ ok: true, how: "late" });
    // By the claim, which came before there was a program, and once more when it was ready.
    expect(starts).toEqual(["ahead", "hurried", "hurried"]);
    await warming;
  });
});

describe("a command finds the memory taken by idle runtimes", () => {
  beforeEach(async () => {
    await used("a");
    nowMs += 1_000;
    await used("b");
  });

  it("that may still be used: it is refused", async () => {
    nowMs += KEEP_ALIVE_MS / 2 - 1_001;
    expect(await prewarm("c")).toMatchObject({ ok: false, reason: "no_memory" });
    expect(ended).toEqual([]);
  });

  it("of which one has been idle for half of its keep-alive: that one ends", async () => {
    nowMs += KEEP_ALIVE_MS / 2 - 1_000;
    expect(await prewarm("c")).toMatchObject({ ok: true, started: true });
    expect(ended).toEqual(["a evicted"]);
  });

  it("that are too little all together: none ends in vain", async () => {
    expect(await pool.acquire("a", never)).toMatchObject({ ok: true, how: "warm" });
    nowMs += KEEP_ALIVE_MS;
    expect(await prewarm("big")).toMatchObject({ ok: false, reason: "no_memory" });
    expect(ended).toEqual([]);
  });

  it("that another command holds: it is refused, however long they wait", async () => {
    await prewarm("a");
    await prewarm("b");
    nowMs += HOLD_MS;
    expect(await prewarm("c")).toMatchObject({ ok: false, reason: "no_memory" });
  });

  it("a user's call takes it at once, what is not held before what is", async () => {
    await prewarm("a");
    expect(await pool.acquire("c", never)).toMatchObject({ ok: true, how: "cold" });
    expect(ended).toEqual(["b evicted"]);
    expect(await pool.acquire("b", never)).toMatchObject({ ok: true, how: "cold" });
    expect(ended).toEqual(["b evicted", "a evicted"]);
  });
});

it("idle memory is told beside the memory in use: a start may have it", async () => {
  await used("a");
  expect([pool.memoryUsedBytes(), pool.memoryIdleBytes()]).toEqual([100 * MIB, 100 * MIB]);
  await pool.acquire("a", never);
  expect([pool.memoryUsedBytes(), pool.memoryIdleBytes()]).toEqual([100 * MIB, 0]);
});

describe("preparations that wait for their turn", () => {
  /** Spawns wait for it. */
  let open: () => void;
  beforeEach(() => {
    holdStart = new Promise((resolve) => {
      open = resolve;
    });
  });

  it("give it to a user's request for their task, which starts the runtime in their place: nothing is started twice", async () => {
    const first = prewarm("a");
    const second = prewarm("b");
    const call = pool.acquire("b", never);
    open();
    expect(await call).toMatchObject({
      ok: true,
      how: "late",
      runtime: { task: "b", hold: { commandId: "command b" } },
    });
    expect(await second).toMatchObject({ ok: true, started: true, runtime: { task: "b", state: "busy" } });
    expect(await first).toMatchObject({ ok: true, runtime: { task: "a", state: "ready" } });
    expect(pool.totals.starts).toBe(2);
  });

  it("go before each other by their deadlines, and one that is overtaken leaves no turn behind nor takes one", async () => {
    const done: string[] = [];
    const told = (name: string, warming: Promise<unknown>) => warming.then(() => done.push(name));
    const all = [
      told("a", prewarm("a")),
      told("c", prewarm("c", nowMs + 2_000)),
      told("b", prewarm("b", nowMs + 1_000)),
    ];
    const call = pool.acquire("b", never);
    open();
    // Its runtime ends for c: there is room for two.
    const answer = await call;
    if (answer.ok) pool.release(answer.runtime, false);
    await Promise.all(all);
    expect(done.at(-1)).toBe("c");
    // Whoever comes next has a turn: it would wait for ever.
    expect(await prewarm("b")).toMatchObject({ ok: false, reason: "no_memory" });
  });

  it("keep their place where the request finds no room", async () => {
    const first = prewarm("a");
    await vi.waitFor(() => expect(starts).toHaveLength(1));
    const big = prewarm("big");
    const aborting = new AbortController();
    const call = pool.acquire("big", aborting.signal);
    aborting.abort();
    expect(await call).toMatchObject({ ok: false, reason: "aborted" });
    open();
    expect(await first).toMatchObject({ ok: true });
    expect(await big).toMatchObject({ ok: false, reason: "no_memory" });
  });

  it("are refused when their time is over before their turn comes", async () => {
    const first = prewarm("a");
    const second = prewarm("b");
    nowMs += HOLD_MS;
    open();
    await first;
    expect(await second).toMatchObject({ ok: false, reason: "expired" });
  });
});

// The brake on prefetches, the outbox and the clock: pure parts under a fake clock.
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { HubClock } from "../../src/agent/clock.ts";
import { backoffMs, Outbox, RETRY_MS_MAX, type Sent } from "../../src/agent/outbox.ts";
import { Transfers } from "../../src/agent/transfer.ts";

const NEVER = new AbortController().signal;

beforeEach(() => {
  vi.useFakeTimers({ now: 1_000_000 });
});
afterEach(() => {
  vi.useRealTimers();
});

describe("prefetch", () => {
  it("moves at its cap, shared by all of them", async () => {
    const transfers = new Transfers(1_000, 4, Date.now);
    const moved: number[] = [];
    const stream = async () => {
      for (let chunk = 0; chunk < 10; chunk++) {
        await transfers.hold(500, NEVER);
        moved.push(Date.now());
      }
    };
    const began = Date.now();
    const both = Promise.all([stream(), stream()]);
    await vi.runAllTimersAsync();
    await both;
    // 20 chunks of half a second each, less the burst of 50 ms.
    expect(Date.now() - began).toBe(9_950);
    expect(moved).toHaveLength(20);
  });

  it("stands still while a task loads, but not for ever", async () => {
    const transfers = new Transfers(null, 4, Date.now);
    transfers.taskLoadBegins();
    transfers.taskLoadBegins();
    const held = transfers.hold(1, NEVER);
    await vi.advanceTimersByTimeAsync(1_000);
    transfers.taskLoadEnds();
    await vi.advanceTimersByTimeAsync(1_000);
    transfers.taskLoadEnds();
    expect(await held).toBe(2_000);
    transfers.taskLoadBegins();
    const bounded = transfers.hold(1, NEVER);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(await bounded).toBe(5_000);
  });

  it("is let go when a task wants the same object, wherever it waits", async () => {
    const transfers = new Transfers(1, 1, Date.now);
    const urgent = new AbortController();
    await transfers.prefetchBegins(NEVER, 0);
    const queued = transfers.prefetchBegins(urgent.signal, 0);
    const braked = transfers.hold(1_000_000, urgent.signal);
    urgent.abort();
    await queued;
    expect(await braked).toBe(0);
  });

  it("does not lose a place when a task comes for one that had waited and begun", async () => {
    const transfers = new Transfers(null, 1, Date.now);
    for (let round = 0; round < 3; round++) {
      const task = new AbortController();
      await transfers.prefetchBegins(NEVER, 0);
      const second = transfers.prefetchBegins(task.signal, 0);
      transfers.prefetchEnds();
      await second;
      task.abort();
      transfers.prefetchEnds();
    }
    let begun = false;
    void transfers.prefetchBegins(NEVER, 0).then(() => {
      begun = true;
    });
    await vi.advanceTimersByTimeAsync(0);
    expect(begun).toBe(true);
  });

  it("runs a few at a time", async () => {
    const transfers = new Transfers(null, 2, Date.now);
    const begun: number[] = [];
    for (let at = 0; at < 4; at++) void transfers.prefetchBegins(NEVER, 0).then(() => begun.push(at));
    await vi.advanceTimersByTimeAsync(0);
    expect(begun).toEqual([0, 1]);
    transfers.prefetchEnds();
    await vi.advanceTimersByTimeAsync(0);
    expect(begun).toEqual([0, 1, 2]);
  });
});

describe("prefetches that wait for their turn", () => {
  it("begin in the order in which they are needed, equals as they came", async () => {
    const transfers = new Transfers(null, 1, Date.now);
    const begun: string[] = [];
    const wants: [string, number][] = [
      ["now", 0],
      ["last", 9_000],
      ["soon", 1_000],
      ["later", 5_000],
      ["also soon", 1_000],
    ];
    for (const [name, neededMs] of wants) void transfers.prefetchBegins(NEVER, neededMs).then(() => begun.push(name));
    for (let ended = 0; ended < wants.length; ended++) {
      await vi.advanceTimersByTimeAsync(0);
      transfers.prefetchEnds();
    }
    expect(begun).toEqual(["now", "soon", "also soon", "later", "last"]);
  });
});

describe("an outbox", () => {
  const open = (answers: Sent[], overrides = {}) => {
    const sent: number[][] = [];
    const dropped: number[][] = [];
    const outbox = new Outbox<number>({
      lingerMs: 10,
      batchMax: 3,
      itemsMax: 5,
      send: async (items) => {
        sent.push(items);
        return answers.shift() ?? { ok: true };
      },
      onDropped: (items) => dropped.push(items),
      random: () => 0.5,
      ...overrides,
    });
    return { outbox, sent, dropped };
  };

  it("sends what comes together in batches, in order", async () => {
    const { outbox, sent } = open([]);
    outbox.add(1);
    outbox.add(2, 3, 4);
    await vi.runAllTimersAsync();
    expect(sent).toEqual([[1, 2, 3], [4]]);
    expect(outbox.size()).toBe(0);
  });

  it("does not linger over what is urgent, and takes along what waits", async () => {
    const { outbox, sent } = open([], { isUrgent: (item: number) => item === 2 });
    outbox.add(1);
    await vi.advanceTimersByTimeAsync(5);
    expect(sent).toEqual([]);
    outbox.add(2);
    await vi.advanceTimersByTimeAsync(0);
    expect(sent).toEqual([[1, 2]]);
    outbox.add(3);
    await vi.advanceTimersByTimeAsync(9);
    expect(sent).toHaveLength(1);
    await vi.runAllTimersAsync();
    expect(sent).toEqual([[1, 2], [3]]);
  });

  it("sends again until it is accepted, each time later", async () => {
    const down: Sent = { ok: false, retry: true, detail: "down" };
    const { outbox, sent } = open([down, down, down]);
    const began = Date.now();
    outbox.add(1);
    await vi.runAllTimersAsync();
    expect(sent).toEqual([[1], [1], [1], [1]]);
    expect(Date.now() - began).toBe(10 + 150 + 300 + 600);
  });

  it("gives up what will never be accepted, and goes on", async () => {
    const { outbox, sent, dropped } = open([{ ok: false, retry: false, detail: "bad" }]);
    outbox.add(1, 2, 3, 4);
    await vi.runAllTimersAsync();
    expect(sent).toEqual([[1, 2, 3], [4]]);
    expect(dropped).toEqual([[1, 2, 3]]);
  });

  it("is bounded: the oldest go, and are told", () => {
    const { outbox, dropped } = open([]);
    outbox.add(1, 2, 3, 4, 5, 6, 7);
    expect(outbox.size()).toBe(5);
    expect(dropped).toEqual([[1, 2]]);
  });

  it("bounds a batch in bytes; a single one that is larger still goes", async () => {
    const { outbox, sent } = open([], { batchBytesMax: 10, bytesOf: (item: number) => item });
    outbox.add(4, 5, 6, 50, 1);
    await vi.runAllTimersAsync();
    expect(sent).toEqual([[4, 5], [6], [50], [1]]);
  });

  it("backs off within bounds, whatever chance says", () => {
    for (let failures = 0; failures < 100; failures++) {
      for (const chance of [0, 0.5, 0.999_999]) {
        const pauseMs = backoffMs(failures, () => chance);
        expect(pauseMs).toBeGreaterThanOrEqual(100);
        expect(pauseMs).toBeLessThanOrEqual(RETRY_MS_MAX);
      }
    }
  });
});

describe("the hub's clock", () => {
  it("is taken from the answer with the shortest round trip", () => {
    let local = 0;
    const clock = new HubClock(() => local);
    // One that was slow on its way back, one that was quick, one slow again.
    clock.learn(0, 1_000, 500_100);
    expect(clock.offsetMs()).toBe(499_600);
    clock.learn(2_000, 2_010, 502_005);
    clock.learn(3_000, 4_000, 503_100);
    expect(clock.offsetMs()).toBe(500_000);
    local = 5_000;
    expect(clock.hubMs()).toBe(505_000);
    expect(clock.toLocalMs(505_000)).toBe(5_000);
  });

  it("follows a drift once quick answers of before are forgotten", () => {
    const clock = new HubClock(() => 0);
    clock.learn(0, 1, 1_000);
    for (let at = 1; at <= 8; at++) clock.learn(at * 10, at * 10 + 5, 2_000 + at * 10 + 2.5);
    expect(clock.offsetMs()).toBe(2_000);
  });
});

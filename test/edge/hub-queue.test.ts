// The queue, the capacity and the budgets of a hub by themselves, on a hub's own tables, with the clock in the test's hand.
import { runInDurableObject } from "cloudflare:test";
import { beforeEach, describe, expect, test } from "vitest";
import type { Offer } from "../../src/core/pipeline.ts";
import type { PlannedCommand } from "../../src/core/planned.ts";
import { LEFT_BY_OTHERS } from "../../src/core/planned.ts";
import { Admissions } from "../../src/edge/hub/admission.ts";
import { HourlySpending } from "../../src/edge/hub/budget.ts";
import { Capacity } from "../../src/edge/hub/capacity.ts";
import type { HubConfig } from "../../src/edge/hub/messages.ts";
import { CommandQueue } from "../../src/edge/hub/queue.ts";
import { Schedule } from "../../src/edge/hub/schedule.ts";
import { Vms } from "../../src/edge/hub/vms.ts";
import { Policy } from "../../src/protocol.ts";
import { commandOf, GIB, heartbeatOf, offerOf, testEnv } from "./world.ts";

const VM = "vm-1";
const NOW_MS = Date.UTC(2030, 0, 1, 12, 30);
const ORIGIN = { runId: "r", context: null, chain: null };
const EMPTY = { version: "1", draining: false, vms: {}, tasks: {}, services: [], frozen: [] };

/** Each test has a hub of its own, which nobody else speaks to. */
let hub: string;
beforeEach(() => {
  hub = crypto.randomUUID();
});
const onTables = (use: (sql: SqlStorage) => void) =>
  runInDurableObject(testEnv.CLUSTER_HUB.getByName(hub), (_, { storage }) => use(storage.sql));

/** Due at once and for a minute, unless told otherwise; instants are relative to NOW_MS. */
function due(known: Partial<PlannedCommand> = {}): PlannedCommand {
  const { notBeforeMs = 0, deadlineMs = 1_000, expiresMs = 60_000 } = known;
  return commandOf({
    ...known,
    notBeforeMs: NOW_MS + notBeforeMs,
    deadlineMs: NOW_MS + deadlineMs,
    expiresMs: NOW_MS + expiresMs,
  });
}

describe("what is leased", () => {
  test("is the most urgent first", () =>
    onTables((sql) => {
      const queue = new CommandQueue(sql);
      // Neither in the order of their ids nor in that in which they came.
      for (const [commandId, deadlineMs] of [
        ["c", 2_000],
        ["a", 3_000],
        ["b", 1_000],
      ] as const) {
        queue.enqueue(due({ key: commandId, commandId, deadlineMs }), ORIGIN, NOW_MS);
      }
      const ids = (max: number) => queue.lease(VM, max, NOW_MS).map(({ commandId }) => commandId);
      expect([ids(2), ids(2)]).toEqual([["b", "c"], ["a"]]);
    }));

  test.each<[string, Partial<PlannedCommand>, number]>([
    ["a warm-up that may last: a minute", { expiresMs: 600_000 }, 60_000],
    ["one that is over sooner: till then, and as long as its report may take", { expiresMs: 20_000 }, 25_000],
    ["a large object", { kind: "prefetch", expiresMs: 600_000 }, 120_000],
    ["a call: as long as its caller waits", { kind: "execute", expiresMs: 600_000 }, 600_000],
  ])("%s", (_, known, leaseMs) =>
    onTables((sql) => {
      const queue = new CommandQueue(sql);
      queue.enqueue(due(known), ORIGIN, NOW_MS);
      expect(queue.lease(VM, 9, NOW_MS)).toMatchObject([{ leaseMs }]);
      queue.sweep(NOW_MS + leaseMs - 1);
      expect(queue.countsByState()).toEqual({ leased: 1 });
      queue.sweep(NOW_MS + leaseMs);
      expect(queue.countsByState()).not.toHaveProperty("leased");
    }),
  );
});

describe("a second plan for the same thing", () => {
  const early = due({ commandId: "first", notBeforeMs: 5_000, deadlineMs: 9_000, expiresMs: 20_000, probability: 0.5 });
  const later = due({
    commandId: "second",
    notBeforeMs: 2_000,
    deadlineMs: 6_000,
    expiresMs: 40_000,
    probability: 0.7,
  });

  test.each([
    ["asks for more", [early, later]],
    ["asks for less", [later, early]],
  ])("that %s: one command that serves both", (_, plans) =>
    onTables((sql) => {
      const queue = new CommandQueue(sql);
      const ids = plans.map((plan) => queue.enqueue(plan, ORIGIN, NOW_MS));
      expect(ids).toEqual([plans[0]!.commandId, plans[0]!.commandId]);
      expect(queue.get(ids[0]!)).toMatchObject({
        not_before_ms: NOW_MS + 2_000,
        deadline_ms: NOW_MS + 6_000,
        expires_ms: NOW_MS + 40_000,
        probability: 0.7,
        beneficiaries: 2,
      });
    }),
  );

  test.each([
    ["joins what an agent is at, where that is held until then", 50_000, "first"],
    ["has one of its own where that is over before", 70_000, "second"],
  ])("%s", (_, deadlineMs, id) =>
    onTables((sql) => {
      const queue = new CommandQueue(sql);
      queue.enqueue(due({ commandId: "first" }), ORIGIN, NOW_MS);
      queue.lease(VM, 9, NOW_MS);
      const second = due({ commandId: "second", notBeforeMs: 40_000, deadlineMs, expiresMs: 90_000 });
      expect(queue.enqueue(second, ORIGIN, NOW_MS)).toBe(id);
    }),
  );
});

describe("a failed command is tried again", () => {
  const failed = (queue: CommandQueue, nowMs: number) => {
    const [{ commandId, leaseId } = { commandId: "", leaseId: "" }] = queue.lease(VM, 1, nowMs);
    return queue.settleResult(VM, { commandId, leaseId, state: "failed", reason: "away" }, nowMs);
  };

  test("each time twice as late", () =>
    onTables((sql) => {
      const queue = new CommandQueue(sql, () => 0);
      queue.enqueue(due(), ORIGIN, NOW_MS);
      failed(queue, NOW_MS);
      expect(new Schedule(sql).nextDueMs(VM)).toBe(NOW_MS + 250);
      failed(queue, NOW_MS + 250);
      expect(new Schedule(sql).nextDueMs(VM)).toBe(NOW_MS + 250 + 500);
      expect(failed(queue, NOW_MS + 750)).toMatchObject({ ok: true, failed: "away" });
    }));

  test("not when it would be over by then", () =>
    onTables((sql) => {
      const queue = new CommandQueue(sql, () => 0);
      queue.enqueue(due({ expiresMs: 200 }), ORIGIN, NOW_MS);
      expect(failed(queue, NOW_MS)).toMatchObject({ ok: true, failed: "away" });
      expect(queue.inFlight).toBe(0);
    }));
});

test("a new version takes back what is meant for others of that task, by its declared name, and leaves its own and other tasks'", () =>
  onTables((sql) => {
    const queue = new CommandQueue(sql);
    for (const [commandId, task, version] of [
      ["old", "order-20240115", "1"],
      ["any", "order-20240115", null],
      ["new", "order-20240115", "2"],
      ["other", "bill", "1"],
    ] as const) {
      queue.enqueue(due({ commandId, key: commandId, task, version }), ORIGIN, NOW_MS);
    }
    const taken = queue.cancelQueued("superseded", NOW_MS, { task: "order-*", keepVersion: "2" });
    expect(taken.map(({ command }) => command.command_id).sort()).toEqual(["any", "old"]);
    expect(queue.countsByState()).toEqual({ cancelled: 2, queued: 2 });
  }));

test("what ended is forgotten an hour later, and what is ready and not settled is not", () =>
  onTables((sql) => {
    const queue = new CommandQueue(sql);
    for (const commandId of ["ready", "over"]) queue.enqueue(due({ commandId, key: commandId }), ORIGIN, NOW_MS);
    for (const { commandId, leaseId } of queue.lease(VM, 9, NOW_MS)) {
      queue.settleResult(VM, { commandId, leaseId, state: "done" }, NOW_MS);
    }
    queue.finish("over", NOW_MS);
    queue.prune(NOW_MS);
    expect(queue.get("over")).not.toBeNull();
    queue.prune(NOW_MS + 1);
    expect([queue.get("over"), queue.get("ready")]).toEqual([null, expect.anything()]);
  }));

function parts(sql: SqlStorage) {
  const vms = new Vms(sql, NOW_MS);
  vms.receive(VM, heartbeatOf(["b", "c"]), NOW_MS);
  const capacity = new Capacity(sql, vms, NOW_MS);
  const admissions = new Admissions(new CommandQueue(sql), capacity, vms, new HourlySpending(sql, NOW_MS));
  return { capacity, admissions };
}
const configOf = (budgets: Partial<Policy["budgets"]>): HubConfig => ({
  ...EMPTY,
  policy: Policy.parse({ mode: "active", budgets }),
});

describe("budgets", () => {
  const prefetch = due({ kind: "prefetch", key: "prefetch o:1", uri: "o:1", bytes: 10 });
  const warm = due({ key: "warm c@", task: "c" });

  test.each<[string, PlannedCommand, Partial<Policy["budgets"]>, string | undefined]>([
    ["bytes", prefetch, { prefetchBytesPerHour: 109 }, "budget of 109 bytes per hour"],
    ["bytes that just fit", prefetch, { prefetchBytesPerHour: 110 }, undefined],
    ["memory held for time", warm, { warmGbSecondsPerHour: 5 }, "budget of 5 GB·s per hour"],
    ["memory held for time, with some left", warm, { warmGbSecondsPerHour: 5.1 }, undefined],
  ])("hold what other clusters have spent: %s", (_, command, budgets, refusal) =>
    onTables((sql) => {
      const { admissions } = parts(sql);
      admissions.spentElsewhere = { inFlight: 0, bytes: 100, gbSeconds: 5 };
      const { admission } = admissions.enqueue([command], ORIGIN, configOf(budgets), NOW_MS);
      expect(admission).toMatchObject({ ok: true, refusedKeys: refusal ? { [`${VM} ${command.key}`]: refusal } : {} });
    }),
  );

  test("begin anew each hour", () =>
    onTables((sql) => {
      const spending = new HourlySpending(sql, NOW_MS);
      spending.add({ bytes: 70 }, NOW_MS);
      spending.add({ memoryBytes: GIB, heldMs: 3_000 }, NOW_MS);
      expect(spending.current(NOW_MS + 1_799_999)).toEqual({ bytes: 70, gbSeconds: 3 });
      expect(spending.current(NOW_MS + 1_800_000)).toEqual({ bytes: 0, gbSeconds: 0 });
      // Also for a hub that comes back in the next one.
      expect(new HourlySpending(sql, NOW_MS + 1_800_000).current(NOW_MS + 1_800_000).bytes).toBe(0);
    }));
});

test("what is refused for another reason is not given to the run: the next that asks gets it", () =>
  onTables((sql) => {
    const { admissions } = parts(sql);
    const ask = (key: string) => due({ key: `warm b@ of ${key}`, quota: { first: 0.5, power: 1 } });
    const refusals = (key: string, inFlightCommands: number) => {
      const config = configOf({ inFlightCommands });
      const { admission } = admissions.enqueue([ask(key)], ORIGIN, config, NOW_MS);
      return admission.ok ? Object.values(admission.refusedKeys) : [];
    };
    expect(refusals("x", 0)).toEqual(["budget of 0 commands in flight"]);
    expect(refusals("y", 9)).toEqual([]);
    expect(refusals("z", 9)).toEqual([LEFT_BY_OTHERS]);
  }));

describe("reservations", () => {
  const offer = (runId: string, cpuCores: number): Offer =>
    offerOf([], { runId, reservation: { memoryBytes: 0, cpuCores, expiresMs: NOW_MS + 60_000 } });

  test("a run's own cores do not stand against its next allocation", () =>
    onTables((sql) => {
      const { capacity } = parts(sql);
      // Four cores, each promised four times.
      capacity.hold("one", offer("one", 15).reservation);
      expect(capacity.refusal(offer("one", 15), null, NOW_MS)).toBeNull();
      expect(capacity.refusal(offer("two", 15), null, NOW_MS)).toContain("CPU: 15.0 held on 4 cores");
    }));

  test("how many calls a run has had is known after an eviction", () =>
    onTables((sql) => {
      const { capacity } = parts(sql);
      for (let i = 0; i < 3; i++) capacity.hold("one", offer("one", 1).reservation);
      expect(parts(sql).capacity.callsOf("one")).toBe(3);
    }));
});

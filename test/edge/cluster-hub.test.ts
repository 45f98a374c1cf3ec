// The hub's state machine through its own calls: leases, duplicates, eviction, coalescing, capacity, pause, new processes.
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { beforeEach, describe, expect, test } from "vitest";
import type { Offer } from "../../src/core/pipeline.ts";
import type { StoredQuotas } from "../../src/core/quotas.ts";
import { Calls } from "../../src/edge/hub/calls.ts";
import { Capacity } from "../../src/edge/hub/capacity.ts";
import { CommandQueue } from "../../src/edge/hub/queue.ts";
import { Schedule } from "../../src/edge/hub/schedule.ts";
import { Vms } from "../../src/edge/hub/vms.ts";
import type { AgentReport, Command } from "../../src/protocol.ts";
import { commandOf, GIB, newWorld, offerOf, testEnv, type World } from "./world.ts";

const CLUSTER = "paris";
const VM = "vm-1";
let world: World;

beforeEach(async () => {
  world = await newWorld();
  await world.heartbeat(CLUSTER, VM, ["a", "b", "c"]);
});

const admit = (given: Offer) => world.hub(CLUSTER).admit(world.workspace, given);
const poll = async (vm = VM, waitMs = 0): Promise<Command[]> =>
  (await world.hub(CLUSTER).commands(world.workspace, CLUSTER, vm, waitMs, 16)).commands;
const report = (part: Partial<AgentReport>, vm = VM) =>
  world.hub(CLUSTER).report(world.workspace, CLUSTER, vm, { results: [], uses: [], ends: [], misses: [], ...part });
const done = ({ commandId, leaseId }: Command, bytes = 5) =>
  report({ results: [{ commandId, leaseId, state: "done", bytes }] });
const outcomes = async () => (await world.call("GET", "/v1/outcomes")).body;

/** What time alone would do: moves an instant of a command into the past, and lets the alarm look. */
async function age(commandId: string, column: "lease_expires_ms" | "expires_ms" | "not_before_ms"): Promise<void> {
  await runInDurableObject(world.hub(CLUSTER), (_, state) => {
    state.storage.sql.exec(`UPDATE commands SET ${column} = 1 WHERE command_id = ?`, commandId);
  });
}
async function state(commandId: string): Promise<string> {
  return runInDurableObject(
    world.hub(CLUSTER),
    (_, { storage }) =>
      storage.sql.exec<{ state: string }>("SELECT state FROM commands WHERE command_id = ?", commandId).one().state,
  );
}
async function sweep(): Promise<void> {
  const hub = world.hub(CLUSTER);
  await runInDurableObject(hub, (_, { storage }) => storage.setAlarm(Date.now()));
  await runDurableObjectAlarm(hub);
}
async function leased(): Promise<Command> {
  await admit(offerOf([commandOf()]));
  const [first] = await poll();
  return first!;
}

test("queued → leased → done, and a hit settles it", async () => {
  const first = await leased();
  expect(first).toMatchObject({ kind: "warm", task: "b", attempt: 1 });
  expect(await poll()).toEqual([]);
  expect(await done(first)).toEqual({ accepted: 1, refused: [] });
  const use = {
    commandId: first.commandId,
    runId: "r",
    executionId: "e",
    usedMs: Date.now(),
    waitedMs: 0,
    savedMs: 80,
  };
  expect(await report({ uses: [use] })).toEqual({ accepted: 1, refused: [] });
  expect(await outcomes()).toMatchObject({
    totals: [{ kind: "warm", outcome: "hit", count: 1, bytes: 5, savedMs: 80 }],
    recent: [{ commandId: first.commandId, outcome: "hit", runId: "r", executionId: "e", cluster: CLUSTER, vm: VM }],
  });
});

describe("a report in the wrong state changes nothing", () => {
  test.each<[string, (first: Command) => Promise<unknown>, string]>([
    ["the same result twice", (first) => done(first), "settled before"],
    [
      "another lease",
      ({ commandId }) => report({ results: [{ commandId, leaseId: "x", state: "failed" }] }),
      "settled before",
    ],
    [
      "use of an unknown command",
      () => report({ uses: [{ commandId: "x", runId: "r", executionId: "e", usedMs: 1, waitedMs: 0, savedMs: 0 }] }),
      "unknown command",
    ],
    [
      "end of an unknown command",
      () =>
        report({
          ends: [{ commandId: "x", endedMs: 1, used: false, reason: "expired", heldMs: 0, memoryBytes: 0, bytes: 0 }],
        }),
      "unknown command",
    ],
    [
      "result of another VM",
      ({ commandId, leaseId }) => report({ results: [{ commandId, leaseId, state: "failed" }] }, "vm-2"),
      "unknown command",
    ],
    [
      "use that another VM tells of",
      ({ commandId }) =>
        report({ uses: [{ commandId, runId: "r", executionId: "e", usedMs: 1, waitedMs: 0, savedMs: 9e9 }] }, "vm-2"),
      "unknown command",
    ],
    [
      "end that another VM tells of",
      ({ commandId }) =>
        report(
          { ends: [{ commandId, endedMs: 1, used: false, reason: "expired", heldMs: 9e9, memoryBytes: 1, bytes: 0 }] },
          "vm-2",
        ),
      "unknown command",
    ],
  ])("%s", async (_, repeat, reason) => {
    const first = await leased();
    await done(first);
    expect(await repeat(first)).toMatchObject({ accepted: 0, refused: [{ reason }] });
    expect(await state(first.commandId)).toBe("done");
    expect((await outcomes()).totals).toEqual([]);
  });

  test("the same use and the same miss twice", async () => {
    const first = await leased();
    await done(first);
    const use = { commandId: first.commandId, runId: "r", executionId: "e", usedMs: 1, waitedMs: 0, savedMs: 7 };
    const miss = { kind: "warm" as const, task: "a", runId: "r", executionId: "e", atMs: 1, costMs: 9 };
    await report({ uses: [use], misses: [miss] });
    await report({ uses: [use], misses: [miss] });
    const { totals } = await outcomes();
    expect(totals.map(({ outcome, count }: { outcome: string; count: number }) => [outcome, count])).toEqual([
      ["hit", 1],
      ["miss", 1],
    ]);
  });
});

describe("leases", () => {
  test("one that runs out is given again, and the first holder's late result is refused", async () => {
    const first = await leased();
    await age(first.commandId, "lease_expires_ms");
    await sweep();
    expect(await state(first.commandId)).toBe("queued");
    expect(await done(first)).toMatchObject({ accepted: 0, refused: [{ reason: "stale lease" }] });
    await age(first.commandId, "not_before_ms");
    const [second] = await poll();
    expect(second).toMatchObject({ commandId: first.commandId, attempt: 2 });
    expect(second!.leaseId).not.toBe(first.leaseId);
    expect(await done(first)).toMatchObject({ accepted: 0, refused: [{ reason: "stale lease" }] });
    expect(await done(second!)).toEqual({ accepted: 1, refused: [] });
    expect((await world.hub(CLUSTER).summary(world.workspace, CLUSTER)).spent.inFlight).toBe(0);
  });

  test("three that run out are a failure, told once", async () => {
    const { commandId } = await leased();
    for (let attempt = 1; attempt <= 3; attempt++) {
      await age(commandId, "lease_expires_ms");
      await sweep();
      await age(commandId, "not_before_ms");
      await poll();
    }
    await sweep();
    expect(await state(commandId)).toBe("failed");
    expect((await outcomes()).totals).toMatchObject([{ outcome: "failed", count: 1 }]);
  });

  test("of many agents that run out together are not given again together", async () => {
    const vms = Array.from({ length: 50 }, (_, i) => `herd-${i}`);
    for (const vm of vms) await world.heartbeat(CLUSTER, vm, ["b"]);
    await admit(offerOf(vms.map((vm) => commandOf({ vm }))));
    const given = (await Promise.all(vms.map((vm) => poll(vm)))).flat();
    expect(given).toHaveLength(50);
    for (const { commandId } of given) await age(commandId, "lease_expires_ms");
    await sweep();
    const rows = await runInDurableObject(world.hub(CLUSTER), (_, { storage }) =>
      storage.sql.exec<{ at: number }>("SELECT not_before_ms AS at FROM commands ORDER BY at").toArray(),
    );
    const spreadMs = rows.at(-1)!.at - rows[0]!.at;
    expect(spreadMs).toBeGreaterThan(150); // of a back-off of 250 to 500 ms
    expect(new Set(rows.map((row) => row.at)).size).toBeGreaterThan(25);
  });

  test("survive an eviction between lease and result", async () => {
    const first = await leased();
    await evictDurableObject(world.hub(CLUSTER));
    expect(await poll()).toEqual([]);
    expect(await done(first)).toEqual({ accepted: 1, refused: [] });
    expect(await state(first.commandId)).toBe("done");
  });

  test("an overdue lease is found after an eviction, and duplicate alarms do nothing more", async () => {
    const first = await leased();
    await age(first.commandId, "lease_expires_ms");
    await evictDurableObject(world.hub(CLUSTER));
    await sweep();
    await sweep();
    expect(await state(first.commandId)).toBe("queued");
  });
});

describe("a result of failure", () => {
  test("is tried again, later", async () => {
    const first = await leased();
    await report({ results: [{ ...lease(first), state: "failed", reason: "timeout" }] });
    expect(await state(first.commandId)).toBe("queued");
    expect(await poll()).toEqual([]); // not before the back-off
    await age(first.commandId, "not_before_ms");
    expect(await poll()).toMatchObject([{ commandId: first.commandId, attempt: 2 }]);
  });

  test("is final where the agent refuses", async () => {
    const first = await leased();
    await report({
      results: [{ ...lease(first), state: "failed", reason: "refused: object is larger than the disk" }],
    });
    expect(await state(first.commandId)).toBe("failed");
    expect((await outcomes()).recent).toMatchObject([
      { outcome: "failed", reason: "refused: object is larger than the disk" },
    ]);
  });
});

function lease({ commandId, leaseId }: Command) {
  return { commandId, leaseId };
}

describe("time", () => {
  test("nothing is delivered before notBefore; a long-poll wakes when it comes", async () => {
    await admit(offerOf([commandOf({ notBeforeMs: Date.now() + 150 })]));
    expect(await poll()).toEqual([]);
    const asked = Date.now();
    const [first] = await poll(VM, 5_000);
    expect(first).toBeDefined();
    expect(Date.now() - asked).toBeLessThan(4_000);
    expect(Date.now()).toBeGreaterThanOrEqual(first!.notBeforeMs);
  });

  test("a long-poll wakes for what is queued after it", async () => {
    const waiting = poll(VM, 10_000);
    await admit(offerOf([commandOf()]));
    expect(await waiting).toHaveLength(1);
  });

  test("a command that nobody fetches expires, as a failure", async () => {
    const { commandId } = commandOf();
    await admit(offerOf([commandOf({ commandId })]));
    await age(commandId, "expires_ms");
    expect(await poll()).toEqual([]);
    await sweep();
    expect(await state(commandId)).toBe("expired");
    expect((await outcomes()).totals).toMatchObject([{ outcome: "failed", count: 1 }]);
  });

  test("ready, expired and silent is waste, once", async () => {
    const first = await leased();
    await done(first, 100);
    await age(first.commandId, "expires_ms");
    await sweep();
    const end = {
      commandId: first.commandId,
      endedMs: 1,
      used: false,
      reason: "expired" as const,
      heldMs: 1,
      memoryBytes: 1,
      bytes: 100,
    };
    expect(await report({ ends: [end] })).toMatchObject({ refused: [{ reason: "settled before" }] });
    expect((await outcomes()).totals).toMatchObject([{ outcome: "waste", count: 1, bytes: 100 }]);
  });
});

describe("a poll whose connection died", () => {
  test("is given nothing once its VM polls again", async () => {
    const dead = poll(VM, 20_000);
    const alive = poll(VM, 20_000);
    await admit(offerOf([commandOf()]));
    expect(await dead).toEqual([]);
    expect(await alive).toHaveLength(1);
  });

  test("is given nothing once its VM's agent is another process", async () => {
    const dead = poll(VM, 20_000);
    await world.heartbeat(CLUSTER, VM, ["a", "b"], { instanceId: "second" });
    await admit(offerOf([commandOf()]));
    expect(await dead).toEqual([]);
    expect(await poll()).toHaveLength(1);
  });
});

describe("coalescing", () => {
  test("two identical predictions are one command with two beneficiaries", async () => {
    const [first, second] = [commandOf(), commandOf()];
    const one = offerOf([first]);
    const two = offerOf([second]);
    const answers = await Promise.all([admit(one), admit(two)]);
    for (const answer of answers)
      expect(answer).toMatchObject({ ok: true, commandIds: { [`${VM} ${first.key}`]: first.commandId } });
    expect(await poll()).toHaveLength(1);
    const rows = await runInDurableObject(world.hub(CLUSTER), (_, { storage }) =>
      storage.sql.exec("SELECT beneficiaries FROM commands").toArray(),
    );
    expect(rows).toEqual([{ beneficiaries: 2 }]);
  });

  test("a plan joins what is ready and unused, and not what has been used", async () => {
    const first = await leased();
    await done(first);
    expect(await admit(offerOf([commandOf()]))).toMatchObject({ commandIds: { [`${VM} warm b@`]: first.commandId } });
    await report({
      uses: [{ commandId: first.commandId, runId: "r", executionId: "e", usedMs: 1, waitedMs: 0, savedMs: 0 }],
    });
    const later = commandOf();
    expect(await admit(offerOf([later]))).toMatchObject({ commandIds: { [`${VM} warm b@`]: later.commandId } });
  });

  test("of what a run's executions ask for so many are given as its quota says, and the rest is told why not", async () => {
    const quota = { first: 1, power: 0.5 };
    const refused: string[] = [];
    for (let i = 0; i < 9; i++) {
      const command = commandOf({ key: `warm b@ of branch-${i}`, quota });
      const answer = await admit(offerOf([command], { runId: "run" }));
      if (!answer.ok) throw new Error(answer.reason);
      refused.push(...Object.values(answer.refusedKeys));
    }
    expect(await poll()).toHaveLength(3);
    expect(refused).toEqual(new Array(6).fill("finds a runtime that another execution of the run has left"));
  });

  test("a hub that is evicted in mid-run gives it no more than it needs", async () => {
    const quota = { first: 1, power: 0.5 };
    const refused = new Set<string>();
    const ask = async (branch: number) => {
      const command = commandOf({ key: `warm b@ of branch-${branch}`, quota });
      const answer = await admit(offerOf([command], { runId: "run" }));
      if (!answer.ok) throw new Error(answer.reason);
      for (const name of Object.keys(answer.refusedKeys)) refused.add(name);
    };
    for (let branch = 0; branch < 6; branch++) await ask(branch);
    await evictDurableObject(world.hub(CLUSTER));
    // Those that are under way ask again.
    for (let branch = 0; branch < 9; branch++) await ask(branch);
    expect(await poll()).toHaveLength(3);
    expect(refused.size).toBe(6);
  });

  test("what is kept of a run costs no row beside its reservation's", async () => {
    await runInDurableObject(world.hub(CLUSTER), (_, { storage: { sql } }) => {
      const capacity = new Capacity(sql, new Vms(sql, Date.now()), Date.now());
      const reservation = { memoryBytes: 1, cpuCores: 1, expiresMs: Date.now() + 60_000 };
      const counted = new Proxy(sql, {
        get: (target, name) =>
          name !== "exec"
            ? Reflect.get(target, name)
            : (...args: Parameters<SqlStorage["exec"]>) => {
                const cursor = target.exec(...args);
                cursor.toArray();
                rowsWritten += cursor.rowsWritten;
                return cursor;
              },
      });
      let rowsWritten = 0;
      const held = new Capacity(counted, new Vms(sql, Date.now()), Date.now());
      for (let call = 0; call < 10; call++) {
        const quotas = { asks: [call], tasks: [["b", call, 1, []]] as StoredQuotas["tasks"] };
        held.hold("run", reservation, { chain: ["a", "b"], sent: true, quotas });
      }
      expect(rowsWritten).toBe(10);
      expect(capacity.kept()).toEqual([]);
      const [kept] = new Capacity(sql, new Vms(sql, Date.now()), Date.now()).kept();
      expect(kept).toEqual({
        runId: "run",
        chain: ["a", "b"],
        sent: true,
        quotas: { asks: [9], tasks: [["b", 9, 1, []]] },
      });
    });
  });

  test("another VM, another thing", async () => {
    await world.heartbeat(CLUSTER, "vm-2", ["b"]);
    await admit(offerOf([commandOf(), commandOf({ vm: "vm-2" }), commandOf({ key: "warm c@", task: "c" })]));
    expect(await poll()).toHaveLength(2);
    expect(await poll("vm-2")).toHaveLength(1);
  });
});

describe("capacity", () => {
  const holding = (memoryBytes: number, changes: Partial<Offer> = {}) =>
    offerOf([], { reservation: { memoryBytes, cpuCores: 0.5, expiresMs: Date.now() + 60_000 }, ...changes });

  test("is never over-committed, whoever asks at the same time", async () => {
    const answers = await Promise.all(Array.from({ length: 10 }, () => admit(holding(GIB))));
    expect(answers.filter((answer) => answer.ok)).toHaveLength(4);
    expect(answers.find((answer) => !answer.ok)).toMatchObject({ reason: expect.stringContaining("memory") });
  });

  test("is held over an eviction", async () => {
    await admit(holding(3 * GIB));
    await evictDurableObject(world.hub(CLUSTER));
    expect(await admit(holding(2 * GIB))).toMatchObject({ ok: false });
    expect(await admit(holding(GIB))).toMatchObject({ ok: true });
  });

  test("a run's next allocation replaces its reservation", async () => {
    expect(await admit(holding(3 * GIB, { runId: "one" }))).toMatchObject({ ok: true });
    expect(await admit(holding(3 * GIB, { runId: "one" }))).toMatchObject({ ok: true });
    expect(await admit(holding(3 * GIB, { runId: "two" }))).toMatchObject({ ok: false });
  });

  test("comes back when a reservation expires", async () => {
    await admit(holding(4 * GIB, { reservation: { memoryBytes: 4 * GIB, cpuCores: 0, expiresMs: Date.now() - 1 } }));
    expect(await admit(holding(4 * GIB))).toMatchObject({ ok: true });
  });

  test("CPU bounds too", async () => {
    const cores = (cpuCores: number) =>
      admit(offerOf([], { reservation: { memoryBytes: 0, cpuCores, expiresMs: Date.now() + 60_000 } }));
    expect(await cores(15)).toMatchObject({ ok: true });
    expect(await cores(2)).toMatchObject({ ok: false, reason: expect.stringContaining("CPU") });
  });
});

describe("a plan is refused with its reason", () => {
  test.each<[string, (world: World) => Promise<unknown>, string]>([
    ["paused", ({ call }) => call("PUT", "/v1/policy", { mode: "paused" }), "paused"],
    [
      "no command in flight allowed",
      ({ call }) => call("PUT", "/v1/policy", { mode: "active", budgets: { inFlightCommands: 0 } }),
      "budget of 0 commands in flight",
    ],
    ["agent without the task", ({ heartbeat }) => heartbeat(CLUSTER, VM, ["a"]), "its agent does not have the task"],
  ])("%s", async (_, arrange, reason) => {
    await arrange(world);
    expect(await admit(offerOf([commandOf()]))).toEqual({
      ok: true,
      commandIds: {},
      refusedKeys: { [`${VM} warm b@`]: reason },
    });
  });

  test.each<[string, (world: World) => Promise<unknown>, string]>([
    [
      "draining cluster",
      ({ call }) => call("PUT", `/v1/clusters/${CLUSTER}`, { draining: true }),
      "cluster is draining",
    ],
    [
      "draining VM",
      ({ call }) =>
        call("PUT", `/v1/clusters/${CLUSTER}`, { vms: [{ vm: VM, cpuCores: 1, memoryBytes: GIB, draining: true }] }),
      `${VM}: is draining`,
    ],
    [
      "agent that left",
      ({ heartbeat }) => heartbeat(CLUSTER, VM, ["a"], { leaving: true }),
      `${VM}: no agent has reported yet`,
    ],
  ])("%s", async (_, arrange, reason) => {
    await arrange(world);
    expect(await admit(offerOf([commandOf()]))).toEqual({ ok: false, reason });
  });
});

test("a pause takes back what is queued, and resuming sends no backlog", async () => {
  const { commandId } = commandOf();
  await admit(offerOf([commandOf({ commandId })]));
  await world.call("PUT", "/v1/policy", { mode: "paused" });
  expect(await poll()).toEqual([]);
  await world.call("PUT", "/v1/policy", { mode: "active" });
  expect(await poll()).toEqual([]);
  expect(await state(commandId)).toBe("cancelled");
});

test("what is put back during a pause is no backlog either", async () => {
  const first = await leased();
  await world.call("PUT", "/v1/policy", { mode: "paused" });
  await report({ results: [{ ...lease(first), state: "failed", reason: "timeout" }] });
  expect(await state(first.commandId)).toBe("queued");
  await world.call("PUT", "/v1/policy", { mode: "active" });
  expect(await state(first.commandId)).toBe("cancelled");
});

test("outcomes that an eviction kept from D1 are brought there by the next alarm, which the hub sets as it comes back", async () => {
  const miss = { kind: "warm" as const, task: "a", runId: "r", executionId: "e", atMs: Date.now(), costMs: 9 };
  await report({ misses: [miss] });
  await runInDurableObject(world.hub(CLUSTER), (_, { storage }) => storage.deleteAlarm());
  await evictDurableObject(world.hub(CLUSTER));
  expect(await runDurableObjectAlarm(world.hub(CLUSTER))).toBe(true);
  const { results } = await testEnv.DB.prepare("SELECT task FROM outcomes WHERE workspace = ?1")
    .bind(world.workspace)
    .all();
  expect(results).toEqual([{ task: "a" }]);
});

test("a new version takes back the old one's commands", async () => {
  await world.call("PUT", "/v1/tasks/b", { version: "1" });
  const old = commandOf({ key: "warm b@1", version: "1" });
  const kept = commandOf({ key: "warm c@", task: "c" });
  await admit(offerOf([old, kept]));
  await world.call("PUT", "/v1/tasks/b", { version: "2" });
  expect(await state(old.commandId)).toBe("cancelled");
  expect(await poll()).toMatchObject([{ commandId: kept.commandId }]);
});

describe("an agent that is another process", () => {
  test("leaves what the first had warm as waste, and gets its leases again", async () => {
    const first = await leased();
    await done(first);
    await admit(offerOf([commandOf({ key: "warm c@", task: "c" })]));
    const [second] = await poll();
    await world.heartbeat(CLUSTER, VM, ["a", "b", "c"], { instanceId: "second" });
    expect((await outcomes()).recent).toMatchObject([
      { commandId: first.commandId, outcome: "waste", reason: "crashed" },
    ]);
    expect(await poll()).toMatchObject([{ commandId: second!.commandId, attempt: 2 }]);
  });

  test("supersedes the first for good", async () => {
    expect((await world.heartbeat(CLUSTER, VM, ["a"], { instanceId: "second" })).status).toBe(200);
    expect(await world.heartbeat(CLUSTER, VM, ["a"])).toMatchObject({ status: 409, body: { title: "Superseded" } });
    expect((await world.heartbeat(CLUSTER, VM, ["a"], { instanceId: "second" })).status).toBe(200);
    await evictDurableObject(world.hub(CLUSTER));
    expect((await world.heartbeat(CLUSTER, VM, ["a"])).status).toBe(409);
  });
});

test("the heartbeat's answer tells what the operator declared", async () => {
  await world.call("PUT", "/v1/tasks/a", { keepAliveMs: 1_234, timeoutMs: 5_678 });
  await world.call("PUT", "/v1/services/db", { probeUrl: "https://db.example.net/" });
  await world.call("PUT", `/v1/clusters/${CLUSTER}`, { draining: true });
  const beforeMs = Date.now();
  const { body } = await world.heartbeat(CLUSTER, VM, ["a", "b"]);
  expect(body).toMatchObject({
    draining: true,
    tasks: { a: { keepAliveMs: 1_234, timeoutMs: 5_678 } },
    services: [{ service: "db", probeUrl: "https://db.example.net/" }],
    invokeKey: expect.stringMatching(/^[\w-]{43}$/),
  });
  expect(body.nowMs).toBeGreaterThanOrEqual(beforeMs);
});

describe("budgets of the hour", () => {
  const prefetch = (uri: string, bytes: number) => commandOf({ key: `prefetch ${uri}`, kind: "prefetch", uri, bytes });
  const policy = (budgets: object) => world.call("PUT", "/v1/policy", { mode: "active", budgets });

  test("bytes: what is under way counts as expected, what is loaded as it was", async () => {
    await policy({ prefetchBytesPerHour: 100 });
    const answer = await admit(offerOf([prefetch("o:1", 60), prefetch("o:2", 60), prefetch("o:3", 40)]));
    expect(answer).toMatchObject({ refusedKeys: { [`${VM} prefetch o:2`]: "budget of 100 bytes per hour" } });
    for (const given of await poll()) await done(given, 10);
    expect(await admit(offerOf([prefetch("o:4", 80)]))).toMatchObject({ refusedKeys: {} });
    expect(await admit(offerOf([prefetch("o:5", 1)]))).toMatchObject({
      refusedKeys: { [`${VM} prefetch o:5`]: expect.any(String) },
    });
  });

  test("bytes that a runtime's start has loaded count too, in its outcome as well", async () => {
    await policy({ prefetchBytesPerHour: 100 });
    const first = await leased();
    await done(first, 100);
    expect(await admit(offerOf([prefetch("o:1", 1)]))).toMatchObject({
      refusedKeys: { [`${VM} prefetch o:1`]: "budget of 100 bytes per hour" },
    });
    await report({
      uses: [{ commandId: first.commandId, runId: "r", executionId: "e", usedMs: 1, waitedMs: 0, savedMs: 1 }],
    });
    expect((await outcomes()).totals).toMatchObject([{ kind: "warm", outcome: "hit", bytes: 100 }]);
  });

  test("memory held for time, over an eviction", async () => {
    await policy({ warmGbSecondsPerHour: 2 });
    const first = await leased();
    await done(first);
    const end = {
      commandId: first.commandId,
      endedMs: 1,
      used: false,
      reason: "expired" as const,
      heldMs: 2_000,
      memoryBytes: GIB,
      bytes: 0,
    };
    await report({ ends: [end] });
    await evictDurableObject(world.hub(CLUSTER));
    const answer = await admit(offerOf([commandOf({ key: "warm c@", task: "c" })]));
    expect(answer).toMatchObject({ refusedKeys: { [`${VM} warm c@`]: "budget of 2 GB·s per hour" } });
  });

  test("what other clusters have under way counts", async () => {
    await policy({ inFlightCommands: 1 });
    await world.heartbeat("rome", "vm", ["b"]);
    await admit(offerOf([commandOf()]));
    const { spent } = await world.hub(CLUSTER).summary(world.workspace, CLUSTER);
    expect(spent.inFlight).toBe(1);
    const fleet = testEnv.FLEET.getByName(world.workspace);
    await fleet.hubReport(world.workspace, CLUSTER, await world.hub(CLUSTER).summary(world.workspace, CLUSTER), null);
    await world.heartbeat("rome", "vm", ["b"], { instanceId: "joined again" }); // tells Fleet, and hears of the others
    const elsewhere = await world
      .hub("rome")
      .admit(world.workspace, offerOf([commandOf({ vm: "vm" })], { cluster: "rome", vm: "vm" }));
    expect(elsewhere).toMatchObject({ ok: true, refusedKeys: { "vm warm b@": "budget of 1 commands in flight" } });
  });
});

describe("a run that was answered gives its capacity back", () => {
  const held = async () => (await world.hub(CLUSTER).summary(world.workspace, CLUSTER)).reservedMemoryBytes;
  const hold = (runId: string) =>
    admit(offerOf([], { runId, reservation: { memoryBytes: GIB, cpuCores: 0, expiresMs: Date.now() + 60_000 } }));

  test("when nothing more is expected", async () => {
    await hold("one");
    await world.hub(CLUSTER).release([
      { runId: "one", over: true },
      { runId: "unknown", over: true },
    ]);
    expect(await held()).toBe(0);
  });

  test("when its first call ends and others came while it ran; not when its caller may go on", async () => {
    await hold("alone");
    await hold("nested");
    await hold("nested");
    const ended = ["alone", "nested"].map((runId) => ({ runId, over: false }));
    await world.hub(CLUSTER).release(ended);
    expect(await held()).toBe(GIB);
  });
});

test("the queue's own looks read no command that has ended: an hour of them is kept", async () => {
  await runInDurableObject(world.hub(CLUSTER), (_, { storage: { sql } }) => {
    let rowsRead = 0;
    const counted = {
      exec(query: string, ...values: unknown[]) {
        const cursor = sql.exec(query, ...values);
        const rows = cursor.toArray();
        rowsRead += cursor.rowsRead;
        return { toArray: () => rows, one: () => rows[0], [Symbol.iterator]: () => rows.values() };
      },
    } as unknown as SqlStorage;
    const queue = new CommandQueue(counted);
    const schedule = new Schedule(counted);
    const nowMs = Date.now();
    const origin = { runId: "r", context: null, chain: null };
    for (let i = 0; i < 300; i++) queue.enqueue(commandOf({ key: `prefetch ${i}`, kind: "prefetch" }), origin, nowMs);
    queue.cancelQueued("over", nowMs);
    queue.enqueue(commandOf({ kind: "prefetch", bytes: 7, notBeforeMs: nowMs }), origin, nowMs);
    rowsRead = 0;
    expect(queue.bytesInFlight()).toBe(7);
    queue.calls();
    queue.warming(nowMs);
    schedule.dueVms(nowMs);
    schedule.nextMs(new Calls(queue, new Vms(sql, nowMs)));
    queue.sweep(nowMs);
    schedule.silentlyEnded("warm", nowMs);
    expect(queue.lease(VM, 9, nowMs)).toHaveLength(1);
    expect(rowsRead).toBeLessThan(30);
  });
});

test("dead letters are told with their reason", async () => {
  const first = await leased();
  await report({ results: [{ ...lease(first), state: "failed", reason: "refused: object is larger than the disk" }] });
  const { body } = await world.call("GET", `/v1/clusters/${CLUSTER}/commands`);
  expect(body).toMatchObject({
    states: { failed: 1 },
    deadLetters: [
      { commandId: first.commandId, state: "failed", attempts: 1, reason: "refused: object is larger than the disk" },
    ],
  });
});

// The event stream tells allocations, outcomes and the fleet as they happen, to keys that may read, of their workspace only.
import { runInDurableObject } from "cloudflare:test";
import { exports } from "cloudflare:workers";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { settleFailure } from "../../src/core/feedback.ts";
import { writeRecords } from "../../src/edge/allocation-log.ts";
import { eventsAfter, latestMark, type Mark, type Told } from "../../src/edge/event-log.ts";
import { OutcomeBook, type Teach } from "../../src/edge/hub/outcomes.ts";
import { newId } from "../../src/edge/ids.ts";
import type { AllocationRecord, Outcome } from "../../src/protocol.ts";
import { GIB, newWorld, testEnv, type World } from "./world.ts";

let world: World;
beforeEach(async () => {
  world = await newWorld();
});
afterEach(() => vi.restoreAllMocks());

/** All that a stream has said so far; `until` reads on until one event of it is as wanted. */
class Heard {
  readonly reader: ReadableStreamDefaultReader<string>;
  #text = "";

  constructor(response: Response) {
    this.reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  }

  get said(): string {
    return this.#text;
  }

  async until(isWanted: (event: string, data: string) => boolean): Promise<string> {
    for (;;) {
      for (const block of this.#text.split("\n\n")) {
        const event = /^event: (.*)$/m.exec(block)?.[1] ?? "";
        const data = /^data: (.*)$/m.exec(block)?.[1] ?? "";
        if (isWanted(event, data)) return data;
      }
      const { value, done } = await this.reader.read();
      if (done) throw new Error(`the stream ended after ${this.#text}`);
      this.#text += value;
    }
  }
}

const open = (key: string, headers: Record<string, string> = {}) =>
  (exports as unknown as { default: Fetcher }).default.fetch("https://forechain.test/v1/events", {
    headers: { authorization: `Bearer ${key}`, ...headers },
  });

test("an allocation and the fleet are told, another workspace's are not", async () => {
  const other = await newWorld();
  await other.heartbeat("rome", "vm-1", ["b"]);
  const response = await open(await world.key(["read"]));
  expect(response.headers.get("content-type")).toContain("text/event-stream");
  const heard = new Heard(response);
  await heard.until((event) => event === "hello");
  await world.heartbeat("paris", "vm-1", ["a"]);
  await other.call("POST", "/v1/allocations", { task: "b", runId: "theirs" });
  // The stream's own look at the fleet may have come just before the agent joined, and is believed for a moment.
  const body = await vi.waitFor(async () => {
    const allocated = await world.call("POST", "/v1/allocations", { task: "a", runId: "ours" });
    expect(allocated.status).toBe(200);
    return allocated.body;
  });
  const told = await heard.until((event) => event === "allocation");
  expect(JSON.parse(told)).toMatchObject({ allocationId: body.allocationId, runId: "ours", cluster: "paris" });
  const fleet = await heard.until((event, data) => event === "fleet" && data.includes("vm-1"));
  expect(JSON.parse(fleet)).toMatchObject({ mode: "shadow", clusters: [{ cluster: "paris", vms: [{ vm: "vm-1" }] }] });
  await heard.reader.cancel();
});

test("needs a key that may read", async () => {
  expect((await open(await world.key(["ingest"]))).status).toBe(403);
});

test("a stream ends when its key is revoked", async () => {
  const { keyId, key } = (await world.call("POST", "/v1/keys", { name: "page", scopes: ["read"] })).body;
  const heard = new Heard(await open(key));
  await heard.until((event) => event === "fleet");
  expect((await world.call("DELETE", `/v1/keys/${keyId}`)).status).toBeLessThan(300);
  await expect(heard.until(() => false)).rejects.toThrow("the stream ended");
});

test("explanations that D1 did not take come with the next ones, each told once", async () => {
  await world.heartbeat("paris", "vm-1", ["a"]);
  const mark = await latestMark(testEnv.DB, world.workspace);
  const allocate = async () => {
    const { body } = await vi.waitFor(async () => {
      const answer = await world.call("POST", "/v1/allocations", { task: "a", runId: "r" });
      expect(answer.status).toBe(200);
      return answer;
    });
    return body.allocationId as string;
  };
  const batch = testEnv.DB.batch.bind(testEnv.DB);
  const failing = vi.spyOn(testEnv.DB, "batch").mockImplementation(async (statements) => {
    await batch(statements as D1PreparedStatement[]);
    throw new Error("the answer was lost");
  });
  const first = await allocate();
  await vi.waitFor(() => expect(failing).toHaveBeenCalled(), { timeout: 5_000 });
  failing.mockRestore();
  const second = await allocate();
  await vi.waitFor(async () => expect(idsOf(await toldAfter(mark))).toEqual([first, second]), { timeout: 5_000 });
});

test("a call is told when it has been answered, however many that began after it were told before; its record has both times", async () => {
  let answerOuter = () => {};
  const outerAnswer = new Promise<void>((resolve) => {
    answerOuter = resolve;
  });
  vi.spyOn(globalThis, "fetch").mockImplementation(async (input, init) => {
    if (new URL(new Request(input as RequestInfo, init as RequestInit).url).pathname.endsWith("outer"))
      await outerAnswer;
    return new Response("done");
  });
  const vm = { vm: "vm-1", url: "http://vm.agents.test", cpuCores: 4, memoryBytes: 4 * GIB };
  await world.call("PUT", "/v1/clusters/paris", { vms: [vm] });
  await world.heartbeat("paris", "vm-1", ["outer", "inner"]);
  const heard = new Heard(await open(world.admin));
  await heard.until((event) => event === "fleet");
  const begunMs = Date.now();
  const outer = world.call("POST", "/v1/invoke/outer");
  await vi.waitFor(() => expect(globalThis.fetch).toHaveBeenCalledTimes(1));
  const innerId = (await world.call("POST", "/v1/invoke/inner")).headers.get("forechain-allocation")!;
  await heard.until((_, data) => data.includes(innerId));
  const answeredMs = Date.now();
  answerOuter();
  const outerId = (await outer).headers.get("forechain-allocation")!;
  expect(outerId < innerId).toBe(true);
  const told = JSON.parse(await heard.until((_, data) => data.includes(outerId)));
  expect(told.createdMs).toBeGreaterThanOrEqual(begunMs);
  expect(told.createdMs).toBeLessThan(answeredMs);
  expect(told.answeredMs).toBeGreaterThanOrEqual(answeredMs);
  await heard.reader.cancel();
  // Who comes back with the inner call has not had the outer one; who comes back with the outer one has had both.
  const again = new Heard(await open(world.admin, { "last-event-id": innerId }));
  await again.until((_, data) => data.includes(outerId));
  await again.reader.cancel();
  const last = new Heard(await open(world.admin, { "last-event-id": outerId }));
  await last.until((event) => event === "fleet");
  expect(last.said).not.toContain("event: allocation");
  await last.reader.cancel();
});

/** As an isolate writes them; ids are of the time at which they were made. */
function recordOf(allocationId: string, changes: Partial<AllocationRecord> = {}): AllocationRecord {
  const made = { allocationId, runId: "run", executionId: allocationId, task: "a", state: "executed" as const };
  return { ...made, createdMs: 0, outcome: null, ...changes };
}
const write = (records: AllocationRecord[]) => writeRecords(testEnv.DB, world.workspace, records);
/** All that a stream tells that goes on after an event. */
async function toldAfter(mark: Mark): Promise<Told[]> {
  const all: Told[] = [];
  for (let at = mark; ; ) {
    const { told, mark: next, isAll } = await eventsAfter(testEnv.DB, world.workspace, at);
    all.push(...told);
    if (isAll) return all;
    at = next;
  }
}
const BEGIN: Mark = { seq: 0, position: null };
const idsOf = (told: Told[]) => told.map(({ row }) => ("allocationId" in row ? row.allocationId : ""));
const idsIn = (said: string) => [...said.matchAll(/"allocationId":"(\w+)"/g)].map(([, id]) => id);

test("who comes back after an hour is told what came meanwhile, by the stream's ids and by an allocation's", async () => {
  const ids = [70, 60, 50].map((minutes) => newId(Date.now() - minutes * 60_000));
  for (const id of ids) await write([recordOf(id)]);
  const [first] = await toldAfter(BEGIN);
  for (const lastId of [`${first!.seq}-${first!.position}`, ids[0]!]) {
    const heard = new Heard(await open(world.admin, { "last-event-id": lastId }));
    await heard.until((_, data) => data.includes(ids[2]!));
    expect(idsIn(heard.said)).toEqual([ids[1], ids[2]]);
    await heard.reader.cancel();
  }
});

test("who has heard nothing yet goes on after the greeting", async () => {
  await write([recordOf(newId(Date.now()))]);
  const first = new Heard(await open(world.admin));
  await first.until((event) => event === "hello");
  const helloId = /^id: (.*)$/m.exec(first.said)![1]!;
  await first.reader.cancel();
  const id = newId(Date.now());
  await write([recordOf(id)]);
  const again = new Heard(await open(world.admin, { "last-event-id": helloId }));
  await again.until((event) => event === "allocation");
  expect(idsIn(again.said)).toEqual([id]);
  await again.reader.cancel();
});

test("of more than one page nothing is missed or told twice, wherever a reader goes on, in the order in which it was written", async () => {
  const ids = Array.from({ length: 250 }, () => newId(Date.now()));
  // Calls that were begun first and answered last come last.
  const written = [ids.slice(120), ids.slice(0, 7), ids.slice(7, 120)];
  for (const batch of written) await write(batch.map((id) => recordOf(id)));
  const told = await toldAfter(BEGIN);
  expect(idsOf(told)).toEqual(written.flat());
  for (const at of [0, 98, 99, 100, 129, 130, 136, 248, 249]) {
    expect(idsOf(await toldAfter(told[at]!)), `after ${at}`).toEqual(written.flat().slice(at + 1));
  }
});

test("what is pending is told again when it is filled, however the two are written, and a repeated flush is no news", async () => {
  const [slow, quick] = [newId(Date.now()), newId(Date.now())];
  const states = async (mark: Mark) =>
    (await toldAfter(mark)).map(({ kind, row }) => (kind === "allocation" ? [row.allocationId, row.state] : kind));
  await write([recordOf(slow, { state: "pending" })]);
  expect(await states(BEGIN)).toEqual([[slow, "pending"]]);
  const mark = await latestMark(testEnv.DB, world.workspace);
  await write([recordOf(slow, { state: "allocated" })]);
  // Filled before the isolate's batch says that it is pending.
  await write([recordOf(quick, { state: "allocated" })]);
  await write([recordOf(quick, { state: "pending" })]);
  // D1 had them, and the answer was lost.
  await write([slow, quick].map((id) => recordOf(id, { state: "allocated" })));
  expect(await states(mark)).toEqual([
    [slow, "allocated"],
    [quick, "allocated"],
  ]);
});

test("outcomes are told in the order in which they came to D1, each once although its flush is repeated", async () => {
  const outcome = (id: string, atMs: number): Outcome =>
    settleFailure(
      {
        ...{ commandId: id, kind: "warm", cluster: "paris", vm: "vm-1", task: "b", uri: null, runId: "r", bytes: 0 },
        ...{ probability: 0.5, foretold: 0.5, context: null, chain: null, wholeStartMs: null },
      },
      atMs,
      "no",
    );
  const settled = [30.5, 10, 20].map((atMs) => outcome(`of ${atMs}`, atMs));
  await runInDurableObject(world.hub("paris"), async (_, { storage }) => {
    const book = new OutcomeBook(storage.sql);
    for (const one of settled) book.write(one);
    const flush = (teach: Teach) => book.flush(testEnv.DB, world.workspace, "paris", teach);
    await flush(async () => {});
    // D1 has it, and the hub was gone before it knew.
    storage.sql.exec("UPDATE outcomes SET flushed = 0");
    const again = new OutcomeBook(storage.sql);
    again.write(outcome("later", 5));
    await again.flush(testEnv.DB, world.workspace, "paris", async () => {});
  });
  const told = await toldAfter(BEGIN);
  expect(told.map(({ kind, row }) => kind === "outcome" && row.commandId)).toEqual([
    "of 30.5",
    "of 10",
    "of 20",
    "later",
  ]);
});

test("a look costs what is new, however much is there", async () => {
  for (let batch = 0; batch < 5; batch++)
    await write(Array.from({ length: 200 }, () => recordOf(newId(Date.now()), { task: "x".repeat(500) })));
  const mark = await latestMark(testEnv.DB, world.workspace);
  let rowsRead = 0;
  const counted = counting(testEnv.DB, (rows) => {
    rowsRead += rows;
  });
  await eventsAfter(counted, world.workspace, mark);
  expect(rowsRead).toBeLessThanOrEqual(6);
  await write([recordOf(newId(Date.now())), recordOf(newId(Date.now()))]);
  rowsRead = 0;
  expect((await eventsAfter(counted, world.workspace, mark)).told).toHaveLength(2);
  expect(rowsRead).toBeLessThanOrEqual(15);
});

/** The database, told how many rows its batches read. */
function counting(db: D1Database, onRead: (rows: number) => void): D1Database {
  return new Proxy(db, {
    get(target, name) {
      if (name !== "batch") return Reflect.get(target, name).bind(target);
      return async (statements: D1PreparedStatement[]) => {
        const results = await target.batch(statements);
        for (const { meta } of results) onRead(meta.rows_read);
        return results;
      };
    },
  });
}

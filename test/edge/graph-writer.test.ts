// GraphWriter inside workerd: nothing accepted is lost whatever happens between two steps, and the rows are those of an
// undisturbed life. Time is ours: Date.now is set, alarms are run by hand.
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { packRecords, type RunRecord } from "../../src/core/records.ts";
import type { GraphWriter } from "../../src/edge/graph-writer.ts";
import { modelFor } from "../../src/edge/model-cache.ts";
import { newWorld, testEnv } from "./world.ts";

const BASE_MS = 1_790_000_000_000;
let nowMs = BASE_MS;

beforeAll(async () => {
  await newWorld(); // the migrations
});
beforeEach(() => {
  nowMs = BASE_MS;
  vi.spyOn(Date, "now").mockImplementation(() => nowMs);
});
afterEach(() => {
  vi.restoreAllMocks();
});

let writers = 0;
class Writer {
  readonly workspace = `writer-${++writers}-${crypto.randomUUID().slice(0, 8)}`;
  readonly stub: DurableObjectStub<GraphWriter> = testEnv.GRAPH_WRITER.getByName(this.workspace);

  ingest(records: RunRecord[]) {
    return this.stub.ingest(this.workspace, packRecords(records));
  }
  /** Later by this much; then whatever the alarm does. */
  async pass(ms: number) {
    nowMs += ms;
    return runDurableObjectAlarm(this.stub);
  }
  async crash() {
    await evictDurableObject(this.stub);
  }
  async graph() {
    const { version: _, ...graph } = JSON.parse(await this.stub.graph(this.workspace, { task: null, minCount: 0 }));
    return graph;
  }
  /** All rows of D1, as the last flush left them. */
  async rows() {
    const tables = [
      "graph_runs",
      "graph_tasks",
      "graph_transitions",
      "graph_services",
      "graph_objects",
      "graph_chains",
    ];
    const found: unknown[] = [];
    for (const table of tables) {
      const { results } = await testEnv.DB.prepare(`SELECT * FROM ${table} WHERE workspace = ?1`)
        .bind(this.workspace)
        .all();
      for (const row of results) found.push({ table, ...row, workspace: "" });
    }
    return found;
  }
}

/** A → (B → C), D; run `n`. Children first, as spans arrive. */
function runRecords(n: number): RunRecord[] {
  const at = BASE_MS - 60_000 + n * 10;
  const one = (id: string, parentId: string | null, start: number, end: number, rest = {}): RunRecord => ({
    runId: `run-${n}`,
    executionId: `${id}${n}`,
    parentId: parentId === null ? null : `${parentId}${n}`,
    task: id,
    startMs: at + start,
    endMs: at + end,
    status: "ok",
    rest,
  });
  return [
    one("C", "B", 3, 5, { services: [{ service: "db", calls: 2, bytes: 10, latencyMs: 1 }] }),
    one("B", "A", 2, 6, { inputs: [{ uri: "s3://models/m.bin", bytes: 1000 }] }),
    one("D", "A", 7, 8),
    one("A", null, 0, 9),
  ];
}

async function undisturbed(steps: RunRecord[][]): Promise<{ graph: unknown; rows: unknown }> {
  const writer = new Writer();
  for (const step of steps) await writer.ingest(step);
  await writer.pass(6_000);
  await writer.pass(30_000);
  return { graph: await writer.graph(), rows: await writer.rows() };
}

test("open runs are in the graph at once, and in D1 once they are sealed and flushed", async () => {
  const writer = new Writer();
  expect(await writer.ingest(runRecords(1))).toEqual({ accepted: 4, duplicates: 0, refused: [] });
  expect(
    (await writer.graph()).tasks.map(({ task, count }: { task: string; count: number }) => `${task}${count}`),
  ).toEqual(["A1", "B1", "C1", "D1"]);
  expect(await writer.rows()).toEqual([]);
  await writer.pass(6_000);
  const rows = (await writer.rows()) as { table: string; task?: string; source?: string; target?: string }[];
  expect(rows.filter(({ table }) => table === "graph_tasks").map(({ task }) => task)).toEqual(["A", "B", "C", "D"]);
  const transitions = rows.filter(({ table }) => table === "graph_transitions");
  expect(transitions.map(({ source, target }) => `${source}${target}`)).toEqual(["AB", "BC", "BD"]);
  expect(rows.find(({ table }) => table === "graph_services")).toMatchObject({ task: "C", calls: 2, latency_ms: 1 });
  expect(rows.find(({ table }) => table === "graph_objects")).toMatchObject({
    task: "B",
    uri: "s3://models/m.bin",
    bytes: 1000,
  });
  expect(rows.find(({ table }) => table === "graph_chains")).toMatchObject({
    chain: '["A","B","C"]',
    runs: 1,
    probability: 1,
  });
});

test("32: one batch of 500 executions of 400 tasks, with objects and services of their own, is whole in D1 and read back", async () => {
  const writer = new Writer();
  const at = BASE_MS - 60_000;
  const records = Array.from({ length: 500 }, (_, i): RunRecord => {
    const task = i === 0 ? "root" : `T${i % 400}`;
    const uri = `s3://bucket/${task}.bin`;
    const rest = { inputs: [{ uri, bytes: i }], services: [{ service: `db of ${task}`, calls: 1, bytes: 1 }] };
    const parentId = i === 0 ? null : "0";
    return { runId: "wide", executionId: String(i), parentId, task, startMs: at, endMs: at + 9, status: "ok", rest };
  });
  expect(await writer.ingest(records)).toMatchObject({ accepted: 500 });
  const graph = await writer.graph();
  await writer.pass(6_000);
  const byTable = Map.groupBy((await writer.rows()) as { table: string; count: number }[], ({ table }) => table);
  const sizes = [...byTable].map(([table, rows]) => [table, rows.length]);
  expect(Object.fromEntries(sizes)).toMatchObject({
    graph_tasks: 401,
    graph_transitions: 400,
    graph_services: 401,
    graph_objects: 401,
  });
  expect(byTable.get("graph_tasks")!.reduce((sum, { count }) => sum + count, 0)).toBe(500);
  await writer.crash();
  const restored = await writer.graph();
  expect([restored.tasks, restored.transitions]).toEqual([graph.tasks, graph.transitions]);
});

test("the first model is published with the first seals, and the Worker's cache serves it", async () => {
  const writer = new Writer();
  expect(await modelFor(testEnv.GRAPH_WRITER, writer.workspace, 5_000)).toBeNull();
  for (let n = 0; n < 5; n++) await writer.ingest(runRecords(n));
  await writer.pass(6_000);
  expect(await writer.stub.publishedVersion(writer.workspace)).toBe(1);
  nowMs += 10_000; // the cache asks again
  const model = await modelFor(testEnv.GRAPH_WRITER, writer.workspace, 5_000);
  expect(model).toMatchObject({ version: 1, tasks: ["A", "B", "C", "D"] });
  expect(model!.profiles.get("B")!.objects[0]).toMatchObject({ uri: "s3://models/m.bin", probability: 1 });
  const next = model!.engine.next({ tasks: Uint32Array.of(model!.taskIds.get("A")!) }, 10);
  expect(next.probabilities.reduce((sum, p) => sum + p, next.end)).toBeCloseTo(1, 6);
});

test("a model that was looked at seconds ago serves while the newer one comes; after a silence the newer one is waited for", async () => {
  const writer = new Writer();
  const ask = async () => (await modelFor(testEnv.GRAPH_WRITER, writer.workspace, 5_000))?.version;
  await writer.ingest(runRecords(0));
  await writer.pass(6_000);
  nowMs += 8_000;
  await writer.ingest(runRecords(1));
  nowMs += 3_000;
  expect(await ask()).toBe(1);
  await writer.pass(3_000);
  expect(await writer.stub.publishedVersion(writer.workspace)).toBe(2);
  expect(await ask()).toBe(1);
  await vi.waitFor(async () => expect(await ask()).toBe(2), { timeout: 5_000 });
  await writer.ingest(runRecords(2));
  await writer.pass(12_000);
  expect(await writer.stub.publishedVersion(writer.workspace)).toBe(3);
  expect(await ask()).toBe(3);
});

describe("crashes", () => {
  const steps = Array.from({ length: 6 }, (_, n) => runRecords(n)).flatMap((records) => [
    records.slice(0, 2),
    records.slice(2),
  ]);

  test("after every batch: graph and rows as if nothing had happened", async () => {
    const expected = await undisturbed(steps);
    const writer = new Writer();
    for (const step of steps) {
      await writer.ingest(step);
      await writer.crash();
    }
    await writer.pass(6_000);
    await writer.crash();
    await writer.pass(30_000);
    expect(await writer.graph()).toEqual(expected.graph);
    expect(await writer.rows()).toEqual(expected.rows);
  });

  test("between seals, publishing and flush: each run is learned once", async () => {
    const calm = new Writer();
    const stormy = new Writer();
    for (const writer of [calm, stormy]) {
      nowMs = BASE_MS;
      for (const [i, step] of steps.entries()) {
        await writer.ingest(step);
        if (i % 4 === 3) {
          if (writer === stormy) await writer.crash();
          await writer.pass(6_000);
          if (writer === stormy) await writer.crash();
        }
      }
      await writer.pass(30_000);
      if (writer === stormy) await writer.crash();
      await writer.graph();
      await writer.pass(30_000);
    }
    expect(await stormy.graph()).toEqual(await calm.graph());
    expect(await stormy.rows()).toEqual(await calm.rows());
    const [calmModel, stormyModel] = [
      await calm.stub.bundle(calm.workspace),
      await stormy.stub.bundle(stormy.workspace),
    ];
    expect(stormyModel!.tasks).toEqual(calmModel!.tasks);
    expect(Buffer.compare(Buffer.from(stormyModel!.image), Buffer.from(calmModel!.image))).toBe(0);
  });

  test("while a kind of run is learned anew after a change: the same model", async () => {
    const models: { image: Uint8Array; drift: unknown }[] = [];
    for (const isStormy of [false, true]) {
      nowMs = BASE_MS;
      const writer = new Writer();
      const learn = async (from: number, to: number, isChanged: boolean) => {
        for (let n = from; n < to; n++) {
          const records = runRecords(n);
          await writer.ingest(
            isChanged ? records.map((one) => (one.task === "D" ? { ...one, task: "E" } : one)) : records,
          );
        }
        await writer.pass(6_000);
        if (isStormy) await writer.crash();
      };
      await learn(0, 40, false);
      await learn(40, 41, true);
      for (let n = 41; n < 50; n += 3) await learn(n, n + 3, true);
      await writer.pass(30_000);
      const { drift } = await writer.stub.learning(writer.workspace);
      models.push({ image: (await writer.stub.bundle(writer.workspace))!.image, drift });
    }
    const [calm, stormy] = models;
    expect(calm!.drift).toMatchObject({ relearning: [{ root: "A", runs: 8 }], changes: [{ root: "A" }] });
    expect(stormy!.drift).toEqual(calm!.drift);
    expect(Buffer.compare(Buffer.from(stormy!.image), Buffer.from(calm!.image))).toBe(0);
  });

  test("a flush between two publications takes the model along: it drops the journal that the model would be learned from", async () => {
    const images: Uint8Array[] = [];
    for (const isStormy of [false, true]) {
      nowMs = BASE_MS;
      const writer = new Writer();
      await writer.ingest(runRecords(1));
      await writer.pass(6_000); // sealed, published, flushed
      nowMs += 4_000;
      await writer.ingest(runRecords(2));
      nowMs += 5_000;
      await writer.ingest(runRecords(3));
      await writer.pass(1_000); // run 2 sealed and published
      await writer.pass(5_000); // run 3 sealed
      await writer.pass(4_000); // flushed, a second before the next publication
      if (isStormy) await writer.crash();
      await writer.ingest(runRecords(4));
      await writer.pass(60_000);
      images.push((await writer.stub.bundle(writer.workspace))!.image);
    }
    expect(Buffer.compare(Buffer.from(images[0]!), Buffer.from(images[1]!))).toBe(0);
  });

  test("D1 fails a flush, or takes it and its answer is lost: the rows are right in the end", async () => {
    const expected = await undisturbed([...steps, runRecords(9)]);
    const writer = new Writer();
    for (const step of steps) await writer.ingest(step);
    // Fleet reads its declarations from the same D1: before it fails.
    await writer.stub.chains(writer.workspace, { offset: 0 }, 1);
    // `env` is the object's own: mock the method that both share.
    const batch = testEnv.DB.batch.bind(testEnv.DB);
    const proto = Object.getPrototypeOf(testEnv.DB) as D1Database;
    vi.spyOn(console, "error").mockImplementation(() => {});
    const failing = vi.spyOn(proto, "batch").mockRejectedValueOnce(new Error("D1 is away"));
    await writer.pass(6_000);
    expect(failing).toHaveBeenCalledTimes(1);
    expect(await writer.rows()).toEqual([]);
    failing.mockImplementationOnce(async (statements: D1PreparedStatement[]) => {
      failing.mockRestore();
      await batch(statements);
      throw new Error("the answer was lost");
    });
    await writer.pass(30_000);
    expect(await writer.rows()).not.toEqual([]);
    await writer.ingest(runRecords(9));
    await writer.crash();
    await writer.pass(6_000);
    await writer.pass(30_000);
    expect(await writer.graph()).toEqual(expected.graph);
    expect(await writer.rows()).toEqual(expected.rows);
  });
});

test("late records correct the rows of a run in a pack, over a crash, and the repetition is told", async () => {
  const expected = await undisturbed([runRecords(1)]);
  const writer = new Writer();
  const [c, b, d, a] = runRecords(1) as [RunRecord, RunRecord, RunRecord, RunRecord];
  await writer.ingest([c, b]);
  await writer.pass(6_000);
  await writer.pass(30_000);
  await writer.crash();
  expect(await writer.ingest([a, b])).toEqual({ accepted: 1, duplicates: 1, refused: [] });
  await writer.crash();
  expect(await writer.ingest([d])).toEqual({ accepted: 1, duplicates: 0, refused: [] });
  expect(await writer.graph()).toEqual(expected.graph);
  await writer.pass(30_000);
  await writer.crash();
  expect(await writer.ingest(runRecords(1))).toEqual({ accepted: 0, duplicates: 4, refused: [] });
  expect(await writer.graph()).toEqual(expected.graph);
  expect(await writer.rows()).toEqual(expected.rows);
});

test("a trace that links to another's is one run with it, over packs and crashes", async () => {
  const producer = runRecords(1);
  const consumer = { ...producer[0]!, runId: "other-trace", executionId: "E1", parentId: null, task: "E" };
  consumer.rest = { links: ["B1"], joins: ["run-1"] };
  const later = { ...consumer, executionId: "F1", parentId: "E1", task: "F", rest: {} };
  const expected = await undisturbed([producer, [consumer, later]]);
  const writer = new Writer();
  await writer.ingest(producer);
  await writer.pass(6_000);
  await writer.pass(30_000);
  await writer.crash();
  await writer.ingest([consumer]);
  await writer.crash();
  expect((await writer.ingest([later])).accepted).toBe(1);
  await writer.pass(30_000);
  await writer.crash();
  expect(await writer.ingest([consumer, later])).toEqual({ accepted: 0, duplicates: 2, refused: [] });
  expect(await writer.graph()).toEqual(expected.graph);
  expect(await writer.rows()).toEqual(expected.rows);
});

test("a record a day after its run was sealed is refused with the reason, and counts nothing", async () => {
  const writer = new Writer();
  await writer.ingest(runRecords(1).slice(0, 3));
  await writer.pass(6_000);
  await writer.pass(30_000);
  const before = await writer.graph();
  nowMs += 25 * 3_600_000;
  await writer.ingest(runRecords(2));
  await writer.pass(6_000);
  await writer.pass(30_000);
  const late = await writer.ingest(runRecords(1).slice(3));
  expect(late.refused).toEqual([{ runId: "run-1", executionId: "A1", reason: expect.stringContaining("24 hours") }]);
  expect((await writer.graph()).runs).toBe(before.runs + 1);
});

test("an image of another engine is not taken: the model is learned anew from the kept runs", async () => {
  const writer = new Writer();
  for (let n = 0; n < 5; n++) await writer.ingest(runRecords(n));
  await writer.pass(6_000);
  await writer.pass(30_000);
  const before = (await writer.stub.bundle(writer.workspace))!;
  await runInDurableObject(writer.stub, (_, state) => {
    state.storage.sql.exec("UPDATE model SET bytes = x'00112233' WHERE kind = 'image' AND part = 0");
  });
  await writer.crash();
  vi.spyOn(console, "warn").mockImplementation(() => {});
  await writer.graph();
  await writer.pass(30_000);
  const after = (await writer.stub.bundle(writer.workspace))!;
  expect(after.version).toBe(before.version + 1);
  expect(Buffer.compare(Buffer.from(after.image), Buffer.from(before.image))).toBe(0);
});

test("names and ids that objects have of their own are names like any other, over packs and crashes", async () => {
  const names = ["__proto__", "constructor", "toString", "hasOwnProperty"];
  const records = names.flatMap((name) => runRecords(1).map((r) => ({ ...r, runId: name, task: `${name}` })));
  const expected = await undisturbed([records]);
  const writer = new Writer();
  await writer.ingest(records.slice(0, 7));
  await writer.pass(6_000);
  await writer.ingest(records.slice(7, 13));
  await writer.pass(30_000);
  await writer.crash();
  await writer.ingest(records.slice(13));
  await writer.crash();
  expect((await writer.ingest(records)).duplicates).toBe(16);
  await writer.pass(6_000);
  await writer.pass(60_000);
  expect(await writer.graph()).toEqual(expected.graph);
  expect(await writer.rows()).toEqual(expected.rows);
});

test("workspaces do not see each other", async () => {
  const [one, other] = [new Writer(), new Writer()];
  await one.ingest(runRecords(1));
  expect((await other.graph()).tasks).toEqual([]);
  await one.pass(6_000);
  expect(await other.rows()).toEqual([]);
});

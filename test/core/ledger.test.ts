// Runs on their way into the rows: sealing, late records, and the property that order, repetition and batches play no part.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  ALIASES_MAX,
  type Archive,
  type KeptRun,
  Ledger,
  OPEN_RECORDS_MAX,
  QUIET_MIN_MS,
} from "../../src/core/ledger.ts";
import { packRecords, type RunRecord, unpackRecords } from "../../src/core/records.ts";
import { GraphRows, newestDayOf, ROWS_MAX, trimDays, warningsOf } from "../../src/core/rows.ts";
import { BASE_MS, ledger, record, rowsText, transitionsOfRows } from "./run.ts";

/** An archive in memory, of text, as GraphWriter's packs are on disk. */
class MemoryArchive implements Archive {
  readonly runs = new Map<string, KeptRun>();
  find(runId: string) {
    const run = this.runs.get(runId);
    return run === undefined ? null : { ...run, keptMs: 0 };
  }
  take(from: Ledger): void {
    for (const { runId, aliases, records } of from.takeSealed()) {
      const text = unpackRecords(packRecords(records));
      const run = { runId, aliases, records: text.filter((record) => record.runId === runId) };
      for (const id of [runId, ...aliases]) this.runs.set(id, run);
    }
  }
}

const SEED = Number(process.env.FORECHAIN_TEST_SEED ?? 20_261_125);

/** A run of any shape: nesting, parallel branches, missing parents, retries, links, equal times, collapsed spans. */
const anyRun = fc.nat(3).chain((number) =>
  fc
    .array(
      fc.record({
        task: fc.constantFrom("a", "b", "c", "d", "-"),
        parent: fc.option(fc.nat(12), { nil: null }),
        link: fc.option(fc.nat(12), { nil: null, freq: 4 }),
        /** The link leads into another run. */
        join: fc.option(fc.nat(3), { nil: null, freq: 6 }),
        start: fc.nat(20),
        duration: fc.nat(6),
        isError: fc.boolean(),
        isSpeculative: fc.nat(9).map((n) => n === 0),
        attempt: fc.option(fc.nat(2), { nil: null, freq: 4 }),
        coldStartMs: fc.option(fc.nat(6), { nil: null }),
      }),
      { minLength: 1, maxLength: 12 },
    )
    .map((executions) =>
      executions.map((e, i) => {
        const parent = e.parent === null ? "" : `< e${number}x${e.parent}`;
        const joins = e.join === null || e.join === number || e.link === null ? {} : { joins: [`run${e.join}`] };
        return record(
          `e${number}x${i}:${e.task} ${parent} ${e.start}-${e.start + e.duration}${e.isError ? "!" : ""}`,
          {
            ...(e.link === null ? {} : { links: [`e${e.join ?? number}x${e.link}`] }),
            ...joins,
            ...(e.isSpeculative ? { speculative: true as const } : {}),
            ...(e.attempt === null ? {} : { attempt: e.attempt }),
            ...(e.coldStartMs === null ? {} : { coldStartMs: e.coldStartMs }),
          },
          `run${number}`,
        );
      }),
    ),
);

const anyLog = fc.array(anyRun, { minLength: 1, maxLength: 4 }).map((runs) => {
  // Runs of the same number are one run; an id counts once.
  const byId = new Map(runs.flat().map((r) => [`${r.runId} ${r.executionId}`, r]));
  return [...byId.values()];
});

/** How a log may arrive: shuffled, some records twice, in batches, with seals, packs and reads in between. */
const anyDelivery = fc.record({
  keys: fc.array(fc.nat(), { minLength: 64, maxLength: 64 }),
  repeats: fc.array(fc.nat(63), { maxLength: 10 }),
  batch: fc.integer({ min: 1, max: 9 }),
  seals: fc.array(fc.boolean(), { minLength: 64, maxLength: 64 }),
  packs: fc.array(fc.boolean(), { minLength: 64, maxLength: 64 }),
});

type Delivery = typeof anyDelivery extends fc.Arbitrary<infer T> ? T : never;

function deliver(log: RunRecord[], how: Delivery): string[] {
  const book = delivered(log, how, new GraphRows());
  const provisional = rowsText(book.rows.with(book.provisional()));
  book.seal([...book.open.keys()], () => {});
  book.settle();
  expect(rowsText(book.rows.rows)).toEqual(provisional); // exact whenever read
  return provisional;
}

function delivered(log: RunRecord[], how: Delivery, rows: GraphRows): Ledger {
  const shuffled = log
    .map((item, i) => ({ item, key: how.keys[i % 64]! }))
    .sort((a, b) => a.key - b.key)
    .map(({ item }) => item);
  const stream = [...shuffled, ...how.repeats.map((i) => shuffled[i % shuffled.length]!)];
  const archive = new MemoryArchive();
  const book = new Ledger(rows, [], archive);
  for (let at = 0, step = 0; at < stream.length; at += how.batch, step++) {
    book.ingest(stream.slice(at, at + how.batch), step);
    if (how.seals[step % 64]) book.seal([...book.open.keys()], () => {});
    if (how.packs[step % 64]) archive.take(book);
  }
  book.settle();
  return book;
}

function inOnePiece(log: RunRecord[]): string[] {
  const book = ledger();
  book.ingest(log, 0);
  book.seal([...book.open.keys()], () => {});
  return rowsText(book.rows.rows);
}

describe("order, repetition and batches", () => {
  test(`same rows (seed ${SEED})`, () => {
    fc.assert(
      fc.property(anyLog, anyDelivery, (log, how) => {
        expect(deliver(log, how)).toEqual(inOnePiece(log));
      }),
      { seed: SEED, numRuns: 500 },
    );
  });

  test("the property can fail: counting a repeated record twice breaks it", () => {
    const log = [record("a 0-1"), record("b < a 0-1")];
    const twice = [...log, { ...log[1]!, executionId: "another" }];
    expect(inOnePiece(twice)).not.toEqual(inOnePiece(log));
  });

  test("of two records of one execution the fuller one stands, whichever came first", () => {
    const started = { ...record("a 0-0"), endMs: null };
    const ended = record("a 0-50");
    const rows = [
      [started, ended],
      [ended, started],
    ].map((order) => inOnePiece(order));
    expect(rows[0]).toEqual(rows[1]);
    expect(rows[0]).toEqual(inOnePiece([ended]));
  });
});

describe("joining", () => {
  const producer = [record("a 0-20", {}, "one"), record("p:- < a 5-6", {}, "one")];
  const consumer = [record("c 30-40", { links: ["p"], joins: ["one"] }, "two"), record("d < c 31-32", {}, "two")];
  const expected = ["a -link-> c 1", "c -call-> d 1"];

  test("26: a consumer's trace that links to its producer's is one run with it, whichever came first", () => {
    for (const order of [
      [...producer, ...consumer],
      [...consumer, ...producer],
    ]) {
      const book = ledger();
      const runs: number[] = [];
      book.ingest(order, 0);
      book.seal(book.due(QUIET_MIN_MS), (run) => runs.push(run.executions.length));
      expect(transitionsOfRows(book.rows.rows)).toEqual(expected);
      expect(runs).toEqual([3]);
    }
  });

  test("26: also when both had been sealed and packed before, and once only", () => {
    const archive = new MemoryArchive();
    const book = new Ledger(new GraphRows(), [], archive);
    book.ingest([...producer, consumer[1]!], 0);
    book.seal(book.due(QUIET_MIN_MS), () => {});
    archive.take(book);
    for (const again of [1, 2]) {
      expect(book.ingest([consumer[0]!], 60_000 * again)).toMatchObject({ accepted: 2 - again });
      archive.take(book);
      expect(transitionsOfRows(book.rows.rows)).toEqual(expected);
    }
  });

  test("30: one declared run id over two traces is one run", () => {
    const book = ledger();
    const traces = ["one", "two"].map((runId, i) => record(`${"ab"[i]} ${i}-${i}`, { joins: ["workflow-7"] }, runId));
    book.ingest(traces, 0);
    expect(book.open.size).toBe(1);
    expect(book.due(QUIET_MIN_MS)).toHaveLength(1);
  });

  test("a job that always links to its last run, and a batch that links to many, join no more than the bound", () => {
    const book = ledger();
    for (let n = 0; n < 200; n++) book.ingest([record("a 0-1", { links: ["x"], joins: [`t${n - 1}`] }, `t${n}`)], n);
    for (const run of book.open.values()) expect(run.aliases.length).toBeLessThanOrEqual(ALIASES_MAX);
    const batch = ledger();
    batch.ingest([record("b 0-1", { links: ["x"], joins: Array.from({ length: 50 }, (_, i) => `m${i}`) }, "batch")], 0);
    batch.ingest([record("m 0-1", {}, "m7")], 0);
    expect(batch.open.size).toBe(2);
  });
});

describe("sealing", () => {
  const whole = [record("a 0-9"), record("b < a 1-2")];

  test("whole and quiet for 5 s", () => {
    const book = ledger();
    book.ingest(whole, 1000);
    expect(book.due(1000 + QUIET_MIN_MS - 1)).toEqual([]);
    expect(book.nextDueMs()).toBe(1000 + QUIET_MIN_MS);
    expect(book.due(1000 + QUIET_MIN_MS)).toEqual(["run"]);
  });

  test("a named parent is missing: three times the longest gap seen for this root task", () => {
    const book = ledger();
    book.ingest([record("b < gone 1-2", {}, "first")], 0);
    book.ingest([record("c < b 1-2", {}, "first")], 4000);
    book.seal(book.due(60_000), () => {});
    book.ingest([record("b < gone 1-2", {}, "second")], 100_000);
    expect(book.due(100_000 + 11_999)).toEqual([]);
    expect(book.due(100_000 + 12_000)).toEqual(["second"]);
  });

  test("a late record corrects the rows, teaches the gap, and the model learns the run only once", () => {
    const archive = new MemoryArchive();
    const book = new Ledger(new GraphRows(), [], archive);
    let learned = 0;
    book.ingest([record("b < a 1-2")], 0);
    book.seal(book.due(QUIET_MIN_MS), () => learned++);
    archive.take(book);
    expect(transitionsOfRows(book.rows.rows)).toEqual([]);
    expect(book.ingest([record("a 0-9")], 600_000)).toMatchObject({ accepted: 1, changes: 1 });
    book.settle();
    expect(transitionsOfRows(book.rows.rows)).toEqual(["a -call-> b 1"]);
    expect(learned).toBe(1);
    expect(book.due(10_000_000)).toEqual([]);
    expect(Math.max(...book.gaps.values())).toBe(600_000);
  });

  test("24: children first, root ten minutes later: the graph of a log in order", () => {
    const archive = new MemoryArchive();
    const book = new Ledger(new GraphRows(), [], archive);
    book.ingest([record("b < a 1-2"), record("c < a 3-4")], 0);
    book.seal(book.due(QUIET_MIN_MS), () => {});
    archive.take(book);
    book.ingest([record("a 0-9")], 600_000);
    book.settle();
    expect(rowsText(book.rows.rows)).toEqual(inOnePiece([record("a 0-9"), record("b < a 1-2"), record("c < a 3-4")]));
  });

  test("25: the same batch twice changes nothing, open or sealed", () => {
    const book = ledger();
    expect(book.ingest(whole, 0)).toMatchObject({ accepted: 2, duplicates: 0 });
    expect(book.ingest(whole, 1)).toMatchObject({ accepted: 0, duplicates: 2, changes: 0 });
    book.seal(book.due(QUIET_MIN_MS + 1), () => {});
    expect(book.ingest(whole, 20_000)).toMatchObject({ accepted: 0, duplicates: 2, changes: 0 });
  });

  test("a run that expired is told, not counted anew", () => {
    const book = new Ledger(new GraphRows(), [], { find: () => "expired" });
    const { accepted, refused } = book.ingest(whole, 0);
    expect(accepted).toBe(0);
    expect(refused.map(({ reason }) => reason)).toEqual(Array(2).fill(expect.stringContaining("24 hours")));
  });

  test("at the bound of memory the quietest runs are sealed early", () => {
    const book = ledger();
    const runs = OPEN_RECORDS_MAX / 1000 + 1;
    for (let run = 0; run < runs; run++) {
      const records = Array.from({ length: 1000 }, (_, i) => record(`e${i}:a 0-1`, {}, `run${run}`));
      book.ingest(records, run);
    }
    expect(book.isFull).toBe(true);
    expect(book.due(runs)).toEqual(Array.from({ length: 15 }, (_, i) => `run${i}`));
  });

  test("a record of many files counts as many: bounds are of memory, not of numbers", () => {
    const inputs = Array.from({ length: 256 }, (_, i) => ({ uri: `s3://data/${"x".repeat(200)}/${i}`, bytes: 1 }));
    const book = ledger();
    let taken = 0;
    while (!book.isFull) book.ingest([record(`e${taken}:a 0-1`, { inputs }, `run${taken++}`)], taken);
    expect(taken).toBeGreaterThan(300);
    expect(taken).toBeLessThan(500);
    expect(book.due(taken).length).toBeGreaterThan(taken / 9);
    const heavy = Array.from({ length: taken }, (_, i) => record(`e${i}:a 0-1`, { inputs }));
    const { accepted, refused } = ledger().ingest(heavy, 0);
    expect(accepted).toBeGreaterThan(300);
    expect(refused.at(-1)?.reason).toContain("many files");
    // Sealed, they go to packs as soon as they weigh as much as thousands of plain ones.
    book.seal(["run0", "run1", "run2", "run3", "run4", "run5", "run6", "run7", "run8", "run9"], () => {});
    book.seal(["run10", "run11", "run12", "run13", "run14", "run15"], () => {});
    expect(book.isPackDue).toBe(true);
    expect(book.openWeight).toBe([...book.open.values()].reduce((sum, { weight }) => sum + weight, 0));
  });
});

test("weights decay by event time and forget the last day that counts for nothing", () => {
  const day = 86_400_000;
  const book = ledger();
  const at = (days: number, runId: string) =>
    ["a 0-9", "b < a 1-2"].map((line) => {
      const r = record(line, {}, runId);
      return { ...r, startMs: BASE_MS + days * day, endMs: BASE_MS + days * day + 9 };
    });
  book.ingest([...at(0, "old"), ...at(7, "new")], 0);
  book.seal([...book.open.keys()], () => {});
  const text = rowsText(book.rows.rows).find((row) => row.startsWith("e|a|b|call"))!;
  expect(text).toMatch(/"y19675":1,"y19682":1/);
  const counts = book.rows.rows.get(["e", "a", "b", "call"].join("\u0000"))!;
  trimDays(counts, newestDayOf(book.rows.rows)! + 65);
  expect([...counts.keys()].filter((field) => field.startsWith("y"))).toEqual(["y19682"]);
});

describe("more rows than there may be", () => {
  const MAX = { ...ROWS_MAX, transition: 3, chain: 2, task: 64 };

  test(`what is kept is whole, whatever came late, twice or was taken back (seed ${SEED})`, () => {
    let refusals = 0;
    fc.assert(
      fc.property(anyLog, anyDelivery, (log, how) => {
        const book = delivered(log, how, new GraphRows(MAX));
        book.seal([...book.open.keys()], () => {});
        book.settle();
        const whole = new Set(inOnePiece(log));
        for (const row of rowsText(book.rows.rows)) expect(whole).toContain(row);
        refusals += book.rows.limits().filter(({ refused }) => refused > 0).length;
      }),
      { seed: SEED, numRuns: 500 },
    );
    expect(refusals).toBeGreaterThan(100);
  });

  test("a row that was refused is not let in when another one goes: its earlier runs would be missing", () => {
    const book = new Ledger(new GraphRows({ ...MAX, transition: 1 }), [], new MemoryArchive());
    const seal = (records: RunRecord[]) => {
      book.ingest(records, 0);
      book.seal([...book.open.keys()], () => {});
      book.settle();
    };
    seal([record("a 0-1", {}, "one"), record("b < a 0-1", {}, "one")]);
    seal([record("a 0-1", {}, "two"), record("c < a 0-1", {}, "two")]);
    seal([record("b < a 0-9", { speculative: true }, "one")]); // a → b has never been
    seal([record("a 0-1", {}, "three"), record("c < a 0-1", {}, "three")]);
    seal([record("c < a 0-2", {}, "two")]); // takes back the a → c that was refused
    expect(transitionsOfRows(book.rows.rows)).toEqual([]);
  });

  test("it is told, in words too, and a restart does not forget it", () => {
    const rows = new GraphRows(MAX);
    const book = new Ledger(rows, [], new MemoryArchive());
    book.ingest([record("a 0-1"), ...["b", "c", "d", "e", "f"].map((task) => record(`${task} < a 0-1`))], 0);
    book.seal([...book.open.keys()], () => {});
    const transitions = rows.limits().find((limit) => limit.rows === "transition");
    expect(transitions).toEqual({ rows: "transition", count: 3, max: 3, refused: 2 });
    expect(warningsOf(rows.limits())).toContainEqual(expect.stringContaining("at most 3 transition rows"));
    const restarted = new GraphRows(MAX);
    restarted.restoreRefusals(rows.refusalsText());
    restarted.apply(new Map([["e\u0000x\u0000y\u0000call", new Map([["n", 1]])]]), 1);
    expect(restarted.rows.size).toBe(0);
    expect(restarted.limits().find((limit) => limit.rows === "transition")).toMatchObject({ count: 0, refused: 3 });
  });
});

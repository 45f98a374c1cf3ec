// Cold starts within a run: whatever was cold, durations, delays and lead times are those of the same run with everything warm.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { contributionOf } from "../../src/core/contribution.ts";
import { warmEndOf, warmStartOf } from "../../src/core/profile/cold.ts";
import { type AssembledRun, assembleRun } from "../../src/core/profile.ts";
import type { RecordRest, RunRecord } from "../../src/core/records.ts";
import { GraphRows } from "../../src/core/rows.ts";
import { BASE_MS, record, rowsText, run } from "./run.ts";

const SEED = Number(process.env.FORECHAIN_TEST_SEED ?? 20_261_126);

/** `start-end` with everything warm, by id. */
function warmTimes({ executions }: AssembledRun): Record<string, string> {
  const since = (ms: number) => ms - BASE_MS;
  return Object.fromEntries(
    executions.map((execution) => [
      execution.record.executionId,
      `${since(warmStartOf(execution))}-${since(warmEndOf(execution))}`,
    ]),
  );
}

const cold = (line: string, coldStartMs: number, rest: RecordRest = {}) => record(line, { coldStartMs, ...rest });

describe("times with everything warm", () => {
  test.each<[string, (string | RunRecord)[], Record<string, string>]>([
    ["one that starts cold", [cold("a 0-500", 400)], { a: "0-100" }],
    ["no cold start is longer than its execution", [cold("a 0-500", 900)], { a: "0-0" }],
    [
      "a caller that waits for one callee after the other",
      ["a 0-850", cold("b < a 10-360", 300), cold("c < a 370-840", 450)],
      { a: "0-100", b: "10-60", c: "70-90" },
    ],
    [
      "callers of callers",
      [cold("a 0-1000", 100), cold("b < a 110-990", 200), cold("c < b 320-980", 600)],
      { a: "0-100", b: "10-90", c: "20-80" },
    ],
    [
      "of cold starts side by side the longest counts",
      ["a 0-400", cold("b < a 10-390", 300), cold("c < a 10-310", 250)],
      { a: "0-100", b: "10-90", c: "10-60" },
    ],
    [
      "beside a longer warm callee only what a cold one has more",
      ["a 0-340", "b < a 10-200", cold("c < a 10-330", 300)],
      { a: "0-210", b: "10-200", c: "10-30" },
    ],
    [
      "a cold start that nobody waits for",
      ["a 0-100", "b < a 10-90", cold("c < a 10-85", 50)],
      { a: "0-100", b: "10-90", c: "10-35" },
    ],
    [
      "a callee that ends after its caller was not waited for",
      ["a 0-100", cold("b < a 90-500", 300)],
      { a: "0-100", b: "90-200" },
    ],
    [
      "a callee whose record was closed just after its answer was waited for",
      ["a 0-400", cold("b < a 10-404", 300), "c < a 405-420"],
      { a: "0-100", b: "10-104", c: "105-120" },
    ],
    [
      "what follows callees of others: b's duration holds x's start",
      ["o 0-900", "a < o 10-500", cold("x < a 20-490", 400), "b < o 510-890"],
      { o: "0-500", a: "10-100", x: "20-90", b: "110-490" },
    ],
    [
      "links alone, as agents tell them: a task that calls with its own continuation, then with its callee's",
      ["a 0-850", cold("b 10-360", 300, { links: ["a"] }), cold("c 370-840", 450, { links: ["b"] })],
      { a: "0-100", b: "10-60", c: "70-90" },
    ],
    [
      "links to what had ended wait for nobody",
      [cold("a 0-400", 300), cold("b 410-800", 300, { links: ["a"] })],
      { a: "0-100", b: "110-200" },
    ],
    [
      "a log without parents: each follows the one before, and none waits",
      [cold("a 0-400", 300), cold("b 410-800", 300), "c 810-900"],
      { a: "0-100", b: "110-200", c: "210-300" },
    ],
    [
      "attempts that failed: all of them waited",
      [
        "o 0-1000",
        cold("a1:a < o 10-310!", 200, { attempt: 0 }),
        cold("a2:a < o 330-830", 400, { attempt: 1 }),
        "b < o 850-990",
      ],
      { o: "0-400", a2: "10-230", b: "250-390" },
    ],
    [
      "a callee of which only that it was cold is known",
      ["a 0-100", record("b < a 10-90", { cold: true })],
      { a: "0-100", b: "10-90" },
    ],
    [
      "a join of what still runs and what has ended: from where the one went on, and where the other ended",
      [cold("a 0-1000", 300), "b 0-100", record("c 350-400", { links: ["a", "b"] })],
      { a: "0-700", b: "0-100", c: "150-200" },
    ],
    [
      "no cold start is longer than its attempt",
      [record("a1:a 0-100!", { attempt: 0 }), cold("a2:a 200-300", 150, { attempt: 1 }), "b < a2 210-290"],
      { a2: "0-200", b: "200-280" },
    ],
    [
      "circles: the one that comes first waited for the other",
      ["a < b 0-10", cold("b < a 1-9", 4)],
      { a: "0-6", b: "1-5" },
    ],
    [
      "clocks that disagree: a callee of a callee seems to start before its caller",
      [cold("a 0-1000", 200), "b < a 300-900", "c < b 290-800"],
      { a: "0-800", b: "100-700", c: "90-600" },
    ],
    [
      "clocks that disagree: a callee seems to start before its caller's last attempt",
      [record("a1:a 0-10!", { attempt: 0 }), cold("a2:a 20-300", 100, { attempt: 1 }), "b < a2 15-280"],
      { a2: "0-200", b: "15-280" },
    ],
    [
      "clocks that disagree: a callee seems to start before its caller's start was over",
      [cold("a 100-400", 200), "b < a 90-380"],
      { a: "100-200", b: "90-380" },
    ],
  ])("%s", (_, lines, expected) => {
    expect(warmTimes(run(...lines))).toEqual(expected);
  });
});

// ── Any run ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A task that calls others stage by stage: those of a stage at once, the next stage when all have ended. */
interface Work {
  task: string;
  beforeMs: number;
  /** `isLeft`: one more is called that goes on when all else has ended. */
  stages: { gapMs: number; calls: Work[]; isLeft: boolean }[];
  afterMs: number;
  /** Attempts that fail before. */
  fails: number;
  /** A message at its end: the work of it goes on when this has ended. */
  message: Work | null;
  coldMs: number[];
}

function anyWork(depth: number): fc.Arbitrary<Work> {
  const below = depth > 0 ? anyWork(depth - 1) : null;
  const stage = (calls: fc.Arbitrary<Work>) =>
    fc.record({ gapMs: fc.nat(10), calls: fc.array(calls, { minLength: 1, maxLength: 3 }), isLeft: fc.boolean() });
  return fc.record({
    task: fc.constantFrom("a", "b", "c", "d", "e"),
    beforeMs: fc.nat(40),
    stages: below === null ? fc.constant([]) : fc.array(stage(below), { maxLength: 3 }),
    afterMs: fc.integer({ min: 1, max: 40 }),
    fails: fc.oneof({ weight: 8, arbitrary: fc.constant(0) }, fc.integer({ min: 1, max: 2 })),
    message: below === null ? fc.constant(null) : fc.option(below, { nil: null, freq: 1 }),
    coldMs: fc.array(fc.oneof(fc.constant(0), fc.nat(600)), { minLength: 3, maxLength: 3 }),
  });
}

const LEFT_MS = 100_000;

/** The run's records; without `isCold` as they would be with everything warm. */
class Written {
  readonly records: RunRecord[] = [];
  readonly #isCold: boolean;
  readonly #byLinks: boolean;

  constructor(work: Work, isCold: boolean, byLinks: boolean) {
    this.#isCold = isCold;
    this.#byLinks = byLinks;
    this.#write(work, "r", null, [], 0);
  }

  /** Out: when it ended. `after`: what its call follows. */
  #write(work: Work, id: string, parent: string | null, after: string[], atMs: number): number {
    // Only what is retried has attempts: siblings of the same task must not be taken for them.
    const task = work.fails > 0 ? `${work.task}-${id}` : work.task;
    let startMs = atMs;
    for (let attempt = 0; attempt < work.fails; attempt++) {
      const endMs = startMs + this.#coldOf(work, attempt) + 5;
      this.#add({ id: `${id}x${attempt}`, task, parent, after, startMs, endMs }, work, attempt, "!");
      startMs = endMs + 3;
    }
    let nowMs = startMs + this.#coldOf(work, work.fails) + work.beforeMs;
    let last = [id];
    for (const [s, { gapMs, calls, isLeft }] of work.stages.entries()) {
      const beganMs = nowMs + gapMs;
      if (isLeft) {
        const left = { id: `${id}_${s}9`, task: "left", parent: id, after: last, startMs: beganMs };
        this.#add({ ...left, endMs: beganMs + this.#coldOf(work, 2) + LEFT_MS }, work, 2, "");
      }
      const ids = calls.map((_, c) => `${id}_${s}${c}`);
      const ends = calls.map((call, c) => this.#write(call, ids[c]!, id, last, beganMs));
      nowMs = Math.max(...ends);
      last = ids;
    }
    const endMs = nowMs + work.afterMs;
    this.#add({ id, task, parent, after, startMs, endMs }, work, work.fails, "");
    if (work.message !== null) this.#write(work.message, `${id}m`, id, last, endMs + 2);
    return endMs;
  }

  #coldOf(work: Work, attempt: number): number {
    return this.#isCold ? work.coldMs[attempt]! : 0;
  }

  #add(
    at: { id: string; task: string; parent: string | null; after: string[]; startMs: number; endMs: number },
    work: Work,
    attempt: number,
    end: "" | "!",
  ): void {
    const { id, task, parent, after, startMs, endMs } = at;
    const called = parent === null || this.#byLinks ? "" : `< ${parent}`;
    // Of what starts at one instant that which ends first would come first.
    const rest: RecordRest = { sequence: Number(id.at(-1)) || 0 };
    if (this.#isCold) rest.coldStartMs = this.#coldOf(work, attempt);
    if (this.#byLinks && after.length > 0) rest.links = after;
    if (work.fails > 0 && task !== "left") rest.attempt = attempt;
    this.records.push(record(`${id}:${task} ${called} ${startMs}-${endMs}${end}`, rest));
  }
}

/** Everything that is counted, but how much was cold. */
function warmRows(assembled: AssembledRun): string[] {
  const contribution = contributionOf(assembled);
  for (const [key, counts] of contribution) {
    if (key[0] !== "t") continue;
    for (const field of counts.keys()) if (field[0] === "k" || field[0] === "c") counts.delete(field);
  }
  const rows = new GraphRows();
  rows.apply(contribution, 1);
  return rowsText(rows.rows);
}

test.each([
  ["with parents", false],
  ["with links alone", true],
])(`whatever was cold, the rows and all times are those of the warm run, %s (seed ${SEED})`, (_, byLinks) => {
  fc.assert(
    fc.property(anyWork(2), (work) => {
      const warm = assembleRun(new Written(work, false, byLinks).records);
      const known = assembleRun(new Written(work, true, byLinks).records);
      expect(warmTimes(known)).toEqual(warmTimes(warm));
      expect(warmRows(known)).toEqual(warmRows(warm));
    }),
    { seed: SEED, numRuns: 500 },
  );
});

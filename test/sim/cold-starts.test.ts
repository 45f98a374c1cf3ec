// Cold starts from files of both schemas of lambda-perf, a fixed time, and the log's own.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { drawColdStarts, measuredColdStarts, readLambdaPerf } from "../../src/sim/cold-starts.ts";
import { workloadOf } from "../../src/sim/workload.ts";
import { NESTED, recordsOf, workloadOfSteps } from "./logs.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "forechain-cold-starts-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const texts = (rows: Float64Array[]) => rows.map((row) => [...row].join(" "));

describe("lambda-perf", () => {
  it("both schemas, packed or not, of a folder; less than 512 MB is throttled and left out, so are starts of no length", () => {
    mkdirSync(join(folder, "both/2024"), { recursive: true });
    const older = [
      { memorySize: 512, initDurations: [100, 0, 120] },
      { memorySize: 128, initDurations: [900] },
      { memorySize: 1_024, initDurations: [] },
    ];
    writeFileSync(join(folder, "both/a.json"), JSON.stringify({ runtimeData: older }));
    const newer = JSON.stringify({ runtimeData: [{ m: 1_024, i: [70] }, { m: 256, i: [800] }, { other: 1 }] });
    writeFileSync(join(folder, "both/2024/b.json.gz"), gzipSync(newer));
    writeFileSync(join(folder, "both/README.md"), "not data");
    expect(texts(readLambdaPerf(join(folder, "both")))).toEqual(["70", "100 120"]);
    expect(texts(readLambdaPerf(join(folder, "both/a.json")))).toEqual(["100 120"]);
  });

  it("is refused where it has none, or is something else", () => {
    writeFileSync(join(folder, "small.json"), JSON.stringify({ runtimeData: [{ m: 128, i: [900] }] }));
    writeFileSync(join(folder, "other.json"), "{}");
    expect(() => readLambdaPerf(join(folder, "small.json"))).toThrow(
      /small\.json holds no cold starts of 512 MB or more/,
    );
    expect(() => readLambdaPerf(join(folder, "other.json"))).toThrow(/is not a lambda-perf file/);
  });
});

it("each task draws one configuration, by its name: the same for a seed, whatever other tasks there are", () => {
  const rows = Array.from({ length: 50 }, (_, ms) => Float64Array.of(ms));
  const steps = Array.from({ length: 20 }, (_, i) => ({ task: `T${i}`, from: i, to: i + 1 }));
  const drawn = (count: number, seed: number) =>
    texts(drawColdStarts(workloadOfSteps(steps.slice(0, count), 2), rows, seed));
  expect(new Set(drawn(20, 1)).size).toBeGreaterThan(10);
  expect(drawn(20, 1)).toEqual(drawn(20, 1));
  expect(drawn(20, 2)).not.toEqual(drawn(20, 1));
  expect(drawn(5, 1)).toEqual(drawn(20, 1).slice(0, 5));
});

it("the log's own are taken out of its durations, and replayed where they are chosen; unmeasured tasks have 250 ms", () => {
  const records = recordsOf([{ task: "A", from: 0, to: 500 }], 4).map((record) => ({
    ...record,
    rest: { ...record.rest, coldStartMs: 300 },
  }));
  const workload = workloadOf(records);
  if ("reason" in workload) throw new Error(workload.reason);
  expect([...workload.runs[0]!.durationMs]).toEqual([200]);
  expect(texts(measuredColdStarts(workload).coldStarts)).toEqual(["300 300 300 300"]);
  const unmeasured = measuredColdStarts(workloadOfSteps(NESTED, 2));
  expect(unmeasured.unknown).toBe(3);
  expect(texts(unmeasured.coldStarts)).toEqual(["250", "250", "250"]);
});

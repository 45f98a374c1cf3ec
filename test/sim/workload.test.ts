// Logs as workloads: which are refused with which reason, what a replayed run keeps of the log, and when runs arrive.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { arrivalsOf, checkArrivals } from "../../src/sim/arrivals.ts";
import { workloadFault, workloadOf } from "../../src/sim/workload.ts";
import { NESTED, recordsOf, workloadOfSteps } from "./logs.ts";

const told = (records: Parameters<typeof workloadOf>[0]) => {
  const workload = workloadOf(records);
  return "reason" in workload ? workloadFault(workload) : null;
};

describe("logs that cannot be simulated are refused with the reason", () => {
  it("nothing, a single run", () => {
    expect(told([])).toMatch(/no executions/);
    expect(told(recordsOf(NESTED, 1))).toMatch(/the log holds a single run/);
    const untimed = recordsOf(NESTED, 4).map((record) =>
      record.runId === "run-2" ? record : { ...record, startMs: null, endMs: null },
    );
    expect(told(untimed)).toMatch(/a single one of the 4 runs has start times/);
  });

  it("without times", () => {
    const untimed = recordsOf(NESTED, 4).map((record) => ({ ...record, startMs: null, endMs: null }));
    expect(told(untimed)).toMatch(/none of the 4 runs has start times/);
  });

  it("without repeats", () => {
    const records = recordsOf((run) => [{ task: `only in run ${"abcd"[run]}`, from: 0, to: 10 }], 4);
    expect(told(records)).toMatch(/nothing can be learned/);
  });

  it("with one id for different executions", () => {
    const records = recordsOf(NESTED, 4);
    const clash = { ...records[1]!, executionId: records[0]!.executionId };
    expect(told([...records, clash])).toMatch(/1 execution ids stand for different executions \(first: "0-A"\)/);
  });

  it("with ids that begin anew: the same ids and tasks at another time", () => {
    const records = recordsOf(NESTED, 4);
    const later = (ms: number) =>
      records.map((record) => ({ ...record, startMs: record.startMs! + ms, endMs: record.endMs! + ms }));
    expect(told([...records, ...later(86_400_000)])).toMatch(/12 execution ids stand for different executions/);
    // A clock that was set right, and another attempt of the same.
    expect(told([...records, ...later(5)])).toBeNull();
    const again = later(86_400_000).map((record) => ({ ...record, rest: { ...record.rest, attempt: 2 } }));
    expect(told([...records, ...again])).toBeNull();
  });
});

describe("a workload", () => {
  it("tells what it assumes, and takes repeated records once", () => {
    const records = recordsOf(NESTED, 4);
    const workload = workloadOf([...records, ...records]);
    if ("reason" in workload) throw new Error(workload.reason);
    expect(workload.executions).toBe(12);
    expect(workload.notes).toEqual(["memory of 3 of 3 tasks is unknown: 256 MB assumed"]);
    expect(workload.runs[0]!.makespanMs).toBeCloseTo(100, 6);
  });

  it("leaves runs without times out, and says so", () => {
    const records = recordsOf(NESTED, 5).map((record) =>
      record.runId === "run-2" ? { ...record, startMs: null, endMs: null } : record,
    );
    const workload = workloadOf(records);
    if ("reason" in workload) throw new Error(workload.reason);
    expect(workload.runs).toHaveLength(4);
    expect(workload.notes[0]).toBe("1 runs without start times were left out");
  });
});

describe("arrivals", () => {
  const workload = workloadOfSteps(NESTED, 10);

  it("draw the younger half with replacement, the same for a seed", () => {
    const arrivals = arrivalsOf(workload, "poisson:30", 500, 3);
    expect(arrivals.runs).toHaveLength(500);
    expect(Math.min(...arrivals.runs)).toBe(5);
    expect(new Set(arrivals.runs).size).toBe(5);
    expect(arrivals.meanGapMs).toBeGreaterThan(25_000);
    expect(arrivals.meanGapMs).toBeLessThan(35_000);
    expect(arrivalsOf(workload, "poisson:30", 500, 3)).toEqual(arrivals);
    expect(arrivalsOf(workload, "poisson:30", 500, 4)).not.toEqual(arrivals);
  });

  it("of the trace are the log's own", () => {
    const arrivals = arrivalsOf(workload, "trace", 3_000, 1);
    expect([...arrivals.runs]).toEqual([5, 6, 7, 8, 9]);
    expect(arrivals.meanGapMs).toBe(60_000);
  });

  it("of a file of requests begin with its first, in order, and are no more than it has", () => {
    const folder = mkdtempSync(join(tmpdir(), "forechain-arrivals-"));
    try {
      const file = join(folder, "requests.csv.gz");
      const rows = [
        "2023-11-16 18:17:05.0000000,1,2",
        "2023-11-16 18:17:03.9799600,1,2",
        "2023-11-16 18:18:03.9799600,1,2",
      ];
      writeFileSync(file, gzipSync(["TIMESTAMP,ContextTokens,GeneratedTokens", ...rows].join("\n")));
      const { atMs, runs, meanGapMs } = arrivalsOf(workload, `azure-llm:${file}`, 10, 1);
      expect([...atMs]).toEqual([0, 1_021, 60_000]);
      expect([...runs].every((run) => run >= 5)).toBe(true);
      expect(meanGapMs).toBe(30_000);
      expect(arrivalsOf(workload, `azure-llm:${file}`, 2, 1).atMs).toHaveLength(2);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it("that nobody can read are refused", () => {
    expect(() => arrivalsOf(workload, "poisson:0", 10, 1)).toThrow(/expected trace, poisson:SECONDS or azure-llm:FILE/);
    expect(() => arrivalsOf(workload, "hourly", 10, 1)).toThrow(/got "hourly"/);
    const noTable = fileURLToPath(new URL("../../build/engine.wasm", import.meta.url));
    expect(() => checkArrivals(`azure-llm:${noTable}`)).toThrow(/^.*engine\.wasm is not an Azure LLM trace: [^\n]*$/);
  });
});

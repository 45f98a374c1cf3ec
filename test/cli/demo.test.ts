// `npm start -- --once` as a whole: the same requests are served faster once chains are prepared, and only because of that;
// nothing is left running. Short: few runs per workflow.
import { afterEach, describe, expect, it } from "vitest";
import { ROOT } from "../../src/cli/build.ts";
import type { RunRecord } from "../../src/cli/demo/drive.ts";
import { type PhaseReport, quantile, slowerRuns } from "../../src/cli/demo/report.ts";
import type { Request } from "../../src/cli/demo/world.ts";
import { alive, descendants, HAS_PROC, type Identity, type Started, start, waitFor } from "./processes.ts";

const RUNS = 2;
const ENDS_WITHIN_MS = 120_000;
const GONE_WITHIN_MS = 15_000;

type Phase = PhaseReport & { records: RunRecord[] };

interface Summary {
  before: Phase;
  after: Phase;
  faster: boolean;
}

/**
 * Median over the runs of: time after the root ÷ time of the root. The root starts cold in both phases, so that this tells
 * what preparation does however busy the machine is with other tests.
 */
function afterRootRatio({ records }: Phase): number {
  const ratios = records.map(({ tookMs, calls }) => (tookMs - calls[0]!.tookMs) / calls[0]!.tookMs);
  return quantile(ratios, 0.5);
}

const running: Started[] = [];

/** Runs the demo to its end; `family` are all processes seen while it served its requests. */
async function demo(...operands: string[]): Promise<{ code: number | string; summary: Summary; family: Identity[] }> {
  const started = start(["npm", "start", "-s", "--", "--once", "--json", "--runs", String(RUNS), ...operands], {
    cwd: ROOT,
  });
  running.push(started);
  let family: Identity[] = [];
  let ended = false;
  void started.exited.then(() => {
    ended = true;
  });
  await waitFor(`it ends\n${started.stderr()}`, ENDS_WITHIN_MS, () => {
    const now = descendants(started.pid);
    if (now.length > family.length) family = now;
    return ended;
  });
  return { code: await started.exited, summary: JSON.parse(started.stdout()) as Summary, family };
}

it("a slower run is one beside the same request, or beyond 95 % of its workflow, whatever order runs ended in", () => {
  const request = (n: number): Request => ({ workflow: n % 2 === 0 ? "video" : "order", params: {}, pauseMs: 0 });
  const requests = Array.from({ length: 40 }, (_, n) => request(n));
  const run = (n: number, tookMs: number): RunRecord => {
    const { workflow } = requests[n]!;
    return { workflow, request: requests[n]!, startMs: 0, tookMs, calls: [] };
  };
  // Videos take 1,000 to 1,019 ms, orders 100 to 119.
  const tookMs = (n: number) => (n % 2 === 0 ? 1_000 : 100) + Math.floor(n / 2);
  const before = requests.map((_, n) => run(n, tookMs(n)));
  const after = requests.map((_, n) => run(n, tookMs(n) - 1)).reverse();
  expect(slowerRuns(before, after)).toEqual({ paired: 0, beyondP95: 0 });
  // One is a little slower than itself, one slower than every other of its kind, though quicker than any video.
  const changed = after.map((record) => {
    if (record.request === requests[0]) return { ...record, tookMs: 1_010 };
    return record.request === requests[1] ? { ...record, tookMs: 500 } : record;
  });
  expect(slowerRuns(before, changed)).toEqual({ paired: 2, beyondP95: 1 });
});

describe.skipIf(!HAS_PROC)(`npm start${HAS_PROC ? "" : " (skipped: no /proc)"}`, () => {
  afterEach(async () => {
    for (const started of running.splice(0)) {
      started.signal("SIGKILL");
      await started.exited;
    }
  });

  it("is faster with preparation, and leaves no process", { timeout: ENDS_WITHIN_MS + GONE_WITHIN_MS }, async () => {
    const { code, summary, family } = await demo("--seed", "11");
    const { before, after } = summary;
    expect(before).toMatchObject({ mode: "shadow", runs: 3 * RUNS });
    expect(after).toMatchObject({ mode: "active", runs: 3 * RUNS });
    expect(before.outcomes["warm hit"]?.count ?? 0).toBe(0);
    expect(before.outcomes["warm miss"]!.count).toBeGreaterThan(0);
    expect(after.outcomes["warm hit"]!.count + (after.outcomes["warm late"]?.count ?? 0)).toBeGreaterThan(0);
    expect(after.coldAfterRootMs).toBeLessThan(before.coldAfterRootMs / 2);
    expect(afterRootRatio(after)).toBeLessThan(afterRootRatio(before) / 2);
    expect(after.p95Ms).toBeLessThan(before.p95Ms);
    expect(code).toBe(0);
    expect(family.some((one) => one.command.includes("workerd"))).toBe(true);
    expect(family.filter((one) => one.command.includes("agent --config")).length).toBeGreaterThanOrEqual(3);
    await waitFor("all processes are gone", GONE_WITHIN_MS, () => alive(family).length === 0);
  });

  it("gains nothing where prewarming is off", { timeout: ENDS_WITHIN_MS + GONE_WITHIN_MS }, async () => {
    const { summary } = await demo("--seed", "11", "--no-prewarm");
    const { before, after } = summary;
    expect(after.mode).toBe("shadow");
    expect(after.outcomes["warm hit"]?.count ?? 0).toBe(0);
    expect(after.outcomes["prefetch hit"]?.count ?? 0).toBe(0);
    // Every task of every run starts cold again.
    expect(after.coldStartsPerRun).toBeCloseTo(before.coldStartsPerRun, 1);
    expect(afterRootRatio(after)).toBeGreaterThan(afterRootRatio(before) * 0.7);
  });

  it("ends every process on SIGTERM in the middle of its work", {
    timeout: ENDS_WITHIN_MS + GONE_WITHIN_MS,
  }, async () => {
    const started = start(["npm", "start", "-s"], { cwd: ROOT });
    running.push(started);
    await waitFor("requests are being served", ENDS_WITHIN_MS, () => started.stderr().includes(" 1/"));
    const family = descendants(started.pid);
    started.signal("SIGTERM");
    await started.exited;
    await waitFor("all processes are gone", GONE_WITHIN_MS, () => alive(family).length === 0);
  });
});

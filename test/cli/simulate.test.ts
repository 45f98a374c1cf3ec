// `forechain simulate` as a whole process: what it prints, writes and ends with.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "forechain-simulate-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function simulate(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["src/cli/main.ts", "simulate", ...args], {
    encoding: "utf8",
  });
  return { status, stdout, stderr };
}

/** A calls B, one minute apart, from `first` on. */
function runs(first: number, count: number, changes: (execution: Record<string, unknown>) => object = (same) => same) {
  const lines: string[] = [];
  for (let run = first; run < first + count; run++) {
    const atMs = 1_700_000_000_000 + run * 60_000;
    const [a, b] = [`${run}-a`, `${run}-b`];
    const runId = `run-${run}`;
    lines.push(JSON.stringify(changes({ runId, executionId: a, task: "A", startMs: atMs, endMs: atMs + 900 })));
    lines.push(
      JSON.stringify(
        changes({ runId, executionId: b, parentId: a, task: "B", startMs: atMs + 400, endMs: atMs + 800 }),
      ),
    );
  }
  return `${lines.join("\n")}\n`;
}

function file(name: string, text: string): string {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
}

const POLICY_KEYS = [
  "chainColdRate",
  "coldRate",
  "decisionMicros",
  "dial",
  "fetchWaitMs",
  "harmedRuns",
  "idleGbSeconds",
  "name",
  "overheadMs",
  "prefetchBytes",
  "usedGbSeconds",
  "wastedBytes",
  "wastedGbSeconds",
];

it("--json prints one value of the documented shape, of a folder's files together", () => {
  const logs = join(folder, "logs");
  mkdirSync(join(logs, "older"), { recursive: true });
  writeFileSync(join(logs, "older", "a.ndjson"), runs(0, 10));
  writeFileSync(join(logs, "b.ndjson"), runs(10, 10));
  writeFileSync(join(logs, ".hidden"), "no log");
  const { status, stdout, stderr } = simulate(
    ...[logs, "--policies", "fixed:60,forechain:20,clairvoyant", "--arrivals", "poisson:300"],
    ...["--cold-starts", "200", "--runs", "60", "--seed", "3", "--json"],
  );
  expect(stderr).toBe("");
  expect(status).toBe(0);
  const { workload, policies } = JSON.parse(stdout);
  expect(workload).toMatchObject({ runs: 20, executions: 40, tasks: 2, arrivals: "poisson:300", seed: 3 });
  expect(workload.files).toEqual([join(logs, "b.ndjson"), join(logs, "older", "a.ndjson")]);
  expect(policies.map(({ name, dial }: { name: string; dial: number }) => [name, dial])).toEqual([
    ["fixed", 60],
    ["forechain", 20],
    ["clairvoyant", 0],
  ]);
  for (const policy of policies) {
    expect(Object.keys(policy).sort()).toEqual(POLICY_KEYS);
    expect(Object.keys(policy.overheadMs).sort()).toEqual(["mean", "p50", "p95", "p99"]);
    for (const value of Object.values({ ...policy, ...policy.overheadMs, name: 0, overheadMs: 0 })) {
      expect(Number.isFinite(value)).toBe(true);
    }
    // Memory of a run's work is the same under all; nothing is used that was not there.
    expect(policy.usedGbSeconds).toBeGreaterThan(0);
  }
  const [fixed, forechain, clairvoyant] = policies;
  expect(forechain.overheadMs.mean).toBeLessThan(fixed.overheadMs.mean);
  expect(clairvoyant.overheadMs.mean).toBe(0);
  expect(clairvoyant.idleGbSeconds).toBe(0);
});

it("--html writes a page that needs nothing else, with policies, ablation and placement", () => {
  const log = file("html.ndjson", runs(0, 20));
  const page = join(folder, "report.html");
  const { status, stdout } = simulate(
    ...[log, "--policies", "fixed:60,forechain:20", "--arrivals", "poisson:300", "--cold-starts", "200"],
    ...["--runs", "40", "--html", page, "--seeds", "2"],
  );
  expect(status).toBe(0);
  expect(stdout).toContain("Simulated, not measured.");
  const html = readFileSync(page, "utf8");
  expect(/<script|<link|https?:\/\/|url\(|NaN|undefined/.exec(html)).toBeNull();
  for (const told of ["<svg", "forechain", "without learned holds", "truth known", "over 2 seeds"]) {
    expect(html.includes(told), told).toBe(true);
  }
});

it.each([
  ["a folder without files", () => mkdtempSync(join(folder, "empty-")), [], /is a folder without files/],
  ["a file that is not there", () => join(folder, "none.json"), [], /none\.json/],
  ["a single run", () => file("single.ndjson", runs(0, 1)), [], /single run/],
  [
    "no times",
    () =>
      file(
        "untimed.ndjson",
        runs(0, 4, ({ startMs: _, endMs: __, ...rest }) => rest),
      ),
    [],
    /none of the 4 runs has start times|startMs/,
  ],
  [
    "nothing that repeats",
    () =>
      file(
        "once.ndjson",
        runs(0, 4, (execution) => ({ ...execution, task: `t ${execution.executionId}` })),
      ),
    [],
    /nothing can be learned/,
  ],
  [
    "overlapping ids",
    () => file("ids.ndjson", runs(0, 4) + runs(0, 4, (e) => ({ ...e, task: `${e.task} again` }))),
    [],
    /stand for different executions/,
  ],
  [
    "runs longer than all arrivals",
    () =>
      file(
        "long.ndjson",
        runs(0, 6, (e) => ({ ...e, endMs: (e.startMs as number) + 1e7 })),
      ),
    ["--arrivals", "poisson:1", "--runs", "5"],
    /every run would overlap/,
  ],
  [
    "cold starts without end",
    () => file("endless.ndjson", runs(0, 4)),
    ["--cold-starts", "Infinity"],
    /cold starts: got "Infinity"/,
  ],
  ["more runs than memory holds", () => file("many.ndjson", runs(0, 4)), ["--runs", "1e9"], /at most 10000000/],
  ["an unknown policy", () => file("known.ndjson", runs(0, 4)), ["--policies", "magic"], /unknown policy "magic"/],
] as const)("%s: told in one line, without numbers, exit code 1", (_, log, args, reason) => {
  const { status, stdout, stderr } = simulate(log(), ...args);
  expect(stdout).toBe("");
  expect(stderr).toMatch(reason);
  expect(stderr).not.toMatch(/\n\s+at /);
  expect(status).toBe(1);
});

it.each([
  ["hourly", /expected trace, poisson:SECONDS or azure-llm:FILE/],
  ["poisson:0", /expected trace, poisson:SECONDS or azure-llm:FILE/],
  ["azure-llm:no-such.csv", /no-such\.csv/],
])("--arrivals %s is refused before a log is read", (arrivals, reason) => {
  const { status, stderr } = simulate("no-such-log.ndjson", "--arrivals", arrivals);
  expect(stderr).toMatch(reason);
  expect(stderr).not.toMatch(/no-such-log/);
  expect(status).toBe(1);
});

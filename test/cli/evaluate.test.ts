// `forechain evaluate` as a process, on small logs of known content.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, expect, test } from "vitest";
import { ROOT } from "../../src/cli/build.ts";

const folder = mkdtempSync(join(tmpdir(), "forechain-evaluate-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function evaluate(...args: string[]): string {
  return execFileSync(process.execPath, [join(ROOT, "src/cli/main.ts"), "evaluate", ...args], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
}

/** Cases a → b → c, an hour apart. */
function chainCsv(cases = 60): string {
  const lines = ["order,step,at"];
  for (let i = 0; i < cases; i++) {
    for (const [k, step] of ["a", "b", "c"].entries()) {
      lines.push(`${i},${step},${new Date(1.7e12 + i * 3.6e6 + k * 1000).toISOString()}`);
    }
  }
  return lines.join("\n");
}

const COLUMNS = ["--case", "order", "--activity", "step", "--time", "at"];

test("a deterministic CSV log, gzipped: every prediction right, all numbers there", () => {
  const file = join(folder, "chain.csv.gz");
  writeFileSync(file, gzipSync(chainCsv()));
  const out = join(folder, "predictions.ndjson");
  const result = JSON.parse(evaluate(file, ...COLUMNS, "--json", "--predictions", out));
  expect(result).toMatchObject({ file, cases: 60, events: 180, tasks: 3, predictions: 60, top1: 1, top3: 1 });
  expect(result.logLoss).toBeLessThan(0.05);
  expect(result.microsPerPrediction).toBeGreaterThan(0);
  expect(result.baselines.map(({ name }: { name: string }) => name)).toEqual([
    ...[1, 2, 3, 4, 5, 6, 7].map((k) => `back-off ${k}-gram`),
    "Witten-Bell order 5",
    "soft vote",
    "prefix tree",
  ]);
  for (const baseline of result.baselines) expect(baseline.top1).toBe(1);
  const rows = readFileSync(out, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(rows.length).toBe(60);
  expect(rows[2]).toMatchObject({ case: "40", position: 3, actual: null });
  expect(rows[2].top[0][0]).toBeNull();
  expect(rows[2].top[0][1]).toBe(rows[2].probability);
});

test("--split and --capacity are taken, and the text names the engine and a baseline", () => {
  const file = join(folder, "chain.csv");
  writeFileSync(file, chainCsv());
  const text = evaluate(file, ...COLUMNS, "--split", "0.9", "--capacity", "small");
  expect(text).toContain("18 predictions");
  expect(text).toMatch(/Forechain +100\.0 %/);
  expect(text).toMatch(/back-off 7-gram/);
});

test.each([
  ["ignore", 6, 2],
  ["complete", 4, 2],
  ["all", 6, 3],
])("XES, --lifecycle %s: %i events of %i tasks", (how, events, tasks) => {
  const event = (name: string, transition: string, second: number) =>
    `<event><string key="concept:name" value="${name}"/><string key="lifecycle:transition" value="${transition}"/>` +
    `<date key="time:timestamp" value="2024-01-01T00:00:0${second}Z"/></event>`;
  const trace = `<trace><string key="concept:name" value="1"/>${event("a", "START", 1)}${event("a", "COMPLETE", 2)}${event("b", "COMPLETE", 3)}</trace>`;
  const file = join(folder, "log.xes");
  writeFileSync(file, `<?xml version="1.0"?><log>${trace}${trace.replace('value="1"', 'value="2"')}</log>`);
  const result = JSON.parse(evaluate(file, "--lifecycle", how, "--split", "0.5", "--json"));
  expect(result).toMatchObject({ cases: 2, events, tasks });
});

test("cases that begin at one instant come in order of the file, not of their names", () => {
  const at = "2024-01-01T00:00:00Z";
  const file = join(folder, "instant.csv");
  writeFileSync(file, `order,step,at\nz,a,${at}\ny,a,${at}\nz,b,${at}\ny,b,${at}\nx,a,${at}\nx,b,${at}\n`);
  const out = join(folder, "instant.ndjson");
  evaluate(file, ...COLUMNS, "--split", "0.34", "--predictions", out);
  const rows = readFileSync(out, "utf8").trim().split("\n");
  expect(rows.map((row) => JSON.parse(row).case)).toEqual(["y", "y", "x", "x"]);
});

test("predictions never go over the log that they are made of, by whatever name", () => {
  const file = join(folder, "own.csv");
  writeFileSync(file, chainCsv(3));
  const link = join(folder, "link.ndjson");
  symlinkSync(file, link);
  for (const out of [file, link]) {
    const args = [join(ROOT, "src/cli/main.ts"), "evaluate", file, ...COLUMNS, "--predictions", out];
    const { status, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
    expect(status).toBe(1);
    expect(stderr).toContain(`${out}: it is read here, and would be overwritten`);
  }
  expect(readFileSync(file, "utf8")).toBe(chainCsv(3));
});

test("a case longer than the longest path of the engine is evaluated to its end, in bounded memory", () => {
  const lines = ["order,step,at"];
  for (const order of ["1", "2"]) {
    for (let k = 0; k < 5_000; k++)
      lines.push(`${order},${k % 2 ? "a" : "b"},${1.7e12 + Number(order) * 1e9 + k * 1000}`);
  }
  const file = join(folder, "long.csv");
  writeFileSync(file, lines.join("\n"));
  const args = [join(ROOT, "src/cli/main.ts"), "evaluate", file, ...COLUMNS, "--split", "0.5", "--json"];
  // A tree of prefixes that were cut would hold four million nodes.
  const result = JSON.parse(
    execFileSync(process.execPath, ["--max-old-space-size=256", ...args], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }),
  );
  expect(result.predictions).toBe(5_000);
  expect(result.top1).toBeGreaterThan(0.99);
});

test("--reach on spans: what executes is told, with both baselines", () => {
  const spans: object[] = [];
  for (let i = 0; i < 40; i++) {
    const traceId = (i + 1).toString(16).padStart(32, "0");
    const start = BigInt(1.7e12 + i * 10_000) * 1_000_000n;
    const span = (id: number, parent: number | null, name: string, ms: number) => ({
      traceId,
      spanId: id.toString(16).padStart(16, "0"),
      ...(parent === null ? {} : { parentSpanId: parent.toString(16).padStart(16, "0") }),
      name,
      kind: 2,
      startTimeUnixNano: `${start + BigInt(ms) * 1_000_000n}`,
      endTimeUnixNano: `${start + BigInt(ms + 5) * 1_000_000n}`,
      status: {},
    });
    spans.push(span(1, null, "front", 0), span(2, 1, "left", 10), span(3, 1, i % 2 ? "right" : "other", 30));
  }
  const resource = { attributes: [{ key: "service.name", value: { stringValue: "shop" } }] };
  const file = join(folder, "spans.ndjson");
  writeFileSync(file, JSON.stringify({ resourceSpans: [{ resource, scopeSpans: [{ scope: {}, spans }] }] }));
  const result = JSON.parse(evaluate(file, "--reach", "--json"));
  expect(result).toMatchObject({ cases: 40, events: 120, tasks: 4, predictions: 60 });
  expect(result.brier).toBeLessThan(0.2);
  expect(result.leadCoverage).toBeGreaterThan(0.5);
  expect(result.baselines.map(({ name }: { name: string }) => name)).toEqual(["longest context", "product of edges"]);
  // Runs lie 10 s apart and are known 5 s or 25 s after their end: the one before is, or is not.
  const late = JSON.parse(evaluate(file, "--reach", "--json", "--known-after", "25000"));
  const soon = JSON.parse(evaluate(file, "--reach", "--json", "--known-after", "5000"));
  expect(late.predictions).toBe(60);
  expect(soon.brier).toBeLessThan(0.2);
  expect(late.brier).toBeGreaterThan(soon.brier);
  // "left" always, "right" and "other" in turn: a counter is off by 1/2 twice of three pairs at the root, and nowhere else much.
  const [longest, product] = result.baselines as { brier: number }[];
  expect(longest?.brier).toBeGreaterThan(0.1);
  expect(longest?.brier).toBeLessThan(0.25);
  expect(product?.brier).toBeLessThan(0.25);
  // Of a run's five pairs, three of the root's and two of left's, four are a coin's: p (1 − p) = 1/4 each.
  expect(result.hindsightBrier).toBeCloseTo((4 * 0.25) / 5, 5);
});

test("the order of rows in the file changes nothing; a folder is all its files", () => {
  const [head, ...rows] = chainCsv().split("\n") as [string, ...string[]];
  const parts = join(folder, "parts");
  mkdirSync(parts);
  const [plain, turned] = [join(folder, "plain.csv"), join(folder, "turned.csv")];
  writeFileSync(plain, [head, ...rows].join("\n"));
  writeFileSync(turned, [head, ...rows.toReversed()].join("\n"));
  writeFileSync(join(parts, "2.csv"), [head, ...rows.slice(0, 80)].join("\n"));
  writeFileSync(join(parts, "1.csv"), [head, ...rows.slice(80)].join("\n"));
  const [first, ...others] = [plain, turned, parts].map((file) => {
    const { file: _, microsPerPrediction: __, ...scores } = JSON.parse(evaluate(file, ...COLUMNS, "--json"));
    return scores;
  });
  for (const other of others) expect(other).toEqual(first);
});

test("of a file that breaks off what came before is evaluated, and the break is told, as is thin evidence", () => {
  const file = join(folder, "broken.csv.gz");
  // More than gunzip holds back: what it had not handed on at the break is lost.
  const whole = gzipSync(chainCsv(3_000));
  writeFileSync(file, whole.subarray(0, Math.floor(whole.length * 0.6)));
  const { stdout, stderr } = spawnSync(
    process.execPath,
    [join(ROOT, "src/cli/main.ts"), "evaluate", file, ...COLUMNS, "--split", "0.99", "--json"],
    { encoding: "utf8" },
  );
  const { cases } = JSON.parse(stdout);
  expect(cases).toBeGreaterThan(1_000);
  expect(cases).toBeLessThan(3_000);
  expect(stderr).toContain("skipped 1: the rest of the file, unreadable: unexpected end of file");
  expect(stderr).toMatch(/note: only \d+ cases tested/);
});

const XES_EVENT = '<event><string key="concept:name" value="b"/></event>';

test.each([
  ["no-times.csv", "case,activity\n1,a\n1,b\n2,a\n", [], "note: no event has a time: the order of the file counts"],
  ["some-times.csv", "case,activity,time\n1,a,2024-01-01\n1,b,\n", [], "note: 1 of 2 events have no time"],
  [
    "named.xes",
    `<log><trace><string key="concept:name" value="1"/>${XES_EVENT}</trace></log>`,
    ["--activity", "org:resource"],
    "note: --case, --activity and --time name columns, which xes has not: they change nothing",
  ],
])("%s: what is read otherwise than one may think is told", (name, content, flags, note) => {
  const file = join(folder, name);
  writeFileSync(file, content);
  const command = [join(ROOT, "src/cli/main.ts"), "evaluate", file, ...flags];
  expect(spawnSync(process.execPath, command, { encoding: "utf8" }).stderr).toContain(note);
});

test("a file without a case fails with one clear line", () => {
  const file = join(folder, "empty.csv");
  writeFileSync(file, "");
  expect(() => evaluate(file, "--json")).toThrow();
});

// Every format as a small text: told by its content, read to the same executions whatever the size of the chunks.
import { execFile } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { pack } from "tar-stream";
import { describe, expect, test } from "vitest";
import { otlpOf } from "../../src/cli/import-upload.ts";
import { decodeOtlpSpans, type Span } from "../../src/core/spans.ts";
import type { Imported, Importer } from "../../src/importers/format.ts";
import { instantOf } from "../../src/importers/instant.ts";
import { jaeger } from "../../src/importers/jaeger.ts";
import { jsonParts } from "../../src/importers/json-stream.ts";
import { READ_DEFAULTS, readLog, runsOf } from "../../src/importers/read.ts";
import { xes } from "../../src/importers/xes.ts";
import { file, JAEGER, lines, NATIVE, OTLP, TRACE, told, WF, XES, XRAY } from "./logs.ts";

const DATA = join(import.meta.dirname, "../../../shared/data");

describe("formats, told by the content", () => {
  test.each<[string, string, string, string[], Record<string, number>]>([
    ["OTLP/JSON", JSON.stringify(OTLP, null, 2), "otlp", [`${TRACE}: shop/order shop/pay`], {}],
    [
      "OTLP, a request a line",
      lines([OTLP, { resourceMetrics: [] }, { resourceSpans: [] }]),
      "otlp",
      [`${TRACE}: shop/order shop/pay`],
      { "resourceMetrics: not traces": 1 },
    ],
    ["Jaeger", JSON.stringify(JAEGER, null, 1), "jaeger", [`${"abc".padStart(32, "0")}: shop/order shop/pay`], {}],
    ["Jaeger, a trace a line", lines(JAEGER.data), "jaeger", [`${"abc".padStart(32, "0")}: shop/order shop/pay`], {}],
    ["X-Ray", JSON.stringify(XRAY), "xray", [`${TRACE}: api resize`], {}],
    ["X-Ray, a trace a line", lines(XRAY.Traces), "xray", [`${TRACE}: api resize`], {}],
    ["XES", XES, "xes", ["7: check pay & go"], { "lifecycle schedule": 1 }],
    ["native lines", lines(NATIVE), "native", ["r: a b"], {}],
    ["native batch", JSON.stringify({ executions: NATIVE }), "native", ["r: a b"], {}],
    [
      "native, one bad",
      `${lines(NATIVE)}{"runId":"r","executionId":"3"}\nnot json\n`,
      "native",
      ["r: a b"],
      {
        "task: missing: expected string": 1,
        "not JSON: Unexpected token 'o'": 1,
      },
    ],
    [
      "CSV",
      'case,activity,timestamp\n7,Order,2024-01-01 10:00:00\n7,"Pay, now",2024-01-01 10:00:00\n,x,2024-01-01\n7,y,soon\n',
      "csv",
      ["7: Order Pay, now"],
      { "no run in this row": 1, "a time that cannot be read": 1 },
    ],
    [
      "CSV with semicolons and BOM",
      "\ufeffCase ID;Activity;Complete Timestamp\nCase 1;A;2012/10/09 14:50:17.000\nCase 1;B;2012/10/09 14:51:01.000\n",
      "csv",
      ["Case 1: A B"],
      {},
    ],
    [
      "CSV with its delimiter told, and a quote that never closes",
      'sep=;\r\ncase;activity;time\r\n1;A, B;2024-01-01\r\n1;C;2024-01-02\r\n2;"D;2024-01-03\r\n',
      "csv",
      ["1: A, B C"],
      { "Quote Not Closed: the parsing is finished with an opening quote at line 6": 1 },
    ],
    [
      "a table of spans",
      `trace_id,span_id,parent_span_id,service_name,span_name,span_kind,start_time_ns,end_time_ns\n${TRACE},bb,aa,shop,pay,2,1700000000500000000,1700000000600000000\n${TRACE},cc,bb,shop,sql,3,1700000000510000000,1700000000520000000\n${TRACE},aa,,shop,order,2,1700000000000000000,1700000001000000000\n`,
      "csv",
      [`${TRACE}: shop/order shop/pay`],
      {},
    ],
    [
      "NDJSON of other keys",
      lines([
        { session: "s", event: "open", ts: 1, time: 1_700_000_000 },
        { session: "s", event: "close", time: 1_700_000_001 },
      ]),
      "ndjson",
      ["s: open close"],
      {},
    ],
  ])("%s", async (_, content, format, runs, skipped) => {
    expect(await told([file(content)])).toEqual({ formats: [format], runs, skipped });
    expect((await told([file(gzipSync(content))])).runs).toEqual(runs);
  });

  test("WfFormat: the DAG makes the times, parents are links, files have sizes", async () => {
    const { runs } = await runsOf([file(JSON.stringify(WF))]);
    const [split, run] = runs[0]!.run.executions;
    expect([split!.task, run!.task]).toEqual(["split", "run"]);
    expect(run!.startMs).toBe(split!.endMs);
    expect(run!.endMs - run!.startMs).toBe(20_000);
    expect(run!.kinds).toEqual(["link"]);
    expect(run!.record.rest).toMatchObject({
      cpuMs: 10_000,
      memoryBytes: 1000,
      inputs: [{ uri: "file:///a.0", bytes: 202 }],
    });
  });

  test("X-Ray: the cold start that the call waited for, one service, and none for an initialisation long before", async () => {
    const { runs } = await runsOf([file(JSON.stringify(XRAY))]);
    const resize = runs[0]!.run.executions.find(({ task }) => task === "resize")!;
    expect(resize.coldStartMs).toBeCloseTo(1000, 0);
    expect(resize.services).toEqual([{ service: "S3", calls: 1, bytes: 0, latencyMs: 1000 }]);
    const early = JSON.stringify(XRAY)
      .replaceAll("1700000000.4", "1699999000.4")
      .replaceAll("1700000001.05", "1699999001.05");
    const warm = (await runsOf([file(early)])).runs[0]!.run.executions.find(({ task }) => task === "resize")!;
    expect([warm.cold, warm.coldStartMs]).toEqual([false, null]);
  });

  test("XES lifecycles: pair, complete, all, transition", async () => {
    const counts = await Promise.all(
      (["pair", "complete", "all", "transition"] as const).map(async (lifecycle) => {
        const { runs } = await runsOf([file(XES)], { ...READ_DEFAULTS, lifecycle });
        return runs[0]!.run.executions.map(({ task, startMs, endMs }) => `${task} ${endMs - startMs}`);
      }),
    );
    expect(counts).toEqual([
      ["check 5000", "pay & go 0"],
      ["check 0", "pay & go 0"],
      ["check 0", "check 0", "pay & go 0", "plan 0"],
      ["check+start 0", "check+complete 0", "pay & go 0", "plan+schedule 0"],
    ]);
  });

  test("columns can be told, and a wrong one is named with those that there are", async () => {
    const content = "a,b,c\n1,x,2024-01-01\n1,y,2024-01-02\n";
    expect((await told([file(content)])).skipped).toEqual({
      "no column tells the run: name it (--column run=NAME or run=NAME+NAME, run=@file where each file is one run; for evaluate --case NAME), nor the task: name it (--column task=NAME, for evaluate --activity NAME); there are: a, b, c": 1,
    });
    const columns = { run: "a", task: "b", start: "c" };
    expect((await told([file(content)], { columns })).runs).toEqual(["1: x y"]);
    expect((await told([file(content.replace("a,b", " a ,  b"))], { columns })).runs).toEqual(["1: x y"]);
    expect(Object.keys((await told([file(content)], { columns: { run: "z" } })).skipped)[0]).toContain('no column "z"');
  });

  test("members of an event's objects are columns too, found or told", async () => {
    const eventOf = (subject: string, time: string, data: object) => ({ id: subject, subject, time, data });
    const flow = (run: unknown) => ({ order: { run }, tags: ["x"], seconds: 2 });
    const events = [
      eventOf("Pack", "2024-01-01T00:00:02Z", flow(7)),
      eventOf("Send", "2024-01-01T00:00:05Z", flow(7)),
      eventOf("Pack", "2024-01-01T00:00:09Z", flow({ deep: { deeper: { deepest: 8 } } })),
    ];
    const columns = { run: "data.order.run", task: "subject", end: "time", duration: "data.seconds:s" };
    const { runs, skipped } = await told([file(lines(events))], { columns });
    expect(runs).toEqual(["7: Pack Send"]);
    // An object is nobody's name.
    expect(Object.keys(skipped)).toEqual([
      'there is no column "data.order.run"; there are: id, subject, time, data.order.run.deep.deeper, data.tags, data.seconds',
    ]);
    const guessed = lines([{ run: { id: "r" }, job: { name: "build" }, time: "2024-01-01" }]);
    expect((await told([file(guessed)])).runs).toEqual(["r: build"]);
  });

  test("binary data is told as such", async () => {
    const log = file("\u0001\u0000\u0000 case,activity");
    expect((await told([log])).skipped).toEqual({ [`${log}: binary data, not a log`]: 1 });
  });

  test("an archive's members are read one after the other, each by its own format; unknown ones are told", async () => {
    const tar = pack();
    tar.entry({ name: "a/otlp.json" }, JSON.stringify(OTLP));
    tar.entry({ name: "a/log.csv" }, "case,activity,time\n7,Order,2024-01-01\n");
    tar.entry({ name: "README" }, "hello");
    tar.finalize();
    const chunks: Buffer[] = [];
    for await (const chunk of tar) chunks.push(chunk as Buffer);
    const archive = file(gzipSync(Buffer.concat(chunks)));
    const { formats, runs, skipped } = await told([archive]);
    expect([formats, runs]).toEqual([
      ["otlp", "csv"],
      [`${TRACE}: shop/order shop/pay`, "7: Order"],
    ]);
    expect(skipped).toEqual({ [`${archive}:README: not a format that is known`]: 1 });
  });

  test("the same file gives the same ids, another file others", async () => {
    const ids = async (content: string) => {
      const { runs } = await runsOf([file(content)]);
      return runs[0]!.run.executions.map(({ record }) => record.executionId);
    };
    const content = "case,activity,time\n7,Order,2024-01-01\n";
    expect(await ids(content)).toEqual(await ids(content));
    expect(await ids(content)).not.toEqual(await ids(content.replace("Order", "Other")));
  });
});

async function* inChunks(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

describe("streams", () => {
  test("JSON is followed over any chunk border: escapes, brackets in strings, nested arrays of the same key", async () => {
    const value = {
      note: 'a "quoted\\" ]} \u{1f600}',
      data: [{ data: [1, "]"], s: "\\" }, []],
      more: { data: [2] },
      end: true,
    };
    const bytes = new TextEncoder().encode(`${JSON.stringify(value)}\n${JSON.stringify([{ a: 1 }, { a: 2 }])}\n`);
    for (const size of [1, 2, 3, 7, 64, 10_000]) {
      const parts: unknown[] = [];
      for await (const part of jsonParts(inChunks(bytes, size), ["data"])) parts.push(part);
      expect(parts).toEqual([
        { key: "data", value: value.data[0] },
        { key: "data", value: value.data[1] },
        { key: null, value: { ...value, data: [] } },
        { key: "", value: { a: 1 } },
        { key: "", value: { a: 2 } },
      ]);
    }
  });

  test.each<[string, Importer, string]>([
    ["XES", xes, XES],
    ["Jaeger", jaeger, JSON.stringify(JAEGER)],
  ])("%s in chunks of a byte", async (_, importer, content) => {
    const read = async (size: number) => {
      const items: Imported[] = [];
      const options = { ...READ_DEFAULTS, fileId: "f" };
      for await (const item of importer.read(inChunks(new TextEncoder().encode(content), size), options))
        items.push(item);
      return items;
    };
    expect(await read(1)).toEqual(await read(1_000_000));
  });

  test("a cut file keeps what came before the cut", async () => {
    const whole = gzipSync(
      lines(Array.from({ length: 20_000 }, (_, i) => ({ ...NATIVE[0], runId: `r${i}-${Math.random()}` }))),
    );
    const path = file(whole.subarray(0, whole.length / 2));
    let read = 0;
    const reading = async () => {
      for await (const { items } of readLog(path)) for await (const _ of items) read++;
    };
    await expect(reading()).rejects.toThrow("unexpected end of file");
    expect(read).toBeGreaterThan(5_000);
  });
});

test.each([
  ["", 0],
  ["1700000000", 1_700_000_000_000],
  ["1700000000.5", 1_700_000_000_500],
  ["1700000000123", 1_700_000_000_123],
  ["1700000000123456", 1_700_000_000_123.456],
  ["1700000000123456789", 1_700_000_000_123.4568],
  ["2023-11-14T22:13:20Z", 1_700_000_000_000],
  ["2023-11-14 22:13:20.123456+00:00", 1_700_000_000_123.456],
  ["2023/11/14 23:13:20.000+0100", 1_700_000_000_000],
  ["2023-11-14", 1_699_920_000_000],
  ["soon", null],
])("instant %s", (text, ms) => {
  expect(instantOf(text)).toBe(ms);
});

test("spans survive the way over the API", () => {
  const decoded = decodeOtlpSpans(OTLP, Date.now());
  if ("reason" in decoded) throw new Error(decoded.detail);
  const again = decodeOtlpSpans(otlpOf(decoded.spans), Date.now());
  expect(again).toEqual(decoded);
});

const ROWS = "trace_id,span_id,parent_span_id,service_name,span_name,span_kind,start_time,end_time\n";
test.each([
  [
    "UUIDs",
    "1b4e28ba-2fa1-11d2-883f-0016d3cca427",
    "6fa459ea-ee8a-3ca4-894e-db77e160355e",
    "16fd2706-8baf-433b-82cb-8c7fada847da",
  ],
  ["numbers, a trace 0", "0", "1", "2"],
  ["base64, told apart by case", "qqqqqqqqqqqqqqqqqqqqqg==", "u7u7u7u7u7s=", "U7U7U7U7U7s="],
  ["names", "order-17", "order", "pay"],
])("ids that are %s: the API takes the spans, and the parent is the parent", async (_, trace, root, child) => {
  const rows = `${trace},${root},,shop,order,2,1700000000,1700000001\n${trace},${child},${root},shop,pay,2,1700000000.5,1700000001\n`;
  const jaegerSpan = {
    traceID: trace,
    startTime: 1_700_000_000_000_000,
    duration: 100,
    process: { serviceName: "shop" },
  };
  const references = [{ refType: "CHILD_OF", traceID: trace, spanID: root }];
  const spans = [
    { ...jaegerSpan, spanID: root, operationName: "order", references: [] },
    { ...jaegerSpan, spanID: child, operationName: "pay", references },
  ];
  const segments = [
    { trace_id: trace, id: root, name: "order", start_time: 1_700_000_000, end_time: 1_700_000_001 },
    { trace_id: trace, id: child, parent_id: root, name: "pay", start_time: 1_700_000_000, end_time: 1_700_000_001 },
  ];
  const documents = segments.map((segment) => ({ Id: segment.id, Document: JSON.stringify(segment) }));
  for (const content of [
    ROWS + rows,
    JSON.stringify({ data: [{ traceID: trace, spans }] }),
    JSON.stringify({ Traces: [{ Id: trace, Segments: documents }] }),
  ]) {
    const read: Span[] = [];
    for await (const { items } of readLog(file(content)))
      for await (const item of items) if (item.kind === "span") read.push(item.span);
    const decoded = decodeOtlpSpans(otlpOf(read), Date.now());
    expect(decoded).toMatchObject({ rejected: [] });
    const [order, pay] = "spans" in decoded ? decoded.spans : [];
    expect(pay).toMatchObject({ traceId: order?.traceId, parentSpanId: order?.spanId });
    expect(order?.parentSpanId).toBeNull();
    expect(pay?.spanId).not.toBe(order?.spanId);
  }
});

describe("forechain import", () => {
  const forechain = async (...operands: string[]) => {
    const node = [process.execPath, join(import.meta.dirname, "../../src/cli/main.ts"), "import", ...operands] as const;
    try {
      return { code: 0, ...(await promisify(execFile)(node[0], node.slice(1))) };
    } catch (error) {
      return error as { code: number; stdout: string; stderr: string };
    }
  };

  test("--dry-run --json: one JSON value, counts and reasons; exit 1 where no run was found", async () => {
    const good = file("case,activity,time\n7,Order,2024-01-01\n7,Pay,2024-01-02\n,Pay,2024-01-02\n");
    const { code, stdout } = await forechain(good, "--dry-run", "--json");
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toEqual({
      files: [
        {
          file: good,
          format: "csv",
          runs: 1,
          executions: 2,
          tasks: 2,
          skipped: [{ reason: "no run in this row", count: 1 }],
        },
      ],
    });
    const none = await forechain(file("hello"), "--dry-run", "--json");
    expect(none.code).toBe(1);
    expect(JSON.parse(none.stdout).files[0]).toMatchObject({ format: null, runs: 0 });
    expect((await forechain(good, "--url", "http://127.0.0.1:1")).code).toBe(1);
  });

  test("a worker that takes nothing: exit 1, and it is said", async () => {
    // What the importers pass is taken by a worker of the same version: only another one refuses all of it.
    const refusal = { duplicates: 0, rejected: [{ reason: "not of this version" }, { reason: "not of this version" }] };
    const server = createServer((_, response) => response.end(JSON.stringify(refusal)));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    try {
      const { port } = server.address() as AddressInfo;
      const good = file("case,activity,time\n7,Order,2024-01-01\n7,Pay,2024-01-02\n");
      const { code, stdout, stderr } = await forechain(
        good,
        "--url",
        `http://127.0.0.1:${port}`,
        "--key",
        "k",
        "--json",
      );
      expect(code).toBe(1);
      expect(stderr).toContain(`the worker took nothing of ${good}`);
      expect(JSON.parse(stdout).files[0]).toMatchObject({
        taken: 0,
        skipped: [{ reason: "not of this version", count: 2 }],
      });
    } finally {
      server.close();
    }
  });
});

const withData = existsSync(DATA) ? describe : describe.skip;
withData(`../shared/data${existsSync(DATA) ? "" : " (skipped: no data)"}`, () => {
  const all = (path: string, wanted: RegExp): string[] =>
    readdirSync(join(DATA, path), { recursive: true, encoding: "utf8" })
      .filter((name) => wanted.test(name))
      .map((name) => join(DATA, path, name));

  test("X-Ray: every fixture; cold starts where there were any", async () => {
    const cold: string[] = [];
    for (const path of all("servibench-xray", /traces\.json$/)) {
      const { runs, skipped } = await runsOf([path]);
      expect([runs.length, [...skipped]]).toEqual([1, []]);
      const count = runs[0]!.run.executions.filter((execution) => execution.cold).length;
      if (count > 0) cold.push(`${path.split("/").at(-2)} ${count}`);
    }
    expect(cold.sort()).toEqual([
      "matrix_app 9",
      "realworld_app_missing_coldstart 1",
      "realworld_app_missing_coldstart2 1",
      "thumbnail_app 2",
      "thumbnail_app_warm 1",
    ]);
  });

  test("WfFormat: every file, skips only for what one execution cannot hold", async () => {
    const { runs, skipped, formats } = await runsOf(all("wfinstances", /\.json\.gz$/));
    expect(formats).toEqual(["wfformat"]);
    expect(runs.length).toBe(all("wfinstances", /\.json\.gz$/).length);
    for (const reason of skipped.keys()) expect(reason).toMatch(/beyond the \d+ of one execution/);
  });

  test("Jaeger archives, Nezha tables and the event logs", async () => {
    const jaegerRuns = await runsOf(all("traceweaver", /(hotel|media).*load50.*gz$/));
    expect([jaegerRuns.formats, jaegerRuns.skipped.size, jaegerRuns.runs.length]).toEqual([["jaeger"], 0, 2000]);
    const nezha = await runsOf(all("nezha", /_trace\.csv\.gz$/).slice(0, 6));
    expect([nezha.formats, nezha.skipped.size]).toEqual([["csv"], 0]);
    const sepsis = await runsOf([join(DATA, "event-logs/sepsis.csv.gz")]);
    expect([sepsis.runs.length, sepsis.skipped.size]).toEqual([1050, 0]);
  });
});

// Logs as other tools than the first ones write them: other shapes of the same format, other encodings and packings, broken ones.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { pack } from "tar-stream";
import { describe, expect, onTestFinished, test } from "vitest";
import { RUN_RECORDS_MAX } from "../../src/core/open-run.ts";
import { seededRandom } from "../../src/core/random.ts";
import { packRecords, type RunRecord, unpackRecords } from "../../src/core/records.ts";
import { type Columns, type Imported, type Importer, recordOf } from "../../src/importers/format.ts";
import { isDayFirst } from "../../src/importers/instant.ts";
import { jaeger } from "../../src/importers/jaeger.ts";
import { native, ndjson } from "../../src/importers/ndjson.ts";
import { otlp } from "../../src/importers/otlp.ts";
import { READ_DEFAULTS, recordsOf, runsOf } from "../../src/importers/read.ts";
import { filesOf } from "../../src/importers/source.ts";
import { wfformat } from "../../src/importers/wfformat.ts";
import { xray } from "../../src/importers/xray.ts";
import { file, JAEGER, lines, NATIVE, OTLP, TRACE, told, WF, XES, XRAY } from "./logs.ts";

const SHOP = `${TRACE}: shop/order shop/pay`;
const [OTLP_GROUP] = OTLP.resourceSpans;
const [JAEGER_TRACE] = JAEGER.data;
const [XRAY_TRACE] = XRAY.Traces;
const JAEGER_RUN = `${"abc".padStart(32, "0")}: shop/order shop/pay`;
const SEGMENTS = XRAY_TRACE!.Segments.map(({ Document }) => ({
  trace_id: XRAY_TRACE!.Id,
  ...(JSON.parse(Document) as object),
}));
const SPANS_ALONE = JAEGER_TRACE!.spans.map(({ processID: _, ...span }) => ({
  ...span,
  process: { serviceName: "shop" },
}));

const ACTIONS = {
  total_count: 2,
  jobs: [
    ["build", "00:00:05", "00:01:00", "success"],
    ["test", "00:01:05", "00:02:00", "failure"],
  ].map(([name, started, completed, conclusion], id) => ({
    id,
    run_id: 99,
    workflow_name: "CI",
    status: "completed",
    conclusion,
    started_at: `2024-01-01T${started}Z`,
    completed_at: `2024-01-01T${completed}Z`,
    name,
    steps: [{ name: "checkout" }],
  })),
};

/** A call of two spans with one id, and a database's call. */
const ZIPKIN = [
  ["a1", undefined, "SERVER", "order", "shop", undefined],
  ["c1", "a1", "CLIENT", "post", "shop", undefined],
  ["c1", "a1", "SERVER", "pay", "bank", undefined],
  ["d1", "c1", "CLIENT", "select", "bank", "db"],
].map(([id, parentId, kind, name, serviceName, remote], at) => ({
  traceId: "5af7183fb1d4cf5f",
  id,
  parentId,
  kind,
  name,
  timestamp: 1_700_000_000_000_000 + at * 1000,
  duration: 10_000 - 2 * at * 1000,
  localEndpoint: { serviceName },
  ...(remote === undefined ? {} : { remoteEndpoint: { serviceName: remote } }),
  ...(at === 2 ? { shared: true, tags: { error: "declined" } } : {}),
}));

/** The same value with other names of its fields, or with other values. */
function changed(
  value: unknown,
  keyOf: (key: string) => string,
  contentOf = (_: string, inner: unknown) => inner,
): unknown {
  if (Array.isArray(value)) return value.map((inner) => changed(inner, keyOf, contentOf));
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).map(([key, inner]) => [
    keyOf(key),
    changed(contentOf(key, inner), keyOf, contentOf),
  ]);
  return Object.fromEntries(entries);
}
const asIs = (key: string) => key;
const snakeCase = (key: string) => key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
const base64Id = (key: string, value: unknown) =>
  /(trace|span)Id$/i.test(key) ? Buffer.from(String(value), "hex").toString("base64") : value;
const enumsAndNumbers = (key: string, value: unknown) =>
  key === "kind" ? "SPAN_KIND_SERVER" : key.endsWith("UnixNano") ? Number(value) : value;

describe("shapes", () => {
  test.each<[string, string, string[], Record<string, number>]>([
    ["OTLP in protobuf's names", JSON.stringify(changed(OTLP, snakeCase)), [SHOP], {}],
    ["OTLP with enum names and numbers", JSON.stringify(changed(OTLP, asIs, enumsAndNumbers)), [SHOP], {}],
    ["OTLP with base64 ids", JSON.stringify(changed(OTLP, asIs, base64Id)), [SHOP], {}],
    ["OTLP, a list of requests", JSON.stringify([OTLP, { resourceSpans: [] }]), [SHOP], {}],
    ["OTLP, a resource a line", lines([OTLP_GROUP]), [SHOP], {}],
    ["OTLP of Jaeger's v3", JSON.stringify({ result: OTLP }), [SHOP], {}],
    ["OTLP of Tempo", JSON.stringify({ trace: changed(OTLP, asIs, base64Id) }), [SHOP], {}],
    ["OTLP as Tempo's batches", JSON.stringify({ batches: OTLP.resourceSpans }), [SHOP], {}],
    [
      "other signals alone",
      lines([{ resourceMetrics: [{}] }, { resourceLogs: [] }]),
      [],
      { "resourceMetrics: not traces": 1, "resourceLogs: not traces": 1 },
    ],
    ["Jaeger, a list of traces", JSON.stringify(JAEGER.data), [JAEGER_RUN], {}],
    ["Jaeger, spans a line", lines(SPANS_ALONE), [JAEGER_RUN], {}],
    ["Jaeger of Elasticsearch", lines(SPANS_ALONE.map((span) => ({ _index: "i", _source: span }))), [JAEGER_RUN], {}],
    [
      "Jaeger without processes",
      JSON.stringify({ data: [{ ...JAEGER_TRACE, processes: null }] }),
      [`${"abc".padStart(32, "0")}: unknown_service/order unknown_service/pay`],
      {},
    ],
    [
      "Jaeger's error",
      '{"data":null,"errors":[{"code":404,"msg":"trace not found"}]}',
      [],
      { "the query's error: trace not found": 1 },
    ],
    [
      "X-Ray documents as objects, traces that are missing",
      JSON.stringify({
        Traces: [{ Id: XRAY_TRACE!.Id, Segments: SEGMENTS.map((Document) => ({ Document })) }],
        UnprocessedTraceIds: ["1-5b8efff8-98038103d269b633813fc60c"],
      }),
      [`${TRACE}: api resize`],
      { "a trace that X-Ray did not give (UnprocessedTraceIds)": 1 },
    ],
    ["X-Ray segments a line", lines(SEGMENTS), [`${TRACE}: api resize`], {}],
    [
      "X-Ray segments as for the daemon",
      lines(SEGMENTS.flatMap((segment) => [{ format: "json", version: 1 }, segment])),
      [`${TRACE}: api resize`],
      {},
    ],
    [
      "executions with nulls",
      lines(NATIVE.map((execution) => ({ parentId: null, links: null, ...execution }))),
      ["r: a b"],
      {},
    ],
    [
      "executions after other text",
      `Starting "server [1]\n${lines(NATIVE)}`,
      ["r: a b"],
      { "not JSON: a line ends inside a string": 1 },
    ],
    [
      "CSV, other separators in cells",
      "case,activity,time\n7,Order; now,2024-01-01\n7,GET /a|b,2024-01-02\n",
      ["7: Order; now GET /a|b"],
      {},
    ],
    ["CSV, days first", "case,activity,time\n7,Pay,09/11/2012 10:00\n7,Order,13/10/2012 10:00\n", ["7: Order Pay"], {}],
    [
      "CSV, a date in a column of another name",
      "Case ID;dd-MM-yyyy:HH.mm;Activity\n7;31-12-2010:10.06;Pay\n7;30-12-2010:11.02;Order\n",
      ["7: Order Pay"],
      {},
    ],
    ["CSV, a line break in a name", 'case,activity,time\r\n7,"Order\nnow",2024-01-01\r\n', ["7: Order now"], {}],
    [
      "CSV, its columns named by our own words, in seconds since 1970",
      "run,task,start,end\n7,order,1700000000,1700000001\n7,pay,1700000002,1700000003\n",
      ["7: order pay"],
      {},
    ],
    ["CSV, names of columns alone", "case,activity,time\n", [], { "no rows below the names of the columns": 1 }],
    [
      "rows that name their parents by id",
      "trace_id,id,parent_id,name\n7,x,,Order\n7,z,y,Ship\n7,y,x,Pay\n",
      ["7: Order Pay Ship"],
      {},
    ],
    [
      "XES with a namespace's prefix",
      XES.replaceAll(/<(\/?)(?=\w)/g, "<$1x:"),
      ["7: check pay & go"],
      { "lifecycle schedule": 1 },
    ],
    [
      "XES that breaks off",
      XES.slice(0, XES.indexOf("pay &amp;")),
      ["7: check"],
      { "not whole XML: 5:41: unclosed tag: event": 1 },
    ],
  ])("%s", async (_, content, runs, skipped) => {
    const found = await told([file(content)]);
    expect({ ...found, formats: [] }).toEqual({ formats: [], runs, skipped });
  });

  test("XES in a packing that breaks off gives the whole events before the break, and tells it", async () => {
    const packed = gzipSync(XES.slice(0, XES.indexOf("pay &amp;")), { level: 0 });
    const { runs, skipped } = await told([file(packed.subarray(0, -8))]);
    expect({ runs, skipped }).toEqual({
      runs: ["7: check"],
      skipped: { "the rest of the file, unreadable: unexpected end of file": 1 },
    });
  });

  test.each([
    ["a trace", JSON.stringify(ZIPKIN)],
    ["traces", JSON.stringify([ZIPKIN])],
    ["spans by the line, in another order", lines([...ZIPKIN].reverse())],
  ])("Zipkin: %s", async (_, content) => {
    const { runs, formats, skipped } = await runsOf([file(content)]);
    expect({ formats, skipped: [...skipped] }).toEqual({ formats: ["zipkin"], skipped: [] });
    const [{ run }] = runs as [(typeof runs)[number]];
    expect(run.orphans).toBe(0);
    expect(run.executions.map(({ task, parent, record: { status } }) => [task, parent, status])).toEqual([
      ["shop/order", -1, "ok"],
      ["bank/pay", 0, "error"],
    ]);
    // The call between the tasks is no service; the database's is one of the task that called it.
    expect(run.executions.map(({ services }) => services.map(({ service }) => service))).toEqual([[], ["db"]]);
  });

  test("Zipkin: version 1 and spans without id are told", async () => {
    const old = { traceId: "1", id: "2", binaryAnnotations: [], annotations: [] };
    const { skipped } = await runsOf([file(JSON.stringify([old, { traceId: "1", localEndpoint: {} }]))]);
    expect([...skipped]).toEqual([
      ["a span of Zipkin's version 1: version 2 is read (/api/v2/…)", 1],
      ["a span without id", 1],
    ]);
  });

  test("WfFormat: arrays in any order, each told once, a broken element and an id twice are told", async () => {
    const execution = { tasks: ["a", "b", "c"].map((id) => ({ id, runtimeInSeconds: 2, avgCPU: 50 })) };
    const files = [
      { id: "f", sizeInBytes: 7 },
      { id: "unused", sizeInBytes: 9 },
    ];
    const tasks = [
      { id: "c", name: "last", parents: ["b"] },
      { id: "b", name: "mid", parents: ["a"], children: ["c"], inputFiles: ["f"] },
      { id: "a", name: "one", children: ["b"], outputFiles: ["f"] },
      { id: "a", name: "one" },
    ];
    const text = JSON.stringify({
      name: "w",
      workflow: { execution, specification: { files, tasks } },
      schemaVersion: "1.5",
    });
    const broken = text.replace('{"id":"c","name"', '{"id":nothing},{"id":"c","name"');
    const { records, skipped } = await recordsOf([file(`${broken}\n${text.slice(0, 400)}\n${text}`)]);
    expect(records.slice(0, 3)).toEqual(records.slice(3));
    expect(records.slice(0, 3).map(({ executionId, startMs, rest }) => [executionId, startMs, rest.links])).toEqual(
      // In the order of the document that tells of execution first.
      [
        ["a", 1000, undefined],
        ["b", 3000, ["a"]],
        ["c", 5000, ["b"]],
      ],
    );
    expect(records[1]!.rest).toMatchObject({ cpuMs: 1000, inputs: [{ uri: "file:///f", bytes: 7 }] });
    expect(Object.fromEntries(skipped)).toEqual({
      "a task whose id another has": 2,
      "not JSON: Unexpected token 'o'": 1,
      "not JSON: a line ends inside a string": 1,
    });
  });

  test.each<[string, string, Columns, string[]]>([
    [
      "GitHub Actions jobs",
      JSON.stringify(ACTIONS),
      {},
      ["99 CI/build 5000-60000 ok", "99 CI/test 65000-120000 error"],
    ],
    [
      "Airflow: a run is a DAG's",
      "task_id,dag_id,run_id,start_date,end_date,state\nload,etl,m1,2024-01-01 00:00:01+00:00,2024-01-01 01:00:02+01:00,failed",
      {},
      ["etl/m1 etl/load 1000-2000 error"],
    ],
    [
      "Nextflow",
      "task_id\tname\tstatus\tsubmit\tduration\n1\tALIGN\tCOMPLETED\t2024-01-01 00:00:12.000\t1m 10s",
      { run: "@file" },
      ["FILE ALIGN 12000-82000 ok"],
    ],
    [
      "Slurm",
      "JobID|JobName|State|Start|Elapsed\n7|train|TIMEOUT|2024-01-01T00:00:10|00:03:50",
      { run: "@file" },
      ["FILE train 10000-240000 timeout"],
    ],
    [
      "Application Insights",
      'timestamp [UTC],id,name,success,duration,operation_Id,operation_ParentId,cloud_RoleName\n"1/1/2024, 12:00:01.000 AM",1,GET /a,False,12.5,abc,abc,web',
      { duration: "duration:ms" },
      ["abc web/GET /a 1000-1012.5 error"],
    ],
    [
      "Alibaba: columns joined, one without a name",
      ",traceid,timestamp,um,dm,interface,rt\n0,0b13,1704067201,2b4f,a4ae,xx,3",
      { task: "dm+interface", duration: "rt:ms" },
      ["0b13 a4ae/xx 1000-1003 ok"],
    ],
    [
      "Datadog: a list of traces",
      '[[{"trace_id":"t","span_id":"1","parent_id":"0","service":"web","name":"web.request","resource":"GET /a","start":1704067201000000000,"duration":500000000,"error":0}]]',
      { task: "resource", duration: "duration:ns" },
      ["t web/GET /a 1000-1500 ok"],
    ],
    [
      "lines with empty lists",
      lines(["a", "b"].map((task, at) => ({ run_id: "r", task, start: 1_704_067_200 + at, events: [], tags: [] }))),
      {},
      ["r a 0-0 ok", "r b 1000-1000 ok"],
    ],
    [
      "end and duration",
      "run,task,end_timestamp,duration_ms\nr,a,2024-01-01T00:00:05Z,1500",
      { run: "run" },
      ["r a 3500-5000 ok"],
    ],
    [
      "a duration of which nobody knows the unit is unknown, not 0",
      "run_id,task,start,duration\nr,a,2024-01-01T00:00:05Z,1500",
      {},
      ["r a 5000-null ok"],
    ],
  ])("%s", async (_, content, columns, expected) => {
    const { records, skipped } = await recordsOf([file(content)], { ...READ_DEFAULTS, columns });
    const since = (ms: number | null) => (ms === null ? null : ms - Date.UTC(2024, 0, 1));
    const fileId = records[0]?.executionId.slice(0, 12);
    const lines = records.map(({ runId, task, startMs, endMs, status }) => {
      return `${runId === fileId ? "FILE" : runId} ${task} ${since(startMs)}-${since(endMs)} ${status}`;
    });
    expect({ lines, skipped: [...skipped] }).toEqual({ lines: expected, skipped: [] });
  });

  test.each<[string, string, Columns, string]>([
    [
      "a told duration without unit",
      "run_id,task,start,took\nr,a,1704067200,3",
      { duration: "took" },
      'column duration="took:ms"',
    ],
    [
      "a part of a joined column",
      "run_id,task,start\nr,a,1704067200",
      { task: "task+kind" },
      'no column "kind"; there are: run_id',
    ],
    ["records inside a document", '{"traceId":"t","spans":[{"spanId":"1"}]}', {}, "jq -c '.spans[]'"],
  ])("what is wrong and what to do: %s", async (_, content, columns, words) => {
    const { records, skipped } = await recordsOf([file(content)], { ...READ_DEFAULTS, columns });
    expect(records).toEqual([]);
    expect([...skipped.keys()].join("\n")).toContain(words);
  });

  test("WfFormat: tasks beyond those of one run are counted, not held", async () => {
    const tasks = Array.from({ length: RUN_RECORDS_MAX + 5 }, (_, id) => ({ id: `t${id}`, name: `map_${id}` }));
    const { records, skipped } = await recordsOf([
      file(JSON.stringify({ schemaVersion: "1.5", workflow: { specification: { tasks } } })),
    ]);
    expect(records).toHaveLength(RUN_RECORDS_MAX);
    expect(Object.fromEntries(skipped)).toEqual({ [`tasks beyond the ${RUN_RECORDS_MAX} of one run`]: 5 });
  });

  test.each(["1.0", "1.3", "1.4", "1.5 without execution"])("WfFormat %s", async (version) => {
    const { runs, skipped } = await runsOf([file(JSON.stringify(workflowOf(version)))]);
    expect([...skipped]).toEqual([]);
    const [split, run] = runs[0]!.run.executions;
    expect([split!.task, run!.task, run!.kinds]).toEqual(["split", "run", ["link"]]);
    if (version.endsWith("without execution")) return;
    expect([run!.startMs - split!.startMs, run!.endMs - run!.startMs]).toEqual([10_000, 20_000]);
    expect(run!.record.rest).toMatchObject({ memoryBytes: 1000, inputs: [{ uri: "file:///a.0", bytes: 202 }] });
  });
});

/** WF in other versions of the schema. */
function workflowOf(version: string): unknown {
  const { specification, execution } = WF.workflow;
  if (version.endsWith("without execution")) return { ...WF, workflow: { specification } };
  const isOld = version < "1.4";
  const tasks = specification.tasks.map((task, i) => {
    const { runtimeInSeconds, memoryInBytes } = execution.tasks[i] as {
      runtimeInSeconds: number;
      memoryInBytes?: number;
    };
    const files = [
      ...task.inputFiles.map((name) => ["input", name]),
      ...task.outputFiles.map((name) => ["output", name]),
    ];
    return {
      name: task.name,
      ...(version === "1.0" ? {} : { id: `ID${i}`, category: task.name.split("_")[0] }),
      // One end alone tells it; by name, whatever the id.
      ...(version === "1.4" ? { children: task.children } : { parents: task.parents }),
      files: files.map(([link, name]) => ({ link, name, [isOld ? "size" : "sizeInBytes"]: name === "nt" ? 5 : 202 })),
      ...(isOld ? { runtime: runtimeInSeconds } : { runtimeInSeconds }),
      ...(memoryInBytes === undefined ? {} : isOld ? { memory: memoryInBytes / 1000 } : { memoryInBytes }),
    };
  });
  return {
    name: "blast",
    schemaVersion: version,
    workflow: { makespan: 30, [version === "1.0" ? "jobs" : "tasks"]: tasks },
  };
}

describe("broken lines", () => {
  const [first, second] = NATIVE.map((execution) => JSON.stringify(execution));
  test.each([
    ["inside a string", first!.slice(0, first!.indexOf("runId") + 3), "a line ends inside a string"],
    ["after a comma", first!.slice(0, first!.indexOf(",") + 1), "a record breaks off before the next one"],
    ["inside a number", first!.slice(0, -4), "a record breaks off before the next one"],
    ["in another bracket", `${first!.slice(0, -1)}]`, "a bracket closes nothing"],
  ])("one that ends %s costs none of the others", async (_, broken, reason) => {
    const content = `${first}\n${broken}\n${second}\n`;
    expect(await told([file(content)])).toEqual({
      formats: ["native"],
      runs: ["r: a b"],
      skipped: { [`not JSON: ${reason}`]: 1 },
    });
  });
});

describe("encodings and packings", () => {
  const csv = "case,activity,time\n7,prüfen,2024-01-01\n";
  const xes = XES.replace("check", "prüfen").replace("check", "prüfen");
  const utf16 = (text: string) => Buffer.from(`\ufeff${text}`, "utf16le");
  test.each<[string, Uint8Array, string]>([
    ["CSV in Latin-1", Buffer.from(csv, "latin1"), "7: prüfen"],
    ["CSV in UTF-16", utf16(csv), "7: prüfen"],
    [
      "XES that says ISO-8859-1",
      Buffer.from(xes.replace("?>", ' encoding="ISO-8859-1"?>'), "latin1"),
      "7: prüfen pay & go",
    ],
    ["OTLP with BOM and CRLF", Buffer.from(`\ufeff${JSON.stringify(OTLP, null, 1).replaceAll("\n", "\r\n")}`), SHOP],
    [
      "members of gzip one after the other",
      Buffer.concat([gzipSync(lines(NATIVE.slice(0, 1))), gzipSync(lines(NATIVE.slice(1)))]),
      "r: a b",
    ],
    ["zstd", zstdCompressSync(csv), "7: prüfen"],
  ])("%s", async (_, content, run) => {
    expect((await told([file(content)])).runs).toEqual([run]);
  });

  test("a folder of links to files, one to nothing and one back to itself", async () => {
    const folder = mkdtempSync(join(tmpdir(), "forechain-links-"));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    symlinkSync(file(JSON.stringify(OTLP)), join(folder, "day.json"));
    symlinkSync(join(folder, "gone"), join(folder, "dangling"));
    symlinkSync(folder, join(folder, "round"));
    expect((await told(filesOf(folder))).runs).toEqual([SHOP]);
  });

  test("an archive with folders, PAX headers, hidden and packed members", async () => {
    const tar = pack();
    tar.entry({ name: "logs/", type: "directory" });
    tar.entry({ name: `logs/${"long".repeat(50)}/ö.json`, pax: { comment: "ö" } }, JSON.stringify(OTLP));
    tar.entry({ name: "logs/._hidden" }, "AppleDouble");
    tar.entry({ name: "logs/a.csv.gz" }, gzipSync(csv));
    tar.entry({ name: "logs/empty" }, "");
    tar.finalize();
    const chunks: Buffer[] = [];
    for await (const chunk of tar) chunks.push(chunk as Buffer);
    const archive = file(gzipSync(Buffer.concat(chunks)));
    const { runs, skipped } = await told([archive]);
    expect([runs, skipped]).toEqual([[SHOP, "7: prüfen"], { [`${archive}:logs/empty: the file is empty`]: 1 }]);
  });

  test.each([
    ["a zip archive", "PK\u0003\u0004"],
    ["packed with bzip2", "BZh91AY"],
    ["a Parquet file", "PAR1"],
  ])("%s is told as such", async (what, head) => {
    const packed = file(`${head},case,activity`);
    expect(Object.keys((await told([packed])).skipped)).toEqual([
      `${packed}: ${what}: unpack it first; .gz, .zst and .tar are read as they are`,
    ]);
  });

  test("a file that holds itself ends", async () => {
    let packed: Buffer = Buffer.from(csv);
    for (let layer = 0; layer < 6; layer++) packed = gzipSync(packed);
    const log = file(packed);
    expect(await told([log])).toMatchObject({ runs: [], skipped: { [`${log}: binary data, not a log`]: 1 } });
  });

  test.each([
    [["01/02/2012", "13/02/2012"], true],
    [["01/13/2012", "2012-01-13", ""], false],
  ])("days first in %j: %j", (texts, isFirst) => {
    expect(isDayFirst(texts)).toBe(isFirst);
  });

  test("dates without a zone are the same instant everywhere", () => {
    const program = `import { instantOf } from "./src/importers/instant.ts"; console.log(instantOf("Mar 3, 2012 10:00"), instantOf("3/4/2012 3:04 PM"))`;
    const node = ["--input-type=module", "--eval", program];
    const told = execFileSync(process.execPath, node, {
      env: { ...process.env, TZ: "America/New_York" },
      encoding: "utf8",
    });
    expect(told).toBe(`${Date.UTC(2012, 2, 3, 10)} ${Date.UTC(2012, 2, 4, 15, 4)}\n`);
  });
});

const SEED = Number(process.env.FORECHAIN_TEST_SEED ?? 20_261_126);
const CHANGES = 300;
const ODD = [null, 0, -1, 1e300, "", "x", true, [], {}, [null], [[]], { a: null }];

describe(`${CHANGES} documents with something odd in the place of a value are read or told, never thrown (seed ${SEED})`, () => {
  test.each<[Importer, unknown]>([
    [otlp, OTLP],
    [jaeger, JAEGER],
    [jaeger, { data: [{ ...JAEGER_TRACE, spans: SPANS_ALONE }] }],
    [xray, { Traces: [{ Id: XRAY_TRACE!.Id, Segments: SEGMENTS.map((Document) => ({ Document })) }] }],
    [wfformat, WF],
    [wfformat, workflowOf("1.3")],
    [native, { executions: NATIVE }],
    [ndjson, [{ session: "s", event: "open", time: 1_700_000_000, kind: 2, span_id: "a" }]],
  ])("$format", async (importer, log) => {
    const random = seededRandom(SEED);
    const pick = (count: number) => Math.floor(random() * count);
    let read = 0;
    for (let i = 0; i < CHANGES; i++) {
      const copy = structuredClone(log) as Record<string, unknown>;
      const places: [Record<string, unknown>, string][] = [];
      const walk = (holder: Record<string, unknown>) => {
        for (const [key, value] of Object.entries(holder)) {
          places.push([holder, key]);
          if (typeof value === "object" && value !== null) walk(value as Record<string, unknown>);
        }
      };
      walk(copy);
      const [holder, key] = places[pick(places.length)]!;
      holder[key] = ODD[pick(ODD.length)];
      const items: Imported[] = [];
      const content = [new TextEncoder().encode(JSON.stringify(copy))];
      for await (const item of importer.read(chunksOf(content), { ...READ_DEFAULTS, fileId: "f" })) items.push(item);
      const records = items.map(recordOf).filter((record) => record !== null);
      // Ids of another type would come out of the journal as something else.
      expect(unpackRecords(packRecords(records)).map(idsOf)).toEqual(records.map(idsOf));
      const { runs } = await runsOf([file(JSON.stringify(copy))], { ...READ_DEFAULTS, format: importer.format });
      if (items.some(({ kind }) => kind !== "skipped") && runs.length > 0) read++;
    }
    // One odd value leaves most of a log as it was.
    expect(read).toBeGreaterThan(CHANGES / 3);
  });
});

function idsOf({ runId, executionId, parentId, task }: RunRecord): unknown[] {
  return [runId, executionId, parentId, task];
}

async function* chunksOf(chunks: Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* chunks;
}

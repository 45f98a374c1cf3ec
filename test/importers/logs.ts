// Small logs of each format, as files and as what reading tells of them.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll } from "vitest";
import { READ_DEFAULTS, type ReadOptions, runsOf } from "../../src/importers/read.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "forechain-import-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

let files = 0;
export function file(content: string | Uint8Array): string {
  const path = join(folder, `log-${++files}`);
  writeFileSync(path, content);
  return path;
}

/** `run: path of the last execution` for each run, with formats and skips. */
export async function told(paths: string[], options: Partial<ReadOptions> = {}) {
  const { runs, formats, skipped } = await runsOf(paths, { ...READ_DEFAULTS, ...options });
  const path = (at: number, executions: (typeof runs)[number]["run"]["executions"]): string => {
    const { pathTrigger, task } = executions[at]!;
    return pathTrigger < 0 ? task : `${path(pathTrigger, executions)} ${task}`;
  };
  return {
    formats,
    skipped: Object.fromEntries(skipped),
    runs: runs.map(({ runId, run }) => `${runId}: ${path(run.executions.length - 1, run.executions)}`),
  };
}

export const TRACE = "5b8efff798038103d269b633813fc60c";
export const OTLP = {
  resourceSpans: [
    {
      resource: { attributes: [{ key: "service.name", value: { stringValue: "shop" } }] },
      scopeSpans: [
        {
          spans: [
            {
              traceId: TRACE,
              spanId: "00000000000000bb",
              parentSpanId: "00000000000000aa",
              name: "pay",
              kind: 2,
              startTimeUnixNano: "1700000000500000000",
              endTimeUnixNano: "1700000000600000000",
            },
            {
              traceId: TRACE,
              spanId: "00000000000000aa",
              name: "order",
              kind: 2,
              startTimeUnixNano: "1700000000000000000",
              endTimeUnixNano: "1700000001000000000",
            },
          ],
        },
      ],
    },
  ],
};
export const JAEGER = {
  data: [
    {
      traceID: "abc",
      spans: [
        {
          traceID: "abc",
          spanID: "b",
          operationName: "pay",
          references: [{ refType: "CHILD_OF", traceID: "abc", spanID: "a" }],
          startTime: 1_700_000_000_500_000,
          duration: 100,
          tags: [{ key: "span.kind", value: "server" }],
          processID: "p1",
        },
        {
          traceID: "abc",
          spanID: "a",
          operationName: "order",
          references: [],
          startTime: 1_700_000_000_000_000,
          duration: 1000,
          tags: [],
          processID: "p1",
        },
      ],
      processes: { p1: { serviceName: "shop" } },
    },
  ],
};
const SEGMENT = (fields: object) => ({ Id: "x", Document: JSON.stringify(fields) });
export const XRAY = {
  Traces: [
    {
      Id: "1-5b8efff7-98038103d269b633813fc60c",
      Segments: [
        SEGMENT({
          id: "00000000000000a1",
          name: "api",
          origin: "AWS::ApiGateway::Stage",
          start_time: 1700000000,
          end_time: 1700000004,
        }),
        SEGMENT({
          id: "00000000000000a2",
          parent_id: "00000000000000a1",
          name: "resize",
          origin: "AWS::Lambda",
          start_time: 1700000000.1,
          end_time: 1700000003.9,
        }),
        SEGMENT({
          id: "00000000000000a3",
          parent_id: "00000000000000a2",
          name: "resize",
          origin: "AWS::Lambda::Function",
          start_time: 1700000001.1,
          end_time: 1700000003.8,
          subsegments: [
            { id: "00000000000000a4", name: "Initialization", start_time: 1700000000.4, end_time: 1700000001.05 },
            { id: "00000000000000a5", name: "S3", namespace: "aws", start_time: 1700000002, end_time: 1700000003 },
          ],
        }),
        SEGMENT({
          id: "00000000000000a6",
          parent_id: "00000000000000a5",
          name: "S3",
          origin: "AWS::S3::Bucket",
          inferred: true,
          start_time: 1700000002,
          end_time: 1700000003,
        }),
      ],
    },
  ],
};
export const WF = {
  name: "blast",
  schemaVersion: "1.5",
  workflow: {
    specification: {
      tasks: [
        {
          name: "split_ID000001",
          id: "split_ID000001",
          parents: [],
          children: ["run_ID000002"],
          inputFiles: ["nt"],
          outputFiles: ["a.0"],
        },
        {
          name: "run_ID000002",
          id: "run_ID000002",
          parents: ["split_ID000001"],
          children: [],
          inputFiles: ["a.0"],
          outputFiles: [],
        },
      ],
      files: [
        { id: "nt", sizeInBytes: 5 },
        { id: "a.0", sizeInBytes: 202 },
      ],
    },
    execution: {
      executedAt: "2020-12-26T03:13:32+00:00",
      tasks: [
        { id: "split_ID000001", runtimeInSeconds: 10 },
        { id: "run_ID000002", runtimeInSeconds: 20, avgCPU: 50, memoryInBytes: 1000 },
      ],
    },
  },
};
export const XES = `<?xml version="1.0"?><log><global scope="event"><string key="concept:name" value="x"/></global>
<trace><string key="concept:name" value="7"/>
<event><string key="concept:name" value="check"/><string key="lifecycle:transition" value="start"/><date key="time:timestamp" value="2011-01-01T10:00:00+01:00"/></event>
<event><string key="concept:name" value="check"/><string key="lifecycle:transition" value="complete"/><date key="time:timestamp" value="2011-01-01T10:00:05+01:00"/></event>
<event><string key="concept:name" value="pay &amp; go"/><list key="l"><string key="concept:name" value="not its name"/></list><date key="time:timestamp" value="2011-01-01T10:00:09+01:00"/></event>
<event><string key="concept:name" value="plan"/><string key="lifecycle:transition" value="schedule"/><date key="time:timestamp" value="2011-01-01T10:00:09+01:00"/></event>
</trace></log>`;
export const NATIVE = [
  { runId: "r", executionId: "1", task: "a", startMs: 1_700_000_000_000, endMs: 1_700_000_000_001 },
  { runId: "r", executionId: "2", parentId: "1", task: "b", startMs: 1_700_000_000_000, endMs: 1_700_000_000_001 },
];
export const lines = (values: unknown[]) => `${values.map((value) => JSON.stringify(value)).join("\n")}\n`;

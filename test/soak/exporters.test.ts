// Stock OpenTelemetry exporters send to a real worker with nothing set but the endpoint and an Authorization header.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ROOT_CONTEXT, type SpanContext, SpanKind, SpanStatusCode, TraceFlags, trace } from "@opentelemetry/api";
import { OTLPTraceExporter as JsonExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { OTLPTraceExporter as ProtobufExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BasicTracerProvider, BatchSpanProcessor, type SpanExporter } from "@opentelemetry/sdk-trace-base";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { GraphAnswer } from "../../src/protocol.ts";
import { bundle, fresh, type Worker } from "./worker.ts";

/** A span of a trace that never comes here. */
const REMOTE: SpanContext = {
  traceId: "0af7651916cd43dd8448eb211c80319c",
  spanId: "b7ad6b7169203331",
  traceFlags: TraceFlags.SAMPLED,
};

let folder: string;
let worker: Worker;
let key: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "forechain-exporters-"));
  await bundle(folder);
  ({ worker, key } = await fresh(folder, "state"));
});
afterAll(async () => {
  await worker?.kill();
  rmSync(folder, { recursive: true, force: true });
});

test.each<[string, (url: string, headers: Record<string, string>) => SpanExporter]>([
  ["protobuf", (url, headers) => new ProtobufExporter({ url, headers })],
  ["protobuf, gzip", (url, headers) => new ProtobufExporter({ url, headers, compression: "gzip" as never })],
  ["JSON", (url, headers) => new JsonExporter({ url, headers })],
])("%s", async (name, exporter) => {
  const exporting = exporter(new URL("/v1/traces", worker.url).href, { authorization: `Bearer ${key}` });
  const service = `shop-${name.replace(/\W+/g, "-")}`;
  const provider = new BasicTracerProvider({
    resource: resourceFromAttributes({ "service.name": service, "service.version": "1.2" }),
    spanProcessors: [new BatchSpanProcessor(exporting)],
  });
  const tracer = provider.getTracer("test");
  const under = (parent: SpanContext) => trace.setSpanContext(ROOT_CONTEXT, parent);
  const order = tracer.startSpan("order", { kind: SpanKind.SERVER, startTime: 1_000_000 });
  const sql = tracer.startSpan(
    "sql",
    { kind: SpanKind.CLIENT, attributes: { "db.system": "pg", "server.address": "pg:5432" } },
    under(order.spanContext()),
  );
  sql.end();
  const pay = tracer.startSpan(
    "pay",
    { kind: SpanKind.SERVER, links: [{ context: { ...REMOTE } }] },
    under(order.spanContext()),
  );
  pay.setStatus({ code: SpanStatusCode.ERROR });
  pay.end();
  order.end();
  await provider.forceFlush();
  await provider.shutdown();
  const answer = await fetch(new URL("/v1/graph", worker.url), { headers: { authorization: `Bearer ${key}` } });
  const graph = (await answer.json()) as GraphAnswer;
  const own = graph.tasks.filter(({ task }) => task.startsWith(`${service}/`));
  expect(own.map(({ task, count, errors }) => [task, count, errors]).sort()).toEqual([
    [`${service}/order`, 1, 0],
    [`${service}/pay`, 1, 1],
  ]);
  expect(graph.transitions.filter(({ source }) => source.startsWith(service))).toMatchObject([
    { source: `${service}/order`, target: `${service}/pay`, count: 1 },
  ]);
});

// Spans → records: names, kinds, services, ids and times as exporters write them.
import { describe, expect, test } from "vitest";
import { normaliseTaskName, packRecords, unpackRecords } from "../../src/core/records.ts";
import { decodeOtlpSpans, recordOfSpan } from "../../src/core/spans.ts";

const NOW_MS = 1_700_000_000_000;
const TRACE = "5b8efff798038103d269b633813fc60c";
const SPAN = "eee19b7ec3c1b174";

function span(fields: Record<string, unknown> = {}) {
  return {
    traceId: TRACE,
    spanId: SPAN,
    name: "GET /x",
    kind: 2,
    startTimeUnixNano: "1544712660000000000",
    endTimeUnixNano: "1544712661000500000",
    ...fields,
  };
}

function attributes(values: Record<string, unknown>) {
  return Object.entries(values).map(([key, value]) => ({
    key,
    value:
      typeof value === "string"
        ? { stringValue: value }
        : typeof value === "boolean"
          ? { boolValue: value }
          : typeof value === "number"
            ? { intValue: String(value) }
            : value,
  }));
}

/** As the route does it. */
function recordsOf(request: unknown, nowMs: number) {
  const decoded = decodeOtlpSpans(request, nowMs);
  return "reason" in decoded ? decoded : { records: decoded.spans.map(recordOfSpan), rejected: decoded.rejected };
}

function decode(spans: unknown[], resource: Record<string, unknown> = { "service.name": "shop" }) {
  const request = { resourceSpans: [{ resource: { attributes: attributes(resource) }, scopeSpans: [{ spans }] }] };
  const decoded = recordsOf(request, NOW_MS);
  if ("reason" in decoded) throw new Error(decoded.detail);
  return decoded;
}

describe("names", () => {
  test.each([
    ["GET /orders/7", "GET /orders/*"],
    ["GET /orders/7?x=1", "GET /orders/*?x=1"],
    ["run 550e8400-e29b-41d4-a716-446655440000", "run *"],
    ["job-5b8efff798038103d269b633813fc60c", "job-*"],
    ["task_0000123", "task_*"],
    ["resize-v2 2024", "resize-v2 2024"],
    ["defacedfacade", "defacedfacade"],
    ["処理/注文", "処理/注文"],
    ["a\u0000b", "a b"],
  ])("%s → %s", (raw, name) => {
    expect(normaliseTaskName(raw)).toBe(name);
  });

  test("faas.name, else service and span name", () => {
    const named = decode([span({ attributes: attributes({ "faas.name": "resize" }) })]);
    expect(named.records[0]!.task).toBe("resize");
    expect(decode([span()], { "service.name": "shop", "faas.name": "fn" }).records[0]!.task).toBe("fn");
    expect(decode([span()]).records[0]!.task).toBe("shop/GET /x");
    expect(decode([span({ name: "" })], {}).records[0]!.task).toBe("unknown_service/unnamed");
  });
});

test("kinds: SERVER, CONSUMER and roots are executions, by number or by name", () => {
  const parentSpanId = "00000000000000aa";
  const kinds = [1, 2, 3, 4, 5, "SPAN_KIND_SERVER", "SPAN_KIND_INTERNAL"];
  const tasks = kinds.map((kind) => decode([span({ kind, parentSpanId })]).records[0]!.task !== null);
  expect(tasks).toEqual([false, true, false, false, true, true, false]);
  expect(decode([span({ kind: 1 })]).records[0]!.task).not.toBeNull();
  expect(decode([span({ kind: 1, parentSpanId: "" })]).records[0]!.task).not.toBeNull();
  expect(decode([span({ kind: 1, parentSpanId: "0000000000000000" })]).records[0]!.task).not.toBeNull();
});

test("FaaS conventions, old and new names", () => {
  for (const key of ["faas.invocation.id", "faas.invocation_id", "faas.execution"]) {
    expect(decode([span({ attributes: attributes({ [key]: "inv-1" }) })]).records[0]!.rest.alias).toBe("inv-1");
  }
  const { rest } = decode([span({ attributes: attributes({ "faas.coldstart": true }) })], { "faas.version": "7" })
    .records[0]!;
  expect(rest).toMatchObject({ cold: true, version: "7" });
  expect(decode([span()], { "service.version": "1.2" }).records[0]!.rest.version).toBe("1.2");
});

test.each([
  [{ "db.system": "postgresql", "server.address": "pg.internal" }, "pg.internal"],
  [{ "db.system.name": "redis" }, "redis"],
  [{ "peer.service": "payments" }, "payments"],
  [{ "messaging.system": "kafka", "messaging.destination.name": "orders" }, "kafka"],
  [{ "url.full": "https://user@api.example.net:8443/v1?x=1" }, "api.example.net:8443"],
  [{ "http.url": "http://old.example.net/a" }, "old.example.net"],
  [{ "rpc.system": "grpc", "net.peer.name": "geo" }, "geo"],
  [{ "code.function": "f" }, undefined],
])("the service of a client span with %j is %s", (values, service) => {
  const { rest } = decode([span({ kind: 3, parentSpanId: "00000000000000aa", attributes: attributes(values) })])
    .records[0]!;
  expect(rest.services?.[0]?.service).toBe(service);
  if (service !== undefined) expect(rest.services![0]).toMatchObject({ calls: 1, latencyMs: 1000.5 });
});

describe("wire", () => {
  test("ids in upper case and in base64 are the same ids", () => {
    const base64 = (hex: string) => Buffer.from(hex, "hex").toString("base64");
    const spans = [
      span({ traceId: TRACE.toUpperCase(), spanId: SPAN.toUpperCase() }),
      span({ traceId: base64(TRACE), spanId: base64(SPAN) }),
    ];
    for (const { runId, executionId } of decode(spans).records) expect([runId, executionId]).toEqual([TRACE, SPAN]);
  });

  test.each([
    [{ traceId: "abc" }, /traceId/],
    [{ spanId: SPAN.slice(1) }, /spanId/],
    [{ spanId: "0000000000000000" }, /spanId/],
    [{ parentSpanId: "zz" }, /parentSpanId/],
    [{ startTimeUnixNano: "-1" }, /negative/],
    [{ startTimeUnixNano: "soon" }, /not a number/],
    [{ endTimeUnixNano: "9000000000000000000" }, /future/],
    [{ name: 5 }, /name/],
  ])("one bad span (%j) of 100 is named, 99 are kept", (fault, reason) => {
    const spans = Array.from({ length: 100 }, (_, i) => span({ spanId: (i + 1).toString(16).padStart(16, "0") }));
    Object.assign(spans[41]!, fault);
    const decoded = decode(spans);
    expect(decoded.records).toHaveLength(99);
    expect(decoded.rejected).toEqual([{ index: 41, reason: expect.stringMatching(reason) }]);
  });

  test("every attribute type, unknown fields and huge values pass", () => {
    const values = {
      "a.string": "x".repeat(1_000_000),
      "a.bool": true,
      "an.int": 5,
      "a.double": { doubleValue: 1.5 },
      "an.array": { arrayValue: { values: [{ stringValue: "x" }] } },
      "a.map": { kvlistValue: { values: [{ key: "k", value: { intValue: "1" } }] } },
      "some.bytes": { bytesValue: "AAEC" },
      empty: {},
    };
    const decoded = decode([
      span({ attributes: [...attributes(values), null, { key: 5 }], droppedLinksCount: 1, unknown: {} }),
    ]);
    expect(decoded.rejected).toEqual([]);
    expect(decoded.records).toHaveLength(1);
  });

  test("a time that is not set is unknown, not the year 1970", () => {
    expect(decode([span({ startTimeUnixNano: "0", endTimeUnixNano: undefined })]).records[0]).toMatchObject({
      startMs: null,
      endMs: null,
    });
  });

  test.each([
    [5, ""],
    [{ resourceSpans: {} }, "/resourceSpans"],
    [{ resourceSpans: [5] }, "/resourceSpans/0"],
    [{ resourceSpans: [{ scopeSpans: [{ spans: 5 }] }] }, "/resourceSpans/0/scopeSpans/0/spans"],
  ])("%j is not a request, and the pointer says where", (request, pointer) => {
    expect(recordsOf(request, NOW_MS)).toMatchObject({ reason: "not-otlp", pointer });
  });

  test("an empty request is fine", () => {
    expect(recordsOf({}, NOW_MS)).toEqual({ records: [], rejected: [] });
  });
});

test("records survive the journal's text", () => {
  const { records } = decode([
    span(),
    span({ spanId: "00000000000000ab", kind: 1, parentSpanId: SPAN, startTimeUnixNano: "0" }),
    span({ spanId: "00000000000000ac", startTimeUnixNano: "1544712660123456789", name: "名前 \ud83d\ude00" }),
    span({ traceId: TRACE.replace("5b", "5c"), links: [{ traceId: TRACE, spanId: SPAN }], status: { code: 2 } }),
  ]);
  expect(unpackRecords(packRecords(records))).toEqual(records);
});

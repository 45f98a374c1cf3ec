// POST /v1/executions and /v1/traces, GET /v1/graph and /v1/chains as callers see them: good input, bad input, repetition.
import { exports } from "cloudflare:workers";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { beforeEach, describe, expect, test } from "vitest";
import { newWorld, type World } from "./world.ts";

const main = (exports as unknown as { default: Fetcher }).default;
let world: World;
beforeEach(async () => {
  world = await newWorld();
});

const EXECUTION = { runId: "r", executionId: "e", task: "a", startMs: 1_700_000_000_000, endMs: 1_700_000_000_010 };
const hex = (n: number, digits: number) => n.toString(16).padStart(digits, "0");

function otlp(count: number, change: (span: Record<string, unknown>, i: number) => void = () => {}) {
  const spans = Array.from({ length: count }, (_, i) => {
    const span: Record<string, unknown> = {
      traceId: hex(7, 32),
      spanId: hex(i + 1, 16),
      ...(i === 0 ? {} : { parentSpanId: hex(1, 16) }),
      name: i === 0 ? "root" : `op-${i % 3}`,
      kind: 2,
      startTimeUnixNano: String(1_700_000_000_000_000_000n + BigInt(i) * 1_000_000n),
      endTimeUnixNano: String(1_700_000_000_900_000_000n),
    };
    change(span, i);
    return span;
  });
  const resource = { attributes: [{ key: "service.name", value: { stringValue: "shop" } }] };
  return { resourceSpans: [{ resource, scopeSpans: [{ spans }] }] };
}

async function tasks(): Promise<Record<string, number>> {
  const { body } = await world.call("GET", "/v1/graph");
  return Object.fromEntries(body.tasks.map(({ task, count }: { task: string; count: number }) => [task, count]));
}

describe("executions", () => {
  test("JSON, an array, NDJSON: accepted, repeated, partly bad", async () => {
    const answer = await world.call("POST", "/v1/executions", { executions: [EXECUTION, { ...EXECUTION, extra: 1 }] });
    expect(answer).toMatchObject({
      status: 202,
      body: { accepted: 1, duplicates: 1, rejected: [], ignoredFields: { extra: 1 } },
    });
    const second = { ...EXECUTION, executionId: "f", task: "b", parentId: "e" };
    expect((await world.call("POST", "/v1/executions", [second])).body).toMatchObject({ accepted: 1 });
    const lines = `${JSON.stringify({ ...second, executionId: "g" })}\noops\n\n${JSON.stringify({ ...second, startMs: -1 })}\n`;
    const mixed = await world.call("POST", "/v1/executions", lines, world.admin, {
      "content-type": "application/x-ndjson",
    });
    expect(mixed.body).toEqual({
      accepted: 1,
      duplicates: 0,
      rejected: [
        { index: 1, reason: "the execution: the line is not valid JSON" },
        { index: 2, reason: "/startMs: must not be negative" },
      ],
    });
    expect(await tasks()).toEqual({ a: 1, b: 2 });
  });

  test("null is what is not there; a required field may not be null", async () => {
    const services = [{ service: "db", calls: 1, bytes: 0, latencyMs: null }];
    const nulls = { ...EXECUTION, parentId: null, links: null, coldStartMs: null, params: { p: null }, services };
    expect(await world.call("POST", "/v1/executions", [nulls])).toMatchObject({ status: 202, body: { accepted: 1 } });
    expect(await world.call("POST", "/v1/executions", [{ ...EXECUTION, task: null }])).toMatchObject({
      status: 422,
      body: { errors: [{ pointer: "/executions/0/task" }] },
    });
  });

  test.each([
    ["malformed JSON", '{"executions":[', 400, ""],
    ["no list", {}, 422, "/executions"],
    ["a list of another type", { executions: "x" }, 422, "/executions"],
    ["an empty batch", { executions: [] }, 422, "/executions"],
    ["nothing but wrong types", { executions: [{ ...EXECUTION, endMs: "x" }] }, 422, "/executions/0/endMs"],
    ["no field at all", { executions: [{}] }, 422, "/executions/0/runId"],
    ["a time far ahead", { executions: [{ ...EXECUTION, endMs: 9e15 }] }, 422, "/executions/0/endMs"],
    ["too many", { executions: Array(5001).fill(EXECUTION) }, 413, "/executions"],
  ])("%s", async (_, body, status, pointer) => {
    const answer = await world.call("POST", "/v1/executions", body);
    expect(answer.status).toBe(status);
    expect(answer.headers.get("content-type")).toBe("application/problem+json");
    expect(answer.body.errors[0].pointer).toBe(pointer);
  });

  test("10 MB: 413, plain and as a small gzip; a gzip that is cut: 400; another encoding: 415", async () => {
    const big = new TextEncoder().encode(`{"executions":"${"x".repeat(10 * 2 ** 20)}"}`);
    const bomb = await gzip(big);
    expect(bomb.length).toBeLessThan(20_000);
    expect((await post("/v1/executions", big, {})).status).toBe(413);
    expect((await post("/v1/executions", bomb, { "content-encoding": "gzip" })).status).toBe(413);
    const cut = await post("/v1/executions", bomb.slice(0, 1000), { "content-encoding": "gzip" });
    expect(cut.status).toBe(400);
    expect(await cut.json()).toMatchObject({ title: "Unreadable body" });
    expect((await post("/v1/executions", big, { "content-encoding": "br" })).status).toBe(415);
    const whole = await gzip(new TextEncoder().encode(JSON.stringify([EXECUTION])));
    expect((await post("/v1/executions", whole, { "content-encoding": "gzip" })).status).toBe(202);
  });

  test("an agent's key speaks for its own VM", async () => {
    const key = await world.key(["agent"], "c", "v");
    const foreign = await world.call("POST", "/v1/executions", [{ ...EXECUTION, vm: "other" }], key);
    expect(foreign).toMatchObject({ status: 422, body: { errors: [{ pointer: "/executions/0/vm" }] } });
    expect((await world.call("POST", "/v1/executions", [EXECUTION], key)).status).toBe(202);
    expect((await world.call("POST", "/v1/traces", otlp(1), key)).status).toBe(403);
  });
});

describe("graph", () => {
  test("formats escape names, filters filter, bad queries are told", async () => {
    const name = 'x"<&>\\N';
    await world.call("POST", "/v1/executions", [
      EXECUTION,
      { ...EXECUTION, executionId: "f", parentId: "e", task: name, startMs: EXECUTION.startMs + 1 },
      { ...EXECUTION, runId: "s", task: "alone" },
    ]);
    const dot = await world.call("GET", "/v1/graph?format=dot");
    expect(dot.body).toContain('"a" -> "x\\"<&>\\\\N" [label="1 (100.0 %)", kind=call, count=1];');
    const graphml = await world.call("GET", "/v1/graph?format=graphml");
    expect(graphml.headers.get("content-type")).toContain("application/graphml+xml");
    expect(graphml.body).toContain('<data key="task">x&quot;&lt;&amp;&gt;\\N</data>');
    const near = await world.call("GET", "/v1/graph?task=a");
    expect(near.body.tasks.map(({ task }: { task: string }) => task).sort()).toEqual(["a", name].sort());
    expect((await world.call("GET", "/v1/graph?minCount=2")).body.transitions).toEqual([]);
    expect((await world.call("GET", "/v1/graph?format=png")).body.errors[0].pointer).toBe("?format");
    expect((await world.call("GET", "/v1/graph?minCount=x")).body.errors[0].pointer).toBe("?minCount");
  });

  test("chains by score, paged", async () => {
    const chains = ["b", "c"].flatMap((task, run) => [
      { ...EXECUTION, runId: `r${run}` },
      { ...EXECUTION, runId: `r${run}`, executionId: "f", parentId: "e", task },
    ]);
    await world.call("POST", "/v1/executions", chains);
    const { body } = await world.call("GET", "/v1/chains");
    expect(body).toMatchObject({ total: 2, offset: 0 });
    expect(body.chains[0]).toMatchObject({ runs: 1, probability: 0.5, latencySensitivity: expect.any(Number) });
    expect(body.chains[0].score).toBeGreaterThan(0);
    expect((await world.call("PUT", "/v1/tasks/c", { latencyWeight: 3 })).status).toBeLessThan(300);
    const weighed = (await world.call("GET", "/v1/chains")).body.chains;
    expect(weighed[0].tasks).toEqual(["a", "c"]);
    expect(weighed[0].score).toBeCloseTo(
      3 * body.chains.find(({ tasks: [, last] }: { tasks: string[] }) => last === "c").score,
    );
    expect((await world.call("PUT", "/v1/tasks/c", { latencyWeight: 1 })).status).toBeLessThan(300);
    expect((await world.call("GET", "/v1/chains?limit=1&offset=1")).body.chains).toEqual([body.chains[1]]);
    expect((await world.call("GET", "/v1/chains?limit=0")).status).toBe(422);
  });

  test("pages of chains while scores move: each chain once, in the order of the first page", async () => {
    const runOf = (run: string, task: string) => [
      { ...EXECUTION, runId: run },
      { ...EXECUTION, runId: run, executionId: "f", parentId: "e", task },
    ];
    const tasks = ["p", "q", "r", "s", "t"];
    await world.call(
      "POST",
      "/v1/executions",
      tasks.flatMap((task) => runOf(`page-${task}`, task)),
    );
    const { chains, total } = (await world.call("GET", "/v1/chains")).body;
    const seen: string[][] = [];
    let query = "?limit=2";
    for (let page = 0; ; page++) {
      const { body } = await world.call("GET", `/v1/chains${query}`);
      expect(body).toMatchObject({ total, offset: 2 * page });
      seen.push(...body.chains.map(({ tasks }: { tasks: string[] }) => tasks));
      if (body.next === null) break;
      query = `?limit=2&cursor=${body.next}`;
      // The last becomes the first, and there is a new one.
      const last = chains.at(-1).tasks.at(-1);
      await world.call(
        "POST",
        "/v1/executions",
        [1, 2, 3].flatMap((n) => runOf(`more-${page}-${n}`, last)),
      );
      await world.call("POST", "/v1/executions", runOf(`new-${page}`, `new${page}`));
    }
    expect(seen).toEqual(chains.map(({ tasks }: { tasks: string[] }) => tasks));
    const moved = (await world.call("GET", "/v1/chains")).body;
    expect(moved.chains[0].tasks).toEqual(chains.at(-1).tasks);
    expect(moved.next).toBeNull();
    for (const cursor of ["", "nope", "nope.2", `${encodeURIComponent(query.split("=")[2]!.split(".")[0]!)}.x`]) {
      const { status, body } = await world.call("GET", `/v1/chains?cursor=${cursor}`);
      expect([status, body.errors[0].pointer]).toEqual([410, "?cursor"]);
    }
  });
});

describe("traces", () => {
  test("a request, an empty one, and the same one again", async () => {
    expect(await world.call("POST", "/v1/traces", otlp(10))).toMatchObject({ status: 200, body: {} });
    const before = (await world.call("GET", "/v1/graph")).body;
    expect(before.tasks[0]).toMatchObject({ task: expect.stringMatching(/^shop\//) });
    expect(await world.call("POST", "/v1/traces", otlp(10))).toMatchObject({ status: 200, body: {} });
    expect((await world.call("GET", "/v1/graph")).body).toEqual(before);
    expect(await world.call("POST", "/v1/traces", {})).toMatchObject({ status: 200, body: {} });
  });

  test("protobuf's names of the fields are as good as JSON's", async () => {
    const text = JSON.stringify(otlp(3)).replace(/"(?=[a-z])\w+":/g, (key) =>
      key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
    );
    expect(text).toContain('"resource_spans"');
    expect(await world.call("POST", "/v1/traces", text)).toMatchObject({ status: 200, body: {} });
    expect(Object.values(await tasks()).reduce((sum, count) => sum + count, 0)).toBe(3);
  });

  test("1 bad span of 100: 99 kept, the bad one named", async () => {
    const request = otlp(100, (span, i) => i === 41 && Object.assign(span, { spanId: "zz" }));
    const { status, body } = await world.call("POST", "/v1/traces", request);
    expect(status).toBe(200);
    expect(body.partialSuccess).toEqual({
      rejectedSpans: "1",
      errorMessage: expect.stringMatching(/^span 41: spanId/),
    });
    expect(Object.values(await tasks()).reduce((sum, count) => sum + count, 0)).toBe(99);
  });

  test("protobuf: the same graph as JSON, bad spans named, answers in protobuf", async () => {
    const json = otlp(20);
    await world.call("POST", "/v1/traces", json);
    const expected = (await world.call("GET", "/v1/graph")).body;
    world = await newWorld();
    const headers = { "content-type": "application/x-protobuf" };
    const taken = await post("/v1/traces", await gzip(protobufOf(json)), { ...headers, "content-encoding": "gzip" });
    expect([taken.status, taken.headers.get("content-type"), (await taken.bytes()).length]).toEqual([
      200,
      headers["content-type"],
      0,
    ]);
    expect((await world.call("GET", "/v1/graph")).body).toEqual(expected);
    const bad = protobufOf(otlp(3, (span, i) => i === 1 && Object.assign(span, { spanId: "00" })));
    const partial = new TextDecoder().decode(await (await post("/v1/traces", bad, headers)).bytes());
    expect(partial).toContain("span 1: spanId must be 8 bytes");
    for (const bytes of [protobufOf(json).slice(0, -3), new Uint8Array([0xff, 0xff, 0xff])]) {
      const refused = await post("/v1/traces", bytes, headers);
      expect([refused.status, refused.headers.get("content-type")]).toEqual([400, headers["content-type"]]);
      expect(new TextDecoder().decode(await refused.bytes())).toContain("not a protobuf ExportTraceServiceRequest");
    }
    expect((await post("/v1/traces", new Uint8Array(0), headers)).status).toBe(200);
  });

  test.each([
    ["malformed", "{", "application/json", 400],
    ["not OTLP", { resourceSpans: 5 }, "application/json", 400],
    ["another signal", { resourceLogs: [] }, "application/json", 400],
    ["another media type", "hello", "text/plain", 415],
  ])("%s", async (_, body, type, status) => {
    const answer = await world.call("POST", "/v1/traces", body, world.admin, { "content-type": type });
    expect(answer.status).toBe(status);
    expect(answer.headers.get("content-type")).toBe("application/problem+json");
  });
});

async function gzip(bytes: Uint8Array): Promise<Uint8Array> {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function post(path: string, body: Uint8Array, headers: Record<string, string>): Promise<Response> {
  const all = { authorization: `Bearer ${world.admin}`, "content-type": "application/json", ...headers };
  return main.fetch(`https://forechain.test${path}`, { method: "POST", headers: all, body });
}

/** The same request on the wire, with fields that nobody reads in between. */
function protobufOf({ resourceSpans }: ReturnType<typeof otlp>): Uint8Array {
  const bytes = (text: string) => Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
  const writer = new BinaryWriter();
  for (const { resource, scopeSpans } of resourceSpans) {
    writer.tag(1, WireType.LengthDelimited).fork();
    for (const { spans } of scopeSpans) {
      writer.tag(2, WireType.LengthDelimited).fork();
      for (const span of spans) {
        writer.tag(2, WireType.LengthDelimited).fork();
        writer.tag(1, WireType.LengthDelimited).bytes(bytes(span.traceId as string));
        writer.tag(2, WireType.LengthDelimited).bytes(bytes(span.spanId as string));
        writer.tag(3, WireType.LengthDelimited).string("trace=state");
        if (span.parentSpanId) writer.tag(4, WireType.LengthDelimited).bytes(bytes(span.parentSpanId as string));
        writer.tag(5, WireType.LengthDelimited).string(span.name as string);
        writer.tag(6, WireType.Varint).int32(span.kind as number);
        writer.tag(7, WireType.Bit64).fixed64(span.startTimeUnixNano as string);
        writer.tag(8, WireType.Bit64).fixed64(span.endTimeUnixNano as string);
        writer.tag(9, WireType.LengthDelimited).fork().tag(1, WireType.LengthDelimited).string("unread.key").join();
        writer.join();
      }
      writer.join();
    }
    // The resource last: senders may.
    writer.tag(1, WireType.LengthDelimited).fork();
    for (const { key, value } of resource.attributes) {
      writer.tag(1, WireType.LengthDelimited).fork();
      writer.tag(1, WireType.LengthDelimited).string(key);
      writer.tag(2, WireType.LengthDelimited).fork().tag(1, WireType.LengthDelimited).string(value.stringValue).join();
      writer.join();
    }
    writer.join().join();
  }
  return writer.finish();
}

// `npm run bench -- ingest [--json] [--rounds=8] [--log=requests.ndjson]`: OTLP/JSON through the local worker in batches of 500 spans,
// one client, beside a route of the same worker that only decodes them; what 1M spans cost by the price list; and the memory that the
// GraphWriter's state takes. In: a file of export requests, else a seeded log. Out: spans/s, their ratio, rows and prices, megabytes.
// Slices of both routes alternate, so that a busy machine slows both.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { Agent, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { startLocalWorker } from "../src/cli/local-worker.ts";
import { stopGroups } from "../src/cli/process-group.ts";
import { Ledger, OPEN_RECORDS_MAX } from "../src/core/ledger.ts";
import { seededRandom } from "../src/core/random.ts";
import { packRecords, type RunRecord, unpackRecords } from "../src/core/records.ts";
import { GraphRows } from "../src/core/rows.ts";
import { hashRunId, PackIndex } from "../src/edge/writer/pack-index.ts";

const SEED = 7;
const BATCH_SPANS = 500;
const REQUESTS_PER_ROUND = 40;
/** Seals come after 5 s of quiet, the last flush 10 s later. */
const SETTLE_MS = 30_000;
const ACCOUNTING_POLL_MS = 2_000;
/** Runs that go through the ledger, of the million that its index holds. */
const MEMORY_RUNS = 100_000;

/** Cloudflare's list prices, USD (November 2026, paid plan, beyond what is included). */
const PRICES = {
  workerRequest: 0.3 / 1e6,
  workerCpuMs: 0.02 / 1e6,
  durableObjectRequest: 0.15 / 1e6,
  /** 128 MB for as long as the object is busy. */
  durableObjectGbSecond: 12.5 / 1e6,
  /** Rows of a Durable Object's SQLite, deletions and alarms among them. */
  durableObjectRowWritten: 1 / 1e6,
  d1RowWritten: 1 / 1e6,
};
const DURABLE_OBJECT_GB = 0.128;

interface Accounting {
  rowsWritten: number;
  d1RowsWritten: number;
  alarms: number;
}

const keepAlive = new Agent({ keepAlive: true, maxSockets: 1 });

function post(url: string, key: string, body: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const headers = {
      authorization: `Bearer ${key}`,
      "content-type": "application/json",
      "content-length": body.length,
    };
    const outgoing = request(url, { method: "POST", headers, agent: keepAlive }, (response) => {
      response.resume();
      response.on("end", () =>
        response.statusCode === 200 ? resolve() : reject(new Error(`answered ${response.statusCode}`)),
      );
    });
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}

/** Traces of ten services, 40 spans each, a fifth of them SERVER: about what instrumented services send. */
function syntheticRequests(count: number): string[] {
  const random = seededRandom(SEED);
  const hex = (digits: number) => Array.from({ length: digits }, () => Math.floor(random() * 16).toString(16)).join("");
  const attribute = (key: string, stringValue: string) => ({ key, value: { stringValue } });
  let startMs = 1_790_000_000_000;
  return Array.from({ length: count }, () => {
    const groups = Array.from({ length: 10 }, (_, s) => ({
      resource: {
        attributes: [attribute("service.name", `service-${s}`), attribute("k8s.pod.name", `pod-${s}-${hex(8)}`)],
      },
      scopeSpans: [{ scope: { name: "bench" }, spans: [] as unknown[] }],
    }));
    for (let traces = 0; traces < BATCH_SPANS / 50; traces++) {
      const traceId = hex(32);
      const ids = [hex(16)];
      startMs += 20;
      for (let i = 0; i < 50; i++) {
        const spanId = i === 0 ? ids[0]! : hex(16);
        const isEntry = i % 5 === 0;
        if (isEntry && i > 0) ids.push(spanId);
        groups[(i * 7) % 10]!.scopeSpans[0]!.spans.push({
          traceId,
          spanId,
          ...(i === 0 ? {} : { parentSpanId: ids[Math.floor(random() * ids.length)] }),
          name: isEntry ? `POST /v1/orders/${(i * 7) % 10}` : "internal work",
          kind: isEntry ? 2 : i % 5 === 1 ? 3 : 1,
          startTimeUnixNano: `${startMs + i}000000`,
          endTimeUnixNano: `${startMs + 60 + i}000000`,
          attributes: isEntry ? [attribute("http.request.method", "POST")] : [attribute("thread.name", "main")],
          status: {},
        });
      }
    }
    return JSON.stringify({ resourceSpans: groups });
  });
}

/** The same requests under trace ids of their own, so that no span comes twice. */
function renamed(requests: string[], round: number): Buffer[] {
  const prefix = (round + 1).toString(16).padStart(4, "0");
  return requests.map((text) => Buffer.from(text.replaceAll(/"traceId":"[0-9a-f]{4}/g, `"traceId":"${prefix}`)));
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

async function throughput(requests: string[], rounds: number, say: (line: string) => void) {
  const state = mkdtempSync(join(tmpdir(), "forechain-bench-"));
  try {
    const entry = join(import.meta.dirname, "ingest-worker.ts");
    const worker = await startLocalWorker({ port: 0, stateFolder: state, entry, onProgress: say });
    const timed = async (path: string, bodies: Buffer[]): Promise<number> => {
      const from = performance.now();
      for (const body of bodies) await post(`${worker.url}${path}`, worker.adminKey, body);
      return (bodies.length * BATCH_SPANS * 1000) / (performance.now() - from);
    };
    const rates: { decode: number; ingest: number }[] = [];
    let spans = 0;
    for (let round = 0; round < rounds; round++) {
      const from = (round * REQUESTS_PER_ROUND) % Math.max(1, requests.length - REQUESTS_PER_ROUND);
      const slice = requests.slice(from, from + REQUESTS_PER_ROUND);
      const bodies = renamed(slice, round);
      const decode = await timed("/bench/decode", bodies);
      const ingest = await timed("/v1/traces", bodies);
      spans += bodies.length * BATCH_SPANS;
      // The first is a warm-up.
      if (round > 0) rates.push({ decode, ingest });
      say(`round ${round}: ${Math.round(ingest)} spans/s ingested, ${Math.round(decode)} only decoded`);
    }
    say("waiting for the last seals and the flush");
    let accounting: Accounting = { rowsWritten: 0, d1RowsWritten: 0, alarms: 0 };
    // Asked all the while: left alone for 10 s the object would be evicted, and its counters with it.
    for (const untilMs = performance.now() + SETTLE_MS; performance.now() < untilMs; await delay(ACCOUNTING_POLL_MS)) {
      accounting = (await (await fetch(`${worker.url}/bench/accounting`)).json()) as Accounting;
    }
    return { rates, spans, accounting };
  } finally {
    await stopGroups();
    rmSync(state, { recursive: true, force: true });
  }
}

/** What 1M spans cost at the measured rates. */
function costOf(spans: number, accounting: Accounting, spansPerSecond: number) {
  const per = 1e6 / spans;
  const batches = 1e6 / BATCH_SPANS;
  const busyS = 1e6 / spansPerSecond;
  const counts = {
    workerRequests: batches,
    // Worker and object share the measured time; all of it is charged to both, which is too much rather than too little.
    workerCpuMs: busyS * 1000,
    durableObjectRequests: batches + accounting.alarms * per,
    durableObjectGbSeconds: busyS * DURABLE_OBJECT_GB,
    durableObjectRowsWritten: (accounting.rowsWritten + accounting.alarms) * per,
    d1RowsWritten: accounting.d1RowsWritten * per,
  };
  const usd =
    counts.workerRequests * PRICES.workerRequest +
    counts.workerCpuMs * PRICES.workerCpuMs +
    counts.durableObjectRequests * PRICES.durableObjectRequest +
    counts.durableObjectGbSeconds * PRICES.durableObjectGbSecond +
    counts.durableObjectRowsWritten * PRICES.durableObjectRowWritten +
    counts.d1RowsWritten * PRICES.d1RowWritten;
  const rounded = Object.fromEntries(Object.entries(counts).map(([name, count]) => [name, Math.round(count)]));
  return { ...rounded, usd: Math.round(usd * 1e5) / 1e5 };
}

// ── Memory ───────────────────────────────────────────────────────────────────────────────────────────────────────────

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** Heap and array buffers, MB. Node's pointers are twice as wide as a Worker's: these are upper bounds. */
function memoryMb(): number {
  collectGarbage();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return (heapUsed + arrayBuffers) / 1e6;
}

function recordOf(run: number, execution: number): RunRecord {
  const startMs = 1_790_000_000_000 + run * 10 + execution;
  return {
    runId: `5b8efff798038103d269${run.toString(16).padStart(12, "0")}`,
    executionId: execution.toString(16).padStart(16, "0"),
    parentId:
      execution === 0
        ? null
        : Math.floor((execution - 1) / 3)
            .toString(16)
            .padStart(16, "0"),
    task: `service-${execution % 10}/POST /v1/orders`,
    startMs,
    endMs: startMs + 100,
    status: "ok",
    rest: {},
  };
}

/** As GraphWriter gets them. */
function received(records: RunRecord[]): RunRecord[] {
  return unpackRecords(packRecords(records));
}

/** The writer's state, without SQLite: ledger, rows and the index of kept runs. `peak` is taken while it is fullest. */
function memory(): { longRunMb: number; manyRunsMb: number } {
  const before = memoryMb();
  let ledger: Ledger | null = new Ledger(new GraphRows(), [], { find: () => null });
  for (let from = 0; from < 100_000; from += BATCH_SPANS) {
    ledger.ingest(
      Array.from({ length: BATCH_SPANS }, (_, i) => recordOf(0, from + i)),
      from,
    );
  }
  ledger.seal([...ledger.open.keys()], () => {});
  const longRunMb = memoryMb() - before;
  ledger = null;
  const again = memoryMb();
  const index = new PackIndex();
  const many = new Ledger(new GraphRows(), [], { find: () => null });
  let peak = 0;
  // The index grows with the runs; everything else reaches its bound with the first tenth of them.
  for (let run = MEMORY_RUNS; run < 1_000_000; run++) index.add(hashRunId(recordOf(run, 0).runId)[0], 1);
  // One batch a millisecond: nothing is quiet for 5 s until memory asks for it, the worst case for open runs.
  for (let run = 0; run < MEMORY_RUNS; run += BATCH_SPANS / 10) {
    const records: RunRecord[] = [];
    for (let r = run; r < run + BATCH_SPANS / 10; r++) for (let e = 0; e < 10; e++) records.push(recordOf(r, e));
    many.ingest(received(records), run / 50);
    if (many.isFull) many.seal(many.due(run / 50), () => {});
    if (many.isPackDue) for (const { runId } of many.takeSealed()) index.add(hashRunId(runId)[0], 1);
    if (run % (MEMORY_RUNS / 10) === 0) peak = Math.max(peak, memoryMb() - again);
  }
  if (many.openWeight < OPEN_RECORDS_MAX / 2) throw new Error("the worst case was not reached");
  return { longRunMb: Math.round(longRunMb), manyRunsMb: Math.round(Math.max(peak, memoryMb() - again)) };
}

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      json: { type: "boolean", default: false },
      rounds: { type: "string", default: "8" },
      log: { type: "string" },
    },
  });
  const say = (line: string) => process.stderr.write(`${line}\n`);
  const requests =
    values.log === undefined ? syntheticRequests(200) : readFileSync(values.log, "utf8").trimEnd().split("\n");
  const { rates, spans, accounting } = await throughput(requests, Number(values.rounds) + 1, say);
  const ingest = median(rates.map((rate) => rate.ingest));
  const decode = median(rates.map((rate) => rate.decode));
  const report = {
    spans,
    spansPerSecond: Math.round(ingest),
    decodeOnlyPerSecond: Math.round(decode),
    ratio: Math.round(median(rates.map((rate) => rate.ingest / rate.decode)) * 1000) / 1000,
    per1MSpans: costOf(spans, accounting, ingest),
    memory: memory(),
  };
  if (values.json) process.stdout.write(`${JSON.stringify(report)}\n`);
  else console.log(report);
}

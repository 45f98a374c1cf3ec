// `npm run bench -- memory [--json] [--runs=1000000] [--workerd [--heap-mb=N]]`: what a GraphWriter holds in memory while runs of ten come in as fast as a worker
// can take them: 20 s for 100,000 runs. In: nothing. Out: megabytes at the fullest, by part, and what the storage holds. The parts are those that the
// Durable Object is made of (ledger, rows, engine, journal, packs with their index); only its SQLite is Node's.
// With --workerd: the isolate of the local worker instead, whole, as its debugger tells (memory-workerd.ts); --heap-mb bounds V8's heap.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync, type SQLInputValue } from "node:sqlite";
import { parseArgs } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { engineModule } from "../src/cli/build.ts";
import { packRecords, type RunRecord } from "../src/core/records.ts";
import { isolateUnder } from "./memory-workerd.ts";

const MB = 1e6;
const BATCH_RECORDS = 500;
const RECORDS_PER_RUN = 10;
/** 50,000 records a second: several times what one client reaches through the worker. */
const BATCH_EVERY_MS = 10;
const SAMPLES = 50;
const BASE_MS = 1_790_000_000_000;

/** Durable Object storage as WriterStore uses it, over Node's SQLite. */
function storageIn(file: string): object {
  const db = new DatabaseSync(file);
  // The journal's durability is not what is measured.
  db.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF");
  const exec = (query: string, ...bindings: unknown[]) => {
    if (bindings.length === 0 && query.includes(";")) {
      db.exec(query);
      return { toArray: () => [], raw: () => [], rowsWritten: 0, [Symbol.iterator]: () => [].values() };
    }
    const values = bindings.map((value) => (value instanceof ArrayBuffer ? new Uint8Array(value) : value));
    const statement = db.prepare(query);
    const rows = () => statement.all(...(values as SQLInputValue[])).map(withBuffers);
    if (!query.trimStart().startsWith("SELECT")) {
      const { changes } = statement.run(...(values as SQLInputValue[]));
      return { toArray: () => [], raw: () => [], rowsWritten: Number(changes) };
    }
    const found = rows();
    const raw = () => found.map((row) => Object.values(row));
    return { toArray: () => found, raw, rowsWritten: 0, [Symbol.iterator]: () => found.values() };
  };
  const transactionSync = (work: () => void) => {
    db.exec("BEGIN");
    work();
    db.exec("COMMIT");
  };
  return { sql: { exec }, transactionSync };
}

function withBuffers(row: Record<string, unknown>): Record<string, unknown> {
  for (const [name, value] of Object.entries(row)) if (value instanceof Uint8Array) row[name] = value.slice().buffer;
  return row;
}

/** A tree of ten services, three children each, with ids as long as traces have them. */
function recordOf(run: number, execution: number, nowMs: number): RunRecord {
  const idOf = (at: number) => (run * RECORDS_PER_RUN + at).toString(16).padStart(16, "0");
  return {
    runId: run.toString(16).padStart(32, "0"),
    executionId: idOf(execution),
    parentId: execution === 0 ? null : idOf(Math.floor((execution - 1) / 3)),
    task: `service-${execution}/POST /v1/orders`,
    startMs: nowMs + execution,
    endMs: nowMs + 100,
    status: "ok",
    rest: execution % 3 === 0 ? { services: [{ service: "db", calls: 1, bytes: 100, latencyMs: 2 }] } : {},
  };
}

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

interface Held {
  /** Objects. Node's pointers are twice as wide as a Worker's: an upper bound. */
  heapBytes: number;
  /** Arrays outside of it, and the engine's memory. */
  externalBytes: number;
}

function held(): Held {
  collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return { heapBytes: heapUsed, externalBytes: external };
}

/** bench/memory-worker.ts, which is compiled for Workers. */
interface Writer {
  store: { remembered: number };
  state: { ledger: { openWeight: number }; modelVersion: number };
  ingest(text: string, nowMs: number): void;
}
type NewWriter = new (storage: unknown, engineModule: unknown, nowMs: number) => Writer;

function sumOf({ heapBytes, externalBytes }: Held): number {
  return heapBytes + externalBytes;
}

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      json: { type: "boolean", default: false },
      runs: { type: "string", default: "100000" },
      workerd: { type: "boolean", default: false },
      "heap-mb": { type: "string" },
    },
  });
  const runs = Number(values.runs);
  if (values.workerd) {
    const report = await isolateUnder(runs, values["heap-mb"] === undefined ? null : Number(values["heap-mb"]));
    if (values.json) process.stdout.write(`${JSON.stringify(report)}\n`);
    else console.log(report);
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), "forechain-memory-"));
  try {
    const { Writer } = (await import(new URL("memory-worker.ts", import.meta.url).href)) as { Writer: NewWriter };
    const module = await engineModule();
    const empty = held();
    const writer = new Writer(storageIn(join(folder, "state.sqlite")), module, BASE_MS);
    const runsPerBatch = BATCH_RECORDS / RECORDS_PER_RUN;
    const every = Math.max(1, Math.floor(runs / runsPerBatch / SAMPLES));
    let peak: Held = { heapBytes: 0, externalBytes: 0 };
    let openWeightMax = 0;
    const beganMs = performance.now();
    for (let batch = 0; batch * runsPerBatch < runs; batch++) {
      const nowMs = BASE_MS + batch * BATCH_EVERY_MS;
      const records: RunRecord[] = [];
      // The last span of a run ends first: children arrive before their parents.
      for (let run = batch * runsPerBatch; run < (batch + 1) * runsPerBatch; run++)
        for (let e = RECORDS_PER_RUN - 1; e >= 0; e--) records.push(recordOf(run, e, nowMs));
      writer.ingest(packRecords(records), nowMs);
      openWeightMax = Math.max(openWeightMax, writer.state.ledger.openWeight);
      if (batch % every !== every - 1) continue;
      const now = held();
      const since = {
        heapBytes: now.heapBytes - empty.heapBytes,
        externalBytes: now.externalBytes - empty.externalBytes,
      };
      if (sumOf(since) > sumOf(peak)) peak = since;
    }
    const mb = (bytes: number) => Math.round((bytes / MB) * 10) / 10;
    const report = {
      runs,
      records: runs * RECORDS_PER_RUN,
      seconds: Math.round((performance.now() - beganMs) / 100) / 10,
      peakMb: mb(sumOf(peak)),
      ofWhichHeapMb: mb(peak.heapBytes),
      ofWhichArraysAndEngineMb: mb(peak.externalBytes),
      openWeightMax,
      runsRemembered: writer.store.remembered,
      modelVersion: writer.state.modelVersion,
    };
    if (values.json) process.stdout.write(`${JSON.stringify(report)}\n`);
    else console.log(report);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

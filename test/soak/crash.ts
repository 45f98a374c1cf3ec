// The crash test: a worker is killed (SIGKILL, the whole process group) at random instants while a seeded log is posted to it,
// and started again on the same state; a batch whose answer did not come is posted again, as exporters do. In the end graph and D1 rows
// are compared with those of a worker that nobody touched. Alone: `node test/soak/crash.ts [kills] [seed]`, ten minutes for 200.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { seededRandom } from "../../src/core/random.ts";
import type { Execution } from "../../src/protocol.ts";
import { bundle, fresh, type Worker } from "./worker.ts";

/** Of one life of the worker, ms: short ones die while they recover, long ones after seals and a flush. */
const LIFE_MS = [50, 3_000] as const;
/** Seal after 5 s of quiet, or three times the longest gap (which restarts make long), flush after 10 s more. */
const SETTLE_WITHIN_MS = 600_000;
/** By how many batches a record may come late: each has a life of the worker to itself. */
const BATCHES_LATE_MAX = 4;
const SETTLE_POLL_MS = 1_000;
const STABLE_MS = 12_000;
const TABLES = [
  "graph_runs",
  "graph_tasks",
  "graph_transitions",
  "graph_services",
  "graph_objects",
  "graph_templates",
  "graph_chains",
];

export interface CrashReport {
  seed: number;
  kills: number;
  batches: number;
  executions: number;
  /** Batches whose answer never came, posted again. */
  repeated: number;
  graphEqual: boolean;
  /** Null: not compared. */
  rowsEqual: boolean | null;
}

/** Runs with nesting, retries, services and objects, their executions spread over batches, some of them late or twice. */
function batchesOf(count: number, random: () => number): Execution[][] {
  const batches: Execution[][] = Array.from({ length: count }, () => []);
  const pick = (limit: number) => Math.floor(random() * limit);
  const base = 1_790_000_000_000;
  for (let run = 0; run < count * 2; run++) {
    const home = pick(count);
    const size = 2 + pick(8);
    for (let i = 0; i < size; i++) {
      const parent = i === 0 ? undefined : `e${pick(i)}`;
      const startMs = base + run * 1000 + i * 10;
      const execution: Execution = {
        runId: `run-${run}`,
        executionId: `e${i}`,
        ...(parent === undefined ? {} : { parentId: parent }),
        task: `task-${pick(6)}`,
        startMs,
        endMs: startMs + pick(100),
        status: pick(10) === 0 ? "error" : "ok",
        ...(pick(3) === 0 ? { services: [{ service: "db", calls: 1, bytes: pick(1000), latencyMs: 2 }] } : {}),
        ...(pick(3) === 0 ? { inputs: [{ uri: `s3://bucket/object-${pick(4)}`, bytes: 1000 }] } : {}),
      };
      // Most with their run, some later, after it was sealed and packed. Not much later: a run waits three times the longest gap.
      const away = pick(8) === 0 ? pick(BATCHES_LATE_MAX) : pick(2);
      batches[Math.min(home + away, count - 1)]!.push(execution);
      if (pick(20) === 0) batches[Math.min(home + pick(BATCHES_LATE_MAX), count - 1)]!.push(execution);
    }
  }
  return batches.filter((batch) => batch.length > 0);
}

interface Posting {
  key: string;
  random: () => number;
}

async function post(worker: Worker, key: string, batch: Execution[], signal?: AbortSignal): Promise<boolean> {
  try {
    const response = await fetch(new URL("/v1/executions", worker.url), {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
      body: JSON.stringify({ executions: batch }),
      signal: signal ?? null,
    });
    if (response.status === 202) return true;
    throw new Error(`answered ${response.status}: ${await response.text()}`);
  } catch (error) {
    if (error instanceof Error && error.message.startsWith("answered")) throw error;
    return false; // The connection broke with the worker.
  }
}

async function graphOf(worker: Worker, key: string): Promise<unknown> {
  const response = await fetch(new URL("/v1/graph", worker.url), { headers: { authorization: `Bearer ${key}` } });
  if (!response.ok) throw new Error(`the graph answered ${response.status}: ${await response.text()}`);
  const { tasks, transitions, runs, skewed, cyclic, orphans } = (await response.json()) as Record<string, unknown>;
  // The rest (model version, open and unpublished runs) is a matter of time, not of what was accepted.
  return { tasks, transitions, runs, skewed, cyclic, orphans };
}

/** Until every run is sealed and flushed: the count of runs in D1 is what was posted. */
async function settledRows(worker: Worker, key: string, runs: number): Promise<Record<string, unknown>[][]> {
  const untilMs = performance.now() + SETTLE_WITHIN_MS;
  let before = "";
  let stableMs = performance.now();
  for (;;) {
    const { rows } = await worker.ask<{ rows: Record<string, unknown>[][] }>({ rows: TABLES });
    const text = JSON.stringify(rows);
    if (text !== before) stableMs = performance.now();
    before = text;
    // A flush of late records may still come: they are flushed 10 s after the last one.
    if (rows[0]?.[0]?.runs === runs && performance.now() > stableMs + STABLE_MS) return rows;
    if (performance.now() > untilMs) throw new Error(`not settled: ${rows[0]?.[0]?.runs} of ${runs} runs in D1`);
    // Wakes the object: after a restart nothing else may.
    await graphOf(worker, key);
    await delay(SETTLE_POLL_MS);
  }
}

/**
 * Posts the batches with `kills` kills in between; out: how many had to be posted again. Every other life is busy to its end (it
 * repeats old batches when it has posted its new ones), the others have time for seals, publishing and flushes.
 */
async function storm(worker: Worker, batches: Execution[][], kills: number, { key, random }: Posting): Promise<number> {
  const waiting = [...batches];
  let repeated = 0;
  for (let life = 0; life < kills; life++) {
    const [shortest, longest] = LIFE_MS;
    let isAlive = true;
    const dying = delay(shortest + random() * random() * (longest - shortest)).then(() => {
      isAlive = false;
      return worker.kill();
    });
    const share = Math.ceil(waiting.length / (kills - life));
    const isBusy = life % 2 === 0;
    for (let sent = 0; isAlive && (sent < share || isBusy); sent++) {
      const isNew = sent < share && waiting.length > 0;
      const batch = isNew ? waiting[0]! : batches[Math.floor(random() * (batches.length - waiting.length))];
      if (batch === undefined || !(await post(worker, key, batch))) {
        repeated++;
        break;
      }
      if (isNew) waiting.shift();
    }
    await dying;
    await worker.start();
  }
  for (const batch of waiting) if (!(await post(worker, key, batch))) throw new Error("the last worker is gone");
  return repeated;
}

/** `withRows` false: only the graph is compared, without the minute that the last seals and flushes take. */
export async function crash(
  kills: number,
  seed: number,
  withRows: boolean,
  say: (line: string) => void,
): Promise<CrashReport> {
  const random = seededRandom(seed);
  const folder = mkdtempSync(join(tmpdir(), "forechain-crash-"));
  const workers: Worker[] = [];
  try {
    await bundle(folder);
    const batches = batchesOf(Math.max(20, kills), random);
    const runs = new Set(batches.flat().map(({ runId }) => runId)).size;
    const calm = await fresh(folder, "calm");
    const stormy = await fresh(folder, "stormy");
    workers.push(calm.worker, stormy.worker);
    for (const batch of batches) await post(calm.worker, calm.key, batch);
    say(`${batches.length} batches, ${runs} runs; ${kills} kills, seed ${seed}`);
    const repeated = await storm(stormy.worker, batches, kills, { key: stormy.key, random });
    const graphEqual = isDeepStrictEqual(
      await graphOf(stormy.worker, stormy.key),
      await graphOf(calm.worker, calm.key),
    );
    const both = [calm, stormy];
    const rows = withRows ? await Promise.all(both.map(({ worker, key }) => settledRows(worker, key, runs))) : null;
    const differing = TABLES.filter((_, i) => !isDeepStrictEqual(rows?.[0]?.[i], rows?.[1]?.[i]));
    if (differing.length > 0) say(`rows differ in ${differing.join(", ")}`);
    return {
      seed,
      kills,
      batches: batches.length,
      executions: batches.flat().length,
      repeated,
      graphEqual,
      rowsEqual: rows === null ? null : differing.length === 0,
    };
  } finally {
    for (const worker of workers) await worker.kill();
    rmSync(folder, { recursive: true, force: true });
  }
}

if (process.argv[1] === import.meta.filename) {
  const [kills = "200", seed = String(Date.now() % 1_000_000)] = process.argv.slice(2);
  const report = await crash(Number(kills), Number(seed), true, (line) => process.stderr.write(`${line}\n`));
  process.stdout.write(`${JSON.stringify(report)}\n`);
  process.exit(report.graphEqual && report.rowsEqual === true ? 0 : 1);
}

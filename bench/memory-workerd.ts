// The local worker's isolate under runs of ten, as its debugger tells. In: how many runs. Out: megabytes (10^6 bytes) of the one isolate that
// Worker, GraphWriter, Fleet and hubs share here, their code and the engine's memory included: an upper bound of what the object alone takes.
//   held      the most of what was really held: all sizes of a heap snapshot, before which V8 collects everything that is garbage
//   peak      at any instant looked at, garbage included: as much as V8 finds room for. A bound of the heap (`heapMbMax`)
//             shows what it needs; then nothing is looked at, because a snapshot's own text would need more than that.
// After a snapshot `Runtime.getHeapUsage` counts the snapshot's own text, some 50 MB: what is held is not asked there.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../src/agent/free-port.ts";
import { startLocalWorker } from "../src/cli/local-worker.ts";
import { stopGroups } from "../src/cli/process-group.ts";
import type { Execution } from "../src/protocol.ts";

const MB = 1e6;
const EXECUTIONS_PER_RUN = 10;
const RUNS_PER_BATCH = 100;
const CLIENTS = 2;
const SAMPLE_MS = 250;
/** Whole collections, evenly over the runs: each stops the isolate for seconds. */
const LOOKS = 6;
const LOOK_PAUSE_MS = 5_000;

interface HeapUsage {
  usedSize: number;
  /** ArrayBuffers and the memories of WebAssembly. */
  backingStorageSize?: number;
}

/** What a snapshot holds, bytes. */
interface Held {
  all: number;
  /** Arrays outside of the heap and the engine's memory. */
  arrays: number;
}

export interface IsolateReport {
  runs: number;
  executions: number;
  seconds: number;
  emptyMb?: number;
  heldMb?: number;
  ofWhichArraysAndEngineMb?: number;
  peakMb: number;
  /** The heap was not allowed more than this. */
  heapMbMax?: number | null;
}

/** Errors: throws where a request is not taken, and where the worker ends because its heap's bound is too small. */
export async function isolateUnder(runs: number, heapMbMax: number | null): Promise<IsolateReport> {
  if (heapMbMax !== null)
    process.env.MINIFLARE_WORKERD_V8_FLAGS = `--max-old-space-size=${heapMbMax} --max-semi-space-size=1`;
  const state = mkdtempSync(join(tmpdir(), "forechain-memory-"));
  try {
    const inspectorPort = await freePort();
    const onProgress = (line: string) => process.stderr.write(`${line}\n`);
    const worker = await startLocalWorker({ port: 0, stateFolder: state, inspectorPort, onProgress });
    const debug = await debuggerAt(inspectorPort);
    const empty = heapMbMax === null ? await debug.held() : null;
    const batches = Math.ceil(runs / RUNS_PER_BATCH);
    let most = empty;
    let peak = 0;
    let isLooking = false;
    const sampling = setInterval(async () => {
      if (isLooking) return;
      const { usedSize, backingStorageSize = 0 } = await debug.call<HeapUsage>("Runtime.getHeapUsage");
      if (!isLooking) peak = Math.max(peak, usedSize + backingStorageSize);
    }, SAMPLE_MS);
    const beganMs = performance.now();
    let batch = 0;
    const client = async () => {
      while (batch < batches) {
        const own = batch++;
        const executions = Array.from({ length: RUNS_PER_BATCH }, (_, r) => runOf(own * RUNS_PER_BATCH + r)).flat();
        const response = await fetch(`${worker.url}/v1/executions`, {
          method: "POST",
          headers: { authorization: `Bearer ${worker.adminKey}`, "content-type": "application/json" },
          body: JSON.stringify({ executions }),
        });
        if (response.status !== 202) throw new Error(`answered ${response.status}: ${await response.text()}`);
        await response.body?.cancel();
        if (heapMbMax !== null || (own + 1) % Math.ceil(batches / LOOKS) > 0) continue;
        isLooking = true;
        const now = await debug.held();
        if (most === null || now.all > most.all) most = now;
        // V8 lets go of the snapshot's text in its own time.
        setTimeout(() => (isLooking = false), LOOK_PAUSE_MS).unref();
      }
    };
    await Promise.all(Array.from({ length: CLIENTS }, client));
    clearInterval(sampling);
    const mb = (bytes: number) => Math.round((bytes / MB) * 10) / 10;
    return {
      runs,
      executions: runs * EXECUTIONS_PER_RUN,
      seconds: Math.round((performance.now() - beganMs) / 1000),
      ...(empty === null || most === null
        ? { heapMbMax }
        : { emptyMb: mb(empty.all), heldMb: mb(most.all), ofWhichArraysAndEngineMb: mb(most.arrays) }),
      peakMb: mb(peak),
    };
  } finally {
    await stopGroups();
    rmSync(state, { recursive: true, force: true });
  }
}

/** A tree of ten services, three children each, ids as long as traces have them; children come before their parents. */
function runOf(run: number): Execution[] {
  const nowMs = Date.now();
  const idOf = (at: number) => (run * EXECUTIONS_PER_RUN + at).toString(16).padStart(16, "0");
  return Array.from({ length: EXECUTIONS_PER_RUN }, (_, i): Execution => {
    const at = EXECUTIONS_PER_RUN - 1 - i;
    return {
      runId: run.toString(16).padStart(32, "0"),
      executionId: idOf(at),
      ...(at === 0 ? {} : { parentId: idOf(Math.floor((at - 1) / 3)) }),
      task: `service-${at}/POST /v1/orders`,
      startMs: nowMs - 100 + at,
      endMs: nowMs,
      status: "ok",
      ...(at % 3 === 0 ? { services: [{ service: "db", calls: 1, bytes: 100, latencyMs: 2 }] } : {}),
    };
  });
}

interface Debugger {
  call<T>(method: string): Promise<T>;
  /** Takes a heap snapshot, which stops the isolate for seconds. */
  held(): Promise<Held>;
}

/** The DevTools protocol: calls are answered in any order. */
async function debuggerAt(port: number): Promise<Debugger> {
  const targets = (await (await fetch(`http://127.0.0.1:${port}/json`)).json()) as { webSocketDebuggerUrl: string }[];
  // Wrangler lets nobody in who does not say from where.
  const socket = new WebSocket(targets[0]!.webSocketDebuggerUrl, { headers: { origin: "http://localhost" } });
  await new Promise<void>((resolve, reject) => {
    socket.addEventListener("open", () => resolve());
    socket.addEventListener("error", () => reject(new Error("the debugger's socket was refused")));
  });
  const waiting = new Map<number, (result: unknown) => void>();
  let asked = 0;
  let snapshot: string[] = [];
  socket.addEventListener("message", ({ data }) => {
    const { id, result, params } = JSON.parse(String(data)) as {
      id?: number;
      result?: unknown;
      params?: { chunk?: string };
    };
    if (id === undefined) {
      if (params?.chunk !== undefined) snapshot.push(params.chunk);
      return;
    }
    waiting.get(id)?.(result);
    waiting.delete(id);
  });
  const call = <T>(method: string) =>
    new Promise<T>((resolve) => {
      waiting.set(++asked, resolve as (result: unknown) => void);
      socket.send(JSON.stringify({ id: asked, method }));
    });
  const held = async (): Promise<Held> => {
    snapshot = [];
    await call("HeapProfiler.takeHeapSnapshot");
    const taken = sizesOf(snapshot.join(""));
    snapshot = [];
    return taken;
  };
  return { call, held };
}

interface HeapSnapshot {
  snapshot: { meta: { node_fields: string[] } };
  nodes: number[];
  strings: string[];
}

function sizesOf(text: string): Held {
  const { snapshot, nodes, strings } = JSON.parse(text) as HeapSnapshot;
  const fields = snapshot.meta.node_fields;
  const sizeAt = fields.indexOf("self_size");
  const nameAt = fields.indexOf("name");
  const held: Held = { all: 0, arrays: 0 };
  for (let at = 0; at < nodes.length; at += fields.length) {
    const size = nodes[at + sizeAt]!;
    held.all += size;
    if (strings[nodes[at + nameAt]!]!.endsWith("JSArrayBufferData")) held.arrays += size;
  }
  return held;
}

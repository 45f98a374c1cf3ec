// The local worker's isolate under runs of ten, as its debugger tells. In: how many runs. Out: megabytes at the fullest, of the one isolate that
// Worker, GraphWriter, Fleet and hubs share here: an upper bound of what the object alone takes.
// Memories of WebAssembly are not among them: 8.5 MiB for each engine.
//   peak      at any instant looked at, garbage included
//   live      the most of what was really held: after a whole collection, which only a heap snapshot brings about there
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../src/agent/free-port.ts";
import { startLocalWorker } from "../src/cli/local-worker.ts";
import { stopGroups } from "../src/cli/process-group.ts";
import type { Execution } from "../src/protocol.ts";

const MIB = 2 ** 20;
const EXECUTIONS_PER_RUN = 10;
const RUNS_PER_BATCH = 100;
const CLIENTS = 2;
const SAMPLE_MS = 250;
/** Whole collections, evenly over the runs: each stops the isolate for seconds. */
const LOOKS = 6;

interface HeapUsage {
  usedSize: number;
  /** ArrayBuffers and the memories of WebAssembly. */
  backingStorageSize?: number;
}

export interface IsolateReport {
  runs: number;
  executions: number;
  seconds: number;
  emptyMib: number;
  liveMib: number;
  ofWhichHeapMib: number;
  peakMib: number;
}

export async function isolateUnder(runs: number): Promise<IsolateReport> {
  const state = mkdtempSync(join(tmpdir(), "forechain-memory-"));
  try {
    const inspectorPort = await freePort();
    const onProgress = (line: string) => process.stderr.write(`${line}\n`);
    const worker = await startLocalWorker({ port: 0, stateFolder: state, inspectorPort, onProgress });
    const debug = await debuggerAt(inspectorPort);
    const usage = async (): Promise<{ heap: number; all: number }> => {
      const { usedSize, backingStorageSize = 0 } = await debug<HeapUsage>("Runtime.getHeapUsage");
      return { heap: usedSize, all: usedSize + backingStorageSize };
    };
    const empty = await usage();
    const batches = Math.ceil(runs / RUNS_PER_BATCH);
    let live = empty;
    let peak = empty;
    const sampling = setInterval(async () => {
      const now = await usage();
      if (now.all > peak.all) peak = now;
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
        if ((own + 1) % Math.ceil(batches / LOOKS) > 0) continue;
        await debug("HeapProfiler.takeHeapSnapshot");
        const now = await usage();
        if (now.all > live.all) live = now;
      }
    };
    await Promise.all(Array.from({ length: CLIENTS }, client));
    clearInterval(sampling);
    const mib = (bytes: number) => Math.round((bytes / MIB) * 10) / 10;
    return {
      runs,
      executions: runs * EXECUTIONS_PER_RUN,
      seconds: Math.round((performance.now() - beganMs) / 1000),
      emptyMib: mib(empty.all),
      liveMib: mib(live.all),
      ofWhichHeapMib: mib(live.heap),
      peakMib: mib(peak.all),
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

/** Calls of the DevTools protocol, answered in any order. */
async function debuggerAt(port: number): Promise<<T>(method: string) => Promise<T>> {
  const targets = (await (await fetch(`http://127.0.0.1:${port}/json`)).json()) as { webSocketDebuggerUrl: string }[];
  // Wrangler lets nobody in who does not say from where.
  const socket = new WebSocket(targets[0]!.webSocketDebuggerUrl, { headers: { origin: "http://localhost" } });
  await new Promise<void>((resolve, reject) => {
    socket.addEventListener("open", () => resolve());
    socket.addEventListener("error", () => reject(new Error("the debugger's socket was refused")));
  });
  const waiting = new Map<number, (result: unknown) => void>();
  let asked = 0;
  socket.addEventListener("message", ({ data }) => {
    const { id, result } = JSON.parse(String(data)) as { id?: number; result?: unknown };
    if (id === undefined) return;
    waiting.get(id)?.(result);
    waiting.delete(id);
  });
  return <T>(method: string) =>
    new Promise<T>((resolve) => {
      waiting.set(++asked, resolve as (result: unknown) => void);
      socket.send(JSON.stringify({ id: asked, method }));
    });
}

// `npm run bench -- edge [--json] [--seconds=3] [--rounds=3]`: what Forechain's routes cost on one local worker, against bare
// Hono routes in the same isolate. In: nothing; a worker with its own state, three agents played here, a learned chain.
// Out: requests per second of predictions and allocations relative to a route that parses the same body and answers a
// constant of the same size; ms that /v1/invoke adds to a route that only forwards.
// Slices of the compared routes alternate, so that a busy machine slows both.
import { mkdtempSync, rmSync } from "node:fs";
import { Agent, createServer, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startLocalWorker } from "../src/cli/local-worker.ts";
import { stopGroups } from "../src/cli/process-group.ts";
import type { CommandsAnswer, Execution, Heartbeat, HeartbeatAnswer } from "../src/protocol.ts";

const SEED = 7;
const CONNECTIONS = 8;
const CLUSTERS = ["ashburn", "frankfurt", "osaka"];
/** A chain whose tasks all have a cold start worth hiding. */
const CHAIN = ["probe", "shots", "audio", "labels", "publish"];
const TRAINING_RUNS = 200;
const TASK_MS = 200;
const COLD_START_MS = 400;
const MODEL_WITHIN_MS = 60_000;
const LATENCY_CALLS = 600;
const WARM_UP_CALLS = 200;
const TIB = 2 ** 40;

interface Answer {
  status: number;
  text: string;
  ms: number;
}

const keepAlive = new Agent({ keepAlive: true, maxSockets: 64 });

/** One call over a kept connection. */
function call(method: string, url: string, headers: Record<string, string>, body?: string): Promise<Answer> {
  const from = performance.now();
  return new Promise((resolve, reject) => {
    const outgoing = request(url, { method, headers, agent: keepAlive }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () => {
        const text = Buffer.concat(chunks).toString("utf8");
        resolve({ status: response.statusCode ?? 0, text, ms: performance.now() - from });
      });
      response.on("error", reject);
    });
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      json: { type: "boolean", default: false },
      seconds: { type: "string", default: "3" },
      rounds: { type: "string", default: "3" },
    },
  });
  const folder = mkdtempSync(join(tmpdir(), "forechain-bench-"));
  const say = (line: string) => process.stderr.write(`${line}\n`);
  const worker = await startLocalWorker({
    port: 0,
    stateFolder: folder,
    entry: "bench/edge-worker.ts",
    onProgress: say,
  });
  const agents: PlayedAgent[] = [];
  try {
    const api = apiOf(worker.url, worker.adminKey);
    for (const cluster of CLUSTERS) agents.push(await PlayedAgent.start(api, cluster));
    await prepare(api, agents, say);
    const slice = { ms: Number(values.seconds) * 1000, rounds: Number(values.rounds) };
    const rows = [
      await throughput("predictions", api, "/v1/predictions", predictionBody, slice),
      await throughput("allocations", api, "/v1/allocations", allocationBody, slice),
    ];
    const invoke = await addedLatency(api, agents[0]!);
    if (values.json) console.log(JSON.stringify({ bench: "edge", seed: SEED, rows, invoke }));
    else {
      console.table(rows);
      console.table([invoke]);
    }
  } finally {
    for (const agent of agents) agent.stop();
    keepAlive.destroy();
    await stopGroups();
    rmSync(folder, { recursive: true, force: true });
  }
}

interface Api {
  url: string;
  headers: Record<string, string>;
  post(method: string, path: string, body?: unknown): Promise<Answer>;
}

function apiOf(url: string, key: string): Api {
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  const post = async (method: string, path: string, body?: unknown) => {
    const answer = await call(method, url + path, headers, body === undefined ? undefined : JSON.stringify(body));
    if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${answer.text.slice(0, 500)}`);
    return answer;
  };
  return { url, headers, post };
}

/** An agent that reports, takes commands and says done; its /invoke answers at once. */
class PlayedAgent {
  readonly cluster: string;
  readonly #api: Api;
  readonly #server: Server;
  #stopped = false;
  #timer: NodeJS.Timeout | null = null;
  commands = 0;

  private constructor(api: Api, cluster: string, server: Server) {
    this.#api = api;
    this.cluster = cluster;
    this.#server = server;
  }

  static async start(api: Api, cluster: string): Promise<PlayedAgent> {
    const server = createServer((incoming, response) => {
      incoming.resume();
      incoming.on("end", () => {
        response.writeHead(200, { "content-type": "application/json", "forechain-cold-start-ms": "0.0" });
        response.end('{"ok":true}');
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const agent = new PlayedAgent(api, cluster, server);
    await api.post("PUT", `/v1/clusters/${cluster}`, {
      vms: [{ vm: "vm", url: agent.url, cpuCores: 4_096, memoryBytes: 1_000 * TIB }],
    });
    await agent.#beat();
    void agent.#work();
    return agent;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  stop(): void {
    this.#stopped = true;
    if (this.#timer) clearTimeout(this.#timer);
    this.#server.close();
    this.#server.closeAllConnections();
  }

  async #beat(): Promise<void> {
    const heartbeat: Heartbeat = {
      agentVersion: "bench",
      nowMs: Date.now(),
      instanceId: `bench-${this.cluster}`,
      capacity: { cpuCores: 64, memoryBytes: TIB, diskBytes: TIB, diskFreeBytes: TIB },
      load: { cpu: 0.1, memoryBytes: 0, executions: 0 },
      runtimes: [],
      cache: { bytes: 0, maxBytes: TIB, uris: [] },
      tasks: CHAIN.map((task) => ({ task })),
    };
    const answer = await this.#api.post("POST", `/v1/agents/${this.cluster}/vm/heartbeat`, heartbeat);
    const { nextHeartbeatMs } = JSON.parse(answer.text) as HeartbeatAnswer;
    if (!this.#stopped) this.#timer = setTimeout(() => void this.#beat().catch(() => this.stop()), nextHeartbeatMs);
  }

  async #work(): Promise<void> {
    while (!this.#stopped) {
      const answer = await this.#api
        .post("GET", `/v1/agents/${this.cluster}/vm/commands?waitMs=5000&max=100`)
        .catch(() => null);
      if (answer === null) return;
      const { commands } = JSON.parse(answer.text) as CommandsAnswer;
      this.commands += commands.length;
      if (commands.length === 0) continue;
      const results = commands.map(({ commandId, leaseId }) => ({ commandId, leaseId, state: "done" }));
      // Used at once: the next plan then sends a command of its own, as it does where runtimes come and go.
      const uses = commands.map(({ commandId }) => ({
        commandId,
        runId: "r",
        executionId: commandId,
        usedMs: Date.now(),
        waitedMs: 0,
        savedMs: 1,
      }));
      await this.#api.post("POST", `/v1/agents/${this.cluster}/vm/results`, { results, uses }).catch(() => null);
    }
  }
}

async function prepare(api: Api, agents: PlayedAgent[], say: (line: string) => void): Promise<void> {
  say(`teaching ${TRAINING_RUNS} runs of ${CHAIN.join(" → ")} to a worker with ${agents.length} clusters`);
  const startMs = Date.now() - 3_600_000;
  const executions: Execution[] = [];
  for (let run = 0; run < TRAINING_RUNS; run++) {
    CHAIN.forEach((task, i) => {
      const at = startMs + run * 10_000 + i * 2 * TASK_MS;
      executions.push({
        runId: `run-${run}`,
        executionId: `run-${run}-${i}`,
        ...(i === 0 ? {} : { links: [`run-${run}-${i - 1}`] }),
        task,
        startMs: at,
        endMs: at + TASK_MS,
        status: "ok",
        coldStartMs: run % 3 === 0 ? COLD_START_MS : 0,
        memoryBytes: 64 * 2 ** 20,
      });
    });
  }
  await api.post("POST", "/v1/executions", { executions });
  await api.post("PUT", "/v1/policy", { mode: "active", budgets: { inFlightCommands: 1_000_000 } });
  const untilMs = Date.now() + MODEL_WITHIN_MS;
  for (;;) {
    const { text } = await api.post("POST", "/v1/predictions", { task: CHAIN[0] });
    if ((JSON.parse(text) as { chains: unknown[] }).chains.length > 0) return;
    if (Date.now() > untilMs) throw new Error(`no model within ${MODEL_WITHIN_MS} ms; the last prediction: ${text}`);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

const predictionBody = () => JSON.stringify({ task: "shots", path: ["probe"], params: { video: "v1" } });
let runs = 0;
const allocationBody = () =>
  JSON.stringify({ task: "shots", path: ["probe"], params: { video: "v1" }, runId: `bench-${++runs}` });

interface Throughput {
  route: string;
  barePerSecond: number;
  perSecond: number;
  ratio: number;
  answerBytes: number;
}

async function throughput(
  route: string,
  api: Api,
  path: string,
  body: () => string,
  slice: { ms: number; rounds: number },
): Promise<Throughput> {
  const { text } = await api.post("POST", path, JSON.parse(body()));
  const barePath = `/bench/constant?bytes=${Buffer.byteLength(text)}`;
  await rate(api, path, body, 1_000);
  await rate(api, barePath, body, 1_000);
  const bare: number[] = [];
  const real: number[] = [];
  for (let round = 0; round < slice.rounds; round++) {
    bare.push(await rate(api, barePath, body, slice.ms));
    real.push(await rate(api, path, body, slice.ms));
  }
  const ratios = real.map((perSecond, i) => perSecond / bare[i]!);
  return {
    route,
    barePerSecond: Math.round(median(bare)),
    perSecond: Math.round(median(real)),
    ratio: Number(median(ratios).toFixed(2)),
    answerBytes: Buffer.byteLength(text),
  };
}

/** Requests per second of some connections that each have one request under way. */
async function rate(api: Api, path: string, body: () => string, ms: number): Promise<number> {
  const from = performance.now();
  let done = 0;
  const connection = async () => {
    while (performance.now() - from < ms) {
      const { status, text } = await call("POST", api.url + path, api.headers, body());
      if (status !== 200) throw new Error(`${path}: ${status} ${text.slice(0, 500)}`);
      done++;
    }
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, connection));
  return (done * 1000) / (performance.now() - from);
}

/** One client; the two routes in turn, so that both see the same machine. */
async function addedLatency(api: Api, agent: PlayedAgent) {
  const bare: number[] = [];
  const invoke: number[] = [];
  const target = { ...api.headers, "x-bench-target": `${agent.url}/invoke/shots` };
  const body = JSON.stringify({ video: "v1" });
  for (let i = 0; i < WARM_UP_CALLS + LATENCY_CALLS; i++) {
    const forwarded = await call("POST", `${api.url}/bench/forward/x`, target, body);
    const invoked = await call("POST", `${api.url}/v1/invoke/shots`, api.headers, body);
    if (forwarded.status !== 200 || invoked.status !== 200)
      throw new Error(`${forwarded.status} and ${invoked.status}: ${invoked.text.slice(0, 500)}`);
    if (i < WARM_UP_CALLS) continue;
    bare.push(forwarded.ms);
    invoke.push(invoked.ms);
  }
  const of = (share: number, all: number[]) => all.toSorted((a, b) => a - b)[Math.floor(share * (all.length - 1))]!;
  const round = (ms: number) => Number(ms.toFixed(2));
  return {
    route: "invoke",
    bareP50Ms: round(of(0.5, bare)),
    p50Ms: round(of(0.5, invoke)),
    addedP50Ms: round(of(0.5, invoke) - of(0.5, bare)),
    bareP99Ms: round(of(0.99, bare)),
    p99Ms: round(of(0.99, invoke)),
    addedP99Ms: round(of(0.99, invoke) - of(0.99, bare)),
  };
}

function median(numbers: number[]): number {
  return numbers.toSorted((a, b) => a - b)[numbers.length >> 1]!;
}

// `npm run bench -- hub [--json] [--agents=500] [--rate=50] [--seconds=60]`: one ClusterHub with many agents on WebSockets.
// In: offers of one command each to random VMs, at a steady rate; some agents break their connection now and then.
// Out: time from the offer to the agent's receipt (p50, p99), and that every command was settled exactly once in effect.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startLocalWorker } from "../src/cli/local-worker.ts";
import { stopGroups } from "../src/cli/process-group.ts";
import type { Offer } from "../src/core/pipeline.ts";
import { seededRandom } from "../src/core/random.ts";
import type { AgentMessage, Heartbeat, HubMessage, OutcomesAnswer } from "../src/protocol.ts";

const SEED = 11;
const CLUSTER = "many";
const WORKSPACE = "default";
const TASK = "task";
/** Sockets opened at the same time while the agents join. */
const JOINING_AT_ONCE = 20;
/** One of so many commands meets an agent whose connection breaks before it reports: it is leased again. */
const BREAKS_ONE_IN = 200;
const HEARTBEAT_MS = 5_000;
const SETTLED_WITHIN_MS = 90_000;
const GIB = 2 ** 30;

/** Offered at, by command; and how often its effect (the "start" of a runtime) happened. */
const offeredAt = new Map<string, number>();
const effects = new Map<string, number>();
const delaysMs: number[] = [];
/** Round trips of the offers themselves. */
const admittedMs: number[] = [];

class PlayedAgent {
  readonly #url: string;
  readonly #key: string;
  readonly #random: () => number;
  readonly #instanceId: string;
  /** Idempotent by command id, as the real agent is. */
  readonly #known = new Set<string>();
  #socket: WebSocket | null = null;
  #timer: NodeJS.Timeout | null = null;
  #stopped = false;
  breaks = 0;

  constructor(base: string, key: string, vm: string, random: () => number) {
    this.#url = `${base.replace("http", "ws")}/v1/agents/${CLUSTER}/${vm}/socket`;
    this.#key = key;
    this.#random = random;
    this.#instanceId = `${vm}-${SEED}`;
  }

  async join(): Promise<void> {
    await this.#open();
    this.#beat();
    this.#timer = setInterval(() => this.#beat(), HEARTBEAT_MS);
  }

  stop(): void {
    this.#stopped = true;
    if (this.#timer) clearInterval(this.#timer);
    this.#socket?.close();
  }

  #open(): Promise<void> {
    return new Promise((resolve, reject) => {
      // `headers` is Node's own addition to the standard.
      const socket = new WebSocket(this.#url, {
        headers: { authorization: `Bearer ${this.#key}` },
      } as unknown as string[]);
      socket.addEventListener("open", () => resolve());
      socket.addEventListener("error", () => reject(new Error(`${this.#url} did not open`)));
      socket.addEventListener("message", ({ data }) => this.#hear(JSON.parse(String(data)) as HubMessage));
      this.#socket = socket;
    });
  }

  #say(message: AgentMessage): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #beat(): void {
    const heartbeat: Heartbeat = {
      agentVersion: "bench",
      nowMs: Date.now(),
      instanceId: this.#instanceId,
      capacity: { cpuCores: 8, memoryBytes: 8 * GIB, diskBytes: GIB, diskFreeBytes: GIB },
      load: { cpu: 0.2, memoryBytes: 0, executions: 0 },
      runtimes: [],
      cache: { bytes: 0, maxBytes: GIB, uris: [] },
      tasks: [{ task: TASK }],
    };
    this.#say({ type: "heartbeat", id: 0, heartbeat });
  }

  #hear(message: HubMessage): void {
    if (message.type !== "commands") return;
    const nowMs = performance.now();
    for (const { commandId, leaseId } of message.answer.commands) {
      if (!this.#known.has(commandId)) {
        this.#known.add(commandId);
        effects.set(commandId, (effects.get(commandId) ?? 0) + 1);
        delaysMs.push(nowMs - (offeredAt.get(commandId) ?? nowMs));
      }
      if (this.#random() * BREAKS_ONE_IN < 1) {
        this.#break();
        return;
      }
      const use = { commandId, runId: commandId, executionId: commandId, usedMs: Date.now(), waitedMs: 0, savedMs: 1 };
      const report = { results: [{ commandId, leaseId, state: "done" as const }], uses: [use], ends: [], misses: [] };
      this.#say({ type: "report", id: 1, report });
    }
  }

  /** The connection is lost before the report; the agent comes back, and the hub gives the command again. */
  #break(): void {
    this.breaks++;
    this.#socket?.close();
    const ended = (error: Error) => {
      // The bench is over while the connection is still being made.
      if (!this.#stopped) throw error;
    };
    if (!this.#stopped) void this.#open().then(() => this.#beat(), ended);
  }
}

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      json: { type: "boolean", default: false },
      agents: { type: "string", default: "500" },
      rate: { type: "string", default: "50" },
      seconds: { type: "string", default: "60" },
    },
  });
  const [agentCount, perSecond, seconds] = [Number(values.agents), Number(values.rate), Number(values.seconds)];
  const say = (line: string) => process.stderr.write(`${line}\n`);
  const folder = mkdtempSync(join(tmpdir(), "forechain-bench-"));
  const worker = await startLocalWorker({
    port: 0,
    stateFolder: folder,
    entry: "bench/edge-worker.ts",
    onProgress: say,
  });
  const random = seededRandom(SEED);
  const agents = Array.from(
    { length: agentCount },
    (_, i) => new PlayedAgent(worker.url, worker.adminKey, `vm-${i}`, random),
  );
  try {
    const call = callerOf(worker.url, worker.adminKey);
    await call("PUT", "/v1/policy", { mode: "active", budgets: { inFlightCommands: 100_000 } });
    say(`${agentCount} agents join`);
    const left = agents.values();
    const joiner = async () => {
      for (const agent of left) await agent.join();
    };
    await Promise.all(Array.from({ length: JOINING_AT_ONCE }, joiner));
    say(`${perSecond} commands per second for ${seconds} s`);
    await offerSteadily(call, agentCount, perSecond, seconds, random);
    const row = await settled(call, agents);
    if (values.json) console.log(JSON.stringify({ bench: "hub", seed: SEED, ...row }));
    else console.table([row]);
  } finally {
    for (const agent of agents) agent.stop();
    await stopGroups();
    rmSync(folder, { recursive: true, force: true });
  }
}

type Call = <T>(method: string, path: string, body?: unknown) => Promise<T>;

function callerOf(url: string, key: string): Call {
  return async <T>(method: string, path: string, body?: unknown) => {
    const response = await fetch(url + path, {
      method,
      headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text.slice(0, 500)}`);
    return JSON.parse(text) as T;
  };
}

async function offerSteadily(
  call: Call,
  vms: number,
  perSecond: number,
  seconds: number,
  random: () => number,
): Promise<void> {
  const from = performance.now();
  const offers: Promise<unknown>[] = [];
  for (let i = 0; i < perSecond * seconds; i++) {
    const waitMs = from + (i * 1000) / perSecond - performance.now();
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    const offer = offerOf(`command-${i}`, `vm-${Math.floor(random() * vms)}`);
    offeredAt.set(`command-${i}`, performance.now());
    const offered = performance.now();
    const admitted = call("POST", "/bench/admit", { workspace: WORKSPACE, offer });
    offers.push(admitted.then(() => admittedMs.push(performance.now() - offered)));
  }
  await Promise.all(offers);
}

function offerOf(commandId: string, vm: string): Offer {
  const nowMs = Date.now();
  const command = {
    commandId,
    // Each is a thing of its own: nothing coalesces, every command must be settled.
    key: commandId,
    vm,
    kind: "warm" as const,
    task: TASK,
    version: null,
    uri: null,
    bytes: null,
    probability: 0.9,
    savedMs: 100,
    notBeforeMs: nowMs,
    deadlineMs: nowMs + 1_000,
    expiresMs: nowMs + 30_000,
  };
  const reservation = { memoryBytes: 0, cpuCores: 0, expiresMs: nowMs + 5_000 };
  return {
    allocationId: commandId,
    runId: commandId,
    executionId: commandId,
    task: TASK,
    cluster: CLUSTER,
    vm,
    reservation,
    commands: [command],
    acted: true,
    chain: [TASK],
    vms: {},
    hidden: {},
    expectedTerms: null,
    start: { coldStartMs: 0, latencySensitivity: 1, memoryBytes: 0 },
  };
}

/** Waits until nothing is under way any more; then counts. */
async function settled(call: Call, agents: PlayedAgent[]) {
  const untilMs = Date.now() + SETTLED_WITHIN_MS;
  for (;;) {
    const { states } = await call<{ states: Record<string, number> }>("GET", `/v1/clusters/${CLUSTER}/commands`);
    if (!states.queued && !states.leased) break;
    if (Date.now() > untilMs) throw new Error(`not settled within ${SETTLED_WITHIN_MS} ms: ${JSON.stringify(states)}`);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  const { totals } = await call<OutcomesAnswer>("GET", "/v1/outcomes?limit=0");
  const of = (outcome: string) =>
    totals.filter((total) => total.outcome === outcome).reduce((sum, { count }) => sum + count, 0);
  const at = (share: number, all = delaysMs) => {
    const sorted = all.toSorted((a, b) => a - b);
    return Number(sorted[Math.floor(share * (sorted.length - 1))]!.toFixed(1));
  };
  return {
    agents: agents.length,
    commands: offeredAt.size,
    effectOnce: [...effects.values()].filter((times) => times === 1).length,
    hits: of("hit"),
    failed: of("failed"),
    connectionsBroken: agents.reduce((sum, agent) => sum + agent.breaks, 0),
    admitP50Ms: at(0.5, admittedMs),
    admitP99Ms: at(0.99, admittedMs),
    deliveryP50Ms: at(0.5),
    deliveryP95Ms: at(0.95),
    deliveryP99Ms: at(0.99),
  };
}

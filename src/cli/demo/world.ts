// The demo's world as data: where the clusters are, what the tasks are, which workflows run over them.
// Three places, each near to one thing: ashburn to the store, frankfurt to the ledger, osaka to the catalog.
import { fileURLToPath } from "node:url";
import type { TaskDeclaration } from "../../protocol.ts";
import type { Link } from "./link.ts";

/** Name of the origin store in objects' URIs. Each cluster reaches it at an address of its own. */
export const STORE_HOST = "store.demo.example";
export const STORE_URI = `http://${STORE_HOST}`;
/** Idle runtimes are stopped so soon, so that a demo of a minute sees real cold starts. */
export const KEEP_ALIVE_MS = 1_000;
/** An agent's cache: all that a phase reads fits in. */
export const CACHE_BYTES_MAX = 256 * 2 ** 20;
export const VM_MEMORY_BYTES = 2 * 2 ** 30;
export const VM_CPU_CORES = 2;

export type PeerName = "store" | "ledger" | "catalog";

export interface DemoCluster {
  cluster: string;
  vm: string;
  links: Record<PeerName, Link>;
}

const MB = 1e6;

export const CLUSTERS: DemoCluster[] = [
  {
    cluster: "ashburn",
    vm: "ashburn-1",
    links: {
      store: { latencyMs: 6, bytesPerSecond: 4 * MB },
      ledger: { latencyMs: 45, bytesPerSecond: 10 * MB },
      catalog: { latencyMs: 70, bytesPerSecond: 10 * MB },
    },
  },
  {
    cluster: "frankfurt",
    vm: "frankfurt-1",
    links: {
      store: { latencyMs: 30, bytesPerSecond: 3 * MB },
      ledger: { latencyMs: 2, bytesPerSecond: 50 * MB },
      catalog: { latencyMs: 90, bytesPerSecond: 10 * MB },
    },
  },
  {
    cluster: "osaka",
    vm: "osaka-1",
    links: {
      store: { latencyMs: 40, bytesPerSecond: 3 * MB },
      ledger: { latencyMs: 110, bytesPerSecond: 10 * MB },
      catalog: { latencyMs: 2, bytesPerSecond: 50 * MB },
    },
  },
];

export interface DemoTask {
  task: string;
  /** File of the program, and what its environment says beside the addresses of the cluster. */
  program: string;
  env: Record<string, string>;
  model: string;
}

function task(name: string, program: string, model: string, env: Record<string, string>): DemoTask {
  const file = fileURLToPath(new URL(`./tasks/${program}.mjs`, import.meta.url));
  const uri = `${STORE_URI}/models/${model}.bin`;
  return { task: name, program: file, model: uri, env: { ...env, STORE: STORE_URI, MODEL: uri } };
}

export const TASKS: DemoTask[] = [
  task("video-probe", "classify", "containers", { PART: "header" }),
  task("video-shots", "classify", "shots", { PART: "frames" }),
  task("video-audio", "classify", "speech", { PART: "audio" }),
  task("video-labels", "classify", "labels", { PART: "thumbnails" }),
  task("video-publish", "classify", "search", { PART: "captions", PUBLISH: "catalog" }),
  task("order-check", "order", "prices", { STEP: "check" }),
  task("order-parcel", "order", "parcel-rates", { STEP: "parcel" }),
  task("order-freight", "order", "freight-rates", { STEP: "freight" }),
  task("order-confirm", "order", "contracts", { STEP: "confirm" }),
  task("report-plan", "report", "calendar", { PART: "plan" }),
  task("report-sales", "report", "products", { PART: "sales" }),
  task("report-stock", "report", "warehouses", { PART: "stock" }),
  task("report-merge", "report", "regions", { PART: "merge" }),
];

/** What the operator declares of each task: how long to keep it. All else is learned. */
export const TASK_DECLARATION: Partial<TaskDeclaration> = {
  version: "1",
  keepAliveMs: KEEP_ALIVE_MS,
  timeoutMs: 30_000,
};

/** One request of a workflow, the same in both phases. */
export interface Request {
  workflow: string;
  params: Record<string, string>;
  /** Pause before it, after the one before it in the same workflow has ended. */
  pauseMs: number;
}

/** One call of a task, made for a run: what the workflow's code needs of the driver. */
interface Caller {
  /** `after`: the calls that this one follows; several at a join. Resolves with the task's answer. */
  call(task: string, after: CallResult[], body?: unknown): Promise<CallResult>;
}

export interface CallResult {
  continuation: string;
  answer: unknown;
}

export interface Workflow {
  name: string;
  shape: string;
  params(random: () => number): Record<string, string>;
  run(caller: Caller): Promise<void>;
}

const GRAMS_PARCEL = 4_000;
const GRAMS_FREIGHT = 90_000;
const PARCEL_SHARE = 0.75;

function hex(random: () => number, digits: number): string {
  return Array.from({ length: digits }, () => Math.floor(random() * 16).toString(16)).join("");
}

export const WORKFLOWS: Workflow[] = [
  {
    name: "video",
    shape: "chain of 5",
    params: (random) => ({ videoId: `v-${hex(random, 8)}` }),
    async run({ call }) {
      let last: CallResult[] = [];
      for (const step of ["probe", "shots", "audio", "labels", "publish"]) last = [await call(`video-${step}`, last)];
    },
  },
  {
    name: "order",
    shape: "choice",
    params: (random) => ({
      orderId: `o-${hex(random, 8)}`,
      grams: String(random() < PARCEL_SHARE ? GRAMS_PARCEL : GRAMS_FREIGHT),
    }),
    async run({ call }) {
      const checked = await call("order-check", []);
      const { route } = checked.answer as { route: "parcel" | "freight" };
      await call("order-confirm", [await call(`order-${route}`, [checked])]);
    },
  },
  {
    name: "report",
    shape: "fan-out and join",
    params: (random) => ({ day: `2026-${hex(random, 4)}` }),
    async run({ call }) {
      const planned = await call("report-plan", []);
      const parts = await Promise.all([call("report-sales", [planned]), call("report-stock", [planned])]);
      await call(
        "report-merge",
        parts,
        parts.map((part) => part.answer),
      );
    },
  },
];

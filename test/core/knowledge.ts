// A small world for the core's tests, written out by hand: a model whose engine answers from a table, and a fleet.
import type { Adjustments } from "../../src/core/adjustments.ts";
import type { NextPrediction, ReachPrediction } from "../../src/core/chain-engine.ts";
import { type ClusterView, FleetIndex, type FleetView, type VmView } from "../../src/core/fleet.ts";
import type { Model, TaskProfile } from "../../src/core/graph.ts";
import { type Offer, type Ports, serve, type TaskRequest } from "../../src/core/pipeline.ts";
import { Policy, TaskDeclaration } from "../../src/protocol.ts";

export const NOW_MS = 1_800_000_000_000;
export const MIB = 2 ** 20;

interface Reached {
  probability: number;
  leadMs: [number, number, number] | null;
  multiplicity?: number;
}

/** Answers of the engine by the path's tasks, joined by spaces. */
export interface TableModel {
  next: Record<string, Record<string, number>>;
  reach: Record<string, Record<string, Reached>>;
  profiles: Record<string, Partial<TaskProfile>>;
  /** What was learned of the outcomes; absent: nothing. */
  adjustments?: Adjustments;
}

export function modelOf(table: TableModel): Model {
  const tasks = Object.keys(table.profiles);
  const id = (task: string) => tasks.indexOf(task);
  const keyOf = (ids: Uint32Array) => [...ids].map((task) => tasks[task]).join(" ");
  const engine: Model["engine"] = {
    next: ({ tasks: path }): NextPrediction => {
      const row = Object.entries(table.next[keyOf(path)] ?? { end: 1 }).filter(([task]) => task !== "end");
      return {
        tasks: row.map(([task]) => id(task)),
        probabilities: row.map(([, probability]) => probability),
        end: (table.next[keyOf(path)] ?? { end: 1 }).end ?? 0,
      };
    },
    reach: ({ tasks: path }, floor, limit): ReachPrediction => {
      const rows = Object.entries(table.reach[keyOf(path)] ?? {})
        .filter(([, reached]) => reached.probability >= floor)
        .slice(0, limit);
      const lead = (quantile: 0 | 1 | 2) => rows.map(([, reached]) => reached.leadMs?.[quantile] ?? Number.NaN);
      return {
        tasks: rows.map(([task]) => id(task)),
        probabilities: rows.map(([, reached]) => reached.probability),
        multiplicities: rows.map(([, reached]) => reached.multiplicity ?? 1),
        leadP10Ms: lead(0),
        leadP50Ms: lead(1),
        leadP90Ms: lead(2),
      };
    },
  };
  const profiles = new Map(tasks.map((task) => [task, profileOf(task, table.profiles[task]!)]));
  const { adjustments = {} } = table;
  return { version: 7, engine, tasks, taskIds: new Map(tasks.map((task, i) => [task, i])), profiles, adjustments };
}

function profileOf(task: string, known: Partial<TaskProfile>): TaskProfile {
  const same = (value: number) => ({ p10: value, p50: value, p90: value });
  return {
    task,
    version: null,
    count: 100,
    durationMs: same(50),
    coldStartMs: same(400),
    cpuMs: same(20),
    memoryBytes: same(128 * MIB),
    outputBytes: null,
    services: [],
    objects: [],
    templates: [],
    successors: [],
    latencySensitivity: 1,
    ...known,
  };
}

export function vmOf(vm: string, known: Partial<VmView> = {}): VmView {
  return {
    vm,
    url: `https://${vm}.example.net`,
    cpuCores: 4,
    memoryBytes: 4096 * MIB,
    networkBytesPerSecond: null,
    draining: false,
    lastHeartbeatMs: NOW_MS - 1_000,
    cpuLoad: 0,
    memoryUsedBytes: 0,
    executions: 0,
    tasks: ["A", "B", "C", "D"],
    warm: {},
    starting: {},
    uris: [],
    ...known,
  };
}

export function clusterOf(cluster: string, known: Partial<ClusterView> = {}): ClusterView {
  return {
    cluster,
    labels: {},
    draining: false,
    pricePerGbSecond: 0,
    internalLatencyMs: 0.5,
    reservedMemoryBytes: 0,
    reservedCpuCores: 0,
    proximity: {},
    vms: [vmOf(`${cluster}-vm`)],
    ...known,
  };
}

export function fleetOf(clusters: ClusterView[], known: Partial<FleetView> = {}): FleetView {
  return { atMs: NOW_MS, clusters, services: {}, tasks: {}, policy: Policy.parse({ mode: "active" }), ...known };
}

export function declared(known: Partial<TaskDeclaration>): TaskDeclaration {
  return TaskDeclaration.parse(known);
}

export function requestOf(known: Partial<TaskRequest> = {}): TaskRequest {
  return {
    task: "A",
    version: null,
    path: [],
    pathStartMs: [],
    params: {},
    runId: "run-1",
    executionId: "execution-1",
    inputs: [],
    constraints: {},
    horizonMs: null,
    maxTasks: null,
    heldCluster: null,
    heldVms: {},
    dryRun: false,
    ...known,
  };
}

/** Counts ids, admits everything unless told otherwise, and remembers what it was offered. */
export function portsOf(admit: Ports["admit"] = async () => ({ ok: true, commandIds: {}, refusedKeys: {} })) {
  const offers: Offer[] = [];
  let ids = 0;
  const ports: Ports = {
    nowMs: NOW_MS,
    newId: () => `id-${++ids}`,
    random: () => 0.5,
    admit: async (offer) => {
      offers.push(offer);
      return admit(offer);
    },
  };
  return { ports, offers };
}

/** For `fleetOf`: an active workspace with these fields of its policy. */
export const policy = (known: object) => ({ policy: Policy.parse({ mode: "active", ...known }) });

/** What is answered to a request, and offered to hubs; by default on one VM where A is warm. */
export async function plan(
  table: TableModel,
  fleet = fleetOf([clusterOf("c", { vms: [vmOf("vm", { warm: { A: 1 } })] })]),
  known: Partial<TaskRequest> = {},
) {
  const { ports, offers } = portsOf();
  const answer = await serve(requestOf(known), modelOf(table), new FleetIndex(fleet), ports);
  if (answer.kind !== "allocated") throw new Error(JSON.stringify(answer.refused));
  return { ...answer, offers };
}

/** A → B → C, with C in nine runs of ten. */
export const LINEAR: TableModel = {
  next: {
    A: { B: 1 },
    "A B": { C: 0.9, end: 0.1 },
    "A B C": { end: 1 },
  },
  reach: {
    A: { B: { probability: 1, leadMs: [40, 50, 60] }, C: { probability: 0.9, leadMs: [90, 100, 120] } },
    "A B": { C: { probability: 0.9, leadMs: [40, 50, 60] } },
  },
  profiles: {
    A: { successors: [{ task: "B", probability: 1 }] },
    B: { successors: [{ task: "C", probability: 0.9 }] },
    C: {},
    D: {},
  },
};

// Placement. In: a workload and a seed. Out: what the services and cold starts of its runs came to, ms, under three ways of choosing a cluster,
// beside one that knows the truth. A scenario of its own beside the world, which has one cluster:
//   · some clusters, each with links to some services; every task calls one service some times;
//   · what is declared of a link or of the machines is off by a factor, drawn once (log-normal): the declared best is often not the best;
//   · each service takes some time of its own beside the link, and each chain's starts are hidden more or less than expected, wherever it runs;
//   · half-way one link of the truly best cluster slows down, and nobody declares it;
//   · every run is placed once, by the production `serve`; what its executions really waited is told to PlacementCorrections.

import { PlacementCorrections } from "../core/corrections.ts";
import { type ClusterView, FleetIndex, type FleetView } from "../core/fleet.ts";
import { serve } from "../core/pipeline.ts";
import { seededRandom } from "../core/random.ts";
import { Policy as PolicySchema, TaskDeclaration } from "../protocol.ts";
import { freeCluster, idleVm } from "./fleet.ts";
import { Learner, type LearnerParts, type Trained } from "./learner.ts";
import { seedFor } from "./random.ts";
import { halves, type ReplayRun, type Workload } from "./workload.ts";

const CLUSTERS = 8;
const SERVICES = 4;
const CALLS_PER_EXECUTION = 3;
/** Declared links are between these, ms. */
const LATENCY_MIN_MS = 1;
const LATENCY_MAX_MS = 30;
/** Spread of ln of what is true over what is declared: one in three is off by more than this. */
const DECLARED_SPREAD = 0.5;
/** Of a call: what the service takes itself, at most, ms. */
const OWN_MAX_MS = 20;
/** Spread of ln of one run's calls and starts around the truth. */
const NOISE_SPREAD = 0.25;
/** The link that slows down half-way does so by this factor. */
const SLOWDOWN = 4;
const GAP_MS = 1_000;
/** Of what is learned from outcomes, placement is all that is looked at. */
export const PLACEMENT_PARTS: LearnerParts = {
  measuresStarts: false,
  fansOut: true,
  believes: false,
  learnsMargins: false,
  noticesDrift: false,
  countsAtOnce: true,
  knowsTails: true,
};
const VM_BYTES = 2 ** 50;
const BANDWIDTH_BYTES_PER_SECOND = 125e6;

export const PLACEMENT_WAYS = ["declared", "learned, nothing tried", "learned", "truth known"] as const;
type PlacementWay = (typeof PLACEMENT_WAYS)[number];

export interface PlacementResult {
  way: PlacementWay;
  /** Mean of a run's waits for services and starts, ms, before and after the slowdown. */
  beforeMs: number;
  afterMs: number;
  /** Share of what knowing the truth saves over what is declared (0–1), over all runs. */
  share: number;
}

interface Truth {
  /** By cluster, then service, ms. */
  latencyMs: number[][];
  /** By cluster, over the measured cold starts. */
  startFactor: number[];
  /** By service, ms. */
  ownMs: number[];
  /** By the chain's first task, over the expected waits for starts. */
  chainFactor: number[];
}

export async function placements(
  workload: Workload,
  seed: number,
  runs: number,
  module: WebAssembly.Module,
  /** With PLACEMENT_PARTS. */
  trained: Trained,
): Promise<PlacementResult[]> {
  const { replay } = halves(workload.runs);
  const learner = new Learner(module, PLACEMENT_PARTS, trained);
  const scene = sceneOf(workload, seed);
  const draw = seededRandom(seedFor(seed, "which run is placed"));
  const drawn = Array.from({ length: runs }, () => replay[Math.floor(draw() * replay.length)]!);
  const results: PlacementResult[] = [];
  for (const way of PLACEMENT_WAYS) results.push(await place(way, drawn, learner, scene, workload, seed));
  const [declared, truth] = [totalOf(results[0]!), totalOf(results.at(-1)!)];
  for (const result of results) result.share = declared > truth ? (declared - totalOf(result)) / (declared - truth) : 1;
  return results;
}

function totalOf({ beforeMs, afterMs }: PlacementResult): number {
  return beforeMs + afterMs;
}

interface Scene {
  fleet(nowMs: number): FleetView;
  before: Truth;
  after: Truth;
  serviceOf: number[];
}

function sceneOf(workload: Workload, seed: number): Scene {
  const random = seededRandom(seedFor(seed, "clusters"));
  const uniform = (least: number, most: number) => least + (most - least) * random();
  const declaredMs = table(() => uniform(LATENCY_MIN_MS, LATENCY_MAX_MS));
  const before: Truth = {
    latencyMs: declaredMs.map((links) => links.map((ms) => ms * Math.exp(DECLARED_SPREAD * normal(random)))),
    startFactor: Array.from({ length: CLUSTERS }, () => Math.exp(DECLARED_SPREAD * normal(random))),
    ownMs: Array.from({ length: SERVICES }, () => uniform(0, OWN_MAX_MS)),
    chainFactor: workload.taskNames.map(() => Math.exp(DECLARED_SPREAD * normal(random))),
  };
  const serviceOf = workload.taskNames.map(() => Math.floor(random() * SERVICES));
  const sums = before.latencyMs.map((links) => links.reduce((sum, ms) => sum + ms, 0));
  const best = sums.indexOf(Math.min(...sums));
  const after = {
    ...before,
    latencyMs: before.latencyMs.map((links, c) => (c === best ? links.map((ms) => ms * SLOWDOWN) : links)),
  };
  const declared = TaskDeclaration.parse({});
  const tasks = Object.fromEntries(
    workload.taskNames.map((task, t) => [
      task,
      { ...declared, services: [{ service: `service-${serviceOf[t]}`, calls: CALLS_PER_EXECUTION, bytes: 0 }] },
    ]),
  );
  const services = Object.fromEntries(Array.from({ length: SERVICES }, (_, s) => [`service-${s}`, { hosts: [] }]));
  const policy = PolicySchema.parse({ mode: "active" });
  const clusters = declaredMs.map((links, c) => clusterOf(c, links, workload.taskNames));
  return {
    fleet: (atMs) => ({ atMs, clusters: fresh(clusters, atMs), services, tasks, policy }),
    before,
    after,
    serviceOf,
  };
}

function table(value: () => number): number[][] {
  return Array.from({ length: CLUSTERS }, () => Array.from({ length: SERVICES }, value));
}

function normal(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

function clusterOf(c: number, latencyMs: number[], tasks: string[]): ClusterView {
  const links = latencyMs.map((ms, s) => [
    `service-${s}`,
    { latencyMs: ms, bandwidthBytesPerSecond: BANDWIDTH_BYTES_PER_SECOND },
  ]);
  const vm = idleVm({ vm: `vm-${c}`, cpuCores: 64, memoryBytes: VM_BYTES, tasks });
  return freeCluster({ cluster: `cluster-${c}`, proximity: Object.fromEntries(links), vms: [vm] });
}

/** Heartbeats go on. */
function fresh(clusters: ClusterView[], atMs: number): ClusterView[] {
  return clusters.map((cluster) => ({
    ...cluster,
    vms: cluster.vms.map((vm) => ({ ...vm, lastHeartbeatMs: atMs })),
  }));
}

async function place(
  way: PlacementWay,
  drawn: ReplayRun[],
  learner: Learner,
  scene: Scene,
  workload: Workload,
  seed: number,
): Promise<PlacementResult> {
  const corrections = new PlacementCorrections();
  const random = seededRandom(seedFor(seed, "waits"));
  const learns = way.startsWith("learned");
  const placement =
    way === "learned, nothing tried"
      ? { factors: (cluster: string) => corrections.factors(cluster), choose: () => 0 }
      : corrections;
  const model = { ...learner.model, adjustments: learns ? { placement } : {} };
  const sums = [0, 0];
  const middle = drawn.length / 2;
  for (const [r, run] of drawn.entries()) {
    const truth = r < middle ? scene.before : scene.after;
    const served = await serve(requestOf(run, r, workload), model, new FleetIndex(scene.fleet(r * GAP_MS)), {
      nowMs: r * GAP_MS,
      newId: () => "",
      random: () => 0,
      admit: async () => ({ ok: true, commandIds: {}, refusedKeys: {} }),
    });
    if (served.kind !== "allocated" || served.expectedTerms === null) throw new Error("nothing suitable");
    const expected = served.expectedTerms;
    const noise = Math.exp(NOISE_SPREAD * normal(random));
    const every = truth.startFactor.map((factor, c) => ({
      servicesMs: noise * servicesMs(run, truth.latencyMs[c]!, truth.ownMs, scene, learner),
      coldStartMs: noise * expected.coldStartMs * factor * truth.chainFactor[run.tasks[0]!]!,
    }));
    const totalsMs = every.map((came) => came.servicesMs + came.coldStartMs);
    const chosen = way === "truth known" ? totalsMs.indexOf(Math.min(...totalsMs)) : Number(served.cluster.slice(8));
    sums[r < middle ? 0 : 1]! += totalsMs[chosen]!;
    if (!learns) continue;
    for (const term of ["servicesMs", "coldStartMs"] as const) {
      const root = workload.taskNames[run.tasks[0]!]!;
      corrections.note(served.cluster, root, term, expected[term], every[chosen]![term]);
    }
  }
  return { way, beforeMs: sums[0]! / middle, afterMs: sums[1]! / (drawn.length - middle), share: 0 };
}

/** What the run's executions wait for their services, as much as it delays the run. */
function servicesMs(run: ReplayRun, latencyMs: number[], ownMs: number[], scene: Scene, learner: Learner): number {
  let sumMs = 0;
  for (const [i, task] of run.tasks.entries()) {
    const sensitivity = learner.model.profiles.get(run.assembled.executions[i]!.task)?.latencySensitivity ?? 1;
    const service = scene.serviceOf[task]!;
    sumMs += sensitivity * CALLS_PER_EXECUTION * (latencyMs[service]! + ownMs[service]!);
  }
  return sumMs;
}

function requestOf(run: ReplayRun, number: number, workload: Workload) {
  return {
    task: workload.taskNames[run.tasks[0]!]!,
    version: null,
    path: [],
    pathStartMs: [],
    params: {},
    runId: String(number),
    executionId: String(number),
    inputs: [],
    constraints: {},
    horizonMs: null,
    maxTasks: null,
    heldCluster: null,
    heldVms: {},
    dryRun: false,
    explains: false,
  };
}

// `npm run bench -- allocate [--json]`: CPU of one allocation (predict is not in it) over 1,000 clusters × 10 VMs, seeded.
// In: nothing. Out: µs per call, and the same for 10 and 100 clusters, to show how the cost grows.

import { parseArgs } from "node:util";
import { engineModule } from "../src/cli/build.ts";
import { allocate, type PlacementInput } from "../src/core/allocate.ts";
import { demandOf } from "../src/core/demand.ts";
import { type ClusterView, FleetIndex, type FleetView, type NewPlacer, type VmView } from "../src/core/fleet.ts";
import type { TaskProfile } from "../src/core/graph.ts";
import { WasmPlacer } from "../src/core/place.ts";
import { seededRandom } from "../src/core/random.ts";
import { Policy } from "../src/protocol.ts";

const SEED = 20_261_125;
const VMS_PER_CLUSTER = 10;
const SERVICES = 16;
const CHAIN_TASKS = 8;
const WARM_UP_CALLS = 50;
const CALLS = 200;
const NOW_MS = 1_800_000_000_000;
const MIB = 2 ** 20;

function fleetOf(clusters: number, random: () => number): FleetView {
  const tasks = Array.from({ length: 40 }, (_, i) => `task-${i}`);
  const vmOf = (name: string): VmView => ({
    vm: name,
    url: `https://${name}.example.net`,
    cpuCores: 8,
    memoryBytes: 16_384 * MIB,
    networkBytesPerSecond: 1e9,
    draining: random() < 0.02,
    lastHeartbeatMs: NOW_MS - random() * 10_000,
    cpuLoad: random() * 0.8,
    memoryUsedBytes: random() * 8_192 * MIB,
    executions: 3,
    tasks,
    warm: random() < 0.3 ? { [tasks[Math.floor(random() * CHAIN_TASKS)]!]: 1 } : {},
    starting: {},
    uris: Array.from({ length: 100 }, () => `https://store/object-${Math.floor(random() * 1000)}`),
  });
  return {
    atMs: NOW_MS,
    clusters: Array.from(
      { length: clusters },
      (_, c): ClusterView => ({
        cluster: `cluster-${c}`,
        labels: {},
        draining: random() < 0.01,
        pricePerGbSecond: random(),
        internalLatencyMs: 0.5,
        reservedMemoryBytes: random() * 1_024 * MIB,
        reservedCpuCores: 0,
        proximity: Object.fromEntries(
          Array.from({ length: SERVICES }, (_, s) => [
            `service-${s}`,
            { latencyMs: 1 + random() * 80, bandwidthBytesPerSecond: 1e7 + random() * 1e9 },
          ]),
        ),
        vms: Array.from({ length: VMS_PER_CLUSTER }, (_, v) => vmOf(`vm-${c}-${v}`)),
      }),
    ),
    services: Object.fromEntries(
      Array.from({ length: SERVICES }, (_, s) => [`service-${s}`, { hosts: s === 0 ? ["store"] : [] }]),
    ),
    tasks: {},
    policy: Policy.parse({ mode: "active" }),
  };
}

function inputOf(random: () => number): PlacementInput {
  const same = (value: number) => ({ p10: value, p50: value, p90: value });
  const names = Array.from({ length: CHAIN_TASKS }, (_, i) => `task-${i}`);
  const profiles = new Map(
    names.map((task): [string, TaskProfile] => [
      task,
      {
        task,
        version: null,
        count: 100,
        durationMs: same(50),
        coldStartMs: same(300),
        cpuMs: same(20),
        memoryBytes: same(256 * MIB),
        outputBytes: null,
        services: Array.from({ length: 2 }, () => ({
          service: `service-${Math.floor(random() * SERVICES)}`,
          calls: 3,
          bytes: 1e5,
          latencyMs: null,
        })),
        objects: Array.from({ length: 2 }, () => ({
          uri: `https://store/object-${Math.floor(random() * 1000)}`,
          bytes: 1e6,
          probability: 1,
          producer: null,
        })),
        templates: [],
        successors: [],
        latencySensitivity: 1,
      },
    ]),
  );
  const reach = names.slice(1).map((task, i) => ({
    task,
    probability: 0.9,
    leadTimeMs: same(50 * (i + 1)),
    multiplicity: 1,
    route: [names[0]!, task],
  }));
  const chain = { shape: "tree" as const, tasks: names, probability: 0.9 };
  const asked = { task: names[0]!, version: null, params: {}, inputs: [], path: [] };
  return {
    chains: [demandOf(chain, reach, asked, { profiles, declarations: {} })],
    constraints: {},
    heldCluster: null,
    heldVms: {},
    nowMs: NOW_MS,
  };
}

function measure(
  clusters: number,
  newPlacer: NewPlacer | null,
): {
  clusters: number;
  vms: number;
  firstMicros: number;
  p50Micros: number;
  p99Micros: number;
} {
  const random = seededRandom(SEED);
  const view = fleetOf(clusters, random);
  const input = inputOf(random);
  const micros: number[] = [];
  // The first call on a new fleet view also builds its index: told apart, since a view lives for a second.
  const started = performance.now();
  const fleet = new FleetIndex(view);
  allocate(input, fleet, newPlacer);
  const firstMicros = (performance.now() - started) * 1000;
  for (let call = 0; call < WARM_UP_CALLS + CALLS; call++) {
    const from = performance.now();
    const ranking = allocate(input, fleet, newPlacer);
    if (ranking.candidates.length === 0) throw new Error("the benchmark's fleet must hold its chain");
    if (call >= WARM_UP_CALLS) micros.push((performance.now() - from) * 1000);
  }
  micros.sort((a, b) => a - b);
  return {
    clusters,
    vms: clusters * VMS_PER_CLUSTER,
    firstMicros,
    p50Micros: micros[CALLS >> 1]!,
    p99Micros: micros[Math.floor(CALLS * 0.99)]!,
  };
}

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options: { json: { type: "boolean", default: false } } });
  const module = await engineModule();
  const simd: NewPlacer = (clusters, services) => new WasmPlacer(module, clusters, services);
  const rows = [10, 100, 1_000].flatMap((clusters) => [
    { services: "summed", ...measure(clusters, null) },
    { services: "SIMD", ...measure(clusters, simd) },
  ]);
  if (values.json) console.log(JSON.stringify({ bench: "allocate", seed: SEED, rows }));
  else
    console.table(
      rows.map((row) =>
        Object.fromEntries(
          Object.entries(row).map(([name, value]) => [name, typeof value === "number" ? Math.round(value) : value]),
        ),
      ),
    );
}

// Which cluster a chain goes to: filter and terms of allocate.ts, asked through `serve` with a model of tables.
import { describe, expect, it } from "vitest";
import { engineModule } from "../../src/cli/build.ts";
import { HEARTBEAT_STALE_MS } from "../../src/core/allocate.ts";
import { FleetIndex, indexOf } from "../../src/core/fleet.ts";
import { serve } from "../../src/core/pipeline.ts";
import { WasmPlacer } from "../../src/core/place.ts";
import { clusterOf, declared, fleetOf, LINEAR, MIB, modelOf, NOW_MS, portsOf, requestOf, vmOf } from "./knowledge.ts";

const model = modelOf({
  ...LINEAR,
  profiles: { ...LINEAR.profiles, C: { services: [{ service: "db", calls: 10, bytes: 0, latencyMs: null }] } },
});
const near = { db: { latencyMs: 1, bandwidthBytesPerSecond: 1e9 } };
const far = { db: { latencyMs: 40, bandwidthBytesPerSecond: 1e9 } };

async function place(fleet: ReturnType<typeof fleetOf>, request = requestOf()) {
  const answer = await serve(request, model, new FleetIndex(fleet), portsOf().ports);
  if (answer.kind !== "allocated") throw new Error(`unsuitable: ${JSON.stringify(answer.refused)}`);
  return answer;
}

describe("allocate", () => {
  it("lets the whole chain's cost decide: an idle far cluster loses to a slightly busy near one, and says so", async () => {
    const busy = clusterOf("near", { proximity: near, vms: [vmOf("near-vm", { cpuLoad: 0.3 })] });
    const answer = await place(fleetOf([clusterOf("far", { proximity: far }), busy]));
    expect(answer.cluster).toBe("near");
    const [best, other] = answer.alternatives;
    expect(best!.terms.queueMs).toBeGreaterThan(other!.terms.queueMs);
    expect(other!.terms.servicesMs - best!.terms.servicesMs).toBeCloseTo(0.9 * 10 * 39);
    for (const { terms, totalMs } of answer.alternatives) {
      expect(Object.values(terms).reduce((sum, term) => sum + term, 0)).toBeCloseTo(totalMs);
    }
  });

  it("counts transfers only for objects that the VM does not hold", async () => {
    const uri = "https://store/model.bin";
    const reading = modelOf({
      ...LINEAR,
      profiles: { ...LINEAR.profiles, A: { objects: [{ uri, bytes: 10e6, probability: 1, producer: null }] } },
    });
    const fleet = fleetOf([clusterOf("cold"), clusterOf("holding", { vms: [vmOf("holding-vm", { uris: [uri] })] })], {
      services: { store: { hosts: ["store"] } },
    });
    const answer = await serve(requestOf(), reading, new FleetIndex(fleet), portsOf().ports);
    expect(answer).toMatchObject({ kind: "allocated", cluster: "holding" });
  });

  it("stays with the reservation of the run unless another cluster is clearly better", async () => {
    const clusters = [
      clusterOf("a", { proximity: near }),
      clusterOf("b", { proximity: { db: { latencyMs: 1.5, bandwidthBytesPerSecond: 1e9 } } }),
    ];
    expect((await place(fleetOf(clusters), requestOf({ heldCluster: "b" }))).cluster).toBe("b");
    const clearly = [
      clusterOf("a", { proximity: near }),
      clusterOf("b", { proximity: { db: { latencyMs: 400, bandwidthBytesPerSecond: 1e9 } } }),
    ];
    expect((await place(fleetOf(clearly), requestOf({ heldCluster: "b" }))).cluster).toBe("a");
  });

  it("does not leave what an earlier plan of the run has prepared, though the view does not show it yet", async () => {
    const clusters = [clusterOf("a", { vms: [vmOf("a-vm", { warm: { B: 1, C: 1 } })] }), clusterOf("b")];
    const request = requestOf({ task: "B", path: ["A"] });
    expect((await place(fleetOf(clusters), request)).cluster).toBe("a");
    const held = requestOf({ task: "B", path: ["A"], heldCluster: "b", heldVms: { B: "b-vm", C: "b-vm" } });
    const answer = await place(fleetOf(clusters), held);
    expect(answer.cluster).toBe("b");
    expect(answer.alternatives[0]!.terms.coldStartMs).toBe(0);
  });

  it("places a smaller chain where the whole one does not fit, and charges what it leaves out", async () => {
    const small = clusterOf("small", { vms: [vmOf("small-vm", { memoryBytes: 200 * MIB })] });
    const heavy = modelOf({
      ...LINEAR,
      profiles: { ...LINEAR.profiles, C: { memoryBytes: { p10: 300 * MIB, p50: 300 * MIB, p90: 300 * MIB } } },
    });
    const answer = await serve(requestOf(), heavy, new FleetIndex(fleetOf([small])), portsOf().ports);
    expect(answer).toMatchObject({ kind: "allocated", chain: ["A", "B"] });
    expect(answer.kind === "allocated" && answer.alternatives[0]!.terms.coldStartMs).toBeGreaterThan(0.9 * 400);
  });

  it("places a large fleet by SIMD to the same result as by sums", async () => {
    const module = await engineModule();
    const clusters = Array.from({ length: 200 }, (_, i) =>
      clusterOf(`c${i}`, { proximity: { db: { latencyMs: 1 + ((i * 37) % 199), bandwidthBytesPerSecond: 1e9 } } }),
    );
    const fleet = fleetOf(clusters, { services: { db: { hosts: [] } } });
    const { ports } = portsOf();
    const sums = await serve(requestOf(), model, new FleetIndex(fleet), ports);
    let placers = 0;
    const newPlacer = (count: number, services: number) => {
      placers++;
      return new WasmPlacer(module, count, services);
    };
    const simd = await serve(requestOf(), model, new FleetIndex(fleet), { ...ports, newPlacer });
    if (sums.kind !== "allocated" || simd.kind !== "allocated") throw new Error("both must be placed");
    expect(placers).toBe(1);
    expect(simd.alternatives.map(({ cluster }) => cluster)).toEqual(sums.alternatives.map(({ cluster }) => cluster));
    for (const [i, { totalMs }] of simd.alternatives.entries()) {
      expect(totalMs).toBeCloseTo(sums.alternatives[i]!.totalMs, 2);
    }
  });

  it("prefers a warm VM, and the VM that an earlier plan prepared above all", async () => {
    const vms = [vmOf("one"), vmOf("two", { warm: { A: 1 } }), vmOf("three")];
    expect((await place(fleetOf([clusterOf("c", { vms })]))).vm).toBe("two");
    expect((await place(fleetOf([clusterOf("c", { vms })]), requestOf({ heldVms: { A: "three" } }))).vm).toBe("three");
  });

  it.each([
    ["no VM is declared", clusterOf("c", { vms: [] }), {}],
    ["cluster is draining", clusterOf("c", { draining: true }), {}],
    ["c-vm: is draining", clusterOf("c", { vms: [vmOf("c-vm", { draining: true })] }), {}],
    ["c-vm: no agent has reported yet", clusterOf("c", { vms: [vmOf("c-vm", { lastHeartbeatMs: null })] }), {}],
    [
      "c-vm: its agent has been silent for 16 s",
      clusterOf("c", { vms: [vmOf("c-vm", { lastHeartbeatMs: NOW_MS - HEARTBEAT_STALE_MS - 1_000 })] }),
      {},
    ],
    ["c-vm: its agent does not have the task", clusterOf("c", { vms: [vmOf("c-vm", { tasks: ["B"] })] }), {}],
    ["not among the clusters asked for", clusterOf("c"), { clusters: ["other"] }],
    ["excluded by the request", clusterOf("c"), { excludeClusters: ["c"] }],
    ["label gpu is absent, not yes", clusterOf("c"), { labels: { gpu: "yes" } }],
    [
      "memory: 64 MiB free, the chain needs 128 MiB",
      clusterOf("c", { vms: [vmOf("c-vm", { memoryBytes: 64 * MIB })] }),
      {},
    ],
  ])("refuses with the reason: %s", async (reason, cluster, constraints) => {
    const answer = await serve(requestOf({ constraints }), model, new FleetIndex(fleetOf([cluster])), portsOf().ports);
    expect(answer).toMatchObject({ kind: "unsuitable", refused: [{ cluster: "c", reason }] });
    expect(answer.kind === "unsuitable" && answer.retryAfterMs).toBeGreaterThan(0);
  });

  it("places a task that the model has never seen, without a prediction", async () => {
    const fleet = fleetOf([clusterOf("c")], { tasks: { A: declared({ memoryBytes: 64 * MIB }) } });
    const answer = await serve(requestOf(), null, new FleetIndex(fleet), portsOf().ports);
    expect(answer).toMatchObject({
      kind: "allocated",
      chain: ["A"],
      plan: [],
      prediction: { modelVersion: 0, next: [] },
    });
  });
});

describe("indexOf", () => {
  it("indexes a view once; a copy with other clusters, and one that crossed a call, have none of it", () => {
    const view = fleetOf([clusterOf("c")]);
    const index = indexOf(view);
    expect(indexOf(view)).toBe(index);
    const other = { ...view, clusters: [clusterOf("d"), clusterOf("e")] };
    expect([...indexOf(other).clusterIds.keys()]).toEqual(["d", "e"]);
    expect(indexOf(structuredClone(view))).not.toBe(index);
    expect(JSON.stringify(view)).toBe(JSON.stringify(fleetOf([clusterOf("c")])));
  });
});

// What a chain needs of a cluster, from profiles and declarations written out here.
import { describe, expect, it } from "vitest";
import { demandOf, fillTemplate, MEMORY_UNKNOWN_BYTES } from "../../src/core/demand.ts";
import type { ChainTask } from "../../src/core/predict.ts";
import { declared, LINEAR, MIB, modelOf, type TableModel } from "./knowledge.ts";

const reached = (task: string, probability: number, p50: number): ChainTask => ({
  task,
  probability,
  leadTimeMs: { p10: p50 * 0.8, p50, p90: p50 * 1.2 },
  multiplicity: 1,
  route: ["A", task],
});
const input = { task: "A", version: null, params: {}, inputs: [], path: [] as string[] };

function demand(
  tasks: string[],
  reach: ChainTask[],
  profiles: TableModel["profiles"],
  known: Partial<typeof input> = {},
  declarations = {},
) {
  const model = modelOf({ ...LINEAR, profiles });
  const chain = { shape: "tree" as const, tasks, probability: 0.9 };
  return demandOf(chain, reach, { ...input, ...known }, { profiles: model.profiles, declarations });
}

describe("demand", () => {
  it("adds CPU by expectation, and memory only where tasks overlap in time", () => {
    const reach = [reached("B", 0.5, 10), reached("C", 1, 1_000)];
    const { total } = demand(["A", "B", "C"], reach, { A: {}, B: {}, C: {} });
    expect(total.cpuMs).toBeCloseTo(20 + 0.5 * 20 + 20);
    // A [0, 50) and B [10, 60) overlap; C starts long after.
    expect(total.peakMemoryBytes).toBe(2 * 128 * MIB);
  });

  it("prefetches what a task reads, with the deadline of its p10 lead time, once for two readers", () => {
    const object = { uri: "https://store/model.bin", bytes: 1000, probability: 1, producer: null };
    const reach = [reached("B", 0.5, 100), reached("C", 1, 1_000)];
    const { total } = demand(["A", "B", "C"], reach, { A: {}, B: { objects: [object] }, C: { objects: [object] } });
    expect(total.prefetch).toHaveLength(1);
    expect(total.prefetch[0]).toMatchObject({ uri: object.uri, deadlineMs: 80, probability: 1, producer: null });
  });

  it("names the producer of an object that this run makes itself, until that task is behind", () => {
    const objects = [{ uri: "https://store/out.bin", bytes: 10, probability: 1, producer: "B" }];
    const reach = [reached("B", 1, 10), reached("C", 1, 100)];
    const profiles = { A: {}, B: {}, C: { objects } };
    expect(demand(["A", "B", "C"], reach, profiles).total.prefetch[0]!.producer).toBe("B");
    expect(demand(["A", "B", "C"], reach, profiles, { path: ["B"] }).total.prefetch[0]!.producer).toBeNull();
  });

  it("takes declarations where nothing was measured, and defaults where nothing is known", () => {
    const unknown = { memoryBytes: null, cpuMs: null, coldStartMs: null, durationMs: null };
    const reach = [reached("B", 1, 10)];
    const bare = demand(["A", "B"], reach, { A: unknown, B: unknown });
    expect(bare.tasks[1]!.memoryBytes).toBe(MEMORY_UNKNOWN_BYTES);
    const told = demand(
      ["A", "B"],
      reach,
      { A: unknown, B: unknown },
      {},
      { B: declared({ memoryBytes: 5, coldStartMs: 9 }) },
    );
    expect(told.tasks[1]).toMatchObject({ memoryBytes: 5, coldStartMs: 9 });
  });

  it("scores a chain that costs less to prepare higher", () => {
    const reach = [reached("B", 1, 10)];
    const cheap = demand(["A", "B"], reach, { A: {}, B: {} }).scored;
    const heavy = { p10: 4096 * MIB, p50: 4096 * MIB, p90: 4096 * MIB };
    const dear = demand(["A", "B"], reach, {
      A: {},
      B: { memoryBytes: heavy, cpuMs: { p10: 900, p50: 900, p90: 900 } },
    }).scored;
    expect(cheap.score).toBeGreaterThan(dear.score);
    expect(cheap.latencySensitivity).toBe(1);
  });
});

describe("fillTemplate", () => {
  it.each([
    ["https://store/videos/{videoId}.bin", { videoId: "a b/../c" }, "https://store/videos/a%20b%2F..%2Fc.bin"],
    ["https://store/{a}/{b}", { a: 1, b: true }, "https://store/1/true"],
    ["https://store/plain.bin", {}, "https://store/plain.bin"],
    ["https://store/{missing}", {}, null],
    ["https://store/{up}", { up: ".." }, null],
    ["https://{host}/x", { host: "evil.example" }, null],
    ["{scheme}://store/x", { scheme: "file" }, null],
    ["https://store/{constructor}", {}, null],
  ])("%s with %j", (template, params, uri) => {
    expect(fillTemplate(template, params as Record<string, string>)).toBe(uri);
  });
});

// One suite for both placers, and their agreement on random fleets.

import { describe, expect, test } from "vitest";
import { engineModule } from "../../src/cli/build.ts";
import { type PlaceDemand, type Placer, WasmPlacer } from "../../src/core/place.ts";
import { seededRandom } from "../../src/core/random.ts";
import { OraclePlacer } from "../oracle/place.ts";

const module = await engineModule();
const placers: [string, (clusters: number, services: number) => Placer][] = [
  ["WASM", (clusters, services) => new WasmPlacer(module, clusters, services)],
  ["oracle", (clusters, services) => new OraclePlacer(clusters, services)],
];

function demandOf(calls: number[], bytes: number[], terms: number[] = [], factors: number[] = [1]): PlaceDemand {
  return {
    calls: Float32Array.from(calls),
    bytes: Float32Array.from(bytes),
    terms: Float32Array.from(terms),
    factors: Float32Array.from(factors),
  };
}

describe.each(placers)("%s placer", (_name, create) => {
  test("calls cost latency, bytes cost bandwidth, terms add with their factors", () => {
    const placer = create(3, 2);
    placer.setProximity(Float32Array.of(1, 10, 5, 5, 50, 1), Float32Array.of(0.5, 0, 0, 0, 0, 0.25));
    const scores = placer.place(demandOf([2, 1], [4, 8], [100, 0, 7], [2, 0.5]));
    expect([...scores.serviceMs]).toEqual([2 + 10 + 2, 15, 101 + 2]);
    expect([...scores.totalMs]).toEqual([28 + 50, 30, 206 + 3.5]);
  });

  test("an unreachable service counts only where it is called", () => {
    const placer = create(1, 2);
    const { POSITIVE_INFINITY: never } = Number;
    placer.setProximity(Float32Array.of(3, never), Float32Array.of(0, never));
    expect(placer.place(demandOf([1, 0], [9, 0])).totalMs[0]).toBe(3);
    expect(placer.place(demandOf([1, 1], [9, 0])).totalMs[0]).toBeGreaterThan(1e29);
  });

  test("refuses what does not fit, by name", () => {
    const placer = create(2, 1);
    expect(() => placer.place(demandOf([1, 1], [1]))).toThrow(/calls: got 2 values, expected 1/);
    expect(() => placer.place(demandOf([Number.NaN], [1]))).toThrow(/calls\[0\]/);
    expect(() => placer.place(demandOf([1], [1], [5], [1, 1]))).toThrow(/terms: got 1 values, expected 2/);
    expect(() => placer.place(demandOf([1], [1], [], new Array(10).fill(1)))).toThrow(/factors: got 10, at most 9/);
  });
});

test.each([1, 2, 3, 4, 5])("agrees with the oracle on random fleets, seed %i", (seed) => {
  const random = seededRandom(seed);
  const clusters = 1 + Math.floor(random() * 300);
  const services = 1 + Math.floor(random() * 20);
  const column = (length: number, scale: number) => Float32Array.from({ length }, () => random() * scale);
  const [wasm, oracle] = [new WasmPlacer(module, clusters, services), new OraclePlacer(clusters, services)];
  const [latencyMs, msPerByte] = [column(clusters * services, 200), column(clusters * services, 1e-4)];
  wasm.setProximity(latencyMs, msPerByte);
  oracle.setProximity(latencyMs, msPerByte);
  const count = Math.floor(random() * 9);
  const demand = {
    calls: column(services, 5),
    bytes: column(services, 1e6),
    terms: column(count * clusters, 1000),
    factors: column(count + 1, 2),
  };
  const [a, b] = [wasm.place(demand), oracle.place(demand)];
  for (let c = 0; c < clusters; c++) {
    const where = `seed ${seed}, cluster ${c}`;
    expect(Math.abs((a.totalMs[c] as number) / (b.totalMs[c] as number) - 1), where).toBeLessThan(1e-4);
    expect(Math.abs((a.serviceMs[c] as number) / (b.serviceMs[c] as number) - 1), where).toBeLessThan(1e-4);
  }
});

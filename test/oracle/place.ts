// The oracle of placement: assembly/place.ts as the sum that it stands for.
import { checkDemand, type PlaceDemand, type Placer, type PlaceScores, UNREACHABLE } from "../../src/core/place.ts";

export class OraclePlacer implements Placer {
  readonly #clusters: number;
  readonly #services: number;
  #latencyMs: number[][] = [];
  #msPerByte: number[][] = [];

  constructor(clusters: number, services: number) {
    this.#clusters = clusters;
    this.#services = services;
  }

  setProximity(latencyMs: Float32Array, msPerByte: Float32Array): void {
    const row = (column: Float32Array, c: number) =>
      [...column.subarray(c * this.#services, (c + 1) * this.#services)].map((value) => Math.min(UNREACHABLE, value));
    const clusters = Array.from({ length: this.#clusters }, (_, c) => c);
    this.#latencyMs = clusters.map((c) => row(latencyMs, c));
    this.#msPerByte = clusters.map((c) => row(msPerByte, c));
  }

  place(demand: PlaceDemand): PlaceScores {
    checkDemand(demand, this.#clusters, this.#services);
    const serviceMs = new Float32Array(this.#clusters);
    const totalMs = new Float32Array(this.#clusters);
    const [serviceFactor = 1, ...factors] = demand.factors;
    for (let c = 0; c < this.#clusters; c++) {
      const latencies = this.#latencyMs[c] as number[];
      const rates = this.#msPerByte[c] as number[];
      const service = latencies.reduce(
        (sum, latency, s) =>
          sum + (demand.calls[s] as number) * latency + (demand.bytes[s] as number) * (rates[s] as number),
        0,
      );
      serviceMs[c] = service;
      const terms = factors.reduce(
        (sum, factor, t) => sum + factor * (demand.terms[t * this.#clusters + c] as number),
        0,
      );
      totalMs[c] = serviceFactor * service + terms;
    }
    return { serviceMs, totalMs };
  }
}

// Placement scores on the engine's SIMD. In: proximity of clusters × services, kept; then one demand after another. Out: expected
// milliseconds of the chain on each cluster, the services' part apart, so that the choice explains itself.
// An instance of its own: it holds no model. Like engine.ts it alone sees its pointers, with no `await` between input and output.
import { instantiate } from "./instance.ts";

/** Most clusters and services of one placer: the matrix is then 2 MiB. */
export const PLACE_CLUSTERS_MAX = 4096;
export const PLACE_SERVICES_MAX = 64;
/** Most terms besides the services. */
const PLACE_TERMS_MAX = 8;
/** Stands for a service that a cluster cannot reach, ms or ms per byte: large, and 0 calls of it still cost 0. */
export const UNREACHABLE = 1e30;
const LANES = 4;

export interface PlaceDemand {
  /** Calls to each service. */
  calls: Float32Array;
  /** Bytes exchanged with each service. */
  bytes: Float32Array;
  /** Term t of cluster c at t · clusters + c, ms. */
  terms: Float32Array;
  /** Learned correction of the service term, then of each term. */
  factors: Float32Array;
}

/** Milliseconds per cluster; views that the next `place` overwrites. */
export interface PlaceScores {
  serviceMs: Float32Array;
  totalMs: Float32Array;
}

export interface Placer {
  /** `latencyMs` and `msPerByte` of cluster c and service s at c · services + s; Infinity where unreachable. */
  setProximity(latencyMs: Float32Array, msPerByte: Float32Array): void;
  place(demand: PlaceDemand): PlaceScores;
}

interface Exports {
  readonly memory: { readonly buffer: ArrayBuffer };
  placeCreate(clusters: number, services: number): number;
  addressPlaceProximity(): number;
  addressPlaceDemand(): number;
  addressPlaceFactors(): number;
  addressPlaceTerms(): number;
  addressPlaceServiceMs(): number;
  addressPlaceTotalMs(): number;
  place(terms: number): void;
}

/** Throws RangeError on lengths that do not fit and on values that are negative or NaN. */
export class WasmPlacer implements Placer {
  readonly #wasm: Exports;
  readonly #clusters: number;
  readonly #services: number;
  readonly #lanes: number;
  readonly #proximity: Float32Array;
  readonly #demand: Float32Array;
  readonly #factors: Float32Array;
  readonly #terms: Float32Array;
  readonly #scores: PlaceScores;

  constructor(module: WebAssembly.Module, clusters: number, services: number) {
    checkCount("clusters", clusters, PLACE_CLUSTERS_MAX);
    checkCount("services", services, PLACE_SERVICES_MAX);
    const wasm = instantiate<Exports>(module);
    if (!wasm.placeCreate(clusters, services))
      throw new Error(`no memory for ${clusters} clusters × ${services} services`);
    const floats = (address: number, length: number) => new Float32Array(wasm.memory.buffer, address, length);
    this.#wasm = wasm;
    this.#clusters = clusters;
    this.#services = services;
    this.#lanes = Math.ceil(clusters / LANES) * LANES;
    this.#proximity = floats(wasm.addressPlaceProximity(), this.#lanes * services * 2);
    this.#demand = floats(wasm.addressPlaceDemand(), services * 2);
    this.#factors = floats(wasm.addressPlaceFactors(), PLACE_TERMS_MAX + 1);
    this.#terms = floats(wasm.addressPlaceTerms(), this.#lanes * PLACE_TERMS_MAX);
    this.#scores = {
      serviceMs: floats(wasm.addressPlaceServiceMs(), clusters),
      totalMs: floats(wasm.addressPlaceTotalMs(), clusters),
    };
  }

  setProximity(latencyMs: Float32Array, msPerByte: Float32Array): void {
    checkColumn("latencyMs", latencyMs, this.#clusters * this.#services);
    checkColumn("msPerByte", msPerByte, this.#clusters * this.#services);
    for (let c = 0; c < this.#clusters; c++) {
      for (let s = 0; s < this.#services; s++) {
        // Four clusters a block; in a block, per service, four latencies and four ms per byte.
        const at = (Math.floor(c / LANES) * this.#services + s) * LANES * 2 + (c % LANES);
        this.#proximity[at] = Math.min(UNREACHABLE, latencyMs[c * this.#services + s] as number);
        this.#proximity[at + LANES] = Math.min(UNREACHABLE, msPerByte[c * this.#services + s] as number);
      }
    }
  }

  place(demand: PlaceDemand): PlaceScores {
    const count = demand.factors.length - 1;
    checkDemand(demand, this.#clusters, this.#services);
    for (let s = 0; s < this.#services; s++) {
      this.#demand[s * 2] = demand.calls[s] as number;
      this.#demand[s * 2 + 1] = demand.bytes[s] as number;
    }
    this.#factors.set(demand.factors);
    for (let t = 0; t < count; t++) {
      this.#terms.set(demand.terms.subarray(t * this.#clusters, (t + 1) * this.#clusters), t * this.#lanes);
    }
    this.#wasm.place(count);
    return this.#scores;
  }
}

/** Throws RangeError where a demand does not fit the placer. Shared with the oracle. */
export function checkDemand(demand: PlaceDemand, clusters: number, services: number): void {
  const count = demand.factors.length - 1;
  if (count < 0 || count > PLACE_TERMS_MAX)
    throw new RangeError(`factors: got ${count + 1}, at most ${PLACE_TERMS_MAX + 1}`);
  checkColumn("calls", demand.calls, services);
  checkColumn("bytes", demand.bytes, services);
  if (demand.terms.length !== count * clusters) {
    throw new RangeError(`terms: got ${demand.terms.length} values, expected ${count * clusters}`);
  }
}

function checkCount(name: string, got: number, max: number): void {
  if (!Number.isInteger(got) || got < 1 || got > max) throw new RangeError(`${name}: got ${got}, expected 1 to ${max}`);
}

function checkColumn(name: string, column: Float32Array, length: number): void {
  if (column.length !== length) throw new RangeError(`${name}: got ${column.length} values, expected ${length}`);
  for (let i = 0; i < length; i++) {
    if (!((column[i] as number) >= 0)) throw new RangeError(`${name}[${i}]: got ${column[i]}, expected 0 or more`);
  }
}

// Nearest neighbours by locality-sensitive hashing with random hyperplanes: what a classifier builds from its model file
// before it can answer. [M. Charikar, STOC 2002]
// In: int8 vectors, one after another. Out: for a query vector, the id of the most similar one among those of its bucket.
import { seededRandom } from "../random.ts";

export const DIMENSIONS = 64;
const TABLES = 2;
const PLANES_PER_TABLE = 10;
const PLANE_SEED = 20_261_125;

export class VectorIndex {
  readonly #vectors: Int8Array;
  readonly #planes: Float32Array;
  /** Per table: bucket → ids. */
  readonly #buckets: Map<number, number[]>[] = [];

  constructor(bytes: Uint8Array) {
    this.#vectors = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength - (bytes.byteLength % DIMENSIONS));
    const random = seededRandom(PLANE_SEED);
    this.#planes = Float32Array.from({ length: TABLES * PLANES_PER_TABLE * DIMENSIONS }, () => random() - 0.5);
    for (let table = 0; table < TABLES; table++) this.#buckets.push(this.#fill(table));
  }

  get size(): number {
    return this.#vectors.length / DIMENSIONS;
  }

  /** Id of the most similar vector (largest dot product) in the query's buckets; −1 where they are empty. */
  nearest(query: Int8Array): number {
    let best = -1;
    let bestProduct = Number.NEGATIVE_INFINITY;
    for (let table = 0; table < TABLES; table++) {
      for (const id of this.#buckets[table]!.get(this.#hash(table, query, 0)) ?? []) {
        let product = 0;
        for (let d = 0; d < DIMENSIONS; d++) product += this.#vectors[id * DIMENSIONS + d]! * query[d]!;
        if (product > bestProduct) [best, bestProduct] = [id, product];
      }
    }
    return best;
  }

  #fill(table: number): Map<number, number[]> {
    const buckets = new Map<number, number[]>();
    for (let id = 0; id < this.size; id++) {
      const hash = this.#hash(table, this.#vectors, id * DIMENSIONS);
      const bucket = buckets.get(hash);
      if (bucket === undefined) buckets.set(hash, [id]);
      else bucket.push(id);
    }
    return buckets;
  }

  #hash(table: number, vectors: Int8Array, offset: number): number {
    let hash = 0;
    for (let plane = 0; plane < PLANES_PER_TABLE; plane++) {
      const base = (table * PLANES_PER_TABLE + plane) * DIMENSIONS;
      let side = 0;
      for (let d = 0; d < DIMENSIONS; d++) side += this.#planes[base + d]! * vectors[offset + d]!;
      hash = hash * 2 + (side >= 0 ? 1 : 0);
    }
    return hash;
  }
}

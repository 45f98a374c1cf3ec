// Nearest neighbours by locality-sensitive hashing with random hyperplanes: what a classifier builds from its model file
// before it can answer. [M. Charikar, STOC 2002]
// In: int8 vectors, one after another. Out: for a query vector, the id of the most similar one among those of its bucket.
export const DIMENSIONS = 64;
const TABLES = 2;
const PLANES_PER_TABLE = 8;

export class VectorIndex {
  #vectors;
  #planes;
  /** Per table: bucket → ids. */
  #buckets;

  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.#vectors = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength - (bytes.byteLength % DIMENSIONS));
    // Any fixed directions will do: the first vectors of the model are as random as others, and cost nothing.
    this.#planes = this.#vectors.slice(0, TABLES * PLANES_PER_TABLE * DIMENSIONS);
    this.#buckets = Array.from({ length: TABLES }, (_, table) => this.#fill(table));
  }

  get size() {
    return this.#vectors.length / DIMENSIONS;
  }

  /** Id of the most similar vector (largest dot product) in the query's buckets; −1 where they are empty. */
  nearest(query) {
    let best = -1;
    let bestProduct = Number.NEGATIVE_INFINITY;
    for (let table = 0; table < TABLES; table++) {
      for (const id of this.#buckets[table].get(this.#hash(table, query, 0)) ?? []) {
        const product = dot(this.#vectors, id * DIMENSIONS, query, 0);
        if (product > bestProduct) [best, bestProduct] = [id, product];
      }
    }
    return best;
  }

  #fill(table) {
    const buckets = new Map();
    for (let id = 0; id < this.size; id++) {
      const hash = this.#hash(table, this.#vectors, id * DIMENSIONS);
      const bucket = buckets.get(hash);
      if (bucket === undefined) buckets.set(hash, [id]);
      else bucket.push(id);
    }
    return buckets;
  }

  #hash(table, vectors, offset) {
    let hash = 0;
    for (let plane = 0; plane < PLANES_PER_TABLE; plane++) {
      const side = dot(this.#planes, (table * PLANES_PER_TABLE + plane) * DIMENSIONS, vectors, offset);
      hash = hash * 2 + (side >= 0 ? 1 : 0);
    }
    return hash;
  }
}

function dot(a, aOffset, b, bOffset) {
  let product = 0;
  for (let d = 0; d < DIMENSIONS; d++) product += a[aOffset + d] * b[bOffset + d];
  return product;
}

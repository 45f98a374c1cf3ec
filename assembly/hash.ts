// Hashes of contexts. In: a running 64-bit hash and a value. Out: the next hash; its high half picks a line, its low half checks it.
// Values go in one at a time, from a hash of 0: two small values as (hash, value) would only be XORed and could change places.
// Algorithm: multiply by the golden ratio and fold the high half down (Fibonacci hashing, Knuth 6.4).

const GOLDEN: u64 = 0x9e3779b97f4a7c15;

// @ts-ignore: decorator
@inline
export function fold(hash: u64, value: u64): u64 {
  const product = (hash ^ value) * GOLDEN;
  return product ^ (product >> 32);
}

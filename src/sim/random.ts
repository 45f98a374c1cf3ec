// What a simulation draws besides core/random.ts: seeds by purpose, and exponential gaps. Strings are hashed by FNV-1a.

/** A seed of its own for each named purpose: adding draws to one leaves the others as they were. */
export function seedFor(seed: number, purpose: string): number {
  let hash = 0x811c9dc5 ^ seed;
  for (let i = 0; i < purpose.length; i++) hash = Math.imul(hash ^ purpose.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** Exponential with this mean: gaps of a Poisson process. */
export function exponential(random: () => number, mean: number): number {
  return -Math.log(1 - random()) * mean;
}

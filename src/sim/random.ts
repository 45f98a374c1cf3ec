// What a simulation draws besides core/random.ts: seeds by purpose, and exponential gaps.
import { fnv1a } from "../core/fnv.ts";

/** A seed of its own for each named purpose: adding draws to one leaves the others as they were. */
export function seedFor(seed: number, purpose: string): number {
  return fnv1a(purpose, seed);
}

/** Exponential with this mean: gaps of a Poisson process. */
export function exponential(random: () => number, mean: number): number {
  return -Math.log(1 - random()) * mean;
}

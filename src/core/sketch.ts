// Quantiles from integer counts in log buckets (as DDSketch does): eight buckets an octave, so ±4.4 % of the value.
// Counts add and subtract exactly, in any order: that is why a run's contribution can be taken back.
import type { Quantiles } from "../protocol.ts";

const BUCKETS_PER_OCTAVE = 8;
/** Name of the bucket of 0 and less. */
const ZERO = "z";

/** Integer counts by field name. A sketch is the fields that begin with its letter. */
export type Counts = Map<string, number>;

/** The field that counts `value` in the sketch called `letter`. */
export function bucketField(letter: string, value: number): string {
  return value > 0 ? letter + Math.floor(Math.log2(value) * BUCKETS_PER_OCTAVE) : letter + ZERO;
}

/** How many values a sketch has counted. */
export function countOf(counts: Counts, letter: string): number {
  let total = 0;
  for (const [field, count] of counts) if (field[0] === letter) total += count;
  return total;
}

/** p10, p50 and p90 of a sketch; null where it is empty. */
export function quantilesOf(counts: Counts, letter: string): Quantiles | null {
  const values = valuesAt(counts, letter, [0.1, 0.5, 0.9]);
  return values === null ? null : { p10: values[0]!, p50: values[1]!, p90: values[2]! };
}

/** At each share (0–1, rising) of a sketch's values; null where it is empty. */
export function valuesAt(counts: Counts, letter: string, shares: number[]): number[] | null {
  const buckets: { value: number; count: number }[] = [];
  let total = 0;
  for (const [field, count] of counts) {
    if (field[0] !== letter || count <= 0) continue;
    const name = field.slice(1);
    const value = name === ZERO ? 0 : 2 ** ((Number(name) + 0.5) / BUCKETS_PER_OCTAVE);
    buckets.push({ value, count });
    total += count;
  }
  if (total === 0) return null;
  buckets.sort((a, b) => a.value - b.value);
  return shares.map((share) => {
    let left = share * (total - 1);
    for (const { value, count } of buckets) {
      if (left < count) return Math.round(value * 1000) / 1000;
      left -= count;
    }
    return buckets.at(-1)!.value;
  });
}

/** The 99th percentile of a sketch with this median, at most OUTLIER_FACTOR medians: one value may be anybody's mistake. 0 where it is empty. */
export function highOf(counts: Counts, letter: string, median: number): number {
  const buckets: { bucket: number; count: number }[] = [];
  let total = 0;
  for (const [field, count] of counts) {
    if (field[0] !== letter || count <= 0) continue;
    total += count;
    const name = field.slice(1);
    if (name !== ZERO) buckets.push({ bucket: Number(name), count });
  }
  buckets.sort((a, b) => b.bucket - a.bucket);
  let above = 0;
  for (const { bucket, count } of buckets) {
    above += count;
    if (above > 0.01 * total) return Math.min(OUTLIER_FACTOR * median, 2 ** ((bucket + 1) / BUCKETS_PER_OCTAVE));
  }
  return 0;
}

/** Values beyond so many times the median count as that. */
const OUTLIER_FACTOR = 8;

/**
 * A mean that no single value can move further than its share of the counts allows: `mean`, which is exact, where no value of the sketch lies
 * far above its median; else the mean of the sketch with such values cut. Without a sketch, or a median of 0: `mean`.
 */
export function boundedMean(mean: number, counts: Counts, letter: string): number {
  const median = quantilesOf(counts, letter)?.p50 ?? 0;
  if (median <= 0) return mean;
  const most = median * OUTLIER_FACTOR;
  let sum = 0;
  let total = 0;
  let isCut = false;
  for (const [field, count] of counts) {
    if (field[0] !== letter || count <= 0) continue;
    const name = field.slice(1);
    const value = name === ZERO ? 0 : 2 ** ((Number(name) + 0.5) / BUCKETS_PER_OCTAVE);
    isCut ||= value > most;
    sum += count * Math.min(value, most);
    total += count;
  }
  return isCut ? sum / total : mean;
}

/** Whole numbers of a sketch with the share of each, smallest first; a bucket stands for its largest, which is exact up to 11. */
export function wholeShares(counts: Counts, letter: string): { count: number; share: number }[] {
  const shares: { count: number; share: number }[] = [];
  let total = 0;
  for (const [field, times] of counts) {
    if (field[0] !== letter || times <= 0) continue;
    const name = field.slice(1);
    const count = name === ZERO ? 0 : Math.floor(2 ** ((Number(name) + 1) / BUCKETS_PER_OCTAVE));
    shares.push({ count, share: times });
    total += times;
  }
  for (const entry of shares) entry.share /= total;
  return shares.sort((a, b) => a.count - b.count);
}

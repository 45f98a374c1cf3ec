// How early and how late a task follows another. In: the counts of their transitions, and of the first one's durations. Out: quantiles of the
// time from start to start. Delays and durations are sketched apart, so their quantiles are added: exact where one of both hardly varies.
import { type Counts, highOf, quantilesOf, valuesAt } from "./sketch.ts";

/** Executions from which on one in a hundred is known well enough to rely on. */
export const LEAD_TAIL_MIN = 50;

export interface Tails {
  p01: number;
  p10: number;
  p90: number;
  p99: number;
}

export function tailsOf(counts: Counts, letter: string, p99: number): Tails | null {
  const values = valuesAt(counts, letter, [0.01, 0.1, 0.9]);
  return values === null ? null : { p01: values[0]!, p10: values[1]!, p90: values[2]!, p99 };
}

const AT_ONCE: Tails = { p01: 0, p10: 0, p90: 0, p99: 0 };

/** A delay counts from the source's end, but that of a call from its start. */
export function leadTailsOf(kinds: { kind: string; counts: Counts }[], durations: Tails | null): Tails | null {
  const lead: Tails = { ...AT_ONCE, p01: Number.POSITIVE_INFINITY, p10: Number.POSITIVE_INFINITY };
  for (const { kind, counts } of kinds) {
    const median = quantilesOf(counts, "d")?.p50;
    const before = kind === "call" ? AT_ONCE : durations;
    if (median === undefined || before === null) return null;
    const delay = tailsOf(counts, "d", kind === "call" ? highOf(counts, "d", median) : median)!;
    lead.p01 = Math.min(lead.p01, before.p01 + delay.p01);
    lead.p10 = Math.min(lead.p10, before.p10 + delay.p10);
    lead.p90 = Math.max(lead.p90, before.p90 + delay.p90);
    lead.p99 = Math.max(lead.p99, before.p99 + delay.p99);
  }
  return Number.isFinite(lead.p10) ? lead : null;
}

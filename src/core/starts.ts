// Measured starts. In: how long each start of a task's runtime took, whoever asked for it (a command's result, a hit's or a late
// one's saving, a miss's cost). Out: profiles whose cold start is that of a whole start.
// Execution records cannot tell it once prewarming works: they hold what the caller waited, which is then the rest of a start or
// nothing. A planner that believed them would start ever later, until everything is cold again, and so on in a circle.
import type { Quantiles } from "../protocol.ts";
import type { TaskProfile } from "./graph.ts";
import { ROWS_MAX } from "./rows.ts";
import { bucketField, type Counts, quantilesOf } from "./sketch.ts";

/** At this many starts all counts of a task are halved: what was usual some hundred starts ago matters less than today. */
const STARTS_HALVED_AT = 256;
const LETTER = "c";

/** By task: counts by bucket. */
export type StartsText = [string, [string, number][]][];

export class MeasuredStarts {
  readonly #starts = new Map<string, { counts: Counts; total: number; coldStartMs: TaskProfile["coldStartMs"] }>();

  constructor(text: StartsText = []) {
    for (const [task, counts] of text) {
      const total = counts.reduce((sum, [, count]) => sum + count, 0);
      this.#starts.set(task, { counts: new Map(counts), total, coldStartMs: null });
    }
  }

  /** One whole start took so long, ms. Nothing is learned from 0 or an unknown time. */
  note(task: string, startMs: number): void {
    if (!(startMs > 0)) return;
    let known = this.#starts.get(task);
    if (known === undefined) {
      if (this.#starts.size >= ROWS_MAX.task) return;
      known = { counts: new Map(), total: 0, coldStartMs: null };
      this.#starts.set(task, known);
    }
    const field = bucketField(LETTER, startMs);
    known.counts.set(field, (known.counts.get(field) ?? 0) + 1);
    known.coldStartMs = null;
    if (++known.total < STARTS_HALVED_AT) return;
    known.total = 0;
    for (const [bucket, count] of known.counts) {
      const half = Math.floor(count / 2);
      if (half === 0) known.counts.delete(bucket);
      else known.counts.set(bucket, half);
      known.total += half;
    }
  }

  /**
   * The profile with measured starts, and the longer of both cold starts, quantile by quantile; as it was where none has been measured. A record knows what
   * a call waited for objects beside its runtime, but also waits that preparations shortened; a measured start knows neither.
   */
  correct(profile: TaskProfile): TaskProfile {
    const measured = this.#quantilesOf(profile.task);
    if (measured === null) return profile;
    const recorded = profile.coldStartMs ?? measured;
    const longer = (quantile: keyof Quantiles) => Math.max(measured[quantile], recorded[quantile]);
    const coldStartMs = { p10: longer("p10"), p50: longer("p50"), p90: longer("p90") };
    return { ...profile, coldStartMs, startMs: measured };
  }

  /** For people: how long starts took, and how many were counted (the last some hundred), by task. */
  learned(): { task: string; count: number; wholeStartMs: Quantiles }[] {
    return [...this.#starts].flatMap(([task, { total }]) => {
      const wholeStartMs = this.#quantilesOf(task);
      return wholeStartMs === null ? [] : [{ task, count: total, wholeStartMs }];
    });
  }

  text(): StartsText {
    return [...this.#starts].map(([task, { counts }]) => [task, [...counts]]);
  }

  #quantilesOf(task: string): Quantiles | null {
    const known = this.#starts.get(task);
    if (known === undefined) return null;
    known.coldStartMs ??= quantilesOf(known.counts, LETTER);
    return known.coldStartMs;
  }
}

// The graph's rows as integer counts. In: contributions of runs, added and taken back. Out: the rows, and which have changed.
// What the counts mean stands in contribution.ts; what people read of them is made by graph.ts.
import { type Contribution, dayField, type RowFamily, rowKey, rowParts } from "./contribution.ts";
import type { Counts } from "./sketch.ts";

export type Rows = ReadonlyMap<string, Counts>;

/**
 * Rows of a workspace at most, by family: together some 60 MB would be too much for one Durable Object, so a row has about 1 KiB
 * and these add up to 16 MB of rows that are full.
 */
export const ROWS_MAX: Record<RowFamily, number> = {
  task: 4_096,
  transition: 16_384,
  service: 8_192,
  object: 16_384,
  template: 4_096,
  chain: 4_096,
  runs: 1,
};
/** Days of which counts are kept, back from the newest: with a half-life of a week the weight of an older one is below 1 ‰. */
const DAYS_KEPT = 70;
/** A week: what was usual last week has half the weight of what is usual now. */
const HALF_LIFE_DAYS = 7;

/** One family's rows: how many there are, how many there may be, and how often one more was refused. */
export interface RowLimit {
  rows: RowFamily;
  count: number;
  max: number;
  refused: number;
}

export class GraphRows {
  readonly rows = new Map<string, Counts>();
  /** Keys of rows that changed since they were last taken. */
  readonly changed = new Set<string>();
  /** By family, what was refused for want of rows: told as a warning, because from there on the graph is not whole. */
  readonly refused = new Map<RowFamily, number>();
  /**
   * Families that have refused a row: from then on they take none. So each row they have counts all of its runs, and no
   * correction of a run takes back what was never added.
   */
  readonly #closed = new Set<RowFamily>();
  readonly #sizes = new Map<RowFamily, number>();
  readonly #max: Record<RowFamily, number>;

  constructor(max: Record<RowFamily, number> = ROWS_MAX) {
    this.#max = max;
  }

  /** A row as it was stored. */
  restore(family: RowFamily, parts: string[], counts: Counts): void {
    const key = rowKey(family, ...parts);
    if (!this.rows.has(key)) this.#sizes.set(family, (this.#sizes.get(family) ?? 0) + 1);
    this.rows.set(key, counts);
  }

  /** Adds a run's contribution, or takes it back (`sign` -1). A row without counts is gone. */
  apply(contribution: Contribution, sign: 1 | -1): void {
    for (const [key, counts] of contribution) {
      let row = this.rows.get(key);
      if (row === undefined) {
        if (sign < 0) continue; // It had been refused.
        const { family } = rowParts(key);
        const size = this.#sizes.get(family) ?? 0;
        if (size >= this.#max[family]) this.#closed.add(family);
        if (this.#closed.has(family)) {
          this.noteRefused(family);
          continue;
        }
        this.#sizes.set(family, size + 1);
        row = new Map();
        this.rows.set(key, row);
      }
      addCounts(row, counts, sign);
      this.changed.add(key);
      if (row.size > 0) continue;
      this.rows.delete(key);
      const { family } = rowParts(key);
      this.#sizes.set(family, this.#sizes.get(family)! - 1);
    }
  }

  /** Whether one more task would be counted, when `tasks` names are known already (some of them in open runs only). */
  hasRoomForTasks(tasks: number): boolean {
    return Math.max(tasks, this.#sizes.get("task") ?? 0) < this.#max.task;
  }

  noteRefused(family: RowFamily): void {
    this.refused.set(family, (this.refused.get(family) ?? 0) + 1);
  }

  /** How full each family is. */
  limits(): RowLimit[] {
    return (Object.keys(this.#max) as RowFamily[])
      .filter((family) => family !== "runs")
      .map((family) => ({
        rows: family,
        count: this.#sizes.get(family) ?? 0,
        max: this.#max[family],
        refused: this.refused.get(family) ?? 0,
      }));
  }

  /** What `restoreRefusals` takes: the rows alone do not tell it. */
  refusalsText(): string {
    return JSON.stringify({ refused: [...this.refused], closed: [...this.#closed] });
  }

  restoreRefusals(text: string): void {
    const { refused, closed } = JSON.parse(text) as { refused: [RowFamily, number][]; closed: RowFamily[] };
    for (const [family, count] of refused) this.refused.set(family, count);
    for (const family of closed) this.#closed.add(family);
  }

  /** Days are counted from the newest: when that moves, every row with days is to be written anew. */
  touchDays(): void {
    for (const key of this.rows.keys()) {
      const { family } = rowParts(key);
      if (family === "task" || family === "transition" || family === "chain") this.changed.add(key);
    }
  }

  /** The rows as they would be with these contributions too; this object stays as it is. */
  with(contributions: Iterable<Contribution>): Map<string, Counts> {
    const merged = new Map(this.rows);
    const own = new Set<string>();
    for (const contribution of contributions) {
      for (const [key, counts] of contribution) {
        if (!merged.has(key) && this.#closed.has(rowParts(key).family)) continue;
        if (!own.has(key)) {
          own.add(key);
          merged.set(key, new Map(merged.get(key)));
        }
        addCounts(merged.get(key)!, counts, 1);
      }
    }
    return merged;
  }
}

function addCounts(row: Counts, counts: Counts, sign: 1 | -1): void {
  for (const [field, count] of counts) {
    const sum = (row.get(field) ?? 0) + sign * count;
    // A day that was trimmed before its run was taken back stays away: only days are ever trimmed.
    if (sum === 0 || (sum < 0 && field[0] === "y")) row.delete(field);
    else row.set(field, sum);
  }
}

/** The newest day of any transition; null where no time is known. Forward decay measures from it, not from a clock. */
export function newestDayOf(rows: Rows): number | null {
  let newest: number | null = null;
  for (const [key, counts] of rows) {
    if (rowParts(key).family !== "transition") continue;
    for (const field of counts.keys()) {
      const day = field[0] === "y" ? Number(field.slice(1)) : Number.NaN;
      if (day > (newest ?? Number.NEGATIVE_INFINITY)) newest = day;
    }
  }
  return newest;
}

/** Σ count × 2^(−age ÷ half-life), age in days before the newest. What has no known time does not decay. */
export function weightOf(counts: Counts, newestDay: number | null): number {
  let weight = counts.get(dayField(Number.NaN)) ?? 0;
  if (newestDay === null) return weight;
  // Summed from the oldest day on: the same counts give the same bits whatever order they came in.
  const days = [...counts.keys()].filter((field) => field[0] === "y" && field !== "yu").sort();
  for (const field of days) {
    const age = newestDay - Number(field.slice(1));
    if (age < DAYS_KEPT) weight += counts.get(field)! * 2 ** (-Math.max(0, age) / HALF_LIFE_DAYS);
  }
  return Math.round(weight * 1e6) / 1e6;
}

/** Takes out the days that weigh nothing any more. */
export function trimDays(counts: Counts, newestDay: number | null): void {
  if (newestDay === null) return;
  for (const field of counts.keys()) {
    if (field[0] === "y" && field !== "yu" && newestDay - Number(field.slice(1)) >= DAYS_KEPT) counts.delete(field);
  }
}

/** Executions of each task over all its versions. */
export function taskCountsOf(rows: Rows): Map<string, number> {
  const totals = new Map<string, number>();
  for (const [key, counts] of rows) {
    const { family, parts } = rowParts(key);
    if (family === "task") totals.set(parts[0]!, (totals.get(parts[0]!) ?? 0) + (counts.get("n") ?? 0));
  }
  return totals;
}

/** The row of the whole workspace: runs and their faults. */
export function runTotalsOf(rows: Rows): { runs: number; skewed: number; cyclic: number; orphans: number } {
  const counts = rows.get(rowKey("runs"));
  const of = (field: string) => counts?.get(field) ?? 0;
  return { runs: of("n"), skewed: of("s"), cyclic: of("c"), orphans: of("o") };
}

/** For whoever reads the graph: what it has had no room for. */
export function warningsOf(limits: RowLimit[]): string[] {
  return limits
    .filter(({ refused }) => refused > 0)
    .map(({ rows, count, max, refused }) => {
      const what = `The graph has ${count} of at most ${max} ${rows} rows and has refused ${refused} more`;
      return rows === "task"
        ? `${what}: executions of new tasks are rejected. Leave ids out of task names, or use another workspace.`
        : `${what}: what it shows of ${rows}s is exact, but not everything. Leave ids out of names and URIs, or name them in params.`;
    });
}

/** A row's counts as stored text: fields in order, so that equal rows are equal text. */
export function countsText(counts: Counts): string {
  return JSON.stringify(Object.fromEntries([...counts].sort(([a], [b]) => (a < b ? -1 : 1))));
}

export function countsOfText(text: string): Counts {
  return new Map(Object.entries(JSON.parse(text) as Record<string, number>));
}

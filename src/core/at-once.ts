// How many runtimes the executions of one task need in a run. In: an assembled run. Out: for each task that it executes more than once,
// most executions that ran at one time, and how many there were in all. Where they run one after the other, each finds the runtime that
// another has left: a hundred of a tenth of a second each, spread over a minute, need two or three.
// Times are those with everything warm: what is prepared is.
// Over all runs the most follow a power of how many there are: runs of 30 executions need 8, those of 400 need 32. It is fitted by least squares of
// the logarithms, whose sums the task's row holds.
import { warmEndOf, warmStartOf } from "./profile/cold.ts";
import type { AssembledRun } from "./profile.ts";
import type { Counts } from "./sketch.ts";

export interface AtOnce {
  executions: number;
  most: number;
}

/** A task of which some time is unknown is left out. */
export function atOnceOf({ executions }: AssembledRun): Map<string, AtOnce> {
  const byTask = new Map<string, number[]>();
  for (const [i, { task }] of executions.entries()) {
    const of = byTask.get(task);
    if (of === undefined) byTask.set(task, [i]);
    else of.push(i);
  }
  const found = new Map<string, AtOnce>();
  for (const [task, of] of byTask) {
    if (of.length === 1) continue;
    const starts = Float64Array.from(of, (i) => warmStartOf(executions[i]!)).sort();
    const ends = Float64Array.from(of, (i) => warmEndOf(executions[i]!)).sort();
    // NaN sorts last.
    if (Number.isNaN(starts.at(-1)!) || Number.isNaN(ends.at(-1)!)) continue;
    found.set(task, { executions: of.length, most: mostOf(starts, ends) });
  }
  return found;
}

/** A runtime that is left at the very moment of a start can be taken. */
function mostOf(starts: Float64Array, ends: Float64Array): number {
  let most = 1;
  let ended = 0;
  for (let started = 0; started < starts.length; started++) {
    while (ends[ended]! <= starts[started]!) ended++;
    most = Math.max(most, started + 1 - ended);
  }
  return most;
}

/** Most at one time ≈ `first` × executions ^ `power`; one standard deviation is `spread` octaves. */
export interface AtOnceLaw {
  first: number;
  power: number;
  spread: number;
}

/** Sums of logarithms are counted in so many parts of an octave. */
const PARTS_PER_OCTAVE = 1_024;
/** Until the runs differ by more than an octave, their most is taken to be a share of their executions. */
const PRIOR_OCTAVES_SQUARED = 1;

/** What a run adds to its task's row: whole numbers, so that it can be taken back. */
export function atOnceFields({ executions, most }: AtOnce): [field: string, sum: number][] {
  const x = Math.log2(executions);
  const y = Math.log2(most);
  const sums: [string, number][] = [
    ["X", x],
    ["Y", y],
    ["XX", x * x],
    ["XY", x * y],
    ["YY", y * y],
  ];
  return sums.map(([field, sum]) => [field, Math.round(sum * PARTS_PER_OCTAVE)]);
}

/** `runs`: how many have added to the row. */
export function atOnceLawOf(counts: Counts, runs: number): AtOnceLaw | null {
  const mean = (field: string) => (counts.get(field) ?? 0) / PARTS_PER_OCTAVE / runs;
  if (runs === 0 || !counts.has("X")) return null;
  const [x, y] = [mean("X"), mean("Y")];
  const [xx, xy, yy] = [mean("XX") - x * x, mean("XY") - x * y, mean("YY") - y * y];
  const prior = PRIOR_OCTAVES_SQUARED / runs;
  const power = Math.min(1, Math.max(0, (xy + prior) / (xx + prior)));
  return {
    first: 2 ** (y - power * x),
    power,
    spread: Math.sqrt(Math.max(0, yy - 2 * power * xy + power * power * xx)),
  };
}

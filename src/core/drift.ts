// Drift. In: per sealed run what was foretold at its start, and what came. Out: whether the workflow has changed, once per change; and how
// little the model is to keep, for some runs after one, of what it had counted before.
// Page's test (E. Page, "Continuous Inspection Schemes", Biometrika 1954) per kind of run (its first task), on a run's greatest surprise in
// units of its own spread: the sum of what each run exceeds the usual by, less an allowance, starts anew whenever it falls to zero, and is a
// change when it passes a threshold. One surprising run counts for little: several in a row make a change. The greatest and not the mean: in
// a run of thirty tasks, most of them as ever, the mean hardly moves when one is replaced (docs/decisions/0066).
// State is plain JSON.
import { OCCURRENCES_MAX } from "./chain-engine.ts";
import { remember } from "./remember.ts";
import type { Review } from "./review.ts";

/** Runs before the usual is known. */
const RUNS_MIN = 20;
/** Weight of a new run in the usual, once it is known. */
const USUAL_RATE = 0.02;
/** In spreads: what a run may exceed the usual by, what one run counts at most, and the sum that is a change. */
const ALLOWANCE = 0.5;
const EXCESS_MAX = 4;
const THRESHOLD = 8;
/** Losses this close are the same, nats: keeps the spread of a workflow without any surprise from being zero. */
const SPREAD_MIN = 0.2;
/** So sure is nobody: bounds what one prediction counts. */
const PROBABILITY_MIN = 0.002;
/** After a change: of so many runs of its kind, which are enough to know the new one, */
export const RELEARNING_RUNS = 16;
/** the contexts keep fewer than so many occurrences of what came before. */
const RELEARNING_KEPT = 4;
const ROOTS_MAX = 1_024;
/** Changes remembered for people. */
export const CHANGES_MAX = 64;

interface Watch {
  runs: number;
  mean: number;
  variance: number;
  sum: number;
  /** Runs that are still to be learned anew after a change. */
  relearning: number;
}

export interface Change {
  /** First task of the runs that changed. */
  root: string;
  /** When the run ended that made it certain: of an imported log this is history, and no news. */
  atMs: number;
  /** Log-loss of a run's most surprising prediction, nats: usual until then, and of the run that made it a change. */
  usualLoss: number;
  loss: number;
}

export interface DriftState {
  /** By root. (States from before the greatest surprise was watched call theirs `watches`: another measure, left behind.) */
  roots: Record<string, Watch>;
  /** Youngest last. */
  changes: Change[];
}

export class DriftDetector {
  readonly #watches: Map<string, Watch>;
  readonly #changes: Change[];

  constructor(state?: DriftState) {
    this.#watches = new Map(Object.entries(structuredClone(state?.roots ?? {})));
    this.#changes = structuredClone(state?.changes ?? []);
  }

  /** The change that this run, which ended at `atMs`, makes certain; else null. */
  note(review: Review, atMs: number): Change | null {
    const loss = surpriseOf(review);
    if (loss === null) return null;
    const watch = this.#watches.get(review.root) ?? { runs: 0, mean: 0, variance: 0, sum: 0, relearning: 0 };
    remember(this.#watches, review.root, watch, ROOTS_MAX);
    const excess = (loss - watch.mean) / Math.max(SPREAD_MIN, Math.sqrt(watch.variance));
    if (watch.runs >= RUNS_MIN) {
      watch.sum = Math.max(0, watch.sum + Math.max(-EXCESS_MAX, Math.min(EXCESS_MAX, excess)) - ALLOWANCE);
    }
    if (watch.sum > THRESHOLD) {
      const change = { root: review.root, atMs, usualLoss: watch.mean, loss };
      this.#changes.push(change);
      // Runs are sealed in the order in which they came: an import brings old ones after young ones.
      this.#changes.sort((a, b) => a.atMs - b.atMs);
      if (this.#changes.length > CHANGES_MAX) this.#changes.shift();
      // What is usual now has to be learned anew.
      Object.assign(watch, { runs: 0, mean: 0, variance: 0, sum: 0, relearning: RELEARNING_RUNS });
      return change;
    }
    const rate = Math.max(USUAL_RATE, 1 / ++watch.runs);
    // A surprise is no measure of what is usual: it counts no more than it did above, or the next one would be none.
    const mostAway = EXCESS_MAX * Math.max(SPREAD_MIN, Math.sqrt(watch.variance));
    const away = watch.runs > RUNS_MIN ? Math.min(mostAway, loss - watch.mean) : loss - watch.mean;
    watch.mean += rate * away;
    watch.variance = (1 - rate) * (watch.variance + rate * away * away);
    return null;
  }

  /** How many occurrences the model is to keep when it learns a run of this kind: asked once for each run that it learns. */
  keptOf(root: string): number {
    const watch = this.#watches.get(root);
    if (watch === undefined || watch.relearning === 0) return OCCURRENCES_MAX;
    watch.relearning--;
    return RELEARNING_KEPT;
  }

  /** Kinds of run that are being learned anew, and how many runs of each are still to come. */
  relearning(): { root: string; runs: number }[] {
    return [...this.#watches].flatMap(([root, { relearning: runs }]) => (runs === 0 ? [] : [{ root, runs }]));
  }

  /** Youngest last. */
  changes(): readonly Change[] {
    return this.#changes;
  }

  reset(): void {
    this.#watches.clear();
    this.#changes.length = 0;
  }

  state(): DriftState {
    return structuredClone({ roots: Object.fromEntries(this.#watches), changes: this.#changes });
  }
}

/** Log-loss of the most surprising of what was foretold at the run's start, nats; null where nothing was and nothing came. */
function surpriseOf({ foretold }: Review): number | null {
  let surprise: number | null = null;
  for (const { execution, probability, happened } of foretold) {
    if (execution !== 0) continue;
    const p = Math.min(1 - PROBABILITY_MIN, Math.max(PROBABILITY_MIN, probability));
    surprise = Math.max(surprise ?? 0, -Math.log(happened ? p : 1 - p));
  }
  return surprise;
}

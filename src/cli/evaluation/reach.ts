// How well is it told what executes at all? In: cases in order. Out: Brier score, calibration and lead-time coverage over the last
// part of them, and the Brier scores of two baselines over the same pairs of (execution, task). Everyone learns a case before the
// next begins, or, where `knownAfterMs` says so, only that long after its end, as in service.
// A pair counts where anyone gives it a probability or the task did execute; all other pairs are rightly 0 for everyone.
import type { WasmEngine } from "../../core/engine.ts";
import { type Case, type Cases, historyOf, reachedFrom } from "./cases.ts";
import { calibrationError } from "./score.ts";

const ROWS = 255;
/** The walk over edges stops where a product falls below this: it could add 1e-6 to a squared error. */
const PRODUCT_FLOOR = 1e-3;

export interface ReachResult {
  predictions: number;
  pairs: number;
  brier: number;
  ece: number;
  /** Share of first starts that fell between p10 and p90. */
  leadCoverage: number;
  baselines: { name: string; brier: number }[];
  /** What a counter of whole paths would have with the test part itself as its past: nothing that sees only paths gets below. */
  hindsightBrier: number;
}

/** Longest context that is counted, tasks: far deeper than traces are, and a long case must not cost the cube of its length. */
const CONTEXT_TASKS_MAX = 64;

/** How often a context came and after how many of those each task executed (or was caused directly). */
interface Counts {
  total: number;
  hits: Map<number, number>;
}

class ReachBaselines {
  readonly #contexts = new Map<string, Counts>();
  readonly #edges = new Map<number, Counts>();

  /** Counts of the longest suffix of the path that has been seen. */
  longestContext(path: Uint32Array): Map<number, number> {
    for (let k = Math.min(path.length, CONTEXT_TASKS_MAX); k >= 1; k--) {
      const counts = this.#contexts.get(path.subarray(path.length - k).join());
      if (counts !== undefined) return new Map([...counts.hits].map(([task, n]) => [task, n / counts.total]));
    }
    return new Map();
  }

  /** The likeliest way to each task: the largest product of edge probabilities (Dijkstra over −log). */
  edgeProduct(source: number): Map<number, number> {
    const products = new Map<number, number>();
    const open = new Map<number, number>();
    const relax = (from: number, product: number) => {
      const edges = this.#edges.get(from);
      for (const [task, n] of edges?.hits ?? []) {
        const reached = (product * n) / (edges as Counts).total;
        if (!products.has(task) && reached >= PRODUCT_FLOOR && reached > (open.get(task) ?? 0)) open.set(task, reached);
      }
    };
    relax(source, 1);
    while (open.size > 0) {
      const [task, product] = [...open].reduce((a, b) => (b[1] > a[1] ? b : a));
      open.delete(task);
      products.set(task, product);
      relax(task, product);
    }
    return products;
  }

  learn(path: Uint32Array, reached: number[], caused: number[]): void {
    for (let k = 1; k <= Math.min(path.length, CONTEXT_TASKS_MAX); k++)
      add(this.#contexts, path.subarray(path.length - k).join(), reached);
    add(this.#edges, path.at(-1) as number, caused);
  }
}

/** Sum of squares of the frequencies against what they are the frequencies of: n · p · (1 − p) of each context and task. */
function hindsightSquares(contexts: Map<string, Counts>): number {
  let squares = 0;
  for (const { total, hits } of contexts.values()) for (const n of hits.values()) squares += n * (1 - n / total);
  return squares;
}

function add<Key>(counters: Map<Key, Counts>, key: Key, tasks: number[]): void {
  let counts = counters.get(key);
  if (counts === undefined) {
    counts = { total: 0, hits: new Map() };
    counters.set(key, counts);
  }
  counts.total++;
  for (const task of tasks) counts.hits.set(task, (counts.hits.get(task) ?? 0) + 1);
}

/** Tasks of the executions that name `source` among their triggers. */
function causedBy(run: Case, source: number): number[] {
  const caused = new Set<number>();
  for (let i = source + 1; i < run.tasks.length; i++) {
    if (run.triggersOf(i).includes(source)) caused.add(run.tasks[i] as number);
  }
  return [...caused];
}

/** Sums over the pairs of the test part. */
class Tally {
  predictions = 0;
  readonly probabilities: number[] = [];
  readonly hits: number[] = [];
  readonly #squares = [0, 0, 0];
  /** By whole path. */
  readonly #contexts = new Map<string, Counts>();
  #leads = 0;
  #covered = 0;

  add(path: Uint32Array, forecasts: Map<number, number>[], reached: Map<number, number>): void {
    this.predictions++;
    add(this.#contexts, path.subarray(-CONTEXT_TASKS_MAX).join(), [...reached.keys()]);
    for (const task of new Set([...reached.keys(), ...forecasts.flatMap((forecast) => [...forecast.keys()])])) {
      const y = reached.has(task) ? 1 : 0;
      forecasts.forEach((forecast, k) => {
        this.#squares[k] = (this.#squares[k] as number) + ((forecast.get(task) ?? 0) - y) ** 2;
      });
      this.probabilities.push(forecasts[0]?.get(task) ?? 0);
      this.hits.push(y);
    }
  }

  addLead(leadMs: number | undefined, p10: number, p90: number): void {
    if (leadMs === undefined || Number.isNaN(leadMs) || Number.isNaN(p10)) return;
    this.#leads++;
    if (leadMs >= p10 && leadMs <= p90) this.#covered++;
  }

  result(): ReachResult {
    const pairs = Math.max(1, this.hits.length);
    const [brier, backOff, product] = this.#squares.map((sum) => sum / pairs) as [number, number, number];
    return {
      predictions: this.predictions,
      pairs: this.hits.length,
      brier,
      ece: calibrationError(this.probabilities, this.hits),
      leadCoverage: this.#covered / Math.max(1, this.#leads),
      baselines: [
        { name: "longest context", brier: backOff },
        { name: "product of edges", brier: product },
      ],
      hindsightBrier: hindsightSquares(this.#contexts) / pairs,
    };
  }
}

/**
 * Before a case is predicted, those before it are learned: all of them, or with `knownAfterMs` in order of their ends those that ended
 * at least so long before it starts.
 */
function inOrderOfKnowing(
  cases: Case[],
  knownAfterMs: number,
  learn: (index: number) => void,
): (index: number) => void {
  const isKnownAtOnce = knownAfterMs === 0;
  const endMs = (index: number) => (cases[index] as Case).endMs || Number.NEGATIVE_INFINITY;
  const order = [...cases.keys()];
  if (!isKnownAtOnce) order.sort((a, b) => endMs(a) - endMs(b));
  let learned = 0;
  return (index) => {
    const latest = ((cases[index] as Case).startMs[0] as number) - knownAfterMs;
    const isKnown = (other: number) => (isKnownAtOnce ? other < index : endMs(other) <= latest);
    while (learned < order.length && isKnown(order[learned] as number)) learn(order[learned++] as number);
  };
}

export function evaluateReach(
  cases: Cases,
  { split, knownAfterMs }: { split: number; knownAfterMs: number },
  engine: WasmEngine,
  observe: (index: number) => void,
  progress: (done: number, what: string) => void,
): ReachResult {
  const all = [...cases];
  const trained = Math.floor(all.length * split);
  const baselines = new ReachBaselines();
  const tally = new Tally();
  const learn = (index: number) => {
    const run = all[index] as Case;
    observe(index);
    for (const i of run.tasks.keys()) {
      baselines.learn(historyOf(run, i).tasks, [...reachedFrom(run, i).keys()], causedBy(run, i));
    }
  };
  const predict = (run: Case) => {
    for (const i of run.tasks.keys()) {
      const history = historyOf(run, i);
      const actual = reachedFrom(run, i);
      const answer = engine.reach(history, 0, ROWS);
      const forecast = new Map([...answer.tasks].map((task, k) => [task, answer.probabilities[k] as number]));
      const products = baselines.edgeProduct(run.tasks[i] as number);
      tally.add(history.tasks, [forecast, baselines.longestContext(history.tasks), products], actual);
      answer.tasks.forEach((task, k) => {
        tally.addLead(actual.get(task), answer.leadP10Ms[k] as number, answer.leadP90Ms[k] as number);
      });
    }
  };
  const learnKnown = inOrderOfKnowing(all, knownAfterMs, learn);
  for (const [index, run] of all.entries()) {
    learnKnown(index);
    if (index >= trained) predict(run);
    progress(index + 1, "predicted and learned");
  }
  return tally.result();
}

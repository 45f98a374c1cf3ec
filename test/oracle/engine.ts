// The plain reference of the prediction engine: the same model in Maps, strings and float64, with no thought of speed or memory.
// In and out as src/core/engine.ts says. Where it and the WASM engine differ by more than 1e-3, one of them is wrong.
import {
  type Capacity,
  type ChainEngine,
  checkHistory,
  checkRun,
  checkTask,
  endOf,
  type History,
  type NextPrediction,
  type ObservedRun,
  OCCURRENCES_MAX,
  type ReachPrediction,
} from "../../src/core/chain-engine.ts";
import { BeforeOracle } from "./before.ts";
import { EndedOracle } from "./ended.ts";
import { LeadOracle } from "./lead.ts";
import { END, NextOracle } from "./next.ts";
import { ReachOracle } from "./reach.ts";

const DESCENDANTS_MAX = 192;
const NEXT_KEPT = 4;
const LAST_SETS: Record<Capacity, number> = { small: 16, default: 64, large: 256 };

export class OracleEngine implements ChainEngine {
  readonly capacity: Capacity;
  readonly #next: NextOracle;
  readonly #reach: ReachOracle;
  readonly #lead = new LeadOracle();
  readonly #ended: EndedOracle;

  constructor(capacity: Capacity, knownAfterMs = 0) {
    this.capacity = capacity;
    const before = new BeforeOracle(knownAfterMs);
    this.#ended = new EndedOracle(before);
    this.#next = new NextOracle(LAST_SETS[capacity], before, this.#ended);
    this.#reach = new ReachOracle(LAST_SETS[capacity], this.#ended);
  }

  next(history: History, limit: number): NextPrediction {
    checkHistory(history);
    if (history.tasks.length === 0) return { tasks: [], probabilities: [], end: 1 };
    const { symbols, probabilities } = this.#next.mix(history, false);
    const rows = symbols.map((task, s) => ({ task, probability: probabilities[s] as number })).slice(1);
    rows.sort((a, b) => b.probability - a.probability);
    return {
      tasks: rows.slice(0, limit).map((row) => row.task),
      probabilities: rows.slice(0, limit).map((row) => row.probability),
      end: probabilities[symbols.indexOf(END)] as number,
    };
  }

  reach(history: History, floor: number, limit: number): ReachPrediction {
    checkHistory(history);
    const mixed = history.tasks.length === 0 ? { tasks: [], probabilities: [] } : this.#reach.mix(history, false);
    const rows = mixed.tasks
      .map((task, s) => ({ task, probability: mixed.probabilities[s] as number }))
      .filter((row) => row.probability >= floor)
      .sort((a, b) => b.probability - a.probability)
      .slice(0, limit)
      .map((row) => ({ ...row, lead: this.#lead.read(history, row.task) }));
    return {
      tasks: rows.map((row) => row.task),
      probabilities: rows.map((row) => row.probability),
      multiplicities: rows.map((row) => row.lead.multiplicity),
      leadP10Ms: rows.map((row) => row.lead.p10),
      leadP50Ms: rows.map((row) => row.lead.p50),
      leadP90Ms: rows.map((row) => row.lead.p90),
    };
  }

  learnNext(history: History, actual: number | null, endMs = Number.NaN): void {
    if (actual !== null) checkTask(actual);
    checkHistory(history);
    if (history.tasks.length === 0) return;
    this.#next.learn(history, actual ?? END, OCCURRENCES_MAX);
    this.#ended.learn(endMs);
  }

  mixing() {
    return { next: this.#next.mixing(), reach: this.#reach.mixing() };
  }

  observe(run: ObservedRun, kept = OCCURRENCES_MAX): void {
    checkRun(run);
    const indices = [...run.tasks.keys()];
    const histories = indices.map((i) => historyOf(run, i));
    const nextKept = Math.min(OCCURRENCES_MAX, NEXT_KEPT * kept);
    for (const i of indices) {
      const successor = indices.find((j) => triggersOf(run, j).includes(i));
      this.#next.learn(
        histories[i] as History,
        successor === undefined ? END : (run.tasks[successor] as number),
        nextKept,
      );
    }
    for (const i of indices) {
      const reached = descendantsOf(run, i);
      this.#reach.learn(histories[i] as History, [...reached.keys()], kept);
      for (const [task, { leadMs, times }] of reached) this.#lead.learn(histories[i] as History, task, leadMs, times);
    }
    this.#ended.learn(endOf(run));
  }

  exportImage(): Uint8Array<ArrayBuffer> {
    throw new Error("the oracle has no image");
  }
}

function triggersOf(run: ObservedRun, i: number): number[] {
  return [...run.triggers.slice(run.triggerOffsets[i], run.triggerOffsets[i + 1])];
}

/** The path of execution i, as serving would give it. */
export function historyOf(run: ObservedRun, i: number): History {
  const path: number[] = [];
  for (let j = i; j >= 0; j = run.pathTriggers[j] as number) path.unshift(j);
  return {
    tasks: Uint32Array.from(path, (j) => run.tasks[j] as number),
    startMs: Float64Array.from(path, (j) => run.startMs[j] as number),
    version: run.versions[i] as number,
  };
}

/** Distinct tasks among the trigger-descendants, in order of their first start, with lead time (as with everything warm) and count. */
function descendantsOf(run: ObservedRun, source: number): Map<number, { leadMs: number; times: number }> {
  const descendants = new Set([source]);
  const warmStartMs = (i: number) => (run.startMs[i] as number) - (run.coldBeforeMs[i] as number);
  const reached = new Map<number, { leadMs: number; times: number }>();
  for (let i = source + 1; i < run.tasks.length; i++) {
    if (!triggersOf(run, i).some((trigger) => descendants.has(trigger))) continue;
    descendants.add(i);
    const task = run.tasks[i] as number;
    const known = reached.get(task);
    if (known) known.times++;
    else if (reached.size < DESCENDANTS_MAX) {
      reached.set(task, { leadMs: warmStartMs(i) - warmStartMs(source), times: 1 });
    }
  }
  return reached;
}

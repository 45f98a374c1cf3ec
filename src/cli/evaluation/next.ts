// How well is the next task told? In: cases in order. Out: scores of the engine and of the baselines over the last part of them.
// Online: after each event predict, then learn from the answer before the next; the first part of the cases only teaches.
import type { WasmEngine } from "../../core/engine.ts";
import { BASELINES, Baselines } from "./baselines.ts";
import { type Cases, historyOf, successorsOf, tasksTo } from "./cases.ts";
import { type Guess, Score, topThree } from "./score.ts";

/** Everything that is proposed: the probability of the actual task is needed, however far down it stands. */
const ROWS = 255;

export interface NextResult {
  predictions: number;
  top1: number;
  top3: number;
  logLoss: number;
  ece: number;
  microsPerPrediction: number;
  baselines: { name: string; top1: number; top3: number; logLoss: number }[];
}

/** One prediction as --predictions writes it. */
export interface NextRow {
  case: string;
  /** Events seen before it. */
  position: number;
  actual: number | null;
  probability: number;
  top: Guess[];
}

export async function evaluateNext(
  cases: Cases,
  split: number,
  engine: WasmEngine,
  write: ((row: NextRow) => Promise<void>) | null,
  progress: (done: number, what: string) => void,
): Promise<NextResult> {
  const trained = Math.floor(cases.length * split);
  const score = new Score();
  let spentMs = 0;
  let index = 0;
  for (const run of cases) {
    for (const [i, actual] of successorsOf(run).entries()) {
      const history = historyOf(run, i);
      if (index >= trained) {
        const startedMs = performance.now();
        const { tasks, probabilities, end } = engine.next(history, ROWS);
        spentMs += performance.now() - startedMs;
        const guesses: Guess[] = [...tasks].map((symbol, k) => ({ symbol, probability: probabilities[k] as number }));
        guesses.push({ symbol: null, probability: end });
        const top = topThree(guesses);
        const probability = probabilityOf(guesses, actual);
        score.add(top, actual, probability);
        if (write !== null) await write({ case: run.name, position: history.tasks.length, actual, probability, top });
      }
      engine.learnNext(history, actual, i === run.tasks.length - 1 ? run.endMs : undefined);
    }
    progress(++index, "predicted and learned");
  }
  return {
    predictions: score.predictions,
    ...score.summary(),
    microsPerPrediction: (spentMs * 1000) / Math.max(1, score.predictions),
    baselines: evaluateBaselines(cases, trained, progress),
  };
}

/** The same protocol for the baselines, in a pass of its own: their tables would push the engine's out of the caches. */
function evaluateBaselines(
  cases: Cases,
  trained: number,
  progress: (done: number, what: string) => void,
): NextResult["baselines"] {
  const baselines = new Baselines();
  const scores = BASELINES.map(() => new Score());
  let index = 0;
  for (const run of cases) {
    for (const [i, actual] of successorsOf(run).entries()) {
      const path = tasksTo(run, i);
      if (index >= trained) {
        for (const [k, baseline] of baselines.predict(path).entries()) {
          scores[k]?.add(topThree(baseline), actual, probabilityOf(baseline, actual));
        }
      }
      baselines.learn(path, actual);
    }
    progress(++index, "of the baselines");
  }
  return BASELINES.map((name, k) => {
    const { top1, top3, logLoss } = (scores[k] as Score).summary();
    return { name, top1, top3, logLoss };
  });
}

function probabilityOf(guesses: Guess[], symbol: number | null): number {
  return guesses.find((guess) => guess.symbol === symbol)?.probability ?? 0;
}

// The oracle of `reach`: assembly/reach.ts in plain TypeScript.
import type { History } from "../../src/core/chain-engine.ts";
import type { EndedOracle } from "./ended.ts";
import { type Counter, count, countContext, FinalWeights, sigmoid, Weights } from "./mixing.ts";
import { pathFacts, reachKeys } from "./views.ts";

const PRIOR = 0.15;
const RATE = 0.07;
const RATE_FINAL = 0.00005;
const LINES_MAX = 17;
const WHOLE = 3;
/** This context and the next two speak of the run that ended last. */
const RUN_ENDED = 8;

interface Mixed {
  keys: (string | null)[];
  tasks: number[];
  active: { weightKeys: string[]; absent: number; evidence: Map<number, number> }[];
  finalKey: string;
  scores: number[][];
  probabilities: number[];
}

export class ReachOracle {
  readonly #counters = new Map<string, Counter>();
  readonly #weights = new Weights(0.18);
  readonly #finals = new FinalWeights();
  readonly #lastSets: number;
  readonly #ended: EndedOracle;

  constructor(lastSets: number, ended: EndedOracle) {
    this.#lastSets = lastSets;
    this.#ended = ended;
  }

  /** By view, as Weights says. */
  mixing() {
    return this.#weights.byView();
  }

  mix(history: History, isLearning: boolean): Mixed {
    const facts = pathFacts(history);
    const ended = this.#ended.find(history, isLearning);
    const keys = reachKeys(history, facts, ended).map((key, c) => (key === null ? null : `${c}:${key}`));
    const lines = keys.map((key, c) =>
      key === null || (c >= RUN_ENDED && !ended.mixed) ? undefined : this.#counters.get(key),
    );
    const order = [2, 1, 0].find((c) => lines[c] !== undefined) ?? -1;
    const isEnded = lines.slice(RUN_ENDED).some((line) => line !== undefined);
    const view = `${order},${isEnded},${lines[WHOLE] !== undefined}`;
    const depth = Math.min(15, facts.length);
    const last = facts.back(0) % this.#lastSets;
    const sets = [`${isEnded}`, `last${last},${isEnded}`, `known${view}`, `depth${depth},${isEnded}`];
    const tasks: number[] = [];
    const scores: number[][] = [];
    const active: Mixed["active"] = [];
    const base = [0, 0, 0, 0];
    for (const [c, line] of lines.entries()) {
      if (line === undefined) continue;
      const confidence = line.total < 1 ? 0 : Math.min(9, Math.floor(Math.log2(line.total)) + 1);
      const weightKeys = sets.map((set) => `${set}|${c}|${confidence}`);
      const absent = Math.log(PRIOR / (line.total + PRIOR));
      const evidence = new Map<number, number>();
      for (const [i, task] of line.symbols.entries()) {
        let s = tasks.indexOf(task);
        if (s < 0) {
          s = tasks.push(task) - 1;
          scores.push([0, 0, 0, 0]);
        }
        const hits = line.counts[i] as number;
        const f = Math.log((hits + PRIOR) / (Math.max(0, line.total - hits) + PRIOR)) - absent;
        evidence.set(s, f);
        addWeighted(scores[s] as number[], weightKeys, f, this.#weights);
      }
      addWeighted(base, weightKeys, absent, this.#weights);
      active.push({ weightKeys, absent, evidence });
    }
    const v = this.#finals.get(view);
    const sums = scores.map((score) => score.map((x, k) => x + (base[k] as number)));
    const probabilities = sums.map((score) => sigmoid(score.reduce((sum, x, k) => sum + x * (v[k] as number), 0)));
    return { keys, tasks, active, finalKey: view, scores: sums, probabilities };
  }

  /** Learns that exactly these tasks, in order of their first start, executed among the descendants. */
  learn(history: History, reached: number[], kept: number): void {
    const mixed = this.mix(history, true);
    if (mixed.tasks.length > 0) this.#learnWeights(mixed, new Set(reached));
    for (const key of mixed.keys) {
      if (key === null) continue;
      const counter = this.#counters.get(key) ?? { total: 0, symbols: [], counts: [] };
      this.#counters.set(key, counter);
      countContext(counter, kept);
      for (const task of reached) count(counter, task, LINES_MAX, false);
    }
  }

  #learnWeights(mixed: Mixed, reached: Set<number>): void {
    const v = this.#finals.get(mixed.finalKey);
    const y = mixed.tasks.map((task) => (reached.has(task) ? 1 : 0));
    const errors = mixed.scores.map((score, s) => score.map((x) => (y[s] as number) - sigmoid(x)));
    for (let k = 0; k < 4; k++) {
      let slope = 0;
      mixed.scores.forEach((score, s) => {
        slope += ((y[s] as number) - (mixed.probabilities[s] as number)) * (score[k] as number);
      });
      v[k] = (v[k] as number) + RATE_FINAL * slope;
    }
    for (const { weightKeys, absent, evidence } of mixed.active) {
      weightKeys.forEach((key, k) => {
        let slope = 0;
        errors.forEach((error, s) => {
          slope += (error[k] as number) * (absent + (evidence.get(s) ?? 0));
        });
        this.#weights.learn(key, slope, RATE);
      });
    }
  }
}

function addWeighted(sums: number[], keys: string[], f: number, weights: Weights): void {
  keys.forEach((key, k) => {
    sums[k] = (sums[k] as number) + weights.get(key) * f;
  });
}

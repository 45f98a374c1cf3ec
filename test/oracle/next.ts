// The oracle of `next`: assembly/next.ts and assembly/bias.ts in plain TypeScript.
import type { History } from "../../src/core/chain-engine.ts";
import type { BeforeOracle } from "./before.ts";
import type { EndedOracle } from "./ended.ts";
import { type Counter, count, countContext, FinalWeights, softmax, Weights } from "./mixing.ts";
import { nextKeys, type PathFacts, pathFacts } from "./views.ts";

const ALPHA = 0.02;
const RATE = 0.12;
const RATE_FINAL = 0.0005;
const RATE_BIAS = 0.009;
const BELOW_MAX = -20;
const TOTAL_LARGE = 16;
const SURE = 0.995;
/** This context and the next speak of the run before. */
const RUN_BEFORE = 16;
/** The end as a symbol. */
export const END = -1;

interface Mixed {
  keys: (string | null)[];
  whole: string;
  symbols: number[];
  /** Contexts that take part: their weight keys in the four mixers and their evidence by candidate. */
  active: { weightKeys: string[]; evidence: Map<number, number> }[];
  finalKey: string;
  logs: number[][];
  shares: number[][];
  probabilities: number[];
  biasKeys: string[];
}

export class NextOracle {
  readonly #counters = new Map<string, Counter>();
  readonly #weights = new Weights(0.08);
  readonly #finals = new FinalWeights();
  readonly #biases = new Map<string, number>();
  readonly #lastSets: number;
  readonly #before: BeforeOracle;
  readonly #ended: EndedOracle;

  constructor(lastSets: number, before: BeforeOracle, ended: EndedOracle) {
    this.#lastSets = lastSets;
    this.#before = before;
    this.#ended = ended;
  }

  /** By view, as Weights says. */
  mixing() {
    return this.#weights.byView();
  }

  mix(history: History, isLearning: boolean): Mixed {
    const facts = pathFacts(history);
    const before = this.#before.find(history, isLearning);
    const ended = this.#ended.find(history, isLearning);
    const areMixed = ended.is ? ended.mixed : before.mixed;
    const keys = nextKeys(history, facts, before, ended).map((key, c) => (key === null ? null : `${c}:${key}`));
    const lines = keys.map((key, c) =>
      key === null || (c >= RUN_BEFORE && !areMixed) ? undefined : this.#counters.get(key),
    );
    const isKnown = lines.map((line) => line !== undefined);
    if (isKnown[1]) lines[0] = undefined;
    const order = [3, 2, 1].find((c) => isKnown[c]) ?? 0;
    const view = `${order},${areMixed},${isKnown[4]},${isKnown[5]}`;
    const sets = [
      `before${areMixed}`,
      `last${facts.back(0) % this.#lastSets}`,
      `known${view}`,
      `gap${gapBucket(facts)}`,
    ];
    const symbols = [END];
    const scores = [[0, 0, 0, 0]];
    const active: Mixed["active"] = [];
    for (const [c, line] of lines.entries()) {
      if (line === undefined) continue;
      const confidence = (line.total >= TOTAL_LARGE ? 2 : 0) + (line.symbols.length === 1 ? 1 : 0);
      const weightKeys = sets.map((set) => `${set}|${c}|${confidence}`);
      const evidence = new Map<number, number>();
      for (const [i, symbol] of line.symbols.entries()) {
        let s = symbols.indexOf(symbol);
        if (s < 0) {
          s = symbols.push(symbol) - 1;
          scores.push([0, 0, 0, 0]);
        }
        const f = Math.log(1 + (line.counts[i] as number) / ALPHA);
        evidence.set(s, f);
        weightKeys.forEach((key, k) => {
          (scores[s] as number[])[k] = ((scores[s] as number[])[k] as number) + this.#weights.get(key) * f;
        });
      }
      active.push({ weightKeys, evidence });
    }
    return this.#layer2(facts, { keys, whole: facts.whole, symbols, active, finalKey: view }, scores);
  }

  #layer2(
    facts: PathFacts,
    mixed: Pick<Mixed, "keys" | "whole" | "symbols" | "active" | "finalKey">,
    scores: number[][],
  ): Mixed {
    const shares = [0, 1, 2, 3].map((k) => softmax(scores.map((score) => score[k] as number)));
    const logs = shares.map((share) => share.map((p) => Math.max(BELOW_MAX, Math.log(p / Math.max(...share)))));
    const v = this.#finals.get(mixed.finalKey);
    const biasKeys = [
      facts.hour === null ? `${facts.back(0)},${facts.back(1)}` : `${facts.back(0)}|hour${facts.hour}`,
      `${facts.back(0)}|gap${gapBucket(facts)}`,
      `${facts.back(0)}|position${Math.min(15, facts.length)}`,
    ];
    const z = mixed.symbols.map((symbol, s) => {
      const bias = biasKeys.reduce((sum, key) => sum + (this.#biases.get(`${key}>${slotOf(symbol)}`) ?? 0), 0);
      return v.reduce((sum, weight, k) => sum + weight * (logs[k]?.[s] as number), 0) + bias;
    });
    return { ...mixed, logs, shares, biasKeys, probabilities: softmax(z) };
  }

  learn(history: History, symbol: number, kept: number): void {
    const mixed = this.mix(history, true);
    const actual = mixed.symbols.indexOf(symbol);
    if (actual >= 0) this.#learnWeights(mixed, actual);
    mixed.keys.forEach((key, c) => {
      if (key === null) return;
      const counter = this.#counters.get(key) ?? { total: 0, symbols: [], counts: [] };
      this.#counters.set(key, counter);
      countContext(counter, kept);
      count(counter, symbol, c === 0 ? 4 : c === 1 ? 2 : 1, true);
    });
    this.#before.learn(history, mixed.whole, symbol);
  }

  #learnWeights(mixed: Mixed, actual: number): void {
    const everySure = mixed.shares.every((share) => (share[actual] as number) >= SURE);
    if (everySure && (mixed.probabilities[actual] as number) >= SURE) return;
    const v = this.#finals.get(mixed.finalKey);
    const gradient = [0, 0, 0, 0];
    mixed.symbols.forEach((symbol, s) => {
      const error = (s === actual ? 1 : 0) - (mixed.probabilities[s] as number);
      for (let k = 0; k < 4; k++) gradient[k] = (gradient[k] as number) + error * (mixed.logs[k]?.[s] as number);
      for (const key of mixed.biasKeys) {
        const place = `${key}>${slotOf(symbol)}`;
        this.#biases.set(place, (this.#biases.get(place) ?? 0) + RATE_BIAS * error);
      }
    });
    for (let k = 0; k < 4; k++) v[k] = (v[k] as number) + RATE_FINAL * (gradient[k] as number);
    for (const { weightKeys, evidence } of mixed.active) {
      weightKeys.forEach((key, k) => {
        let slope = 0;
        for (const [s, f] of evidence) slope += f * ((s === actual ? 1 : 0) - (mixed.shares[k]?.[s] as number));
        this.#weights.learn(key, slope, RATE);
      });
    }
  }
}

/** The symbols of a key share 16 corrections, as in the engine, where the end is 1 and task t is t + 2. */
function slotOf(symbol: number): number {
  return Math.imul(symbol + 2, 0x85ebca6b) >>> 28;
}

function gapBucket(facts: PathFacts): number {
  return Math.min(15, Math.floor(facts.gapOctave / 3));
}

// The oracle of the run that ended last before this one began: assembly/run-ended.ts in plain TypeScript.
import type { History } from "../../src/core/chain-engine.ts";
import { type BeforeOracle, isWithout } from "./before.ts";

const RUNS = 16;

export interface Ended {
  /** There is one that belongs to this run's past: its views are counted. */
  is: boolean;
  /** They are also mixed. */
  mixed: boolean;
  /** From its end to this run's start. */
  gapMs: number;
  /** The set of its tasks. */
  tasks: string;
  /** A run is known so long after its end. */
  knownAfterMs: number;
}

export class EndedOracle {
  #runs: { endMs: number; tasks: string }[] = [];
  readonly #before: BeforeOracle;

  constructor(before: BeforeOracle) {
    this.#before = before;
  }

  find(history: History, isLearning: boolean): Ended {
    const start = history.startMs?.[0] ?? Number.NaN;
    const { knownAfterMs, gapMaxMs } = this.#before;
    const past = this.#runs.filter(({ endMs }) => endMs <= start - knownAfterMs);
    const nearest = past.reduce((best, run) => (run.endMs >= best.endMs ? run : best), { endMs: -Infinity, tasks: "" });
    const gapMs = start - nearest.endMs;
    const is = gapMs <= gapMaxMs;
    return { is, mixed: is && !(isLearning && isWithout(start)), gapMs, tasks: nearest.tasks, knownAfterMs };
  }

  /** The run learned last is complete. */
  learn(endMs: number): void {
    if (Number.isNaN(endMs)) return;
    this.#runs.push({ endMs, tasks: this.#before.tasks });
    this.#runs = this.#runs.slice(-RUNS);
  }
}

// Whose turn it is to start a runtime ahead: a few at a time, the earliest deadline first. In: preparations as they come. Out: a turn, which is given back.
// A user's request waits for no turn. Where it starts a runtime of a task that a preparation still waits for, it takes that preparation's place: what was
// foretold has come, and a second start would be in vain.
import type { Hold, Runtime } from "./runtime.ts";

export type Wanted = Pick<Hold, "commandId" | "probability" | "untilMs">;

interface Waiting {
  task: string;
  wanted: Wanted;
  deadlineMs: number;
  settle: (overtakenBy: Runtime | null) => void;
}

export class Turns {
  readonly #atOnceMax: number;
  #taken = 0;
  /** The earliest deadline first. */
  readonly #waiting: Waiting[] = [];

  constructor(atOnceMax: number) {
    this.#atOnceMax = atOnceMax;
  }

  /** Resolves with null when it is its turn, or with the runtime that a user's request has started in its place: then there is none to give back. */
  take(task: string, wanted: Wanted, deadlineMs: number): Promise<Runtime | null> {
    if (this.#taken < this.#atOnceMax) {
      this.#taken++;
      return Promise.resolve(null);
    }
    return new Promise((settle) => {
      this.#waiting.push({ task, wanted, deadlineMs, settle });
      this.#waiting.sort((a, b) => a.deadlineMs - b.deadlineMs);
    });
  }

  /** Handed over, not given back, while anybody waits: nobody can slip in between. */
  giveBack(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#taken--;
    else next.settle(null);
  }

  /** What waits for a turn to prepare the task. */
  next(task: string): Wanted | null {
    return this.#waiting.find((waiting) => waiting.task === task)?.wanted ?? null;
  }

  overtake(wanted: Wanted, runtime: Runtime): void {
    const at = this.#waiting.findIndex((waiting) => waiting.wanted === wanted);
    if (at >= 0) this.#waiting.splice(at, 1)[0]!.settle(runtime);
  }
}

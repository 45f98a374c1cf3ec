// How many preparations of one task a run is given, however many of its executions ask. In: asks, each with how many so many asks are good
// for, and the run's calls. Out: whether an ask is given, and whether a call had a preparation of its own to find. Executions know nothing of each
// other, so the place that takes all commands of their run counts.
// In memory only: where it is lost, a run is given some more than it needs.
import type { Quota } from "./planned.ts";
import { remember } from "./remember.ts";

/** Asks remembered, of all runs; beyond, the run that asked longest ago gives way. Some 200 B each. */
const ASKS_MAX = 50_000;
/** Of one run; a later one that is repeated counts anew. */
const RUN_ASKS_MAX = 8_192;
/** What is a whole number but for rounding is not the next one. */
const ROUNDING = 1e-9;

interface Run {
  /** By what asked: whether it was given. */
  asks: Map<string, boolean>;
  tasks: Map<string, TaskCounts>;
}

interface TaskCounts {
  asked: number;
  given: number;
  /** Calls by the bin of their idle time (keepalive.ts). */
  calledBins: number[];
}

export class Quotas {
  /** The one that asked longest ago is first. */
  readonly #runs = new Map<string, Run>();
  #asks = 0;

  /** Whether an ask is given. `key` names who asks for what: asked again, it is answered as before. */
  gives(runId: string, task: string, key: string, { first, power }: Quota): boolean {
    const run = this.#runs.get(runId) ?? { asks: new Map(), tasks: new Map() };
    remember(this.#runs, runId, run, ASKS_MAX);
    const before = run.asks.get(key);
    if (before !== undefined) return before;
    const counts = run.tasks.get(task) ?? { asked: 0, given: 0, calledBins: [] };
    run.tasks.set(task, counts);
    counts.asked++;
    const isGiven = counts.given < Math.ceil(first * counts.asked ** power - ROUNDING);
    if (isGiven) counts.given++;
    if (run.asks.size < RUN_ASKS_MAX) {
      run.asks.set(key, isGiven);
      this.#asks++;
      this.#forget();
    }
    return isGiven;
  }

  /**
   * The run calls the task; had all runtimes been held, it would find one that was idle for a time of `bin`. Under a shorter hold it needs a preparation, as
   * all its calls after as long or longer do: false where the run was given fewer. Null: no execution of the run has asked.
   */
  covers(runId: string, task: string, bin: number): boolean | null {
    const counts = this.#runs.get(runId)?.tasks.get(task);
    if (counts === undefined) return null;
    const { calledBins, given } = counts;
    calledBins[bin] = (calledBins[bin] ?? 0) + 1;
    let needed = 0;
    for (let longer = bin; longer < calledBins.length; longer++) needed += calledBins[longer] ?? 0;
    return needed <= given;
  }

  #forget(): void {
    for (const [runId, { asks }] of this.#runs) {
      if (this.#asks <= ASKS_MAX) return;
      this.#runs.delete(runId);
      this.#asks -= asks.size;
    }
  }
}

// How many preparations of one task a run is given, however many of its executions ask. In: asks, each with how many so many asks are good
// for, and the run's calls. Out: whether an ask is given, and whether a call had a preparation of its own to find. Executions know nothing of each
// other, so the place that takes all commands of their run counts.
// Counts and the latest asks can be stored and restored; an older ask that comes again then counts anew.
import { fnv1a } from "./fnv.ts";
import type { Quota } from "./planned.ts";
import { remember } from "./remember.ts";

/** Asks remembered, of all runs; beyond, the run that asked longest ago gives way. Some 200 B each. */
const ASKS_MAX = 50_000;
/** Of one run; a later one that is repeated counts anew. */
const RUN_ASKS_MAX = 8_192;
/** Asks of one run that are stored: those that come again are of executions under way. */
const STORED_ASKS_MAX = 512;
/** What is a whole number but for rounding is not the next one. */
const ROUNDING = 1e-9;

interface Run {
  /** By the hash of what asked: whether it was given. The latest is last. */
  asks: Map<number, boolean>;
  tasks: Map<string, TaskCounts>;
}

interface TaskCounts {
  asked: number;
  given: number;
  /** Calls by the bin of their idle time (keepalive.ts). */
  calledBins: number[];
}

/** One run's, as plain data. */
export interface StoredQuotas {
  /** Twice its hash, and one more where it was given. */
  asks: number[];
  tasks: [task: string, asked: number, given: number, calledBins: (number | null)[]][];
}

export class Quotas {
  /** The one that asked longest ago is first. */
  readonly #runs = new Map<string, Run>();
  #asks = 0;

  /** Whether an ask is given. `key` names who asks for what: asked again, it is answered as before. */
  gives(runId: string, task: string, key: string, { first, power }: Quota): boolean {
    const run = this.#runs.get(runId) ?? { asks: new Map(), tasks: new Map() };
    remember(this.#runs, runId, run, ASKS_MAX);
    const hash = fnv1a(key);
    const before = run.asks.get(hash);
    if (before !== undefined) return before;
    const counts = run.tasks.get(task) ?? { asked: 0, given: 0, calledBins: [] };
    run.tasks.set(task, counts);
    counts.asked++;
    const isGiven = counts.given < Math.ceil(first * counts.asked ** power - ROUNDING);
    if (isGiven) counts.given++;
    if (run.asks.size < RUN_ASKS_MAX) {
      run.asks.set(hash, isGiven);
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

  /** Null: no execution of the run has asked. */
  stored(runId: string): StoredQuotas | null {
    const run = this.#runs.get(runId);
    if (run === undefined) return null;
    const latest = [...run.asks].slice(-STORED_ASKS_MAX);
    return {
      asks: latest.map(([hash, isGiven]) => hash * 2 + Number(isGiven)),
      tasks: [...run.tasks].map(([task, { asked, given, calledBins }]) => [task, asked, given, calledBins]),
    };
  }

  restore(runId: string, { asks, tasks }: StoredQuotas): void {
    this.#runs.set(runId, {
      asks: new Map(asks.map((ask) => [Math.floor(ask / 2), ask % 2 === 1])),
      tasks: new Map(
        tasks.map(([task, asked, given, bins]) => [task, { asked, given, calledBins: bins.map((n) => n ?? 0) }]),
      ),
    });
    this.#asks += asks.length;
    this.#forget();
  }

  #forget(): void {
    for (const [runId, { asks }] of this.#runs) {
      if (this.#asks <= ASKS_MAX) return;
      this.#runs.delete(runId);
      this.#asks -= asks.size;
    }
  }
}

// What the runs of a cluster expect next, as their last allocation told: where the later tasks are to run, what their plan hides of
// each start, and the chain that the run was first expected to be. In memory: whoever is forgotten is served as before. Chain and whether a plan was sent come back after an
// eviction (capacity.ts).
import type { Placement } from "../../core/learned.ts";
import type { Offer } from "../../core/pipeline.ts";
import { type Hidden, hiddenAfter } from "../../core/planned.ts";
import { remember } from "../../core/remember.ts";
import type { WrittenOutputs } from "./messages.ts";

/** Runs remembered; beyond, the one heard of longest ago gives way. */
const RUNS_MAX = 10_000;

/** Executions of a run whose outputs were seen to; beyond, a record that comes again is seen to again. */
const WRITERS_MAX = 1_000;
/** Placements told with one flush. */
const PLACEMENTS_MAX = 1_000;
/** VMs that one output is brought to. */
const READING_VMS_MAX = 4;

export interface ExpectedRun {
  /** As expected when the run came to this cluster first. */
  chain: string[];
  vms: Record<string, string>;
  hidden: Record<string, Hidden>;
  /** Some plan of it was sent: what it then has to wait for was missed. */
  sent: boolean;
  /** Executions whose outputs were seen to. */
  writers: Set<string>;
}

export class ExpectedRuns {
  readonly #runs = new Map<string, ExpectedRun>();
  #placements: Placement[] = [];

  get(runId: string): ExpectedRun | null {
    return this.#runs.get(runId) ?? null;
  }

  /** As kept over an eviction: where it goes on is told by its next allocation. */
  restore(runId: string, { chain, sent }: Pick<ExpectedRun, "chain" | "sent">): void {
    remember(this.#runs, runId, { chain, sent, vms: {}, hidden: {}, writers: new Set<string>() }, RUNS_MAX);
  }

  /** A task of the run was allocated. Out: what the plans before it hide of its start; null where they do not name it. */
  note(
    offer: Pick<Offer, "runId" | "cluster" | "task" | "chain" | "vms" | "hidden" | "acted" | "expectedTerms">,
  ): Hidden | null {
    const { runId, cluster, task, chain, vms, hidden, acted, expectedTerms } = offer;
    const known = this.#runs.get(runId);
    if (known === undefined && expectedTerms !== null && this.#placements.length < PLACEMENTS_MAX) {
      this.#placements.push({ runId, cluster, expectedTerms });
    }
    const own = known !== undefined && Object.hasOwn(known.hidden, task) ? known.hidden[task]! : null;
    const expected = {
      chain: known?.chain ?? chain,
      vms: { ...known?.vms, ...vms },
      hidden: hiddenAfter(known?.hidden ?? {}, task, hidden),
      sent: acted || known?.sent === true,
      writers: known?.writers ?? new Set<string>(),
    };
    remember(this.#runs, runId, expected, RUNS_MAX);
    return own;
  }

  /** Placements of runs that began here since the last call, and some thousand at most: enough to learn from. */
  takePlacements(): Placement[] {
    const placements = this.#placements;
    this.#placements = [];
    return placements;
  }

  get hasPlacements(): boolean {
    return this.#placements.length > 0;
  }

  /** True once for each execution of a known run: whoever is told of it again has seen to its outputs already. */
  takesOutputsOf({ runId, executionId }: WrittenOutputs): boolean {
    const run = this.#runs.get(runId);
    if (run === undefined || run.writers.has(executionId)) return false;
    if (run.writers.size < WRITERS_MAX) run.writers.add(executionId);
    return true;
  }

  /**
   * Where what an execution wrote will be read: on the VMs of its readers, by VM; where none of them is expected, on those
   * of all later tasks.
   */
  readersOf(runId: string, readers: string[]): Map<string, string> {
    const tasksByVm = new Map<string, string>();
    const vms = this.#runs.get(runId)?.vms ?? {};
    const expected = readers.filter((task) => Object.hasOwn(vms, task));
    for (const task of expected.length > 0 ? expected : Object.keys(vms)) {
      if (tasksByVm.size < READING_VMS_MAX && !tasksByVm.has(vms[task]!)) tasksByVm.set(vms[task]!, task);
    }
    return tasksByVm;
  }
}

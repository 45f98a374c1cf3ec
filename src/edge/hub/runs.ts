// What the runs of a cluster expect next, as their last allocation told: where the later tasks are to run, what their plan hides of
// each start, and the chain that the run was first expected to be. In memory only: whoever is forgotten is served as before.
import type { Offer } from "../../core/pipeline.ts";
import type { Hidden } from "../../core/plan.ts";

/** Runs remembered; beyond, the one heard of longest ago gives way. */
const RUNS_MAX = 10_000;

export interface ExpectedRun {
  /** As expected when the run came to this cluster first. */
  chain: string[];
  vms: Record<string, string>;
  hidden: Record<string, Hidden>;
}

export class ExpectedRuns {
  readonly #runs = new Map<string, ExpectedRun>();

  get(runId: string): ExpectedRun | null {
    return this.#runs.get(runId) ?? null;
  }

  /** A task of the run was allocated. Out: what the plans before it hide of its start; null where they do not name it. */
  note({ runId, task, chain, vms, hidden }: Pick<Offer, "runId" | "task" | "chain" | "vms" | "hidden">): Hidden | null {
    const known = this.#runs.get(runId);
    const own = known !== undefined && Object.hasOwn(known.hidden, task) ? known.hidden[task]! : null;
    this.#runs.delete(runId); // to the end
    this.#runs.set(runId, {
      chain: known?.chain ?? chain,
      vms: { ...known?.vms, ...vms },
      hidden: { ...known?.hidden, ...hidden },
    });
    if (this.#runs.size > RUNS_MAX) this.#runs.delete(this.#runs.keys().next().value!);
    return own;
  }
}

// What a workspace has learned beside its graph and its model. In: outcomes as the hubs settle them. Out: what later stages are
// corrected by; and all of it as one JSON value, which is stored with the model and restored after a restart.
//
// Of invariant 8, "nothing learned from one agent's records can weigh more than its own executions": what an agent measured of its own
// accord (a miss) counts only where the execution that it names is there, recorded by that very VM, and once. What it measured for a
// command is bounded by the commands that the hub gave it.
import type { Outcome } from "../protocol.ts";
import { normaliseTaskName } from "./records.ts";
import { MeasuredStarts, type StartsText } from "./starts.ts";

/** Clusters of which it is remembered which outcomes were taken. */
const CLUSTERS_MAX = 4_096;

/** As stored; fields that an older version did not write are absent. */
export interface LearnedText {
  starts?: StartsText;
  seqs?: [string, number][];
}

/** Did this VM record this execution? */
export type HasExecution = (runId: string, executionId: string, vm: string) => boolean;

export class Learned {
  readonly starts: MeasuredStarts;
  /** Last outcome taken of each cluster. */
  readonly #seqs: Map<string, number>;

  constructor(text: LearnedText = {}) {
    this.starts = new MeasuredStarts(text.starts);
    this.#seqs = new Map(text.seqs);
  }

  /** Takes outcomes of one cluster in order of their sequence, each once. Out: whether profiles are told differently now. */
  take(cluster: string, outcomes: { seq: number; outcome: Outcome }[], has: HasExecution): boolean {
    let changed = false;
    for (const { seq, outcome } of outcomes) {
      if (seq <= (this.#seqs.get(cluster) ?? 0)) continue;
      if (this.#seqs.size < CLUSTERS_MAX || this.#seqs.has(cluster)) this.#seqs.set(cluster, seq);
      if (this.#noteStart(outcome, has)) changed = true;
    }
    return changed;
  }

  /** Taken before, all of them: a repeated flush. */
  knows(cluster: string, outcomes: { seq: number }[]): boolean {
    return outcomes.every(({ seq }) => seq <= (this.#seqs.get(cluster) ?? 0));
  }

  text(): LearnedText {
    return { starts: this.starts.text(), seqs: [...this.#seqs] };
  }

  #noteStart({ kind, task, wholeStartMs, outcome, runId, executionId, vm }: Outcome, has: HasExecution): boolean {
    if (kind !== "warm" || task === null || wholeStartMs === null) return false;
    if (outcome === "miss" && !has(runId ?? "", executionId ?? "", vm)) return false;
    // Agents know a task by its own name, the graph by the one without ids.
    this.starts.note(normaliseTaskName(task), wholeStartMs);
    return true;
  }
}

// What is learned from outcomes beside the model: the table of contents of feedback's adaptation.
//   gate        how often what was prepared is used, per (asked task, task)                  gate.ts
//   margins     lead times as they came true, per transition                                 margins.ts
//   placement   factors of the placement terms, per cluster                                  corrections.ts
//   drift       a change of the workflow, which makes all of them and the model forget       drift.ts
// (Whole starts come with outcomes, learned.ts; how long runtimes are held is learned where they are called and released, keepalive.ts.)
// In: each sealed run with the model that has not learned it yet; commands' outcomes and placements as they are told. Out: corrections, which planFor and
// allocate apply. Pure: state is plain JSON, so that it can be stored, exported, frozen and reset; the clock is passed in.
import { type CorrectionState, PlacementCorrections } from "./corrections.ts";
import { type Change, DriftDetector, type DriftState } from "./drift.ts";
import { GateBeliefs, type GateState } from "./gate.ts";
import type { Model } from "./graph.ts";
import { LeadMargins, type MarginState } from "./margins.ts";
import type { AssembledRun } from "./profile.ts";
import { type Review, reviewRun } from "./review.ts";

/** Of the evidence from before a change this share (0–1) is kept; for holds too, which are learned elsewhere. */
export const KEPT_AFTER_CHANGE = 0.1;

export const LEARNED_PARTS = ["gate", "margins", "placement"] as const;

export interface LearningState {
  gate: GateState;
  margins: MarginState;
  placement: CorrectionState;
  drift: DriftState;
}

export class Learning {
  readonly gate: GateBeliefs;
  readonly margins: LeadMargins;
  readonly placement: PlacementCorrections;
  readonly drift: DriftDetector;

  /** `state` from `state()`; absent: nothing is known yet. */
  constructor(state?: Partial<LearningState>) {
    this.gate = new GateBeliefs(state?.gate);
    this.margins = new LeadMargins(state?.margins);
    this.placement = new PlacementCorrections(state?.placement);
    this.drift = new DriftDetector(state?.drift);
  }

  /** A run was sealed; the model has not learned it yet. Tells what was foretold, and the change that the run makes certain. */
  sealed(
    run: AssembledRun,
    model: Pick<Model, "engine" | "tasks" | "taskIds">,
    nowMs: number,
  ): { review: Review; change: Change | null } {
    const review = reviewRun(run, model);
    const change = this.drift.note(review, endedMs(run, nowMs));
    if (change !== null) this.fade(KEPT_AFTER_CHANGE);
    for (const { context, task, probability, happened, lead, leadMs } of review.foretold) {
      if (probability > 0) this.gate.age(context, task, probability);
      if (happened && lead !== null) this.margins.note(context, task, lead, leadMs);
    }
    return { review, change };
  }

  /** How many occurrences the engine is to keep when it learns this run, after `sealed`; asked once for each run that it learns. */
  keptOf({ executions }: AssembledRun): number {
    return this.drift.keptOf(executions[0]?.task ?? "");
  }

  fade(kept: number): void {
    for (const part of LEARNED_PARTS) if (!this[part].frozen) this[part].fade(kept);
  }

  reset(part?: (typeof LEARNED_PARTS)[number]): void {
    for (const each of part === undefined ? LEARNED_PARTS : [part]) this[each].reset();
    if (part === undefined) this.drift.reset();
  }

  state(): LearningState {
    return {
      gate: this.gate.state(),
      margins: this.margins.state(),
      placement: this.placement.state(),
      drift: this.drift.state(),
    };
  }
}

/** When its last execution ended; now where no time is known, or where a clock is ahead of ours. */
function endedMs({ executions }: AssembledRun, nowMs: number): number {
  let lastMs = Number.NEGATIVE_INFINITY;
  for (const { startMs, endMs } of executions) {
    const atMs = Number.isNaN(endMs) ? startMs : endMs;
    if (atMs > lastMs) lastMs = atMs;
  }
  return lastMs === Number.NEGATIVE_INFINITY ? nowMs : Math.min(nowMs, Math.round(lastMs));
}

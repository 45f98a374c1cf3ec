// What a workspace has learned beside its graph and its model, and how good its predictions are. In: sealed runs, and outcomes as the
// hubs settle them. Out: what the later stages are corrected by; and all of it as one JSON value, which is stored with the model and
// restored after a restart.
//
// Of invariant 8, "nothing learned from one agent's records can weigh more than its own executions": what an agent measured of its own
// accord (a miss) counts only where the execution that it names is there, recorded by that very VM, and once. What it measured for a
// command is bounded by the commands that the hub gave it.
import type { LearnedPart, Outcome, PlacementTerms } from "../protocol.ts";
import type { Adjustments } from "./adjustments.ts";
import { Calibration, type CalibrationRow } from "./calibration.ts";
import type { TermFactors } from "./corrections.ts";
import { expectedOf } from "./demand-came.ts";
import type { Change } from "./drift.ts";
import type { Model, TaskProfile } from "./graph.ts";
import type { LearnedExport } from "./learned-export.ts";
import { LEARNED_PARTS, Learning, type LearningState } from "./learning.ts";
import type { AssembledRun } from "./profile.ts";
import { normaliseTaskName } from "./records.ts";
import { remember } from "./remember.ts";
import { MeasuredStarts, type StartsText } from "./starts.ts";

/** Clusters of which it is remembered which outcomes were taken. */
const CLUSTERS_MAX = 4_096;
/** Runs whose placement waits for the run to be sealed; the oldest gives way. */
const PLACEMENTS_MAX = 10_000;

/** As stored; fields that an older version did not write are absent. */
export interface LearnedText extends Partial<LearningState> {
  starts?: StartsText;
  seqs?: [string, number][];
  calibration?: CalibrationRow[];
  frozen?: LearnedPart[];
}

/** Where a run was placed, and the terms that were expected there, without any correction. */
export interface Placement {
  runId: string;
  cluster: string;
  expectedTerms: PlacementTerms;
}

/** Did this VM record this execution? */
export type HasExecution = (runId: string, executionId: string, vm: string) => boolean;

export class Learned {
  learning: Learning;
  starts: MeasuredStarts;
  readonly calibration: Calibration;
  #frozen: ReadonlySet<LearnedPart> = new Set();
  /** Last outcome taken of each cluster. */
  readonly #seqs: Map<string, number>;
  readonly #placements = new Map<string, Placement>();

  constructor(text: LearnedText = {}) {
    this.learning = new Learning(text);
    this.starts = new MeasuredStarts(text.starts);
    this.calibration = new Calibration(text.calibration);
    this.#seqs = new Map(text.seqs);
    this.freeze(text.frozen ?? []);
  }

  get frozen(): ReadonlySet<LearnedPart> {
    return this.#frozen;
  }

  /** These parts are asked and no longer changed from now on, all others are learned. */
  freeze(parts: LearnedPart[]): void {
    this.#frozen = new Set(parts);
    for (const part of LEARNED_PARTS) this.learning[part].frozen = this.#frozen.has(part);
  }

  /** What is known of a part is forgotten. The model and the holds are kept elsewhere. */
  reset(part: LearnedPart): void {
    if (part === "starts") this.starts = new MeasuredStarts();
    if (part === "model") this.learning.drift.reset();
    const own = LEARNED_PARTS.find((each) => each === part);
    if (own !== undefined) this.learning.reset(own);
  }

  /**
   * These parts of an export take the place of what is known of them; drift goes with the model. Scores, what is frozen and which outcomes
   * were taken stay this workspace's own.
   */
  adopt(parts: LearnedPart[], from: LearnedExport["learned"]): void {
    const taken: Partial<LearningState> = {};
    if (parts.includes("gate") && from.gate !== undefined) taken.gate = from.gate;
    if (parts.includes("margins") && from.margins !== undefined) taken.margins = from.margins;
    if (parts.includes("placement") && from.placement !== undefined) taken.placement = from.placement;
    if (parts.includes("model") && from.drift !== undefined) taken.drift = from.drift;
    this.learning = new Learning({ ...this.learning.state(), ...taken });
    if (parts.includes("starts")) this.starts = new MeasuredStarts(from.starts);
    this.freeze([...this.#frozen]);
  }

  // ── In ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** A run was sealed; the model has not learned it yet. Out: the change of the workflow that it makes certain. */
  sealed(run: AssembledRun, model: Model, atMs: number): Change | null {
    const { review, change } = this.learning.sealed(run, model, atMs);
    this.calibration.note(run, review.foretold, expectedOf(run, model), atMs);
    this.#settlePlacement(run, model.profiles);
    return change;
  }

  /** Takes outcomes of one cluster in order of their sequence, each once. Out: whether plans are made differently now. */
  take(cluster: string, outcomes: { seq: number; outcome: Outcome }[], has: HasExecution): boolean {
    let changed = false;
    for (const { seq, outcome } of outcomes) {
      if (seq <= (this.#seqs.get(cluster) ?? 0)) continue;
      if (this.#seqs.size < CLUSTERS_MAX || this.#seqs.has(cluster)) this.#seqs.set(cluster, seq);
      if (this.#noteStart(outcome, has)) changed = true;
      if (this.#noteUse(outcome)) changed = true;
    }
    return changed;
  }

  /** Taken before, all of them: a repeated flush. */
  knows(cluster: string, outcomes: { seq: number }[]): boolean {
    return outcomes.every(({ seq }) => seq <= (this.#seqs.get(cluster) ?? 0));
  }

  /** Runs were placed: what that came to is known when they are sealed. */
  placed(placements: Placement[]): void {
    for (const placement of placements) remember(this.#placements, placement.runId, placement, PLACEMENTS_MAX);
  }

  #noteStart({ kind, task, wholeStartMs, outcome, runId, executionId, vm }: Outcome, has: HasExecution): boolean {
    if (kind !== "warm" || task === null || wholeStartMs === null || this.#frozen.has("starts")) return false;
    if (outcome === "miss" && !has(runId ?? "", executionId ?? "", vm)) return false;
    // Agents know a task by its own name, the graph by the one without ids.
    this.starts.note(normaliseTaskName(task), wholeStartMs);
    return true;
  }

  /** A failure says nothing of whether it was needed. */
  #noteUse({ kind, task, outcome, context, foretold }: Outcome): boolean {
    if (kind !== "warm" || task === null || context === null || foretold === null) return false;
    if (outcome !== "hit" && outcome !== "late" && outcome !== "waste") return false;
    this.learning.gate.note(normaliseTaskName(context), normaliseTaskName(task), foretold, outcome !== "waste");
    return true;
  }

  /** What the terms of the placement came to, as far as records tell: each apart. Parts of it that ran elsewhere say nothing. */
  #settlePlacement({ executions }: AssembledRun, profiles: ReadonlyMap<string, TaskProfile>): void {
    if (this.#placements.size === 0) return;
    const runId = executions[0]!.record.runId;
    const placement = this.#placements.get(runId);
    if (placement === undefined) return;
    this.#placements.delete(runId);
    const { cluster, expectedTerms } = placement;
    if (executions.some(({ record }) => record.rest.cluster !== cluster)) return;
    const came: Partial<TermFactors> = {};
    const add = (term: keyof TermFactors, ms: number) => {
      came[term] = (came[term] ?? 0) + ms;
    };
    for (const { task, record, services } of executions) {
      const weight = profiles.get(task)?.latencySensitivity ?? 1;
      // What the queue term foretells, a busy machine's slowness, no record tells: `queueMs` is the wait for a runtime alone.
      const { queueMs, fetchMs, coldStartMs } = record.rest;
      if (fetchMs !== undefined) add("transferMs", weight * fetchMs);
      if (coldStartMs !== undefined)
        add("coldStartMs", weight * Math.max(0, coldStartMs - (queueMs ?? 0) - (fetchMs ?? 0)));
      for (const { calls, latencyMs } of services) {
        if (latencyMs !== undefined) add("servicesMs", weight * calls * latencyMs);
      }
    }
    for (const [term, ms] of Object.entries(came) as [keyof TermFactors, number][]) {
      this.learning.placement.note(cluster, executions[0]!.task, term, expectedTerms[term], ms);
    }
  }

  // ── Out ────────────────────────────────────────────────────────────────────────────────────────────────────────────

  text(): LearnedText {
    return {
      ...this.learning.state(),
      starts: this.starts.text(),
      seqs: [...this.#seqs],
      calibration: this.calibration.rows(),
      frozen: [...this.#frozen],
    };
  }
}

/** Of the JSON of a LearnedText, or a part of one: what the stages that serve are corrected by. */
export function adjustmentsOf(text: string): Adjustments {
  return new Learning(JSON.parse(text) as Partial<LearningState>);
}

// What Forechain has learned, in the simulator: the production assembly, rows, profiles and engine, fed with runs of the log and
// then with the simulated runs as they are sealed. In: assembled runs. Out: the model that `serve` asks.

import type { Adjustments } from "../core/adjustments.ts";
import { OCCURRENCES_MAX, RUN_EXECUTIONS_MAX, RUN_TRIGGERS_MAX } from "../core/chain-engine.ts";
import { contributionOf, rowParts } from "../core/contribution.ts";
import { createEngine, loadEngine, type WasmEngine } from "../core/engine.ts";
import type { Model, TaskProfile } from "../core/graph.ts";
import { Learning, type LearningState } from "../core/learning.ts";
import { KNOWN_AFTER_MS } from "../core/ledger.ts";
import { hashVersion } from "../core/predict.ts";
import { type AssembledRun, observedRun } from "../core/profile.ts";
import { Profiles } from "../core/profiles.ts";
import { GraphRows } from "../core/rows.ts";
import type { Counts } from "../core/sketch.ts";
import { MeasuredStarts } from "../core/starts.ts";

/** Profiles are read anew once a hundredth more runs were learned, as a published version would be; up to 25 runs late. */
const PROFILES_EVERY_SHARE = 0.01;
const PROFILES_EVERY_MAX = 25;

/** What the ablation leaves out. */
export interface LearnerParts {
  measuresStarts: boolean;
  fansOut: boolean;
  /** Probabilities as they came true. */
  believes: boolean;
  /** Lead times as they came true. */
  learnsMargins: boolean;
  /** A change of the workflow makes the rest forget, the model first of all. */
  noticesDrift: boolean;
  /** How many executions of a task run at one time; else each needs a runtime of its own. */
  countsAtOnce: boolean;
  /** The earliest and latest of a hundred lead times; else a curve through p10, p50 and p90 stands for them. */
  knowsTails: boolean;
}

export const ALL_PARTS: LearnerParts = {
  measuresStarts: true,
  fansOut: true,
  believes: true,
  learnsMargins: true,
  noticesDrift: true,
  countsAtOnce: true,
  knowsTails: true,
};

/** All that the older half of a log teaches, to be copied: it is the same for all dials and seeds, and most parts. Nobody changes it. */
export interface Trained {
  runs: number;
  tasks: string[];
  image: Uint8Array;
  rows: ReadonlyMap<string, Counts>;
  /** See GraphRows. */
  refusals: string;
  learning: LearningState;
}

/**
 * What of the parts tells in training is told alone: the others are looked at when the model is asked. `told`: how many runs were
 * learned, after each.
 */
export function trainedOn(
  runs: AssembledRun[],
  module: WebAssembly.Module,
  { noticesDrift }: Pick<LearnerParts, "noticesDrift">,
  told: (runs: number) => void = () => {},
): Trained {
  const learner = new Learner(module, { ...ALL_PARTS, noticesDrift });
  for (const [i, run] of runs.entries()) {
    learner.take(run, 0);
    told(i + 1);
  }
  return learner.trained();
}

export class Learner {
  readonly starts = new MeasuredStarts();
  readonly learning: Learning;
  readonly #engine: WasmEngine;
  readonly #rows = new GraphRows();
  readonly #profiles = new Profiles(this.#rows.rows);
  readonly #tasks: string[];
  readonly #taskIds: Map<string, number>;
  readonly #parts: LearnerParts;
  #model: Model;
  #runs: number;

  /** `from`: goes on from there; absent: nothing is known. */
  constructor(module: WebAssembly.Module, parts: LearnerParts, from?: Trained) {
    this.#parts = parts;
    this.#engine = from ? loadEngine(module, from.image) : createEngine(module, "default", KNOWN_AFTER_MS);
    this.learning = new Learning(from?.learning);
    this.#tasks = [...(from?.tasks ?? [])];
    this.#taskIds = new Map(this.#tasks.map((task, id) => [task, id]));
    this.#runs = from?.runs ?? 0;
    if (from !== undefined) this.#rows.restoreRefusals(from.refusals);
    for (const [key, counts] of from?.rows ?? []) {
      const { family, parts } = rowParts(key);
      this.#rows.restore(family, parts, new Map(counts));
      this.#rows.changed.add(key);
    }
    this.#model = this.#published();
  }

  get model(): Model {
    return this.#model;
  }

  trained(): Trained {
    return {
      runs: this.#runs,
      tasks: this.#tasks,
      image: this.#engine.exportImage(),
      rows: this.#rows.rows,
      refusals: this.#rows.refusalsText(),
      learning: this.learning.state(),
    };
  }

  /** True where the run makes it certain that the workflow has changed. */
  learn(run: AssembledRun, atMs: number): boolean {
    const hasChanged = this.take(run, atMs);
    const every = Math.min(PROFILES_EVERY_MAX, Math.max(1, Math.floor(this.#runs * PROFILES_EVERY_SHARE)));
    if (this.#runs % every === 0) this.#model = this.#published();
    return hasChanged;
  }

  /** As `learn`, but what is asked of the model stays as it was published. */
  take(run: AssembledRun, atMs: number): boolean {
    const hasChanged = this.#review(run, atMs);
    this.#rows.apply(contributionOf(run), 1);
    const triggers = run.executions.reduce((sum, execution) => sum + execution.triggers.length, 0);
    if (run.executions.length <= RUN_EXECUTIONS_MAX && triggers <= RUN_TRIGGERS_MAX) {
      const kept = this.#parts.noticesDrift ? this.learning.keptOf(run) : OCCURRENCES_MAX;
      this.#engine.observe(
        observedRun(run, (task) => this.#intern(task), hashVersion),
        kept,
      );
    }
    this.#runs++;
    return hasChanged;
  }

  #review(run: AssembledRun, atMs: number): boolean {
    const { believes, learnsMargins, noticesDrift } = this.#parts;
    if (!believes && !learnsMargins && !noticesDrift) return false;
    return this.learning.sealed(run, this.#model, atMs).change !== null && noticesDrift;
  }

  #published(): Model {
    this.#profiles.update(this.#rows.changed);
    this.#rows.changed.clear();
    return {
      version: this.#runs,
      engine: this.#engine,
      tasks: this.#tasks,
      taskIds: this.#taskIds,
      profiles: new Map([...this.#profiles.byTask].map(([task, profile]) => [task, this.#profile(profile)])),
      adjustments: this.#adjustments,
    };
  }

  get #adjustments(): Adjustments {
    const { gate, margins } = this.learning;
    return { ...(this.#parts.believes ? { gate } : {}), ...(this.#parts.learnsMargins ? { margins } : {}) };
  }

  #profile(profile: TaskProfile): TaskProfile {
    let known = this.#parts.measuresStarts ? this.starts.correct(profile) : profile;
    if (!this.#parts.countsAtOnce) known = withoutCounts(known);
    if (!this.#parts.knowsTails) known = withoutTails(known);
    return this.#parts.fansOut ? known : withoutFanOut(known);
  }

  #intern(task: string): number {
    let id = this.#taskIds.get(task);
    if (id === undefined) {
      id = this.#tasks.push(task) - 1;
      this.#taskIds.set(task, id);
    }
    return id;
  }
}

function withoutCounts({ atOnce: _, perRunSpread: __, ...rest }: TaskProfile): TaskProfile {
  return rest;
}

function withoutTails(profile: TaskProfile): TaskProfile {
  return {
    ...profile,
    successors: profile.successors.map(({ leadMs: _, mostLeadMs: __, ...rest }) => rest),
  };
}

function withoutFanOut({ rootsTogether: _, ...alone }: TaskProfile): TaskProfile {
  return { ...alone, successors: alone.successors.map(({ task, probability }) => ({ task, probability })) };
}

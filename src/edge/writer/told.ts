// What the writer tells people of the learned. In: its state. Out: lists, most evidence first; and all of it, to be saved.
import { scoresOf } from "../../core/calibration.ts";
import type { LearningAnswer } from "../../protocol.ts";
import type { State } from "./state.ts";

/** Of one list. */
const LISTED_MAX = 1_000;
/** A change is news for so long, ms: an alert, and an event. */
export const ALERT_MS = 3_600_000;

/** Everything but the holds, which the hubs learn. */
export type WriterLearning = Omit<LearningAnswer, "holds">;

export function learningOf(state: State, nowMs: number): WriterLearning {
  const { learned, engine, tasks, modelVersion, unpublished } = state;
  const { gate, margins, placement, drift } = learned.learning;
  const changes = [...drift.changes()];
  return {
    frozen: [...learned.frozen],
    model: {
      version: modelVersion,
      tasks: tasks.length,
      ...engine.usage(),
      unpublishedRuns: unpublished,
      mixing: engine.mixing(),
    },
    starts: most(learned.starts.learned(), ({ count }) => count),
    margins: most(margins.learned(), ({ observations }) => observations),
    gate: most(gate.learned(), ({ observations }) => observations),
    placement: most(placement.learned(), ({ observations }) => observations),
    placementOffsets: most(placement.learnedOffsets(), ({ observations }) => observations),
    scores: scoresOf(learned.calibration.rows()),
    drift: {
      alert: changes.some(({ atMs }) => nowMs - atMs < ALERT_MS),
      relearning: drift.relearning().slice(0, LISTED_MAX),
      changes,
    },
  };
}

function most<T>(items: T[], evidence: (item: T) => number): T[] {
  return items.sort((a, b) => evidence(b) - evidence(a)).slice(0, LISTED_MAX);
}

// What the engine's mixers have learned, for people. In: the weights of one question as assembly/weights.ts keeps them. Out: per view of
// the path (assembly/contexts.ts, reach.ts) how much its evidence counts, and per mixer how much its answer counts.
// A view has a weight for each confidence in each of the mixers' weight sets; told is their mean, each as heavy as what it has learned from
// (its sum of squared gradients), so that weights which no path has ever chosen do not blur it.

interface ViewWeight {
  view: string;
  weight: number;
  /** Sum of squared gradients that its weights have learned from; 0: they are as they began. */
  evidence: number;
}

export interface QuestionMixing {
  views: ViewWeight[];
  /** Layer 2: by the view that chooses the mixer's weights, the mean over all weight sets. */
  mixers: { mixer: string; weight: number }[];
}

export interface Mixing {
  next: QuestionMixing;
  reach: QuestionMixing;
}

/** In the engine's order. */
const QUESTIONS = {
  next: {
    confidences: 4,
    mixers: ["run before", "last task", "known views", "gap"],
    views: [
      "nothing",
      "last task",
      "last 4",
      "last 6",
      "whole path",
      "set + last",
      "bag + last",
      "the two before the last",
      "last 3 without repeats",
      "version",
      "last two gaps",
      "last 3 + gap",
      "elapsed time",
      "set + elapsed time",
      "half hour of the day",
      "day of the week",
      "since the run before",
      "run before + whole path",
    ],
  },
  reach: {
    confidences: 10,
    mixers: ["run before known", "last task", "known views", "depth"],
    views: [
      "last task",
      "last 2",
      "last 3",
      "whole path",
      "set + last",
      "version",
      "whole path + gap",
      "whole path + five minutes",
      "since the end of the run before",
      "tasks of the run before",
      "tasks of the run before + since",
    ],
  },
} as const;
/** Of a weight that has learned nothing (assembly/weights.ts). */
const SQUARES_INITIAL = 20;

/** Final weights of a question: one for each mixer of each set of known views. */
export const FINALS: Record<keyof Mixing, number> = { next: 4 * 32, reach: 4 * 16 };

/** `squares`: the sum of squared gradients of each value. */
export function questionOf(
  question: keyof Mixing,
  { values, squares, finals }: { values: Float32Array; squares: Float32Array; finals: Float32Array },
): QuestionMixing {
  const { confidences, mixers, views } = QUESTIONS[question];
  const evidence = new Float64Array(views.length);
  const weighed = new Float64Array(views.length);
  const sums = new Float64Array(views.length);
  for (let i = 0; i < values.length; i++) {
    const view = Math.floor(i / confidences) % views.length;
    const learned = squares[i]! - SQUARES_INITIAL;
    evidence[view]! += learned;
    weighed[view]! += learned * values[i]!;
    sums[view]! += values[i]!;
  }
  const weightsPerView = values.length / views.length;
  return {
    views: views.map((view, v) => ({
      view,
      weight: evidence[v]! > 0 ? weighed[v]! / evidence[v]! : sums[v]! / weightsPerView,
      evidence: evidence[v]!,
    })),
    mixers: mixers.map((mixer, m) => {
      let sum = 0;
      for (let i = m; i < finals.length; i += 4) sum += finals[i]!;
      return { mixer, weight: sum / (finals.length / 4) };
    }),
  };
}

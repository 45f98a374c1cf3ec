// What is learned beside the graph, and how good predictions were.
import { z } from "zod";
import { DurationMs, InstantMs, Probability, Quantiles } from "./names.ts";

/** What is learned beside the graph. Each part can be frozen (asked, no longer changed) and reset. */
export const LearnedPart = z.enum(["model", "gate", "margins", "placement", "starts", "holds"]);
export type LearnedPart = z.infer<typeof LearnedPart>;

/** For freezing and unfreezing: absent stands for all parts. */
export const LearningParts = z.strictObject({ parts: z.array(LearnedPart).min(1).max(16).optional() });
/** What is reset is lost: it is named. */
export const LearningReset = z.strictObject({ parts: z.array(LearnedPart).min(1).max(16) });

/** What an import took. Holds of clusters that are not here are left out. */
export const LearningImported = z.object({
  imported: z.array(LearnedPart),
  skipped: z.array(z.object({ cluster: z.string(), reason: z.string() })),
});
export type LearningImported = z.infer<typeof LearningImported>;

const DemandError = z.object({ runs: z.number().int(), relativeError: z.number().nullable() });

/** How good predictions of sealed runs were; null: nothing was measured. Log-loss in nats, means per yes-or-no prediction. */
export const Scores = z.object({
  predictions: z.number().int(),
  logLoss: z.number().nullable(),
  brier: z.number().nullable(),
  /** Reliability: ten bins of equal width of the foretold probability, with the mean of what was foretold and of what came. */
  bins: z.array(
    z.object({ count: z.number().int(), foretold: Probability.nullable(), happened: Probability.nullable() }),
  ),
  /** Of lead times that are known, the shares that came before p10, within p10 to p90, and after p90. */
  leadTimes: z.object({
    count: z.number().int(),
    early: Probability.nullable(),
    covered: Probability.nullable(),
    late: Probability.nullable(),
  }),
  /** Σ |foretold − came| ÷ Σ came of runs in which all of it is known: of CPU; of peak memory, network bytes and warm duration beside it. */
  demand: DemandError.extend({ memory: DemandError, network: DemandError, duration: DemandError }),
});
export type Scores = z.infer<typeof Scores>;

/**
 * A change of the workflow that drift detection found; `atMs`: when the run ended that made it certain. Losses: log-loss of the most surprising
 * of what was foretold at a run's start, nats.
 */
export const WorkflowChange = z.object({ root: z.string(), atMs: InstantMs, usualLoss: z.number(), loss: z.number() });
export type WorkflowChange = z.infer<typeof WorkflowChange>;

/** What the model's mixers trust: each view of the path by how much its evidence counts, and what that was learned from (0: nothing yet). */
const QuestionMixing = z.object({
  views: z.array(z.object({ view: z.string(), weight: z.number(), evidence: z.number() })),
  /** Layer 2, by the view that chooses the mixer's weights. */
  mixers: z.array(z.object({ mixer: z.string(), weight: z.number() })),
});

const Factor = z.number();
/** Everything learned. Lists are cut at the thousand with the most evidence; the export has all. */
export const LearningAnswer = z.object({
  frozen: z.array(LearnedPart),
  model: z.object({
    version: z.number().int(),
    tasks: z.number().int(),
    /** How full the model is: evidence lines in use, and those that there are. */
    usedLines: z.number().int(),
    lines: z.number().int(),
    unpublishedRuns: z.number().int(),
    /** By question: what starts first, and what executes at all. */
    mixing: z.object({ next: QuestionMixing, reach: QuestionMixing }),
  }),
  /** Whole cold starts, measured; plans are timed by them. */
  starts: z.array(z.object({ task: z.string(), count: z.number().int(), wholeStartMs: Quantiles })),
  /** Factors on foretold lead times. */
  margins: z.array(z.object({ source: z.string(), target: z.string(), observations: z.number(), factors: Quantiles })),
  /** Added to the model's probability before the gate, by band of it: up to 0.1, 0.5, 0.9, 1. */
  gate: z.array(
    z.object({ context: z.string(), task: z.string(), observations: z.number(), shifts: z.array(z.number()) }),
  ),
  /** Factors on the placement's terms. */
  placement: z.array(
    z.object({
      cluster: z.string(),
      observations: z.number(),
      factors: z.object({
        servicesMs: Factor,
        transferMs: Factor,
        coldStartMs: Factor,
        queueMs: Factor,
        hopsMs: Factor,
      }),
    }),
  ),
  /** What comes of a placement's term on top, wherever the chain that begins with the task runs. */
  placementOffsets: z.array(
    z.object({ task: z.string(), term: z.string(), observations: z.number().int(), offsetMs: z.number() }),
  ),
  /** How long runtimes are held after a call, and the weights of the policies that compete. */
  holds: z.array(
    z.object({
      cluster: z.string(),
      task: z.string(),
      policy: z.string(),
      holdMs: DurationMs,
      weights: z.record(z.string(), Probability),
    }),
  ),
  /** Of this hour and the one before. */
  scores: Scores,
  drift: z.object({
    /** The workflow has changed within the last hour: what was learned before weighs little. */
    alert: z.boolean(),
    /** First tasks of the runs that are learned anew: of the next `runs` of a kind the model keeps little of what it had counted before. */
    relearning: z.array(z.object({ root: z.string(), runs: z.number().int() })),
    /** Newest last. */
    changes: z.array(WorkflowChange),
  }),
});
export type LearningAnswer = z.infer<typeof LearningAnswer>;

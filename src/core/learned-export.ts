// What GET /v1/learning/export gives and POST /v1/learning/import takes back. In: JSON of anybody. Out: the learned state of each part, each
// number within the bounds that learning itself keeps, or what is wrong where.
// Left out are this workspace's own accounts: which outcomes were taken, how good predictions were, what is frozen.
import { z } from "zod";
import { DurationMs, LearnedPart, PlaceName, TaskName } from "../protocol.ts";
import { CORRECTED_TERMS, type CorrectionState, FACTOR_MAX, FACTOR_MIN } from "./corrections.ts";
import { CHANGES_MAX, type DriftState, RELEARNING_RUNS } from "./drift.ts";
import type { GateState } from "./gate.ts";
import { BINS, HOLD_POLICIES, type KeepAliveState, RELEASES_MAX } from "./keepalive-state.ts";
import type { MarginState } from "./margins.ts";
import type { StartsText } from "./starts.ts";

/** Changes whenever a part's state means something else. */
export const EXPORT_FORMAT = 1;
/** Of any list or record in it: twice what the parts remember, so that a whole export always fits. */
const ENTRIES_MAX = 16_384;
const CLUSTERS_MAX = 64;
const TERMS = CORRECTED_TERMS.length;

const Count = z.number().nonnegative();
/** Two names with a tab between. */
const Pair = z.string().regex(/^[^\t]{1,256}\t[^\t]{1,256}$/, "expected two task names with a tab between");
const Counts = (length: number) => z.array(Count).length(length);

function bounded<Key extends z.ZodType<string, string>, Value extends z.ZodType>(
  key: Key,
  value: Value,
  max = ENTRIES_MAX,
) {
  return z
    .record(key, value)
    .refine((entries) => Object.keys(entries).length <= max, { error: `at most ${max} entries` });
}

const Frozen = z.boolean().default(false);
const Gate = z.object({
  frozen: Frozen,
  pairs: bounded(Pair, z.array(z.tuple([Count, Count, Count, Count])).length(4)),
}) satisfies z.ZodType<GateState>;

const Margins = z.object({
  frozen: Frozen,
  transitions: bounded(Pair, z.tuple([Count, z.number(), z.number(), z.number()])),
}) satisfies z.ZodType<MarginState>;

const Placement = z.object({
  frozen: Frozen,
  clusters: bounded(
    PlaceName,
    z.object({
      count: Count,
      factors: z.array(z.number().min(FACTOR_MIN).max(FACTOR_MAX)).length(TERMS),
      variances: Counts(TERMS).optional(),
      /** In exports from before terms were told apart. */
      covariance: z
        .array(z.number())
        .length(TERMS * TERMS)
        .optional(),
    }),
  ),
  /** Absent in exports from before they were learned. */
  offsets: bounded(Pair, z.object({ count: Count, ms: z.number(), variance: Count, spreadMs: Count })).default({}),
}) satisfies z.ZodType<CorrectionState>;

const Drift = z.object({
  /** Absent in exports from before the greatest surprise was watched. */
  roots: bounded(
    TaskName,
    z.object({
      runs: Count,
      mean: Count,
      variance: Count,
      sum: Count,
      relearning: z.int().min(0).max(RELEARNING_RUNS),
    }),
  ).default({}),
  changes: z.array(z.object({ root: TaskName, atMs: Count, usualLoss: Count, loss: Count })).max(CHANGES_MAX),
}) satisfies z.ZodType<DriftState>;

const Starts: z.ZodType<StartsText> = z
  .array(z.tuple([TaskName, z.array(z.tuple([z.string().regex(/^c(z|-?\d{1,3})$/), Count])).max(512)]))
  .max(ENTRIES_MAX);

const Holds = z.object({
  frozen: Frozen,
  price: z
    .object({
      frozen: Frozen,
      share: z.number().positive().max(1),
      budgetGbMs: Count,
      heldGbMs: Count,
      movedMs: Count.optional(),
    })
    .optional(),
  tasks: bounded(
    TaskName,
    z.object({
      gb: Count,
      fixedMs: DurationMs,
      sinceMs: z.number(),
      untilMs: z.number(),
      releasesMs: z.array(z.number()).max(RELEASES_MAX),
      passed: Counts(BINS),
      atRisk: Counts(BINS),
      called: Counts(BINS),
      spentMs: Counts(BINS).optional(),
      savedMs: Counts(BINS),
      keptMs: Counts(BINS).default(() => new Array<number>(BINS).fill(0)),
      harmed: Counts(BINS),
      calls: Count,
      waiting: Count,
      seen: Count,
      widest: Count.default(0),
      calledBin: z
        .int()
        .min(0)
        .max(BINS - 1)
        .nullable()
        .default(null),
      logWeights: z.array(z.number().max(0)).length(HOLD_POLICIES.length),
      meanCostMs: Count,
      histogramMs: DurationMs,
      holdMs: DurationMs,
    }),
  ),
}) satisfies z.ZodType<KeepAliveState>;

export const LearnedExport = z.strictObject({
  format: z.literal(EXPORT_FORMAT, {
    error: ({ input }) => `got ${JSON.stringify(input)?.slice(0, 32)}, expected ${EXPORT_FORMAT}`,
  }),
  /** Which of its parts are taken; absent: all that it has. */
  parts: z.array(LearnedPart).min(1).max(16).optional(),
  workspace: z.string().optional(),
  exportedMs: z.number().optional(),
  learned: z
    .object({ gate: Gate, margins: Margins, placement: Placement, drift: Drift, starts: Starts })
    .partial()
    .default({}),
  /** By cluster. */
  holds: bounded(PlaceName, Holds, CLUSTERS_MAX).default({}),
  /** The engine's image, gzip in base64, with the names of its tasks. */
  model: z.object({ tasks: z.array(TaskName).max(2 ** 20), image: z.base64() }).optional(),
});
export type LearnedExport = z.infer<typeof LearnedExport>;

/** Parts that the export has and that are asked for; drift goes with the model. */
export function partsOf({ parts, learned, holds, model }: LearnedExport): LearnedPart[] {
  const has: Record<LearnedPart, boolean> = {
    model: model !== undefined,
    gate: learned.gate !== undefined,
    margins: learned.margins !== undefined,
    placement: learned.placement !== undefined,
    starts: learned.starts !== undefined,
    holds: Object.keys(holds).length > 0,
  };
  return LearnedPart.options.filter((part) => has[part] && (parts?.includes(part) ?? true));
}

// What became of commands and predictions, one by one and in totals.
import { z } from "zod";
import { CommandKind } from "./commands.ts";
import { Scores } from "./learning.ts";
import { DurationMs, InstantMs, PlaceName, Probability, TaskName } from "./names.ts";

export const OutcomeKind = z.enum(["hit", "late", "miss", "waste", "failed"]);
export type OutcomeKind = z.infer<typeof OutcomeKind>;

export const Outcome = z.object({
  /** Of the command, or `miss:` and the execution. Makes a repeated report harmless. */
  outcomeId: z.string(),
  commandId: z.string().nullable(),
  kind: CommandKind,
  outcome: OutcomeKind,
  cluster: z.string(),
  vm: z.string(),
  task: z.string().nullable(),
  uri: z.string().nullable(),
  runId: z.string().nullable(),
  executionId: z.string().nullable(),
  atMs: InstantMs,
  /** Latency taken off a user's path; negative never. */
  savedMs: z.number(),
  bytes: z.number(),
  gbSeconds: z.number(),
  reason: z.string().nullable(),
  /** That the prepared thing would be needed, as the plan had it; null for a miss. */
  probability: Probability.nullable(),
  /** The same as the model foretold it, before the gate's beliefs; null for a miss. */
  foretold: Probability.nullable(),
  /** The task that was asked for when it was planned; null for a miss. */
  context: z.string().nullable(),
  /** The run's expected chain when it came to the cluster first; null where it is not known. */
  chain: z.array(z.string()).nullable(),
  /** What the runtime's start took, whoever asked for it; null where none was started. */
  wholeStartMs: DurationMs.nullable(),
  /** A miss of a run that no plan was sent for (`shadow`, `paused`, outside the canary's share): preparation was not tried. */
  unsent: z.boolean(),
});
export type Outcome = z.infer<typeof Outcome>;

export const OutcomeTotal = z.object({
  kind: CommandKind,
  outcome: OutcomeKind,
  count: z.number().int(),
  /** Of the count: misses that are no fault of preparation, see Outcome. */
  unsent: z.number().int(),
  bytes: z.number(),
  gbSeconds: z.number(),
  savedMs: z.number(),
});
export type OutcomeTotal = z.infer<typeof OutcomeTotal>;

/** Of a window: instants of outcomes. Up to an hour is exact, a longer one takes whole hours. Neither: everything. */
export const OutcomesQuery = z
  .strictObject({
    fromMs: z.coerce.number().nonnegative().optional(),
    toMs: z.coerce.number().nonnegative().optional(),
    task: TaskName.optional(),
    cluster: PlaceName.optional(),
    groupBy: z.enum(["hour", "task", "cluster", "chain"]).optional(),
    limit: z.coerce.number().int().min(0).max(1_000).default(50),
  })
  .refine(({ fromMs = 0, toMs = Number.POSITIVE_INFINITY }) => fromMs <= toMs, {
    path: ["fromMs"],
    error: "is after toMs",
  });
export type OutcomesQuery = z.infer<typeof OutcomesQuery>;

export const OutcomeGroup = z.object({
  /** Start of the hour, ms since the epoch. Of these four the one that was asked for is there; "" and [] where it is not known. */
  hourMs: InstantMs.optional(),
  task: z.string().optional(),
  cluster: z.string().optional(),
  chain: z.array(z.string()).optional(),
  totals: z.array(OutcomeTotal),
  /** How good predictions were of it; absent where none was settled. */
  scores: Scores.optional(),
});
export type OutcomeGroup = z.infer<typeof OutcomeGroup>;

/** Of the last day, whatever was asked for. */
export const Alert = z.object({
  /** Users wait for starts that were foreseen and that no command was ever sent for; or nobody ever uses what is prepared. */
  kind: z.enum(["never_prepared", "always_wasted"]),
  task: z.string(),
  count: z.number().int(),
  detail: z.string(),
});
export type Alert = z.infer<typeof Alert>;

export const OutcomesAnswer = z.object({
  /** What the totals are of; null where everything was asked for. */
  fromMs: InstantMs.nullable(),
  toMs: InstantMs.nullable(),
  totals: z.array(OutcomeTotal),
  recent: z.array(Outcome),
  /** Where `groupBy` asked for them. */
  groups: z.array(OutcomeGroup).optional(),
  /** How good predictions were in these hours (of the last day where everything was asked for). */
  scores: Scores,
  alerts: z.array(Alert),
});
export type OutcomesAnswer = z.infer<typeof OutcomesAnswer>;

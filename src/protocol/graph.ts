// The graph and the chains as people read them, and what a rebuilt model was made of.
import { z } from "zod";
import { Probability, Quantiles } from "./names.ts";
import { Chain } from "./predictions.ts";

const Count = z.number().int();

/** Quantiles are null where no execution tells. */
export const GraphTask = z.object({
  task: z.string(),
  /** Executions; the attempts of one count once. */
  count: Count,
  runs: Count,
  /** Executions that nothing triggered. */
  roots: Count,
  errors: Count,
  retries: Count,
  coldStarts: Count,
  versions: Count,
  /** Warm: without its cold start and those of the callees that it waited for. */
  durationMs: Quantiles.nullable(),
  coldStartMs: Quantiles.nullable(),
  queueMs: Quantiles.nullable(),
  cpuMs: Quantiles.nullable(),
  memoryBytes: Quantiles.nullable(),
  outputBytes: Quantiles.nullable(),
  /** Share of a delay of this task that reaches the end of its run: 1 on the critical path. */
  latencySensitivity: z.number(),
});
export type GraphTask = z.infer<typeof GraphTask>;
export const GraphTransition = z.object({
  source: z.string(),
  target: z.string(),
  /** `call`: the target started while the source ran. `sequence`: after it ended. `link`: joined by a link alone. */
  kind: z.enum(["call", "sequence", "link"]),
  count: z.number().int(),
  weight: z.number(),
  probability: Probability,
  multiplicity: z.number(),
  delayMs: Quantiles.nullable(),
  transferBytes: z.number().nullable(),
});
export type GraphTransition = z.infer<typeof GraphTransition>;
export const GraphAnswer = z.object({
  /** Of the published model. */
  version: z.number().int(),
  tasks: z.array(GraphTask),
  transitions: z.array(GraphTransition),
  /** Sealed runs; of them those whose clocks disagreed, and whose triggers formed a circle; and executions whose parent never came. */
  runs: Count,
  skewed: Count,
  cyclic: Count,
  orphans: Count,
  /** Runs that are not sealed yet: they are in the counts, not in the model. */
  openRuns: z.number().int().optional(),
  /** Runs that were learned since `version` was published. */
  unpublishedRuns: z.number().int().optional(),
  /** How many rows of each kind there are and may be, and how often one more was refused. */
  limits: z
    .array(z.object({ rows: z.string(), count: z.number().int(), max: z.number().int(), refused: z.number().int() }))
    .optional(),
  /** What the graph has had no room for, in words; absent where it is whole. */
  warnings: z.array(z.string()).optional(),
});
export type GraphAnswer = z.infer<typeof GraphAnswer>;

export const MinedChain = Chain.extend({
  /** Runs that held the whole chain. */
  runs: z.number().int(),
  /** Decayed to what is usual now. */
  runsPerHour: z.number(),
});
export type MinedChain = z.infer<typeof MinedChain>;

/** GET /v1/chains: by score, highest first. */
export const ChainsAnswer = z.object({
  chains: z.array(MinedChain),
  total: z.number().int(),
  offset: z.number().int(),
  /** `?cursor=` of the next page, where each chain comes once although scores move; null after the last. */
  next: z.string().nullable(),
});
export type ChainsAnswer = z.infer<typeof ChainsAnswer>;

/** POST /v1/model/rebuild: what the new model was made of, and how many tasks the old one knew that it does not. */
export const Rebuilt = z.object({
  modelVersion: z.number().int(),
  runs: z.number().int(),
  executions: z.number().int(),
  tasks: z.number().int(),
  tasksForgotten: z.number().int(),
});
export type Rebuilt = z.infer<typeof Rebuilt>;

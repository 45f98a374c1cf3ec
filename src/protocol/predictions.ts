// What will follow a task: the question, and the answer with its chains and their demand.
import { z } from "zod";
import { Bytes, DurationMs, Params, Probability, Quantiles, TaskName, Version } from "./names.ts";

/** Oldest tasks of a path are dropped beyond this; the engine's longest context is shorter. */
export const PATH_TASKS_MAX = 256;

export const PredictionRequest = z.strictObject({
  task: TaskName,
  version: Version.optional(),
  /** The tasks from the run's root to here, oldest first, without `task`. */
  path: z.array(TaskName).max(PATH_TASKS_MAX).optional(),
  continuation: z.string().max(4096).optional(),
  params: Params.optional(),
  /** Only tasks whose median lead time lies within it. */
  horizonMs: DurationMs.optional(),
  /** Cuts `reach`, never `next`. */
  maxTasks: z.number().int().min(1).max(1000).optional(),
});
export type PredictionRequest = z.infer<typeof PredictionRequest>;

export const Chain = z.object({
  tasks: z.array(z.string()),
  probability: Probability,
  score: z.number(),
  resourceDemand: z.number(),
  latencySensitivity: z.number(),
});
export type Chain = z.infer<typeof Chain>;

export const PrefetchItem = z.object({
  kind: z.enum(["object", "code"]),
  uri: z.string(),
  bytes: Bytes.nullable(),
  task: z.string(),
  probability: Probability,
  /** From now until the task that needs it is expected at the earliest (p10). */
  deadlineMs: DurationMs,
  /** The task of this same chain that writes the object first; it cannot be fetched before that one ends. */
  producer: z.string().nullable(),
});
export type PrefetchItem = z.infer<typeof PrefetchItem>;

export const Demand = z.object({
  cpuMs: z.number(),
  peakMemoryBytes: z.number(),
  networkBytes: z.number(),
  prefetch: z.array(PrefetchItem),
});
export type Demand = z.infer<typeof Demand>;

export const Reach = z.object({
  task: z.string(),
  probability: Probability,
  leadTimeMs: Quantiles.nullable(),
  multiplicity: z.number(),
  route: z.array(z.string()),
});
export type Reach = z.infer<typeof Reach>;

export const Prediction = z.object({
  modelVersion: z.number().int(),
  /** `task: null` is the end. Sums to 1 unless the model has never seen the task (then it is empty). */
  next: z.array(z.object({ task: z.string().nullable(), probability: Probability })),
  reach: z.array(Reach),
  chains: z.array(Chain),
  demand: Demand,
});
export type Prediction = z.infer<typeof Prediction>;

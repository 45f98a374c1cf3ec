// Where a chain goes and what is prepared for it: the request, the plan, and why the others were not taken.
import { z } from "zod";
import { CommandKind } from "./commands.ts";
import { Mode } from "./declarations.ts";
import { Bytes, Id, InstantMs, PlaceName, Probability, Uri } from "./names.ts";
import { PredictionRequest } from "./predictions.ts";

export const Constraints = z.strictObject({
  clusters: z.array(PlaceName).max(1000).optional(),
  excludeClusters: z.array(PlaceName).max(1000).optional(),
  labels: z.record(z.string(), z.string()).optional(),
});
export type Constraints = z.infer<typeof Constraints>;

export const AllocationRequest = PredictionRequest.extend({
  runId: Id,
  executionId: Id.optional(),
  inputs: z
    .array(z.strictObject({ uri: Uri, bytes: Bytes.optional() }))
    .max(256)
    .optional(),
  constraints: Constraints.optional(),
  dryRun: z.boolean().optional(),
});
export type AllocationRequest = z.infer<typeof AllocationRequest>;

export const PlanItem = z.object({
  commandId: z.string(),
  kind: CommandKind,
  task: z.string().optional(),
  uri: z.string().optional(),
  probability: Probability,
  notBeforeMs: InstantMs,
  deadlineMs: InstantMs,
  savedMs: z.number(),
});
export type PlanItem = z.infer<typeof PlanItem>;

export const SkippedItem = z.object({
  kind: CommandKind,
  task: z.string().optional(),
  uri: z.string().optional(),
  probability: Probability,
  savedMs: z.number(),
  reason: z.string(),
});
export type SkippedItem = z.infer<typeof SkippedItem>;

/** Every term is expected milliseconds of chain latency, so that terms add and explain themselves. */
export const PlacementTerms = z.object({
  servicesMs: z.number(),
  transferMs: z.number(),
  coldStartMs: z.number(),
  queueMs: z.number(),
  hopsMs: z.number(),
  priceMs: z.number(),
});
export type PlacementTerms = z.infer<typeof PlacementTerms>;

export const Alternative = z.object({
  chain: z.array(z.string()),
  cluster: z.string(),
  totalMs: z.number(),
  terms: PlacementTerms,
});
export type Alternative = z.infer<typeof Alternative>;

export const ClusterRefusal = z.object({ cluster: z.string(), reason: z.string() });
export type ClusterRefusal = z.infer<typeof ClusterRefusal>;

export const AllocationAnswer = z.object({
  allocationId: z.string(),
  mode: Mode,
  /** Whether the plan was sent: not in `shadow` or `paused`, of a dry run, or of a run outside the canary's share. */
  acted: z.boolean(),
  cluster: z.string(),
  vm: z.string(),
  url: z.string().nullable(),
  continuation: z.string(),
  chain: z.array(z.string()),
  plan: z.array(PlanItem),
  skipped: z.array(SkippedItem),
  alternatives: z.array(Alternative),
  refused: z.array(ClusterRefusal),
  modelVersion: z.number().int(),
});
export type AllocationAnswer = z.infer<typeof AllocationAnswer>;

export const AllocationState = z.enum(["pending", "allocated", "executed", "failed", "expired"]);
export const AllocationRecord = AllocationAnswer.partial().extend({
  allocationId: z.string(),
  runId: z.string(),
  executionId: z.string(),
  task: z.string(),
  state: AllocationState,
  createdMs: InstantMs,
  /** When the answer of the call began; absent where the caller dispatches it. */
  answeredMs: InstantMs.optional(),
  outcome: z.enum(["warm", "cold", "failed"]).nullable(),
});
export type AllocationRecord = z.infer<typeof AllocationRecord>;

// Executions: what logs are made of, and what an ingest answers. Unknown fields are ignored here, and counted.
import { z } from "zod";
import { Bytes, DurationMs, Id, Params, PlaceName, TaskName, Uri, Version } from "./names.ts";

export const ObjectUse = z.object({ uri: Uri, bytes: Bytes });
export const ServiceUse = z.object({
  service: z.string().min(1).max(256),
  calls: z.number().int().nonnegative(),
  bytes: Bytes,
  /** Mean latency of one call. */
  latencyMs: DurationMs.optional(),
});
export type ServiceUse = z.infer<typeof ServiceUse>;
export const ExecutionStatus = z.enum(["ok", "error", "timeout"]);

/** One invocation of a task. Missing is unknown; unknown is never 0. */
export const Execution = z.object({
  runId: Id,
  executionId: Id,
  parentId: Id.optional(),
  links: z.array(Id).max(128).optional(),
  sequence: z.number().int().nonnegative().optional(),
  task: TaskName,
  version: Version.optional(),
  startMs: z.number(),
  endMs: z.number(),
  attempt: z.number().int().nonnegative().optional(),
  status: ExecutionStatus.default("ok"),
  queueMs: DurationMs.optional(),
  fetchMs: DurationMs.optional(),
  coldStartMs: DurationMs.optional(),
  cpuMs: DurationMs.optional(),
  memoryBytes: Bytes.optional(),
  inputs: z.array(ObjectUse).max(256).optional(),
  outputs: z.array(ObjectUse).max(256).optional(),
  outputBytes: Bytes.optional(),
  params: Params.optional(),
  services: z.array(ServiceUse).max(64).optional(),
  cluster: PlaceName.optional(),
  vm: PlaceName.optional(),
  /** One of our own prewarms: never counted. */
  speculative: z.boolean().optional(),
});
export type Execution = z.infer<typeof Execution>;

/** An execution as senders write it: many say null for what they do not know, which is the same as leaving it out. */
export function parseExecution(item: unknown): z.ZodSafeParseResult<Execution> {
  const parsed = Execution.safeParse(item);
  return parsed.success ? parsed : Execution.safeParse(withoutNulls(item));
}

function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== "object" || value === null) return value;
  const known = Object.entries(value).filter(([, inner]) => inner !== null);
  return Object.fromEntries(known.map(([key, inner]) => [key, withoutNulls(inner)]));
}

/** Largest batch of one call; more is refused with 413, so that a journal row stays far below the 2 MB row limit. */
export const EXECUTIONS_PER_BATCH_MAX = 5_000;

export const IngestAnswer = z.object({
  accepted: z.number().int(),
  duplicates: z.number().int(),
  rejected: z.array(z.object({ index: z.number().int(), reason: z.string() })),
  /** Fields that this version does not know, by name, with how often they came. */
  ignoredFields: z.record(z.string(), z.number().int()).optional(),
});
export type IngestAnswer = z.infer<typeof IngestAnswer>;

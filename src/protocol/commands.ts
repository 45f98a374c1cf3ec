// What an agent is told to do, and what it reports of it: results, uses, ends, misses.
import { z } from "zod";
import { Bytes, DurationMs, Id, InstantMs, Probability, TaskName, Uri } from "./names.ts";

export const CommandKind = z.enum(["prefetch", "warm", "execute", "evict", "drain"]);
export type CommandKind = z.infer<typeof CommandKind>;

export const Command = z.object({
  commandId: z.string(),
  leaseId: z.string(),
  leaseMs: DurationMs,
  kind: CommandKind,
  task: z.string().optional(),
  version: z.string().optional(),
  uri: z.string().optional(),
  bytes: Bytes.nullable().optional(),
  /** Instants of the hub's clock, which `nowMs` of the same answer tells. */
  notBeforeMs: InstantMs,
  deadlineMs: InstantMs,
  expiresMs: InstantMs,
  probability: Probability,
  attempt: z.number().int().positive(),
  /** `execute` only: the call, which never names a command line. */
  request: z
    .object({
      method: z.string(),
      path: z.string(),
      headers: z.record(z.string(), z.string()),
      /** Base64. */
      body: z.string(),
    })
    .optional(),
});
export type Command = z.infer<typeof Command>;
export const CommandsAnswer = z.object({ nowMs: InstantMs, commands: z.array(Command) });
export type CommandsAnswer = z.infer<typeof CommandsAnswer>;

export const CommandResult = z.strictObject({
  commandId: z.string().max(128),
  leaseId: z.string().max(128),
  state: z.enum(["done", "failed"]),
  reason: z.string().max(1024).optional(),
  /** Loaded by this command: 0 where the cache had it already, never 0 for an object that had to be fetched. */
  bytes: Bytes.optional(),
  /** Work began; runtime said ready or object was whole. Hub's clock. */
  startedMs: InstantMs.optional(),
  readyMs: InstantMs.optional(),
  /** `warm` only: what the runtime's start took, with the objects it waited for; absent where an idle one was there. */
  wholeStartMs: DurationMs.optional(),
  /** `execute` only: what the caller receives, also of one that failed. A header may have several values. */
  response: z
    .strictObject({
      status: z.number().int(),
      headers: z.record(z.string(), z.union([z.string(), z.array(z.string())])),
      body: z.string(),
    })
    .optional(),
});
export type CommandResult = z.infer<typeof CommandResult>;

/** A user's execution met something that a command had prepared, or was still preparing. */
export const PreparedUse = z.strictObject({
  commandId: z.string().max(128),
  runId: Id,
  executionId: Id,
  usedMs: InstantMs,
  /** What the user's execution still waited for it; 0 when it was ready. */
  waitedMs: DurationMs,
  /** What it would have cost without: the runtime's measured start, or the object's measured load. */
  savedMs: DurationMs,
});
export type PreparedUse = z.infer<typeof PreparedUse>;

/** Something prepared is gone: with `used` false this is waste. */
export const PreparedEnd = z.strictObject({
  commandId: z.string().max(128),
  endedMs: InstantMs,
  used: z.boolean(),
  reason: z.enum(["expired", "evicted", "stopped", "replaced", "crashed"]),
  /** Held from ready (or last use) to the end. */
  heldMs: DurationMs,
  memoryBytes: Bytes,
  bytes: Bytes,
});
export type PreparedEnd = z.infer<typeof PreparedEnd>;

/** A user's execution found nothing prepared and paid for it. */
export const UnpreparedUse = z.strictObject({
  kind: z.enum(["warm", "prefetch"]),
  task: TaskName,
  uri: Uri.optional(),
  runId: Id,
  executionId: Id,
  atMs: InstantMs,
  costMs: DurationMs,
  bytes: Bytes.optional(),
  /** `warm` only: what the start took of the runtime that was started for it. */
  wholeStartMs: DurationMs.optional(),
});
export type UnpreparedUse = z.infer<typeof UnpreparedUse>;

export const AgentReport = z.strictObject({
  results: z.array(CommandResult).max(1000).default([]),
  uses: z.array(PreparedUse).max(1000).default([]),
  ends: z.array(PreparedEnd).max(1000).default([]),
  misses: z.array(UnpreparedUse).max(1000).default([]),
});
export type AgentReport = z.infer<typeof AgentReport>;
export const AgentReportAnswer = z.object({
  accepted: z.number().int(),
  /** By command id: unknown, stale lease, settled before. */
  refused: z.array(z.object({ commandId: z.string(), reason: z.string() })),
});
export type AgentReportAnswer = z.infer<typeof AgentReportAnswer>;

// An agent's heartbeat, and the messages of its WebSocket.
import { z } from "zod";
import { AgentReport, AgentReportAnswer, CommandsAnswer } from "./commands.ts";
import { VmUrl } from "./declarations.ts";
import { Bytes, DurationMs, Id, InstantMs, PlaceName, Probability, TaskName, Uri, Version } from "./names.ts";

export const RuntimeState = z.enum(["starting", "ready", "busy"]);
/** An agent that has more calls than this names none: they then last until their time is over. */
export const HEARTBEAT_CALLS_MAX = 1_000;

export const Heartbeat = z.strictObject({
  agentVersion: z.string().max(64),
  /** The agent's clock; the hub answers with its own, and the agent works with the difference. */
  nowMs: InstantMs,
  /** Random at each start of the agent: a second agent with the same VM name is told apart. */
  instanceId: Id,
  url: VmUrl.optional(),
  capacity: z.strictObject({
    cpuCores: z.number().positive(),
    memoryBytes: Bytes,
    diskBytes: Bytes,
    diskFreeBytes: Bytes,
  }),
  load: z.strictObject({
    /** Busy share of all cores. */
    cpu: Probability,
    memoryBytes: Bytes,
    /** Of it, what idle runtimes hold: they end where a start needs the memory. */
    idleMemoryBytes: Bytes.optional(),
    executions: z.number().int().nonnegative(),
  }),
  runtimes: z
    .array(
      z.strictObject({
        task: TaskName,
        version: Version.optional(),
        state: RuntimeState,
        expiresMs: InstantMs.optional(),
      }),
    )
    .max(1000),
  cache: z.strictObject({
    bytes: Bytes,
    maxBytes: Bytes,
    /** Most recently used first; cut at 2,000. */
    uris: z.array(Uri).max(2000),
  }),
  /** Tasks of the agent's own configuration: the only ones that commands may name. */
  tasks: z
    .array(
      z.strictObject({
        task: TaskName,
        version: Version.optional(),
        /** As the agent's own configuration has it. */
        keepAliveMs: DurationMs.optional(),
      }),
    )
    .max(5000),
  /** Runtimes that became idle after a call since the last heartbeat, oldest first, on the hub's clock. */
  released: z
    .array(z.strictObject({ task: TaskName, atMs: InstantMs }))
    .max(1000)
    .optional(),
  /** Measured by the agent: smoothed latency and bandwidth to services. */
  probes: z
    .array(
      z.strictObject({
        service: PlaceName,
        latencyMs: DurationMs,
        bandwidthBytesPerSecond: z.number().positive().optional(),
      }),
    )
    .max(256)
    .optional(),
  /** `execute` commands that this process has and whose results are not accepted yet: what the hub gave it and is not here is lost. */
  calls: z.array(Id).max(HEARTBEAT_CALLS_MAX).optional(),
  /** True in the last heartbeat of a graceful stop. */
  leaving: z.boolean().optional(),
  /** With `leaving`: by then the agent has finished its calls or ended them, and told so. Whatever it has not is lost. */
  leavesWithinMs: DurationMs.optional(),
});
export type Heartbeat = z.infer<typeof Heartbeat>;

export const HeartbeatAnswer = z.object({
  nowMs: InstantMs,
  /** When the next one is expected. */
  nextHeartbeatMs: DurationMs,
  /** Base64url HMAC key of this VM: signatures on /invoke are checked with it. */
  invokeKey: z.string(),
  draining: z.boolean(),
  /** For the agent's tasks: the keep-alive that the operator declared, else the one that was learned; and time-outs. */
  tasks: z.record(z.string(), z.object({ keepAliveMs: DurationMs.nullable(), timeoutMs: DurationMs })),
  services: z.array(z.object({ service: z.string(), probeUrl: z.string() })),
});
export type HeartbeatAnswer = z.infer<typeof HeartbeatAnswer>;

/** What an agent says over its WebSocket (`…/socket`), as JSON text. `id` comes back with the answer. */
export const AgentMessage = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("heartbeat"), id: z.number().int(), heartbeat: Heartbeat }),
  z.strictObject({ type: z.literal("report"), id: z.number().int(), report: AgentReport }),
]);
export type AgentMessage = z.infer<typeof AgentMessage>;

/** What it hears. Commands come as they become due, without being asked for; `ping` is answered `pong`. */
export const HubMessage = z.discriminatedUnion("type", [
  z.object({ type: z.literal("commands"), answer: CommandsAnswer }),
  z.object({ type: z.literal("heartbeat"), id: z.number().int(), answer: HeartbeatAnswer }),
  z.object({ type: z.literal("report"), id: z.number().int(), answer: AgentReportAnswer }),
  z.object({
    type: z.literal("refused"),
    id: z.number().int().nullable(),
    status: z.number().int(),
    detail: z.string(),
  }),
]);
export type HubMessage = z.infer<typeof HubMessage>;

// What the operator declares: tasks, clusters with their VMs, services, proximity, the policy.
import { z } from "zod";
import { ServiceUse } from "./executions.ts";
import { Bytes, DurationMs, PlaceName, Probability, Uri, Version } from "./names.ts";

export const TaskDeclaration = z.strictObject({
  version: Version.optional(),
  prewarm: z.enum(["allowed", "never"]).default("allowed"),
  /** How much a ms of this task's latency matters against others. */
  latencyWeight: z.number().min(0).max(1000).default(1),
  code: z
    .array(z.strictObject({ uri: Uri, bytes: Bytes.optional() }))
    .max(16)
    .default([]),
  /** Objects it reads, or templates such as `https://store/videos/{videoId}.bin`. */
  objects: z
    .array(z.strictObject({ uri: Uri, bytes: Bytes.optional() }))
    .max(64)
    .default([]),
  services: z.array(ServiceUse).max(64).default([]),
  memoryBytes: Bytes.optional(),
  cpuMs: DurationMs.optional(),
  coldStartMs: DurationMs.optional(),
  keepAliveMs: DurationMs.optional(),
  /** Bound on one invocation. */
  timeoutMs: DurationMs.max(3_600_000).default(60_000),
});
export type TaskDeclaration = z.infer<typeof TaskDeclaration>;

/** Where the gateway reaches a VM's agent. Deployed Workers need a hostname or a tunnel, not a bare private address. */
export const VmUrl = z.url({ protocol: /^https?$/ }).max(512);

export const VmDeclaration = z.strictObject({
  vm: PlaceName,
  /** Absent: not reachable from outside; the hub then sends `execute` commands. */
  url: VmUrl.optional(),
  cpuCores: z.number().positive().max(4096),
  memoryBytes: Bytes.positive(),
  diskBytes: Bytes.optional(),
  networkBytesPerSecond: z.number().positive().optional(),
  draining: z.boolean().default(false),
});
export type VmDeclaration = z.infer<typeof VmDeclaration>;

/** What is none would approve nothing, without a word. */
const ApprovedHost = z
  .string()
  .max(260)
  .regex(/^(\*\.)?[A-Za-z0-9._\-[\]:]+$/, "expected `host`, `host:port` or `*.suffix`");

export const ClusterDeclaration = z.strictObject({
  vms: z.array(VmDeclaration).max(1000).default([]),
  labels: z.record(z.string().max(63), z.string().max(255)).default({}),
  draining: z.boolean().default(false),
  /** Hosts (`host`, `host:port` or `*.suffix`) of which agents may announce URLs of their own. */
  approvedHosts: z.array(ApprovedHost).max(64).default([]),
  pricePerGbSecond: z.number().nonnegative().default(0),
  /** One way between two VMs of the cluster. */
  internalLatencyMs: DurationMs.default(0.5),
});
export type ClusterDeclaration = z.infer<typeof ClusterDeclaration>;

export const ServiceDeclaration = z.strictObject({
  kind: z.string().max(64).default("service"),
  /** Hosts (with port) of its URIs: objects stored there are transferred at this service's proximity. */
  hosts: z.array(z.string().max(255)).max(64).default([]),
  /** What agents may probe. */
  probeUrl: VmUrl.optional(),
});
export type ServiceDeclaration = z.infer<typeof ServiceDeclaration>;

export const ProximityEntry = z.strictObject({
  cluster: PlaceName,
  /** A service, or another cluster. */
  peer: PlaceName,
  latencyMs: DurationMs,
  bandwidthBytesPerSecond: z.number().positive(),
});
export type ProximityEntry = z.infer<typeof ProximityEntry>;
export const ProximityDeclaration = z.strictObject({ entries: z.array(ProximityEntry).max(20_000) });
export type ProximityDeclaration = z.infer<typeof ProximityDeclaration>;

export const Budgets = z.strictObject({
  inFlightCommands: z.number().int().nonnegative().default(256),
  prefetchBytesPerHour: z
    .number()
    .nonnegative()
    .default(64 * 2 ** 30),
  warmGbSecondsPerHour: z.number().nonnegative().default(36_000),
});

export const Mode = z.enum(["shadow", "canary", "active", "paused"]);
export type Mode = z.infer<typeof Mode>;

export const Policy = z.strictObject({
  mode: Mode.default("shadow"),
  /** Share of runs that are acted for in `canary`. */
  canaryShare: Probability.default(0.1),
  /** The operator's dial: how many ms of a user's waiting are worth one GB held for one second. */
  msPerGbSecond: z.number().nonnegative().default(20),
  /** And one GB moved that nobody needed. */
  msPerGb: z.number().nonnegative().default(2_000),
  /** How long a prepared runtime or object is held past its p90 lead time. */
  holdMs: DurationMs.default(5_000),
  /** A keep-alive that is learned is never longer. */
  keepAliveMaxMs: DurationMs.default(14_400_000),
  /** Commands of one plan at most. */
  fanOutMax: z.number().int().min(0).max(1024).default(32),
  budgets: Budgets.default(Budgets.parse({})),
  /** Receives a signed CloudEvent `scale-out` when nothing is suitable. */
  webhookUrl: VmUrl.optional(),
});
export type Policy = z.infer<typeof Policy>;

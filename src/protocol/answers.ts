// Answers of the operator's calls that no other part describes: the fleet as it is, keys without their secrets, commands by state.
import { z } from "zod";
import { CommandKind } from "./commands.ts";
import { ClusterDeclaration, ServiceDeclaration, TaskDeclaration } from "./declarations.ts";
import { Bytes, DurationMs, InstantMs, Probability } from "./names.ts";

const VmState = z.object({
  vm: z.string(),
  /** Null where the VM cannot be reached from outside: it is sent `execute` commands. */
  url: z.string().nullable(),
  cpuCores: z.number(),
  memoryBytes: Bytes,
  networkBytesPerSecond: z.number().nullable(),
  draining: z.boolean(),
  /** Hub's clock; null where no agent has ever reported. */
  lastHeartbeatMs: InstantMs.nullable(),
  /** Busy share of all cores. */
  cpuLoad: Probability,
  /** In use by runtimes and reservations; of it what idle runtimes hold, which end for whoever starts one. */
  memoryUsedBytes: z.number(),
  memoryIdleBytes: z.number().optional(),
  executions: z.number().int(),
  tasks: z.array(z.string()),
  /** Idle runtimes that said ready, by task; and when the last of a task ends unless it is used. */
  warm: z.record(z.string(), z.number().int()),
  warmUntilMs: z.record(z.string(), InstantMs).optional(),
  /** Being started now, by task. */
  starting: z.record(z.string(), z.number().int()),
  /** Most recently used objects of the cache. */
  uris: z.array(z.string()),
});

const ClusterState = z.object({
  cluster: z.string(),
  labels: z.record(z.string(), z.string()),
  draining: z.boolean(),
  pricePerGbSecond: z.number(),
  /** What memory is worth there now; absent: the policy's dial. */
  msPerGbSecond: z.number().optional(),
  /** By how much runtimes are held shorter there than the operator's keep-alive, by task. */
  sparedMs: z.record(z.string(), DurationMs).optional(),
  internalLatencyMs: DurationMs,
  /** Held for chains that are not running yet. */
  reservedMemoryBytes: z.number(),
  reservedCpuCores: z.number(),
  /** To services and to other clusters, by name. */
  proximity: z.record(z.string(), z.object({ latencyMs: DurationMs, bandwidthBytesPerSecond: z.number() })),
  vms: z.array(VmState),
});

/** GET /v1/clusters. */
export const ClustersAnswer = z.object({ atMs: InstantMs, clusters: z.array(ClusterState) });
export type ClustersAnswer = z.infer<typeof ClustersAnswer>;

/** GET /v1/clusters/:cluster. `declaration` is null where only agents have spoken for it. */
export const ClusterAnswer = ClusterState.extend({ declaration: ClusterDeclaration.nullable() });
export type ClusterAnswer = z.infer<typeof ClusterAnswer>;

/** GET /v1/clusters/:cluster/commands. */
export const CommandStates = z.object({
  states: z.record(z.string(), z.number().int()),
  /** Given up for good, latest first. */
  deadLetters: z.array(
    z.object({
      commandId: z.string(),
      vm: z.string(),
      kind: CommandKind,
      task: z.string().nullable(),
      uri: z.string().nullable(),
      runId: z.string().nullable(),
      state: z.enum(["queued", "leased", "done", "failed", "expired", "cancelled"]),
      attempts: z.number().int(),
      reason: z.string().nullable(),
      atMs: InstantMs,
    }),
  ),
});
export type CommandStates = z.infer<typeof CommandStates>;

/** PUT and GET of one declaration answer it with its name. */
export const DeclaredTask = TaskDeclaration.extend({ task: z.string() });
export const DeclaredCluster = ClusterDeclaration.extend({ cluster: z.string() });
export const DeclaredService = ServiceDeclaration.extend({ service: z.string() });

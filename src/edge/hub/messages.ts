// What Fleet, the Worker and the hubs tell each other, as plain data that crosses Durable Object calls.
import type { VmView } from "../../core/fleet.ts";
import type { HeartbeatAnswer, LearnedPart, Policy, TaskDeclaration, VmDeclaration } from "../../protocol.ts";
import { named } from "../named.ts";
import type { Spent } from "./budget.ts";

/** From a hub to Fleet, at most once a second. */
export interface HubSummary {
  atMs: number;
  reservedMemoryBytes: number;
  reservedCpuCores: number;
  /** What memory is worth there now (core/price.ts); absent: the policy's dial. */
  msPerGbSecond?: number;
  /** How long agents would hold runtimes by themselves, ms, of tasks that they hold for less there. */
  sparedMs?: Record<string, number>;
  vms: VmSummary[];
  /** Outcomes that D1 does not have yet. */
  unflushedOutcomes: number;
  /** This hour's. */
  spent: Spent;
}

/** One VM as its agent last described it. `announcedUrl` counts only where the operator approved its host. */
export interface VmSummary extends Omit<VmView, "url" | "draining" | "networkBytesPerSecond"> {
  announcedUrl: string | null;
  lastHeartbeatMs: number;
  probes: { service: string; latencyMs: number; bandwidthBytesPerSecond: number | null }[];
}

/** Fleet's answer: the hub's configuration if the one it knows is out of date, and what the other clusters have spent. */
export interface FleetNews {
  config: HubConfig | null;
  spentElsewhere: Spent;
}

/** From Fleet to a hub: what the operator declared, whenever the hub's version is another. */
export interface HubConfig {
  version: string;
  policy: Policy;
  draining: boolean;
  vms: Record<string, VmDeclaration>;
  tasks: Record<string, TaskDeclaration>;
  services: { service: string; probeUrl: string }[];
  /** What was learned and is to stay as it is. */
  frozen: LearnedPart[];
}

/** As it came over a call or out of storage: its records' keys are somebody's text. */
export function withNames<T extends HubConfig | null>(config: T): T {
  if (config === null) return config;
  named(config.tasks);
  named(config.vms);
  return config;
}

/** What one execution has written and a later one of its run is likely to read. */
export interface WrittenOutputs {
  runId: string;
  executionId: string;
  /** Readers: tasks that are expected to read it, likeliest first. */
  objects: { uri: string; bytes: number; savedMs: number; probability: number; readers: string[] }[];
}

/** To the Worker, which adds the VM's key. */
export type HeartbeatResult =
  | { ok: true; answer: Omit<HeartbeatAnswer, "invokeKey"> }
  | { ok: false; reason: "superseded"; detail: string };

/** To an earlier process of a VM. */
export function superseded(vm: string): HeartbeatResult {
  const detail = `Another agent process has taken over VM ${vm}; this one must stop.`;
  return { ok: false, reason: "superseded", detail };
}

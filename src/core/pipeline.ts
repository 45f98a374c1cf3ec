// The table of contents: one request through predict → demand → allocate → plan → commands.
// The Worker, the simulator and the CLI call `serve`; clock, ids and the hub come in as `Ports`.
// Logs → profile → graph run in the GraphWriter (profile.ts, graph.ts), outcomes come back in feedback.ts.
import type { Alternative, ClusterRefusal, CommandKind, Constraints, Demand, Prediction, SkippedItem } from "../protocol.ts";
import type { FleetView } from "./fleet.ts";
import type { Model } from "./graph.ts";

export interface TaskRequest {
  task: string;
  version: string | null;
  /** The tasks from the run's root to here, oldest first, without `task`. */
  path: string[];
  /** Start of each task of `path`, ms since the epoch; empty where unknown. */
  pathStartMs: number[];
  params: Record<string, string | number | boolean>;
  runId: string;
  executionId: string;
  /** Objects that the caller names for this very execution. */
  inputs: { uri: string; bytes: number | null }[];
  constraints: Constraints;
  horizonMs: number | null;
  maxTasks: number | null;
  /** Cluster that holds this run's reservation, from the continuation. */
  heldCluster: string | null;
  /** VM prepared for a task by an earlier plan of this run, from the continuation. */
  heldVms: Record<string, string>;
  /** The answer is wanted, the machines are not to be touched. */
  dryRun: boolean;
}

/** One thing to prepare. `key` names the distinct thing: commands with one key on one VM are one command. */
export interface PlannedCommand {
  commandId: string;
  key: string;
  vm: string;
  kind: CommandKind;
  task: string | null;
  version: string | null;
  uri: string | null;
  bytes: number | null;
  probability: number;
  savedMs: number;
  notBeforeMs: number;
  deadlineMs: number;
  expiresMs: number;
}

/** What the hub is asked to hold and to send. */
export interface Offer {
  allocationId: string;
  runId: string;
  executionId: string;
  task: string;
  cluster: string;
  vm: string;
  reservation: { memoryBytes: number; cpuCores: number; expiresMs: number };
  commands: PlannedCommand[];
}

/** The hub's answer. `commandIds` tells, by key, which command stands: a coalesced one keeps the earlier id. */
export type Admission =
  | { ok: true; commandIds: Record<string, string>; refusedKeys: Record<string, string> }
  | { ok: false; reason: string };

export interface Ports {
  nowMs: number;
  newId(): string;
  /** Uniform in [0, 1); decides a canary's share. */
  random(): number;
  admit(offer: Offer): Promise<Admission>;
}

export interface Served {
  kind: "allocated";
  allocationId: string;
  prediction: Prediction;
  chain: string[];
  cluster: string;
  vm: string;
  url: string | null;
  /** Where each task of the chain is expected to run: for the continuation, so that later calls find what was prepared. */
  vms: Record<string, string>;
  plan: PlannedCommand[];
  skipped: SkippedItem[];
  alternatives: Alternative[];
  refused: ClusterRefusal[];
  /** Plan was sent (active, or a canary's run); in shadow and paused it is only told. */
  acted: boolean;
}

export interface Unsuitable {
  kind: "unsuitable";
  allocationId: string;
  prediction: Prediction;
  demand: Demand;
  refused: ClusterRefusal[];
  retryAfterMs: number;
}

/** Predict, place, reserve and plan for one task request. `model` null: no prediction, the task alone is placed. */
export async function serve(
  _request: TaskRequest,
  _model: Model | null,
  _fleet: FleetView,
  _ports: Ports,
): Promise<Served | Unsuitable> {
  throw new Error("being written");
}

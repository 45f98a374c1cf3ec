// A command as the hub keeps it (tables.ts `commands`), for whom it was made, and as people are told of it when it was given up.
import type { CommandKind } from "../../protocol.ts";

type CommandState = "queued" | "leased" | "done" | "failed" | "expired" | "cancelled";

export interface CommandRow extends Record<string, SqlStorageValue> {
  command_id: string;
  vm: string;
  key: string;
  kind: CommandKind;
  task: string | null;
  version: string | null;
  uri: string | null;
  bytes: number | null;
  probability: number;
  not_before_ms: number;
  deadline_ms: number;
  expires_ms: number;
  run_id: string | null;
  beneficiaries: number;
  request: string | null;
  state: CommandState;
  attempt: number;
  lease_id: string | null;
  lease_expires_ms: number | null;
  loaded_bytes: number;
  ready_ms: number | null;
  whole_start_ms: number | null;
  foretold: number | null;
  context: string | null;
  chain: string | null;
  settled: number;
  live: number;
  reason: string | null;
  changed_ms: number;
}

/** For whom a command was planned first. */
export interface CommandOrigin {
  runId: string;
  /** Task that was asked for then. */
  context: string | null;
  /** Expected of the run. */
  chain: string[] | null;
}

/** A command that was given up for good. */
export interface DeadLetter {
  commandId: string;
  vm: string;
  kind: CommandKind;
  task: string | null;
  uri: string | null;
  runId: string | null;
  state: CommandState;
  attempts: number;
  reason: string | null;
  atMs: number;
}

// A command as the hub keeps it (tables.ts `commands`), for whom it was made, and as people are told of it when it was given up.
import type { Command, CommandKind } from "../../protocol.ts";

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

/** As the agent that has leased it is told of it. */
export function commandOf(row: CommandRow, leaseId: string, leaseMs: number): Command {
  return {
    commandId: row.command_id,
    leaseId,
    leaseMs,
    kind: row.kind,
    ...(row.task === null ? {} : { task: row.task }),
    ...(row.version === null ? {} : { version: row.version }),
    ...(row.uri === null ? {} : { uri: row.uri }),
    bytes: row.bytes,
    notBeforeMs: row.not_before_ms,
    deadlineMs: row.deadline_ms,
    expiresMs: row.expires_ms,
    probability: row.probability,
    attempt: row.attempt + 1,
    ...(row.request === null ? {} : { request: JSON.parse(row.request) as Command["request"] }),
  };
}

export function deadLetterOf(row: CommandRow): DeadLetter {
  return {
    commandId: row.command_id,
    vm: row.vm,
    kind: row.kind,
    task: row.task,
    uri: row.uri,
    runId: row.run_id,
    state: row.state,
    attempts: row.attempt,
    reason: row.reason,
    atMs: row.changed_ms,
  };
}

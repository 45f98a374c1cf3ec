// Feedback. In: what an agent says became of a command. Out: its outcome, once.
//   hit    the prepared thing was ready when a user's execution came
//   late   it was still being prepared; part of the wait was saved
//   miss   an execution paid for something that nothing had prepared; `unsent` where no plan of its run was sent
//   waste  it ended without ever being used
//   failed the agent could not prepare it
// Pure: the hub keeps the facts, and refuses a second settlement of the same command.
import type { Outcome, PreparedEnd, PreparedUse, UnpreparedUse } from "../protocol.ts";

/** What the hub knows of a command when it settles it. */
export interface CommandFacts {
  commandId: string;
  kind: Outcome["kind"];
  cluster: string;
  vm: string;
  task: string | null;
  uri: string | null;
  /** Run for which it was planned first. */
  runId: string | null;
  /** Loaded by the command, as the agent's result told. */
  bytes: number;
  probability: number;
  foretold: number;
  /** Task that was asked for when it was planned, and the chain expected of its run. */
  context: string | null;
  chain: string[] | null;
  wholeStartMs: number | null;
}

const BYTES_PER_GB = 2 ** 30;

export function settleUse(command: CommandFacts, use: PreparedUse): Outcome {
  return {
    ...identity(command),
    outcome: use.waitedMs > 0 ? "late" : "hit",
    runId: use.runId,
    executionId: use.executionId,
    atMs: use.usedMs,
    savedMs: Math.max(0, use.savedMs - use.waitedMs),
    bytes: command.bytes,
    gbSeconds: 0,
    reason: null,
  };
}

/** Null when it had been used: then its use has settled it. */
export function settleEnd(command: CommandFacts, end: PreparedEnd): Outcome | null {
  if (end.used) return null;
  return {
    ...identity(command),
    outcome: "waste",
    runId: command.runId,
    executionId: null,
    atMs: end.endedMs,
    savedMs: 0,
    bytes: Math.max(command.bytes, end.bytes),
    gbSeconds: (end.memoryBytes / BYTES_PER_GB) * (end.heldMs / 1000),
    reason: end.reason,
  };
}

export function settleFailure(command: CommandFacts, atMs: number, reason: string): Outcome {
  return {
    ...identity(command),
    outcome: "failed",
    runId: command.runId,
    executionId: null,
    atMs,
    savedMs: 0,
    bytes: command.bytes,
    gbSeconds: 0,
    reason,
  };
}

/** A miss has no command; its id comes from the execution, so that a repeated report is the same outcome. */
export function settleMiss(
  miss: UnpreparedUse,
  cluster: string,
  vm: string,
  run: { chain: string[]; sent: boolean } | null = null,
): Outcome {
  return {
    outcomeId: `miss:${miss.executionId}:${miss.kind}:${miss.uri ?? ""}`,
    commandId: null,
    kind: miss.kind,
    outcome: "miss",
    cluster,
    vm,
    task: miss.task,
    uri: miss.uri ?? null,
    runId: miss.runId,
    executionId: miss.executionId,
    atMs: miss.atMs,
    savedMs: 0,
    bytes: miss.bytes ?? 0,
    gbSeconds: 0,
    reason: `${Math.round(miss.costMs)} ms paid`,
    probability: null,
    foretold: null,
    context: null,
    chain: run?.chain ?? null,
    wholeStartMs: miss.wholeStartMs ?? null,
    unsent: run?.sent === false,
  };
}

function identity(command: CommandFacts) {
  return {
    outcomeId: command.commandId,
    commandId: command.commandId,
    kind: command.kind,
    cluster: command.cluster,
    vm: command.vm,
    task: command.task,
    uri: command.uri,
    probability: command.probability,
    foretold: command.foretold,
    context: command.context,
    chain: command.chain,
    wholeStartMs: command.wholeStartMs,
    unsent: false,
  };
}

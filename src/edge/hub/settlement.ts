// What became of commands. In: agents' reports, and what the hub itself finds lost. Out: each command's outcome, written once,
// and what it cost. A report is at-least-once, so everything here may be told twice and counts once.
import { type CommandFacts, settleEnd, settleFailure, settleMiss, settleUse } from "../../core/feedback.ts";
import type { AgentReport, AgentReportAnswer, CommandResult, Outcome, PreparedEnd } from "../../protocol.ts";
import type { HourlySpending } from "./budget.ts";
import type { CommandRow } from "./command-row.ts";
import type { Holds } from "./holds.ts";
import type { OutcomeBook } from "./outcomes.ts";
import type { CommandQueue, Given } from "./queue.ts";
import type { ExpectedRuns } from "./runs.ts";

/** What a report means beyond its outcomes. */
export interface Reported {
  answer: AgentReportAnswer;
  /** Commands that are done or failed for good now, with the result. */
  ended: { command: CommandRow; result: CommandResult }[];
}

export class Settlement {
  readonly #queue: CommandQueue;
  readonly #book: OutcomeBook;
  readonly #spending: HourlySpending;
  readonly #runs: ExpectedRuns;
  readonly #holds: Pick<Holds, "prepared" | "missed">;

  constructor(
    queue: CommandQueue,
    book: OutcomeBook,
    spending: HourlySpending,
    runs: ExpectedRuns,
    holds: Pick<Holds, "prepared" | "missed">,
  ) {
    this.#queue = queue;
    this.#book = book;
    this.#spending = spending;
    this.#runs = runs;
    this.#holds = holds;
  }

  report(cluster: string, vm: string, report: AgentReport, nowMs: number): Reported {
    const reported: Reported = { answer: { accepted: 0, refused: [] }, ended: [] };
    const { answer } = reported;
    const count = (commandId: string, refusal: string | null) => {
      if (refusal === null) answer.accepted++;
      else answer.refused.push({ commandId, reason: refusal });
    };
    for (const result of report.results) count(result.commandId, this.#result(cluster, vm, result, nowMs, reported));
    for (const use of report.uses) {
      const command = this.#owned(use.commandId, vm);
      count(use.commandId, command ? this.#settle(command, settleUse(factsOf(command, cluster), use), nowMs) : UNKNOWN);
    }
    for (const end of report.ends) {
      const command = this.#owned(end.commandId, vm);
      count(end.commandId, command ? this.#end(cluster, command, end, nowMs) : UNKNOWN);
    }
    for (const miss of report.misses) {
      const run = this.#runs.get(miss.runId);
      if (!this.#book.write(settleMiss(miss, cluster, vm, run))) continue;
      answer.accepted++;
      if (miss.kind === "warm" && run !== null && Object.hasOwn(run.hidden, miss.task)) this.#holds.missed(miss.task);
    }
    return reported;
  }

  /** Given up by the hub, the agent or its machine. */
  fail(cluster: string, given: Given[], nowMs: number): void {
    for (const { command, reason } of given) {
      if (command.settled === 0) this.#book.write(settleFailure(factsOf(command, cluster), nowMs, reason));
    }
  }

  /** Ready, and gone without a word of its agent. What it held in memory is unknown, and unknown is not counted. */
  waste(cluster: string, command: CommandRow, reason: PreparedEnd["reason"], nowMs: number): void {
    const gone = {
      commandId: command.command_id,
      endedMs: nowMs,
      used: false,
      reason,
      heldMs: 0,
      memoryBytes: 0,
      bytes: 0,
    };
    const outcome = settleEnd(factsOf(command, cluster), gone);
    if (outcome) this.#settle(command, outcome, nowMs);
  }

  #result(cluster: string, vm: string, result: CommandResult, nowMs: number, reported: Reported): string | null {
    const settled = this.#queue.settleResult(vm, result, nowMs);
    if (!settled.ok) return settled.reason;
    const { command, failed } = settled;
    if (failed !== null) this.fail(cluster, [{ command, reason: failed }], nowMs);
    if (result.state === "done") {
      // A runtime's start may have loaded something too, its code above all.
      if (result.bytes) this.#spending.add({ bytes: result.bytes }, nowMs);
      // Nothing of these is held, so nothing is left to be used or wasted.
      if (command.kind !== "prefetch" && command.kind !== "warm") this.#queue.finish(command.command_id, nowMs);
    }
    if (failed !== null || result.state === "done") reported.ended.push({ command, result });
    return null;
  }

  #owned(commandId: string, vm: string): CommandRow | null {
    const command = this.#queue.get(commandId);
    return command?.vm === vm ? command : null;
  }

  /** An end of something used settles nothing, but from now on the thing is gone, and what it cost is known. */
  #end(cluster: string, command: CommandRow, end: PreparedEnd, nowMs: number): string | null {
    const outcome = settleEnd(factsOf(command, cluster), end);
    const refusal = outcome === null ? null : this.#settle(command, outcome, nowMs);
    if (refusal === null) this.#spending.add({ memoryBytes: end.memoryBytes, heldMs: end.heldMs }, nowMs);
    this.#queue.retire(command.command_id);
    return refusal;
  }

  #settle(command: CommandRow, outcome: Outcome, nowMs: number): string | null {
    if (command.settled === 1 || !this.#book.write(outcome)) return SETTLED;
    this.#queue.finish(command.command_id, nowMs);
    const { kind, task, ready_ms: readyMs, expires_ms: expiresMs } = command;
    // Idle from ready to its use or end. An agent's clock cannot make it longer than the command allowed.
    if (kind === "warm" && task !== null && readyMs !== null && outcome.outcome !== "failed") {
      this.#holds.prepared(task, Math.max(0, Math.min(outcome.atMs, expiresMs) - readyMs));
    }
    return null;
  }
}

const UNKNOWN = "unknown command";
const SETTLED = "settled before";

function factsOf(command: CommandRow, cluster: string): CommandFacts {
  return {
    commandId: command.command_id,
    kind: command.kind,
    cluster,
    vm: command.vm,
    task: command.task,
    uri: command.uri,
    runId: command.run_id,
    bytes: command.loaded_bytes,
    probability: command.probability,
    foretold: command.foretold ?? command.probability,
    context: command.context,
    chain: command.chain === null ? null : (JSON.parse(command.chain) as string[]),
    wholeStartMs: command.whole_start_ms,
  };
}

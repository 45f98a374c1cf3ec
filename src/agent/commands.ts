// Carries out commands. In: commands as the hub leases them. Out: one result per command. Idempotent by command id: a second
// delivery changes nothing and is answered, under its new lease, with the first result (a failed one is tried again if the hub
// counts it as a new attempt). `notBeforeMs` is waited for, and what has expired is not begun. Calls are named to the hub until it has
// their results.
import type { Command, CommandResult } from "../protocol.ts";
import type { HubClock } from "./clock.ts";
import type { TaskConfig } from "./config.ts";
import type { ObjectStore } from "./object-store.ts";
import type { Prepared } from "./prepared.ts";
import type { RuntimePool } from "./runtimes.ts";
import { delay } from "./transfer.ts";

/** Finished commands remembered for repeated deliveries; a hub gives up on a command long before so many follow it. */
const REMEMBERED_MAX = 10_000;
/** Of a load: the store or the machine will not think otherwise within a command's life. */
const FINAL_REASONS = new Set(["refused", "not_found", "too_large", "disk_full", "cache_full", "expired"]);
/** Of a start: likewise. */
const REFUSED_STARTS = new Set(["no_instance", "no_memory", "expired"]);
const REASON_CHARS_MAX = 1_000;

export type Outcome = Omit<CommandResult, "commandId" | "leaseId">;

interface CommandsOptions {
  tasks: Record<string, TaskConfig>;
  clock: HubClock;
  objects: ObjectStore;
  pool: RuntimePool;
  prepared: Prepared;
  /** Runs an `execute` command as a call to /invoke would. */
  execute: (command: Command) => Promise<Outcome>;
  /** As the operator declared it, told with each heartbeat. */
  declaredDraining: () => boolean;
  /** The VM takes no new work from here on; resolves when nothing runs. */
  drain: () => Promise<void>;
  report: (result: CommandResult) => void;
  log: (line: string) => void;
}

interface Known {
  leaseId: string;
  attempt: number;
  outcome: Outcome | null;
}

export class Commands {
  readonly #options: CommandsOptions;
  readonly #known = new Map<string, Known>();
  readonly #stopping = new AbortController();
  /** `execute` commands until the hub has their results. */
  readonly #calls = new Set<string>();
  /** A `drain` has come: nothing new is prepared. */
  drained = false;
  readonly totals: Record<string, number> = {};

  constructor(options: CommandsOptions) {
    this.#options = options;
  }

  receive(command: Command): void {
    const known = this.#known.get(command.commandId);
    if (known !== undefined && !this.#isRetry(known, command)) {
      known.leaseId = command.leaseId;
      if (known.outcome !== null) this.#report(command.commandId, known, known.outcome);
      return;
    }
    const fresh: Known = { leaseId: command.leaseId, attempt: command.attempt, outcome: null };
    this.#known.set(command.commandId, fresh);
    if (command.kind === "execute") this.#calls.add(command.commandId);
    void this.#carryOutSafely(command).then((outcome) => {
      fresh.outcome = outcome;
      const counter = `${command.kind} ${outcome.state}`;
      this.totals[counter] = (this.totals[counter] ?? 0) + 1;
      if (outcome.state === "failed") {
        this.#options.log(`${command.kind} of ${command.task ?? command.uri} failed: ${outcome.reason}`);
      }
      this.#report(command.commandId, fresh, outcome);
      this.#forgetOldest();
    });
  }

  /** The hub heard that it failed and asks again; nothing was left behind that a second try could double. */
  #isRetry(known: Known, command: Command): boolean {
    return known.outcome?.state === "failed" && command.attempt > known.attempt && command.kind !== "execute";
  }

  /** Calls under way, and those whose results the hub does not have yet. */
  calls(): string[] {
    return [...this.#calls];
  }

  /** The hub has these results, or will never have them. */
  told(results: { commandId: string }[]): void {
    for (const { commandId } of results) this.#calls.delete(commandId);
  }

  stop(): void {
    this.#stopping.abort();
  }

  /** A fault of ours in one command must not end the runtimes of all others: the hub and the log are told. */
  async #carryOutSafely(command: Command): Promise<Outcome> {
    try {
      return await this.#carryOut(command);
    } catch (error) {
      this.#options.log(`unexpected: ${error instanceof Error ? error.stack : error}`);
      return failed(`internal error: ${error instanceof Error ? error.message : error}`);
    }
  }

  async #carryOut(command: Command): Promise<Outcome> {
    const { clock } = this.#options;
    await delay(command.notBeforeMs - clock.hubMs(), this.#stopping.signal);
    if (this.#stopping.signal.aborted) return failed("the agent stops");
    if (clock.hubMs() >= command.expiresMs) return refused("expired before it could begin");
    const task = command.task === undefined ? undefined : this.#options.tasks[command.task];
    if (command.task !== undefined && task === undefined) return refused(`this VM has no task ${command.task}`);
    if (command.version !== undefined && task?.version !== undefined && command.version !== task.version) {
      return refused(`this VM has version ${task.version} of the task, not ${command.version}`);
    }
    switch (command.kind) {
      case "prefetch":
        return this.#draining() ? refused("draining") : this.#prefetch(command);
      case "warm":
        return this.#draining() ? refused("draining") : this.#warm(command);
      case "execute":
        return this.#options.execute(command);
      case "evict":
        return this.#evict(command);
      case "drain":
        this.drained = true;
        await this.#options.drain();
        return { state: "done" };
    }
  }

  #draining(): boolean {
    return this.drained || this.#options.declaredDraining();
  }

  async #prefetch(command: Command): Promise<Outcome> {
    if (command.uri === undefined) return refused("a prefetch without a URI");
    const { clock, objects, prepared } = this.#options;
    const untilMs = clock.toLocalMs(command.expiresMs);
    const startedMs = clock.hubMs();
    const hold = prepared.beginObject(command.commandId, command.uri, untilMs);
    const answer = await objects.load(command.uri, {
      by: "prefetch",
      probability: command.probability,
      bytes: command.bytes ?? null,
      neededMs: clock.toLocalMs(command.deadlineMs),
      holdUntilMs: untilMs,
    });
    if (!answer.ok) {
      prepared.failObject(hold);
      const final = FINAL_REASONS.has(answer.reason);
      return final ? refused(`${answer.reason}: ${answer.detail}`) : failed(`${answer.reason}: ${answer.detail}`);
    }
    // Unpinned at once: until it is used, its worth protects it.
    answer.release();
    const mine = answer.how === "loaded";
    prepared.readyObject(hold, { bytes: mine ? answer.bytes : 0, savedMs: mine ? answer.loadMs : 0 });
    return { state: "done", bytes: mine ? answer.bytes : 0, startedMs, readyMs: clock.hubMs() };
  }

  async #warm(command: Command): Promise<Outcome> {
    if (command.task === undefined) return refused("a warm-up without a task");
    const { clock, pool } = this.#options;
    const { commandId, probability } = command;
    const [deadlineMs, untilMs] = [clock.toLocalMs(command.deadlineMs), clock.toLocalMs(command.expiresMs)];
    const answer = await pool.prewarm(command.task, { commandId, probability, untilMs, deadlineMs });
    if (!answer.ok) {
      const reason = `${answer.reason}: ${answer.detail}`;
      return REFUSED_STARTS.has(answer.reason) ? refused(reason) : failed(reason);
    }
    const { runtime, started } = answer;
    if (!started) return { state: "done", bytes: 0, startedMs: clock.hubMs(), readyMs: clock.hubMs() };
    const wholeStartMs = runtime.initMs + runtime.fetchMs;
    const [startedMs, readyMs] = [clock.toHubMs(runtime.startedMs), clock.hubMs()];
    return { state: "done", startedMs, readyMs, wholeStartMs, bytes: runtime.fetchedBytes };
  }

  async #evict(command: Command): Promise<Outcome> {
    const { objects, pool } = this.#options;
    if (command.uri !== undefined) {
      const answer = await objects.evict(command.uri);
      return answer === "busy" ? failed("the object is in use") : { state: "done" };
    }
    if (command.task !== undefined) {
      await pool.evict(command.task);
      return { state: "done" };
    }
    return refused("neither a URI nor a task to evict");
  }

  #report(commandId: string, known: Known, outcome: Outcome): void {
    this.#options.report({ commandId, leaseId: known.leaseId, ...outcome });
  }

  #forgetOldest(): void {
    for (const [commandId, known] of this.#known) {
      if (this.#known.size <= REMEMBERED_MAX) return;
      if (known.outcome !== null) this.#known.delete(commandId);
    }
  }
}

/** The hub tries a failed command again, but not one whose reason begins so: the answer would be the same. */
function refused(reason: string): Outcome {
  return failed(`refused: ${reason}`);
}

export function failed(reason: string): Outcome {
  return { state: "failed", reason: reason.slice(0, REASON_CHARS_MAX) };
}

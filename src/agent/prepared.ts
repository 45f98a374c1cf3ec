// What commands have prepared on this VM and how it ended. In: holds of commands on objects and runtimes, and their uses.
// Out: reports of uses and ends, each once per command. An object's preparation ends when its hold expires or it is evicted;
// the object itself may stay in the cache.
import type { PreparedEnd, PreparedUse, UnpreparedUse } from "../protocol.ts";
import type { HubClock } from "./clock.ts";
import type { ObjectStore } from "./object-store.ts";
import type { EndReason, Hold, Runtime } from "./runtime.ts";
import { callAt } from "./transfer.ts";

export interface ObjectHold {
  commandId: string;
  uri: string;
  /** Agent's clock. */
  untilMs: number;
  /** 0 while it is being loaded. */
  readyMs: number;
  /** What the command loaded: 0 where the cache had it. */
  bytes: number;
  /** What its load took, and so what its user is saved; 0 where the cache had it anyway. */
  savedMs: number;
  usedMs: number | null;
  ended: boolean;
}

/** Who used it. */
interface User {
  runId: string;
  executionId: string;
}

interface PreparedReports {
  use(use: PreparedUse): void;
  end(end: PreparedEnd): void;
  miss(miss: UnpreparedUse): void;
}

export class Prepared {
  readonly #clock: HubClock;
  readonly #reports: PreparedReports;
  readonly #store: ObjectStore;
  readonly #holds = new Map<string, ObjectHold[]>();
  /** How to take back the expiry of each. */
  readonly #timers = new Map<ObjectHold, () => void>();

  constructor(clock: HubClock, store: ObjectStore, reports: PreparedReports) {
    this.#clock = clock;
    this.#store = store;
    this.#reports = reports;
  }

  /** Before the load begins, so that a task that joins it finds the command. */
  beginObject(commandId: string, uri: string, untilMs: number): ObjectHold {
    const hold: ObjectHold = { commandId, uri, untilMs, readyMs: 0, bytes: 0, savedMs: 0, usedMs: null, ended: false };
    this.#holds.set(uri, [...(this.#holds.get(uri) ?? []), hold]);
    return hold;
  }

  readyObject(hold: ObjectHold, loaded: { bytes: number; savedMs: number }): void {
    hold.readyMs = this.#clock.localMs();
    hold.bytes = loaded.bytes;
    hold.savedMs = loaded.savedMs;
    // A task came for it while it was loaded.
    if (hold.usedMs !== null) this.takeObject(hold, hold.usedMs);
    const nowMs = () => this.#clock.localMs();
    this.#timers.set(
      hold,
      callAt(hold.untilMs, nowMs, () => this.#endObject(hold, "expired")),
    );
  }

  /** Nothing was prepared: the command's failure says the rest. */
  failObject(hold: ObjectHold): void {
    this.#forget(hold);
  }

  /** The first unused hold on it. Null where no command stands behind it. */
  findObject(uri: string): ObjectHold | null {
    return this.#holds.get(uri)?.find((hold) => hold.usedMs === null) ?? null;
  }

  /** A user reads it. From then on it is worth what any object is, unless another command stands behind it: else what a run has read would keep its place from what the next one will. */
  takeObject(hold: ObjectHold, atMs: number): void {
    hold.usedMs ??= atMs;
    if (this.findObject(hold.uri) === null) this.#store.dropHold(hold.uri);
  }

  usedObject(hold: ObjectHold, user: User, waitedMs: number, savedMs: number): void {
    this.#use(hold.commandId, user, hold.usedMs ?? this.#clock.localMs(), waitedMs, savedMs);
  }

  evictedObject(uri: string): void {
    for (const hold of this.#holds.get(uri) ?? []) if (hold.readyMs > 0) this.#endObject(hold, "evicted");
  }

  /** A user's request got this runtime; reported once, for the hold that it then had. */
  usedRuntime(runtime: Runtime, user: User, waitedMs: number): void {
    const { hold } = runtime;
    if (hold === null || hold.used) return;
    hold.used = true;
    const nowMs = this.#clock.localMs();
    // Alive anyway: the command has saved nothing.
    const savedMs = nowMs < hold.anywayUntilMs ? 0 : runtime.initMs + runtime.fetchMs;
    this.#use(hold.commandId, user, nowMs, waitedMs, savedMs);
  }

  /** A runtime is gone, or its (used) hold gives way to a new one. */
  endedRuntime(runtime: Runtime, reason: EndReason): void {
    const { hold } = runtime;
    // Never ready: the command's failure says it.
    if (hold === null || hold.readyMs === 0) return;
    const fromMs = hold.used ? runtime.lastUsedMs : Math.max(hold.readyMs, hold.anywayUntilMs);
    this.#end(hold, reason, hold.used, fromMs, runtime.memoryBytes, 0);
    runtime.hold = null;
  }

  miss(miss: Omit<UnpreparedUse, "atMs"> & { atMs: number }): void {
    this.#reports.miss({ ...miss, atMs: this.#clock.toHubMs(miss.atMs) });
  }

  /** The agent stops: everything still held ends. */
  stop(): void {
    for (const holds of [...this.#holds.values()]) for (const hold of holds) this.#endObject(hold, "stopped");
  }

  #endObject(hold: ObjectHold, reason: EndReason): void {
    if (hold.readyMs > 0) {
      this.#end(hold, reason, hold.usedMs !== null, hold.usedMs ?? hold.readyMs, 0, hold.bytes);
    }
    this.#forget(hold);
  }

  #forget(hold: ObjectHold): void {
    hold.ended = true;
    this.#timers.get(hold)?.();
    this.#timers.delete(hold);
    const rest = (this.#holds.get(hold.uri) ?? []).filter((other) => other !== hold);
    if (rest.length > 0) this.#holds.set(hold.uri, rest);
    else {
      this.#holds.delete(hold.uri);
      this.#store.dropHold(hold.uri);
    }
  }

  #use(commandId: string, { runId, executionId }: User, atMs: number, waitedMs: number, savedMs: number): void {
    this.#reports.use({
      commandId,
      runId,
      executionId,
      usedMs: this.#clock.toHubMs(atMs),
      waitedMs: Math.max(0, waitedMs),
      savedMs: Math.max(0, savedMs),
    });
  }

  #end(
    hold: { commandId: string } & (Hold | ObjectHold),
    reason: EndReason,
    used: boolean,
    fromMs: number,
    memoryBytes: number,
    bytes: number,
  ): void {
    const nowMs = this.#clock.localMs();
    this.#reports.end({
      commandId: hold.commandId,
      endedMs: this.#clock.toHubMs(nowMs),
      used,
      reason,
      heldMs: Math.max(0, nowMs - fromMs),
      memoryBytes,
      bytes,
    });
  }
}

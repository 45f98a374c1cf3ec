// Runtimes of this VM's tasks. In: "I need one now" (a user's request) or "have one ready" (a command). Out: a runtime that
// said ready, with what the caller waited for it; or a failure by reason.
//
// A runtime goes starting → ready ⇄ busy → gone. One request at a time per runtime, as many runtimes as needed up to the
// task's `maxInstances` and the VM's memory. A request takes, in this order: an idle runtime that a command holds, another idle one,
// one that is being started ahead and that nobody has claimed, a new one (in place of a command that waits for its turn to start one, see turns.ts),
// the next that becomes free.
// An idle runtime is held for the keep-alive, or until the hold of its command ends, whichever is later.
import { randomBytes } from "node:crypto";
import { type LaunchOptions, launch } from "./launch.ts";
import { type Acquired, type EndReason, failure, isHeld, type Runtime, type StartFailure } from "./runtime.ts";
import { callAt } from "./transfer.ts";
import { Turns, type Wanted } from "./turns.ts";

interface PoolOptions extends LaunchOptions {
  memoryBytes: number;
  /** Started ahead at the same time. */
  warmConcurrency: number;
  /** What the operator declared goes before what was learned, and that before the configuration. */
  keepAliveMs: (task: string) => number;
  /** A runtime became idle after a call. */
  onIdle: (task: string) => void;
  /** Loads the task's `objects`. Their failure is the start's failure. */
  loadObjects: (runtime: Runtime) => Promise<{ ok: true } | { ok: false; detail: string }>;
  /** What the runtime has loaded so far, and the wall time during which it waited for objects. */
  fetched: (runtime: Runtime) => { ms: number; bytes: number };
  /** A user waits for a runtime that was started ahead: what it is loading is urgent now. */
  onClaim: (runtime: Runtime) => void;
  onEnd: (runtime: Runtime, reason: EndReason) => void;
}

/** Assumed for a task that tells no memory, until one of its runtimes has been measured. */
const MEMORY_BYTES_FIRST = 128 * 2 ** 20;

interface Waiter {
  settle: (runtime: Runtime | null) => void;
}

export class RuntimePool {
  readonly #options: PoolOptions;
  readonly #runtimes = new Map<string, Runtime>();
  readonly #ready = new Map<string, Promise<StartFailure | { ok: true }>>();
  readonly #waiters = new Map<string, Waiter[]>();
  /** How to take back the expiry of each idle runtime. */
  readonly #timers = new Map<string, () => void>();
  readonly #memory = new Map<string, number>();
  readonly #ending = new Set<Promise<void>>();
  readonly #turns: Turns;
  #stopped = false;
  readonly totals = { starts: 0, startFailures: 0, ends: 0 };

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#turns = new Turns(options.warmConcurrency);
  }

  list(): Runtime[] {
    return [...this.#runtimes.values()];
  }

  byToken(token: string): Runtime | null {
    return this.list().find((runtime) => runtime.token === token) ?? null;
  }

  /** In use by runtimes, as measured, or as told where that is more. */
  memoryUsedBytes(): number {
    return this.list().reduce((sum, runtime) => sum + this.#memoryOf(runtime.task), 0);
  }

  /** Of it, what idle runtimes hold: a user's request may have it. */
  memoryIdleBytes(): number {
    return this.#idleOnes().reduce((sum, runtime) => sum + this.#memoryOf(runtime.task), 0);
  }

  /** For a user's request. `signal` ends the wait, not a start that others may use. */
  async acquire(task: string, signal: AbortSignal): Promise<Acquired> {
    if (this.#options.tasks[task] === undefined) return failure("unknown_task", `this VM has no task ${task}`);
    const beganMs = this.#options.nowMs();
    let queued = false;
    // Exactly 0 for who did not queue: a warm call has no cold start, not one of some microseconds.
    const queuedMs = () => (queued ? this.#options.nowMs() - beganMs : 0);
    for (;;) {
      if (this.#stopped) return failure("stopped", "the agent stops");
      if (signal.aborted) return failure("aborted", "the caller has gone");
      const idle = this.#idle(task);
      if (idle !== null) {
        this.#take(idle);
        return { ok: true, runtime: idle, how: queued ? "cold" : "warm", queueMs: queuedMs(), fetchMs: 0, initMs: 0 };
      }
      const ahead = this.#unclaimed(task);
      const wanted = ahead === null ? this.#turns.next(task) : null;
      const queueMs = queuedMs();
      const startMs = this.#options.nowMs();
      const runtime = ahead ?? this.#startIfRoom(task, wanted, "user");
      if (runtime === null) {
        queued = true;
        const freed = await this.#nextFree(task, signal);
        if (freed === null) continue;
        return { ok: true, runtime: freed, how: "cold", queueMs: queuedMs(), fetchMs: 0, initMs: 0 };
      }
      if (wanted !== null) this.#turns.overtake(wanted, runtime);
      const answer = await this.#waitFor(runtime, signal);
      if (answer.ok) {
        const waitedMs = this.#options.nowMs() - startMs;
        const fetchMs = Math.min(waitedMs, runtime.fetchMs);
        const how = (ahead ?? wanted) ? "late" : "cold";
        return { ok: true, runtime, how, queueMs, fetchMs, initMs: waitedMs - fetchMs };
      }
      // A start ahead of time that failed is not this request's failure: it tries for itself.
      if (ahead === null) return answer;
    }
  }

  /** The request is over. `healthy` false: the runtime may still be at work on it, or is broken. */
  release(runtime: Runtime, healthy: boolean): void {
    if (runtime.state !== "busy") return;
    if (!healthy || this.#stopped) {
      void this.end(runtime, healthy ? "stopped" : "crashed");
      return;
    }
    const waiter = this.#waiters.get(runtime.task)?.shift();
    runtime.lastUsedMs = this.#options.nowMs();
    if (waiter !== undefined) {
      waiter.settle(runtime);
      return;
    }
    runtime.state = "ready";
    this.#options.onIdle(runtime.task);
    this.#expireAt(runtime, runtime.lastUsedMs + this.#options.keepAliveMs(runtime.task));
  }

  /**
   * For a command: resolves when a runtime is ready and held until `untilMs`. `started` false: an idle one was there, and only
   * its hold is new.
   */
  async prewarm(
    task: string,
    { deadlineMs, ...wanted }: Wanted & { deadlineMs: number },
  ): Promise<StartFailure | { ok: true; runtime: Runtime; started: boolean }> {
    if (this.#options.tasks[task] === undefined) return failure("unknown_task", `this VM has no task ${task}`);
    const overtakenBy = await this.#turns.take(task, wanted, deadlineMs);
    if (overtakenBy !== null) return this.#readiness(overtakenBy);
    try {
      return await this.#prepare(task, wanted);
    } finally {
      this.#turns.giveBack();
    }
  }

  async #prepare(task: string, wanted: Wanted) {
    if (this.#stopped) return failure("stopped", "the agent stops");
    const nowMs = this.#options.nowMs();
    if (nowMs >= wanted.untilMs) return failure("expired", "its time was over before its turn to start came");
    const idle = this.#idleUnheld(task);
    if (idle !== null) {
      if (idle.hold !== null) this.#options.onEnd(idle, "replaced");
      idle.hold = { ...wanted, anywayUntilMs: idle.expiresMs, readyMs: nowMs, used: false };
      this.#expireAt(idle, Math.max(idle.expiresMs, wanted.untilMs));
      return { ok: true as const, runtime: idle, started: false };
    }
    if (this.#count(task) >= this.#options.tasks[task]!.maxInstances) {
      return failure("no_instance", "all instances that the task may have are there and in use");
    }
    const runtime = this.#startIfRoom(task, wanted, "command");
    if (runtime === null) return failure("no_memory", "the VM's memory is taken by runtimes that are in use or held");
    return this.#readiness(runtime);
  }

  async #readiness(runtime: Runtime): Promise<StartFailure | { ok: true; runtime: Runtime; started: true }> {
    const answer = await this.#ready.get(runtime.runtimeId)!;
    return answer.ok ? { ok: true, runtime, started: true } : answer;
  }

  /** Ends the idle runtimes of a task. Resolves with how many. */
  async evict(task: string): Promise<number> {
    const idle = this.list().filter((runtime) => runtime.task === task && runtime.state === "ready");
    await Promise.all(idle.map((runtime) => this.end(runtime, "evicted")));
    return idle.length;
  }

  /** No new runtime from here on; all that are there end. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const waiters of this.#waiters.values()) for (const waiter of waiters) waiter.settle(null);
    this.#waiters.clear();
    await Promise.all(this.list().map((runtime) => this.end(runtime, "stopped")));
    await Promise.all(this.#ending);
  }

  end(runtime: Runtime, reason: EndReason): Promise<void> {
    if (runtime.state === "gone") return Promise.resolve();
    runtime.state = "gone";
    this.#runtimes.delete(runtime.runtimeId);
    this.#timers.get(runtime.runtimeId)?.();
    this.#timers.delete(runtime.runtimeId);
    this.totals.ends++;
    this.#options.onEnd(runtime, reason);
    const stopping = (runtime.started?.stop() ?? Promise.resolve()).finally(() => {
      this.#ending.delete(stopping);
      // Its place and memory are free: whoever waits may start one of their own.
      for (const waiters of this.#waiters.values()) waiters.shift()?.settle(null);
    });
    this.#ending.add(stopping);
    return stopping;
  }

  measured(runtime: Runtime, memoryBytes: number): void {
    runtime.memoryBytes = memoryBytes;
    this.#memory.set(runtime.task, memoryBytes);
  }

  #count(task: string): number {
    return this.list().filter((runtime) => runtime.task === task).length;
  }

  /** Ready, and not about to be taken by the request that has claimed it. */
  #free(task: string): Runtime[] {
    return this.list().filter((runtime) => runtime.task === task && runtime.state === "ready" && !runtime.claimed);
  }

  /** A held runtime first: its hold ends soon, and a use of it is what the command was for. */
  #idle(task: string): Runtime | null {
    const idle = this.#free(task);
    const held = idle.filter((runtime) => runtime.hold !== null && !runtime.hold.used);
    const soonest = held.sort((a, b) => a.hold!.untilMs - b.hold!.untilMs)[0];
    return soonest ?? idle.sort((a, b) => b.lastUsedMs - a.lastUsedMs)[0] ?? null;
  }

  #idleUnheld(task: string): Runtime | null {
    const idle = this.#free(task);
    return idle.find((runtime) => runtime.hold === null || runtime.hold.used) ?? null;
  }

  #unclaimed(task: string): Runtime | null {
    const starting = this.list().filter((runtime) => runtime.task === task && runtime.state === "starting");
    return starting.find((runtime) => !runtime.claimed) ?? null;
  }

  #take(runtime: Runtime): void {
    runtime.state = "busy";
    this.#timers.get(runtime.runtimeId)?.();
  }

  async #waitFor(runtime: Runtime, signal: AbortSignal): Promise<StartFailure | { ok: true }> {
    runtime.claimed = true;
    runtime.started?.hurry?.();
    this.#options.onClaim(runtime);
    const gone = new Promise<StartFailure>((resolve) => {
      signal.addEventListener("abort", () => resolve(failure("aborted", "the caller has gone")), { once: true });
    });
    const answer = await Promise.race([this.#ready.get(runtime.runtimeId)!, gone]);
    runtime.claimed = false;
    if (answer.ok && runtime.state !== "ready") return failure("stopped", "the runtime ended as it became ready");
    if (answer.ok) this.#take(runtime);
    return answer;
  }

  #nextFree(task: string, signal: AbortSignal): Promise<Runtime | null> {
    return new Promise((resolve) => {
      const waiters = this.#waiters.get(task) ?? [];
      this.#waiters.set(task, waiters);
      const waiter: Waiter = { settle: resolve };
      waiters.push(waiter);
      signal.addEventListener(
        "abort",
        () => {
          const at = waiters.indexOf(waiter);
          if (at >= 0) waiters.splice(at, 1);
          resolve(null);
        },
        { once: true },
      );
    });
  }

  #idleOnes(): Runtime[] {
    return this.list().filter((runtime) => runtime.state === "ready" && !runtime.claimed);
  }

  /**
   * Null where the task has all its instances or the memory is taken. A user's request may end idle runtimes for it; a command
   * only those that no command holds and that are likelier to expire than to be used: a call that is foreseen goes before one that may come.
   */
  #startIfRoom(task: string, wanted: Wanted | null, by: "user" | "command"): Runtime | null {
    const forUser = by === "user";
    const config = this.#options.tasks[task]!;
    if (this.#count(task) >= config.maxInstances) return null;
    const neededBytes = this.#memoryOf(task);
    const lacking = () => this.memoryUsedBytes() + neededBytes > this.#options.memoryBytes;
    if (lacking()) {
      const idle = this.#idleOnes().filter((runtime) => forUser || (!isHeld(runtime) && this.#isLongIdle(runtime)));
      const idleBytes = idle.reduce((sum, runtime) => sum + this.#memoryOf(runtime.task), 0);
      // For a command, none ends in vain: if all of them together are too little, they stay.
      const suffices = this.memoryUsedBytes() - idleBytes + neededBytes <= this.#options.memoryBytes;
      // Those that nobody expects to be used go first, the longest unused before the others.
      idle.sort((a, b) => Number(isHeld(a)) - Number(isHeld(b)) || a.lastUsedMs - b.lastUsedMs);
      if (forUser || suffices) for (const victim of idle) if (lacking()) void this.end(victim, "evicted");
    }
    // A lone runtime may start whatever its size: refusing would turn a wrong estimate into an outage.
    if (lacking() && this.#runtimes.size > 0) return null;
    return this.#start(task, wanted, forUser);
  }

  /** For half of the time that it is held, or for as long as the configuration alone would have held it. */
  #isLongIdle({ task, lastUsedMs, expiresMs }: Runtime): boolean {
    const ownMs = this.#options.tasks[task]!.keepAliveMs;
    return this.#options.nowMs() - lastUsedMs >= Math.min(ownMs, (expiresMs - lastUsedMs) / 2);
  }

  /** `claimed`: a user's request waits for it. */
  #start(task: string, wanted: Wanted | null, claimed: boolean): Runtime {
    const nowMs = this.#options.nowMs();
    const runtime: Runtime = {
      runtimeId: randomBytes(8).toString("hex"),
      task,
      token: randomBytes(24).toString("base64url"),
      state: "starting",
      claimed,
      startedMs: nowMs,
      readyMs: 0,
      lastUsedMs: nowMs,
      expiresMs: Number.POSITIVE_INFINITY,
      hold: wanted === null ? null : { ...wanted, anywayUntilMs: 0, readyMs: 0, used: false },
      started: null,
      initMs: 0,
      fetchMs: 0,
      fetchedBytes: 0,
      memoryBytes: 0,
    };
    this.#runtimes.set(runtime.runtimeId, runtime);
    this.totals.starts++;
    // Whatever goes wrong in between: a runtime that neither starts nor ends would hold its place for ever.
    const broken = (error: Error) => failure("start_failed", `internal error: ${error.message}`);
    const ready = this.#bringUp(runtime)
      .catch(broken)
      .then((answer) => {
        this.#ready.delete(runtime.runtimeId);
        if (!answer.ok) {
          this.totals.startFailures++;
          void this.end(runtime, "crashed");
        } else {
          this.#becomesReady(runtime);
        }
        return answer;
      });
    this.#ready.set(runtime.runtimeId, ready);
    return runtime;
  }

  /** The program starts while its objects are on their way: it asks for them itself, and then joins their loads. */
  async #bringUp(runtime: Runtime): Promise<StartFailure | { ok: true }> {
    const [loaded, launched] = await Promise.all([
      this.#options.loadObjects(runtime),
      launch(runtime, this.#options, {
        isWanted: () => this.#runtimes.has(runtime.runtimeId),
        onGone: () => void this.end(runtime, "crashed"),
      }),
    ]);
    if (!launched.ok) return launched;
    if (!loaded.ok) return failure("start_failed", loaded.detail);
    const { ms, bytes } = this.#options.fetched(runtime);
    runtime.fetchMs = ms;
    runtime.fetchedBytes = bytes;
    return { ok: true };
  }

  #becomesReady(runtime: Runtime): void {
    const nowMs = this.#options.nowMs();
    runtime.state = "ready";
    runtime.readyMs = nowMs;
    runtime.lastUsedMs = nowMs;
    runtime.initMs = Math.max(0, nowMs - runtime.startedMs - runtime.fetchMs);
    if (runtime.hold !== null) runtime.hold.readyMs = nowMs;
    const untilMs = nowMs + this.#options.keepAliveMs(runtime.task);
    this.#expireAt(runtime, runtime.hold !== null ? runtime.hold.untilMs : untilMs);
    const usage = runtime.started!.usage();
    if (usage !== null) this.measured(runtime, usage.memoryBytes);
  }

  #expireAt(runtime: Runtime, atMs: number): void {
    runtime.expiresMs = atMs;
    this.#timers.get(runtime.runtimeId)?.();
    const takeBack = callAt(atMs, this.#options.nowMs, () => {
      // Claimed in the moment between becoming ready and being taken: it is wanted.
      if (runtime.state === "ready" && !runtime.claimed) void this.end(runtime, "expired");
    });
    this.#timers.set(runtime.runtimeId, takeBack);
  }

  #memoryOf(task: string): number {
    const told = this.#options.tasks[task]?.memoryBytes;
    const measured = this.#memory.get(task);
    if (told === undefined) return measured ?? MEMORY_BYTES_FIRST;
    return Math.max(told, measured ?? 0);
  }
}

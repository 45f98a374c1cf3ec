// The world: a seeded discrete-event simulation of runs that arrive, instances that start, serve and are held, and objects that are
// fetched. In: a workload, its arrivals, cold starts and one policy. Out: accounts that close.
//   · one request at a time per instance, as many instances as needed;
//   · an execution that finds no ready instance waits for its start; what it triggers starts later by as much, and callers wait;
//   · an execution that finds an instance still starting waits for the rest, when that is less than a start of its own;
//   · objects of an execution are fetched over one link after its runtime is there, unless the cache has them.
import { Accounts, gigabytes } from "./accounting.ts";
import type { Arrivals } from "./arrivals.ts";
import { Cache } from "./cache.ts";
import type { ColdStarts } from "./cold-starts.ts";
import { Calendar } from "./events.ts";
import { type Claim, type Instance, Pool } from "./pool.ts";
import { seedFor } from "./random.ts";
import type { ReplayRun, Workload } from "./workload.ts";

/** A run under way. Arrays are by execution; NaN is "not yet". Plain arrays: small typed ones cost an allocation outside the heap each. */
export interface ActiveRun {
  readonly number: number;
  readonly replay: ReplayRun;
  readonly arrivedMs: number;
  readonly startMs: number[];
  /** Work began: the start plus the wait for runtime and objects. */
  readonly beginMs: number[];
  readonly endMs: number[];
  /** Wait for the runtime alone; `takenMs` is when it was over. */
  readonly waitMs: number[];
  readonly takenMs: number[];
  readonly triggersLeft: number[];
  readonly calleesLeft: number[];
  readonly readyMs: number[];
  readonly lastCalleeMs: number[];
  readonly instances: (Instance | null)[];
  left: number;
}

/** What a policy is told and asked. All methods but `keepAliveMs` are optional. */
export interface Policy {
  readonly name: string;
  readonly dial: number;
  /** It knows every future call: each finds an instance that became ready at that very moment. */
  readonly knowsAll?: true;
  begin?(world: World): void;
  runArrived?(run: ActiveRun, nowMs: number): void;
  /** Before the execution takes an instance. */
  started?(run: ActiveRun, execution: number, nowMs: number): void | Promise<void>;
  /** After it has taken one. */
  taken?(run: ActiveRun, execution: number, instance: Instance, nowMs: number): void;
  ended?(run: ActiveRun, execution: number, nowMs: number): void;
  runEnded?(run: ActiveRun, nowMs: number): void;
  /** How long an instance that just became idle is held, ms. */
  keepAliveMs(task: number, nowMs: number, instance: Instance): number;
}

export interface WorldInput {
  workload: Workload;
  arrivals: Arrivals;
  coldStarts: ColdStarts;
  seed: number;
  policy: Policy;
  /** Of the link to the store, bytes per second; null: objects cost no time. */
  storeBytesPerSecond: number | null;
  /** How many runs have ended, after each. */
  progress(runs: number): void;
}

export class World {
  readonly workload: Workload;
  readonly pools: Pool[];
  readonly accounts: Accounts;
  readonly coldStarts: ColdStarts;
  /** Null where objects cost no time. */
  readonly cache: Cache | null;
  readonly #calendar = new Calendar();
  readonly #arrivals: Arrivals;
  readonly #policy: Policy;
  readonly #seed: number;
  readonly #startsAhead: Uint32Array;
  readonly #progress: WorldInput["progress"];
  #runsEnded = 0;
  readonly #memory = { gb: 0 };

  constructor(input: WorldInput) {
    this.workload = input.workload;
    this.coldStarts = input.coldStarts;
    this.#arrivals = input.arrivals;
    this.#policy = input.policy;
    this.#progress = input.progress;
    this.#seed = seedFor(input.seed, "cold starts");
    this.accounts = new Accounts(input.arrivals.runs.length);
    this.pools = Array.from(
      input.workload.memoryBytes,
      (bytes, task) => new Pool(task, gigabytes(bytes), this.accounts, this.#memory),
    );
    this.cache = input.storeBytesPerSecond === null ? null : new Cache(this.accounts, input.storeBytesPerSecond);
    this.#startsAhead = new Uint32Array(this.pools.length);
  }

  /** Simulates every arrival to its end, and every instance to its death. */
  async simulate(): Promise<Accounts> {
    this.#policy.begin?.(this);
    this.#scheduleArrival(0);
    let endMs = 0;
    for (let event = this.#calendar.take(); event !== undefined; event = this.#calendar.take()) {
      const pending = event.run(event.atMs);
      if (pending !== undefined) await pending;
      endMs = event.atMs;
    }
    // What is held without end is held to the end of the simulation.
    for (const pool of this.pools) for (const instance of [...pool.idle]) pool.kill(instance, endMs);
    this.cache?.close();
    this.accounts.check();
    return this.accounts;
  }

  /** Held by all instances now, GB. */
  get memoryGb(): number {
    return this.#memory.gb;
  }

  // ── For policies ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** Calls back at a time. */
  at(atMs: number, run: (nowMs: number) => void): void {
    this.#calendar.add(atMs, run);
  }

  /** One instance of the task is wanted from `atMs` (when its start may begin) until `untilMs`; the next call of the task takes it. */
  claim(task: number, atMs: number, untilMs: number, nowMs: number): Claim {
    const claim: Claim = { task, untilMs, isOpen: true, isMet: false };
    if (atMs > nowMs) this.#calendar.add(atMs, (now) => this.#claim(claim, now));
    else this.#claim(claim, nowMs);
    return claim;
  }

  #claim(claim: Claim, nowMs: number): void {
    const pool = this.pools[claim.task]!;
    pool.claim(claim);
    if (pool.unclaimed < 0) this.#startAhead(pool, claim.task, claim.untilMs, nowMs);
    this.#calendar.add(claim.untilMs, () => pool.unclaim(claim));
  }

  /** Starts an instance before it is called. */
  #startAhead(pool: Pool, task: number, untilMs: number, nowMs: number): void {
    const coldMs = this.#draw(task, 0x5eed0000 + this.#startsAhead[task]!++);
    const instance = pool.bear(nowMs, nowMs + coldMs, "starting");
    instance.expiresMs = Math.max(untilMs, instance.readyMs);
    this.#calendar.add(instance.readyMs, (now) => {
      if (instance.state !== "starting" || !pool.starting.includes(instance)) return;
      pool.ready(instance);
      this.#scheduleExpiry(pool, instance, now);
    });
  }

  /** Brings an object before it is read; one that the run still has to write is left. */
  prefetch(run: ActiveRun, object: number, nowMs: number): void {
    this.cache?.prefetch(this.objectKey(run, object), this.#bytesOf(run, object), nowMs);
  }

  // ── Runs ───────────────────────────────────────────────────────────────────────────────────────────────────────────

  #scheduleArrival(number: number): void {
    if (number >= this.#arrivals.runs.length) return;
    this.#calendar.add(this.#arrivals.atMs[number]!, (nowMs) => {
      this.#scheduleArrival(number + 1);
      this.#arrive(number, nowMs);
    });
  }

  #arrive(number: number, nowMs: number): void {
    const replay = this.workload.runs[this.#arrivals.runs[number]!]!;
    const count = replay.tasks.length;
    const run: ActiveRun = {
      number,
      replay,
      arrivedMs: nowMs,
      startMs: new Array<number>(count).fill(Number.NaN),
      beginMs: new Array<number>(count).fill(Number.NaN),
      endMs: new Array<number>(count).fill(Number.NaN),
      waitMs: new Array<number>(count).fill(0),
      takenMs: new Array<number>(count).fill(0),
      triggersLeft: [...replay.triggers],
      calleesLeft: [...replay.callees],
      readyMs: new Array<number>(count).fill(nowMs),
      lastCalleeMs: new Array<number>(count).fill(Number.NEGATIVE_INFINITY),
      instances: new Array<Instance | null>(count).fill(null),
      left: count,
    };
    this.#policy.runArrived?.(run, nowMs);
    for (let i = 0; i < count; i++) if (run.triggersLeft[i] === 0) this.#scheduleStart(run, i);
  }

  #scheduleStart(run: ActiveRun, i: number): void {
    this.#calendar.add(run.readyMs[i]! + run.replay.gapMs[i]!, (nowMs) => {
      run.startMs[i] = nowMs;
      const beganMs = performance.now();
      const pending = this.#policy.started?.(run, i, nowMs);
      if (pending !== undefined) return pending.then(() => this.#decided(run, i, nowMs, beganMs));
      return this.#decided(run, i, nowMs, beganMs);
    });
  }

  #decided(run: ActiveRun, i: number, nowMs: number, beganMs: number): void {
    this.accounts.decisionMs += performance.now() - beganMs;
    this.accounts.decisions++;
    this.#start(run, i, nowMs);
  }

  #start(run: ActiveRun, i: number, nowMs: number): void {
    const task = run.replay.tasks[i]!;
    const pool = this.pools[task]!;
    pool.meetClaim();
    const coldMs = this.#draw(task, Math.imul(run.number, 0x9e3779b1) + i);
    const instance = this.#policy.knowsAll
      ? pool.bear(nowMs - coldMs, nowMs, "busy")
      : (pool.take(nowMs, coldMs) ?? pool.bear(nowMs, nowMs + coldMs, "busy"));
    const waitMs = Math.max(0, instance.readyMs - nowMs);
    run.instances[i] = instance;
    run.waitMs[i] = waitMs;
    run.takenMs[i] = nowMs + waitMs;
    run.beginMs[i] = this.#readInputs(run, i, nowMs + waitMs);
    this.accounts.executions++;
    if (waitMs > 0) this.accounts.coldExecutions++;
    if (run.replay.triggers[i] !== 0) {
      this.accounts.laterExecutions++;
      if (waitMs > 0) this.accounts.coldLaterExecutions++;
    }
    this.#policy.taken?.(run, i, instance, nowMs);
    this.#tell(run, i, run.beginMs[i]!, 1);
    if (run.calleesLeft[i] === 0) this.#scheduleEnd(run, i);
  }

  /** One object after the other, as a task opens its files. */
  #readInputs(run: ActiveRun, i: number, atMs: number): number {
    if (this.cache === null) return atMs;
    let readyMs = atMs;
    for (const object of run.replay.inputs[i]!) {
      readyMs = this.cache.read(this.objectKey(run, object), this.#bytesOf(run, object), readyMs);
    }
    this.accounts.fetchWaitMs += readyMs - atMs;
    return readyMs;
  }

  /** What a run writes is its own, whatever its name; the rest is the same for all. */
  objectKey(run: ActiveRun, object: number): number {
    return run.replay.produced.has(object) ? object + this.workload.objects.length * (run.number + 1) : object;
  }

  #bytesOf(run: ActiveRun, object: number): number {
    return run.replay.produced.get(object) ?? this.workload.objects[object]!.bytes;
  }

  #scheduleEnd(run: ActiveRun, i: number): void {
    const ownMs = run.beginMs[i]! + run.replay.durationMs[i]!;
    const endMs = run.replay.callees[i]! > 0 ? Math.max(ownMs, run.lastCalleeMs[i]! + run.replay.tailMs[i]!) : ownMs;
    this.#calendar.add(endMs, (nowMs) => this.#end(run, i, nowMs));
  }

  #end(run: ActiveRun, i: number, nowMs: number): void {
    run.endMs[i] = nowMs;
    const instance = run.instances[i]!;
    const pool = this.pools[instance.task]!;
    pool.release(instance, run.takenMs[i]!, nowMs);
    this.#policy.ended?.(run, i, nowMs);
    instance.expiresMs = nowMs + this.#policy.keepAliveMs(instance.task, nowMs, instance);
    this.#scheduleExpiry(pool, instance, nowMs);
    this.#tell(run, i, nowMs, 0);
    const caller = run.replay.waitingCaller[i]!;
    if (caller >= 0) {
      run.lastCalleeMs[caller] = Math.max(run.lastCalleeMs[caller]!, nowMs);
      if (--run.calleesLeft[caller]! === 0 && !Number.isNaN(run.beginMs[caller]!)) this.#scheduleEnd(run, caller);
    }
    if (--run.left > 0) return;
    this.accounts.overheadMs[run.number] = Math.max(0, nowMs - run.arrivedMs - run.replay.makespanMs);
    this.#policy.runEnded?.(run, nowMs);
    this.#progress(++this.#runsEnded);
    if (this.cache === null) return;
    for (const object of run.replay.produced.keys()) this.cache.drop(this.objectKey(run, object));
  }

  /** Followers of execution i learn that it began (isCall 1) or ended (0). */
  #tell(run: ActiveRun, i: number, atMs: number, isCall: number): void {
    const { replay } = run;
    for (let f = replay.followerOffsets[i]!; f < replay.followerOffsets[i + 1]!; f++) {
      if (replay.isCall[f] !== isCall) continue;
      const follower = replay.followers[f]!;
      if (atMs > run.readyMs[follower]!) run.readyMs[follower] = atMs;
      if (--run.triggersLeft[follower]! === 0) this.#scheduleStart(run, follower);
    }
  }

  // ── Holding ────────────────────────────────────────────────────────────────────────────────────────────────────────

  #scheduleExpiry(pool: Pool, instance: Instance, nowMs: number): void {
    if (instance.expiresMs <= nowMs) {
      this.#expire(pool, instance, instance.uses, nowMs);
      return;
    }
    if (!Number.isFinite(instance.expiresMs)) return;
    const { uses } = instance;
    this.#calendar.add(instance.expiresMs, (now) => this.#expire(pool, instance, uses, now));
  }

  #expire(pool: Pool, instance: Instance, uses: number, nowMs: number): void {
    if (instance.state !== "idle" || instance.uses !== uses) return;
    // A claim that counts on it holds it until the claim is over.
    if (pool.unclaimed < 1 && pool.claimedUntilMs > nowMs) {
      instance.expiresMs = pool.claimedUntilMs;
      this.#scheduleExpiry(pool, instance, nowMs);
      return;
    }
    pool.kill(instance, nowMs);
  }

  #draw(task: number, draw: number): number {
    const samples = this.coldStarts[task]!;
    if (samples.length === 1) return samples[0]!;
    let mixed = Math.imul(this.#seed ^ draw, 0x85ebca6b) ^ task;
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
    return samples[((mixed ^ (mixed >>> 16)) >>> 0) % samples.length]!;
  }
}

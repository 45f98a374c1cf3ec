// Instances of one task: what is idle, what is starting ahead of a call, and how many are spoken for. One request at a time per
// instance, as many instances as needed. A claim says "one more instance is wanted, until then": instances are alike, so claims
// are counted, and an instance is started ahead only when more are claimed than there are.
import type { Accounts } from "./accounting.ts";

export interface Instance {
  readonly task: number;
  readonly bornMs: number;
  readonly readyMs: number;
  /** Since it is idle; meaningless while busy. */
  idleSinceMs: number;
  expiresMs: number;
  /** It has served at least one execution. */
  isUsed: boolean;
  state: "starting" | "idle" | "busy" | "dead";
  /** Times it was taken: greedy-dual's frequency. */
  uses: number;
}

/** One more instance is wanted, until then or until a call comes. */
export interface Claim {
  readonly task: number;
  readonly untilMs: number;
  isOpen: boolean;
  /** A call came in time. */
  isMet: boolean;
}

export class Pool {
  readonly gb: number;
  /** The most recently used is last. */
  readonly idle: Instance[] = [];
  /** Started ahead, not ready, and nobody waits for it yet. */
  readonly starting: Instance[] = [];
  /** Open claims, oldest first. */
  readonly #claims: Claim[] = [];
  /** Until when the last claim stands, ms. */
  claimedUntilMs = Number.NEGATIVE_INFINITY;
  readonly #task: number;
  readonly #accounts: Accounts;
  /** Shared by all pools: what exists now. */
  readonly #memory: { gb: number };

  constructor(task: number, gb: number, accounts: Accounts, memory: { gb: number }) {
    this.#task = task;
    this.gb = gb;
    this.#accounts = accounts;
    this.#memory = memory;
  }

  /** Idle or coming, beyond what is claimed. */
  get unclaimed(): number {
    return this.idle.length + this.starting.length - this.#claims.length;
  }

  get isClaimed(): boolean {
    return this.#claims.length > 0;
  }

  claim(claim: Claim): void {
    this.#claims.push(claim);
    if (claim.untilMs > this.claimedUntilMs) this.claimedUntilMs = claim.untilMs;
  }

  unclaim(claim: Claim): void {
    if (!claim.isOpen) return;
    claim.isOpen = false;
    this.#claims.splice(this.#claims.indexOf(claim), 1);
  }

  /** A call came: whoever it was claimed for, one claim is met. */
  meetClaim(): void {
    const met = this.#claims.shift();
    if (met === undefined) return;
    met.isOpen = false;
    met.isMet = true;
  }

  bear(bornMs: number, readyMs: number, state: "starting" | "busy"): Instance {
    const instance: Instance = {
      task: this.#task,
      bornMs,
      readyMs,
      idleSinceMs: readyMs,
      expiresMs: Number.POSITIVE_INFINITY,
      isUsed: state === "busy",
      state,
      uses: state === "busy" ? 1 : 0,
    };
    this.#memory.gb += this.gb;
    if (state === "starting") this.starting.push(instance);
    // What a request started for itself it uses from the first moment.
    else this.#accounts.usedGbMs += (readyMs - bornMs) * this.gb;
    return instance;
  }

  /** An idle instance, or one that will be ready within `patienceMs`, taken from now on; null where there is none. */
  take(nowMs: number, patienceMs: number): Instance | null {
    const idle = this.idle.pop();
    if (idle !== undefined) {
      if (!idle.isUsed) this.#accounts.usedGbMs += (idle.readyMs - idle.bornMs) * this.gb;
      this.#accounts.idleGbMs += (nowMs - idle.idleSinceMs) * this.gb;
      return this.#taken(idle);
    }
    let soonest: Instance | null = null;
    for (const instance of this.starting)
      if (soonest === null || instance.readyMs < soonest.readyMs) soonest = instance;
    if (soonest === null || soonest.readyMs - nowMs >= patienceMs) return null;
    this.starting.splice(this.starting.indexOf(soonest), 1);
    this.#accounts.usedGbMs += (soonest.readyMs - soonest.bornMs) * this.gb;
    return this.#taken(soonest);
  }

  #taken(instance: Instance): Instance {
    instance.state = "busy";
    instance.isUsed = true;
    instance.uses++;
    return instance;
  }

  /** A started-ahead instance says ready. */
  ready(instance: Instance): void {
    this.starting.splice(this.starting.indexOf(instance), 1);
    instance.state = "idle";
    this.idle.push(instance);
  }

  /** Served since `beganMs`; now idle. */
  release(instance: Instance, beganMs: number, nowMs: number): void {
    this.#accounts.usedGbMs += (nowMs - beganMs) * this.gb;
    instance.state = "idle";
    instance.idleSinceMs = nowMs;
    this.idle.push(instance);
  }

  /** Ends an idle or starting instance. */
  kill(instance: Instance, nowMs: number): void {
    const list = instance.state === "starting" ? this.starting : this.idle;
    list.splice(list.lastIndexOf(instance), 1);
    if (instance.isUsed) this.#accounts.idleGbMs += (nowMs - instance.idleSinceMs) * this.gb;
    else this.#accounts.wastedGbMs += (nowMs - instance.bornMs) * this.gb;
    this.#accounts.lifetimeGbMs += (nowMs - instance.bornMs) * this.gb;
    this.#memory.gb -= this.gb;
    instance.state = "dead";
  }
}

// Forechain itself: every execution goes through the production pipeline (`serve`), and its commands are carried out here.
// In: executions as they start. Out: claims on the world. Dial: ms of waiting that one GB·s is worth (policy `msPerGbSecond`).
// The fleet is one cluster with one VM of any size, so that what is measured is prediction and planning, not placement.

import { COLD_START_UNKNOWN_MS } from "../../core/demand.ts";
import { type ClusterView, FleetIndex, type VmView } from "../../core/fleet.ts";
import { KeepAlive } from "../../core/keepalive.ts";
import { KEPT_AFTER_CHANGE } from "../../core/learning.ts";
import { outputsToFetch } from "../../core/outputs.ts";
import { type Admission, type Offer, serve, type TaskRequest } from "../../core/pipeline.ts";
import { type Hidden, hiddenAfter, LEFT_BY_OTHERS, type PlannedCommand, waitOf } from "../../core/planned.ts";
import { addColdTimes } from "../../core/profile/cold.ts";
import type { AssembledRun } from "../../core/profile.ts";
import { Quotas } from "../../core/quotas.ts";
import { Policy as PolicySchema } from "../../protocol.ts";
import { HARM_MS } from "../accounting.ts";
import { freeCluster, idleVm } from "../fleet.ts";
import type { Learner, LearnerParts } from "../learner.ts";
import type { Claim, Instance } from "../pool.ts";
import type { ActiveRun, Policy, World } from "../world.ts";

/** Sealing waits this long for late records, ms (ledger.ts QUIET_MIN_MS), and publishing as long again. */
const LEARN_DELAY_MS = 10_000;
const VM_BYTES = 2 ** 50;
const NO_CONSTRAINTS = {};
const NOTHING_HIDDEN = {};

/** Ended commands are forgotten when so many are remembered. */
const STANDING_SWEEP = 4_096;

interface Carried {
  vms: Record<string, string>;
  branch: string | null;
  hidden: Record<string, Hidden>;
}

export interface ForechainOptions extends LearnerParts {
  msPerGbSecond: number;
  /** The operator's keep-alive. */
  keepAliveMs: number;
  storeBytesPerSecond: number | null;
  /** Memory within the operator's keep-alive at its shadow price; else at the dial. */
  pricesMemory: boolean;
  /** Holds learned per task; else the operator's keep-alive stands for all. */
  learnsHolds: boolean;
  /** The path before an execution is told; else only the execution's own task. */
  usesPath: boolean;
  /** Simulated runs are learned; else only the first half of the log. */
  learnsOn: boolean;
}

export class Forechain implements Policy {
  readonly name = "forechain";
  readonly dial: number;
  readonly #options: ForechainOptions;
  readonly #learner: Learner;
  readonly #policy: ReturnType<typeof PolicySchema.parse>;
  readonly #taskNames: string[];
  readonly #ids: Map<string, number>;
  /** What the continuation carries along the path, by run and execution. */
  readonly #carried = new Map<ActiveRun, Carried[]>();
  /** Commands that stand, by key, with their end, ms: one command per distinct thing, as at the hub. */
  readonly #standing = new Map<string, { claim: Claim; expiresMs: number }>();
  readonly #holds: KeepAlive;
  readonly #quotas = new Quotas();
  #world!: World;
  #idCounter = 0;
  /** Wasted so far, as told to the price of memory. */
  #wastedGbMs = 0;
  readonly #objectIds = new Map<string, number>();

  /** By task: most are as they were for the execution before. */
  readonly #vm: VmView & { warmUntilMs: Record<string, number> };
  readonly #cluster: ClusterView;
  readonly #fleet: FleetIndex;
  /** What `#vm` tells of each task, by its id. */
  readonly #told: { warm: number; untilMs: number; starting: number }[];
  /** The operator's keep-alive of tasks that are held for less, ms; 0 of the others. */
  readonly #sparedMs: Record<string, number> = {};

  constructor(learner: Learner, taskNames: string[], options: ForechainOptions) {
    this.#learner = learner;
    this.#options = options;
    this.#holds = new KeepAlive({ msPerGbSecond: options.msPerGbSecond, fixedMs: options.keepAliveMs });
    this.#holds.price.frozen = !options.pricesMemory;
    this.dial = options.msPerGbSecond;
    this.#policy = PolicySchema.parse({ mode: "active", msPerGbSecond: options.msPerGbSecond, fanOutMax: 1024 });
    this.#taskNames = taskNames;
    this.#told = taskNames.map(() => ({ warm: Number.NaN, untilMs: Number.NaN, starting: Number.NaN }));
    this.#vm = {
      ...idleVm({ vm: "vm", cpuCores: 1024, memoryBytes: VM_BYTES, tasks: taskNames }),
      warmUntilMs: {},
    };
    this.#cluster = this.#clusterOf(this.#vm);
    const policy = this.#policy;
    this.#fleet = new FleetIndex({ atMs: 0, clusters: [this.#cluster], services: {}, tasks: {}, policy });
    this.#ids = new Map(taskNames.map((task, id) => [task, id]));
  }

  #clusterOf(vm: VmView): ClusterView {
    // All objects are in one store: the service that the empty host stands for.
    const bandwidth = this.#options.storeBytesPerSecond ?? Number.MAX_VALUE;
    const proximity = { "": { latencyMs: 0, bandwidthBytesPerSecond: bandwidth } };
    return {
      ...freeCluster({ cluster: "cluster", proximity, vms: [vm] }),
      ...(this.#options.learnsHolds ? { sparedMs: this.#sparedMs } : {}),
    };
  }

  begin(world: World): void {
    this.#world = world;
    if (world.cache !== null) {
      for (const [id, { uri }] of world.workload.objects.entries()) this.#objectIds.set(uri, id);
    }
  }

  /** What an execution has written is fetched at once where it is likely to be read. */
  ended(run: ActiveRun, i: number, nowMs: number): void {
    if (this.#world.cache === null) return;
    const task = this.#taskNames[run.replay.tasks[i]!]!;
    const outputs = run.replay.assembled.executions[i]!.record.rest.outputs ?? [];
    const bytesPerMs = this.#options.storeBytesPerSecond! / 1000;
    const profile = this.#learner.model.profiles.get(task);
    const transferMs = (_uri: string, bytes: number) => bytes / bytesPerMs;
    for (const { uri } of outputsToFetch(task, outputs, profile, transferMs, this.#policy)) {
      const object = this.#objectIds.get(uri);
      if (object !== undefined) this.#world.prefetch(run, object, nowMs);
    }
  }

  async started(run: ActiveRun, i: number, nowMs: number): Promise<void> {
    const request = this.#requestOf(run, i);
    const served = await serve(request, this.#learner.model, this.#fleetAt(nowMs), {
      nowMs,
      newId: () => String(this.#idCounter++),
      random: () => 0,
      admit: async (offer) => this.#admit(offer),
    });
    if (served.kind !== "allocated") throw new Error(`nothing suitable: ${JSON.stringify(served.refused)}`);
    for (const command of served.plan) this.#carryOut(run, command, request.task, nowMs);
    this.#carriedOf(run)[i] = {
      vms: { ...request.heldVms, ...served.vms },
      branch: served.branch,
      hidden: hiddenAfter(this.#hiddenBefore(run, i), request.task, served.hidden),
    };
    this.#noteCall(run, i, request.task, nowMs);
  }

  /** As the hub does: a command joins the one that stands for the same thing, unless that one ends too early. */
  #admit(offer: Offer): Admission {
    const refusedKeys: Record<string, string> = {};
    for (const command of offer.commands) {
      const { key, quota, task } = command;
      const standing = this.#standing.get(key);
      let reason: string | null = null;
      if (standing?.claim.isOpen && standing.expiresMs >= command.deadlineMs) reason = "stands already";
      else if (quota !== undefined && !this.#quotas.gives(offer.runId, task!, key, quota)) reason = LEFT_BY_OTHERS;
      if (reason !== null) refusedKeys[`${command.vm} ${key}`] = reason;
    }
    return { ok: true, commandIds: {}, refusedKeys };
  }

  #carryOutPrefetch(run: ActiveRun, command: PlannedCommand, nowMs: number): void {
    const object = this.#objectIds.get(command.uri!);
    if (object === undefined) return;
    // Of what the run writes only what has been written can be fetched: `ended` sees to it.
    if (run.replay.produced.has(object)) return;
    this.#world.at(Math.max(nowMs, command.notBeforeMs), (now) => this.#world.prefetch(run, object, now));
  }

  #carryOut(run: ActiveRun, command: PlannedCommand, context: string, nowMs: number): void {
    if (command.kind === "prefetch") this.#carryOutPrefetch(run, command, nowMs);
    if (command.kind !== "warm" || command.task === null) return;
    const { notBeforeMs, expiresMs } = command;
    const claim = this.#world.claim(this.#ids.get(command.task)!, notBeforeMs, expiresMs, nowMs);
    this.#standing.set(command.key, { claim, expiresMs });
    const { gate } = this.#learner.learning;
    // An outcome is known when the command is over, whoever's call it served.
    const foretold = command.foretold ?? command.probability;
    this.#world.at(expiresMs + 1, () => gate.note(context, command.task!, foretold, claim.isMet));
    if (this.#standing.size > STANDING_SWEEP) this.#sweep();
  }

  #sweep(): void {
    for (const [key, { claim }] of this.#standing) if (!claim.isOpen) this.#standing.delete(key);
  }

  /** The agent tells how long each start took, once, and who waited although something should have been prepared. */
  taken(run: ActiveRun, i: number, instance: Instance, nowMs: number): void {
    const task = this.#taskNames[instance.task]!;
    if (run.waitMs[i]! > HARM_MS && this.#hiddenBefore(run, i)[task] !== undefined) {
      this.#holds.missed(task, this.#learner.model.profiles.get(task)?.latencySensitivity ?? 1);
    }
    const { wastedGbMs } = this.#world.accounts;
    const earlyMs = instance.uses === 1 ? Math.max(0, nowMs - instance.readyMs) : 0;
    this.#holds.price.prepared(earlyMs * this.#world.pools[instance.task]!.gb + wastedGbMs - this.#wastedGbMs);
    this.#wastedGbMs = wastedGbMs;
    if (instance.uses === 1)
      this.#learner.starts.note(this.#taskNames[instance.task]!, instance.readyMs - instance.bornMs);
  }

  runEnded(run: ActiveRun, nowMs: number): void {
    this.#carried.delete(run);
    if (!this.#options.learnsOn) return;
    this.#world.at(nowMs + LEARN_DELAY_MS, (now) => {
      if (this.#learner.learn(asSimulated(run), now)) this.#holds.fade(KEPT_AFTER_CHANGE);
    });
  }

  /** What a warm runtime saves this execution beyond what the plans before it hide. */
  #noteCall(run: ActiveRun, i: number, task: string, nowMs: number): void {
    const profile = this.#learner.model.profiles.get(task);
    const pool = this.#world.pools[run.replay.tasks[i]!]!;
    const hidden = this.#hiddenBefore(run, i)[task] ?? null;
    const coldStartMs = profile?.coldStartMs?.p50 ?? COLD_START_UNKNOWN_MS;
    const start = { coldStartMs, slowStartMs: profile?.coldStartMs?.p90 ?? coldStartMs };
    const wait = waitOf(start, hidden, this.#options.keepAliveMs);
    const covers = (bin: number) => this.#quotas.covers(String(run.number), task, bin);
    this.#holds.called(task, nowMs, wait, profile?.latencySensitivity ?? 1, pool.gb, covers);
    this.#noteHold(task);
  }

  /** What `spared` tells, for the one task whose hold may have changed. */
  #noteHold(task: string): number {
    const holdMs = this.#holds.holdMs(task);
    const { keepAliveMs } = this.#options;
    this.#sparedMs[task] = holdMs < keepAliveMs ? keepAliveMs : 0;
    return holdMs;
  }

  keepAliveMs(task: number, nowMs: number): number {
    const name = this.#taskNames[task]!;
    this.#holds.released(name, nowMs, this.#world.pools[task]!.gb);
    const holdMs = this.#noteHold(name);
    return this.#options.learnsHolds ? holdMs : this.#options.keepAliveMs;
  }

  #hiddenBefore(run: ActiveRun, i: number): Record<string, Hidden> {
    return this.#carriedOf(run)[run.replay.pathTriggers[i]!]?.hidden ?? NOTHING_HIDDEN;
  }

  #carriedOf(run: ActiveRun): Carried[] {
    let carried = this.#carried.get(run);
    if (carried === undefined) {
      carried = [];
      this.#carried.set(run, carried);
    }
    return carried;
  }

  #requestOf(run: ActiveRun, i: number): TaskRequest {
    const { replay } = run;
    const path: string[] = [];
    const pathStartMs: number[] = [];
    const above = replay.pathTriggers[i]!;
    for (let at = this.#options.usesPath ? above : -1; at >= 0; at = replay.pathTriggers[at]!) {
      path.push(this.#taskNames[replay.tasks[at]!]!);
      pathStartMs.push(run.startMs[at]!);
    }
    return {
      task: this.#taskNames[replay.tasks[i]!]!,
      version: null,
      path: path.reverse(),
      pathStartMs: pathStartMs.reverse(),
      params: {},
      runId: String(run.number),
      executionId: `${run.number}.${i}`,
      inputs: [],
      constraints: NO_CONSTRAINTS,
      horizonMs: null,
      maxTasks: null,
      heldCluster: above < 0 ? null : "cluster",
      heldVms: this.#carriedOf(run)[above]?.vms ?? {},
      dryRun: false,
      branch: this.#carriedOf(run)[above]?.branch ?? null,
      explains: false,
    };
  }

  /** The fleet as it is now: one view, changed in place, which nobody keeps. */
  #fleetAt(nowMs: number): FleetIndex {
    const { warm, warmUntilMs, starting } = this.#vm;
    const { pools } = this.#world;
    for (let task = 0; task < pools.length; task++) {
      const { idle, starting: begun } = pools[task]!;
      const told = this.#told[task]!;
      const name = this.#taskNames[task]!;
      const count = idle.length;
      const untilMs = count > 0 ? idle[count - 1]!.expiresMs : Number.POSITIVE_INFINITY;
      const startingCount = count > 0 ? 0 : begun.length;
      if (told.warm !== count) warm[name] = told.warm = count;
      if (told.untilMs !== untilMs) warmUntilMs[name] = told.untilMs = untilMs;
      if (told.starting !== startingCount) starting[name] = told.starting = startingCount;
    }
    this.#vm.lastHeartbeatMs = nowMs;
    if (this.#options.pricesMemory) this.#cluster.msPerGbSecond = this.#holds.price.msPerGbSecond;
    this.#fleet.view.atMs = nowMs;
    this.#fleet.renew();
    return this.#fleet;
  }
}

/** The run as its execution records would tell it: the log's triggers, the simulated times, and the waits as cold starts. */
function asSimulated(run: ActiveRun): AssembledRun {
  const { assembled } = run.replay;
  const executions = assembled.executions.map((execution, i) => ({
    ...execution,
    startMs: run.startMs[i]!,
    endMs: run.endMs[i]!,
    cold: run.waitMs[i]! > 0,
    coldStartMs: run.beginMs[i]! - run.startMs[i]!,
    coldRetriesMs: 0,
    coldBeforeStartMs: 0,
    coldBeforeEndMs: 0,
    coldWithinMs: 0,
  }));
  addColdTimes(executions);
  return { ...assembled, executions };
}

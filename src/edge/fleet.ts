// Fleet: one Durable Object per workspace. In: declarations of the operator (kept in D1, written here alone) and the hubs'
// summaries (in memory). Out: the fleet view, which the Worker keeps for a second, and the declarations that hubs need.
import { DurableObject } from "cloudflare:workers";
import type { FleetView } from "../core/fleet.ts";
import type { TaskRequest, Unsuitable } from "../core/pipeline.ts";
import type {
  AllocationRecord,
  ClusterDeclaration,
  ClusterRefusal,
  Demand,
  LearnedPart,
  Policy,
  ProximityEntry,
  ServiceDeclaration,
  TaskDeclaration,
} from "../protocol.ts";
import { writeRecords } from "./allocation-log.ts";
import { allocateTask, answerOf, continuationOf, recordOfAnswer } from "./allocator.ts";
import type { Env } from "./env.ts";
import {
  type Declarations,
  loadDeclarations,
  removeCluster,
  removeService,
  removeTask,
  storeCluster,
  storeFrozen,
  storePolicy,
  storeProximity,
  storeService,
  storeTask,
} from "./fleet/declarations.ts";
import { KnownVmsLog } from "./fleet/known-vms.ts";
import { Pending, type PendingRequest } from "./fleet/pending.ts";
import { joinFleet, withNames } from "./fleet/view.ts";
import { scaleOutEvent, Webhook } from "./fleet/webhook.ts";
import { NOTHING_SPENT, type Spent } from "./hub/budget.ts";
import type { FleetNews, HubConfig, HubSummary } from "./hub/messages.ts";
import { newId } from "./ids.ts";
import { prunePast } from "./retention.ts";
import { inTurns, within } from "./within.ts";

/** Hubs asked at the same time; a Durable Object has six connections, calls to others are cheaper but not free. */
const HUBS_AT_ONCE = 16;
/** One of them that hangs must not keep the others' capacity unknown, ms. */
const HUB_WAIT_MS = 1_000;
/** Scale-out events of one task: an operator's scaler needs to hear it, not each request, ms. */
const SCALE_OUT_EVERY_MS = 10_000;
/** Pending requests that one piece of news is tried on. */
const FILLED_AT_ONCE = 32;
const PRUNE_EVERY_MS = 3_600_000;
const CLUSTERS_MAX = 1_000;
const TASKS_MAX = 5_000;
const SERVICES_MAX = 1_000;

export type Declared = { ok: true } | { ok: false; reason: "too-many"; detail: string };
const DECLARED: Declared = { ok: true };

export class Fleet extends DurableObject<Env> {
  readonly #summaries = new Map<string, HubSummary>();
  readonly #knownVms: KnownVmsLog;
  readonly #pending: Pending;
  readonly #webhook: Webhook;
  /** By task: when its last scale-out event was sent. */
  readonly #scaledOutMs = new Map<string, number>();
  #filling = false;
  #prunedMs = 0;
  #loading: Promise<Declarations> | null = null;
  /** Another one after every declaration and after every restart, so that a hub compares for equality only. */
  #version = crypto.randomUUID();

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#knownVms = new KnownVmsLog(env.DB);
    this.#pending = new Pending(ctx.storage.sql);
    this.#webhook = new Webhook(ctx.storage.sql);
    ctx.storage.sql.exec(
      "CREATE TABLE IF NOT EXISTS identity (workspace TEXT NOT NULL PRIMARY KEY) STRICT, WITHOUT ROWID",
    );
    ctx.blockConcurrencyWhile(() => this.#arm(Date.now()));
  }

  // ── Views ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  async view(workspace: string): Promise<FleetView> {
    return joinFleet(await this.#declared(workspace), this.#summaries, Date.now());
  }

  async clusters(workspace: string): Promise<Record<string, ClusterDeclaration>> {
    return Object.fromEntries((await this.#declared(workspace)).clusters);
  }

  async tasks(workspace: string): Promise<Record<string, TaskDeclaration>> {
    return Object.fromEntries((await this.#declared(workspace)).tasks);
  }

  async services(workspace: string): Promise<Record<string, ServiceDeclaration>> {
    return Object.fromEntries((await this.#declared(workspace)).services);
  }

  async proximity(workspace: string): Promise<ProximityEntry[]> {
    return (await this.#declared(workspace)).proximity;
  }

  async policy(workspace: string): Promise<Policy> {
    return (await this.#declared(workspace)).policy;
  }

  /** Clusters that may have something to tell: declared, or heard of. */
  async clusterNames(workspace: string): Promise<string[]> {
    const declared = await this.#declared(workspace);
    return [...new Set([...declared.clusters.keys(), ...this.#summaries.keys()])];
  }

  /** What waits at each hub, for monitoring. */
  async waiting(workspace: string): Promise<Record<string, { inFlightCommands: number; unflushedOutcomes: number }>> {
    await this.#declared(workspace);
    const waiting = [...this.#summaries].map(([cluster, { spent, unflushedOutcomes }]) => [
      cluster,
      { inFlightCommands: spent.inFlight, unflushedOutcomes },
    ]);
    return Object.fromEntries(waiting);
  }

  // ── Declarations ───────────────────────────────────────────────────────────────────────────────────────────────────

  async declareCluster(workspace: string, cluster: string, declaration: ClusterDeclaration): Promise<Declared> {
    const declared = await this.#declared(workspace);
    if (isFull(declared.clusters, cluster, CLUSTERS_MAX)) return tooMany("clusters", CLUSTERS_MAX);
    await storeCluster(this.env.DB, workspace, cluster, declaration, Date.now());
    declared.clusters.set(cluster, declaration);
    declared.removed.delete(cluster);
    await this.#announce(workspace, declared, [cluster]);
    return DECLARED;
  }

  /** Its agents are drained, whoever of them still reports, and the cluster stays away until it is declared again. */
  async forgetCluster(workspace: string, cluster: string): Promise<boolean> {
    const declared = await this.#declared(workspace);
    const isKnown = declared.clusters.has(cluster) || this.#summaries.has(cluster);
    if (!isKnown || declared.removed.has(cluster)) return false;
    await removeCluster(this.env.DB, workspace, cluster, Date.now());
    declared.proximity = declared.proximity.filter((entry) => entry.cluster !== cluster);
    declared.clusters.delete(cluster);
    declared.removed.add(cluster);
    this.#summaries.delete(cluster);
    this.#knownVms.forget(cluster);
    await this.#announce(workspace, declared, [cluster]);
    return true;
  }

  async declareService(workspace: string, service: string, declaration: ServiceDeclaration): Promise<Declared> {
    const declared = await this.#declared(workspace);
    if (isFull(declared.services, service, SERVICES_MAX)) return tooMany("services", SERVICES_MAX);
    await storeService(this.env.DB, workspace, service, declaration, Date.now());
    declared.services.set(service, declaration);
    this.#version = crypto.randomUUID();
    return DECLARED;
  }

  async forgetService(workspace: string, service: string): Promise<boolean> {
    const declared = await this.#declared(workspace);
    await removeService(this.env.DB, workspace, service);
    this.#version = crypto.randomUUID();
    return declared.services.delete(service);
  }

  async declareTask(workspace: string, task: string, declaration: TaskDeclaration): Promise<Declared> {
    const declared = await this.#declared(workspace);
    if (isFull(declared.tasks, task, TASKS_MAX)) return tooMany("tasks", TASKS_MAX);
    await storeTask(this.env.DB, workspace, task, declaration, Date.now());
    const before = declared.tasks.get(task);
    declared.tasks.set(task, declaration);
    // A new version takes back the old one's commands: that must not wait for the hubs' next summary.
    if (before?.version !== declaration.version) await this.#announce(workspace, declared, [...this.#summaries.keys()]);
    else this.#version = crypto.randomUUID();
    return DECLARED;
  }

  async forgetTask(workspace: string, task: string): Promise<boolean> {
    const declared = await this.#declared(workspace);
    await removeTask(this.env.DB, workspace, task);
    this.#version = crypto.randomUUID();
    return declared.tasks.delete(task);
  }

  async declareProximity(workspace: string, entries: ProximityEntry[]): Promise<Declared> {
    const declared = await this.#declared(workspace);
    await storeProximity(this.env.DB, workspace, entries);
    declared.proximity = entries;
    return DECLARED;
  }

  /** A pause must stop every hub at once: all are told before the answer. */
  async declarePolicy(workspace: string, policy: Policy): Promise<Declared> {
    const declared = await this.#declared(workspace);
    await storePolicy(this.env.DB, workspace, policy, Date.now());
    declared.policy = policy;
    await this.#announce(workspace, declared, [...this.#summaries.keys()]);
    return DECLARED;
  }

  async frozen(workspace: string): Promise<LearnedPart[]> {
    return (await this.#declared(workspace)).frozen;
  }

  /** These parts of the learned stay as they are from now on, all others are learned. */
  async declareFrozen(workspace: string, parts: LearnedPart[]): Promise<void> {
    const declared = await this.#declared(workspace);
    await storeFrozen(this.env.DB, workspace, parts, Date.now());
    declared.frozen = parts;
    await this.#announce(workspace, declared, [...this.#summaries.keys()]);
  }

  // ── Hubs ───────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** A hub tells what it has, and hears what it must know. */
  async hubReport(
    workspace: string,
    cluster: string,
    summary: HubSummary,
    knownVersion: string | null,
  ): Promise<FleetNews> {
    const declared = await this.#declared(workspace);
    if (!declared.removed.has(cluster)) {
      this.#summaries.set(cluster, summary);
      this.ctx.waitUntil(this.#knownVms.note(workspace, cluster, summary, Date.now()));
    }
    if (this.#pending.size > 0 && !this.#filling) this.ctx.waitUntil(this.#fill(workspace));
    return {
      config: knownVersion === this.#version ? null : this.#configOf(declared, cluster),
      spentElsewhere: this.#spentBut(cluster),
    };
  }

  #spentBut(cluster: string): Spent {
    const sum = { ...NOTHING_SPENT };
    for (const [other, { spent }] of this.#summaries) {
      if (other === cluster) continue;
      sum.inFlight += spent.inFlight;
      sum.bytes += spent.bytes;
      sum.gbSeconds += spent.gbSeconds;
    }
    return sum;
  }

  // ── What nothing was suitable for ──────────────────────────────────────────────────────────────────────────────────

  /** The request waits until capacity appears, and is told by `pendingAllocation`. */
  async pend(workspace: string, pending: PendingRequest, demand: Demand): Promise<void> {
    const nowMs = Date.now();
    const gaveWay = this.#pending.add(pending, nowMs);
    if (gaveWay.length > 0) await writeRecords(this.env.DB, workspace, gaveWay);
    const { request, record } = pending;
    await this.#scaleOut(workspace, request, record.allocationId, record.refused ?? [], demand, nowMs);
  }

  /** A call that was refused for want of capacity and does not wait. */
  async lacking(workspace: string, request: TaskRequest, { allocationId, refused, demand }: Unsuitable): Promise<void> {
    await this.#scaleOut(workspace, request, allocationId, refused, demand, Date.now());
  }

  /** Null where it is not pending and was not lately. */
  async pendingAllocation(allocationId: string, waitMs: number): Promise<AllocationRecord | null> {
    return this.#pending.tell(allocationId, waitMs);
  }

  async #scaleOut(
    workspace: string,
    { task, runId }: TaskRequest,
    allocationId: string,
    refused: ClusterRefusal[],
    demand: Demand,
    nowMs: number,
  ): Promise<void> {
    const { policy } = await this.#declared(workspace);
    if (policy.webhookUrl && nowMs - (this.#scaledOutMs.get(task) ?? 0) >= SCALE_OUT_EVERY_MS) {
      this.#scaledOutMs.set(task, nowMs);
      if (this.#scaledOutMs.size > TASKS_MAX) this.#scaledOutMs.clear();
      const data = { allocationId, task, runId, demand, refused, pending: this.#pending.size };
      const eventId = newId(nowMs);
      this.#webhook.enqueue(eventId, policy.webhookUrl, scaleOutEvent(workspace, eventId, data, nowMs), nowMs);
    }
    this.#know(workspace);
    await this.#arm(nowMs);
  }

  /** Tries the oldest requests again on what the hubs have just told. */
  async #fill(workspace: string): Promise<void> {
    this.#filling = true;
    try {
      for (const { request, record } of this.#pending.oldest(FILLED_AT_ONCE)) {
        const nowMs = Date.now();
        const fleet = withNames(structuredClone(await this.view(workspace)));
        const served = await allocateTask(this.env, workspace, request, fleet, nowMs, record.allocationId);
        if (served.kind === "unsuitable") continue; // a smaller one behind it may fit
        const continuation = await continuationOf(this.env.FORECHAIN_SECRET, workspace, request, served, nowMs);
        const answer = answerOf(served, fleet, continuation);
        const filled = { ...recordOfAnswer(answer, request, "allocated", null, record.createdMs), continuation };
        // D1 first: whoever is told may look there at once.
        await writeRecords(this.env.DB, workspace, [filled]);
        this.#pending.settle(filled, nowMs);
      }
    } finally {
      this.#filling = false;
    }
  }

  // ── Time ───────────────────────────────────────────────────────────────────────────────────────────────────────────

  override async alarm(): Promise<void> {
    const nowMs = Date.now();
    const [row] = this.ctx.storage.sql.exec<{ workspace: string }>("SELECT workspace FROM identity").toArray();
    if (row) {
      const expired = this.#pending.expire(nowMs);
      if (expired.length > 0) await writeRecords(this.env.DB, row.workspace, expired);
      await this.#webhook.deliver(this.env.FORECHAIN_SECRET, row.workspace, nowMs);
      if (nowMs - this.#prunedMs >= PRUNE_EVERY_MS) {
        this.#prunedMs = nowMs;
        await prunePast(this.env.DB, row.workspace, nowMs);
      }
    }
    await this.#arm(nowMs);
  }

  /** For what is due first. A workspace in use is pruned; one at rest lets its object sleep. */
  async #arm(nowMs: number): Promise<void> {
    const pruneMs = this.#summaries.size > 0 ? Math.max(nowMs, this.#prunedMs) + PRUNE_EVERY_MS : null;
    const instants = [this.#pending.nextMs(), this.#webhook.nextMs(), pruneMs].filter((at) => at !== null);
    if (instants.length > 0) await this.ctx.storage.setAlarm(Math.max(nowMs, Math.min(...instants)));
  }

  #know(workspace: string): void {
    this.ctx.storage.sql.exec("INSERT INTO identity (workspace) VALUES (?) ON CONFLICT DO NOTHING", workspace);
  }

  async #announce(workspace: string, declared: Declarations, clusters: string[]): Promise<void> {
    this.#version = crypto.randomUUID();
    await inTurns(clusters, HUBS_AT_ONCE, async (cluster) => {
      const hub = this.env.CLUSTER_HUB.getByName(`${workspace}/${cluster}`);
      // A hub that is down learns it with its next summary.
      await hub
        .configure(workspace, cluster, this.#configOf(declared, cluster))
        .catch((error: unknown) => console.warn(`hub ${cluster} was not told: ${error}`));
    });
  }

  #configOf(declared: Declarations, cluster: string): HubConfig {
    const declaration = declared.clusters.get(cluster);
    return {
      version: this.#version,
      policy: declared.policy,
      draining: declaration?.draining ?? declared.removed.has(cluster),
      vms: Object.fromEntries((declaration?.vms ?? []).map((vm) => [vm.vm, vm])),
      tasks: Object.fromEntries(declared.tasks),
      services: [...declared.services].flatMap(([service, { probeUrl }]) => (probeUrl ? [{ service, probeUrl }] : [])),
      frozen: declared.frozen,
    };
  }

  /** Reads D1 once; then asks the hubs, which otherwise would be unknown until each has a reason to speak. */
  #declared(workspace: string): Promise<Declarations> {
    this.#loading ??= this.#load(workspace).catch((error) => {
      this.#loading = null;
      throw error;
    });
    return this.#loading;
  }

  async #load(workspace: string): Promise<Declarations> {
    this.#know(workspace);
    const declared = await loadDeclarations(this.env.DB, workspace);
    await this.#knownVms.load(workspace);
    await inTurns([...declared.clusters.keys()], HUBS_AT_ONCE, async (cluster) => {
      try {
        const hub = this.env.CLUSTER_HUB.getByName(`${workspace}/${cluster}`);
        const summary = await within(HUB_WAIT_MS, "the hub", hub.summary(workspace, cluster));
        if (!this.#summaries.has(cluster)) this.#summaries.set(cluster, summary);
      } catch (error) {
        console.warn(`hub ${cluster} did not answer: ${error}`);
      }
    });
    await this.#arm(Date.now());
    return declared;
  }
}

function isFull(known: Map<string, unknown>, name: string, max: number): boolean {
  return known.size >= max && !known.has(name);
}

function tooMany(what: string, max: number): Declared {
  return { ok: false, reason: "too-many", detail: `A workspace may have at most ${max} ${what}.` };
}

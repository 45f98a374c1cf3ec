// What the operator declared, as one value and as rows of D1. Fleet is the only writer; it reads all of it once when it starts.
import { eq } from "drizzle-orm";
import { drizzle } from "drizzle-orm/d1";
import {
  type ClusterDeclaration,
  LearnedPart,
  Policy,
  type ProximityEntry,
  type ServiceDeclaration,
  TaskDeclaration,
} from "../../protocol.ts";
import { clusters, policies, proximity, removedClusters, services, taskDeclarations, vms } from "../schema/control.ts";
import { learningFrozen } from "../schema/learning.ts";

export interface Declarations {
  clusters: Map<string, ClusterDeclaration>;
  services: Map<string, ServiceDeclaration>;
  tasks: Map<string, TaskDeclaration>;
  proximity: ProximityEntry[];
  policy: Policy;
  /** What was learned and is to stay as it is. */
  frozen: LearnedPart[];
  /** Clusters that the operator has removed: their agents may report, and are not heard, until the cluster is declared again. */
  removed: Set<string>;
}

/** Removals remembered; beyond, the oldest is forgotten. */
const REMOVED_MAX = 1_000;

export async function loadDeclarations(d1: D1Database, workspace: string): Promise<Declarations> {
  const db = drizzle(d1);
  const [clusterRows, vmRows, serviceRows, proximityRows, taskRows, policyRows, frozenRows, removedRows] =
    await db.batch([
      db.select().from(clusters).where(eq(clusters.workspace, workspace)),
      db.select().from(vms).where(eq(vms.workspace, workspace)),
      db.select().from(services).where(eq(services.workspace, workspace)),
      db.select().from(proximity).where(eq(proximity.workspace, workspace)),
      db.select().from(taskDeclarations).where(eq(taskDeclarations.workspace, workspace)),
      db.select().from(policies).where(eq(policies.workspace, workspace)),
      db.select().from(learningFrozen).where(eq(learningFrozen.workspace, workspace)),
      db.select().from(removedClusters).where(eq(removedClusters.workspace, workspace)),
    ]);
  const declared: Declarations = {
    clusters: new Map(),
    services: new Map(),
    // Parsed again, not trusted: a newer version may know more fields, and their defaults belong in.
    tasks: new Map(taskRows.map((row) => [row.task, TaskDeclaration.parse(row.declaration)])),
    proximity: proximityRows.map(({ workspace: _, ...entry }) => entry),
    policy: Policy.parse(policyRows[0]?.policy ?? {}),
    frozen: frozenRows.flatMap(({ part }) => LearnedPart.safeParse(part).data ?? []),
    removed: new Set(removedRows.map(({ cluster }) => cluster)),
  };
  for (const { cluster, labels, draining, approvedHosts, pricePerGbSecond, internalLatencyMs } of clusterRows) {
    declared.clusters.set(cluster, { vms: [], labels, draining, approvedHosts, pricePerGbSecond, internalLatencyMs });
  }
  for (const { cluster, vm, cpuCores, memoryBytes, draining, ...row } of vmRows) {
    declared.clusters.get(cluster)?.vms.push({
      vm,
      cpuCores,
      memoryBytes,
      draining,
      ...(row.url === null ? {} : { url: row.url }),
      ...(row.diskBytes === null ? {} : { diskBytes: row.diskBytes }),
      ...(row.networkBytesPerSecond === null ? {} : { networkBytesPerSecond: row.networkBytesPerSecond }),
    });
  }
  for (const { service, kind, hosts, probeUrl } of serviceRows) {
    declared.services.set(service, { kind, hosts, ...(probeUrl === null ? {} : { probeUrl }) });
  }
  return declared;
}

/** A cluster with all its VMs, in one transaction: what is not in the declaration is gone. */
export async function storeCluster(
  d1: D1Database,
  workspace: string,
  cluster: string,
  declaration: ClusterDeclaration,
  nowMs: number,
): Promise<void> {
  await d1.batch([
    d1
      .prepare(
        `INSERT INTO clusters (workspace, cluster, labels, draining, approved_hosts, price_per_gb_second,
           internal_latency_ms, declared_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (workspace, cluster) DO UPDATE SET labels = excluded.labels, draining = excluded.draining,
           approved_hosts = excluded.approved_hosts, price_per_gb_second = excluded.price_per_gb_second,
           internal_latency_ms = excluded.internal_latency_ms, declared_ms = excluded.declared_ms`,
      )
      .bind(
        workspace,
        cluster,
        JSON.stringify(declaration.labels),
        declaration.draining ? 1 : 0,
        JSON.stringify(declaration.approvedHosts),
        declaration.pricePerGbSecond,
        declaration.internalLatencyMs,
        nowMs,
      ),
    d1.prepare("DELETE FROM removed_clusters WHERE workspace = ?1 AND cluster = ?2").bind(workspace, cluster),
    d1.prepare("DELETE FROM vms WHERE workspace = ?1 AND cluster = ?2").bind(workspace, cluster),
    // One JSON parameter: a thousand VMs are far more than D1's 100 bound parameters.
    d1
      .prepare(
        `INSERT INTO vms (workspace, cluster, vm, url, cpu_cores, memory_bytes, disk_bytes, network_bytes_per_second, draining)
         SELECT ?1, ?2, value ->> 'vm', value ->> 'url', CAST(value ->> 'cpuCores' AS REAL), value ->> 'memoryBytes',
           value ->> 'diskBytes', CAST(value ->> 'networkBytesPerSecond' AS REAL), value ->> 'draining'
         FROM json_each(?3)`,
      )
      .bind(workspace, cluster, JSON.stringify(declaration.vms)),
  ]);
}

export async function removeCluster(d1: D1Database, workspace: string, cluster: string, nowMs: number): Promise<void> {
  await d1.batch([
    ...["clusters", "vms", "proximity", "known_vms"].map((table) =>
      d1.prepare(`DELETE FROM ${table} WHERE workspace = ?1 AND cluster = ?2`).bind(workspace, cluster),
    ),
    d1
      .prepare(
        `INSERT INTO removed_clusters (workspace, cluster, removed_ms) VALUES (?1, ?2, ?3)
         ON CONFLICT (workspace, cluster) DO UPDATE SET removed_ms = excluded.removed_ms`,
      )
      .bind(workspace, cluster, nowMs),
    d1
      .prepare(
        `DELETE FROM removed_clusters WHERE workspace = ?1 AND removed_ms <= (
           SELECT removed_ms FROM removed_clusters WHERE workspace = ?1 ORDER BY removed_ms DESC LIMIT 1 OFFSET ?2)`,
      )
      .bind(workspace, REMOVED_MAX),
  ]);
}

export async function storeService(
  d1: D1Database,
  workspace: string,
  service: string,
  declaration: ServiceDeclaration,
  nowMs: number,
): Promise<void> {
  await d1
    .prepare(
      `INSERT INTO services (workspace, service, kind, hosts, probe_url, declared_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
       ON CONFLICT (workspace, service) DO UPDATE SET kind = excluded.kind, hosts = excluded.hosts,
         probe_url = excluded.probe_url, declared_ms = excluded.declared_ms`,
    )
    .bind(workspace, service, declaration.kind, JSON.stringify(declaration.hosts), declaration.probeUrl ?? null, nowMs)
    .run();
}

export async function removeService(d1: D1Database, workspace: string, service: string): Promise<void> {
  await d1.prepare("DELETE FROM services WHERE workspace = ?1 AND service = ?2").bind(workspace, service).run();
}

/** The whole matrix: what is not declared again is gone. */
export async function storeProximity(d1: D1Database, workspace: string, entries: ProximityEntry[]): Promise<void> {
  await d1.batch([
    d1.prepare("DELETE FROM proximity WHERE workspace = ?1").bind(workspace),
    d1
      .prepare(
        `INSERT INTO proximity (workspace, cluster, peer, latency_ms, bandwidth_bytes_per_second)
         SELECT ?1, value ->> 'cluster', value ->> 'peer', CAST(value ->> 'latencyMs' AS REAL),
           CAST(value ->> 'bandwidthBytesPerSecond' AS REAL)
         FROM json_each(?2) WHERE true
         ON CONFLICT (workspace, cluster, peer) DO UPDATE SET latency_ms = excluded.latency_ms,
           bandwidth_bytes_per_second = excluded.bandwidth_bytes_per_second`,
      )
      .bind(workspace, JSON.stringify(entries)),
  ]);
}

export async function storeTask(
  d1: D1Database,
  workspace: string,
  task: string,
  declaration: TaskDeclaration,
  nowMs: number,
): Promise<void> {
  await d1
    .prepare(
      `INSERT INTO task_declarations (workspace, task, declaration, declared_ms) VALUES (?1, ?2, ?3, ?4)
       ON CONFLICT (workspace, task) DO UPDATE SET declaration = excluded.declaration, declared_ms = excluded.declared_ms`,
    )
    .bind(workspace, task, JSON.stringify(declaration), nowMs)
    .run();
}

export async function removeTask(d1: D1Database, workspace: string, task: string): Promise<void> {
  await d1.prepare("DELETE FROM task_declarations WHERE workspace = ?1 AND task = ?2").bind(workspace, task).run();
}

export async function storePolicy(d1: D1Database, workspace: string, policy: Policy, nowMs: number): Promise<void> {
  await d1
    .prepare(
      `INSERT INTO policies (workspace, policy, declared_ms) VALUES (?1, ?2, ?3)
       ON CONFLICT (workspace) DO UPDATE SET policy = excluded.policy, declared_ms = excluded.declared_ms`,
    )
    .bind(workspace, JSON.stringify(policy), nowMs)
    .run();
}

/** What of the learned is frozen from now on; the rest is not. */
export async function storeFrozen(
  d1: D1Database,
  workspace: string,
  parts: LearnedPart[],
  nowMs: number,
): Promise<void> {
  await d1.batch([
    d1
      .prepare("DELETE FROM learning_frozen WHERE workspace = ?1 AND part NOT IN (SELECT value FROM json_each(?2))")
      .bind(workspace, JSON.stringify(parts)),
    d1
      .prepare(
        `INSERT INTO learning_frozen (workspace, part, since_ms) SELECT ?1, value, ?3 FROM json_each(?2) WHERE true
         ON CONFLICT DO NOTHING`,
      )
      .bind(workspace, JSON.stringify(parts), nowMs),
  ]);
}

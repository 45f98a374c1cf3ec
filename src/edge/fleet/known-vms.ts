// The VMs that agents have told of, kept in D1 for the time in which Fleet cannot be asked. In: hubs' summaries, as Fleet hears
// them. Out: a fleet view without Fleet and without hubs: what is declared, and VMs that are believed to be as they last were.
import type { FleetView } from "../../core/fleet.ts";
import { NOTHING_SPENT } from "../hub/budget.ts";
import type { HubSummary, VmSummary } from "../hub/messages.ts";
import { loadDeclarations } from "./declarations.ts";
import { joinFleet, withNames } from "./view.ts";

/** A cluster is looked at again after this, ms: rows are for outages, and an outage of ten seconds has its isolates' views. */
const LOOK_EVERY_MS = 10_000;
/** Of one row, which may have 2 MB. VMs beyond are not remembered, characters. */
const ROW_CHARACTERS_MAX = 1_000_000;

type KnownVm = Pick<VmSummary, "vm" | "announcedUrl" | "cpuCores" | "memoryBytes">;

/** As it is stored: VMs of a cluster mostly have the same tasks, so their lists are told once. */
interface KnownVms {
  taskLists: string[][];
  vms: (KnownVm & { taskList: number })[];
}

/** Fleet's memory of what D1 holds. Errors: a write that failed is tried again with a later summary. */
export class KnownVmsLog {
  readonly #db: D1Database;
  readonly #byCluster = new Map<string, { text: string; vms: number; lookedMs: number }>();

  constructor(db: D1Database) {
    this.#db = db;
  }

  /** What was stored before this object began: else each start would write every row again. */
  async load(workspace: string): Promise<void> {
    for (const { cluster, vms } of await rowsOf(this.#db, workspace)) {
      this.#byCluster.set(cluster, { text: vms, vms: -1, lookedMs: 0 });
    }
  }

  async note(workspace: string, cluster: string, { vms }: HubSummary, nowMs: number): Promise<void> {
    const known = this.#byCluster.get(cluster);
    if (known && known.vms === vms.length && nowMs - known.lookedMs < LOOK_EVERY_MS) return;
    const text = JSON.stringify(pack(vms));
    this.#byCluster.set(cluster, { text, vms: vms.length, lookedMs: nowMs });
    if (text === known?.text) return;
    try {
      await this.#db
        .prepare(
          `INSERT INTO known_vms (workspace, cluster, vms, known_ms) VALUES (?1, ?2, ?3, ?4)
           ON CONFLICT (workspace, cluster) DO UPDATE SET vms = excluded.vms, known_ms = excluded.known_ms`,
        )
        .bind(workspace, cluster, text, nowMs)
        .run();
    } catch (error) {
      this.#byCluster.delete(cluster);
      console.warn(`VMs of ${cluster} were not remembered: ${error}`);
    }
  }

  forget(cluster: string): void {
    this.#byCluster.delete(cluster);
  }
}

/**
 * What can be known without Fleet. Nobody can say which agents are silent, so all count as heard of now: a VM that is gone
 * refuses the connection, and the next one is tried.
 */
export async function fleetViewFromD1(db: D1Database, workspace: string, nowMs: number): Promise<FleetView> {
  const [declared, rows] = await Promise.all([loadDeclarations(db, workspace), rowsOf(db, workspace)]);
  const summaries = new Map(rows.map(({ cluster, vms }) => [cluster, summaryOf(JSON.parse(vms), nowMs)]));
  return withNames(joinFleet(declared, summaries, nowMs));
}

async function rowsOf(db: D1Database, workspace: string): Promise<{ cluster: string; vms: string }[]> {
  const { results } = await db
    .prepare("SELECT cluster, vms FROM known_vms WHERE workspace = ?1")
    .bind(workspace)
    .all<{ cluster: string; vms: string }>();
  return results;
}

function pack(summaries: VmSummary[]): KnownVms {
  const taskLists = new Map<string, number>();
  const vms: KnownVms["vms"] = [];
  let characters = 0;
  for (const { vm, announcedUrl, cpuCores, memoryBytes, tasks } of summaries) {
    const list = JSON.stringify(tasks);
    characters += vm.length + (announcedUrl?.length ?? 0) + 100 + (taskLists.has(list) ? 0 : list.length);
    if (characters > ROW_CHARACTERS_MAX) break;
    const taskList = taskLists.get(list) ?? taskLists.size;
    taskLists.set(list, taskList);
    vms.push({ vm, announcedUrl, cpuCores, memoryBytes, taskList });
  }
  return { taskLists: [...taskLists.keys()].map((list) => JSON.parse(list)), vms };
}

function summaryOf({ taskLists, vms }: KnownVms, nowMs: number): HubSummary {
  return {
    atMs: nowMs,
    reservedMemoryBytes: 0,
    reservedCpuCores: 0,
    unflushedOutcomes: 0,
    spent: NOTHING_SPENT,
    vms: vms.map(({ taskList, ...known }) => ({
      ...known,
      tasks: taskLists[taskList]!,
      lastHeartbeatMs: nowMs,
      cpuLoad: 0,
      memoryUsedBytes: 0,
      executions: 0,
      warm: {},
      starting: {},
      uris: [],
      probes: [],
    })),
  };
}

// What an operator would declare, through the API: services, clusters with their VMs, proximity, tasks, policy; and keys, each
// with no more scope than its holder needs.
import type { Mode, Policy, ProximityEntry } from "../../protocol.ts";
import type { Api } from "../api.ts";
import type { AgentPlace } from "./agents.ts";
import {
  CLUSTERS,
  type PeerName,
  STORE_HOST,
  TASK_DECLARATION,
  TASKS,
  VM_CPU_CORES,
  VM_MEMORY_BYTES,
} from "./world.ts";

/** Moving a GB for nothing is worth so many ms of a user's waiting: bandwidth is scarce in these clusters. */
const MS_PER_GB = 150_000;
const KINDS: Record<PeerName, { kind: string; hosts: string[] }> = {
  store: { kind: "object store", hosts: [STORE_HOST] },
  ledger: { kind: "database", hosts: [] },
  catalog: { kind: "database", hosts: [] },
};

const POLICY: Partial<Policy> = { msPerGb: MS_PER_GB, holdMs: 3_000 };

export async function setMode(admin: Api, mode: Mode): Promise<void> {
  await admin.call("PUT", "/v1/policy", { ...POLICY, mode });
}

export async function declareAll(admin: Api, places: AgentPlace[]): Promise<void> {
  for (const [service, declaration] of Object.entries(KINDS)) {
    await admin.call("PUT", `/v1/services/${service}`, declaration);
  }
  for (const place of places) {
    await admin.call("PUT", `/v1/clusters/${place.cluster.cluster}`, {
      vms: [
        {
          vm: place.cluster.vm,
          url: `http://127.0.0.1:${place.port}`,
          cpuCores: VM_CPU_CORES,
          memoryBytes: VM_MEMORY_BYTES,
        },
      ],
      approvedHosts: ["127.0.0.1"],
    });
  }
  await admin.call("PUT", "/v1/proximity", { entries: proximity() });
  for (const { task } of TASKS) await admin.call("PUT", `/v1/tasks/${encodeURIComponent(task)}`, TASK_DECLARATION);
  await setMode(admin, "shadow");
}

function proximity(): ProximityEntry[] {
  return CLUSTERS.flatMap(({ cluster, links }) =>
    Object.entries(links).map(([peer, link]) => ({
      cluster,
      peer,
      latencyMs: link.latencyMs,
      bandwidthBytesPerSecond: link.bytesPerSecond,
    })),
  );
}

async function newKey(admin: Api, request: unknown): Promise<string> {
  return (await admin.call<{ key: string }>("POST", "/v1/keys", request)).key;
}

/** One key per VM, by cluster: commands and reports of that VM, and its executions. */
export async function agentKeys(admin: Api): Promise<Record<string, string>> {
  const keys: Record<string, string> = {};
  for (const { cluster, vm } of CLUSTERS) {
    keys[cluster] = await newKey(admin, { name: `agent ${vm}`, scopes: ["agent", "ingest"], cluster, vm });
  }
  return keys;
}

export const callerKey = (admin: Api) => newKey(admin, { name: "demo caller", scopes: ["invoke"] });
export const readerKey = (admin: Api) => newKey(admin, { name: "demo dashboard", scopes: ["read", "predict"] });

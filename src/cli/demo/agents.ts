// The demo's three agents: real `forechain agent` processes, each with its own key, port, cache folder and configuration file.
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";
import { type ProcessGroup, startGroup } from "../process-group.ts";
import type { LinkedServer } from "./link.ts";
import {
  CACHE_BYTES_MAX,
  type DemoCluster,
  KEEP_ALIVE_MS,
  type PeerName,
  STORE_URI,
  TASKS,
  VM_CPU_CORES,
  VM_MEMORY_BYTES,
} from "./world.ts";

const MAIN = fileURLToPath(new URL("../main.ts", import.meta.url));
/** Objects loaded ahead at the same time: a chain's worth. */
const PREFETCH_CONCURRENCY = 8;
/** Runtimes started ahead at the same time: one per core. */
const WARM_CONCURRENCY = 2;

export interface AgentPlace {
  cluster: DemoCluster;
  key: string;
  port: number;
  /** Holds agent.yaml, cache/, state/ and agent.log. */
  folder: string;
  servers: Record<PeerName, LinkedServer>;
}

/** Starts the agent of one place with an empty cache; whatever an earlier one left is removed first. */
export async function startAgent(place: AgentPlace, forechainUrl: string): Promise<ProcessGroup> {
  for (const folder of ["cache", "state"]) rmSync(join(place.folder, folder), { recursive: true, force: true });
  mkdirSync(place.folder, { recursive: true, mode: 0o700 });
  const configPath = join(place.folder, "agent.yaml");
  writeFileSync(configPath, stringify(configOf(place, forechainUrl)), { mode: 0o600 });
  return startGroup(`agent ${place.cluster.vm}`, [process.execPath, MAIN, "agent", "--config", configPath], {
    logPath: join(place.folder, "agent.log"),
  });
}

function configOf(place: AgentPlace, forechainUrl: string): unknown {
  const { cluster, servers } = place;
  const at = (peer: PeerName) => `127.0.0.1:${servers[peer].port}`;
  const services = { LEDGER_URL: `http://${at("ledger")}`, CATALOG_URL: `http://${at("catalog")}` };
  return {
    url: forechainUrl,
    key: place.key,
    cluster: cluster.cluster,
    vm: cluster.vm,
    listen: { host: "127.0.0.1", port: place.port },
    announceUrl: "auto",
    stateFolder: "state",
    cache: { folder: "cache", maxBytes: CACHE_BYTES_MAX },
    objects: {
      schemes: ["http"],
      hosts: [at("store")],
      // One name for an object everywhere; each cluster has its own way to the store.
      mirrors: { [`${STORE_URI}/`]: `http://${at("store")}/` },
      prefetchConcurrency: PREFETCH_CONCURRENCY,
    },
    capacity: { cpuCores: VM_CPU_CORES, memoryBytes: VM_MEMORY_BYTES },
    warmConcurrency: WARM_CONCURRENCY,
    stopGraceMs: 2_000,
    tasks: Object.fromEntries(
      TASKS.map((task) => [
        task.task,
        {
          version: "1",
          driver: "process",
          command: [process.execPath, task.program],
          env: { ...task.env, ...services },
          objects: [task.model],
          keepAliveMs: KEEP_ALIVE_MS,
          maxInstances: 4,
        },
      ]),
    ),
  };
}

// The bindings of wrangler.toml. Hand a function the one binding it needs, never the whole Env.
// Objects' classes name Env, and Env names the classes, because hubs and Fleet call each other: in types alone, nothing is loaded in a circle.
import type { ClusterHub } from "./cluster-hub.ts";
import type { Fleet } from "./fleet.ts";
import type { GraphWriter } from "./graph-writer.ts";

export interface Env {
  DB: D1Database;
  GRAPH_WRITER: DurableObjectNamespace<GraphWriter>;
  FLEET: DurableObjectNamespace<Fleet>;
  CLUSTER_HUB: DurableObjectNamespace<ClusterHub>;
  /** Static files of the dashboard. */
  ASSETS: Fetcher;
  /** Secret from which the keys of continuations and of VMs are derived. */
  FORECHAIN_SECRET: string;
}

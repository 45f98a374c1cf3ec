// What executions have just written goes to where their runs go on (core/outputs.ts; docs/decisions/0034). In: accepted executions of
// agents. Out: prefetch commands at the hubs of their clusters, which know the VMs that the runs' later tasks are expected on.
// Here, in the isolate that takes the records: it has the model and the fleet's links, and the records are as fresh as they get.
import { indexOf } from "../core/fleet.ts";
import { uniformOf } from "../core/fnv.ts";
import { outputsToFetch, readersOfShape } from "../core/outputs.ts";
import { acts } from "../core/pipeline.ts";
import type { RunRecord } from "../core/records.ts";
import { MODEL_WAIT_MS } from "./allocator.ts";
import type { Env } from "./env.ts";
import { type FleetSources, fleetViewFor } from "./fleet-cache.ts";
import type { WrittenOutputs } from "./hub/messages.ts";
import { modelFor } from "./model-cache.ts";
import { ownName } from "./task-names.ts";

/** What ended longer ago is a log that is told afterwards: its run does not go on, ms. */
const FRESH_MS = 60_000;
/** Tasks that an output's VMs are asked of: those that read such outputs; where none is known to, the writer's successors. */
const READERS_MAX = 8;

export async function fetchOutputs(
  env: FleetSources & Pick<Env, "GRAPH_WRITER" | "CLUSTER_HUB">,
  workspace: string,
  records: RunRecord[],
  background: Pick<ExecutionContext, "waitUntil">,
): Promise<void> {
  const nowMs = Date.now();
  const writers = records.filter(
    ({ status, endMs, rest: { cluster, outputs = [], speculative } }) =>
      cluster !== undefined && outputs.length > 0 && status === "ok" && !speculative && endMs! > nowMs - FRESH_MS,
  );
  if (writers.length === 0) return;
  const fleet = await fleetViewFor(env, workspace, background, nowMs);
  const acting = writers.filter(({ runId }) => acts(fleet.policy, uniformOf(runId)));
  // In a cold isolate there is none at once: the outputs of its first records are fetched by their readers.
  const model = acting.length === 0 ? null : await modelFor(env.GRAPH_WRITER, workspace, MODEL_WAIT_MS);
  if (model === null) return;
  const index = indexOf(fleet);
  const byCluster = new Map<string, WrittenOutputs[]>();
  for (const { runId, executionId, task, rest } of acting) {
    const { cluster, vm, outputs } = rest;
    const c = index.clusterIds.get(cluster!);
    const profile = model.profiles.get(task!);
    if (c === undefined || profile === undefined) continue;
    const known = fleet.clusters[c]!.vms.findIndex((other) => other.vm === vm);
    const v = index.vmOffsets[c]! + Math.max(0, known);
    if (v >= index.vmOffsets[c + 1]!) continue;
    const transferMs = (uri: string, bytes: number) => index.transferMs(uri, bytes, c, v);
    const worthy = outputsToFetch(task!, outputs!, profile, transferMs, fleet.policy);
    if (worthy.length === 0) continue;
    const following = profile.successors.slice(0, READERS_MAX).map((successor) => ownName(successor.task, fleet));
    const objects = worthy.map(({ uri, bytes, probability, shape }) => {
      const readers = readersOfShape(model.profiles.values(), shape).slice(0, READERS_MAX);
      return {
        uri,
        bytes,
        probability,
        savedMs: transferMs(uri, bytes),
        readers: readers.length > 0 ? readers.map((reader) => ownName(reader, fleet)) : following,
      };
    });
    const written = byCluster.get(cluster!) ?? [];
    written.push({ runId, executionId, objects });
    byCluster.set(cluster!, written);
  }
  await Promise.all(
    [...byCluster].map(([cluster, written]) =>
      env.CLUSTER_HUB.getByName(`${workspace}/${cluster}`).outputsWritten(workspace, cluster, written),
    ),
  );
}

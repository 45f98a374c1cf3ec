// What a run was expected to need, and what it came to. In: a sealed run, and the model as it was. Out: both, of each resource that is known of
// the whole run: a run of which some executions do not tell is not compared, since unknown is not 0.
import type { Model } from "./graph.ts";
import { predictFor } from "./pipeline.ts";
import { warmEndOf, warmStartOf } from "./profile/cold.ts";
import type { AssembledRun } from "./profile.ts";

export const DEMANDS = ["cpuMs", "memoryBytes", "networkBytes", "durationMs"] as const;
export type DemandName = (typeof DEMANDS)[number];

/** Tasks at least this likely belong to the expected duration. */
const LIKELY = 0.5;

export interface ExpectedRun {
  /** The likeliest whole chain, as its first task's allocation would place it. */
  chain: string[];
  demand: Record<DemandName, number>;
}

/** As when the first task came; null where the model does not know it. */
export function expectedOf({ executions }: AssembledRun, model: Model): ExpectedRun | null {
  const first = executions[0];
  const profile = first === undefined ? undefined : model.profiles.get(first.task);
  if (first === undefined || profile === undefined) return null;
  const ask = { task: first.task, version: first.record.rest.version ?? null, path: [], pathStartMs: [] };
  const whole = { params: first.record.rest.params ?? {}, horizonMs: null, maxTasks: null, explains: false };
  const { chains, demand, reach } = predictFor({ ...ask, ...whole }, model, {}, first.startMs);
  let durationMs = profile.durationMs?.p50 ?? 0;
  for (const { task, probability, leadTimeMs } of reach) {
    if (probability < LIKELY || leadTimeMs === null) continue;
    durationMs = Math.max(durationMs, leadTimeMs.p50 + (model.profiles.get(task)?.durationMs?.p50 ?? 0));
  }
  const { cpuMs, peakMemoryBytes: memoryBytes, networkBytes } = demand;
  return { chain: chains[0]?.tasks ?? [first.task], demand: { cpuMs, memoryBytes, networkBytes, durationMs } };
}

export function cameOf({ executions }: AssembledRun): Partial<Record<DemandName, number>> {
  const came: Partial<Record<DemandName, number>> = {};
  const rests = executions.map(({ record }) => record.rest);
  if (rests.every(({ cpuMs }) => cpuMs !== undefined)) came.cpuMs = rests.reduce((sum, { cpuMs }) => sum + cpuMs!, 0);
  const isTimed = executions.every(({ startMs, endMs }) => startMs <= endMs);
  if (isTimed && rests.every(({ memoryBytes }) => memoryBytes !== undefined)) came.memoryBytes = peakOf(executions);
  // Whoever tells services and objects tells all of them.
  if (executions.every(({ services, record }) => services.length > 0 || record.rest.inputs !== undefined)) {
    came.networkBytes = bytesOf(executions);
  }
  if (isTimed) came.durationMs = warmDurationOf(executions);
  return came;
}

type Executions = AssembledRun["executions"];

/** The most memory that was in use at one instant. */
function peakOf(executions: Executions): number {
  const edges = executions.flatMap(({ startMs, endMs, record }) => [
    { atMs: startMs, bytes: record.rest.memoryBytes! },
    { atMs: Math.max(endMs, startMs + 1), bytes: -record.rest.memoryBytes! },
  ]);
  edges.sort((a, b) => a.atMs - b.atMs || a.bytes - b.bytes);
  let held = 0;
  let peak = 0;
  for (const { bytes } of edges) {
    held += bytes;
    peak = Math.max(peak, held);
  }
  return peak;
}

/** Of services, and of distinct objects: one that several tasks read is loaded once. */
function bytesOf(executions: Executions): number {
  const objects = new Map<string, number>();
  let bytes = 0;
  for (const { services, record } of executions) {
    for (const service of services) bytes += service.bytes;
    for (const input of record.rest.inputs ?? []) objects.set(input.uri, input.bytes);
  }
  for (const size of objects.values()) bytes += size;
  return bytes;
}

/** From the first start to the last end with everything warm: cold starts are what preparations change. */
function warmDurationOf(executions: Executions): number {
  const beginMs = warmStartOf(executions[0]!);
  return executions.reduce((longest, execution) => Math.max(longest, warmEndOf(execution) - beginMs), 0);
}

// The workspace's frequent chains. In: rows and task profiles. Out: each chain with how often it runs, its resource demand, its
// latency sensitivity and its score: where preparation pays most. The demand is that of allocation (demand.ts), so that the
// chains people read and the ones that are allocated for are weighed alike.
import type { MinedChain, TaskDeclaration } from "../protocol.ts";
import { rowParts } from "./contribution.ts";
import { demandOf } from "./demand.ts";
import type { TaskProfile } from "./graph.ts";
import { newestDayOf, type Rows, weightOf } from "./rows.ts";
import type { Counts } from "./sketch.ts";

const HOURS_PER_DAY = 24;

/** Chains by score, highest first, by the keys of their rows. */
export function chainsOf(
  rows: Rows,
  profiles: Map<string, TaskProfile>,
  declarations: Record<string, TaskDeclaration>,
): Map<string, MinedChain> {
  const newestDay = newestDayOf(rows);
  const found: { key: string; tasks: string[]; counts: Counts }[] = [];
  const rootCounts = new Map<string, number>();
  for (const [key, counts] of rows) {
    const { family, parts } = rowParts(key);
    if (family === "chain") found.push({ key, tasks: JSON.parse(parts[0]!) as string[], counts });
    else if (family === "task") rootCounts.set(parts[0]!, (rootCounts.get(parts[0]!) ?? 0) + (counts.get("0") ?? 0));
  }
  const chains = found.map(({ key, tasks, counts }): [string, MinedChain] => [
    key,
    minedChain(tasks, counts, rootCounts, newestDay, profiles, declarations),
  ]);
  chains.sort(([, a], [, b]) => b.score - a.score || b.runs - a.runs || (a.tasks.join() < b.tasks.join() ? -1 : 1));
  return new Map(chains);
}

export function minedChain(
  tasks: string[],
  counts: Counts,
  rootCounts: ReadonlyMap<string, number>,
  newestDay: number | null,
  profiles: Map<string, TaskProfile>,
  declarations: Record<string, TaskDeclaration>,
): MinedChain {
  const runs = counts.get("n") ?? 0;
  const runsPerHour = weightOf(counts, newestDay) / (HOURS_PER_DAY * daysWeighed(counts, newestDay));
  // Given that the chain runs, all its tasks do.
  const reach = tasks.slice(1).map((task) => ({ task, probability: 1, leadTimeMs: null, multiplicity: 1, route: [] }));
  const input = { task: tasks[0]!, version: null, params: {}, inputs: [], path: [] };
  const { scored } = demandOf({ shape: "path", tasks, probability: 1 }, reach, input, { profiles, declarations });
  return {
    tasks,
    runs,
    runsPerHour,
    probability: Math.min(1, runs / Math.max(1, rootCounts.get(tasks[0]!) ?? 0)),
    resourceDemand: scored.resourceDemand,
    latencySensitivity: scored.latencySensitivity,
    score: scored.score * runsPerHour,
  };
}

/** Sum of the decay over the days from the chain's first to the newest: what its weight is to be divided by. At least one day. */
function daysWeighed(counts: Counts, newestDay: number | null): number {
  let oldest = newestDay ?? 0;
  for (const field of counts.keys())
    if (field[0] === "y" && field !== "yu") oldest = Math.min(oldest, Number(field.slice(1)));
  const span = new Map<string, number>();
  for (let day = oldest; day <= (newestDay ?? 0); day++) span.set(`y${day}`, 1);
  return Math.max(1, weightOf(span, newestDay));
}

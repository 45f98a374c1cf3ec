// Retries. In: nodes with their parents. Out: attempts under one trigger joined to one execution; what a failed attempt had called
// goes with it.
import type { RunRecord } from "../records.ts";
import { exclude, type Node } from "./node.ts";

export function joinRetries(nodes: Node[], hasParents: boolean): void {
  const groups = new Map<string, number[]>();
  let anyRetry = false;
  let before: number | null = null;
  for (const [position, node] of nodes.entries()) {
    if (node.excluded) continue;
    const { record } = node;
    const key = hasParents ? retryKey(record, node.parent) : `${record.task}`;
    if (!hasParents) {
      // Events in a row: only the one directly before can be the failed attempt.
      const previous = before === null ? undefined : nodes[before];
      if (previous !== undefined && previous.record.task === record.task && isRetryOf(record, previous)) {
        replace(nodes, before!, position);
        anyRetry = true;
      }
      before = position;
      continue;
    }
    const group = groups.get(key);
    if (group === undefined) {
      groups.set(key, [position]);
      continue;
    }
    const failed = group.findIndex((candidate) => isRetryOf(record, nodes[candidate]!));
    if (failed < 0) group.push(position);
    else {
      replace(nodes, group[failed]!, position);
      group[failed] = position;
      anyRetry = true;
    }
    // An attempt that succeeded and has no number can never be retried: keep the list of candidates short.
    if (group.length > RETRY_CANDIDATES_MAX) group.shift();
  }
  if (anyRetry) dropFailedAttempts(nodes);
}

/** Unfinished attempts remembered per task and trigger: bounds the search in wide fan-outs. */
const RETRY_CANDIDATES_MAX = 64;

function retryKey(record: RunRecord, parent: number): string {
  const { links } = record.rest;
  const trigger = links !== undefined ? [...links].sort().join(" ") : parent >= 0 ? parent : (record.parentId ?? "");
  return `${record.task}\u0000${trigger}`;
}

function isRetryOf(record: RunRecord, earlier: Node): boolean {
  const { attempt } = record.rest;
  const previous = earlier.record.rest.attempt;
  if (attempt !== undefined && previous !== undefined) return attempt > previous;
  if (earlier.record.status === "ok") return false;
  return !(earlier.endMs > (record.startMs ?? Number.POSITIVE_INFINITY));
}

function replace(nodes: Node[], failed: number, by: number): void {
  const earlier = nodes[failed]!;
  const later = nodes[by]!;
  earlier.successor = by;
  later.retries = earlier.retries + 1;
  later.coldRetriesMs = earlier.coldRetriesMs + (earlier.coldStartMs ?? 0);
  if (!Number.isNaN(earlier.startMs)) later.startMs = earlier.startMs;
}

/** What a failed attempt had called belongs to that attempt: it counts no more than the attempt does. */
function dropFailedAttempts(nodes: Node[]): void {
  for (const node of nodes) if (node.successor >= 0) node.excluded = true;
  exclude(nodes);
}

// One logical execution while its run is being assembled, and what every step asks of it.
import type { ServiceUse } from "../../protocol.ts";
import type { RunRecord } from "../records.ts";

/** How a trigger stands to what it triggered: still running, ended before, or named by a link. */
export type TriggerKind = "call" | "sequence" | "link";

/** A parent that was named and never came; no parent. */
export const MISSING = -1;
export const NONE = -2;

/** One logical execution while the run is being assembled. */
export interface Node {
  record: RunRecord;
  startMs: number;
  endMs: number;
  retries: number;
  /** Position of the parent's node, MISSING or NONE. */
  parent: number;
  /** Attempt that took this one's place, or -1. */
  successor: number;
  excluded: boolean;
  services: ServiceUse[];
  cold: boolean;
  coldStartMs: number | null;
  /** Of the attempts before it, as far as they are told. */
  coldRetriesMs: number;
  triggers: number[];
  kinds: TriggerKind[];
  pathTrigger: number;
}

export function nodeOf(record: RunRecord): Node {
  const { coldStartMs = null, cold } = record.rest;
  return {
    record,
    startMs: record.startMs ?? Number.NaN,
    endMs: record.endMs ?? Number.NaN,
    retries: 0,
    parent: NONE,
    successor: -1,
    excluded: record.rest.speculative === true,
    services: record.rest.services ?? [],
    cold: cold === true || (coldStartMs !== null && coldStartMs > 0),
    coldStartMs,
    coldRetriesMs: 0,
    triggers: [],
    kinds: [],
    pathTrigger: -1,
  };
}

export function isCounted(node: Node): boolean {
  return !node.excluded && node.successor < 0;
}

export function endOf(node: Node): number {
  // Ended before it began: of the two clocks the start's is believed.
  // biome-ignore lint/complexity/useMathMinMax: with an unknown start the end still counts, and max would be NaN
  return node.endMs < node.startMs ? node.startMs : node.endMs;
}

/** The total order that every tie falls back to: start, end, sequence, id. An unknown start counts as its end. */
export function byOrder(a: RunRecord, b: RunRecord): number {
  return (
    (a.startMs ?? a.endMs ?? 0) - (b.startMs ?? b.endMs ?? 0) ||
    (a.rest.sequence ?? 0) - (b.rest.sequence ?? 0) ||
    (a.endMs ?? a.startMs ?? 0) - (b.endMs ?? b.startMs ?? 0) ||
    (a.executionId < b.executionId ? -1 : a.executionId > b.executionId ? 1 : 0)
  );
}

/** Spreads `excluded` downwards. Parents may come after their children in the order (skew), so each node climbs, once. */
export function exclude(nodes: Node[]): void {
  const settled = new Uint8Array(nodes.length);
  for (let position = 0; position < nodes.length; position++) {
    const way: number[] = [];
    let at = position;
    while (at >= 0 && settled[at] === 0) {
      settled[at] = 1; // also ends the climb in a circle
      way.push(at);
      at = nodes[at]!.excluded ? -1 : nodes[at]!.parent;
    }
    const top = way.at(-1);
    const isExcluded = nodes[at]?.excluded === true || (top !== undefined && nodes[top]!.excluded);
    if (isExcluded) for (const below of way) nodes[below]!.excluded = true;
  }
}

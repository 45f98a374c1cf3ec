// Recent allocations, each with its explanation: what was predicted, why this cluster, what was prepared and what was not.
import type { AllocationRecord, Alternative, PlanItem, SkippedItem } from "../protocol.ts";
import { chainLinks, el, ms, percent, quiet, table } from "./dom.ts";

export function allocationView(allocations: AllocationRecord[]): Node[] {
  if (allocations.length === 0) return [quiet("No task has been asked for yet.")];
  return allocations.map((allocation) => {
    const at = new Date(allocation.createdMs);
    const place = allocation.cluster ? `${allocation.cluster} / ${allocation.vm ?? "?"}` : allocation.state;
    const planned = allocation.plan?.length ?? 0;
    const told = planned > 0 ? ` · ${planned} ${isSent(allocation) ? "prepared" : "to prepare, not sent"}` : "";
    return el(
      "details",
      { id: `allocation-${allocation.allocationId}` },
      el(
        "summary",
        {},
        el("time", { datetime: at.toISOString() }, at.toLocaleTimeString()),
        el("strong", {}, allocation.task),
        ` on ${place}`,
        ...started(allocation.outcome ?? null),
        told,
      ),
      explanation(allocation),
    );
  });
}

/** How the execution began, coloured as good or bad. */
function started(outcome: string | null): (Node | string)[] {
  if (outcome === null) return [];
  const kind = outcome === "warm" ? "good" : outcome === "cold" || outcome === "failed" ? "bad" : "quiet";
  return [" · ", el("span", { class: kind }, outcome)];
}

function explanation(allocation: AllocationRecord): Node {
  const { chain = [], plan = [], skipped = [], alternatives = [], refused = [] } = allocation;
  return el(
    "div",
    {},
    el("p", { class: "quiet" }, `Run ${allocation.runId}, allocation ${allocation.allocationId}`),
    chain.length > 1 ? el("p", {}, "Expected chain: ", chainLinks(chain)) : quiet("No chain was expected."),
    plan.length > 0 ? planTable(plan, allocation) : quiet("Nothing was to be prepared."),
    alternatives.length > 0 ? alternativeTable(alternatives) : null,
    skipped.length > 0 ? skippedTable(skipped) : null,
    refused.length > 0
      ? table(
          "Clusters that were refused",
          [
            { head: "Cluster", cell: (row) => row.cluster },
            { head: "Reason", long: true, cell: (row) => row.reason },
          ],
          refused,
        )
      : null,
  );
}

/** What an earlier version kept does not tell `acted`. */
function isSent({ acted, mode }: AllocationRecord): boolean {
  return acted ?? mode === "active";
}

function planTable(plan: PlanItem[], allocation: AllocationRecord): Node {
  return table(
    isSent(allocation) ? "Prepared" : `Would have been prepared (not sent: ${allocation.mode ?? "mode unknown"})`,
    [
      { head: "What", long: true, cell: (row) => `${row.kind} ${row.uri ?? row.task ?? ""}` },
      { head: "Probability", number: true, cell: (row) => percent(row.probability) },
      { head: "Would save", number: true, cell: (row) => ms(row.savedMs) },
      { head: "Start to deadline", number: true, cell: (row) => ms(Math.max(0, row.deadlineMs - row.notBeforeMs)) },
    ],
    plan,
  );
}

function skippedTable(skipped: SkippedItem[]): Node {
  return table(
    "Left alone",
    [
      { head: "What", long: true, cell: (row) => `${row.kind} ${row.uri ?? row.task ?? ""}` },
      { head: "Probability", number: true, cell: (row) => percent(row.probability) },
      { head: "Reason", long: true, cell: (row) => row.reason },
    ],
    skipped,
  );
}

function alternativeTable(alternatives: Alternative[]): Node {
  const term = (head: string, of: (row: Alternative) => number) => ({
    head,
    number: true,
    cell: (row: Alternative) => ms(of(row)),
  });
  return table(
    "Clusters by expected time of the whole chain",
    [
      { head: "Cluster", cell: (row) => row.cluster },
      term("Total", (row) => row.totalMs),
      term("Services", (row) => row.terms.servicesMs),
      term("Transfer", (row) => row.terms.transferMs),
      term("Cold starts", (row) => row.terms.coldStartMs),
      term("Queue", (row) => row.terms.queueMs),
      term("Hops", (row) => row.terms.hopsMs),
      term("Price", (row) => row.terms.priceMs),
    ],
    alternatives,
  );
}

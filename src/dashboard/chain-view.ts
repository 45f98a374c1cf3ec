// The workspace's frequent chains, those first where preparation pays most.
import type { ChainsAnswer } from "../protocol.ts";
import { chainLinks, percent, quiet, table } from "./dom.ts";

export function chainView({ chains, total }: ChainsAnswer): Node[] {
  if (chains.length === 0) return [quiet("No chain has been seen yet.")];
  return [
    table(
      `Where preparation pays most comes first: score = avoidable ms per hour × latency sensitivity ÷ resource demand (${chains.length} of ${total})`,
      [
        { head: "Chain", long: true, cell: ({ tasks }) => chainLinks(tasks) },
        { head: "Probability", number: true, cell: (row) => percent(row.probability) },
        { head: "Runs/h", number: true, cell: (row) => digits(row.runsPerHour) },
        { head: "Sensitivity", number: true, cell: (row) => percent(row.latencySensitivity) },
        { head: "Demand", number: true, cell: (row) => digits(row.resourceDemand) },
        { head: "Score", number: true, cell: (row) => digits(row.score) },
      ],
      chains,
    ),
  ];
}

/** Three significant digits, whatever the size. */
function digits(value: number): string {
  return value.toLocaleString("en", { maximumSignificantDigits: 3 });
}

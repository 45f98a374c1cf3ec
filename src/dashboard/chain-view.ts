// The workspace's frequent chains, those first where preparation pays most.
import type { ChainsAnswer } from "../protocol.ts";
import { el, percent, quiet, table, taskLink } from "./dom.ts";

export function chainView({ chains, total }: ChainsAnswer): Node[] {
  if (chains.length === 0) return [quiet("No chain has been seen yet.")];
  return [
    table(
      `By score: avoidable ms per hour × latency sensitivity ÷ resource demand (${chains.length} of ${total})`,
      [
        { head: "Chain", long: true, cell: ({ tasks }) => chainCell(tasks) },
        { head: "Probability", number: true, cell: (row) => percent(row.probability) },
        { head: "Runs/h", number: true, cell: (row) => number(row.runsPerHour) },
        { head: "Sensitivity", number: true, cell: (row) => percent(row.latencySensitivity) },
        { head: "Demand", number: true, cell: (row) => number(row.resourceDemand) },
        { head: "Score", number: true, cell: (row) => number(row.score) },
      ],
      chains,
    ),
  ];
}

function chainCell(tasks: string[]): HTMLElement {
  const cell = el("span", {});
  for (const [i, task] of tasks.entries()) {
    if (i > 0) cell.append(" → ");
    cell.append(i === 0 ? el("a", { href: taskLink(task) }, task) : task);
  }
  return cell;
}

/** Three significant digits, whatever the size. */
function number(value: number): string {
  return value.toLocaleString("en", { maximumSignificantDigits: 3 });
}

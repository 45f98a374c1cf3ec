// What became of the commands: how often preparation paid, in count, bytes and waiting saved.
import type { OutcomesAnswer, OutcomeTotal } from "../protocol.ts";
import { bytes, el, ms, percent, quiet, table } from "./dom.ts";

const NAMES: Record<string, string> = { warm: "Prewarm", prefetch: "Prefetch", execute: "Execute" };
const ORDER = ["hit", "late", "miss", "waste", "failed"];

export function outcomeView({ totals, alerts }: OutcomesAnswer): Node[] {
  return [...alerts.map(({ detail }) => el("p", { class: "bad", role: "alert" }, detail)), ...totalsView(totals)];
}

function totalsView(totals: OutcomeTotal[]): Node[] {
  const rows = [...totals].sort(
    (a, b) => a.kind.localeCompare(b.kind) || ORDER.indexOf(a.outcome) - ORDER.indexOf(b.outcome),
  );
  if (rows.length === 0) return [quiet("No command has been settled in this time.")];
  const prepared = rows.filter((row) => row.outcome === "hit" || row.outcome === "late");
  const unprepared = rows.filter((row) => row.outcome === "miss");
  const sum = (list: OutcomeTotal[], of: (row: OutcomeTotal) => number) =>
    list.reduce((total, row) => total + of(row), 0);
  const hits = sum(prepared, (row) => row.count);
  const needs = hits + sum(unprepared, (row) => row.count);
  return [
    el(
      "p",
      {},
      `${percent(needs === 0 ? 0 : hits / needs)} of what executions needed had been prepared; `,
      `${ms(sum(prepared, (row) => row.savedMs))} of waiting saved.`,
    ),
    table(
      "Settled commands, and needs that no command had met (miss)",
      [
        { head: "Kind", cell: (row) => NAMES[row.kind] ?? row.kind },
        { head: "Outcome", cell: (row) => row.outcome },
        { head: "Count", number: true, cell: (row) => String(row.count) },
        { head: "Bytes", number: true, cell: (row) => (row.bytes > 0 ? bytes(row.bytes) : "–") },
        { head: "GB·s", number: true, cell: (row) => (row.gbSeconds > 0 ? row.gbSeconds.toFixed(2) : "–") },
        { head: "Saved", number: true, cell: (row) => (row.savedMs > 0 ? ms(row.savedMs) : "–") },
      ],
      rows,
    ),
  ];
}

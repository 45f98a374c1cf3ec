// What became of the commands: alerts and the figures that one looks at first, then each kind as a bar and as a table.
import type { OutcomesAnswer, OutcomeTotal } from "../protocol.ts";
import { bytes, el, ms, number, percent, quiet, svg, table, type View } from "./dom.ts";

const NAMES: Record<string, string> = { warm: "Prewarm", prefetch: "Prefetch", execute: "Execute" };
/** In the order of the bars, best first; the words under them. */
const MEANINGS: Record<string, string> = {
  hit: "ready in time",
  late: "begun, but not ready in time",
  miss: "needed, and nothing had been prepared",
  unsent: "needed where no plan was sent",
  waste: "prepared and never used",
  failed: "could not be done",
};
const ORDER = Object.keys(MEANINGS);
const BAR_HEIGHT = 14;

type Row = Omit<OutcomeTotal, "outcome"> & { outcome: OutcomeTotal["outcome"] | "unsent" };

const sum = (rows: Row[], of: (row: Row) => number) => rows.reduce((total, row) => total + of(row), 0);

/** Needs of runs that no plan was sent for are no misses: they become an outcome of their own here. */
function toldApart(totals: OutcomeTotal[]): Row[] {
  const rows = totals.flatMap((total): Row[] => {
    if (total.unsent === 0) return [total];
    // Whose bytes they were is not told.
    const missed = { ...total, bytes: 0 };
    return [
      { ...missed, count: total.count - total.unsent },
      { ...missed, outcome: "unsent", count: total.unsent },
    ];
  });
  return rows.filter(({ count }) => count > 0);
}

/** Over everything else: what needs somebody, and whether preparation pays. */
export function headlineView({ totals, alerts }: OutcomesAnswer): View {
  const told = toldApart(totals);
  const of = (...outcomes: string[]) => told.filter(({ outcome }) => outcomes.includes(outcome));
  const counted = (rows: Row[]) => sum(rows, ({ count }) => count);
  const prepared = of("hit", "late");
  const needs = counted(prepared) + counted(of("miss"));
  const figures =
    totals.length === 0
      ? null
      : el(
          "dl",
          { class: "figures" },
          ...figure(
            needs === 0 ? "–" : percent(counted(prepared) / needs),
            "of what executions needed had been prepared",
          ),
          ...figure(ms(sum(prepared, ({ savedMs }) => savedMs)), "of waiting saved"),
          ...figure(number(counted(of("waste"))), "preparations never used"),
        );
  return [...alerts.map(({ detail }) => el("p", { class: "bad", role: "alert" }, detail)), figures];
}

function figure(value: string, of: string): HTMLElement[] {
  return [el("div", { class: "figure" }, el("dd", {}, value), el("dt", {}, of))];
}

export function outcomeView({ totals }: OutcomesAnswer): View {
  const rows = toldApart(totals).sort(
    (a, b) => a.kind.localeCompare(b.kind) || ORDER.indexOf(a.outcome) - ORDER.indexOf(b.outcome),
  );
  if (rows.length === 0) return [quiet("Nothing was prepared, nor missed, in this time.")];
  const kinds = [...new Set(rows.map(({ kind }) => kind))];
  return [
    ...kinds.map((kind) =>
      kindBar(
        kind,
        rows.filter((row) => row.kind === kind),
      ),
    ),
    table(
      "What became of each command, and needs that no command had met (miss; unsent where none was to be sent)",
      [
        { head: "Kind", cell: (row) => NAMES[row.kind] ?? row.kind },
        { head: "Outcome", cell: (row) => row.outcome },
        { head: "Count", number: true, cell: (row) => number(row.count) },
        { head: "Bytes", number: true, cell: (row) => (row.bytes > 0 ? bytes(row.bytes) : "–") },
        { head: "GB·s", number: true, cell: (row) => (row.gbSeconds > 0 ? row.gbSeconds.toFixed(2) : "–") },
        { head: "Saved", number: true, cell: (row) => (row.savedMs > 0 ? ms(row.savedMs) : "–") },
      ],
      rows,
    ),
  ];
}

/** One kind's outcomes side by side, and what each colour is. */
function kindBar(kind: string, rows: Row[]): HTMLElement {
  const all = sum(rows, ({ count }) => count);
  let left = 0;
  const parts = rows.map(({ outcome, count }) => {
    const width = (100 * count) / all;
    left += width;
    return svg("rect", { class: outcome, x: left - width, y: 0, width, height: BAR_HEIGHT });
  });
  const told = rows.map(({ outcome, count }) => `${outcome} ${number(count)}`);
  const box = { class: "outcomes", viewBox: `0 0 100 ${BAR_HEIGHT}`, height: BAR_HEIGHT, preserveAspectRatio: "none" };
  return el(
    "figure",
    {},
    el("figcaption", {}, NAMES[kind] ?? kind),
    svg("svg", { ...box, role: "img", "aria-label": told.join(", ") }, ...parts),
    el(
      "p",
      { class: "legend" },
      ...rows.map(({ outcome, count }) =>
        el("span", { class: outcome, title: MEANINGS[outcome] ?? "" }, `${outcome} ${number(count)}`),
      ),
    ),
  );
}

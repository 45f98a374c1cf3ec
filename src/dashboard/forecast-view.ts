// What follows a task: its prediction drawn on a time line. One row per task that is reached, from
// the p10 to the p90 of its lead time, the darker the likelier; a table tells the same to whoever cannot see it.
import type { Prediction, Reach } from "../protocol.ts";
import { bytes, counted, el, fitted, ms, nameLink, percent, quiet, svg, table, taskParts, textWidth } from "./dom.ts";

const ROWS_MAX = 24;
const NEXT_MAX = 4;
/** Below, a first successor is not worth a word. */
const NEXT_PROBABILITY_MIN = 0.005;
const ROW_HEIGHT = 26;
const AXIS_HEIGHT = 24;
/** Names, line and share beside each other, px; a phone has room for less. */
const NAME_WIDTH = 280;
const LINE_WIDTH = 760;
const SHARE_WIDTH = 90;
const NAME_SHARE_MAX = 0.35;
const WIDTH_MIN = 280;
/** What the page takes left and right of the picture, px. */
const PAGE_MARGINS = 64;
/** Between a name and the line, px. */
const NAME_GAP = 12;
/** One for so many px of the line. */
const TICK_WIDTH_MIN = 75;
const TICKS_MAX = 5;
/** The least likely are still to be seen. */
const OPACITY_MIN = 0.2;

type Timed = Reach & { leadTimeMs: NonNullable<Reach["leadTimeMs"]> };

export function forecastView(task: string, prediction: Prediction): Node[] {
  const { next, reach, demand } = prediction;
  const first = next
    .filter(({ probability }) => probability >= NEXT_PROBABILITY_MIN)
    .slice(0, NEXT_MAX)
    .flatMap(({ task: name, probability }, i) => [
      i === 0 ? " · starts first: " : ", ",
      name === null ? "the end" : nameLink(name),
      ` ${percent(probability)}`,
    ]);
  const timed = reach
    .filter((row): row is Timed => row.leadTimeMs !== null)
    .slice(0, ROWS_MAX)
    .sort((a, b) => a.leadTimeMs.p50 - b.leadTimeMs.p50);
  const nodes: Node[] = [el("p", {}, el("strong", {}, task), ...first)];
  if (reach.length === 0) return [...nodes, quiet("Nothing is expected to follow it.")];
  return [
    ...nodes,
    el(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": "Time line of what follows" },
      timeLine(timed),
    ),
    quiet(
      `Expected of the whole chain: ${ms(demand.cpuMs)} of CPU, ${bytes(Math.round(demand.peakMemoryBytes))} of memory at its peak, ` +
        `${bytes(Math.round(demand.networkBytes))} over the network${objectsOf(demand.prefetch.length)}.`,
    ),
    el("details", { id: "forecast-table" }, el("summary", {}, "As a table"), reachTable(reach)),
  ];
}

/** Each is read by some runs: the bytes above are expected, these are all that may come. */
function objectsOf(count: number): string {
  return count === 0 ? "" : `, of ${counted(count, "object")} that it may read`;
}

function timeLine(rows: Timed[]): SVGElement {
  const longestMs = Math.max(1, ...rows.map(({ leadTimeMs }) => leadTimeMs.p90));
  const room = widths(document.documentElement.clientWidth);
  const stepMs = niceStep(longestMs / Math.min(TICKS_MAX, Math.floor(room.line / TICK_WIDTH_MIN)));
  const endMs = Math.ceil(longestMs / stepMs) * stepMs;
  const x = (value: number) => room.name + (value / endMs) * room.line;
  const width = room.name + room.line + SHARE_WIDTH;
  const height = rows.length * ROW_HEIGHT + AXIS_HEIGHT;
  const axis: SVGElement[] = [];
  for (let at = 0; at <= endMs + stepMs / 2; at += stepMs) {
    axis.push(svg("line", { x1: x(at), x2: x(at), y1: 0, y2: height - AXIS_HEIGHT }));
    axis.push(svg("text", { class: "quiet", x: x(at), y: height - 8, "text-anchor": "middle" }, tick(at)));
  }
  const label = `When ${rows.length} tasks are expected, from now; the table below tells the same.`;
  return svg(
    "svg",
    { class: "time-line", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
    ...axis,
    ...rows.map((row, i) => timeRow(row, i * ROW_HEIGHT, x, room)),
  );
}

interface Room {
  name: number;
  line: number;
}

function widths(page: number): Room {
  const whole = Math.max(WIDTH_MIN, page - PAGE_MARGINS);
  const name = Math.min(NAME_WIDTH, whole * NAME_SHARE_MAX);
  return { name, line: Math.min(LINE_WIDTH, whole - name - SHARE_WIDTH) };
}

function timeRow(row: Timed, y: number, x: (ms: number) => number, { name, line }: Room): SVGElement {
  const { task, probability, leadTimeMs, multiplicity, route } = row;
  const { p10, p50, p90 } = leadTimeMs;
  const told = `${route.join(" → ")}: ${percent(probability)}, after ${ms(p10)}–${ms(p90)}, median ${ms(p50)}`;
  const times = multiplicity >= 1.05 ? ` × ${multiplicity.toFixed(1)}` : "";
  const room = name - NAME_GAP;
  const bar = { x: x(p10), y: y + 6, width: Math.max(3, x(p90) - x(p10)), height: ROW_HEIGHT - 12, rx: 3 };
  return svg(
    "g",
    {},
    svg("title", {}, told),
    svg("text", { x: 0, y: y + 17 }, fitted(textWidth(task, 12) > room ? taskParts(task).operation : task, room, 12)),
    svg("rect", { ...bar, opacity: Math.max(OPACITY_MIN, probability) }),
    svg("line", { class: "median", x1: x(p50), x2: x(p50), y1: y + 3, y2: y + ROW_HEIGHT - 3 }),
    svg("text", { x: name + line + 12, y: y + 17 }, percent(probability) + times),
  );
}

/** 1, 2 or 5 times a power of ten, not below `least`. */
function niceStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least)!;
}

function tick(value: number): string {
  if (value >= 60_000) return `${+(value / 60_000).toFixed(1)} min`;
  return value >= 1_000 ? `${+(value / 1_000).toFixed(2)} s` : `${+value.toFixed(2)} ms`;
}

function reachTable(reach: Reach[]): HTMLElement {
  const lead = (of: (row: Timed["leadTimeMs"]) => number) => (row: Reach) =>
    row.leadTimeMs === null ? "–" : ms(of(row.leadTimeMs));
  return table(
    `Tasks that are reached, likeliest first (${reach.length})`,
    [
      { head: "Task", cell: (row) => row.task },
      { head: "Probability", number: true, cell: (row) => percent(row.probability) },
      { head: "Lead time p10", number: true, cell: lead(({ p10 }) => p10) },
      { head: "p50", number: true, cell: lead(({ p50 }) => p50) },
      { head: "p90", number: true, cell: lead(({ p90 }) => p90) },
      { head: "Executions", number: true, cell: (row) => row.multiplicity.toFixed(1) },
      { head: "Likeliest way", long: true, cell: (row) => row.route.join(" → ") },
    ],
    reach,
  );
}

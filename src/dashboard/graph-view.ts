// The graph as a picture and, for whoever cannot see it, as a table.
import type { GraphAnswer } from "../protocol.ts";
import { bytes, el, ms, percent, quiet, svg, table } from "./dom.ts";
import { layered } from "./layout.ts";

/** The most frequent ones: beyond, a picture tells nothing. */
const TASKS_DRAWN_MAX = 60;
const TRANSITIONS_DRAWN_MAX = 160;
const TRANSITIONS_LISTED_MAX = 300;
const LAYER_WIDTH = 210;
const ROW_HEIGHT = 64;
const NODE_WIDTH = 140;
const NODE_HEIGHT = 40;
const MARGIN = 12;
const NAME_CHARACTERS_MAX = 19;

export function graphView(graph: GraphAnswer): Node[] {
  if (graph.tasks.length === 0) return [quiet("Nothing has been learned yet: no executions have come in.")];
  const tasks = [...graph.tasks].sort((a, b) => b.count - a.count).slice(0, TASKS_DRAWN_MAX);
  const drawn = new Set(tasks.map((task) => task.task));
  const transitions = graph.transitions
    .filter((transition) => drawn.has(transition.source) && drawn.has(transition.target))
    .sort((a, b) => b.count - a.count)
    .slice(0, TRANSITIONS_DRAWN_MAX);
  const left = graph.tasks.length - tasks.length + graph.transitions.length - transitions.length;
  return [
    el(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": "Picture of the graph" },
      picture(tasks, transitions),
    ),
    left > 0 ? quiet(`The most frequent ones are drawn; ${left} tasks and transitions are left out.`) : el("span"),
    el("details", { id: "graph-table" }, el("summary", {}, "As a table"), transitionTable(graph)),
  ];
}

function picture(tasks: GraphAnswer["tasks"], transitions: GraphAnswer["transitions"]): SVGElement {
  const placed = layered(
    tasks.map((task) => task.task),
    transitions,
  );
  const width = (placed.layers - 1) * LAYER_WIDTH + NODE_WIDTH + 2 * MARGIN;
  const height = (placed.rows - 1) * ROW_HEIGHT + NODE_HEIGHT + 2 * MARGIN;
  const left = (layer: number) => MARGIN + layer * LAYER_WIDTH;
  const middle = (row: number) => MARGIN + row * ROW_HEIGHT + NODE_HEIGHT / 2;
  const arrow = svg(
    "marker",
    {
      id: "arrow",
      viewBox: "0 0 8 8",
      refX: 8,
      refY: 4,
      markerWidth: 8,
      markerHeight: 8,
      orient: "auto",
      markerUnits: "userSpaceOnUse",
    },
    svg("path", { d: "M0,0 L8,4 L0,8 Z" }),
  );
  const edges = transitions.map((transition, index) => {
    const from = placed.nodes.get(transition.source)!;
    const to = placed.nodes.get(transition.target)!;
    const points = [
      { x: left(from.layer) + NODE_WIDTH, y: middle(from.row) },
      ...placed.bends[index]!.map(({ layer, row }) => ({ x: left(layer) + NODE_WIDTH / 2, y: middle(row) })),
      { x: left(to.layer), y: middle(to.row) },
    ];
    return edge(transition, points);
  });
  const nodes = tasks.map((task) => {
    const { layer, row } = placed.nodes.get(task.task)!;
    return node(task, left(layer), middle(row) - NODE_HEIGHT / 2);
  });
  const label = `${tasks.length} tasks and ${transitions.length} transitions between them; the table below tells the same.`;
  const box = { class: "graph", width, height, viewBox: `0 0 ${width} ${height}` };
  return svg("svg", { ...box, role: "img", "aria-label": label }, svg("defs", {}, arrow), ...edges, ...nodes);
}

function node(task: GraphAnswer["tasks"][number], x: number, y: number): SVGElement {
  const name = task.task.length > NAME_CHARACTERS_MAX ? `${task.task.slice(0, NAME_CHARACTERS_MAX - 1)}…` : task.task;
  return svg(
    "g",
    {},
    svg("title", {}, `${task.task}: ${task.count} executions`),
    svg("rect", { x, y, width: NODE_WIDTH, height: NODE_HEIGHT, rx: 6 }),
    svg("text", { x: x + 8, y: y + 17 }, name),
    svg("text", { x: x + 8, y: y + 32, class: "quiet" }, `${task.count}×`),
  );
}

function edge(transition: GraphAnswer["transitions"][number], points: { x: number; y: number }[]): SVGElement {
  const [first, ...rest] = points as [{ x: number; y: number }, ...{ x: number; y: number }[]];
  let path = `M${first.x},${first.y}`;
  let last = first;
  for (const point of rest) {
    const half = (last.x + point.x) / 2;
    path += ` C${half},${last.y} ${half},${point.y} ${point.x},${point.y}`;
    last = point;
  }
  const next = rest[0]!;
  const { source, target, count, delayMs, probability, kind } = transition;
  const delay = delayMs === null ? "" : `, after ${ms(delayMs.p50)}`;
  return svg(
    "g",
    {},
    svg("title", {}, `${source} → ${target} (${kind}): ${count} times, ${percent(probability)}${delay}`),
    svg("path", { d: path, "stroke-width": 1 + 2.5 * probability, "marker-end": "url(#arrow)" }),
    svg(
      "text",
      { class: "quiet", x: (first.x + next.x) / 2, y: (first.y + next.y) / 2 - 4, "text-anchor": "middle" },
      percent(probability),
    ),
  );
}

function transitionTable(graph: GraphAnswer): HTMLElement {
  const rows = [...graph.transitions].sort((a, b) => b.count - a.count).slice(0, TRANSITIONS_LISTED_MAX);
  return table(
    `Transitions, most frequent first (${rows.length} of ${graph.transitions.length})`,
    [
      { head: "From", cell: (row) => row.source },
      { head: "To", cell: (row) => row.target },
      { head: "Kind", cell: (row) => row.kind },
      { head: "Count", number: true, cell: (row) => String(row.count) },
      { head: "Probability", number: true, cell: (row) => percent(row.probability) },
      { head: "Delay (p50)", number: true, cell: (row) => (row.delayMs === null ? "–" : ms(row.delayMs.p50)) },
      {
        head: "Transfer",
        number: true,
        cell: (row) => (row.transferBytes === null ? "unknown" : bytes(Math.round(row.transferBytes))),
      },
    ],
    rows,
  );
}

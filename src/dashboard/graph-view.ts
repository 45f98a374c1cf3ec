// The graph as a picture and, for whoever cannot see it, as a table.
import { Graph, layout } from "@dagrejs/dagre";
import type { GraphAnswer } from "../protocol.ts";
import { bytes, el, ms, percent, quiet, svg, table } from "./dom.ts";

/** The most frequent ones: beyond, a picture tells nothing. */
const TASKS_DRAWN_MAX = 60;
const TRANSITIONS_DRAWN_MAX = 160;
const TRANSITIONS_LISTED_MAX = 300;
const LAYER_GAP = 70;
const ROW_GAP = 24;
const NODE_WIDTH = 140;
const NODE_HEIGHT = 40;
const MARGIN = 20;
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
  const drawing = new Graph({ multigraph: true });
  drawing.setGraph({ rankdir: "LR", ranksep: LAYER_GAP, nodesep: ROW_GAP, marginx: MARGIN, marginy: MARGIN });
  for (const { task } of tasks) drawing.setNode(task, { width: NODE_WIDTH, height: NODE_HEIGHT });
  // Frequent transitions are kept short and straight.
  const most = Math.max(1, ...transitions.map(({ count }) => count));
  for (const { source, target, kind, count } of transitions) {
    drawing.setEdge(source, target, { weight: 1 + Math.round((4 * count) / most) }, kind);
  }
  layout(drawing);
  const { width = 0, height = 0 } = drawing.graph();
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
  const edges = transitions.map((transition) => {
    const { points } = drawing.edge(transition.source, transition.target, transition.kind) as { points: Point[] };
    return edge(transition, points);
  });
  const nodes = tasks.map((task) => {
    const { x, y } = drawing.node(task.task) as Point;
    return node(task, x - NODE_WIDTH / 2, y - NODE_HEIGHT / 2);
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

interface Point {
  x: number;
  y: number;
}

function edge(transition: GraphAnswer["transitions"][number], points: Point[]): SVGElement {
  // Through the middles of dagre's bends, so that the line is smooth.
  const middle = (a: Point, b: Point) => `${(a.x + b.x) / 2},${(a.y + b.y) / 2}`;
  const first = points[0]!;
  const last = points.at(-1)!;
  const bends = points.slice(1, -1);
  let path = `M${first.x},${first.y}`;
  for (const [i, bend] of bends.entries()) {
    const next = bends[i + 1];
    path += ` Q${bend.x},${bend.y} ${next === undefined ? `${last.x},${last.y}` : middle(bend, next)}`;
  }
  if (bends.length === 0) path += ` L${last.x},${last.y}`;
  const name = points[Math.floor((points.length - 1) / 2)]!;
  const { source, target, count, delayMs, probability, kind } = transition;
  const delay = delayMs === null ? "" : `, after ${ms(delayMs.p50)}`;
  return svg(
    "g",
    {},
    svg("title", {}, `${source} → ${target} (${kind}): ${count} times, ${percent(probability)}${delay}`),
    svg("path", { d: path, "stroke-width": 1 + 2.5 * probability, "marker-end": "url(#arrow)" }),
    svg("text", { class: "quiet", x: name.x, y: name.y - 4, "text-anchor": "middle" }, percent(probability)),
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

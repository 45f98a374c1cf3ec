// The graph as a picture and, for whoever cannot see it, as a table. A task links to what follows it.
import type { ChainsAnswer, GraphAnswer } from "../protocol.ts";
import {
  bytes,
  counted,
  el,
  fitted,
  ms,
  number,
  percent,
  quiet,
  svg,
  table,
  taskLink,
  taskParts,
  textWidth,
  type View,
} from "./dom.ts";
import { bestChains, type Choice, isLarge, mostFrequent } from "./graph-choice.ts";
import { layOut, NODE_HEIGHT, NODE_WIDTH, type Point, type Task, type Transition } from "./graph-layout.ts";

const TRANSITIONS_LISTED_MAX = 300;
/** Left and right of a name in its box, px. */
const PADDING = 8;

/** `asksFrequent`: of a large graph the most frequent tasks, instead of the best chains. */
export function graphView(graph: GraphAnswer, chains: ChainsAnswer, asksFrequent: boolean): View {
  if (graph.tasks.length === 0)
    return [
      quiet(
        "Nothing has been learned yet. Three ways to begin: point an OTLP exporter at /v1/traces, post records to /v1/executions, or run",
      ),
      el("pre", {}, "npm run -s forechain -- import FILE…"),
    ];
  const best = isLarge(graph) && !asksFrequent ? bestChains(graph, chains) : null;
  const choice = best !== null && best.tasks.length > 0 ? best : mostFrequent(graph);
  return [
    el(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": "Picture of the graph" },
      picture(choice.tasks, choice.transitions),
    ),
    quiet("Numbers are probabilities; a line without one is nearly always taken. A task leads to what follows it."),
    leftOut(graph, choice),
    el("details", { id: "graph-table" }, el("summary", {}, "As a table"), transitionTable(graph)),
  ];
}

function leftOut(graph: GraphAnswer, { tasks, transitions, chains }: Choice): HTMLElement | null {
  if (tasks.length === graph.tasks.length && transitions.length === graph.transitions.length) return null;
  const whose = chains === null ? "The most frequent" : `${counted(chains, "chain")} where preparation pays most`;
  return quiet(
    `${whose}: ${number(tasks.length)} of ${counted(graph.tasks.length, "task")} and ` +
      `${number(transitions.length)} of ${counted(graph.transitions.length, "transition")} are drawn. GET /v1/graph?format=dot has all.`,
  );
}

function picture(tasks: Task[], transitions: Transition[]): SVGElement {
  const { width, height, nodes, edges } = layOut(tasks, transitions);
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
  const label = `${tasks.length} tasks and ${transitions.length} transitions between them; the table below tells the same.`;
  const box = { class: "graph", width, height, viewBox: `0 0 ${width} ${height}` };
  return svg(
    "svg",
    // No image: its tasks are links.
    { ...box, role: "group", "aria-label": label },
    svg("defs", {}, arrow),
    ...edges.map(({ transition, points }) => edge(transition, points)),
    // After all lines, so that none crosses a number out.
    ...edges.map(({ transition, shareAt }) => shareAt && share(transition, shareAt)),
    ...nodes.map(({ task, at }) => node(task, at)),
  );
}

/** The operation tells more than its service, so it stands first. */
function node({ task, count }: Task, { x, y }: Point): SVGElement {
  const { service, operation } = taskParts(task);
  const room = NODE_WIDTH - 2 * PADDING;
  const times = `${number(count)}×`;
  const below = service === "" ? times : `${fitted(service, room - textWidth(` · ${times}`, 11), 11)} · ${times}`;
  return svg(
    "a",
    { href: taskLink(task) },
    svg("title", {}, `${task}: ${counted(count, "execution")}`),
    svg("rect", { x, y, width: NODE_WIDTH, height: NODE_HEIGHT, rx: 6 }),
    svg("text", { x: x + PADDING, y: y + 17 }, fitted(operation, room, 12)),
    svg("text", { x: x + PADDING, y: y + 32, class: "quiet" }, below),
  );
}

function edge(transition: Transition, points: Point[]): SVGElement {
  let { x, y } = points[0]!;
  let path = `M${x},${y}`;
  // Level at each of dagre's bends, so that lines leave and enter the boxes straight and cross between the layers.
  for (const bend of points.slice(1)) {
    const half = (x + bend.x) / 2;
    path += ` C${half},${y} ${half},${bend.y} ${bend.x},${bend.y}`;
    ({ x, y } = bend);
  }
  const { source, target, count, delayMs, probability, kind } = transition;
  const delay = delayMs === null ? "" : `, after ${ms(delayMs.p50)}`;
  return svg(
    "g",
    {},
    svg("title", {}, `${source} → ${target} (${kind}): ${number(count)} times, ${percent(probability)}${delay}`),
    svg("path", { d: path, "stroke-width": 1 + 2.5 * probability, "marker-end": "url(#arrow)" }),
  );
}

/** The probability of a transition, on its line. */
function share({ probability }: Transition, { x, y }: Point): SVGElement {
  return svg("text", { class: "quiet", x, y: y + 4, "text-anchor": "middle" }, percent(probability));
}

function transitionTable(graph: GraphAnswer): HTMLElement {
  const rows = [...graph.transitions].sort((a, b) => b.count - a.count).slice(0, TRANSITIONS_LISTED_MAX);
  return table(
    `Transitions, most frequent first (${rows.length} of ${graph.transitions.length})`,
    [
      { head: "From", cell: (row) => row.source },
      { head: "To", cell: (row) => row.target },
      { head: "Kind", cell: (row) => row.kind },
      { head: "Count", number: true, cell: (row) => number(row.count) },
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

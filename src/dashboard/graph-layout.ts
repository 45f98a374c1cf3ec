// Where tasks and transitions are drawn. In: both, most frequent first. Out: their coordinates, px.
// Dagre (layered, Sugiyama et al. 1981) lays out each connected part by itself, for it sends edges round parts that have nothing
// to do with them; the parts are then packed on shelves, the tallest first, so that tasks without transitions fill a grid.
import { Graph, layout } from "@dagrejs/dagre";
import type { GraphAnswer } from "../protocol.ts";

export const NODE_WIDTH = 176;
export const NODE_HEIGHT = 40;
const LAYER_GAP = 60;
const ROW_GAP = 20;
/** Between lines that run side by side. */
const LINE_GAP = 6;
/** Room for a share, such as `7.2 %`, px: dagre then lays no two of them on each other. */
const SHARE_WIDTH = 34;
const SHARE_HEIGHT = 14;
const PART_GAP = 28;
const MARGIN = 8;
/** Rounds to 100 %. */
const CERTAIN_MIN = 0.995;
/** About what a desk shows; a part that is wider scrolls alone. */
const SHELF_WIDTH = 1_180;

export type Task = GraphAnswer["tasks"][number];
export type Transition = GraphAnswer["transitions"][number];

export interface Point {
  x: number;
  y: number;
}

export interface Drawing {
  width: number;
  height: number;
  /** Upper left corners; in reading order, which is the order of the Tab key. */
  nodes: { task: Task; at: Point }[];
  /** From the source's border over bends to the target's border; `shareAt` is the middle of its number, if it has one. */
  edges: { transition: Transition; points: Point[]; shareAt: Point | null }[];
}

export function layOut(tasks: Task[], transitions: Transition[]): Drawing {
  const parts = connectedParts(tasks, transitions)
    .map((part) => layOutPart(part.tasks, part.transitions))
    .sort((a, b) => b.height - a.height || b.width - a.width);
  const whole: Drawing = { width: 0, height: 0, nodes: [], edges: [] };
  const shelf = { x: 0, y: 0, height: 0 };
  for (const part of parts) {
    if (shelf.x > 0 && shelf.x + part.width > SHELF_WIDTH) {
      shelf.y += shelf.height + PART_GAP;
      shelf.x = 0;
      shelf.height = 0;
    }
    const move = ({ x, y }: Point) => ({ x: x + shelf.x + MARGIN, y: y + shelf.y + MARGIN });
    whole.nodes.push(...part.nodes.map(({ task, at }) => ({ task, at: move(at) })));
    for (const { transition, points, shareAt } of part.edges)
      whole.edges.push({ transition, points: points.map(move), shareAt: shareAt && move(shareAt) });
    shelf.height = Math.max(shelf.height, part.height);
    whole.width = Math.max(whole.width, shelf.x + part.width + 2 * MARGIN);
    whole.height = Math.max(whole.height, shelf.y + part.height + 2 * MARGIN);
    shelf.x += part.width + PART_GAP;
  }
  return whole;
}

/** Drawn without a number: in many workflows most lines would say 100 %. */
export function isCertain({ probability }: Transition): boolean {
  return probability >= CERTAIN_MIN;
}

/** Union-find over the transitions: what hangs together, in whatever direction. */
function connectedParts(tasks: Task[], transitions: Transition[]): { tasks: Task[]; transitions: Transition[] }[] {
  const parent = new Map(tasks.map(({ task }) => [task, task]));
  const top = (task: string): string => {
    let at = task;
    while (parent.get(at) !== at) at = parent.get(at)!;
    parent.set(task, at);
    return at;
  };
  for (const { source, target } of transitions) parent.set(top(source), top(target));
  const parts = new Map<string, { tasks: Task[]; transitions: Transition[] }>();
  for (const task of tasks) {
    const part = parts.get(top(task.task)) ?? { tasks: [], transitions: [] };
    part.tasks.push(task);
    parts.set(top(task.task), part);
  }
  for (const transition of transitions) parts.get(top(transition.source))!.transitions.push(transition);
  return [...parts.values()];
}

function layOutPart(tasks: Task[], transitions: Transition[]): Drawing {
  const graph = new Graph({ multigraph: true });
  graph.setGraph({ rankdir: "LR", ranksep: LAYER_GAP, nodesep: ROW_GAP, edgesep: LINE_GAP });
  for (const { task } of tasks) graph.setNode(task, { width: NODE_WIDTH, height: NODE_HEIGHT });
  // Frequent transitions are kept short and straight.
  const most = Math.max(1, ...transitions.map(({ count }) => count));
  for (const transition of transitions) {
    const { source, target, kind, count } = transition;
    const label = isCertain(transition) ? {} : { width: SHARE_WIDTH, height: SHARE_HEIGHT, labelpos: "c" };
    graph.setEdge(source, target, { ...label, weight: 1 + Math.round((4 * count) / most) }, kind);
  }
  layout(graph);
  const { width = 0, height = 0 } = graph.graph();
  return {
    width,
    height,
    nodes: tasks
      .map((task) => {
        const { x, y } = graph.node(task.task) as Point;
        return { task, at: { x: x - NODE_WIDTH / 2, y: y - NODE_HEIGHT / 2 } };
      })
      .sort((a, b) => a.at.x - b.at.x || a.at.y - b.at.y),
    edges: transitions.map((transition) => {
      const drawn = graph.edge(transition.source, transition.target, transition.kind);
      const { points, x, y } = drawn as Point & { points: Point[] };
      const shareAt = isCertain(transition) ? null : { x, y };
      const source = graph.node(transition.source) as Point;
      const target = graph.node(transition.target) as Point;
      return { transition, points: atSides(points, source, target), shareAt };
    }),
  };
}

/** A transition to a later layer leaves at the right side's middle and enters at the left one's: dagre cuts at any side. */
function atSides(points: Point[], source: Point, target: Point): Point[] {
  if (source.x + NODE_WIDTH > target.x) return points;
  const leaves = { x: source.x + NODE_WIDTH / 2, y: source.y };
  return [leaves, ...points.slice(1, -1), { x: target.x - NODE_WIDTH / 2, y: target.y }];
}

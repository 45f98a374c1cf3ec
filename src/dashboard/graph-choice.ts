// Which part of a graph is drawn. In: the graph and its best chains. Out: tasks and transitions, most frequent first.
// A small graph is drawn whole. Of a large one the most frequent transitions join everything with everything, so that its best chains
// stand for it until somebody asks for the most frequent tasks instead.
import type { ChainsAnswer, GraphAnswer } from "../protocol.ts";
import type { Task, Transition } from "./graph-layout.ts";

const TASKS_DRAWN_MAX = 60;
/** A picture of so many is 2,900 to 4,500 px wide, of 120 up to 8,000, of 160 up to 9,600 (random graphs of 60 tasks, three each). */
const TRANSITIONS_DRAWN_MAX = 80;

export interface Choice {
  tasks: Task[];
  transitions: Transition[];
  /** Of how many chains these are; null: the most frequent of all. */
  chains: number | null;
}

/** More than one picture may hold. */
export function isLarge(graph: GraphAnswer): boolean {
  return graph.tasks.length > TASKS_DRAWN_MAX || graph.transitions.length > TRANSITIONS_DRAWN_MAX;
}

export function mostFrequent(graph: GraphAnswer): Choice {
  const tasks = byCount(graph.tasks).slice(0, TASKS_DRAWN_MAX);
  const drawn = new Set(tasks.map(({ task }) => task));
  const between = graph.transitions.filter(({ source, target }) => drawn.has(source) && drawn.has(target));
  return { tasks, transitions: byCount(between).slice(0, TRANSITIONS_DRAWN_MAX), chains: null };
}

/** The best chains as far as their tasks have room, and the transitions from each task of a chain to the chain's next one. */
export function bestChains(graph: GraphAnswer, { chains }: ChainsAnswer): Choice {
  const drawn = new Set<string>();
  const steps = new Set<string>();
  let count = 0;
  for (const { tasks } of chains) {
    const more = tasks.filter((task) => !drawn.has(task)).length;
    if (drawn.size + more > TASKS_DRAWN_MAX) continue;
    count++;
    for (const [i, task] of tasks.entries()) {
      drawn.add(task);
      if (i > 0) steps.add(stepOf(tasks[i - 1]!, task));
    }
  }
  return {
    tasks: byCount(graph.tasks.filter(({ task }) => drawn.has(task))),
    transitions: byCount(graph.transitions.filter(({ source, target }) => steps.has(stepOf(source, target)))),
    chains: count,
  };
}

/** Names hold any character, quotes too: as JSON no two pairs are the same text. */
function stepOf(source: string, target: string): string {
  return JSON.stringify([source, target]);
}

function byCount<Row extends { count: number }>(rows: Row[]): Row[] {
  return [...rows].sort((a, b) => b.count - a.count);
}

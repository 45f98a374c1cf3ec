// Triggers: what made an execution start. In: the nodes that count. Out: links; else the frontier of earlier siblings; else the
// parent; without any parents, the event before. And the one trigger that the path follows.
import type { Collapsed, Index } from "./collapse.ts";
import { endOf, isCounted, MISSING, type Node, type TriggerKind } from "./node.ts";

/** Triggers of one execution at most (the latest-ended): bounds the transitions of wide joins after wide fan-outs. */
export const TRIGGERS_MAX = 128;

export function findTriggers(nodes: Node[], alive: Node[], index: Index, collapsed: Collapsed): void {
  const children = new Map<number, number[]>();
  for (const [position, node] of nodes.entries()) {
    if (!isCounted(node)) continue;
    if (node.parent >= 0) {
      const list = children.get(node.parent);
      if (list === undefined) children.set(node.parent, [position]);
      else list.push(position);
    }
  }
  const linked = (id: string): number => {
    let position = index.tasks.get(id) ?? collapsed.owner.get(id) ?? MISSING;
    while (position >= 0 && nodes[position]!.successor >= 0) position = nodes[position]!.successor;
    return position >= 0 && isCounted(nodes[position]!) ? position : MISSING;
  };
  for (const node of alive) {
    const { links } = node.record.rest;
    if (links === undefined) continue;
    const found = new Set(links.map(linked));
    found.delete(MISSING);
    node.triggers = [...found].filter((position) => nodes[position] !== node).slice(0, TRIGGERS_MAX);
    node.kinds = node.triggers.map((position) => (position === node.parent ? kindOf(node, nodes[position]!) : "link"));
  }
  for (const [parent, siblings] of children) siblingTriggers(nodes, parent, inOrderOfStart(nodes, siblings));
  choosePaths(nodes, alive);
}

/** The total order is that of the last attempts. */
function inOrderOfStart(nodes: Node[], siblings: number[]): number[] {
  if (!siblings.some((position) => nodes[position]!.retries > 0)) return siblings;
  return siblings.toSorted((a, b) => nodes[a]!.startMs - nodes[b]!.startMs || a - b);
}

/** `siblings` are in order of their start. Sweep: `ended` holds those that ended before the one at hand began. */
function siblingTriggers(nodes: Node[], parent: number, siblings: number[]): void {
  const byEnd = siblings.filter((position) => !Number.isNaN(endOf(nodes[position]!)));
  const rank = new Map(siblings.map((position, order) => [position, order]));
  byEnd.sort((a, b) => endOf(nodes[a]!) - endOf(nodes[b]!) || rank.get(a)! - rank.get(b)!);
  let ended = 0;
  let latest = -1; // the ended sibling that started last
  for (const [order, position] of siblings.entries()) {
    const node = nodes[position]!;
    while (ended < byEnd.length && isBefore(nodes, byEnd[ended]!, node, rank.get(byEnd[ended]!)! < order)) {
      const candidate = byEnd[ended++]!;
      if (latest < 0 || rank.get(candidate)! > rank.get(latest)!) latest = candidate;
    }
    // A link that leads to nothing present tells nothing: the rules after it apply.
    if (node.triggers.length > 0) continue;
    if (latest < 0) {
      node.triggers = [parent];
    } else {
      const lastStartMs = nodes[latest]!.startMs;
      node.triggers = [latest];
      for (let i = ended - 1; i >= 0 && node.triggers.length < TRIGGERS_MAX; i--) {
        const candidate = byEnd[i]!;
        if (!(endOf(nodes[candidate]!) > lastStartMs)) break;
        if (candidate !== latest) node.triggers.push(candidate);
      }
    }
    node.kinds = node.triggers.map((trigger) => kindOf(node, nodes[trigger]!));
  }
}

function isBefore(nodes: Node[], candidate: number, node: Node, isEarlier: boolean): boolean {
  const end = endOf(nodes[candidate]!);
  return end < node.startMs || (end === node.startMs && isEarlier);
}

function kindOf(target: Node, trigger: Node): TriggerKind {
  return target.startMs >= endOf(trigger) ? "sequence" : "call";
}

/** No parents anywhere: each event follows the one before it. `alive` is in the total order. */
export function chainInOrder(nodes: Node[], alive: Node[]): void {
  const positions = new Map(nodes.map((node, position) => [node, position]));
  for (let i = 1; i < alive.length; i++) {
    const node = alive[i]!;
    node.triggers = [positions.get(alive[i - 1]!)!];
    node.kinds = ["sequence"];
    node.pathTrigger = node.triggers[0]!;
  }
}

export function choosePaths(nodes: Node[], alive: Node[]): void {
  for (const node of alive) {
    for (const trigger of node.triggers) {
      const chosen = nodes[node.pathTrigger];
      if (chosen === undefined || isSmaller(nodes, trigger, node.pathTrigger)) node.pathTrigger = trigger;
    }
  }
}

function isSmaller(nodes: Node[], a: number, b: number): boolean {
  const left = nodes[a]!.record.task!;
  const right = nodes[b]!.record.task!;
  return left < right || (left === right && a < b);
}

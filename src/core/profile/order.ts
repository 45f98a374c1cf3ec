// Order. In: nodes with their triggers. Out: one sequence in which every trigger comes before what it triggered, else by start.
import { isCounted, type Node } from "./node.ts";
import { choosePaths } from "./triggers.ts";

export interface Order {
  /** Positions, triggers before what they trigger. */
  sequence: number[];
  /** Triggers formed a circle, which was cut. */
  isCyclic: boolean;
}

/** Kahn's algorithm over a heap keyed by effective start, so that triggers come first whatever the clocks say. */
export function topological(nodes: Node[]): Order {
  const waiting = new Int32Array(nodes.length);
  const followers = new Map<number, number[]>();
  const rest = new Set<number>();
  const ready = new ReadyHeap();
  for (const [position, node] of nodes.entries()) {
    if (!isCounted(node)) continue;
    rest.add(position);
    waiting[position] = node.triggers.length;
    if (node.triggers.length === 0) ready.push(node.startMs, position);
    for (const trigger of node.triggers) {
      const list = followers.get(trigger);
      if (list === undefined) followers.set(trigger, [position]);
      else list.push(position);
    }
  }
  const sequence: number[] = [];
  let isCyclic = false;
  const effective = new Float64Array(nodes.length);
  while (rest.size > 0) {
    const next = ready.pop();
    isCyclic ||= next === null;
    const position = next ?? cutCycle(nodes, rest, sequence);
    rest.delete(position);
    sequence.push(position);
    const own = nodes[position]!.startMs;
    effective[position] = Math.max(Number.isNaN(own) ? 0 : own, latestOf(nodes[position]!.triggers, effective));
    for (const follower of followers.get(position) ?? []) {
      if (!rest.has(follower) || --waiting[follower]! !== 0) continue;
      const node = nodes[follower]!;
      const start = Number.isNaN(node.startMs) ? 0 : node.startMs;
      ready.push(Math.max(start, latestOf(node.triggers, effective)), follower);
    }
  }
  return { sequence, isCyclic };
}

function latestOf(triggers: number[], effective: Float64Array): number {
  let latest = 0;
  for (const trigger of triggers) latest = Math.max(latest, effective[trigger]!);
  return latest;
}

/** Everything left waits in a circle: the earliest record goes without the triggers that are not there yet. */
function cutCycle(nodes: Node[], rest: Set<number>, sequence: number[]): number {
  const [position] = rest; // insertion order is the total order
  const node = nodes[position!]!;
  const done = new Set(sequence);
  const kept = node.triggers.map((trigger) => done.has(trigger));
  node.kinds = node.kinds.filter((_, i) => kept[i]);
  node.triggers = node.triggers.filter((_, i) => kept[i]);
  node.pathTrigger = -1;
  choosePaths(nodes, [node]);
  return position!;
}

/** A binary min-heap of positions by (effective start, position). An unknown start counts as 0: first. */
class ReadyHeap {
  readonly #keys: number[] = [];
  readonly #positions: number[] = [];

  push(startMs: number, position: number): void {
    this.#keys.push(Number.isNaN(startMs) ? 0 : startMs);
    this.#positions.push(position);
    let at = this.#keys.length - 1;
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (!this.#isLess(at, above)) break;
      this.#swap(at, above);
      at = above;
    }
  }

  pop(): number | null {
    const top = this.#positions[0];
    if (top === undefined) return null;
    const key = this.#keys.pop()!;
    const position = this.#positions.pop()!;
    if (this.#keys.length === 0) return top;
    this.#keys[0] = key;
    this.#positions[0] = position;
    let at = 0;
    for (;;) {
      const left = 2 * at + 1;
      let least = at;
      if (left < this.#keys.length && this.#isLess(left, least)) least = left;
      if (left + 1 < this.#keys.length && this.#isLess(left + 1, least)) least = left + 1;
      if (least === at) return top;
      this.#swap(at, least);
      at = least;
    }
  }

  #isLess(a: number, b: number): boolean {
    return (
      this.#keys[a]! < this.#keys[b]! || (this.#keys[a] === this.#keys[b] && this.#positions[a]! < this.#positions[b]!)
    );
  }

  #swap(a: number, b: number): void {
    [this.#keys[a], this.#keys[b]] = [this.#keys[b]!, this.#keys[a]!];
    [this.#positions[a], this.#positions[b]] = [this.#positions[b]!, this.#positions[a]!];
  }
}

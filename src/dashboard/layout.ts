// A layered drawing of a directed graph (Sugiyama's method, 1981), for tens of tasks. In: names and edges. Out: positions in
// units of layers and rows. Steps: edges that close a cycle are turned round; each node goes one layer behind its farthest
// predecessor; edges over several layers get a point in each; rows are ordered by the mean row of the neighbours, both ways.
export interface Edge {
  source: string;
  target: string;
}

export interface Placed {
  /** Layer and row of each node. */
  nodes: Map<string, { layer: number; row: number }>;
  /** Per edge, in the order given: the points between its ends where it crosses a layer. */
  bends: { layer: number; row: number }[][];
  layers: number;
  rows: number;
}

const SWEEPS = 8;

/** Parts of the graph that no edge joins are drawn one below the other, the largest first. */
export function layered(names: string[], edges: Edge[]): Placed {
  const placed: Placed = { nodes: new Map(), bends: edges.map(() => []), layers: 0, rows: 0 };
  for (const part of componentsOf(names, edges)) {
    const own = [...edges.keys()].filter((index) => part.includes(edges[index]!.source));
    const { nodes, bends, layers, rows } = layeredPart(
      part,
      own.map((index) => edges[index]!),
    );
    const lower = <T extends { row: number }>(place: T): T => ({ ...place, row: place.row + placed.rows });
    for (const [name, place] of nodes) placed.nodes.set(name, lower(place));
    for (const [position, index] of own.entries()) placed.bends[index] = bends[position]!.map(lower);
    placed.layers = Math.max(placed.layers, layers);
    placed.rows += rows;
  }
  return placed;
}

function componentsOf(names: string[], edges: Edge[]): string[][] {
  const componentOf = new Map(names.map((name) => [name, [name]]));
  for (const { source, target } of edges) {
    const [a, b] = [componentOf.get(source)!, componentOf.get(target)!];
    if (a === b) continue;
    a.push(...b);
    for (const name of b) componentOf.set(name, a);
  }
  return [...new Set(componentOf.values())].sort((a, b) => b.length - a.length);
}

function layeredPart(names: string[], edges: Edge[]): Placed {
  const forward = withoutCycles(names, edges);
  const layerOf = layersOf(names, forward);
  // Points of long edges are nodes of their own while rows are ordered.
  const order: string[][] = Array.from({ length: Math.max(0, ...layerOf.values()) + 1 }, () => []);
  for (const name of names) order[layerOf.get(name)!]!.push(`n${name}`);
  const links: Edge[] = [];
  const bendNames = forward.map(({ source, target }, index) => {
    const from = layerOf.get(source)!;
    const to = layerOf.get(target)!;
    const points: string[] = [];
    for (let layer = from + 1; layer < to; layer++) {
      points.push(`b${index}.${layer}`);
      order[layer]!.push(`b${index}.${layer}`);
    }
    const stops = [`n${source}`, ...points, `n${target}`];
    for (let i = 1; i < stops.length; i++) links.push({ source: stops[i - 1]!, target: stops[i]! });
    return points;
  });
  const row = orderedRows(order, links);
  const at = (name: string, layer: number) => ({ layer, row: row.get(name)! });
  return {
    nodes: new Map(names.map((name) => [name, at(`n${name}`, layerOf.get(name)!)])),
    bends: bendNames.map((points, index) => {
      const placed = points.map((point) => at(point, Number(point.slice(point.indexOf(".") + 1))));
      return forward[index]!.source === edges[index]!.source ? placed : placed.reverse();
    }),
    layers: order.length,
    rows: Math.max(0, ...[...row.values()]) + 1,
  };
}

/** The same edges, those that a depth-first search finds to close a cycle turned round. */
function withoutCycles(names: string[], edges: Edge[]): Edge[] {
  const state = new Map<string, "open" | "done">();
  const turned = new Set<Edge>();
  const visit = (name: string) => {
    state.set(name, "open");
    for (const edge of edges) {
      if (edge.source !== name) continue;
      const met = state.get(edge.target);
      if (met === "open") turned.add(edge);
      else if (met === undefined) visit(edge.target);
    }
    state.set(name, "done");
  };
  for (const name of names) if (!state.has(name)) visit(name);
  return edges.map((edge) => (turned.has(edge) ? { source: edge.target, target: edge.source } : edge));
}

function layersOf(names: string[], edges: Edge[]): Map<string, number> {
  const layerOf = new Map(names.map((name) => [name, 0]));
  // At most as many rounds as nodes: without cycles no path is longer.
  for (let round = 0, moved = true; moved && round <= names.length; round++) {
    moved = false;
    for (const { source, target } of edges) {
      const least = layerOf.get(source)! + 1;
      if (source === target || layerOf.get(target)! >= least) continue;
      layerOf.set(target, least);
      moved = true;
    }
  }
  return layerOf;
}

function orderedRows(order: string[][], links: Edge[]): Map<string, number> {
  const row = new Map<string, number>();
  const number = (layer: string[]) => {
    layer.forEach((name, position) => {
      row.set(name, position);
    });
  };
  order.forEach(number);
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const down = sweep % 2 === 0;
    const wanted = new Map<string, number[]>();
    for (const { source, target } of links) {
      const [mover, fixed] = down ? [target, source] : [source, target];
      wanted.set(mover, [...(wanted.get(mover) ?? []), row.get(fixed)!]);
    }
    for (const layer of down ? order : [...order].reverse()) {
      const mean = (name: string) => {
        const rows = wanted.get(name) ?? [row.get(name)!];
        return rows.reduce((sum, value) => sum + value, 0) / rows.length;
      };
      layer.sort((a, b) => mean(a) - mean(b));
      number(layer);
    }
  }
  return row;
}

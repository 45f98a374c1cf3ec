// The graph as text of other tools: Graphviz DOT and GraphML. Task names are somebody's text, so they are escaped.
import type { GraphAnswer } from "../protocol.ts";

/** Graphviz DOT. */
export function graphDot(graph: GraphAnswer): string {
  const lines = ["digraph forechain {", "  node [shape=box];"];
  for (const { task, count } of graph.tasks) lines.push(`  ${dotText(task)} [count=${count}];`);
  for (const { source, target, kind, count, probability } of graph.transitions) {
    const label = dotText(`${count} (${(probability * 100).toFixed(1)} %)`);
    lines.push(`  ${dotText(source)} -> ${dotText(target)} [label=${label}, kind=${kind}, count=${count}];`);
  }
  lines.push("}");
  return `${lines.join("\n")}\n`;
}

/** A quoted DOT string: backslashes too, or `\N` would be replaced by the node's name. */
function dotText(text: string): string {
  return `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}

const GRAPHML_KEYS: [id: string, on: "node" | "edge", type: string][] = [
  ["task", "node", "string"],
  ["executions", "node", "long"],
  ["kind", "edge", "string"],
  ["count", "edge", "long"],
  ["weight", "edge", "double"],
  ["probability", "edge", "double"],
  ["multiplicity", "edge", "double"],
  ["delayP50Ms", "edge", "double"],
  ["transferBytes", "edge", "double"],
];

/** GraphML: nodes are numbered, their names are data. */
export function graphMl(graph: GraphAnswer): string {
  const ids = new Map<string, string>();
  const idOf = (task: string): string => {
    let id = ids.get(task);
    if (id === undefined) {
      id = `n${ids.size}`;
      ids.set(task, id);
    }
    return id;
  };
  const datum = (key: string, value: string | number | null | undefined) =>
    value === null || value === undefined ? "" : `<data key="${key}">${xmlText(String(value))}</data>`;
  const lines = ['<?xml version="1.0" encoding="UTF-8"?>', '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">'];
  for (const [id, on, type] of GRAPHML_KEYS) {
    lines.push(`<key id="${id}" for="${on}" attr.name="${id}" attr.type="${type}"/>`);
  }
  lines.push('<graph id="forechain" edgedefault="directed">');
  for (const { task, count } of graph.tasks) {
    lines.push(`<node id="${idOf(task)}">${datum("task", task)}${datum("executions", count)}</node>`);
  }
  for (const t of graph.transitions) {
    // A filter may have left out a transition's task; GraphML wants every end to be a node.
    for (const task of [t.source, t.target]) {
      if (!ids.has(task)) lines.push(`<node id="${idOf(task)}">${datum("task", task)}</node>`);
    }
    const data = [
      datum("kind", t.kind),
      datum("count", t.count),
      datum("weight", t.weight),
      datum("probability", t.probability),
      datum("multiplicity", t.multiplicity),
      datum("delayP50Ms", t.delayMs?.p50),
      datum("transferBytes", t.transferBytes),
    ];
    lines.push(`<edge source="${idOf(t.source)}" target="${idOf(t.target)}">${data.join("")}</edge>`);
  }
  lines.push("</graph>", "</graphml>");
  return `${lines.join("\n")}\n`;
}

function xmlText(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;")
    .replace(/[\ufffe\uffff]/g, "\ufffd"); // not allowed in XML at all
}

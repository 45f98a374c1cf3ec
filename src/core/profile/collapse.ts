// Collapse. In: the records of a run. Out: a node for each that is an execution, in the total order; to which of them the
// others belong, with what these bring along: services and cold starts.
import type { RunRecord } from "../records.ts";
import { byOrder, MISSING, NONE, type Node, nodeOf } from "./node.ts";

export interface Index {
  /** Position of the node by execution id and alias. */
  tasks: Map<string, number>;
  collapsed: Map<string, RunRecord>;
}

/** What the collapsed records resolve to. */
export interface Collapsed {
  /** Position of the nearest task above, MISSING or NONE, by execution id. */
  owner: Map<string, number>;
  /** Collapsed spans through which a task was called: such a client call is the graph's own transition, no service. */
  carriers: Set<string>;
  records: Map<string, RunRecord>;
}

export function collect(records: Iterable<RunRecord>): { nodes: Node[]; index: Index; hasParents: boolean } {
  const index: Index = { tasks: new Map(), collapsed: new Map() };
  const executions: RunRecord[] = [];
  let hasParents = false;
  const unkinded: RunRecord[] = [];
  const all = new Map<string, RunRecord>();
  for (const record of records) {
    if (record.parentId !== null || record.rest.links !== undefined) hasParents = true;
    all.set(record.executionId, record);
    if (record.rest.unkinded !== undefined && record.parentId !== null) unkinded.push(record);
    else if (record.task === null) index.collapsed.set(record.executionId, record);
    else executions.push(record);
  }
  for (const record of unkinded) {
    // Without a kind, an entry shows by the change of service; a span of kind beside it does not tell its own.
    const parentService = all.get(record.parentId!)?.rest.unkinded ?? null;
    if (parentService === record.rest.unkinded) index.collapsed.set(record.executionId, record);
    else executions.push(record);
  }
  executions.sort(byOrder);
  const nodes = executions.map(nodeOf);
  for (const [position, record] of executions.entries()) index.tasks.set(record.executionId, position);
  for (const [position, record] of executions.entries()) {
    const { alias } = record.rest;
    if (alias !== undefined && !index.tasks.has(alias)) index.tasks.set(alias, position);
  }
  return { nodes, index, hasParents };
}

export function resolveParents(nodes: Node[], index: Index): Collapsed {
  const owner = new Map<string, number>();
  const carriers = new Set<string>();
  const climb = (parentId: string | null, visited: string[]): number => {
    let id = parentId;
    const onWay = new Set<string>();
    let found = NONE;
    while (id !== null) {
      const task = index.tasks.get(id);
      if (task !== undefined) {
        found = task;
        break;
      }
      const known = owner.get(id);
      if (known !== undefined) {
        visited.push(id);
        found = known;
        break;
      }
      const record = index.collapsed.get(id);
      // A circle of collapsed spans hangs in the air like one whose parent never came.
      if (record === undefined || onWay.has(id)) {
        found = MISSING;
        break;
      }
      onWay.add(id);
      visited.push(id);
      id = record.parentId;
    }
    for (const passed of onWay) owner.set(passed, found);
    return found;
  };
  for (const [position, node] of nodes.entries()) {
    const passed: string[] = [];
    const parent = climb(node.record.parentId, passed);
    node.parent = parent === position ? NONE : parent;
    for (const id of passed) carriers.add(id);
  }
  for (const record of index.collapsed.values()) if (!owner.has(record.executionId)) climb(record.executionId, []);
  return { owner, carriers, records: index.collapsed };
}

export function giveServices(nodes: Node[], collapsed: Collapsed): void {
  for (const [id, record] of collapsed.records) {
    const { services, cold } = record.rest;
    const node = nodes[collapsed.owner.get(id) ?? MISSING];
    if (node === undefined) continue;
    if (services !== undefined && !collapsed.carriers.has(id)) node.services = [...node.services, ...services];
    if (cold === true) node.cold = true;
  }
}

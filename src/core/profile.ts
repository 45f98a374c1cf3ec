// Run assembly. In: the records of one run, in any order. Out: its executions with their triggers, ready to be counted
// (contribution.ts) and learned (`observedRun`). A pure function of the *set* of records: order of arrival plays no part.
//
//   1. collapse: a record without a task, or of no kind and in its parent's service, stands for the nearest task above it and gives it its services
//   2. leave out speculative executions and all below them
//   3. retries: attempts under one trigger are one execution; what a failed attempt had called goes with it
//   4. triggers: links; else the frontier of earlier siblings; else the parent; without any parents, the event before
//   5. order by effective start, triggers first (cycles are cut where the earliest record waits)
import type { ServiceUse } from "../protocol.ts";
import { type ObservedRun, RUN_EXECUTIONS_MAX, RUN_TRIGGERS_MAX } from "./engine.ts";
import type { RunRecord } from "./records.ts";

export type TriggerKind = "call" | "sequence" | "link";

export interface AssembledExecution {
  /** Of the last attempt. */
  record: RunRecord;
  task: string;
  /** Of the first attempt; NaN where unknown. */
  startMs: number;
  /** NaN where unknown or before its start: a duration is never negative and unknown is not 0. */
  endMs: number;
  /** Attempts that failed before this one. */
  retries: number;
  services: ServiceUse[];
  cold: boolean;
  coldStartMs: number | null;
  /** Positions in `executions`, all smaller than its own. */
  triggers: number[];
  kinds: TriggerKind[];
  /** The one trigger that its path follows; -1 at a root. */
  pathTrigger: number;
  /** Position of the task that called it, -1 where none did or it is missing. */
  parent: number;
}

export interface AssembledRun {
  executions: AssembledExecution[];
  /** A child began before its parent, or an execution ended before it began: clocks disagree. */
  skewed: boolean;
  /** Triggers formed a circle, which was cut. */
  cyclic: boolean;
  /** Executions whose parent was named and never came. */
  orphans: number;
}

/** Triggers of one execution at most (the latest-ended): bounds the transitions of wide joins after wide fan-outs. */
export const TRIGGERS_MAX = 128;

const MISSING = -1;
const NONE = -2;

/** One logical execution while the run is being assembled. */
interface Node {
  record: RunRecord;
  startMs: number;
  endMs: number;
  retries: number;
  /** Position of the parent's node, MISSING or NONE. */
  parent: number;
  /** Attempt that took this one's place, or -1. */
  successor: number;
  excluded: boolean;
  services: ServiceUse[];
  cold: boolean;
  coldStartMs: number | null;
  triggers: number[];
  kinds: TriggerKind[];
  pathTrigger: number;
}

/** Assembles a run from all records that are known of it. Records of one execution must have been reduced to one. */
export function assembleRun(records: Iterable<RunRecord>): AssembledRun {
  const { nodes, index, hasParents } = collect(records);
  const collapsed = resolveParents(nodes, index);
  giveServices(nodes, collapsed);
  exclude(nodes);
  joinRetries(nodes, hasParents);
  const alive = nodes.filter((node) => isCounted(node));
  if (hasParents) findTriggers(nodes, alive, index, collapsed);
  else chainInOrder(nodes, alive);
  return ordered(nodes, alive);
}

function isCounted(node: Node): boolean {
  return !node.excluded && node.successor < 0;
}

// ── 1. Collapse ──────────────────────────────────────────────────────────────────────────────────────────────────────

interface Index {
  /** Position of the node by execution id and alias. */
  tasks: Map<string, number>;
  collapsed: Map<string, RunRecord>;
}

/** What the collapsed records resolve to. */
interface Collapsed {
  /** Position of the nearest task above, MISSING or NONE, by execution id. */
  owner: Map<string, number>;
  /** Collapsed spans through which a task was called: such a client call is the graph's own transition, no service. */
  carriers: Set<string>;
  records: Map<string, RunRecord>;
}

function collect(records: Iterable<RunRecord>): { nodes: Node[]; index: Index; hasParents: boolean } {
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

function nodeOf(record: RunRecord): Node {
  const { coldStartMs = null, cold } = record.rest;
  return {
    record,
    startMs: record.startMs ?? Number.NaN,
    endMs: record.endMs ?? Number.NaN,
    retries: 0,
    parent: NONE,
    successor: -1,
    excluded: record.rest.speculative === true,
    services: record.rest.services ?? [],
    cold: cold === true || (coldStartMs !== null && coldStartMs > 0),
    coldStartMs,
    triggers: [],
    kinds: [],
    pathTrigger: -1,
  };
}

/** The total order that every tie falls back to: start, end, sequence, id. An unknown start counts as its end. */
function byOrder(a: RunRecord, b: RunRecord): number {
  return (
    (a.startMs ?? a.endMs ?? 0) - (b.startMs ?? b.endMs ?? 0) ||
    (a.rest.sequence ?? 0) - (b.rest.sequence ?? 0) ||
    (a.endMs ?? a.startMs ?? 0) - (b.endMs ?? b.startMs ?? 0) ||
    (a.executionId < b.executionId ? -1 : a.executionId > b.executionId ? 1 : 0)
  );
}

function resolveParents(nodes: Node[], index: Index): Collapsed {
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

function giveServices(nodes: Node[], collapsed: Collapsed): void {
  for (const [id, record] of collapsed.records) {
    const { services, cold } = record.rest;
    const node = nodes[collapsed.owner.get(id) ?? MISSING];
    if (node === undefined) continue;
    if (services !== undefined && !collapsed.carriers.has(id)) node.services = [...node.services, ...services];
    if (cold === true) node.cold = true;
  }
}

// ── 2. Speculative executions ────────────────────────────────────────────────────────────────────────────────────────

/** Spreads `excluded` downwards. Parents may come after their children in the order (skew), so each node climbs, once. */
function exclude(nodes: Node[]): void {
  const settled = new Uint8Array(nodes.length);
  for (let position = 0; position < nodes.length; position++) {
    const way: number[] = [];
    let at = position;
    while (at >= 0 && settled[at] === 0) {
      settled[at] = 1; // also ends the climb in a circle
      way.push(at);
      at = nodes[at]!.excluded ? -1 : nodes[at]!.parent;
    }
    const top = way.at(-1);
    const isExcluded = nodes[at]?.excluded === true || (top !== undefined && nodes[top]!.excluded);
    if (isExcluded) for (const below of way) nodes[below]!.excluded = true;
  }
}

// ── 3. Retries ───────────────────────────────────────────────────────────────────────────────────────────────────────

function joinRetries(nodes: Node[], hasParents: boolean): void {
  const groups = new Map<string, number[]>();
  let anyRetry = false;
  let before: number | null = null;
  for (const [position, node] of nodes.entries()) {
    if (node.excluded) continue;
    const { record } = node;
    const key = hasParents ? retryKey(record, node.parent) : `${record.task}`;
    if (!hasParents) {
      // Events in a row: only the one directly before can be the failed attempt.
      const previous = before === null ? undefined : nodes[before];
      if (previous !== undefined && previous.record.task === record.task && isRetryOf(record, previous)) {
        replace(nodes, before!, position);
        anyRetry = true;
      }
      before = position;
      continue;
    }
    const group = groups.get(key);
    if (group === undefined) {
      groups.set(key, [position]);
      continue;
    }
    const failed = group.findIndex((candidate) => isRetryOf(record, nodes[candidate]!));
    if (failed < 0) group.push(position);
    else {
      replace(nodes, group[failed]!, position);
      group[failed] = position;
      anyRetry = true;
    }
    // An attempt that succeeded and has no number can never be retried: keep the list of candidates short.
    if (group.length > RETRY_CANDIDATES_MAX) group.shift();
  }
  if (anyRetry) dropFailedAttempts(nodes);
}

/** Unfinished attempts remembered per task and trigger: bounds the search in wide fan-outs. */
const RETRY_CANDIDATES_MAX = 64;

function retryKey(record: RunRecord, parent: number): string {
  const { links } = record.rest;
  const trigger = links !== undefined ? [...links].sort().join(" ") : parent >= 0 ? parent : (record.parentId ?? "");
  return `${record.task}\u0000${trigger}`;
}

function isRetryOf(record: RunRecord, earlier: Node): boolean {
  const { attempt } = record.rest;
  const previous = earlier.record.rest.attempt;
  if (attempt !== undefined && previous !== undefined) return attempt > previous;
  if (earlier.record.status === "ok") return false;
  return !(earlier.endMs > (record.startMs ?? Number.POSITIVE_INFINITY));
}

function replace(nodes: Node[], failed: number, by: number): void {
  const earlier = nodes[failed]!;
  const later = nodes[by]!;
  earlier.successor = by;
  later.retries = earlier.retries + 1;
  if (!Number.isNaN(earlier.startMs)) later.startMs = earlier.startMs;
}

/** What a failed attempt had called belongs to that attempt: it counts no more than the attempt does. */
function dropFailedAttempts(nodes: Node[]): void {
  for (const node of nodes) if (node.successor >= 0) node.excluded = true;
  exclude(nodes);
}

// ── 4. Triggers ──────────────────────────────────────────────────────────────────────────────────────────────────────

function findTriggers(nodes: Node[], alive: Node[], index: Index, collapsed: Collapsed): void {
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
  for (const [parent, siblings] of children) siblingTriggers(nodes, parent, siblings);
  choosePaths(nodes, alive);
}

/** `siblings` are in the total order. Sweep: `ended` holds those that ended before the one at hand began. */
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

function endOf(node: Node): number {
  // Ended before it began: of the two clocks the start's is believed.
  // biome-ignore lint/complexity/useMathMinMax: with an unknown start the end still counts, and max would be NaN
  return node.endMs < node.startMs ? node.startMs : node.endMs;
}

function isBefore(nodes: Node[], candidate: number, node: Node, isEarlier: boolean): boolean {
  const end = endOf(nodes[candidate]!);
  return end < node.startMs || (end === node.startMs && isEarlier);
}

function kindOf(target: Node, trigger: Node): TriggerKind {
  return target.startMs >= endOf(trigger) ? "sequence" : "call";
}

/** No parents anywhere: each event follows the one before it. `alive` is in the total order. */
function chainInOrder(nodes: Node[], alive: Node[]): void {
  const positions = new Map(nodes.map((node, position) => [node, position]));
  for (let i = 1; i < alive.length; i++) {
    const node = alive[i]!;
    node.triggers = [positions.get(alive[i - 1]!)!];
    node.kinds = ["sequence"];
    node.pathTrigger = node.triggers[0]!;
  }
}

function choosePaths(nodes: Node[], alive: Node[]): void {
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

// ── 5. Order ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Kahn's algorithm over a heap keyed by effective start, so that triggers come first whatever the clocks say. */
function ordered(nodes: Node[], alive: Node[]): AssembledRun {
  const run: AssembledRun = { executions: [], skewed: false, cyclic: false, orphans: 0 };
  const sequence = topological(nodes, run);
  const place = new Int32Array(nodes.length).fill(-1);
  for (const [at, position] of sequence.entries()) place[position] = at;
  for (const position of sequence) {
    const node = nodes[position]!;
    if (node.endMs < node.startMs) run.skewed = true;
    if (node.parent === MISSING && node.record.parentId !== null) run.orphans++;
    const parent = nodes[node.parent];
    if (parent !== undefined && parent.startMs > node.startMs) run.skewed = true;
    run.executions.push({
      record: node.record,
      task: node.record.task!,
      startMs: node.startMs,
      endMs: node.endMs < node.startMs ? Number.NaN : node.endMs,
      retries: node.retries,
      services: node.services,
      cold: node.cold,
      coldStartMs: node.coldStartMs,
      triggers: node.triggers.map((trigger) => place[trigger]!),
      kinds: node.kinds,
      pathTrigger: node.pathTrigger < 0 ? -1 : place[node.pathTrigger]!,
      parent: node.parent < 0 ? -1 : place[node.parent]!,
    });
  }
  if (run.executions.length !== alive.length) throw new Error("assembly lost an execution");
  return run;
}

function topological(nodes: Node[], run: AssembledRun): number[] {
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
  const effective = new Float64Array(nodes.length);
  while (rest.size > 0) {
    const next = ready.pop();
    const position = next ?? cutCycle(nodes, rest, sequence, run);
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
  return sequence;
}

function latestOf(triggers: number[], effective: Float64Array): number {
  let latest = 0;
  for (const trigger of triggers) latest = Math.max(latest, effective[trigger]!);
  return latest;
}

/** Everything left waits in a circle: the earliest record goes without the triggers that are not there yet. */
function cutCycle(nodes: Node[], rest: Set<number>, sequence: number[], run: AssembledRun): number {
  run.cyclic = true;
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

// ── For the engine ───────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * The run as the engine learns it. `intern` gives each task its id; `hashVersion` is predict.ts's. Of a run that is longer than
 * the engine takes, its beginning; of triggers in excess, those that no path follows are left out.
 */
export function observedRun(
  run: AssembledRun,
  intern: (task: string) => number,
  hashVersion: (version: string) => number,
): ObservedRun {
  const executions = run.executions.slice(0, RUN_EXECUTIONS_MAX);
  const count = executions.length;
  const triggers: number[] = [];
  const observed: ObservedRun = {
    tasks: new Uint32Array(count),
    versions: new Uint32Array(count),
    startMs: new Float64Array(count),
    endMs: new Float64Array(count),
    coldStartMs: new Float64Array(count),
    triggerOffsets: new Uint32Array(count + 1),
    triggers: new Uint32Array(0),
    pathTriggers: new Int32Array(count),
  };
  for (const [i, execution] of executions.entries()) {
    const { version } = execution.record.rest;
    observed.tasks[i] = intern(execution.task);
    observed.versions[i] = version === undefined ? 0 : hashVersion(version);
    observed.startMs[i] = execution.startMs;
    observed.endMs[i] = execution.endMs;
    observed.coldStartMs[i] = execution.coldStartMs ?? 0;
    observed.pathTriggers[i] = execution.pathTrigger;
    // One place is kept for the path of each execution that is still to come.
    const room = RUN_TRIGGERS_MAX - triggers.length - (count - i);
    const others = execution.triggers.filter((trigger) => trigger !== execution.pathTrigger);
    if (execution.pathTrigger >= 0) triggers.push(execution.pathTrigger);
    triggers.push(...others.slice(0, Math.max(0, room)));
    observed.triggerOffsets[i + 1] = triggers.length;
  }
  observed.triggers = Uint32Array.from(triggers);
  return observed;
}

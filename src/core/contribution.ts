// What one run adds to the graph's rows: integers only, so that it can be subtracted again when a late record changes the run.
// In: an assembled run. Out: counts by row and field. Rows are named by `rowKey`, fields are short because they are stored:
//
//   task          n executions, r runs, 0 as root, x not ok, a retries, k cold starts, l latency sensitivity in thousandths
//                 y<day> executions by day
//                 W objects written, R of them read later in the run
//                 B executions in runs that have several of it, A most of them at one time, summed over these runs; N sketch of B
//                 sketches: d warm duration ms, c cold start ms, q queue ms, u CPU ms, m memory bytes, o output bytes
//   transition    n executions of the target, s executions of the source, t transfer bytes, T how often known,
//                 v sketch of transfer bytes, d sketch of the delay ms, y<day> executions by day, g distinct executions of the target,
//                 f sketch of how many of them one execution of the source triggers
//   service       x executions, n calls, b bytes, l latency in µs × calls, L calls of known latency; sketches, one count an
//                 execution: c calls, v bytes, w mean latency in µs
//   object        n executions, b bytes, v sketch of the bytes, p<task> executions of that task that had produced it
//   template      n executions, b bytes, v sketch of the bytes
// Sums are exact; the sketches beside them bound what one record's value can do to a mean (sketch.ts `boundedMean`).
//   chain         n runs, y<day> runs by day
//   runs          n runs, s skewed, c cyclic, o orphans

import { atOnceFields, atOnceOf } from "./at-once.ts";
import { outputShape } from "./output-shapes.ts";
import type { TriggerKind } from "./profile/node.ts";
import type { AssembledExecution, AssembledRun } from "./profile.ts";
import { sensitivityOf } from "./sensitivity.ts";
import { bucketField, type Counts } from "./sketch.ts";

export type Contribution = Map<string, Counts>;

const SEPARATOR = "\u0000";
const DAY_MS = 86_400_000;
/** Tasks of a counted chain; what comes after is another chain's business. */
const CHAIN_TASKS_MAX = 32;
/** Distinct chains of one run; a wide run's smallest paths stand for it. */
const CHAINS_PER_RUN_MAX = 64;

export type RowFamily = "task" | "transition" | "service" | "object" | "template" | "chain" | "runs";
const LETTERS: Record<RowFamily, string> = {
  task: "t",
  transition: "e",
  service: "s",
  object: "o",
  template: "p",
  chain: "c",
  runs: "r",
};
const FAMILIES = new Map(Object.entries(LETTERS).map(([family, letter]) => [letter, family as RowFamily]));

export function rowKey(family: RowFamily, ...parts: string[]): string {
  return [LETTERS[family], ...parts].join(SEPARATOR);
}

/** Task names hold no control characters; the last part is free text. */
export function rowParts(key: string): { family: RowFamily; parts: string[] } {
  const [letter, ...parts] = key.split(SEPARATOR);
  return { family: FAMILIES.get(letter!)!, parts };
}

/** Counts the run. Pure: equal runs give equal contributions. */
export function contributionOf(run: AssembledRun): Contribution {
  const rows: Contribution = new Map();
  const { executions } = run;
  if (executions.length === 0) return rows;
  const params = paramsOf(run);
  const producers = producersOf(run);
  const sensitivity = sensitivityOf(run);
  const tasksSeen = new Set<string>();
  for (const [i, execution] of executions.entries()) {
    countTask(rows, execution, sensitivity[i]!, tasksSeen);
    countServices(rows, execution);
    countObjects(rows, execution, params, producers);
  }
  countAtOnce(rows, run);
  countOutputs(rows, run, producers);
  countTransitions(rows, run);
  countChains(rows, run);
  const totals = rowOf(rows, rowKey("runs"));
  add(totals, "n", 1);
  if (run.skewed) add(totals, "s", 1);
  if (run.cyclic) add(totals, "c", 1);
  if (run.orphans > 0) add(totals, "o", run.orphans);
  return rows;
}

function rowOf(rows: Contribution, key: string): Counts {
  let row = rows.get(key);
  if (row === undefined) {
    row = new Map();
    rows.set(key, row);
  }
  return row;
}

function add(row: Counts, field: string, count: number): void {
  row.set(field, (row.get(field) ?? 0) + count);
}

function countTask(rows: Contribution, execution: AssembledExecution, sensitivity: number, seen: Set<string>): void {
  const { record, startMs, endMs, coldStartMs, coldWithinMs, task } = execution;
  const { rest } = record;
  const row = rowOf(rows, rowKey("task", task, rest.version ?? ""));
  add(row, "n", 1);
  if (!seen.has(task)) {
    seen.add(task);
    add(row, "r", 1);
  }
  if (execution.triggers.length === 0) add(row, "0", 1);
  if (record.status !== "ok") add(row, "x", 1);
  if (execution.retries > 0) add(row, "a", execution.retries);
  if (execution.cold) add(row, "k", 1);
  add(row, "l", sensitivity);
  add(row, dayField(startMs), 1);
  // A retried execution's own duration is that of its last attempt.
  const beganMs = execution.retries > 0 ? (record.startMs ?? Number.NaN) : startMs;
  const durationMs = endMs - beganMs;
  // A cold start of unknown length would count as work: such a duration tells nothing of the warm one.
  const isWarmKnown = !execution.cold || coldStartMs !== null;
  if (durationMs >= 0 && isWarmKnown) add(row, bucketField("d", durationMs - coldWithinMs), 1);
  if (coldStartMs !== null && coldStartMs > 0) add(row, bucketField("c", coldStartMs), 1);
  if (rest.queueMs !== undefined) add(row, bucketField("q", rest.queueMs), 1);
  if (rest.cpuMs !== undefined) add(row, bucketField("u", rest.cpuMs), 1);
  if (rest.memoryBytes !== undefined) add(row, bucketField("m", rest.memoryBytes), 1);
  const outputBytes = rest.outputBytes ?? rest.outputs?.reduce((sum, object) => sum + object.bytes, 0);
  if (outputBytes !== undefined) add(row, bucketField("o", outputBytes), 1);
}

/** In the row of the version that executes first. */
function countAtOnce(rows: Contribution, run: AssembledRun): void {
  const counts = atOnceOf(run);
  if (counts.size === 0) return;
  const first = new Map<string, AssembledExecution>();
  for (const execution of run.executions) if (!first.has(execution.task)) first.set(execution.task, execution);
  for (const [task, atOnce] of counts) {
    const row = rowOf(rows, rowKey("task", task, first.get(task)!.record.rest.version ?? ""));
    for (const [field, sum] of atOnceFields(atOnce)) if (sum !== 0) add(row, field, sum);
    add(row, bucketField("N", atOnce.executions), 1);
  }
}

function countServices(rows: Contribution, execution: AssembledExecution): void {
  const seen = new Set<string>();
  for (const use of execution.services) {
    const row = rowOf(rows, rowKey("service", execution.task, use.service));
    if (!seen.has(use.service)) add(row, "x", 1);
    seen.add(use.service);
    add(row, "n", use.calls);
    add(row, "b", use.bytes);
    add(row, bucketField("c", use.calls), 1);
    add(row, bucketField("v", use.bytes), 1);
    if (use.latencyMs === undefined) continue;
    add(row, bucketField("w", use.latencyMs * 1000), 1);
    add(row, "l", Math.round(use.latencyMs * 1000) * use.calls);
    add(row, "L", use.calls);
  }
}

// ── Objects and templates ────────────────────────────────────────────────────────────────────────────────────────────

function paramsOf(run: AssembledRun): Map<string, string> {
  const names = new Map<string, string>();
  for (const { record } of run.executions) {
    for (const [name, value] of Object.entries(record.rest.params ?? {})) {
      const text = String(value);
      if (typeof value === "boolean" || text === "") continue;
      const known = names.get(text);
      if (known === undefined || name < known) names.set(text, name);
    }
  }
  return names;
}

/** Whether what a task writes is read on, and by whom: names are new in each run, so shares by their shape are learned. */
function countOutputs(rows: Contribution, { executions }: AssembledRun, producers: Map<string, string>): void {
  if (!executions.some(({ record }) => record.rest.outputs !== undefined)) return;
  const read = new Set(executions.flatMap(({ record }) => record.rest.inputs?.map(({ uri }) => uri) ?? []));
  for (const { record, task } of executions) {
    const { outputs, version } = record.rest;
    if (outputs === undefined || outputs.length === 0) continue;
    const row = rowOf(rows, rowKey("task", task, version ?? ""));
    for (const { uri } of outputs) {
      const shape = outputShape(task, uri);
      for (const field of read.has(uri) ? ["W", "R"] : ["W"]) {
        add(row, field, 1);
        add(row, `${field}${shape}`, 1);
      }
    }
  }
  for (const { record, task } of executions) {
    const shapes = new Set<number>();
    for (const { uri } of record.rest.inputs ?? []) {
      const producer = producers.get(uri);
      if (producer !== undefined) shapes.add(outputShape(producer, uri));
    }
    if (shapes.size === 0) continue;
    const row = rowOf(rows, rowKey("task", task, record.rest.version ?? ""));
    for (const shape of shapes) add(row, `F${shape}`, 1);
  }
}

/** The task that wrote each object; the smallest name where several did. */
function producersOf(run: AssembledRun): Map<string, string> {
  const producers = new Map<string, string>();
  for (const { record, task } of run.executions) {
    for (const { uri } of record.rest.outputs ?? []) {
      const known = producers.get(uri);
      if (known === undefined || task < known) producers.set(uri, task);
    }
  }
  return producers;
}

function countObjects(
  rows: Contribution,
  execution: AssembledExecution,
  params: Map<string, string>,
  producers: Map<string, string>,
): void {
  const seen = new Set<string>();
  for (const { uri, bytes } of execution.record.rest.inputs ?? []) {
    if (seen.has(uri)) continue;
    seen.add(uri);
    const template = params.size > 0 ? templateOf(uri, params) : null;
    const isTemplate = template !== null;
    const row = rowOf(
      rows,
      isTemplate ? rowKey("template", execution.task, template) : rowKey("object", execution.task, uri),
    );
    add(row, "n", 1);
    add(row, "b", bytes);
    add(row, bucketField("v", bytes), 1);
    const producer = producers.get(uri);
    if (!isTemplate && producer !== undefined && producer !== execution.task) add(row, `p${producer}`, 1);
  }
}

/**
 * The URI with each path segment that equals a parameter's value (or does so up to its extension) replaced by `{name}`.
 * Null where none does. Scheme, host and bucket are never replaced, nor is a query.
 */
function templateOf(uri: string, params: Map<string, string>): string | null {
  const [, origin, path, query] = /^([a-z][a-z0-9+.-]*:\/\/[^/?#]*\/)([^?#]*)(.*)$/is.exec(uri) ?? [];
  if (origin === undefined || path === undefined || uri.includes("{")) return null;
  const used = new Set<string>();
  const segments = path.split("/").map((segment) => {
    for (const end of [segment.length, segment.lastIndexOf("."), segment.indexOf(".")]) {
      if (end <= 0) continue;
      const name = params.get(decoded(segment.slice(0, end)));
      if (name === undefined || used.has(name) || /[{}/]/.test(name)) continue;
      used.add(name);
      return `{${name}}${segment.slice(end)}`;
    }
    return segment;
  });
  return used.size === 0 ? null : origin + segments.join("/") + query;
}

function decoded(segment: string): string {
  if (!segment.includes("%")) return segment;
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment; // Not percent-encoding, but a name with a percent sign.
  }
}

// ── Transitions ──────────────────────────────────────────────────────────────────────────────────────────────────────

function countTransitions(rows: Contribution, run: AssembledRun): void {
  /** Source executions by transition, so that `s` counts each once, with how many targets each triggered. */
  const sources = new Map<string, Map<number, number>>();
  for (const target of run.executions) {
    const keys = new Set<string>();
    const read = new Set(target.record.rest.inputs?.map((object) => object.uri));
    for (const [t, trigger] of target.triggers.entries()) {
      const source = run.executions[trigger]!;
      const kind: TriggerKind = target.kinds[t]!;
      const key = rowKey("transition", source.task, target.task, kind);
      const row = rowOf(rows, key);
      add(row, "n", 1);
      let counted = sources.get(key);
      if (counted === undefined) {
        counted = new Map();
        sources.set(key, counted);
      }
      if (!counted.has(trigger)) add(row, "s", 1);
      counted.set(trigger, (counted.get(trigger) ?? 0) + 1);
      if (!keys.has(key)) add(row, "g", 1);
      keys.add(key);
      const delayMs = delayOf(source, target);
      if (delayMs !== null) add(row, bucketField("d", delayMs), 1);
      const bytes = transferOf(source, read);
      if (bytes !== null) {
        add(row, "t", bytes);
        add(row, "T", 1);
        add(row, bucketField("v", bytes), 1);
      }
      add(row, dayField(target.startMs), 1);
    }
  }
  for (const [key, counted] of sources) {
    const row = rowOf(rows, key);
    for (const fanOut of counted.values()) add(row, bucketField("f", fanOut), 1);
  }
}

/** From the source's end where the target started after it, else from the source's start, as with everything warm; clocks may not make it negative. */
function delayOf(source: AssembledExecution, target: AssembledExecution): number | null {
  const sinceEnd = target.startMs - source.endMs;
  const delayMs =
    sinceEnd >= 0
      ? sinceEnd - (target.coldBeforeStartMs - source.coldBeforeEndMs)
      : target.startMs - source.startMs - (target.coldBeforeStartMs - source.coldBeforeStartMs);
  return Number.isNaN(delayMs) ? null : Math.max(0, delayMs);
}

/** Null is unknown. */
function transferOf(source: AssembledExecution, read: ReadonlySet<string>): number | null {
  const { outputs, outputBytes } = source.record.rest;
  if (outputs !== undefined && read.size > 0) {
    let passedBytes = 0;
    let passed = 0;
    for (const { uri, bytes } of outputs) {
      if (!read.has(uri)) continue;
      passedBytes += bytes;
      passed++;
    }
    if (passed > 0) return passedBytes;
  }
  return outputBytes ?? null;
}

/** Days since the epoch of an event; executions of unknown time have a field of their own and never decay. */
export function dayField(startMs: number): string {
  return Number.isNaN(startMs) ? "yu" : `y${Math.floor(startMs / DAY_MS)}`;
}

// ── Chains ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Each distinct path from a root to a leaf counts once a run. A task repeated in a row stands once: loops of any length are one chain. */
function countChains(rows: Contribution, run: AssembledRun): void {
  const { executions } = run;
  const hasFollower = new Uint8Array(executions.length);
  for (const { pathTrigger } of executions) if (pathTrigger >= 0) hasFollower[pathTrigger] = 1;
  // Paths as a trie, so that equal paths are one however many executions walk them.
  const trie: { above: number; task: string; depth: number }[] = [];
  const steps = new Map<string, number>();
  const pathAt = new Int32Array(executions.length);
  const leaves = new Set<number>();
  for (const [i, { task, pathTrigger }] of executions.entries()) {
    const above = pathTrigger < 0 ? -1 : pathAt[pathTrigger]!;
    const last = trie[above];
    if (last !== undefined && (last.task === task || last.depth === CHAIN_TASKS_MAX)) pathAt[i] = above;
    else {
      const step = `${above} ${task}`;
      let id = steps.get(step);
      if (id === undefined) {
        id = trie.push({ above, task, depth: (last?.depth ?? 0) + 1 }) - 1;
        steps.set(step, id);
      }
      pathAt[i] = id;
    }
    if (hasFollower[i] === 0) leaves.add(pathAt[i]!);
  }
  const chains: string[] = [];
  for (const leaf of leaves) {
    const tasks: string[] = [];
    for (let at = leaf; at >= 0; at = trie[at]!.above) tasks.push(trie[at]!.task);
    if (tasks.length > 1) chains.push(JSON.stringify(tasks.reverse()));
  }
  const day = dayField(executions[0]!.startMs);
  for (const chain of chains.sort().slice(0, CHAINS_PER_RUN_MAX)) {
    const row = rowOf(rows, rowKey("chain", chain));
    add(row, "n", 1);
    add(row, day, 1);
  }
}

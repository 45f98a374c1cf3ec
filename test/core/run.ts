// A run written as a table: `b < a 10-20` is an execution b, called by a, from 10 to 20 ms.
import { contributionOf } from "../../src/core/contribution.ts";
import { graphAnswer } from "../../src/core/graph.ts";
import { Ledger } from "../../src/core/ledger.ts";
import type { AssembledRun } from "../../src/core/profile.ts";
import { assembleRun } from "../../src/core/profile.ts";
import { type RecordRest, type RunRecord, recordOfExecution } from "../../src/core/records.ts";
import { countsText, GraphRows, type Rows } from "../../src/core/rows.ts";
import { Execution } from "../../src/protocol.ts";

/** Midday of a day in 2023: instants of the tables are added to it. */
export const BASE_MS = 1_700_000_000_000;

/** Unknown archive: nothing was sealed before. */
const NO_ARCHIVE = { find: () => null };

/**
 * `id[:task] [< parent] start-end [!]`; `!` is an error; without a task the id names it. A task `-` is a collapsed span.
 */
export function record(line: string, rest: RecordRest = {}, runId = "run"): RunRecord {
  const [, id, , task, , parentId, start, end, bang] =
    /^(\w+)(:([\w/-]+))?\s*(<\s*(\w+))?\s*(\d+)-(\d+)\s*(!?)$/.exec(line.trim()) ?? [];
  if (id === undefined) throw new Error(`not a record: ${line}`);
  return {
    runId,
    executionId: id,
    parentId: parentId ?? null,
    task: task === "-" ? null : (task ?? id),
    startMs: BASE_MS + Number(start),
    endMs: BASE_MS + Number(end),
    status: bang === "!" ? "error" : "ok",
    rest,
  };
}

export function run(...lines: (string | RunRecord)[]): AssembledRun {
  return assembleRun(lines.map((line) => (typeof line === "string" ? record(line) : line)));
}

/** An execution as clients send it. */
export function execution(fields: Partial<Execution> & { executionId: string; task: string }): RunRecord {
  const whole = { runId: "run", startMs: BASE_MS, endMs: BASE_MS + 10, ...fields };
  return recordOfExecution(Execution.parse(whole));
}

/** `source -kind-> target` with counts, sorted. */
export function transitions(assembled: AssembledRun): string[] {
  const rows = new GraphRows();
  rows.apply(contributionOf(assembled), 1);
  return transitionsOfRows(rows.rows);
}

export function transitionsOfRows(rows: Rows): string[] {
  const { transitions: found } = graphAnswer(rows, 0, { task: null, minCount: 0 });
  return found.map(({ source, target, kind, count }) => `${source} -${kind}-> ${target} ${count}`).sort();
}

export function counts(assembled: AssembledRun): Record<string, number> {
  const rows = new GraphRows();
  rows.apply(contributionOf(assembled), 1);
  const { tasks } = graphAnswer(rows.rows, 0, { task: null, minCount: 0 });
  return Object.fromEntries(tasks.map(({ task, count }) => [task, count]).sort());
}

/** The path of each execution, by id. */
export function paths(assembled: AssembledRun): Record<string, string> {
  const { executions } = assembled;
  const path = (at: number): string => {
    const { pathTrigger, task } = executions[at]!;
    return pathTrigger < 0 ? task : `${path(pathTrigger)} ${task}`;
  };
  return Object.fromEntries(executions.map(({ record: { executionId } }, at) => [executionId, path(at)]));
}

/** Everything that the rows hold, as text: equal rows are equal text. */
export function rowsText(rows: Rows): string[] {
  return [...rows].map(([key, count]) => `${key.replaceAll("\u0000", "|")} ${countsText(count)}`).sort();
}

/** A ledger without an archive. */
export function ledger(): Ledger {
  return new Ledger(new GraphRows(), [], NO_ARCHIVE);
}

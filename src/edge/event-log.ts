// What GET /v1/events tells, in the order in which it was written. In: the keys of rows, written to D1 with the rows and in one transaction.
// Out: the rows after a mark, each once. A row of `event_batches` stands for all that one write brings: being told costs one row per batch,
// and a look reads what is new and no more.
import { and, asc, desc, eq, getTableColumns, gt, gte, or, type SQL, sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/d1";
import { timeOf } from "./ids.ts";
import { allocations, eventBatches, outcomes } from "./schema/control.ts";
import { learningChanges } from "./schema/learning.ts";

/** Between an isolate's clock and the one before it that wrote, at most, ms. */
const CLOCKS_APART_MS = 60_000;
/** Rows of one kind in one reading. */
const ROWS_MAX = 100;

/** Behind it is what was told. */
export interface Mark {
  seq: number;
  /** Within the batch; null: all of it. */
  position: number | null;
}

interface At {
  seq: number;
  position: number;
}

type AllocationRow = Omit<typeof allocations.$inferSelect, "workspace">;
type OutcomeRow = Omit<typeof outcomes.$inferSelect, "workspace">;
type ChangeRow = Omit<typeof learningChanges.$inferSelect, "workspace">;

export type Told = At &
  (
    | { kind: "allocation"; row: AllocationRow }
    | { kind: "outcome"; row: OutcomeRow }
    | { kind: "change"; row: ChangeRow }
  );

/**
 * As parts of a key. What is pending is told again when it was filled or has expired; Fleet may have written that before the isolate writes that it
 * is pending, which then is no news.
 */
export type AllocationKey = [allocationId: string, isPending: boolean];
export type OutcomeKey = [atMs: number, outcomeId: string];
export type ChangeKey = [atMs: number, root: string];

/** To be run before the rows are written: what a repeated write brings is known by then, and not told again. */
export const EVENT_SQL = {
  allocation: batchSql(
    "allocation",
    `EXISTS (SELECT 1 FROM allocations WHERE workspace = ?2 AND allocation_id = value ->> 0
       AND (value ->> 1 OR state <> 'pending'))`,
  ),
  outcome: batchSql(
    "outcome",
    "EXISTS (SELECT 1 FROM outcomes WHERE workspace = ?2 AND at_ms = value ->> 0 AND outcome_id = value ->> 1)",
  ),
  change: batchSql(
    "change",
    "EXISTS (SELECT 1 FROM learning_changes WHERE workspace = ?2 AND at_ms = value ->> 0 AND root = value ->> 1)",
  ),
} as const;

/** Its ?1; ?2 is the workspace. */
export function eventText(keys: AllocationKey[] | OutcomeKey[] | ChangeKey[], nowMs: number): string {
  return JSON.stringify({ nowMs, keys });
}

/** Never below the time, so that it rises even after all batches were pruned. */
function batchSql(kind: Told["kind"], isKnown: string): string {
  return `INSERT INTO event_batches (workspace, seq, kind, keys)
    SELECT ?2, max(coalesce((SELECT max(seq) + 1 FROM event_batches WHERE workspace = ?2), 0), ?1 ->> 'nowMs'), '${kind}', keys
    FROM (SELECT json_group_array(json(value)) AS keys, count(*) AS n FROM json_each(?1, '$.keys') WHERE NOT (${isKnown}))
    WHERE n > 0`;
}

/** Behind everything that is there. */
export async function latestMark(db: D1Database, workspace: string): Promise<Mark> {
  const [latest] = await drizzle(db)
    .select({ seq: eventBatches.seq })
    .from(eventBatches)
    .where(eq(eventBatches.workspace, workspace))
    .orderBy(desc(eventBatches.seq))
    .limit(1);
  return { seq: latest?.seq ?? 0, position: null };
}

/** Behind an allocation as it was first told; null where that is not kept. Its id begins with its time, and it was told later. */
export async function markOfAllocation(db: D1Database, workspace: string, allocationId: string): Promise<Mark | null> {
  const madeMs = timeOf(allocationId);
  if (madeMs === null) return null;
  const [at] = await drizzle(db)
    .select(PLACE)
    .from(eventBatches)
    .crossJoin(ITEM)
    .where(
      and(
        behind(workspace, "allocation", { seq: madeMs - CLOCKS_APART_MS, position: null }),
        sql`${part(0)} = ${allocationId}`,
      ),
    )
    .orderBy(...IN_ORDER)
    .limit(1);
  return at ?? null;
}

/** Changes of the workflow that were written since an instant and are not behind the mark. */
export async function changesSince(db: D1Database, workspace: string, sinceMs: number, mark: Mark): Promise<Told[]> {
  const rows = await changesAfter(db, workspace, { seq: sinceMs, position: null });
  return rows.filter(({ seq }) => seq <= mark.seq).map(told("change"));
}

/** What is behind the mark, in order, and the mark behind it. `isAll` false: there is more. */
export async function eventsAfter(
  db: D1Database,
  workspace: string,
  mark: Mark,
): Promise<{ told: Told[]; mark: Mark; isAll: boolean }> {
  // One after the other in one transaction: they see the same batches.
  const [allocated, settled, changed] = await drizzle(db).batch([
    allocationsAfter(db, workspace, mark),
    outcomesAfter(db, workspace, mark),
    changesAfter(db, workspace, mark),
  ]);
  const all: Told[] = [
    ...allocated.map(told("allocation")),
    ...settled.map(told("outcome")),
    ...changed.map(told("change")),
  ];
  all.sort(inOrder);
  const full = [allocated, settled, changed].filter((rows) => rows.length === ROWS_MAX).map((rows) => rows.at(-1)!);
  // Of a kind of which there is more only what comes before its next one may be told.
  const until = full.sort(inOrder)[0];
  if (until !== undefined) {
    const complete = all.filter((one) => inOrder(one, until) <= 0);
    return { told: complete, mark: { seq: until.seq, position: until.position }, isAll: false };
  }
  const last = all.at(-1);
  return { told: all, mark: last === undefined ? mark : { seq: last.seq, position: null }, isAll: true };
}

function told<Kind extends Told["kind"], Row extends At>(kind: Kind) {
  return ({ seq, position, ...row }: Row) => ({ kind, seq, position, row });
}

function inOrder(a: At, b: At): number {
  return a.seq - b.seq || a.position - b.position;
}

// ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A key of a batch, as the join with json_each has it. */
const ITEM = sql`json_each(${eventBatches.keys}) AS item`;
const POSITION = sql<number>`item.key`;
const PLACE = { seq: eventBatches.seq, position: POSITION.as("position") };
const IN_ORDER = [asc(eventBatches.seq), asc(POSITION)];
const part = (position: 0 | 1) => sql`item.value ->> ${sql.raw(String(position))}`;

function behind(workspace: string, kind: Told["kind"], { seq, position }: Mark): SQL | undefined {
  const isBehind =
    position === null
      ? gt(eventBatches.seq, seq)
      : and(gte(eventBatches.seq, seq), or(gt(eventBatches.seq, seq), gt(POSITION, position)));
  return and(eq(eventBatches.workspace, workspace), eq(eventBatches.kind, kind), isBehind);
}

function allocationsAfter(db: D1Database, workspace: string, mark: Mark) {
  const { workspace: _, ...columns } = getTableColumns(allocations);
  const isIt = and(eq(allocations.workspace, workspace), eq(allocations.allocationId, part(0)));
  return drizzle(db)
    .select({ ...PLACE, ...columns })
    .from(eventBatches)
    .crossJoin(ITEM)
    .crossJoin(allocations)
    .where(and(behind(workspace, "allocation", mark), isIt))
    .orderBy(...IN_ORDER)
    .limit(ROWS_MAX);
}

function outcomesAfter(db: D1Database, workspace: string, mark: Mark) {
  const { workspace: _, ...columns } = getTableColumns(outcomes);
  const isIt = and(eq(outcomes.workspace, workspace), eq(outcomes.atMs, part(0)), eq(outcomes.outcomeId, part(1)));
  return drizzle(db)
    .select({ ...PLACE, ...columns })
    .from(eventBatches)
    .crossJoin(ITEM)
    .crossJoin(outcomes)
    .where(and(behind(workspace, "outcome", mark), isIt))
    .orderBy(...IN_ORDER)
    .limit(ROWS_MAX);
}

function changesAfter(db: D1Database, workspace: string, mark: Mark) {
  const { workspace: _, ...columns } = getTableColumns(learningChanges);
  const { workspace: own, atMs, root } = learningChanges;
  return drizzle(db)
    .select({ ...PLACE, ...columns })
    .from(eventBatches)
    .crossJoin(ITEM)
    .crossJoin(learningChanges)
    .where(and(behind(workspace, "change", mark), eq(own, workspace), eq(atMs, part(0)), eq(root, part(1))))
    .orderBy(...IN_ORDER)
    .limit(ROWS_MAX);
}

// Allocations as they are explained afterwards. In: records, one or two per request. Out: rows of D1, in batches.
// They gather in the isolate for a moment, so that an allocation is no D1 write; an isolate that dies loses that moment's
// explanations, never a run. What D1 does not take is tried once more with the next flush. Memory and rows per flush are bounded: beyond, the oldest
// explanation gives way.
import { and, desc, eq } from "drizzle-orm";
import { drizzle } from "drizzle-orm/d1";
import { LRUCache } from "lru-cache";
import { remember } from "../core/remember.ts";
import type { AllocationRecord } from "../protocol.ts";
import { type AllocationKey, EVENT_SQL, eventText } from "./event-log.ts";
import { allocations } from "./schema/control.ts";

/** How long records wait for company, ms. */
const FLUSH_AFTER_MS = 500;
/** Records that wait at most, per workspace. */
const PENDING_MAX = 1_000;
/** One bound parameter, characters: far below D1's 2 MB. */
const PARAMETER_CHARACTERS_MAX = 500_000;
/** Recent records are answered from memory: a caller may ask before the flush. */
const recent = new LRUCache<string, AllocationRecord>({ max: 2_000 });
const pending = new Map<string, Map<string, AllocationRecord>>();
/** Batches that D1 did not take: tried once more with the next flush, by themselves, so that one that it never takes spoils no other. */
const failedOnce = new Map<string, AllocationRecord[]>();
let flushing = false;

type Background = Pick<ExecutionContext, "waitUntil">;

export function logAllocation(
  db: D1Database,
  background: Background,
  workspace: string,
  record: AllocationRecord,
): void {
  // What is pending changes elsewhere: Fleet tells it.
  if (record.state !== "pending") recent.set(`${workspace}/${record.allocationId}`, record);
  const waiting = pending.get(workspace) ?? new Map<string, AllocationRecord>();
  pending.set(workspace, waiting);
  remember(waiting, record.allocationId, record, PENDING_MAX);
  if (flushing) return;
  flushing = true;
  background.waitUntil(flushLater(db));
}

async function flushLater(db: D1Database): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, FLUSH_AFTER_MS));
  // Set before the writes: what comes while they run belongs to the next flush.
  flushing = false;
  const batches = [...pending];
  const again = [...failedOnce];
  pending.clear();
  failedOnce.clear();
  for (const [workspace, records] of again) {
    await writeRecords(db, workspace, records).catch((error: unknown) => {
      console.warn(`${records.length} explanations of ${workspace} are lost: ${error}`);
    });
  }
  for (const [workspace, waiting] of batches) {
    const records = [...waiting.values()];
    await writeRecords(db, workspace, records).catch(() => {
      // Another flush may have failed meanwhile.
      failedOnce.set(workspace, [...(failedOnce.get(workspace) ?? []), ...records].slice(-PENDING_MAX));
    });
  }
}

/** The record's explanation is the whole answer; what is asked for by column stands beside it. */
export async function writeRecords(db: D1Database, workspace: string, records: AllocationRecord[]): Promise<void> {
  const statement = db.prepare(
    `INSERT INTO allocations (workspace, allocation_id, run_id, execution_id, task, state, outcome, cluster, vm, answer, created_ms)
     SELECT ?1, value ->> 'allocationId', value ->> 'runId', value ->> 'executionId', value ->> 'task', value ->> 'state',
       value ->> 'outcome', value ->> 'cluster', value ->> 'vm', value ->> 'answer', value ->> 'createdMs'
     FROM json_each(?2) WHERE true
     ON CONFLICT (workspace, allocation_id) DO UPDATE SET state = excluded.state, cluster = excluded.cluster,
       vm = excluded.vm, answer = excluded.answer, outcome = coalesce(excluded.outcome, outcome)
       -- Fleet may have filled it before the isolate's batch says that it is pending; and how it went may be known before a batch comes again.
       WHERE excluded.state <> 'pending' AND outcome IS NULL`,
  );
  const rows = records.map((record) => {
    const { allocationId, runId, executionId, task, state, createdMs, outcome, ...answer } = record;
    const { cluster = null, vm = null } = answer;
    const columns = { allocationId, runId, executionId, task, state, outcome, createdMs, cluster, vm };
    return JSON.stringify({ ...columns, answer: JSON.stringify(answer) });
  });
  const keys = records.map(({ allocationId, state }): AllocationKey => [allocationId, state === "pending"]);
  const statements = [db.prepare(EVENT_SQL.allocation).bind(eventText(keys, Date.now()), workspace)];
  let chunk: string[] = [];
  let characters = 0;
  for (const row of rows) {
    if (characters + row.length > PARAMETER_CHARACTERS_MAX && chunk.length > 0) {
      statements.push(statement.bind(workspace, `[${chunk.join(",")}]`));
      [chunk, characters] = [[], 0];
    }
    chunk.push(row);
    characters += row.length;
  }
  statements.push(statement.bind(workspace, `[${chunk.join(",")}]`));
  await db.batch(statements);
}

export async function allocationById(
  db: D1Database,
  workspace: string,
  allocationId: string,
): Promise<AllocationRecord | null> {
  const [row] = await drizzle(db)
    .select()
    .from(allocations)
    .where(and(eq(allocations.workspace, workspace), eq(allocations.allocationId, allocationId)))
    .limit(1);
  const known = recent.get(`${workspace}/${allocationId}`);
  if (!row) return known ?? null;
  // The hub tells the outcome to D1, this isolate knows the state first.
  return known ? { ...known, outcome: row.outcome ?? known.outcome } : recordOf(row);
}

/** Latest first. */
export async function recentAllocations(db: D1Database, workspace: string, limit: number): Promise<AllocationRecord[]> {
  const rows = await drizzle(db)
    .select()
    .from(allocations)
    .where(eq(allocations.workspace, workspace))
    .orderBy(desc(allocations.allocationId))
    .limit(limit);
  const records = new Map(rows.map((row) => [row.allocationId, recordOf(row)]));
  for (const [allocationId, record] of pending.get(workspace) ?? []) {
    if (record.state !== "pending" || !records.has(allocationId)) records.set(allocationId, record);
  }
  return [...records.values()].sort((a, b) => (a.allocationId < b.allocationId ? 1 : -1)).slice(0, limit);
}

function recordOf(row: typeof allocations.$inferSelect): AllocationRecord {
  const { allocationId, runId, executionId, task, state, createdMs, outcome } = row;
  return { ...row.answer, allocationId, runId, executionId, task, state, createdMs, outcome };
}

// GET /v1/events: what happens, as server-sent events, read by `fetch` (which can send the key). In: nothing, or the id after
// which to go on (`Last-Event-ID`). Out: `allocation`, `outcome`, `change` and `fleet` events, at most some seconds old.
// Each stream looks once a second at what is there for all readers anyway; it ends after some minutes and is opened again.
import { and, asc, desc, eq, gt, sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/d1";
import { Hono } from "hono";
import { type SSEStreamingApi, streamSSE } from "hono/streaming";
import type { FleetView } from "../../core/fleet.ts";
import { TaskDeclaration } from "../../protocol.ts";
import type { AppEnv } from "../app.ts";
import { requireScope } from "../auth.ts";
import type { Env } from "../env.ts";
import { fleetViewFor } from "../fleet-cache.ts";
import { timePrefix } from "../ids.ts";
import { allocations, outcomes } from "../schema/control.ts";
import { learningChanges } from "../schema/learning.ts";
import { ALERT_MS } from "../writer/told.ts";

const LOOK_EVERY_MS = 1_000;
/** A stream's life, ms: the reader opens it again with the last id, and nothing is left behind where it does not. */
const STREAM_MS = 300_000;
/** Events of one look. */
const ROWS_MAX = 100;
/** Allocations of calls that may have been answered just now: more are not looked through. */
const IDS_MAX = 10_000;
/** A call is written when it has been answered: so long after its id was made at most, beside its own time-out, ms. */
const WRITTEN_WITHIN_MS = 5_000;
const CALL_MS_DEFAULT = TaskDeclaration.parse({}).timeoutMs;
/** The GraphWriter's rows reach D1 within it (writer/state.ts), ms. */
const FLUSHED_WITHIN_MS = 300_000;

const changeId = ({ root, atMs }: { root: string; atMs: number }) => `${atMs} ${root}`;

export const eventRoutes = new Hono<AppEnv>();

eventRoutes.get("/v1/events", requireScope("read", "operate"), (c) => {
  const { workspace } = c.get("key");
  const lastId = c.req.header("last-event-id") ?? null;
  const look = (nowMs: number) => fleetViewFor(c.env, workspace, c.executionCtx, nowMs);
  return streamSSE(c, async (stream) => {
    const reader = new Reader(c.env.DB, workspace, stream);
    const untilMs = Date.now() + STREAM_MS;
    await reader.begin(lastId, await look(Date.now()));
    await stream.writeSSE({ event: "hello", data: JSON.stringify({ lookEveryMs: LOOK_EVERY_MS }) });
    while (!stream.aborted && !stream.closed && Date.now() < untilMs) {
      const view = await look(Date.now());
      await reader.allocations(view);
      await reader.outcomes();
      await reader.changes();
      await reader.fleet(view);
      await stream.sleep(LOOK_EVERY_MS);
    }
  });
});

class Reader {
  readonly #db: Env["DB"];
  readonly #workspace: string;
  readonly #stream: SSEStreamingApi;
  /** Allocations have the time at which they were made and come when the call was answered, a run's first call last: told by id. */
  #toldAllocations = new Set<string>();
  /** Where the reader had come to; what is after it is looked at until all of it is told, however long ago it was. */
  #lastId: string | null = null;
  /** Outcomes come with the time at which they happened, in any order: told by id. */
  #told: Set<string> | null = null;
  #fleet = "";
  /** Changes come with the time at which the run ended that showed them, in any order too. */
  #toldChanges: Set<string> | null = null;

  constructor(db: Env["DB"], workspace: string, stream: SSEStreamingApi) {
    this.#db = db;
    this.#workspace = workspace;
    this.#stream = stream;
  }

  /** What is there already is history, unless the reader had come to an allocation before: then what was answered after that one is news. */
  async begin(lastId: string | null, view: FleetView): Promise<void> {
    this.#lastId = lastId;
    const answered = sql<number>`coalesce(${allocations.answer} ->> 'answeredMs', ${allocations.createdMs})`;
    const rows = await drizzle(this.#db)
      .select({ allocationId: allocations.allocationId, answeredMs: answered })
      .from(allocations)
      .where(this.#writtenLately(view))
      .orderBy(desc(allocations.allocationId))
      .limit(IDS_MAX);
    const last = rows.find(({ allocationId }) => allocationId === lastId);
    const isTold = ({ allocationId, answeredMs }: { allocationId: string; answeredMs: number }) => {
      if (lastId === null) return true;
      if (last === undefined || answeredMs === last.answeredMs) return allocationId <= lastId;
      return answeredMs < last.answeredMs;
    };
    this.#toldAllocations = new Set(rows.filter(isTold).map(({ allocationId }) => allocationId));
  }

  async allocations(view: FleetView): Promise<void> {
    const ids = await drizzle(this.#db)
      .select({ allocationId: allocations.allocationId })
      .from(allocations)
      .where(this.#writtenLately(view))
      .orderBy(desc(allocations.allocationId))
      .limit(IDS_MAX);
    const known = ids.map(({ allocationId }) => allocationId);
    const news = known.filter((id) => !this.#toldAllocations.has(id)).slice(-ROWS_MAX);
    this.#toldAllocations = new Set([...known.filter((id) => this.#toldAllocations.has(id)), ...news]);
    if (news.length < ROWS_MAX) this.#lastId = null;
    if (news.length === 0) return;
    const rows = await drizzle(this.#db)
      .select()
      .from(allocations)
      .where(
        and(
          eq(allocations.workspace, this.#workspace),
          // One parameter: D1 takes a hundred.
          sql`${allocations.allocationId} IN (SELECT value FROM json_each(${JSON.stringify(news)}))`,
        ),
      )
      .orderBy(asc(allocations.allocationId));
    // In the order of their answers, so that whoever comes back with the last one has had all before it.
    rows.sort((a, b) => (a.answer.answeredMs ?? a.createdMs) - (b.answer.answeredMs ?? b.createdMs));
    for (const { workspace: _, answer, ...row } of rows) {
      await this.#stream.writeSSE({
        event: "allocation",
        id: row.allocationId,
        data: JSON.stringify({ ...answer, ...row }),
      });
    }
  }

  #writtenLately({ tasks }: FleetView) {
    const callMs = Object.values(tasks).reduce((most, task) => Math.max(most, task.timeoutMs), CALL_MS_DEFAULT);
    const lately = timePrefix(Date.now() - callMs - WRITTEN_WITHIN_MS);
    const since = this.#lastId !== null && this.#lastId < lately ? this.#lastId : lately;
    return and(eq(allocations.workspace, this.#workspace), gt(allocations.allocationId, since));
  }

  async outcomes(): Promise<void> {
    const rows = await drizzle(this.#db)
      .select()
      .from(outcomes)
      .where(eq(outcomes.workspace, this.#workspace))
      .orderBy(desc(outcomes.atMs))
      .limit(ROWS_MAX);
    const told = this.#told;
    this.#told = new Set(rows.map((row) => row.outcomeId));
    // What was there before the stream began is history: /v1/outcomes tells it.
    if (told === null) return;
    for (const { workspace: _, ...outcome } of rows.toReversed()) {
      if (!told.has(outcome.outcomeId))
        await this.#stream.writeSSE({ event: "outcome", data: JSON.stringify(outcome) });
    }
  }

  /** Changes of the workflow: told some seconds or, where a run was long open, minutes after the run that makes them certain. */
  async changes(): Promise<void> {
    const nowMs = Date.now();
    const rows = await drizzle(this.#db)
      .select()
      .from(learningChanges)
      .where(and(eq(learningChanges.workspace, this.#workspace), gt(learningChanges.atMs, nowMs - ALERT_MS)))
      .orderBy(desc(learningChanges.atMs))
      .limit(ROWS_MAX);
    const told = this.#toldChanges;
    this.#toldChanges = new Set(rows.map(changeId));
    for (const { workspace: _, ...change } of rows.toReversed()) {
      // What is there when the stream begins may have been flushed while nobody listened; older ones were told before.
      if (told === null ? change.atMs <= nowMs - FLUSHED_WITHIN_MS : told.has(changeId(change))) continue;
      await this.#stream.writeSSE({ event: "change", data: JSON.stringify(change) });
    }
  }

  async fleet(view: FleetView): Promise<void> {
    const clusters = view.clusters.map(({ cluster, draining, reservedMemoryBytes, vms }) => ({
      cluster,
      draining,
      reservedMemoryBytes,
      vms: vms.map(({ vm, lastHeartbeatMs, cpuLoad, memoryUsedBytes, memoryBytes, executions, warm, starting }) => ({
        vm,
        lastHeartbeatMs,
        cpuLoad,
        memoryUsedBytes,
        memoryBytes,
        executions,
        warm,
        starting,
      })),
    }));
    const data = JSON.stringify({ mode: view.policy.mode, clusters });
    if (data === this.#fleet) return;
    this.#fleet = data;
    await this.#stream.writeSSE({ event: "fleet", data });
  }
}

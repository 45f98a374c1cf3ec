// GET /v1/events: what happens, as server-sent events, read by `fetch` (which can send the key). In: nothing, or the id after
// which to go on (`Last-Event-ID`). Out: `allocation`, `outcome`, `change` and `fleet` events, at most some seconds old.
// Each stream looks once a second at what is there for all readers anyway; it ends after some minutes and is opened again.
import { and, asc, desc, eq, gt } from "drizzle-orm";
import { drizzle } from "drizzle-orm/d1";
import { Hono } from "hono";
import { type SSEStreamingApi, streamSSE } from "hono/streaming";
import type { FleetView } from "../../core/fleet.ts";
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
/** The GraphWriter's rows reach D1 within it (writer/state.ts), ms. */
const FLUSHED_WITHIN_MS = 300_000;

const changeId = ({ root, atMs }: { root: string; atMs: number }) => `${atMs} ${root}`;

export const eventRoutes = new Hono<AppEnv>();

eventRoutes.get("/v1/events", requireScope("read", "operate"), (c) => {
  const { workspace } = c.get("key");
  const after = c.req.header("last-event-id") ?? timePrefix(Date.now());
  const look = (nowMs: number) => fleetViewFor(c.env, workspace, c.executionCtx, nowMs);
  return streamSSE(c, async (stream) => {
    const reader = new Reader(c.env.DB, workspace, after, stream);
    const untilMs = Date.now() + STREAM_MS;
    await stream.writeSSE({ event: "hello", data: JSON.stringify({ lookEveryMs: LOOK_EVERY_MS }) });
    while (!stream.aborted && !stream.closed && Date.now() < untilMs) {
      await reader.allocations();
      await reader.outcomes();
      await reader.changes();
      await reader.fleet(await look(Date.now()));
      await stream.sleep(LOOK_EVERY_MS);
    }
  });
});

class Reader {
  readonly #db: Env["DB"];
  readonly #workspace: string;
  readonly #stream: SSEStreamingApi;
  #after: string;
  /** Outcomes come with the time at which they happened, in any order: told by id. */
  #told: Set<string> | null = null;
  #fleet = "";
  /** Changes come with the time at which the run ended that showed them, in any order too. */
  #toldChanges: Set<string> | null = null;

  constructor(db: Env["DB"], workspace: string, after: string, stream: SSEStreamingApi) {
    this.#db = db;
    this.#workspace = workspace;
    this.#after = after;
    this.#stream = stream;
  }

  async allocations(): Promise<void> {
    const rows = await drizzle(this.#db)
      .select()
      .from(allocations)
      .where(and(eq(allocations.workspace, this.#workspace), gt(allocations.allocationId, this.#after)))
      .orderBy(asc(allocations.allocationId))
      .limit(ROWS_MAX);
    for (const { workspace: _, answer, ...row } of rows) {
      this.#after = row.allocationId;
      await this.#stream.writeSSE({
        event: "allocation",
        id: row.allocationId,
        data: JSON.stringify({ ...answer, ...row }),
      });
    }
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

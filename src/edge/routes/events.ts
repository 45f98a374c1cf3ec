// GET /v1/events: what happens, as server-sent events, read by `fetch` (which can send the key). In: nothing, or the id of an event
// after which to go on (`Last-Event-ID`). Out: `allocation`, `outcome`, `change` and `fleet` events, at most some seconds old.
// Each stream looks once a second at what was written since (event-log.ts); it ends after some minutes and is opened again, and as soon as its key
// is revoked.
import { Hono } from "hono";
import { type SSEStreamingApi, streamSSE } from "hono/streaming";
import type { FleetView } from "../../core/fleet.ts";
import type { AppEnv } from "../app.ts";
import { grantOf, requireScope } from "../auth.ts";
import { changesSince, eventsAfter, latestMark, type Mark, markOfAllocation, type Told } from "../event-log.ts";
import { fleetViewFor } from "../fleet-cache.ts";

const LOOK_EVERY_MS = 1_000;
/** A stream's life, ms: the reader opens it again with the last id, and nothing is left behind where it does not. */
const STREAM_MS = 300_000;
/** A change of the workflow is told to who comes so soon after it, ms. */
const CHANGES_NEW_MS = 300_000;

export const eventRoutes = new Hono<AppEnv>();

eventRoutes.get("/v1/events", requireScope("read", "operate"), (c) => {
  const { workspace } = c.get("key");
  const lastId = c.req.header("last-event-id") ?? null;
  return streamSSE(c, async (stream) => {
    const reader = new Reader(c.env.DB, workspace, stream);
    const untilMs = Date.now() + STREAM_MS;
    await reader.begin(lastId);
    while (!stream.aborted && !stream.closed && Date.now() < untilMs) {
      if ((await grantOf(c.env.DB, c.req.header("authorization"))) === null) return;
      await reader.events();
      await reader.fleet(await fleetViewFor(c.env, workspace, c.executionCtx, Date.now()));
      await stream.sleep(LOOK_EVERY_MS);
    }
  });
});

class Reader {
  readonly #db: D1Database;
  readonly #workspace: string;
  readonly #stream: SSEStreamingApi;
  #mark: Mark = { seq: 0, position: null };
  #fleet = "";

  constructor(db: D1Database, workspace: string, stream: SSEStreamingApi) {
    this.#db = db;
    this.#workspace = workspace;
    this.#stream = stream;
  }

  /** What is there already is history, but for what came after the event that the reader had last, and for changes of just now. */
  async begin(lastId: string | null): Promise<void> {
    const known = lastId === null ? null : await this.#markOf(lastId);
    this.#mark = known ?? (await latestMark(this.#db, this.#workspace));
    const data = JSON.stringify({ lookEveryMs: LOOK_EVERY_MS });
    await this.#stream.writeSSE({ event: "hello", id: idOf(this.#mark), data });
    if (known !== null) return;
    for (const change of await changesSince(this.#db, this.#workspace, Date.now() - CHANGES_NEW_MS, this.#mark))
      await this.#tell(change);
  }

  /** All that was written since, page by page. */
  async events(): Promise<void> {
    for (let isAll = false; !isAll && !this.#stream.aborted; ) {
      const { told, mark, ...page } = await eventsAfter(this.#db, this.#workspace, this.#mark);
      for (const one of told) await this.#tell(one);
      this.#mark = mark;
      isAll = page.isAll;
    }
  }

  async #tell(told: Told): Promise<void> {
    const data = JSON.stringify(
      told.kind === "allocation" ? { ...told.row.answer, ...told.row, answer: undefined } : told.row,
    );
    await this.#stream.writeSSE({ event: told.kind, id: idOf(told), data });
  }

  /** Null: of no event that is kept. */
  async #markOf(id: string): Promise<Mark | null> {
    const [, seq, position] = /^(\d{1,15})(?:-(\d{1,9}))?$/.exec(id) ?? [];
    if (seq === undefined) return markOfAllocation(this.#db, this.#workspace, id);
    return { seq: Number(seq), position: position === undefined ? null : Number(position) };
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

/** Of an event, or of all of a batch. */
function idOf({ seq, position }: Mark): string {
  return position === null ? String(seq) : `${seq}-${position}`;
}

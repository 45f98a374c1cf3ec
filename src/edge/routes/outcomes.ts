// GET /v1/outcomes: what became of every preparation, fresh: hubs bring what D1 does not have yet before it is read.
import { desc, eq, sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/d1";
import { Hono } from "hono";
import type { OutcomesAnswer } from "../../protocol.ts";
import type { AppEnv } from "../app.ts";
import { requireScope } from "../auth.ts";
import type { Env } from "../env.ts";
import { queryNumber } from "../problem.ts";
import { outcomes, outcomeTotals } from "../schema/control.ts";

const RECENT_DEFAULT = 50;
const RECENT_MAX = 1_000;
/** More hubs than this are not waited for: their outcomes are at most some seconds old. */
const HUBS_FLUSHED_MAX = 64;

export const outcomeRoutes = new Hono<AppEnv>();

outcomeRoutes.get("/v1/outcomes", requireScope("read", "operate"), async (c) => {
  const limit = queryNumber(c, "limit", RECENT_DEFAULT, 0, RECENT_MAX);
  if (!limit.ok) return limit.response;
  const { workspace } = c.get("key");
  await flushHubs(c.env, workspace);
  const db = drizzle(c.env.DB);
  const [totals, recent] = await db.batch([
    db
      .select({
        kind: outcomeTotals.kind,
        outcome: outcomeTotals.outcome,
        count: sql<number>`sum(${outcomeTotals.count})`,
        bytes: sql<number>`sum(${outcomeTotals.bytes})`,
        gbSeconds: sql<number>`sum(${outcomeTotals.gbSeconds})`,
        savedMs: sql<number>`sum(${outcomeTotals.savedMs})`,
      })
      .from(outcomeTotals)
      .where(eq(outcomeTotals.workspace, workspace))
      .groupBy(outcomeTotals.kind, outcomeTotals.outcome),
    db
      .select()
      .from(outcomes)
      .where(eq(outcomes.workspace, workspace))
      .orderBy(desc(outcomes.atMs))
      .limit(Math.floor(limit.value)),
  ]);
  const answer: OutcomesAnswer = { totals, recent: recent.map(({ workspace: _, ...outcome }) => outcome) };
  return c.json(answer);
});

/** A hub that is down has its outcomes still and brings them later. */
export async function flushHubs(env: Pick<Env, "FLEET" | "CLUSTER_HUB">, workspace: string): Promise<void> {
  const clusters = await env.FLEET.getByName(workspace).clusterNames(workspace);
  const flushes = clusters
    .slice(0, HUBS_FLUSHED_MAX)
    .map((cluster) => env.CLUSTER_HUB.getByName(`${workspace}/${cluster}`).flush());
  for (const flush of await Promise.allSettled(flushes)) {
    if (flush.status === "rejected") console.warn(`a hub's outcomes are not in D1 yet: ${flush.reason}`);
  }
}

// Keys: made, listed and revoked by `admin`. A key's secret is told once, in the answer that makes it.
import { desc, eq } from "drizzle-orm";
import { drizzle } from "drizzle-orm/d1";
import { Hono } from "hono";
import { KeyRequest, type KeysAnswer } from "../../protocol.ts";
import type { AppEnv } from "../app.ts";
import { forgetKey, requireScope } from "../auth.ts";
import { newKey } from "../key-format.ts";
import { problem, readJson } from "../problem.ts";
import { keys } from "../schema/control.ts";

/** Keys told by one list: more than one per VM of a large fleet. */
const KEYS_LISTED_MAX = 10_000;

export const keyRoutes = new Hono<AppEnv>();

keyRoutes.post("/v1/keys", requireScope("admin"), async (c) => {
  const body = await readJson(c, KeyRequest);
  if (!body.ok) return body.response;
  const { name, scopes, cluster = null, vm = null } = body.value;
  const { keyId, key, secretSha256 } = await newKey();
  const { workspace } = c.get("key");
  await drizzle(c.env.DB)
    .insert(keys)
    .values({ keyId, workspace, name, scopes, cluster, vm, secretSha256, createdMs: Date.now() });
  return c.json({ keyId, key }, 201);
});

keyRoutes.get("/v1/keys", requireScope("admin"), async (c) => {
  const rows = await drizzle(c.env.DB)
    .select({
      keyId: keys.keyId,
      name: keys.name,
      scopes: keys.scopes,
      cluster: keys.cluster,
      vm: keys.vm,
      createdMs: keys.createdMs,
      revokedMs: keys.revokedMs,
    })
    .from(keys)
    .where(eq(keys.workspace, c.get("key").workspace))
    .orderBy(desc(keys.createdMs))
    .limit(KEYS_LISTED_MAX);
  return c.json({ keys: rows } satisfies KeysAnswer);
});

keyRoutes.delete("/v1/keys/:keyId", requireScope("admin"), async (c) => {
  const keyId = c.req.param("keyId");
  const { meta } = await c.env.DB.prepare(
    "UPDATE keys SET revoked_ms = ?3 WHERE workspace = ?1 AND key_id = ?2 AND revoked_ms IS NULL",
  )
    .bind(c.get("key").workspace, keyId, Date.now())
    .run();
  forgetKey(keyId);
  if (meta.changes === 0) return problem(c, 404, "Unknown key", "No such key is in force.");
  return c.body(null, 204);
});

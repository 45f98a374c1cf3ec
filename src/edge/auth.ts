// Who is calling? In: `Authorization: Bearer fck_<id>_<secret>`. Out: the key's grant in `c.var.key`, or 401/403.
// Checked keys are kept at module scope for 60 s, so that a request costs a map lookup, not a hash and a D1 read;
// a revoked key therefore works for at most that long elsewhere, or for KEY_BELIEVED_MS while D1 cannot be asked.
import type { Context, MiddlewareHandler } from "hono";
import { LRUCache } from "lru-cache";
import { Scope } from "../protocol.ts";
import type { AppEnv, KeyGrant } from "./app.ts";
import { parseKey, sha256 } from "./key-format.ts";
import { problem } from "./problem.ts";

/** How long a checked key is believed without asking D1, ms. */
const KEY_FRESH_MS = 60_000;
/** How long it is believed where D1 cannot be asked: an outage there must not stop requests that run, ms. */
const KEY_BELIEVED_MS = 600_000;
/** Unknown ids are remembered too, for a shorter time, so that guessing does not become D1 reads, ms. */
const UNKNOWN_FRESH_MS = 10_000;
/** Keys kept per isolate: some hundred bytes each. */
const KEYS_MAX = 10_000;

/** By the whole key. Only keys that were proven come in here, so a lookup tells a guesser nothing. */
const proven = new LRUCache<string, KeyGrant>({ max: KEYS_MAX, ttl: KEY_FRESH_MS });
const believed = new LRUCache<string, KeyGrant>({ max: KEYS_MAX, ttl: KEY_BELIEVED_MS });
const unknownIds = new LRUCache<string, true>({ max: KEYS_MAX, ttl: UNKNOWN_FRESH_MS });

interface KeyRow {
  workspace: string;
  scopes: string;
  cluster: string | null;
  vm: string | null;
  secret_sha256: string;
}

/** Checks the key of every call below it. */
export const authenticate: MiddlewareHandler<AppEnv> = async (c, next) => {
  const header = c.req.header("authorization");
  if (header === undefined) return unauthorized(c, "Send `Authorization: Bearer fck_…`.");
  const grant = await grantOf(c.env.DB, header);
  if (grant === null) return unauthorized(c, "The key is unknown, malformed or revoked.");
  c.set("key", grant);
  return next();
};

/** For answers that take minutes: null once the key was revoked, as soon as a new call would be refused. */
export async function grantOf(db: D1Database, authorization: string | undefined): Promise<KeyGrant | null> {
  const presented = /^Bearer +(\S+)$/i.exec(authorization ?? "")?.[1] ?? "";
  return proven.get(presented) ?? (await prove(db, presented).catch((error) => believe(presented, error)));
}

/** 403 unless the key has one of the scopes; `admin` has all of them. */
export function requireScope(...scopes: Scope[]): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    const { scopes: held } = c.get("key");
    if (held.includes("admin") || scopes.some((scope) => held.includes(scope))) return next();
    const needed = scopes.map((scope) => `\`${scope}\``).join(" or ");
    return problem(c, 403, "Key lacks a scope", `This call needs scope ${needed}; the key has ${held.join(", ")}.`);
  };
}

/** Calls under /v1/agents/:cluster/:vm: an agent's key opens its own VM only, an operator's key any. */
export const requireOwnVm: MiddlewareHandler<AppEnv> = async (c, next) => {
  const { scopes, cluster, vm } = c.get("key");
  if (scopes.includes("admin") || scopes.includes("operate")) return next();
  if (!scopes.includes("agent"))
    return problem(c, 403, "Key lacks a scope", `This call needs scope \`agent\`; the key has ${scopes.join(", ")}.`);
  if (cluster === c.req.param("cluster") && vm === c.req.param("vm")) return next();
  return problem(c, 403, "Another VM's call", `This agent's key belongs to VM ${cluster}/${vm}.`);
};

/** A key that was taken back stops at once in this isolate. */
export function forgetKey(keyId: string): void {
  for (const cache of [proven, believed])
    for (const key of cache.keys()) if (parseKey(key)?.keyId === keyId) cache.delete(key);
}

/** What D1 last said of the key, for want of what it says now. */
function believe(presented: string, error: unknown): KeyGrant {
  const grant = believed.get(presented);
  if (grant === undefined) throw error;
  console.warn(`key ${grant.keyId} cannot be checked, believed: ${error}`);
  proven.set(presented, grant);
  return grant;
}

async function prove(db: D1Database, presented: string): Promise<KeyGrant | null> {
  const parsed = parseKey(presented);
  if (parsed === null || unknownIds.has(parsed.keyId)) return null;
  const row = await db
    .prepare("SELECT workspace, scopes, cluster, vm, secret_sha256 FROM keys WHERE key_id = ?1 AND revoked_ms IS NULL")
    .bind(parsed.keyId)
    .first<KeyRow>();
  if (row === null) {
    believed.delete(presented);
    unknownIds.set(parsed.keyId, true);
    return null;
  }
  const hash = await sha256(parsed.secret);
  if (!crypto.subtle.timingSafeEqual(hash, bytesOfHex(row.secret_sha256))) return null;
  const grant: KeyGrant = {
    keyId: parsed.keyId,
    workspace: row.workspace,
    scopes: Scope.array().parse(JSON.parse(row.scopes)),
    cluster: row.cluster,
    vm: row.vm,
  };
  proven.set(presented, grant);
  believed.set(presented, grant);
  return grant;
}

function bytesOfHex(text: string): Uint8Array {
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

function unauthorized(c: Context, detail: string): Response {
  const response = problem(c, 401, "Key needed", detail);
  response.headers.set("www-authenticate", "Bearer");
  return response;
}

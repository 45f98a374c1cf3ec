// Keys derived from the one secret FORECHAIN_SECRET: HMAC-SHA-256(secret, purpose). A derived key tells nothing of the
// secret or of its siblings, so a VM's key can be given to its agent and a workspace's key opens no other workspace.
import { LRUCache } from "lru-cache";

/** Derived keys kept per isolate: one per workspace and one per VM in use. */
const DERIVED_MAX = 20_000;
const HMAC = { name: "HMAC", hash: "SHA-256" } as const;
const encoder = new TextEncoder();

const derived = new LRUCache<string, Promise<DerivedKey>>({ max: DERIVED_MAX });

export interface DerivedKey {
  /** For Web Crypto's sign and verify. */
  hmac: CryptoKey;
  /** The same 32 bytes as base64url, for a holder elsewhere. */
  text: string;
}

/** Signs continuations of one workspace. */
export function continuationKey(secret: string, workspace: string): Promise<DerivedKey> {
  return derive(secret, `continuation\n${workspace}`);
}

/** Signs calls to one VM's /invoke; its agent is given the same key with every heartbeat. */
export function vmKey(secret: string, workspace: string, cluster: string, vm: string): Promise<DerivedKey> {
  return derive(secret, `vm\n${workspace}\n${cluster}\n${vm}`);
}

/** Signs the events that a workspace's webhook receives. */
export function webhookKey(secret: string, workspace: string): Promise<DerivedKey> {
  return derive(secret, `webhook\n${workspace}`);
}

function derive(secret: string, purpose: string): Promise<DerivedKey> {
  const name = `${purpose}\n${secret}`;
  let key = derived.get(name);
  if (!key) {
    key = deriveNow(secret, purpose);
    derived.set(name, key);
    key.catch(() => derived.delete(name));
  }
  return key;
}

async function deriveNow(secret: string, purpose: string): Promise<DerivedKey> {
  if (!secret) throw new Error("FORECHAIN_SECRET is not set: `wrangler secret put FORECHAIN_SECRET`");
  const root = await crypto.subtle.importKey("raw", encoder.encode(secret), HMAC, false, ["sign"]);
  const bytes = new Uint8Array(await crypto.subtle.sign("HMAC", root, encoder.encode(purpose)));
  const hmac = await crypto.subtle.importKey("raw", bytes, HMAC, false, ["sign", "verify"]);
  return { hmac, text: toBase64Url(bytes) };
}

export function toBase64(bytes: Uint8Array): string {
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary);
}

/** Null where the text is not base64. */
export function fromBase64(text: string): Uint8Array<ArrayBuffer> | null {
  try {
    const binary = atob(text);
    return Uint8Array.from(binary, (character) => character.charCodeAt(0));
  } catch {
    return null; // a character or a length that no encoding has
  }
}

export function toBase64Url(bytes: Uint8Array): string {
  return toBase64(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** Null where the text is not base64url. */
export function fromBase64Url(text: string): Uint8Array<ArrayBuffer> | null {
  return /^[A-Za-z0-9_-]*$/.test(text) ? fromBase64(text.replaceAll("-", "+").replaceAll("_", "/")) : null;
}

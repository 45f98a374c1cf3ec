// API keys: `fck_<id>_<secret>`. The database holds the SHA-256 of the secret only; a key is shown once.
// Web Crypto alone, so that Node makes the first key of a workspace with the same code.

const ALPHABET = "0123456789abcdefghijkmnpqrstuvwxyz";
const ID_CHARACTERS = 12;
/** 256 bits: no stretching is needed for a secret that nobody chose. */
const SECRET_BYTES = 32;
const KEY = /^fck_([0-9a-z]{12})_([0-9a-f]{64})$/;

interface NewKey {
  keyId: string;
  /** The whole key, for its holder. */
  key: string;
  /** Hex, for column keys.secret_sha256. */
  secretSha256: string;
}

/** A fresh random key. Insert it as `keys(key_id, workspace, name, scopes, cluster, vm, secret_sha256, created_ms)`. */
export async function newKey(): Promise<NewKey> {
  const idBytes = crypto.getRandomValues(new Uint8Array(ID_CHARACTERS));
  const keyId = Array.from(idBytes, (byte) => ALPHABET[byte % ALPHABET.length]).join("");
  const secret = hex(crypto.getRandomValues(new Uint8Array(SECRET_BYTES)));
  return { keyId, key: `fck_${keyId}_${secret}`, secretSha256: hex(await sha256(secret)) };
}

/** Id and secret of a key, or null where it does not have the form of one. */
export function parseKey(key: string): { keyId: string; secret: string } | null {
  const match = KEY.exec(key);
  return match ? { keyId: match[1]!, secret: match[2]! } : null;
}

export async function sha256(text: string): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
}

function hex(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
}

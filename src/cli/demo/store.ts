// The origin store of the demo: objects of fixed sizes, whose bytes follow from their names, so that nothing is kept on disk
// and every run reads the same. One listening port per cluster, each behind that cluster's link.
import { createCipheriv, createHash } from "node:crypto";
import { type Answer, type Link, type LinkedServer, serveBehind } from "./link.ts";

/** Sizes by kind of object; anything else is a 404. */
const SIZES: { pattern: RegExp; bytes: number }[] = [
  { pattern: /^\/models\/[a-z-]+\.bin$/, bytes: 1_048_576 },
  { pattern: /^\/videos\/[a-z0-9-]+\/[a-z]+\.bin$/, bytes: 1_400_000 },
  { pattern: /^\/orders\/[a-z0-9-]+\/[a-z]+\.bin$/, bytes: 900_000 },
  { pattern: /^\/reports\/[a-z0-9-]+\/[a-z]+\.bin$/, bytes: 1_200_000 },
];
/** Generated bodies are kept, so that a repeated read costs no CPU: at most about 64 MiB. */
const KEPT_MAX = 64;

export class OriginStore {
  /** Bytes asked of the origin, over all clusters. */
  servedBytes = 0;
  readonly #kept = new Map<string, Buffer>();

  listen(link: Link): Promise<LinkedServer> {
    return serveBehind(link, (method, url) => this.#answer(method, url.pathname));
  }

  #answer(method: string, path: string): Answer {
    const body = this.#object(path);
    if (body === null || (method !== "GET" && method !== "HEAD")) {
      return { status: body === null ? 404 : 405, headers: {}, body: Buffer.alloc(0) };
    }
    if (method === "GET") this.servedBytes += body.length;
    const etag = `"${createHash("sha256").update(path).digest("hex").slice(0, 16)}"`;
    return { status: 200, headers: { "content-type": "application/octet-stream", etag }, body };
  }

  #object(path: string): Buffer | null {
    const known = this.#kept.get(path);
    if (known !== undefined) return known;
    const size = SIZES.find(({ pattern }) => pattern.test(path));
    if (size === undefined) return null;
    const body = bytesNamed(path, size.bytes);
    const oldest = this.#kept.size >= KEPT_MAX ? this.#kept.keys().next().value : undefined;
    if (oldest !== undefined) this.#kept.delete(oldest);
    this.#kept.set(path, body);
    return body;
  }
}

/** The key stream of a cipher: as random as any, the same for a name, and a hundred times as fast as a generator of numbers. */
function bytesNamed(name: string, bytes: number): Buffer {
  const digest = createHash("sha256").update(name).digest();
  const cipher = createCipheriv("aes-128-ctr", digest.subarray(0, 16), digest.subarray(16));
  return cipher.update(Buffer.alloc(bytes));
}

// One object's bytes from where it is stored. In: a URI. Out: a Source (length if known, checksums if told, a stream), or a
// failure by reason. Nothing is written here: cache.ts does that, and checks length and checksums of whatever comes.
import { createReadStream } from "node:fs";
import { realpath, stat } from "node:fs/promises";
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { sep } from "node:path";
import { fileURLToPath } from "node:url";
import type { ObjectsConfig } from "./config.ts";
import { AddressRefused, checkUri, guardedLookup } from "./guard.ts";

export interface Checksum {
  algorithm: "sha256" | "sha512" | "md5";
  base64: string;
}

export interface Source {
  /** Null where the store does not say. */
  bytes: number | null;
  checksums: Checksum[];
  /** Ends early by throwing a FetchError. */
  body: AsyncIterable<Buffer>;
}

export type FetchReason = "refused" | "not_found" | "store_error" | "stalled" | "broken" | "unreachable";

export class FetchError extends Error {
  readonly reason: FetchReason;
  constructor(reason: FetchReason, detail: string) {
    super(detail);
    this.reason = reason;
  }
}

export interface Fetcher {
  /** Throws FetchError. */
  open(uri: string, signal: AbortSignal): Promise<Source>;
}

const REDIRECTS_MAX = 5;
/** Of one host: enough for a page of objects at once, far below what a small store minds. */
const SOCKETS_PER_HOST_MAX = 16;

export function createFetcher(config: ObjectsConfig): Fetcher {
  const lookup = guardedLookup(config);
  const agents = {
    "http:": new HttpAgent({ keepAlive: true, maxSockets: SOCKETS_PER_HOST_MAX, lookup }),
    "https:": new HttpsAgent({ keepAlive: true, maxSockets: SOCKETS_PER_HOST_MAX, lookup }),
  };

  async function open(uri: string, signal: AbortSignal): Promise<Source> {
    let current = mirrored(uri, config.mirrors);
    for (let hop = 0; hop <= REDIRECTS_MAX; hop++) {
      const checked = checkUri(current, config);
      if (!checked.ok) throw new FetchError("refused", hop === 0 ? checked.detail : `redirect: ${checked.detail}`);
      const { url } = checked;
      if (url.protocol === "file:") {
        // A store must not point us at our own disk.
        if (hop > 0) throw new FetchError("refused", "redirect to a file");
        return openFile(url, config.fileRoots);
      }
      const response = await ask(url, signal);
      const { statusCode = 0 } = response;
      if (statusCode < 300 || statusCode >= 400) return sourceOf(response, config.stallMs);
      response.resume();
      const { location } = response.headers;
      if (location === undefined || !URL.canParse(location, url.href)) {
        throw new FetchError("store_error", `answered ${statusCode} without a usable location`);
      }
      current = new URL(location, url).href;
    }
    throw new FetchError("store_error", `more than ${REDIRECTS_MAX} redirects`);
  }

  function ask(url: URL, signal: AbortSignal): Promise<IncomingMessage> {
    const secure = url.protocol === "https:";
    return new Promise((resolve, reject) => {
      const request = (secure ? httpsRequest : httpRequest)(url, {
        agent: agents[secure ? "https:" : "http:"],
        // Stored as it is at the URI: a length and a checksum belong to these bytes.
        headers: { "accept-encoding": "identity", "user-agent": "forechain-agent" },
        signal,
      });
      const timer = setTimeout(() => {
        request.destroy(new FetchError("stalled", `no answer within ${config.stallMs} ms`));
      }, config.stallMs);
      request.once("response", (response) => {
        clearTimeout(timer);
        resolve(response);
      });
      request.once("error", (error) => {
        clearTimeout(timer);
        reject(fetchError(error));
      });
      request.end();
    });
  }

  return { open };
}

/** The longest start decides. What it leads to is checked like any URI. */
function mirrored(uri: string, mirrors: ObjectsConfig["mirrors"]): string {
  let longest = "";
  for (const start of Object.keys(mirrors)) if (uri.startsWith(start) && start.length > longest.length) longest = start;
  return longest === "" ? uri : mirrors[longest] + uri.slice(longest.length);
}

function sourceOf(response: IncomingMessage, stallMs: number): Source {
  const { statusCode = 0, headers } = response;
  const failure =
    statusCode === 404 || statusCode === 410
      ? new FetchError("not_found", `the store answered ${statusCode}`)
      : statusCode !== 200
        ? new FetchError("store_error", `the store answered ${statusCode}`)
        : headers["content-encoding"] !== undefined && headers["content-encoding"] !== "identity"
          ? new FetchError("store_error", `the store insists on content-encoding ${headers["content-encoding"]}`)
          : null;
  if (failure !== null) {
    response.destroy();
    throw failure;
  }
  const length = headers["content-length"];
  return {
    bytes: length === undefined ? null : Number(length),
    checksums: checksumsOf(headers),
    body: withStallLimit(response, stallMs),
  };
}

/** Only the wait for the store counts: a reader that is held back by the bandwidth cap is no stall. */
async function* withStallLimit(response: IncomingMessage, stallMs: number): AsyncGenerator<Buffer> {
  const chunks = response[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  try {
    for (;;) {
      const timer = setTimeout(() => {
        response.destroy(new FetchError("stalled", `no bytes for ${stallMs} ms`));
      }, stallMs);
      const chunk = await chunks.next().finally(() => clearTimeout(timer));
      if (chunk.done) return;
      yield chunk.value;
    }
  } catch (error) {
    throw fetchError(error);
  } finally {
    response.destroy();
  }
}

/** RFC 9530, its older form, and what object stores send. A multipart checksum (`…-3`) is not of the whole: left out. */
function checksumsOf(headers: IncomingMessage["headers"]): Checksum[] {
  const found: Checksum[] = [];
  for (const name of ["repr-digest", "content-digest", "digest"]) {
    const value = headers[name];
    if (typeof value !== "string") continue;
    for (const match of value.matchAll(/(sha-256|sha-512|md5)=:?([A-Za-z0-9+/]+=*):?/gi)) {
      found.push({ algorithm: match[1]!.toLowerCase().replace("-", "") as Checksum["algorithm"], base64: match[2]! });
    }
  }
  const md5 = headers["content-md5"];
  if (typeof md5 === "string") found.push({ algorithm: "md5", base64: md5 });
  const sha256 = headers["x-amz-checksum-sha256"];
  if (typeof sha256 === "string" && !sha256.includes("-")) found.push({ algorithm: "sha256", base64: sha256 });
  return found;
}

async function openFile(url: URL, roots: readonly string[]): Promise<Source> {
  try {
    if (url.host !== "") throw new FetchError("refused", "a file URI with a host");
    // Links are resolved first: what counts is where the bytes are.
    const path = await realpath(fileURLToPath(url));
    const allowed = await Promise.all(roots.map((root) => realpath(root).catch(() => null)));
    if (!allowed.some((root) => root !== null && path.startsWith(root.endsWith(sep) ? root : root + sep))) {
      throw new FetchError("refused", "the file is outside the allowed folders");
    }
    const found = await stat(path);
    if (!found.isFile()) throw new FetchError("refused", "not a regular file");
    return { bytes: found.size, checksums: [], body: createReadStream(path) };
  } catch (error) {
    throw fetchError(error);
  }
}

export function fetchError(error: unknown): FetchError {
  if (error instanceof FetchError) return error;
  if (error instanceof AddressRefused) return new FetchError("refused", error.message);
  if (!(error instanceof Error)) throw error;
  const { code } = error as NodeJS.ErrnoException;
  if (code === "ENOENT" || code === "ENOTDIR") return new FetchError("not_found", "no such file");
  if (code === "EACCES") return new FetchError("refused", "the file may not be read");
  if (code === "ECONNREFUSED" || code === "ENOTFOUND" || code === "EAI_AGAIN" || code === "EHOSTUNREACH") {
    return new FetchError("unreachable", error.message);
  }
  return new FetchError("broken", error.message || String(code));
}

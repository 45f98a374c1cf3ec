// Objects by http(s). In: a URL that was checked. Out: a Source. Every redirect is checked like a URI of its own, every address
// that a name leads to before it is connected to. A broken body is continued by range if the store names its versions.
import { Agent as HttpAgent, request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import type { LookupFunction } from "node:net";
import type { ObjectsConfig } from "../config.ts";
import { checkUri, guardedLookup } from "../guard.ts";
import { type Checksum, FetchError, fetchError, resuming, type Source } from "./source.ts";

const REDIRECTS_MAX = 5;
/** Of one host, beside those of prefetches: enough for a page of objects at once, far below what a small store minds. */
const TASK_SOCKETS_PER_HOST_MAX = 16;

export class HttpFetcher {
  readonly #config: ObjectsConfig;
  readonly #agents: { "http:": HttpAgent; "https:": HttpsAgent };

  constructor(config: ObjectsConfig, lookup: LookupFunction = guardedLookup(config)) {
    this.#config = config;
    // Prefetches that stand still keep their connection: a task's own load must not wait for one of theirs.
    const maxSockets = TASK_SOCKETS_PER_HOST_MAX + config.prefetchConcurrency;
    const options = { keepAlive: true, maxSockets, lookup };
    this.#agents = { "http:": new HttpAgent(options), "https:": new HttpsAgent(options) };
  }

  async open(url: URL, signal: AbortSignal, etag: string | null): Promise<Source | "unchanged"> {
    const conditional: Record<string, string> = etag === null ? {} : { "if-none-match": etag };
    let current = url;
    for (let hop = 0; hop <= REDIRECTS_MAX; hop++) {
      const response = await this.#ask(current, signal, conditional);
      const { statusCode = 0, headers } = response;
      if (statusCode === 304 && etag !== null) {
        response.resume();
        return "unchanged";
      }
      if (statusCode < 300 || statusCode >= 400) return this.#sourceOf(current, response, signal);
      // Not read: a redirect may have a body without end.
      response.destroy();
      current = this.#redirected(current, statusCode, headers.location);
    }
    throw new FetchError("store_error", `more than ${REDIRECTS_MAX} redirects`);
  }

  #redirected(from: URL, status: number, location: string | undefined): URL {
    if (location === undefined || !URL.canParse(location, from.href)) {
      throw new FetchError("store_error", `answered ${status} without a usable location`);
    }
    const checked = checkUri(new URL(location, from).href, this.#config);
    if (!checked.ok) throw new FetchError("refused", `redirect: ${checked.detail}`);
    // A store must not point us at our own disk, nor at what our credentials open.
    if (checked.url.protocol !== "http:" && checked.url.protocol !== "https:") {
      throw new FetchError("refused", `redirect to ${checked.url.protocol}`);
    }
    return checked.url;
  }

  #sourceOf(url: URL, response: IncomingMessage, signal: AbortSignal): Source {
    const failure = failureOf(response);
    if (failure !== null) {
      response.destroy();
      throw failure;
    }
    const { headers } = response;
    const { etag = null } = headers;
    // A weak etag names what is equivalent, not the same bytes.
    const version = etag !== null && !etag.startsWith("W/") ? etag : null;
    const again = version === null ? null : (fromByte: number) => this.#askRest(url, fromByte, version, signal);
    return {
      bytes: headers["content-length"] === undefined ? null : Number(headers["content-length"]),
      checksums: checksumsOf(headers),
      etag,
      freshForMs: freshForMs(headers["cache-control"]),
      body: resuming(response, this.#config.stallMs, again, signal),
    };
  }

  async #askRest(url: URL, fromByte: number, version: string, signal: AbortSignal): Promise<IncomingMessage> {
    const rest: Record<string, string> = { range: `bytes=${fromByte}-`, "if-range": version };
    // Nothing has come yet: the whole is what is missing, and stores without ranges have that too.
    const response = await this.#ask(url, signal, fromByte === 0 ? {} : rest);
    const { etag = version, "content-encoding": encoding = "identity", "content-range": range = "" } = response.headers;
    const continues = response.statusCode === 206 && range.startsWith(`bytes ${fromByte}-`);
    const isWhole = response.statusCode === 200 && fromByte === 0;
    // A store that does not heed if-range would give the other half of other bytes.
    if ((continues || isWhole) && etag === version && encoding === "identity") return response;
    response.destroy();
    throw new FetchError(
      "store_error",
      `cannot be continued from byte ${fromByte}: the store answered ${response.statusCode}`,
    );
  }

  #ask(url: URL, signal: AbortSignal, headers: Record<string, string>): Promise<IncomingMessage> {
    const secure = url.protocol === "https:";
    return new Promise((resolve, reject) => {
      const request = (secure ? httpsRequest : httpRequest)(url, {
        agent: this.#agents[secure ? "https:" : "http:"],
        // Stored as it is at the URI: a length and a checksum belong to these bytes.
        headers: { "accept-encoding": "identity", "user-agent": "forechain-agent", ...headers },
        signal,
      });
      const timer = setTimeout(() => {
        request.destroy(new FetchError("stalled", `no answer within ${this.#config.stallMs} ms`));
      }, this.#config.stallMs);
      let answered = false;
      request.once("response", (response) => {
        answered = true;
        clearTimeout(timer);
        resolve(response);
      });
      // Of the body's failures its reader hears.
      request.on("error", (error: NodeJS.ErrnoException) => {
        clearTimeout(timer);
        if (answered) return;
        // The store closed an idle connection just as it was used again: it was not asked. Each time one idle connection fewer is left.
        if (request.reusedSocket && error.code === "ECONNRESET") resolve(this.#ask(url, signal, headers));
        else reject(fetchError(error));
      });
      request.end();
    });
  }
}

function failureOf({ statusCode = 0, headers }: IncomingMessage): FetchError | null {
  if (statusCode === 404 || statusCode === 410) return new FetchError("not_found", `the store answered ${statusCode}`);
  if (statusCode !== 200) return new FetchError("store_error", `the store answered ${statusCode}`);
  const encoding = headers["content-encoding"] ?? "identity";
  if (encoding === "identity") return null;
  return new FetchError("store_error", `the store insists on content-encoding ${encoding}`);
}

/** RFC 9530, its older form, and what object stores send. A multipart checksum (`…-3`) is not of the whole: left out. */
function checksumsOf(headers: IncomingHttpHeaders): Checksum[] {
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

/** Where a store says nothing, an object is what its URI names, for ever. */
export function freshForMs(cacheControl: string | undefined): number | null {
  if (cacheControl === undefined) return null;
  const directives = cacheControl
    .toLowerCase()
    .split(",")
    .map((directive) => directive.trim());
  if (directives.includes("no-cache") || directives.includes("no-store")) return 0;
  if (directives.includes("immutable")) return null;
  const seconds = directives
    .map((directive) => /^max-age=(\d+)$/.exec(directive)?.[1])
    .find((age) => age !== undefined);
  return seconds === undefined ? null : Number(seconds) * 1000;
}

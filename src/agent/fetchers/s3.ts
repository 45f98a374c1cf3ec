// Objects of S3 and what speaks its protocol. In: s3://bucket/key of an allowed bucket. Out: a Source. Credentials are the agent's
// own, found as every AWS tool finds them (environment, profile, role): no command and no URI carries any.
import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import type { Readable } from "node:stream";
import type { GetObjectCommandInput, GetObjectCommandOutput, S3Client } from "@aws-sdk/client-s3";
import type { ObjectsConfig } from "../config.ts";
import { guardedLookup } from "../guard.ts";
import { freshForMs } from "./http.ts";
import { type Checksum, FetchError, fetchError, resuming, type Source } from "./source.ts";

interface S3Fetcher {
  open(url: URL, signal: AbortSignal, etag: string | null): Promise<Source | "unchanged">;
}

/** The SDK is large: loaded when the first object is asked for, and not by agents that use none. */
export function createS3Fetcher(config: ObjectsConfig): S3Fetcher {
  let client: Promise<{
    client: S3Client;
    get: (input: GetObjectCommandInput, signal: AbortSignal) => Promise<GetObjectCommandOutput>;
  }> | null = null;

  async function connect() {
    const { S3Client, GetObjectCommand } = await import("@aws-sdk/client-s3");
    const { endpoint, region, forcePathStyle } = config.s3!;
    // The endpoint is the operator's choice; what its name leads to is still checked.
    const hosts = endpoint === undefined ? ["*.amazonaws.com"] : [new URL(endpoint).host];
    const lookup = guardedLookup({ schemes: [], hosts });
    const made = new S3Client({
      region,
      forcePathStyle,
      ...(endpoint === undefined ? {} : { endpoint }),
      requestHandler: {
        httpAgent: new HttpAgent({ keepAlive: true, lookup }),
        httpsAgent: new HttpsAgent({ keepAlive: true, lookup }),
        connectionTimeout: config.stallMs,
        requestTimeout: config.stallMs,
        throwOnRequestTimeout: true,
      },
    });
    return {
      client: made,
      get: (input: GetObjectCommandInput, signal: AbortSignal) =>
        made.send(new GetObjectCommand(input), { abortSignal: signal }),
    };
  }

  async function open(url: URL, signal: AbortSignal, etag: string | null): Promise<Source | "unchanged"> {
    const object = { Bucket: url.hostname, Key: decodeURIComponent(url.pathname.slice(1)) };
    client ??= connect();
    const { get } = await client;
    try {
      const condition = etag === null ? {} : { IfNoneMatch: etag };
      const answer = await get({ ...object, ...condition, ChecksumMode: "ENABLED" }, signal);
      const version = answer.ETag ?? null;
      const again =
        version === null
          ? null
          : async (fromByte: number) => {
              const rest = await get({ ...object, Range: `bytes=${fromByte}-`, IfMatch: version }, signal);
              if (rest.ContentRange?.startsWith(`bytes ${fromByte}-`)) return rest.Body as Readable;
              throw new FetchError("store_error", `cannot be continued from byte ${fromByte}`);
            };
      return {
        bytes: answer.ContentLength ?? null,
        checksums: checksumsOf(answer),
        etag: version,
        freshForMs: freshForMs(answer.CacheControl),
        body: resuming(answer.Body as Readable, config.stallMs, again, signal),
      };
    } catch (error) {
      if (statusOf(error) === 304) return "unchanged";
      throw s3Error(error);
    }
  }

  return { open };
}

/** Of one whole part only: `…-3` is a checksum of checksums. */
function checksumsOf({ ChecksumSHA256: sha256, ChecksumType: type }: GetObjectCommandOutput): Checksum[] {
  if (sha256 === undefined || sha256.includes("-") || type === "COMPOSITE") return [];
  return [{ algorithm: "sha256", base64: sha256 }];
}

function statusOf(error: unknown): number | undefined {
  return (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode;
}

function s3Error(error: unknown): FetchError {
  const status = statusOf(error);
  if (status === undefined) return fetchError(error);
  const { name, message } = error as Error;
  if (status === 404) return new FetchError("not_found", `${name}: ${message}`);
  if (status === 403 || status === 401) return new FetchError("refused", `the store refused: ${name}`);
  return new FetchError("store_error", `the store answered ${status}: ${name}`);
}

// What a fetcher gives: one object's bytes as they come, with what the store told of them. cache.ts checks and keeps them.
import type { Readable } from "node:stream";
import { AddressRefused } from "../guard.ts";
import { delay } from "../transfer.ts";

export interface Checksum {
  algorithm: "sha256" | "sha512" | "md5";
  base64: string;
}

export interface Source {
  /** Null where the store does not say. */
  bytes: number | null;
  checksums: Checksum[];
  /** Names these very bytes at their store; null where it gives no such name. */
  etag: string | null;
  /** How long the store lets them be used without asking again; null: for ever. */
  freshForMs: number | null;
  /** Ends early by throwing a FetchError. */
  body: AsyncIterable<Buffer>;
}

export type FetchReason =
  | "refused"
  | "not_found"
  | "store_error"
  | "stalled"
  | "broken"
  | "unreachable"
  | "wrong_checksum";

export class FetchError extends Error {
  readonly reason: FetchReason;
  constructor(reason: FetchReason, detail: string) {
    super(detail);
    this.reason = reason;
  }
}

export interface Fetcher {
  /** `unchanged`: what the caller has under this etag is still the object. Throws FetchError. */
  open(uri: string, signal: AbortSignal, etag?: string | null): Promise<Source | "unchanged">;
}

/** Continuations of one object after its connection broke or stood still. */
const RESUMES_MAX = 3;
const RESUME_PAUSE_MS = 100;
/** Within `stallMs`: less is no transfer that anybody waits for. */
const TRICKLE_BYTES_MIN = 1_024;

/**
 * A body that goes on where it broke off. `again` asks for the rest, from a byte, of the same version, or throws; null where the
 * store gives versions no name: then two halves might not belong together.
 */
export async function* resuming(
  first: Readable,
  stallMs: number,
  again: ((fromByte: number) => Promise<Readable>) | null,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  let body = first;
  let received = 0;
  for (let resumes = 0; ; resumes++) {
    try {
      for await (const chunk of withStallLimit(body, stallMs)) {
        received += chunk.length;
        yield chunk;
      }
      return;
    } catch (error) {
      const failure = fetchError(error);
      const passing = failure.reason === "broken" || failure.reason === "stalled";
      if (again === null || !passing || resumes >= RESUMES_MAX || signal.aborted) throw failure;
      await delay(RESUME_PAUSE_MS * (resumes + 1), signal);
      body = await again(received);
    }
  }
}

/**
 * Ends what sends nothing for `stallMs`, or next to nothing: a trickle would hold a start, and a place in it, for ever.
 * Only the wait for the store counts: a reader that is held back by the bandwidth cap is no stall.
 */
async function* withStallLimit(body: Readable, stallMs: number): AsyncGenerator<Buffer> {
  const chunks = body[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  let waitedMs = 0;
  let bytes = 0;
  try {
    for (;;) {
      const timer = setTimeout(() => {
        body.destroy(new FetchError("stalled", `no bytes for ${stallMs} ms`));
      }, stallMs);
      const askedMs = performance.now();
      const chunk = await chunks.next().finally(() => clearTimeout(timer));
      if (chunk.done) return;
      waitedMs += performance.now() - askedMs;
      bytes += chunk.value.length;
      yield chunk.value;
      if (waitedMs < stallMs) continue;
      if (bytes < TRICKLE_BYTES_MIN) throw new FetchError("stalled", `${bytes} bytes in ${Math.round(waitedMs)} ms`);
      waitedMs = 0;
      bytes = 0;
    }
  } finally {
    body.destroy();
  }
}

/** Any failure of a fetch as a FetchError; programmer errors are thrown on. */
export function fetchError(error: unknown): FetchError {
  if (error instanceof FetchError) return error;
  if (error instanceof AddressRefused) return new FetchError("refused", error.message);
  if (!(error instanceof Error)) throw error;
  // The AWS SDK compares a whole object's checksum itself, and says so by its message alone.
  if (error.message.startsWith("Checksum mismatch")) return new FetchError("wrong_checksum", error.message);
  const { code } = error as NodeJS.ErrnoException;
  if (code === "ENOENT" || code === "ENOTDIR") return new FetchError("not_found", "no such file");
  // A path that no file can have: `%2f` in a file URI, half an escape in an S3 key.
  if (code === "ERR_INVALID_FILE_URL_PATH" || code === "ERR_INVALID_ARG_VALUE" || error instanceof URIError) {
    return new FetchError("refused", error.message);
  }
  if (code === "EACCES" || code === "EPERM" || code === "ELOOP")
    return new FetchError("refused", "the file may not be read");
  if (code === "ECONNREFUSED" || code === "ENOTFOUND" || code === "EAI_AGAIN" || code === "EHOSTUNREACH") {
    return new FetchError("unreachable", error.message);
  }
  return new FetchError("broken", error.message || String(code));
}

// The body of an ingest call. In: a request, gzip or not. Out: its text, or the problem to answer with.
// The *decompressed* size is what is bounded: a small gzip can hold a gigabyte.
import type { Context } from "hono";
import type { AppEnv } from "../app.ts";
import { problem } from "../problem.ts";
import { readWithin } from "../read-within.ts";

/** Twice what OTel collectors send by default, and what one isolate can hold several times, bytes. */
const INGEST_BODY_BYTES_MAX = 8 * 2 ** 20;

/** `text` decodes on each reading. */
export type Body = { ok: true; bytes: Uint8Array; readonly text: string } | { ok: false; response: Response };

export async function readBody(c: Context<AppEnv>): Promise<Body> {
  const encoding = (c.req.header("content-encoding") ?? "identity").trim().toLowerCase();
  if (encoding !== "identity" && encoding !== "gzip") {
    const detail = `content-encoding may be gzip or identity; got ${encoding.slice(0, 64)}.`;
    return { ok: false, response: problem(c, 415, "Unsupported content encoding", detail) };
  }
  const tooLarge = (): Body => {
    const detail = `The body may have at most ${INGEST_BODY_BYTES_MAX} bytes after decompression: send smaller batches.`;
    return { ok: false, response: problem(c, 413, "Body too large", detail) };
  };
  if (Number(c.req.header("content-length") ?? 0) > INGEST_BODY_BYTES_MAX) return tooLarge();
  let stream: ReadableStream<Uint8Array> | null = c.req.raw.body;
  if (stream !== null && encoding === "gzip") stream = stream.pipeThrough(new DecompressionStream("gzip"));
  const bytes = await readWithin(stream, INGEST_BODY_BYTES_MAX).catch(() => "broken" as const);
  if (bytes === "broken") {
    const what = encoding === "gzip" ? "not a whole gzip stream" : "not readable";
    return {
      ok: false,
      response: problem(c, 400, "Unreadable body", `The body is ${what}.`, [{ pointer: "", detail: what }]),
    };
  }
  if (bytes === null) return tooLarge();
  return {
    ok: true,
    bytes,
    get text() {
      return new TextDecoder().decode(bytes);
    },
  };
}

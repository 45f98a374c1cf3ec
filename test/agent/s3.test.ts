// Objects by S3's protocol, against a server that speaks it and checks every signature as S3 does.
import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SignatureV4 } from "@smithy/signature-v4";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ObjectCache } from "../../src/agent/cache.ts";
import { createFetcher } from "../../src/agent/fetchers/fetcher.ts";
import { Transfers } from "../../src/agent/transfer.ts";
import { pattern } from "./store.ts";

const CREDENTIALS = { accessKeyId: "AKIATEST", secretAccessKey: "secret-of-the-test" };
const KB = 1024;

class Sha256 {
  readonly #secret: Uint8Array | string | undefined;
  readonly #parts: (Uint8Array | string)[] = [];
  constructor(secret?: Uint8Array | string) {
    this.#secret = secret;
  }
  update(part: Uint8Array | string): void {
    this.#parts.push(part);
  }
  async digest(): Promise<Uint8Array> {
    const { createHmac } = await import("node:crypto");
    const hash = this.#secret === undefined ? createHash("sha256") : createHmac("sha256", this.#secret);
    for (const part of this.#parts) hash.update(part);
    return hash.digest();
  }
}

/** Signs the request again with the secret and compares. */
async function isSigned(request: IncomingMessage): Promise<boolean> {
  const { authorization = "" } = request.headers;
  const names = /SignedHeaders=([^,]+)/.exec(authorization)?.[1]?.split(";") ?? [];
  const headers = Object.fromEntries(names.map((name) => [name, String(request.headers[name])]));
  const url = new URL(request.url ?? "/", "http://store");
  const signer = new SignatureV4({
    credentials: CREDENTIALS,
    region: "eu-test-1",
    service: "s3",
    sha256: Sha256 as never,
    uriEscapePath: false,
    applyChecksum: false,
  });
  const at = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/
    .exec(String(request.headers["x-amz-date"]))!
    .slice(1)
    .map(Number);
  const signed = await signer.sign(
    {
      method: request.method!,
      protocol: "http:",
      hostname: "store",
      path: url.pathname,
      query: Object.fromEntries(url.searchParams),
      headers,
    },
    {
      signingDate: new Date(Date.UTC(at[0]!, at[1]! - 1, at[2]!, at[3]!, at[4]!, at[5]!)),
      signableHeaders: new Set(names),
    },
  );
  return signed.headers.authorization === authorization;
}

function s3Error(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status, { "content-type": "application/xml" });
  response.end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>${code}</Message></Error>`);
}

describe("s3", () => {
  const bytes = pattern(200 * KB);
  const seen: string[] = [];
  let server: Server;
  let cache: ObjectCache;
  let folder: string;
  const saved = { id: process.env.AWS_ACCESS_KEY_ID, secret: process.env.AWS_SECRET_ACCESS_KEY };

  beforeAll(async () => {
    let breaks = 1;
    server = createServer(async (request, response) => {
      const path = decodeURIComponent(new URL(request.url ?? "/", "http://store").pathname);
      const { range } = request.headers;
      seen.push(`${path}${range === undefined ? "" : ` ${range}`}`);
      if (!(await isSigned(request))) return s3Error(response, 403, "SignatureDoesNotMatch");
      if (path === "/data/empty") return void response.writeHead(200, { "content-length": 0 }).end();
      if (path === "/data/wrong") {
        const sum = createHash("sha256").update("other").digest("base64");
        return void response
          .writeHead(200, { "x-amz-checksum-sha256": sum, "x-amz-checksum-type": "FULL_OBJECT" })
          .end(bytes);
      }
      if (path !== "/data/models/a b.bin") return s3Error(response, 404, "NoSuchKey");
      const from = range === undefined ? 0 : Number(/bytes=(\d+)-/.exec(range)![1]);
      response.writeHead(range === undefined ? 200 : 206, {
        etag: '"v1"',
        "content-length": bytes.length - from,
        ...(range === undefined ? {} : { "content-range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` }),
      });
      if (breaks-- > 0) response.write(bytes.subarray(0, 64 * KB), () => setImmediate(() => response.destroy()));
      else response.end(bytes.subarray(from));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    process.env.AWS_ACCESS_KEY_ID = CREDENTIALS.accessKeyId;
    process.env.AWS_SECRET_ACCESS_KEY = CREDENTIALS.secretAccessKey;
    folder = await mkdtemp(join(tmpdir(), "forechain-s3-"));
    const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const fetcher = createFetcher({
      schemes: ["s3"],
      hosts: [],
      fileRoots: [],
      mirrors: {},
      stallMs: 2_000,
      prefetchConcurrency: 1,
      s3: { region: "eu-test-1", endpoint, forcePathStyle: true, buckets: ["data"] },
    });
    const nowMs = () => performance.now();
    const transfers = new Transfers(null, 1, nowMs);
    cache = await ObjectCache.open({ folder, maxBytes: 10_000 * KB, diskFreeBytesMin: 0, fetcher, transfers, nowMs });
  });

  afterAll(async () => {
    process.env.AWS_ACCESS_KEY_ID = saved.id;
    process.env.AWS_SECRET_ACCESS_KEY = saved.secret;
    if (saved.id === undefined) delete process.env.AWS_ACCESS_KEY_ID;
    if (saved.secret === undefined) delete process.env.AWS_SECRET_ACCESS_KEY;
    server.closeAllConnections();
    server.close();
    await rm(folder, { recursive: true, force: true });
  });

  it("an object is loaded with a signed request, and continued by range when it breaks off", async () => {
    const answer = await cache.load("s3://data/models/a%20b.bin", { by: "task" });
    if (!answer.ok) throw new Error(`${answer.reason}: ${answer.detail}`);
    expect(await readFile(answer.path)).toEqual(bytes);
    expect(seen[0]).toBe("/data/models/a b.bin");
    expect(seen[1]).toMatch(/^\/data\/models\/a b\.bin bytes=\d+-$/);
  });

  const refusals: [string, string][] = [
    ["s3://data/none", "not_found"],
    ["s3://data/empty", "empty"],
    ["s3://data/wrong", "wrong_checksum"],
    ["s3://other/x", "refused"],
    ["s3://data", "refused"],
    ["s3://data/../other/x", "refused"],
    ["s3://key:secret@data/x", "refused"],
  ];
  for (const [uri, reason] of refusals) {
    it(`${uri}: ${reason}`, async () => {
      const answer = await cache.load(uri, { by: "task" });
      expect(answer).toMatchObject({ ok: false, reason });
    });
  }
});

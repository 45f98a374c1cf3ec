// Objects by S3's protocol, from a local S3 server that checks signatures. What it cannot be brought to do (a checksum that is
// wrong) is played by a server of a few lines.
import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { ObjectCache } from "../../src/agent/cache.ts";
import { createFetcher } from "../../src/agent/fetchers/fetcher.ts";
import { Transfers } from "../../src/agent/transfer.ts";
import { S3_CREDENTIALS, S3_REGION, type S3Server, startS3 } from "./s3-server.ts";
import { pattern } from "./store.ts";

const KB = 1024;
const folders: string[] = [];

async function newCache(endpoint: string): Promise<ObjectCache> {
  const folder = await mkdtemp(join(tmpdir(), "forechain-s3-"));
  folders.push(folder);
  const fetcher = createFetcher({
    schemes: ["s3"],
    hosts: [],
    fileRoots: [],
    mirrors: {},
    stallMs: 2_000,
    prefetchConcurrency: 1,
    s3: { region: S3_REGION, endpoint, forcePathStyle: true, buckets: ["data"] },
  });
  const nowMs = () => performance.now();
  const transfers = new Transfers(null, 1, nowMs);
  return ObjectCache.open({ folder, maxBytes: 10_000 * KB, diskFreeBytesMin: 0, fetcher, transfers, nowMs });
}

function signAs({ accessKeyId, secretAccessKey }: typeof S3_CREDENTIALS): void {
  vi.stubEnv("AWS_ACCESS_KEY_ID", accessKeyId);
  vi.stubEnv("AWS_SECRET_ACCESS_KEY", secretAccessKey);
}

afterEach(() => vi.unstubAllEnvs());
afterAll(async () => {
  for (const folder of folders) await rm(folder, { recursive: true, force: true });
});

describe("a local S3 server", () => {
  const bytes = pattern(400 * KB);
  let s3: S3Server;

  beforeAll(async () => {
    s3 = await startS3(["data", "other"]);
    await s3.put("data", "models/a b+ü.bin", bytes);
    await s3.put("data", "empty", new Uint8Array());
    await s3.put("other", "x", bytes);
  });
  afterAll(() => s3.stop());

  it("an object is loaded with a signed request", async () => {
    signAs(S3_CREDENTIALS);
    s3.seen.length = 0;
    const answer = await (await newCache(s3.endpoint)).load("s3://data/models/a%20b%2B%C3%BC.bin", { by: "task" });
    if (!answer.ok) throw new Error(`${answer.reason}: ${answer.detail}`);
    expect(await readFile(answer.path)).toEqual(bytes);
    expect(s3.seen).toEqual(["/data/models/a b+ü.bin"]);
  });

  it("one that breaks off is continued by range, as the same version", async () => {
    signAs(S3_CREDENTIALS);
    s3.seen.length = 0;
    s3.cutAfterBytes = 150 * KB;
    const answer = await (await newCache(s3.endpoint)).load("s3://data/models/a%20b%2B%C3%BC.bin", { by: "task" });
    if (!answer.ok) throw new Error(`${answer.reason}: ${answer.detail}`);
    expect(await readFile(answer.path)).toEqual(bytes);
    expect(s3.seen[1]).toMatch(/^\/data\/models\/a b\+ü\.bin bytes=[1-9]\d*-$/);
  });

  it("a wrong secret is refused by the store, and told so", async () => {
    signAs({ ...S3_CREDENTIALS, secretAccessKey: "another" });
    const answer = await (await newCache(s3.endpoint)).load("s3://data/models/a%20b%2B%C3%BC.bin", { by: "task" });
    expect(answer).toMatchObject({ ok: false, detail: expect.stringMatching(/signature|403/i) });
  });

  it.each([
    ["s3://data/none", "not_found"],
    ["s3://data/empty", "empty"],
    ["s3://other/x", "refused"],
    ["s3://data", "refused"],
    ["s3://data/../other/x", "refused"],
    ["s3://key:secret@data/x", "refused"],
  ])("%s: %s", async (uri, reason) => {
    signAs(S3_CREDENTIALS);
    s3.seen.length = 0;
    const answer = await (await newCache(s3.endpoint)).load(uri, { by: "task" });
    expect(answer).toMatchObject({ ok: false, reason });
    // What is refused here was never asked there.
    if (reason === "refused") expect(s3.seen).toEqual([]);
  });
});

it("bytes that are not what their checksum says: wrong_checksum, and nothing is kept", async () => {
  signAs(S3_CREDENTIALS);
  const sum = createHash("sha256").update("other").digest("base64");
  const headers = { "x-amz-checksum-sha256": sum, "x-amz-checksum-type": "FULL_OBJECT" };
  const server = createServer((_, response) => void response.writeHead(200, headers).end(pattern(10 * KB)));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    const cache = await newCache(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    expect(await cache.load("s3://data/wrong", { by: "task" })).toMatchObject({ ok: false, reason: "wrong_checksum" });
    expect(cache.has("s3://data/wrong")).toBe(false);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

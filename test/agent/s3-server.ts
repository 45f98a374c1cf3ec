// A local S3 server (s3rver) and a wire before it that can be cut. In: objects. Out: its endpoint, and what was asked of it.
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server, type ServerResponse } from "node:http";
import { createRequire } from "node:module";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PutObjectCommand, S3Client } from "@aws-sdk/client-s3";

/** The server's one account. */
export const S3_CREDENTIALS = { accessKeyId: "S3RVER", secretAccessKey: "S3RVER" };
export const S3_REGION = "eu-test-1";

interface S3rver {
  run(): Promise<AddressInfo>;
  close(): Promise<void>;
  callback(): (request: unknown, response: ServerResponse) => void;
}
type NewS3rver = new (options: object) => S3rver;

export interface S3Server {
  endpoint: string;
  /** Paths, with the range where one was asked for. */
  seen: string[];
  /** The next answer breaks off after so many bytes of its body. */
  cutAfterBytes: number | null;
  put(bucket: string, key: string, bytes: Uint8Array): Promise<void>;
  stop(): Promise<void>;
}

export async function startS3(buckets: string[]): Promise<S3Server> {
  const directory = await mkdtemp(join(tmpdir(), "forechain-s3rver-"));
  // It has no types of its own.
  const S3rver = createRequire(import.meta.url)("@20minutes/s3rver") as NewS3rver;
  const rver = new S3rver({ directory, silent: true, configureBuckets: buckets.map((name) => ({ name })) });
  await (rver as unknown as { configureBuckets(): Promise<void> }).configureBuckets();
  const serve = rver.callback();
  const server: Server = createServer((request, response) => {
    const { range } = request.headers;
    if (request.method === "GET")
      s3.seen.push(`${decodeURIComponent(request.url!.split("?")[0]!)}${range === undefined ? "" : ` ${range}`}`);
    if (request.method === "GET" && s3.cutAfterBytes !== null) cut(response, s3.cutAfterBytes);
    serve(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const client = new S3Client({ endpoint, region: S3_REGION, forcePathStyle: true, credentials: S3_CREDENTIALS });
  const cut = (response: ServerResponse, afterBytes: number) => {
    s3.cutAfterBytes = null;
    let left = afterBytes;
    const write = response.write.bind(response);
    response.write = ((chunk: Uint8Array, ...rest: []) => {
      if (chunk.length < left) {
        left -= chunk.length;
        return write(chunk, ...rest);
      }
      return write(chunk.subarray(0, left), () => setImmediate(() => response.destroy()));
    }) as ServerResponse["write"];
  };
  const s3: S3Server = {
    endpoint,
    seen: [],
    cutAfterBytes: null,
    async put(bucket, key, bytes) {
      await client.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: bytes }));
    },
    async stop() {
      client.destroy();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await rm(directory, { recursive: true, force: true });
    },
  };
  return s3;
}

// The way to an object may differ by VM; its name does not, and the allow-list judges where the bytes really come from.
import { createServer } from "node:http";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createFetcher } from "../../src/agent/fetchers/fetcher.ts";
import { FetchError } from "../../src/agent/fetchers/source.ts";

describe("mirrors", () => {
  const server = createServer((request, response) => response.end(request.url));
  let host = "";

  beforeAll(async () => {
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    host = `127.0.0.1:${(server.address() as { port: number }).port}`;
  });
  afterAll(() => server.close());

  async function read(uri: string, hosts: string[], mirrors: Record<string, string>): Promise<string> {
    const common = { schemes: ["http" as const], fileRoots: [], stallMs: 5_000, prefetchConcurrency: 1 };
    const source = await createFetcher({ ...common, hosts, mirrors }).open(uri, new AbortController().signal);
    if (source === "unchanged") throw new Error("nothing was known before");
    let text = "";
    for await (const piece of source.body) text += piece.toString();
    return text;
  }

  it("takes the longest start that fits", async () => {
    const mirrors = {
      "http://store.example/": `http://${host}/all/`,
      "http://store.example/big/": `http://${host}/near/`,
    };
    expect(await read("http://store.example/big/a.bin?v=1", [host], mirrors)).toBe("/near/a.bin?v=1");
    expect(await read("http://store.example/small.bin", [host], mirrors)).toBe("/all/small.bin");
  });

  it("refuses a mirror whose host is not allowed", async () => {
    const asked = read("http://store.example/a", ["store.example"], { "http://store.example/": `http://${host}/` });
    await expect(asked).rejects.toThrow(FetchError);
  });
});

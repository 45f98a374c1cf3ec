// A store may close an idle connection just as it is used again: nothing was asked, so it is asked on another one.
import { createServer } from "node:http";
import type { Socket } from "node:net";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createFetcher } from "../../src/agent/fetchers/fetcher.ts";

const used = new Set<Socket>();
let asked = 0;
const server = createServer((request, response) => {
  asked++;
  // Every connection serves one request and dies at its second; `/never` dies at once.
  if (used.has(request.socket) || request.url === "/never") request.socket.destroy();
  else response.end(request.url);
  used.add(request.socket);
});
let origin = "";

beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  origin = `127.0.0.1:${(server.address() as { port: number }).port}`;
});
afterAll(() => server.close());

it("an object is loaded over a connection that the store had given up", async () => {
  const common = { schemes: ["http" as const], fileRoots: [], mirrors: {}, stallMs: 5_000, prefetchConcurrency: 1 };
  const fetcher = createFetcher({ ...common, hosts: [origin] });
  const read = async (path: string) => {
    const source = await fetcher.open(`http://${origin}${path}`, new AbortController().signal);
    if (source === "unchanged") throw new Error("nothing was known before");
    let text = "";
    for await (const piece of source.body) text += piece.toString();
    return text;
  };
  for (const path of ["/a", "/b", "/c"]) expect(await read(path)).toBe(path);
  expect(used.size).toBe(3);
  // A store that breaks a fresh connection has failed, and is asked once (and once on the kept one).
  const before = asked;
  await expect(read("/never")).rejects.toMatchObject({ reason: "broken" });
  expect(asked - before).toBeLessThanOrEqual(2);
});

// How long and how much the cache works for whom: what nobody wants any more, versions that do not fit beside each other, what was
// used already, and who gets a connection. Against a real store.
import { readdirSync, statSync } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ObjectCache } from "../../src/agent/cache.ts";
import { HubClock } from "../../src/agent/clock.ts";
import { createFetcher } from "../../src/agent/fetchers/fetcher.ts";
import type { LoadAnswer, Want } from "../../src/agent/object-store.ts";
import { Prepared } from "../../src/agent/prepared.ts";
import { Transfers } from "../../src/agent/transfer.ts";
import { KB, loaded, nowMs, TASK } from "./cached.ts";
import { pattern, TestStore } from "./store.ts";

const prefetch = (forMs = 60_000): Want & { by: "prefetch" } => ({
  by: "prefetch",
  probability: 1,
  bytes: null,
  neededMs: nowMs(),
  holdUntilMs: nowMs() + forMs,
});

let store: TestStore;
let folder: string;
beforeEach(async () => {
  store = await TestStore.start();
  folder = await mkdtemp(join(tmpdir(), "forechain-cache-"));
});
afterEach(async () => {
  await store.stop();
  await rm(folder, { recursive: true, force: true });
});

function fetcherOf(prefetchConcurrency = 4) {
  return createFetcher({
    schemes: ["http"],
    hosts: [store.host],
    fileRoots: [],
    mirrors: {},
    stallMs: 5_000,
    prefetchConcurrency,
  });
}

function openCache(concurrency = 4, clockMs = nowMs): Promise<ObjectCache> {
  const transfers = new Transfers(null, concurrency, clockMs);
  const fetcher = fetcherOf(concurrency);
  return ObjectCache.open({
    folder: join(folder, "cache"),
    maxBytes: 1000 * KB,
    diskFreeBytesMin: 0,
    fetcher,
    transfers,
    nowMs: clockMs,
  });
}

/** Sends its first half and waits. */
function halfOf(path: string, bytes: Buffer): { uri: string; finish: () => void } {
  const open: ServerResponse[] = [];
  const half = bytes.length >> 1;
  const uri = store.on(path, (_request, response) => {
    response.writeHead(200, { "content-length": bytes.length }).write(bytes.subarray(0, half));
    open.push(response);
  });
  return { uri, finish: () => open.forEach((response) => void response.end(bytes.subarray(half))) };
}

describe("a prefetch whose command is over", () => {
  it("is ended, its place is free for the next, and nothing is left of it", async () => {
    const cache = await openCache(1);
    const slow = halfOf("/slow", pattern(100 * KB));
    const next = store.put("/next", pattern(10 * KB));
    const first = cache.load(slow.uri, prefetch(150));
    await store.untilAsked("/slow");
    const second = cache.load(next, prefetch());
    expect(await first).toMatchObject({ ok: false, reason: "expired" });
    expect((await loaded(second)).bytes).toBe(10 * KB);
    expect(await readdir(join(folder, "cache", "incoming"))).toEqual([]);
    expect(cache.bytes()).toBe(10 * KB);
  });

  it("is not begun when its turn comes", async () => {
    const cache = await openCache(1);
    const slow = halfOf("/slow", pattern(100 * KB));
    const late = store.put("/late", pattern(10 * KB));
    const first = cache.load(slow.uri, prefetch());
    await store.untilAsked("/slow");
    expect(await cache.load(late, prefetch(30))).toMatchObject({ ok: false, reason: "expired" });
    slow.finish();
    await loaded(first);
    expect(store.asked("/late")).toBe(0);
  });

  it("goes on for a task that has come, and for another command that wants it longer", async () => {
    const cache = await openCache(2);
    for (const other of [TASK, prefetch()]) {
      const path = `/${other.by}`;
      const slow = halfOf(path, pattern(100 * KB));
      const first = cache.load(slow.uri, prefetch(100));
      await store.untilAsked(path);
      const second = cache.load(slow.uri, other);
      // Past the first one's end: a third, which ends with it, has come and gone.
      expect(
        await cache.load(
          store.on(`/never-${other.by}`, () => {}),
          prefetch(150),
        ),
      ).toMatchObject({ ok: false });
      slow.finish();
      expect((await loaded(first)).how).toBe("loaded");
      expect((await loaded(second)).how).toBe("joined");
    }
  });
});

it("a task that joins a prefetch which finds no room makes room by a load of its own", async () => {
  const cache = await openCache();
  const dear = store.put("/dear", pattern(600 * KB));
  await loaded(cache.load(dear, TASK));
  const bytes = pattern(500 * KB);
  let answer = () => {};
  const asked = new Promise<void>((resolve) => {
    answer = resolve;
  });
  const uri = store.on("/wanted", (_request, response) => {
    void asked.then(() => response.writeHead(200, { "content-length": bytes.length }).end(bytes));
  });
  const first = cache.load(uri, { ...prefetch(), probability: 0 });
  await store.untilAsked("/wanted");
  const second = cache.load(uri, TASK);
  answer();
  expect(await first).toMatchObject({ ok: false, reason: "cache_full" });
  expect((await loaded(second)).bytes).toBe(bytes.length);
  expect([store.asked("/wanted"), cache.has(dear)]).toEqual([2, false]);
});

describe("an object that a command holds keeps its place from what is less likely", () => {
  const likely = () => ({ ...prefetch(), probability: 0.9 });
  const lessLikely = async (cache: ObjectCache) =>
    cache.load(store.put("/other", pattern(600 * KB, 2)), { ...prefetch(), probability: 0.5 });

  it("also when a command that wants it for less long, or less, has come after", async () => {
    const cache = await openCache();
    const uri = store.put("/held", pattern(600 * KB));
    await loaded(cache.load(uri, likely()));
    await loaded(cache.load(uri, { ...prefetch(1_000), probability: 0.1 }));
    expect(await lessLikely(cache)).toMatchObject({ ok: false, reason: "cache_full" });
    cache.dropHold(uri);
    await loaded(lessLikely(cache));
  });

  it("also when its store has a newer version of it by then", async () => {
    const cache = await openCache();
    let version = 1;
    const uri = store.on("/held", (_request, response) => {
      const bytes = pattern(400 * KB, version);
      const headers = { "content-length": bytes.length, etag: `"v${version}"`, "cache-control": "max-age=0" };
      response.writeHead(200, headers).end(bytes);
    });
    await loaded(cache.load(uri, likely()));
    version = 2;
    expect((await loaded(cache.load(uri, TASK))).how).toBe("loaded");
    await loaded(cache.load(store.put("/another", pattern(400 * KB, 3)), { ...prefetch(), probability: 0.5 }));
    // There would be room in both places together, and one is not for something less likely.
    const large = cache.load(store.put("/large", pattern(700 * KB, 4)), { ...prefetch(), probability: 0.8 });
    expect(await large).toMatchObject({ ok: false, reason: "cache_full" });
    expect(cache.bytes()).toBe(800 * KB);
  });
});

describe("room", () => {
  it("a changed object of more than half the cache replaces its old version", async () => {
    const cache = await openCache();
    const uri = store.uri("/big");
    const put = (seed: number) =>
      store.on("/big", (_request, response) => {
        const headers = { etag: `"${seed}"`, "cache-control": "no-cache", "content-length": 600 * KB };
        response.writeHead(200, headers).end(pattern(600 * KB, seed));
      });
    put(1);
    await loaded(cache.load(uri, TASK));
    put(2);
    expect(await loaded(cache.load(uri, TASK))).toMatchObject({ how: "loaded", bytes: 600 * KB });
    expect(cache.bytes()).toBe(600 * KB);
  });

  it("an object of unknown length needs no more than its bytes", async () => {
    const cache = await openCache();
    const pinned = await cache.load(store.put("/used", pattern(250 * KB)), TASK);
    const uri = store.on("/unknown", (_request, response) => void response.writeHead(200).end(pattern(700 * KB)));
    expect((await loaded(cache.load(uri, TASK))).bytes).toBe(700 * KB);
    if (pinned.ok) pinned.release();
  });

  /** Sends until nobody listens any more; the bytes that went out. */
  function endless(path: string): { uri: string; sentBytes: () => number } {
    let sentBytes = 0;
    const piece = pattern(20 * KB);
    const uri = store.on(path, (_request, response) => {
      response.writeHead(200);
      const more = () => {
        while (!response.destroyed) {
          sentBytes += piece.length;
          if (!response.write(piece)) break;
        }
        response.once("drain", more);
      };
      more();
    });
    return { uri, sentBytes: () => sentBytes };
  }
  const fill = async (cache: ObjectCache) => {
    for (let at = 0; at < 10; at++) await loaded(cache.load(store.put(`/o${at}`, pattern(100 * KB, at + 1)), TASK));
    expect(cache.bytes()).toBe(1000 * KB);
  };

  it("a body without length and end throws out a quarter of the cache, however often it is asked for", async () => {
    const cache = await openCache();
    await fill(cache);
    const { uri, sentBytes } = endless("/endless");
    for (let at = 0; at < 3; at++) {
      const detail = expect.stringContaining("cache.unknownLengthBytesMax");
      expect(await cache.load(uri, TASK)).toMatchObject({ ok: false, reason: "too_large", detail });
    }
    expect(sentBytes()).toBeGreaterThan(250 * KB);
    expect(cache.bytes()).toBeLessThan(1000 * KB);
    expect(cache.bytes()).toBeGreaterThanOrEqual(700 * KB);
  });

  it("several such bodies share that quarter", async () => {
    const cache = await openCache();
    await fill(cache);
    const bodies = [1, 2, 3, 4].map((at) => endless(`/endless${at}`).uri);
    const answers = await Promise.all(bodies.map((uri) => cache.load(uri, TASK)));
    expect(answers).toMatchObject(bodies.map(() => ({ ok: false, reason: "too_large" })));
    expect(cache.bytes()).toBeGreaterThanOrEqual(700 * KB);
  });

  it("one whose size was expected is no such body", async () => {
    // The clock stands, so that what it throws out took no time to load and is worth less, on a busy machine too.
    const cache = await openCache(4, () => 0);
    await fill(cache);
    const uri = store.on("/expected", (_request, response) => void response.writeHead(200).end(pattern(600 * KB)));
    expect((await loaded(cache.load(uri, { ...prefetch(), bytes: 600 * KB }))).bytes).toBe(600 * KB);
  });

  it("nothing is thrown out for a length that is told and never sent", async () => {
    const cache = await openCache();
    await fill(cache);
    const uri = store.on("/told", (_request, response) => {
      response.writeHead(200, { "content-length": 900 * KB }).flushHeaders();
      setTimeout(() => response.destroy(), 20);
    });
    expect(await cache.load(uri, TASK)).toMatchObject({ ok: false, reason: "broken" });
    expect(cache.bytes()).toBe(1000 * KB);
  });

  it("what a command brought and its task has read gives way to what the next one brings", async () => {
    const cache = await openCache();
    const prepared = new Prepared(new HubClock(nowMs), cache, { use: () => {}, end: () => {}, miss: () => {} });
    const [first, second] = [store.put("/first", pattern(600 * KB)), store.put("/second", pattern(600 * KB, 2))];
    const hold = prepared.beginObject("command", first, nowMs() + 60_000);
    await loaded(cache.load(first, prefetch()));
    prepared.readyObject(hold, { bytes: 600 * KB, savedMs: 1 });
    // Not yet read: a prefetch throws out nothing that is as likely to be.
    expect(await cache.load(second, prefetch())).toMatchObject({ ok: false, reason: "cache_full" });
    prepared.takeObject(hold, nowMs());
    await loaded(cache.load(second, prefetch()));
    prepared.stop();
  });
});

describe("what a runtime loads that was started ahead", () => {
  const start = (probability: number): Want => ({ by: "start", probability, holdUntilMs: nowMs() + 60_000 });

  it("throws out nothing that is worth more; a task's own load does", async () => {
    const cache = await openCache();
    const held = store.put("/held", pattern(900 * KB));
    await loaded(cache.load(held, prefetch()));
    const code = store.put("/code", pattern(200 * KB, 2));
    expect(await cache.load(code, start(0.5))).toMatchObject({ ok: false, reason: "cache_full" });
    expect(cache.has(held)).toBe(true);
    await loaded(cache.load(code, TASK));
    expect(cache.has(held)).toBe(false);
  });

  it("waits for no turn and lets prefetches go on; it ends with its command, unless a user comes", async () => {
    const cache = await openCache(1);
    const prefetched = halfOf("/prefetched", pattern(100 * KB));
    const first = cache.load(prefetched.uri, prefetch());
    await store.untilAsked("/prefetched");
    const [dropped, claimed] = ["/dropped", "/claimed"].map((path) => halfOf(path, pattern(100 * KB, 3)));
    const brief = { ...start(0.5), holdUntilMs: nowMs() + 200 } as Want;
    const loads = [dropped!, claimed!].map(({ uri }) => cache.load(uri, brief));
    await Promise.all(["/dropped", "/claimed"].map((path) => store.untilAsked(path)));
    // A task that loads would have stopped it.
    prefetched.finish();
    expect((await loaded(first)).bytes).toBe(100 * KB);
    const users = cache.load(claimed!.uri, TASK);
    expect(await loads[0]).toMatchObject({ ok: false, reason: "expired" });
    claimed!.finish();
    expect(await loaded(users)).toMatchObject({ how: "joined" });
    expect(await loaded(loads[1]!)).toMatchObject({ how: "loaded" });
  });
});

describe("connections", () => {
  it("of prefetches that stand still are none that a task has to wait for", async () => {
    const cache = await openCache(20);
    const slow = Array.from({ length: 20 }, (_, i) => halfOf(`/slow-${i}`, pattern(10 * KB, i + 1)));
    const prefetches = slow.map(({ uri }) => cache.load(uri, prefetch()));
    await Promise.all(slow.map((_, i) => store.untilAsked(`/slow-${i}`)));
    await loaded(cache.load(store.put("/mine", pattern(KB)), TASK));
    for (const { finish } of slow) finish();
    await Promise.all(prefetches.map(loaded));
  });

  it("that are reset within a body do not make the store be asked for nobody", async () => {
    const asked: string[] = [];
    const sockets = new Set<Socket>();
    const server = createServer((request, response) => {
      asked.push(request.url!);
      sockets.add(request.socket);
      if (request.url === "/whole") return void response.end("whole");
      response.writeHead(200, { "content-length": 1000 });
      response.write("x".repeat(10), () => request.socket.resetAndDestroy());
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    const common = { schemes: ["http" as const], fileRoots: [], mirrors: {}, stallMs: 5_000, prefetchConcurrency: 1 };
    const fetcher = createFetcher({ ...common, hosts: [host] });
    const read = async (path: string) => {
      const source = await fetcher.open(`http://${host}${path}`, new AbortController().signal);
      if (source === "unchanged") throw new Error("nothing was known before");
      for await (const _piece of source.body);
    };
    await read("/whole");
    await expect(read("/broken")).rejects.toMatchObject({ reason: "broken" });
    // On a connection of its own: whatever was asked before it has been heard by now.
    await read("/whole");
    expect(asked).toEqual(["/whole", "/broken", "/whole"]);
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
});

describe("a body that breaks off", () => {
  const whole = pattern(100 * KB);
  const half = whole.length >> 1;
  /** The first answer ends after `first` bytes, the second is the table's. */
  async function broken(first: number, again: (response: ServerResponse) => void): Promise<LoadAnswer> {
    const cache = await openCache();
    let asked = 0;
    const uri = store.on("/broken", (_request, response) => {
      if (++asked > 1) return again(response);
      response.writeHead(200, { etag: '"v"', "content-length": whole.length });
      response.flushHeaders();
      if (first === 0) return void response.socket!.end();
      response.write(whole.subarray(0, first));
      // Once it is in the reader's file: what is still under way when a connection breaks is lost with it.
      const incoming = join(folder, "cache", "incoming");
      const look = setInterval(() => {
        if (!readdirSync(incoming).some((name) => statSync(join(incoming, name)).size === first)) return;
        clearInterval(look);
        response.destroy();
      }, 5);
    });
    const answer = await cache.load(uri, TASK);
    if (answer.ok) answer.release();
    return answer;
  }
  const rest = { "content-range": `bytes ${half}-${whole.length - 1}/${whole.length}` };

  it.each<[string, Record<string, string>, boolean]>([
    ["of the same version", { ...rest, etag: '"v"' }, true],
    ["whose version is not told", rest, true],
    ["of another version", { ...rest, etag: '"w"' }, false],
    ["that is compressed", { ...rest, etag: '"v"', "content-encoding": "gzip" }, false],
    ["from another byte", { etag: '"v"', "content-range": `bytes 0-${half - 1}/${whole.length}` }, false],
  ])("is continued by a rest %s: %j %s", async (_, headers, ok) => {
    const answer = await broken(half, (response) => void response.writeHead(206, headers).end(whole.subarray(half)));
    expect(answer).toMatchObject(ok ? { ok, bytes: whole.length } : { ok, reason: "store_error" });
  });

  it.each<[string, string, boolean]>([
    ["the same", '"v"', true],
    ["another", '"w"', false],
  ])("before its first byte is asked for again without a range, of %s version", async (_, etag, ok) => {
    const headers = { etag, "content-length": whole.length };
    const answer = await broken(0, (response) => void response.writeHead(200, headers).end(whole));
    expect(answer).toMatchObject(ok ? { ok, bytes: whole.length } : { ok, reason: "store_error" });
  });
});

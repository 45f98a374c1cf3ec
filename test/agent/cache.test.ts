// The cache against a real store: faults of the store, bounds, priorities, what survives a restart.

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmdirSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, it } from "vitest";
import { type CacheOptions, ObjectCache } from "../../src/agent/cache.ts";
import { createFetcher } from "../../src/agent/fetchers/fetcher.ts";
import type { Want } from "../../src/agent/object-store.ts";
import { Transfers } from "../../src/agent/transfer.ts";
import { KB, loaded, nowMs, TASK } from "./cached.ts";
import { pattern, TestStore } from "./store.ts";

function prefetch(probability = 0.9, bytes: number | null = null): Want {
  return { by: "prefetch", probability, bytes, neededMs: nowMs() + 1000, holdUntilMs: nowMs() + 60_000 };
}

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

async function openCache(overrides: Partial<CacheOptions> & { bytesPerSecond?: number; concurrency?: number } = {}) {
  const { bytesPerSecond = null, concurrency = 4, ...options } = overrides;
  const fetcher = createFetcher({
    schemes: ["http", "file"],
    hosts: [store.host],
    fileRoots: [folder],
    mirrors: {},
    stallMs: 500,
    prefetchConcurrency: 4,
  });
  const transfers = new Transfers(bytesPerSecond, concurrency, nowMs);
  return ObjectCache.open({
    folder: join(folder, "cache"),
    maxBytes: 1000 * KB,
    diskFreeBytesMin: 0,
    fetcher,
    transfers,
    nowMs,
    ...options,
  });
}

async function leftovers(): Promise<string[]> {
  return readdir(join(folder, "cache", "incoming"));
}

describe("a store that misbehaves", () => {
  const bytes = pattern(100 * KB);
  const cases: [string, string, (path: string) => void][] = [
    ["0 bytes", "empty", (path) => store.on(path, (_q, r) => r.writeHead(200, { "content-length": 0 }).end())],
    ["0 bytes of unknown length", "empty", (path) => store.on(path, (_q, r) => r.writeHead(200).end())],
    ["404", "not_found", (path) => store.on(path, (_q, r) => r.writeHead(404).end("no"))],
    ["500", "store_error", (path) => store.on(path, (_q, r) => r.writeHead(500).end("no"))],
    ["a redirect to nowhere", "store_error", (path) => store.on(path, (_q, r) => r.writeHead(302).end())],
    [
      "a redirect to a link-local address",
      "refused",
      (path) => store.on(path, (_q, r) => r.writeHead(302, { location: "http://169.254.169.254/latest" }).end()),
    ],
    [
      "a redirect to a file",
      "refused",
      (path) => store.on(path, (_q, r) => r.writeHead(302, { location: `file://${folder}/x` }).end()),
    ],
    [
      "redirects for ever",
      "store_error",
      (path) => store.on(path, (_q, r) => r.writeHead(302, { location: path }).end()),
    ],
    ["silence before the answer", "stalled", (path) => store.on(path, () => {})],
    [
      "silence within the body",
      "stalled",
      (path) =>
        store.on(
          path,
          (_q, r) => void r.writeHead(200, { "content-length": bytes.length }).write(bytes.subarray(0, 999)),
        ),
    ],
    [
      "a trickle",
      "stalled",
      (path) =>
        store.on(path, (_q, r) => {
          r.writeHead(200, { "content-length": bytes.length });
          const drops = setInterval(() => r.write(bytes.subarray(0, 1)), 20);
          r.once("close", () => clearInterval(drops));
        }),
    ],
    [
      "a connection that breaks off",
      "broken",
      (path) =>
        store.on(path, (_q, r) => {
          r.writeHead(200, { "content-length": bytes.length });
          r.write(bytes.subarray(0, 999), () => r.destroy());
        }),
    ],
    [
      "a length that is too small",
      "broken",
      (path) =>
        store.on(path, (request) => {
          request.socket.end(`HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n${"x".repeat(5)}`);
        }),
    ],
    [
      "a wrong checksum",
      "wrong_checksum",
      (path) =>
        store.on(path, (_q, r) => {
          r.writeHead(200, { "repr-digest": `sha-256=:${Buffer.alloc(32).toString("base64")}:` }).end(bytes);
        }),
    ],
    [
      "an endless body",
      "too_large",
      (path) =>
        store.on(path, (_q, r) => {
          r.writeHead(200);
          const more = () => {
            while (!r.destroyed && r.write(bytes));
            r.once("drain", more);
          };
          more();
        }),
    ],
    [
      "more than the cache holds",
      "too_large",
      (path) => store.on(path, (_q, r) => void r.writeHead(200, { "content-length": 2000 * KB }).flushHeaders()),
    ],
    [
      "an insisted-on encoding",
      "store_error",
      (path) => store.on(path, (_q, r) => r.writeHead(200, { "content-encoding": "br" }).end("x")),
    ],
  ];
  for (const [name, reason, set] of cases) {
    it(`${name}: ${reason}, and nothing is left`, async () => {
      const cache = await openCache();
      set("/object");
      const answer = await cache.load(store.uri("/object"), TASK);
      expect(answer).toMatchObject({ ok: false, reason });
      expect(cache.has(store.uri("/object"))).toBe(false);
      expect(cache.bytes()).toBe(0);
      expect(await leftovers()).toEqual([]);
      // Its room is free again.
      await loaded(cache.load(store.put("/whole", pattern(900 * KB)), TASK));
    });
  }

  it("a store that is not there is unreachable", async () => {
    const cache = await openCache();
    const uri = store.uri("/x");
    await store.stop();
    expect(await cache.load(uri, TASK)).toMatchObject({ ok: false, reason: "unreachable" });
    store = await TestStore.start();
  });
});

describe("one load per object", () => {
  it("twenty tasks at once ask the store once", async () => {
    const cache = await openCache();
    const uri = store.put("/a", pattern(50 * KB));
    const answers = await Promise.all(Array.from({ length: 20 }, () => loaded(cache.load(uri, TASK))));
    expect(store.asked("/a")).toBe(1);
    expect(answers.map(({ how }) => how).sort()).toEqual([...Array(19).fill("joined"), "loaded"]);
  });

  it("a task joins a prefetch that the cap holds back, and takes the brake off", async () => {
    const bytes = pattern(200 * KB);
    // At this rate the prefetch alone would take 100 s.
    const cache = await openCache({ bytesPerSecond: 2 * KB });
    const uri = store.put("/slow", bytes);
    const ahead = loaded(cache.load(uri, prefetch()));
    await store.untilAsked("/slow");
    const answer = await loaded(cache.load(uri, TASK));
    expect(answer.how).toBe("joined");
    expect((await ahead).how).toBe("loaded");
    expect(store.asked("/slow")).toBe(1);
  });

  it("a task's load overtakes prefetches that fill every place, and they stand still meanwhile", async () => {
    const cache = await openCache({ concurrency: 1 });
    let sendRest = () => {};
    const big = store.on("/big", (_request, response) => {
      response.writeHead(200, { "content-length": 300 * KB });
      response.write(pattern(100 * KB));
      sendRest = () => response.end(pattern(200 * KB));
    });
    const order: string[] = [];
    const prefetched = loaded(cache.load(big, prefetch())).then(() => order.push("prefetch"));
    await store.untilAsked("/big");
    const queued = loaded(cache.load(store.put("/next", pattern(KB)), prefetch())).then(() => order.push("queued"));
    let answerTask = () => {};
    const own = store.on("/own", (_request, response) => {
      answerTask = () => response.end(pattern(10 * KB));
    });
    const task = loaded(cache.load(own, TASK)).then(() => order.push("task"));
    await store.untilAsked("/own");
    sendRest();
    answerTask();
    await Promise.all([prefetched, queued, task]);
    expect(order[0]).toBe("task");
  });
});

/** A disk of 1 MiB, where this process may make one. */
const smallDisk = mkdtempSync(join(tmpdir(), "forechain-disk-"));
const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", smallDisk]).status === 0;
afterAll(() => {
  if (mounted) spawnSync("umount", [smallDisk]);
  rmdirSync(smallDisk);
});

describe.skipIf(!mounted)(`a full disk${mounted ? "" : " (skipped: no right to mount one)"}`, () => {
  it("ends a download of unknown length with a reason, leaves nothing, and serves smaller ones on", async () => {
    const cache = await openCache({ folder: join(smallDisk, "cache"), maxBytes: 10_000 * KB });
    const uri = store.on("/large", (_request, response) => {
      response.writeHead(200);
      response.end(pattern(2_000 * KB));
    });
    expect(await cache.load(uri, TASK)).toMatchObject({ ok: false, reason: "disk_full" });
    expect(await readdir(join(smallDisk, "cache", "incoming"))).toEqual([]);
    await loaded(cache.load(store.put("/small", pattern(300 * KB)), TASK));
    const asked = store.requests.length;
    expect(await cache.load(store.uri("/told"), prefetch(0.9, 2_000 * KB))).toMatchObject({ reason: "disk_full" });
    expect(store.requests).toHaveLength(asked);
  });
});

describe("bounds", () => {
  it("an object larger than the free disk is refused before a byte is asked for", async () => {
    const cache = await openCache({ diskFreeBytesMin: Number.MAX_SAFE_INTEGER });
    const answer = await cache.load(store.put("/a", pattern(KB)), prefetch(0.9, KB));
    expect(answer).toMatchObject({ ok: false, reason: "disk_full" });
    expect(store.requests).toEqual([]);
  });

  it("prefetches larger than the cache evict nothing that is pinned or worth more, and stop with a reason", async () => {
    const cache = await openCache();
    const pinned = await cache.load(store.put("/pinned", pattern(400 * KB, 1)), TASK);
    // Used again and again: worth more than any guess.
    const dear = store.put("/dear", pattern(300 * KB, 2));
    for (let use = 0; use < 5; use++) await loaded(cache.load(dear, TASK));
    const results: boolean[] = [];
    for (let at = 0; at < 6; at++) {
      const answer = await cache.load(store.put(`/guess${at}`, pattern(100 * KB, 10 + at)), prefetch(0.0001, 100 * KB));
      if (answer.ok) answer.release();
      else expect(answer.reason).toBe("cache_full");
      results.push(answer.ok);
    }
    expect(results).toContain(true);
    expect(results).toContain(false);
    expect(cache.has(store.uri("/pinned"))).toBe(true);
    expect(cache.has(dear)).toBe(true);
    expect(cache.bytes()).toBeLessThanOrEqual(cache.maxBytes());
    // A task's own load takes what the guesses have.
    await loaded(cache.load(store.put("/needed", pattern(300 * KB, 3)), TASK));
    expect(cache.has(store.uri("/pinned"))).toBe(true);
    if (pinned.ok) pinned.release();
  });

  it("a prefetch of what is not there throws nothing out", async () => {
    const cache = await openCache();
    const kept = store.put("/kept", pattern(900 * KB));
    await loaded(cache.load(kept, TASK));
    expect(await cache.load(store.uri("/none"), prefetch(1, 500 * KB))).toMatchObject({ ok: false });
    expect(cache.has(kept)).toBe(true);
  });

  it("in-flight loads share the room: together they never pass the bound", async () => {
    const cache = await openCache();
    const uris = Array.from({ length: 8 }, (_, at) => store.put(`/o${at}`, pattern(300 * KB, at + 1)));
    const answers = await Promise.all(uris.map((uri) => cache.load(uri, TASK)));
    for (const answer of answers) if (!answer.ok) expect(answer.reason).toBe("cache_full");
    expect(cache.bytes()).toBeLessThanOrEqual(cache.maxBytes());
    expect(answers.filter(({ ok }) => ok).length).toBeGreaterThanOrEqual(3);
  });
});

describe("a store that names its versions", () => {
  it("a body that breaks off or stands still is continued where it stopped, of the same version", async () => {
    const bytes = pattern(300 * KB);
    const ranges: (string | undefined)[] = [];
    const uri = store.on("/big", (request, response) => {
      const { range } = request.headers;
      ranges.push(range);
      const from = range === undefined ? 0 : Number(/bytes=(\d+)-/.exec(range)![1]);
      if (range !== undefined) expect(request.headers["if-range"]).toBe('"v1"');
      response.writeHead(range === undefined ? 200 : 206, {
        etag: '"v1"',
        "content-length": bytes.length - from,
        ...(range === undefined ? {} : { "content-range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` }),
      });
      if (ranges.length === 1)
        response.write(bytes.subarray(0, 100 * KB), () => setImmediate(() => response.destroy()));
      else if (ranges.length === 2) response.write(bytes.subarray(from, from + 50 * KB));
      else response.end(bytes.subarray(from));
    });
    const cache = await openCache();
    const answer = await loaded(cache.load(uri, TASK));
    expect(await readFile(answer.path)).toEqual(bytes);
    expect(ranges).toHaveLength(3);
    expect(ranges[0]).toBeUndefined();
  });

  it("is not continued with another version, nor without a name for it", async () => {
    const cache = await openCache();
    const cut =
      (etag: Record<string, string>, rest: number) => (request: IncomingMessage, response: ServerResponse) => {
        response.writeHead(request.headers.range === undefined ? 200 : rest, { ...etag, "content-length": 9 * KB });
        response.write(pattern(KB), () => setImmediate(() => response.destroy()));
      };
    expect(await cache.load(store.on("/changed", cut({ etag: '"v1"' }, 200)), TASK)).toMatchObject({
      reason: "store_error",
    });
    expect(await cache.load(store.on("/weak", cut({ etag: 'W/"v1"' }, 206)), TASK)).toMatchObject({ reason: "broken" });
    expect(store.asked("/weak")).toBe(1);
  });

  it("is asked again when its max-age is over: unchanged costs no bytes, changed replaces, away keeps the old", async () => {
    const cache = await openCache();
    let version = 1;
    let status: number | null = null;
    const uri = store.on("/live", (request, response) => {
      const headers = { etag: `"v${version}"`, "cache-control": "max-age=0" };
      if (status !== null) response.writeHead(status).end();
      else if (request.headers["if-none-match"] === headers.etag) response.writeHead(304, headers).end();
      else response.writeHead(200, headers).end(pattern(9 * KB, version));
    });
    const read = async () => {
      const answer = await loaded(cache.load(uri, TASK));
      return { how: answer.how, same: (await readFile(answer.path)).equals(pattern(9 * KB, version)) };
    };
    expect(await read()).toEqual({ how: "loaded", same: true });
    expect(await read()).toEqual({ how: "cached", same: true });
    expect(cache.totals.loadedBytes).toBe(9 * KB);
    const old = await cache.load(uri, TASK);
    version = 2;
    expect(await read()).toEqual({ how: "loaded", same: true });
    if (!old.ok) throw new Error(old.detail);
    // Its reader still has the old version; then it is gone.
    expect(await readFile(old.path)).toEqual(pattern(9 * KB, 1));
    old.release();
    status = 503;
    expect(await read()).toEqual({ how: "cached", same: true });
    status = 404;
    expect(await cache.load(uri, TASK)).toMatchObject({ ok: false, reason: "not_found" });
    expect(cache.bytes()).toBe(9 * KB);
  });
});

describe("content", () => {
  it("equal bytes under two names are stored once, and stay while one name is left", async () => {
    const cache = await openCache();
    const first = await loaded(cache.load(store.put("/a", pattern(KB)), TASK));
    const second = await loaded(cache.load(store.put("/b", pattern(KB)), TASK));
    expect(second.path).toBe(first.path);
    expect(await cache.evict(store.uri("/a"))).toBe("evicted");
    expect((await loaded(cache.load(store.uri("/b"), TASK))).how).toBe("cached");
  });

  it("is told by use, the newest first", async () => {
    const cache = await openCache();
    const [a, b, c] = ["/a", "/b", "/c"].map((path, at) => store.put(path, pattern(KB, at + 1))) as [
      string,
      string,
      string,
    ];
    for (const uri of [a, b, c, a]) await loaded(cache.load(uri, TASK));
    expect(cache.uris(10)).toEqual([a, c, b]);
    expect(cache.uris(2)).toEqual([a, c]);
  });

  it("a pinned object is not evicted", async () => {
    const cache = await openCache();
    const answer = await cache.load(store.put("/a", pattern(KB)), TASK);
    expect(await cache.evict(store.uri("/a"))).toBe("busy");
    if (answer.ok) answer.release();
    expect(await cache.evict(store.uri("/a"))).toBe("evicted");
    expect(await cache.evict(store.uri("/a"))).toBe("absent");
  });

  it("survives a restart; what was cut or changed meanwhile is loaded again", async () => {
    const before = await openCache();
    const [kept, cut, changed] = [
      store.put("/kept", pattern(9 * KB, 1)),
      store.put("/cut", pattern(9 * KB, 2)),
      store.put("/changed", pattern(9 * KB, 3)),
    ];
    await loaded(before.load(kept, TASK));
    await truncate((await loaded(before.load(cut, TASK))).path, 100);
    await writeFile((await loaded(before.load(changed, TASK))).path, pattern(9 * KB, 4));
    await writeFile(join(folder, "cache", "incoming", "half"), "left by a crash");
    const after = await openCache();
    expect(await leftovers()).toEqual([]);
    expect((await loaded(after.load(kept, TASK))).how).toBe("cached");
    expect((await loaded(after.load(cut, TASK))).how).toBe("loaded");
    expect((await loaded(after.load(changed, TASK))).how).toBe("loaded");
    expect(store.requests).toEqual(["/kept", "/cut", "/changed", "/cut", "/changed"]);
  });

  it("a file is loaded from an allowed folder, not from elsewhere, also not through a link", async () => {
    const { symlink } = await import("node:fs/promises");
    const cache = await openCache();
    await writeFile(join(folder, "data.bin"), "data");
    await symlink("/etc/passwd", join(folder, "link"));
    expect((await loaded(cache.load(`file://${folder}/data.bin`, TASK))).bytes).toBe(4);
    for (const uri of [
      "file:///etc/passwd",
      `file://${folder}/link`,
      `file://${folder}/../../etc/passwd`,
      `file://host${folder}/data.bin`,
      // Whether it is there is not told either.
      "file:///etc/passwd",
      "file:///etc/none",
    ]) {
      expect(await cache.load(uri, TASK)).toMatchObject({ ok: false, reason: "refused" });
    }
    expect(await cache.load(`file://${folder}/none`, TASK)).toMatchObject({ ok: false, reason: "not_found" });
  });
});

// Which URIs and addresses may be loaded from.
import type { lookup as systemLookup } from "node:dns";
import { describe, expect, it, onTestFinished } from "vitest";
import { HttpFetcher } from "../../src/agent/fetchers/http.ts";
import { checkUri, guardedLookup, refusedAddress } from "../../src/agent/guard.ts";
import { TestStore } from "./store.ts";

const RULES = {
  schemes: ["https", "http"],
  hosts: ["store.example.net", "*.objects.example.net", "10.0.0.7:9000", "127.0.0.1:9000"],
};

describe("a URI", () => {
  const cases: [string, boolean, string][] = [
    ["https://store.example.net/a/b.bin?x=1", true, ""],
    ["https://STORE.example.net:443/a", true, ""],
    ["http://a.objects.example.net/a", true, ""],
    ["http://10.0.0.7:9000/a", true, ""],
    ["http://127.0.0.1:9000/a", true, ""],
    ["https://store.example.net/a..b/..c", true, ""],
    ["http://127.0.0.1:9001/a", false, "host"],
    ["http://10.0.0.7/a", false, "host"],
    ["https://evil.net/a", false, "host"],
    ["https://evilobjects.example.net/a", false, "host"],
    ["https://objects.example.net.evil.net/a", false, "host"],
    ["ftp://store.example.net/a", false, "scheme"],
    ["file:///etc/passwd", false, "scheme"],
    ["https://user:secret@store.example.net/a", false, "user"],
    ["https://user@store.example.net/a", false, "user"],
    ["https://store.example.net/a/../b", false, ".."],
    ["https://store.example.net/a/%2e%2E/b", false, ".."],
    ["https://store.example.net/a/..%2fb", false, ".."],
    ["https://store.example.net/..", false, ".."],
    ["https://store.example.net/a%2f..%2fb", false, ".."],
    ["https://store.example.net/a%5C%2e./b", false, ".."],
    ["https://store.example.net/..;/b", false, ".."],
    ["https://store.example.net/a/.\t./b", false, "control"],
    ["https://store.example.net\\@evil.net/a", true, ""],
    ["https://evil.net?@store.example.net/a", false, "host"],
    ["https://store.example.net./a", false, "host"],
    ["not a uri", false, "absolute"],
  ];
  for (const [uri, ok, reason] of cases) {
    it(`${uri} is ${ok ? "allowed" : `refused: ${reason}`}`, () => {
      const answer = checkUri(uri, RULES);
      expect(answer.ok).toBe(ok);
      if (!answer.ok) expect(answer.detail).toContain(reason);
    });
  }

  it("is judged by the address it means, however it is written", () => {
    const rules = {
      schemes: ["http"],
      hosts: ["*.net", "169.254.169.254", "2852039166", "0xa9fea9fe", "[::ffff:169.254.169.254]", "[fe80::1]"],
    };
    for (const host of [
      "169.254.169.254",
      "2852039166",
      "0xa9.0xfe.0xa9.0xfe",
      "[::ffff:169.254.169.254]",
      "[fe80::1]",
    ]) {
      expect(checkUri(`http://${host}/latest/meta-data`, rules).ok).toBe(false);
    }
  });
});

describe("an address", () => {
  const cases: [string, boolean, boolean][] = [
    ["93.184.216.34", false, true],
    ["10.1.2.3", false, true],
    ["fd12:3456::1", false, true],
    ["2606:2800:220:1::1", false, true],
    ["127.0.0.1", false, false],
    ["127.0.0.1", true, true],
    ["::1", false, false],
    ["::1", true, true],
    ["169.254.169.254", true, false],
    ["169.254.0.1", true, false],
    ["fe80::1", true, false],
    ["::ffff:169.254.169.254", true, false],
    ["64:ff9b::a9fe:a9fe", true, false],
    ["2002:a9fe:a9fe::1", true, false],
    ["100.100.100.200", true, false],
    ["fd00:ec2::254", true, false],
    ["fd00:42::42", true, false],
    ["168.63.129.16", true, false],
    ["::ffff:0:169.254.169.254", true, false],
    ["64:ff9b:1::a9fe:a9fe", true, false],
    ["0.0.0.0", true, false],
    ["::", true, false],
    ["224.0.0.1", true, false],
    ["255.255.255.255", true, false],
  ];
  for (const [address, loopbackAllowed, ok] of cases) {
    it(`${address}${loopbackAllowed ? " (loopback listed)" : ""} is ${ok ? "allowed" : "refused"}`, () => {
      expect(refusedAddress(address, loopbackAllowed) === null).toBe(ok);
    });
  }
});

describe("a name", () => {
  const resolve = (name: string, hosts: string[]) =>
    new Promise<string | null>((settle) => {
      guardedLookup({ schemes: ["http"], hosts })(name, { all: false }, (error) => settle(error?.message ?? null));
    });

  it("that leads to loopback is allowed only where it is listed itself", async () => {
    expect(await resolve("localhost", ["localhost:9000"])).toBeNull();
    expect(await resolve("localhost", ["*.example.net"])).toContain("loopback");
  });

  /** Asks a real store by a name whose addresses are the next of `answers`, each time that anybody looks it up. */
  async function asked(path: string, ...answers: string[][]) {
    const store = await TestStore.start();
    onTestFinished(() => store.stop());
    const port = Number(store.host.split(":")[1]);
    const resolve = ((_name: string, _options: object, callback: (error: null, found: object[]) => void) => {
      const addresses = answers.shift() ?? [];
      callback(
        null,
        addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 })),
      );
    }) as typeof systemLookup;
    const rules = {
      schemes: ["http" as const],
      hosts: [`localhost:${port}`, `elsewhere.example.net:${port}`],
      fileRoots: [],
      mirrors: {},
      stallMs: 5_000,
      prefetchConcurrency: 1,
    };
    const fetcher = new HttpFetcher(rules, guardedLookup(rules, resolve));
    store.on("/object", (_request, response) => response.writeHead(200, { connection: "close" }).end("bytes"));
    store.on("/moved", (_request, response) => {
      response.writeHead(302, { location: `http://elsewhere.example.net:${port}/object` }).end();
    });
    const open = async () => {
      const source = await fetcher.open(new URL(`http://localhost:${port}${path}`), AbortSignal.timeout(5_000), null);
      if (source === "unchanged") throw new Error("nothing was known before");
      let text = "";
      for await (const piece of source.body) text += piece;
      return text;
    };
    return { store, open };
  }

  it("that leads elsewhere the second time is judged by what it then leads to", async () => {
    const { store, open } = await asked("/object", ["127.0.0.1"], ["169.254.169.254"], ["127.0.0.1"]);
    expect(await open()).toBe("bytes");
    await expect(open()).rejects.toMatchObject({ reason: "refused", message: expect.stringContaining("linkLocal") });
    expect(await open()).toBe("bytes");
    expect(store.requests).toEqual(["/object", "/object"]);
  });

  it("that leads to several addresses is refused for one of them", async () => {
    const { store, open } = await asked("/object", ["127.0.0.1", "fe80::1"], ["fd00:ec2::254", "127.0.0.1"]);
    await expect(open()).rejects.toMatchObject({ reason: "refused", message: expect.stringContaining("fe80::1") });
    await expect(open()).rejects.toMatchObject({ reason: "refused", message: expect.stringContaining("metadata") });
    expect(store.requests).toEqual([]);
  });

  it("that a redirect leads to is judged like the first", async () => {
    for (const address of ["169.254.169.254", "127.0.0.1", "::1", "::ffff:169.254.169.254"]) {
      const { store, open } = await asked("/moved", ["127.0.0.1"], [address]);
      await expect(open()).rejects.toMatchObject({ reason: "refused", message: expect.stringContaining("elsewhere") });
      expect(store.requests).toEqual(["/moved"]);
    }
  });
});

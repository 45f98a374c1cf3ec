// Objects made during a run, with real processes: a worker, two agents on two VMs, and a store that takes its time. A task on one VM
// writes an object under a name that is new in each run; the task that reads it runs on the other. In the end that one's agent has asked the
// store for it before anybody reads it.
import { writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Place, WITHIN_MS } from "./place.ts";
import { HAS_PROC } from "./processes.ts";

/** The store's own time for an object: what a reader waits for that nobody has prepared. */
const STORE_MS = 1_500;
const OBJECT_BYTES = 50_000;
/** Between the two tasks of a run: longer than the object takes, so that a fetch that was begun at its writing is over. */
const GAP_MS = 3_000;
const RUNS_LEARNED = 8;
const RUNS_UNTIL_LEARNED_MAX = 15;

/** Writes an object and tells of it (`make`), or reads the one that it is asked for and tells how long that took (`join`). */
const PROGRAM = `
import { createServer } from "node:http";
const { PORT, ROLE, STORE, FORECHAIN_OBJECTS, FORECHAIN_TOKEN } = process.env;
createServer(async (request, response) => {
  if (request.url === "/healthz") return response.end("ready");
  let body = "";
  for await (const piece of request) body += piece;
  const { uri } = JSON.parse(body);
  if (ROLE === "make") {
    await fetch(uri, { method: "PUT", body: "x".repeat(${OBJECT_BYTES}) });
    response.setHeader("forechain-outputs", JSON.stringify([{ uri, bytes: ${OBJECT_BYTES} }]));
    return response.end("written");
  }
  const beganMs = performance.now();
  const headers = { authorization: "Bearer " + FORECHAIN_TOKEN };
  const answer = await fetch(FORECHAIN_OBJECTS + "?uri=" + encodeURIComponent(uri), { headers });
  const { length } = await answer.text();
  response.end(JSON.stringify({ status: answer.status, length, waitedMs: performance.now() - beganMs }));
}).listen(Number(PORT), "127.0.0.1");
`;

const place = new Place();
let store: Server;
let origin = "";
/** When each object was asked for first, ms. */
const askedMs = new Map<string, number>();

function startStore(): Promise<void> {
  const objects = new Map<string, string>();
  store = createServer(async (request, response) => {
    const path = request.url!;
    if (request.method === "PUT") {
      let body = "";
      for await (const piece of request) body += piece;
      objects.set(path, body);
      return response.end();
    }
    if (!askedMs.has(path)) askedMs.set(path, performance.now());
    await delay(STORE_MS);
    const body = objects.get(path);
    return body === undefined ? response.writeHead(404).end() : response.end(body);
  });
  return new Promise((resolve) => store.listen(0, "127.0.0.1", resolve));
}

function startAgent(vm: string, task: string) {
  return place.agent(vm, {
    announceUrl: "auto",
    objects: { schemes: ["http"], hosts: [new URL(origin).host] },
    tasks: {
      [task]: {
        driver: "process",
        command: ["node", join(place.folder, "task.mjs")],
        cwd: place.folder,
        readyPath: "/healthz",
        env: { ROLE: task, STORE: origin },
      },
    },
  });
}

/** What the reader was told, and whether the store had been asked before it was called. */
async function run(name: string) {
  const uri = `${origin}/part-${name}.bin`;
  const made = await place.call("POST", "/v1/invoke/make", { uri });
  await delay(GAP_MS);
  const calledMs = performance.now();
  const continuation = made.headers.get("forechain-continuation") ?? "";
  const joined = await place.call("POST", "/v1/invoke/join", { uri }, { "forechain-continuation": continuation });
  const read = JSON.parse(joined.text) as { status: number; length: number; waitedMs: number };
  return { ...read, aheadMs: calledMs - askedMs.get(`/part-${name}.bin`)! };
}

describe.skipIf(!HAS_PROC)(`an object made during a run${HAS_PROC ? "" : " (skipped: no /proc)"}`, () => {
  beforeAll(async () => {
    await startStore();
    origin = `http://127.0.0.1:${(store.address() as AddressInfo).port}`;
    writeFileSync(join(place.folder, "task.mjs"), PROGRAM);
    await place.start();
    await Promise.all([startAgent("vm-1", "make"), startAgent("vm-2", "join")]);
  }, WITHIN_MS);

  afterAll(async () => {
    await place.stop();
    store.closeAllConnections();
    store.close();
  }, WITHIN_MS);

  it("is brought to the VM of its reader before it is read", { timeout: WITHIN_MS }, async () => {
    const before = await run("0");
    expect(before).toMatchObject({ status: 200, length: OBJECT_BYTES });
    expect(before.waitedMs).toBeGreaterThan(STORE_MS * 0.9);
    expect(before.aheadMs).toBeLessThan(0);
    await Promise.all(Array.from({ length: RUNS_LEARNED }, (_, i) => run(String(i + 1))));
    await place.call("PUT", "/v1/policy", { mode: "active" });
    // Runs are learned seconds after their end, and a model of them is published later still.
    let after = await run("100");
    for (let more = 1; after.aheadMs < 0 && more < RUNS_UNTIL_LEARNED_MAX; more++) after = await run(`${100 + more}`);
    expect(after).toMatchObject({ status: 200, length: OBJECT_BYTES });
    expect(after.aheadMs).toBeGreaterThan(STORE_MS);
    expect(after.waitedMs).toBeLessThan(STORE_MS / 2);
  });
});

// The event stream tells allocations, outcomes and the fleet as they happen, to keys that may read, of their workspace only.
import { exports } from "cloudflare:workers";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { newId } from "../../src/edge/ids.ts";
import { GIB, newWorld, testEnv, type World } from "./world.ts";

let world: World;
beforeEach(async () => {
  world = await newWorld();
});
afterEach(() => vi.restoreAllMocks());

/** All that a stream has said so far; `until` reads on until one event of it is as wanted. */
class Heard {
  readonly reader: ReadableStreamDefaultReader<string>;
  #text = "";

  constructor(response: Response) {
    this.reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  }

  get said(): string {
    return this.#text;
  }

  async until(isWanted: (event: string, data: string) => boolean): Promise<string> {
    for (;;) {
      for (const block of this.#text.split("\n\n")) {
        const event = /^event: (.*)$/m.exec(block)?.[1] ?? "";
        const data = /^data: (.*)$/m.exec(block)?.[1] ?? "";
        if (isWanted(event, data)) return data;
      }
      const { value, done } = await this.reader.read();
      if (done) throw new Error(`the stream ended after ${this.#text}`);
      this.#text += value;
    }
  }
}

const open = (key: string, headers: Record<string, string> = {}) =>
  (exports as unknown as { default: Fetcher }).default.fetch("https://forechain.test/v1/events", {
    headers: { authorization: `Bearer ${key}`, ...headers },
  });

test("an allocation and the fleet are told, another workspace's are not", async () => {
  const other = await newWorld();
  await other.heartbeat("rome", "vm-1", ["b"]);
  const response = await open(await world.key(["read"]));
  expect(response.headers.get("content-type")).toContain("text/event-stream");
  const heard = new Heard(response);
  await heard.until((event) => event === "hello");
  await world.heartbeat("paris", "vm-1", ["a"]);
  await other.call("POST", "/v1/allocations", { task: "b", runId: "theirs" });
  // The stream's own look at the fleet may have come just before the agent joined, and is believed for a moment.
  const body = await vi.waitFor(async () => {
    const allocated = await world.call("POST", "/v1/allocations", { task: "a", runId: "ours" });
    expect(allocated.status).toBe(200);
    return allocated.body;
  });
  const told = await heard.until((event) => event === "allocation");
  expect(JSON.parse(told)).toMatchObject({ allocationId: body.allocationId, runId: "ours", cluster: "paris" });
  const fleet = await heard.until((event, data) => event === "fleet" && data.includes("vm-1"));
  expect(JSON.parse(fleet)).toMatchObject({ mode: "shadow", clusters: [{ cluster: "paris", vms: [{ vm: "vm-1" }] }] });
  await heard.reader.cancel();
});

test("needs a key that may read", async () => {
  expect((await open(await world.key(["ingest"]))).status).toBe(403);
});

test("a call is told when it has been answered, however many that began after it were told before; its record has both times", async () => {
  let answerOuter = () => {};
  const outerAnswer = new Promise<void>((resolve) => {
    answerOuter = resolve;
  });
  vi.spyOn(globalThis, "fetch").mockImplementation(async (input, init) => {
    if (new URL(new Request(input as RequestInfo, init as RequestInit).url).pathname.endsWith("outer"))
      await outerAnswer;
    return new Response("done");
  });
  const vm = { vm: "vm-1", url: "http://vm.agents.test", cpuCores: 4, memoryBytes: 4 * GIB };
  await world.call("PUT", "/v1/clusters/paris", { vms: [vm] });
  await world.heartbeat("paris", "vm-1", ["outer", "inner"]);
  const heard = new Heard(await open(world.admin));
  await heard.until((event) => event === "fleet");
  const begunMs = Date.now();
  const outer = world.call("POST", "/v1/invoke/outer");
  await vi.waitFor(() => expect(globalThis.fetch).toHaveBeenCalledTimes(1));
  const innerId = (await world.call("POST", "/v1/invoke/inner")).headers.get("forechain-allocation")!;
  await heard.until((_, data) => data.includes(innerId));
  const answeredMs = Date.now();
  answerOuter();
  const outerId = (await outer).headers.get("forechain-allocation")!;
  expect(outerId < innerId).toBe(true);
  const told = JSON.parse(await heard.until((_, data) => data.includes(outerId)));
  expect(told.createdMs).toBeGreaterThanOrEqual(begunMs);
  expect(told.createdMs).toBeLessThan(answeredMs);
  expect(told.answeredMs).toBeGreaterThanOrEqual(answeredMs);
  await heard.reader.cancel();
  // Who comes back with the inner call has not had the outer one; who comes back with the outer one has had both.
  const again = new Heard(await open(world.admin, { "last-event-id": innerId }));
  await again.until((_, data) => data.includes(outerId));
  await again.reader.cancel();
  const last = new Heard(await open(world.admin, { "last-event-id": outerId }));
  await last.until((event) => event === "fleet");
  expect(last.said).not.toContain("event: allocation");
  await last.reader.cancel();
});

test("who comes back after an hour is told what came meanwhile", async () => {
  const ids = [70, 60, 50].map((minutes) => newId(Date.now() - minutes * 60_000));
  await testEnv.DB.prepare(
    `INSERT INTO allocations (workspace, allocation_id, run_id, execution_id, task, state, answer, created_ms)
     SELECT ?1, value, 'run', value, 'a', 'executed', '{}', 0 FROM json_each(?2)`,
  )
    .bind(world.workspace, JSON.stringify(ids))
    .run();
  const heard = new Heard(await open(world.admin, { "last-event-id": ids[0]! }));
  await heard.until((_, data) => data.includes(ids[2]!));
  expect(heard.said.match(/^id: .*$/gm)).toEqual([`id: ${ids[1]}`, `id: ${ids[2]}`]);
  await heard.reader.cancel();
});

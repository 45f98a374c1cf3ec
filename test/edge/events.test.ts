// The event stream tells allocations, outcomes and the fleet as they happen, to keys that may read, of their workspace only.
import { exports } from "cloudflare:workers";
import { beforeEach, expect, test, vi } from "vitest";
import { newWorld, type World } from "./world.ts";

let world: World;
beforeEach(async () => {
  world = await newWorld();
});

/** All that a stream has said so far; `until` reads on until one event of it is as wanted. */
class Heard {
  readonly reader: ReadableStreamDefaultReader<string>;
  #text = "";

  constructor(response: Response) {
    this.reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
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

const open = (key: string) =>
  (exports as unknown as { default: Fetcher }).default.fetch("https://forechain.test/v1/events", {
    headers: { authorization: `Bearer ${key}` },
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

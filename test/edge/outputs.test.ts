// What an execution has written is brought to where its run goes on, when its record comes.
import { runDurableObjectAlarm } from "cloudflare:test";
import { beforeEach, expect, test } from "vitest";
import type { Command, Execution } from "../../src/protocol.ts";
import { clockAhead, newWorld, offerOf, testEnv, type World } from "./world.ts";

const CLUSTER = "paris";
const MB = 1_000_000;
let world: World;
let agentKey: string;
const clock = clockAhead();

beforeEach(async () => {
  world = await newWorld();
  agentKey = await world.key(["agent"], CLUSTER, "vm-1");
  await world.call("PUT", "/v1/policy", { mode: "active" });
  for (const vm of ["vm-1", "vm-2"]) await world.heartbeat(CLUSTER, vm, ["split", "merge", "log"]);
});

const output = (name: string) => ({ uri: `https://store.test/${name}.bin`, bytes: 10 * MB });
/** `split` writes a part that `merge` reads; `log` writes what nobody reads. */
function run(name: string): Execution[] {
  const endMs = Date.now() - 100;
  const one = (task: string, startMs: number, rest: Partial<Execution>): Execution => ({
    runId: name,
    executionId: `${task} of ${name}`,
    task,
    startMs,
    endMs: startMs + 50,
    status: "ok",
    cluster: CLUSTER,
    vm: "vm-1",
    ...rest,
  });
  const split = one("split", endMs - 300, { outputs: [output(`part-${name}`)] });
  const log = one("log", endMs - 200, { links: [split.executionId], outputs: [output(`log-${name}`)] });
  const merge = one("merge", endMs - 100, { links: [split.executionId], inputs: [output(`part-${name}`)] });
  return [split, log, merge];
}
const post = async (executions: Execution[]) =>
  expect((await world.call("POST", "/v1/executions", { executions }, agentKey)).status).toBe(202);

/** Twelve runs are known, and their model is published. */
async function learned(): Promise<void> {
  for (let n = 0; n < 12; n++) await post(run(`old-${n}`));
  clock.aheadMs += 6_000;
  await runDurableObjectAlarm(testEnv.GRAPH_WRITER.getByName(world.workspace));
  for (const vm of ["vm-1", "vm-2"]) await world.heartbeat(CLUSTER, vm, ["split", "merge", "log"]);
  expect((await world.call("POST", "/v1/predictions", { task: "split" })).body.modelVersion).toBe(1);
}
/** The run's first task was allocated, the later ones are expected on vm-2. */
const begin = (runId: string) =>
  world.hub(CLUSTER).admit(world.workspace, offerOf([], { runId, task: "split", vms: { merge: "vm-2", log: "vm-2" } }));
async function commands(vm: string): Promise<Command[]> {
  return (await world.hub(CLUSTER).commands(world.workspace, CLUSTER, vm, 0, 16)).commands;
}

test("where the next task is expected, once, and only what is likely to be read", async () => {
  await learned();
  await begin("new");
  const [split, log, merge] = run("new") as [Execution, Execution, Execution];
  await post([split]);
  const given = await commands("vm-2");
  expect(given).toMatchObject([{ kind: "prefetch", ...output("part-new"), probability: 1 }]);
  expect(given[0]!.expiresMs).toBeGreaterThan(Date.now() + 50_000);
  expect(await commands("vm-1")).toEqual([]);
  // The same record again, and what is never read.
  await post([split, log]);
  await post([merge]);
  expect(await commands("vm-2")).toEqual([]);
});

test("to the VM of who reads it, though another task follows first", async () => {
  await learned();
  await world
    .hub(CLUSTER)
    .admit(world.workspace, offerOf([], { runId: "old-77", task: "split", vms: { log: "vm-1", merge: "vm-2" } }));
  await post(run("old-77").slice(0, 1));
  expect(await commands("vm-1")).toEqual([]);
  expect(await commands("vm-2")).toMatchObject([{ kind: "prefetch", task: "merge", ...output("part-old-77") }]);
});

test.each<[string, () => Promise<unknown>]>([
  ["in shadow", () => world.call("PUT", "/v1/policy", { mode: "shadow" })],
  ["of a run that nobody allocated", async () => {}],
])("not %s", async (name, arrange) => {
  await learned();
  await arrange();
  if (name === "in shadow") await begin("new");
  await post(run("new").slice(0, 1));
  expect(await commands("vm-2")).toEqual([]);
});

test("not of a log that is told afterwards, nor before anything is known of whether it is read", async () => {
  await begin("old");
  await post(run("old").slice(0, 1));
  await learned();
  await begin("new");
  const [split] = run("new");
  await post([{ ...split!, startMs: split!.startMs - 100_000, endMs: split!.endMs - 100_000 }]);
  expect(await commands("vm-2")).toEqual([]);
});

// Whether a VM's announced URL takes effect: by the hosts that the operator has approved, and by nothing that only looks like them.
import { beforeEach, describe, expect, test } from "vitest";
import { forgetFleetView } from "../../src/edge/fleet-cache.ts";
import { newWorld, type World } from "./world.ts";

let world: World;
beforeEach(async () => {
  world = await newWorld();
});

describe("an agent's URL", () => {
  test.each<[string, string[], boolean]>([
    ["https://vm-1.agents.test", ["vm-1.agents.test"], true],
    ["https://VM-1.agents.TEST", ["vm-1.Agents.test"], true],
    ["https://vm-1.agents.test:8700", ["vm-1.agents.test"], true],
    ["https://vm-1.agents.test:8700", ["vm-1.agents.test:8700"], true],
    ["https://vm-1.agents.test:9999", ["vm-1.agents.test:8700"], false],
    ["https://vm-1.agents.test", ["*.agents.test"], true],
    ["https://vm-1.agents.test:8700", ["*.agents.test:8700"], true],
    ["https://vm-1.agents.test:9999", ["*.agents.test:8700"], false],
    ["http://[fd00::7]:8700", ["[fd00::7]"], true],
    ["https://vm-1.agents.test", [], false],
    ["https://agents.test", ["*.agents.test"], false],
    ["https://evilagents.test", ["*.agents.test"], false],
    ["https://vm-1.agents.test.evil.net", ["*.agents.test"], false],
    ["https://evil.net/.agents.test", ["*.agents.test"], false],
    ["https://evil.net?.agents.test", ["*.agents.test"], false],
    ["https://evil.net#.agents.test", ["*.agents.test"], false],
    ["https://vm-1.agents.test@evil.net", ["*.agents.test"], false],
    ["https://user@vm-1.agents.test", ["*.agents.test"], false],
    ["https://evil.net\\@vm-1.agents.test", ["*.agents.test"], false],
  ])("%s with %j: %s", async (url, approvedHosts, ok) => {
    await world.call("PUT", "/v1/clusters/paris", { approvedHosts });
    const beat = await world.heartbeat("paris", "vm-1", ["a"], { url });
    // What is no URL of a VM is refused at once.
    expect(ok ? [200] : [200, 422]).toContain(beat.status);
    if (beat.status !== 200) return;
    forgetFleetView(world.workspace);
    const { body } = await world.call("POST", "/v1/allocations", { task: "a", runId: "r", dryRun: true });
    expect(body).toMatchObject({ cluster: "paris", vm: "vm-1", url: ok ? url : null });
  });

  test.each(["https://vm-1.agents.test", "*", "a.*.test", "vm 1", "vm-1.agents.test/x"])(
    "%s is no pattern",
    async (pattern) => {
      expect(await world.call("PUT", "/v1/clusters/paris", { approvedHosts: ["ok.test", pattern] })).toMatchObject({
        status: 422,
        body: { errors: [{ pointer: "/approvedHosts/1", detail: "expected `host`, `host:port` or `*.suffix`" }] },
      });
    },
  );
});

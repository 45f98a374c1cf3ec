// An agent on a disk that is full: real process, real disk (a small tmpfs, where this process may mount one). What needs room is refused
// with the reason; calls, records and commands that need none go on.
import { spawnSync } from "node:child_process";
import { appendFileSync, mkdtempSync, rmdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { startTestAgent } from "./start.ts";
import { pattern, TestStore } from "./store.ts";

const disk = mkdtempSync(join(tmpdir(), "forechain-full-"));
const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=2m", "tmpfs", disk]).status === 0;
afterAll(() => {
  if (mounted) spawnSync("umount", [disk]);
  rmdirSync(disk);
});

/** To the last byte; gives how to empty it again. */
function fill(): () => void {
  const filler = join(disk, "filler");
  for (const bytes of [2 ** 16, 2 ** 12, 1]) {
    try {
      for (;;) appendFileSync(filler, Buffer.alloc(bytes, 1));
    } catch (error) {
      expect((error as NodeJS.ErrnoException).code).toBe("ENOSPC");
    }
  }
  return () => rmSync(filler);
}

describe.skipIf(!mounted)(`an agent whose disk is full${mounted ? "" : " (skipped: no right to mount one)"}`, () => {
  it("goes on with what needs no room, tells what does, and has all of it back with the room", async () => {
    const store = await TestStore.start();
    const [told, untold] = [store.put("/told", pattern(200_000)), store.uri("/untold")];
    store.on("/untold", (_request, response) => void response.writeHead(200).end(pattern(200_000, 2)));
    const agent = await startTestAgent({
      folder: disk,
      config: {
        cache: { folder: "cache", maxBytes: "64 MiB", diskFreeBytesMin: 0 },
        objects: { schemes: ["http"], hosts: [store.host] },
      },
    });
    const { hub } = agent;
    const prefetch = (uri: string) => hub.result(hub.send({ kind: "prefetch", uri }));
    const read = async (uri: string, id: string) =>
      (await agent.invoke("echo", id, `/read?uri=${encodeURIComponent(uri)}`)).json();
    const empty = fill();
    expect((await agent.invoke("echo", "e1")).status).toBe(200);
    for (const uri of [told, untold]) {
      expect(await prefetch(uri)).toMatchObject({ state: "failed", reason: expect.stringMatching(/disk_full/) });
      expect(await read(uri, `read ${uri}`)).toMatchObject({ status: 502, text: expect.stringContaining("disk_full") });
    }
    // Kept in memory, since no line could be written.
    await hub.execution(`read ${untold}`);
    expect(hub.executions).toHaveLength(3);
    empty();
    for (const uri of [told, untold]) expect(await prefetch(uri)).toMatchObject({ state: "done", bytes: 200_000 });
    expect(await read(told, "e4")).toMatchObject({ status: 200, bytes: 200_000 });
    expect(agent.child.exitCode).toBeNull();
    await store.stop();
  });
});

// The configuration file: every fault is told with its line; the example of the documentation is valid.
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { type ConfigFault, parseConfig } from "../../src/agent/config.ts";

const ROOT = resolve(import.meta.dirname, "../..");

const GOOD = [
  "url: https://forechain.example.dev",
  "key: fck_a_b",
  "cluster: east",
  "vm: east-1",
  "stateFolder: state",
  "cache: { folder: cache, maxBytes: 1.5 GiB }",
  "tasks:",
  "  thumb:",
  "    command: [node, server.js]",
];

async function faults(lines: string[], environment: Record<string, string> = {}): Promise<ConfigFault[]> {
  const answer = await parseConfig(lines.join("\n"), "/base", environment);
  return answer.ok ? [] : answer.faults;
}

function withLine(at: number, ...lines: string[]): string[] {
  return [...GOOD.slice(0, at - 1), ...lines, ...GOOD.slice(at)];
}

describe("a configuration", () => {
  it("that is good gets its defaults; folders are taken from where the file is", async () => {
    const answer = await parseConfig(GOOD.join("\n"), "/base", {});
    if (!answer.ok) throw new Error(JSON.stringify(answer.faults));
    expect(answer.config).toMatchObject({
      stateFolder: "/base/state",
      cache: { folder: "/base/cache", maxBytes: 1.5 * 2 ** 30 },
      listen: { host: "127.0.0.1", port: 8700 },
      socket: true,
      objects: { schemes: ["https"], hosts: [] },
      tasks: { thumb: { driver: "process", cwd: "/base", keepAliveMs: 60_000, readyPath: "/healthz" } },
    });
  });

  const cases: [string, string[], number, string, RegExp][] = [
    ["an unknown field", withLine(6, GOOD[5]!, "colour: red"), 7, "colour", /unknown field/],
    ["an unknown field further down", [...GOOD, "    colour: red"], 10, "tasks.thumb.colour", /unknown field/],
    ["a wrong type", withLine(4, "vm: [1]"), 4, "vm", /string/],
    ["a bad name", withLine(3, "cluster: a/b"), 3, "cluster", /letters/],
    ["a bad URL", withLine(1, "url: ftp://x"), 1, "url", /URL/],
    ["a bad size", withLine(6, "cache: { folder: c, maxBytes: 3 GB }"), 6, "cache.maxBytes", /20 GiB/],
    ["an empty command", withLine(9, "    command: []"), 9, "tasks.thumb.command", /Too small/i],
    ["a missing field, told at its parent", withLine(9, "    version: '1'"), 9, "tasks.thumb.command", /array/],
    ["an unknown driver", [...GOOD, "    driver: rocket"], 10, "tasks.thumb.driver", /Invalid/],
    ["S3 without buckets", [...GOOD, "objects: { schemes: [s3] }"], 10, "objects.schemes", /section `s3`/],
    ["images without an engine", [...GOOD, "objects: { schemes: [oci] }"], 10, "objects.schemes", /containers/],
    [
      "no address to announce",
      [...GOOD, "listen: { host: 0.0.0.0 }", "announceUrl: auto"],
      11,
      "announceUrl",
      /nobody/,
    ],
    [
      "a cache around a file root",
      [...GOOD, "objects: { schemes: [file], fileRoots: [/base/cache/models] }"],
      6,
      "cache.folder",
      /would remove/,
    ],
    [
      "a file root as its cache",
      [...GOOD, "objects: { fileRoots: [/base/cache/] }"],
      6,
      "cache.folder",
      /would remove/,
    ],
    ["no YAML", withLine(2, "key: [a"), 3, "", /./],
    ["a key twice", withLine(4, "cluster: west"), 4, "", /unique/],
  ];
  for (const [name, lines, line, field, detail] of cases) {
    it(`with ${name} is refused at its line`, async () => {
      const found = await faults(lines);
      expect(found[0]).toMatchObject({ line, field });
      expect(found[0]!.detail).toMatch(detail);
    });
  }

  it("tells all its faults at once", async () => {
    expect(await faults([...withLine(4, "vm: [1]"), "colour: red", "    "])).toHaveLength(2);
  });

  it("needs a key: its own, a file's, or the environment's", async () => {
    const without = GOOD.filter((line) => !line.startsWith("key"));
    expect((await faults(without))[0]?.detail).toContain("FORECHAIN_KEY");
    expect(await faults(without, { FORECHAIN_KEY: "fck_a_b" })).toEqual([]);
    expect((await faults([...without, "keyFile: none"]))[0]).toMatchObject({ line: 9, field: "keyFile" });
  });

  it("of the documentation is valid", async () => {
    const text = await readFile(join(ROOT, "docs/agent.example.yaml"), "utf8");
    const answer = await parseConfig(text.replace(/^keyFile:.*$/m, "key: fck_a_b"), "/etc", {});
    expect(answer).toMatchObject({ ok: true });
  });

  it("tells its faults in the order of their lines", async () => {
    const found = await faults([...withLine(3, "cluster: a/b"), "listne: {}"].toSpliced(4, 0, "colour: red"));
    expect(found.map(({ line }) => line)).toEqual([3, 5, 11]);
  });

  it("names programs and folders of tasks that are not on this machine, where it is asked to", async () => {
    const folder = await mkdtemp(join(tmpdir(), "forechain-config-"));
    try {
      await writeFile(join(folder, "run"), "", { mode: 0o755 });
      await writeFile(join(folder, "text"), "", { mode: 0o644 });
      const task = (name: string, fields: string) => `  ${name}: { ${fields} }`;
      const answer = await parseConfig(
        [
          ...GOOD.slice(0, 7),
          task("found", "command: [run]"),
          task("elsewhere", "command: [run], env: { PATH: /nowhere }"),
          task("here", "command: [./run]"),
          task("text", "command: [./text]"),
          task("lost", "command: [run], cwd: lost"),
          task("packed", "command: [./start], code: https://store.example.net/code.tgz"),
          task("unknown", "command: [no-such-program, x]"),
          task("remote", "driver: http, endpoint: http://127.0.0.1:9"),
        ].join("\n"),
        folder,
        { PATH: `/nowhere:${folder}` },
      );
      if (!answer.ok) throw new Error(JSON.stringify(answer.faults));
      expect(await answer.programFaults()).toEqual([
        { line: 9, field: "tasks.elsewhere.command", detail: "run is not found on PATH" },
        { line: 11, field: "tasks.text.command", detail: `${folder}/text is no program that can be run` },
        { line: 12, field: "tasks.lost.cwd", detail: `there is no folder ${folder}/lost` },
        { line: 14, field: "tasks.unknown.command", detail: "no-such-program is not found on PATH" },
      ]);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it("makes its folders when an agent starts, and tells the field and line of those that cannot be used", async () => {
    const folder = await mkdtemp(join(tmpdir(), "forechain-config-"));
    try {
      await writeFile(join(folder, "file"), "");
      const unusable: [string, RegExp][] = [
        ["file", /a file is in its place/],
        ["file/below", /a file is in its place/],
        ...(process.platform === "linux" ? [["/proc/forechain/cache", /cannot be used/] as [string, RegExp]] : []),
      ];
      for (const [path, detail] of unusable) {
        const lines = withLine(6, `cache: { folder: ${path}, maxBytes: 1 GiB }`);
        const answer = await parseConfig(lines.join("\n"), folder, {});
        if (!answer.ok) throw new Error(JSON.stringify(answer.faults));
        // What a file system refuses to make is found by making it.
        for (const how of path.startsWith("/proc") ? (["make"] as const) : (["look", "make"] as const)) {
          const found = await answer.folderFaults(how);
          expect(found, path).toEqual([{ line: 6, field: "cache.folder", detail: expect.stringMatching(detail) }]);
        }
      }
      const answer = await parseConfig(withLine(5, "stateFolder: a/b/c").join("\n"), folder, {});
      if (!answer.ok) throw new Error(JSON.stringify(answer.faults));
      expect(await answer.folderFaults("look")).toEqual([]);
      await expect(stat(join(folder, "a"))).rejects.toThrow("ENOENT");
      expect(await answer.folderFaults("make")).toEqual([]);
      expect((await stat(join(folder, "a/b/c"))).isDirectory()).toBe(true);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

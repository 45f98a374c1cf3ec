// Dependencies point inward: every other folder may import core and protocol, those import nothing but themselves.
// cli may start the others. Read from the import statements themselves.
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { describe, expect, it } from "vitest";

const SRC = resolve(import.meta.dirname, "../src");
const ALLOWED: Record<string, RegExp> = {
  core: /^(core|protocol\.ts)(\/|$)/,
  edge: /^(edge|core|protocol\.ts)(\/|$)/,
  agent: /^(agent|core|protocol\.ts)(\/|$)/,
  importers: /^(importers|core|protocol\.ts)(\/|$)/,
  sim: /^(sim|core|protocol\.ts|importers)(\/|$)/,
  dashboard: /^(dashboard|core|protocol\.ts)(\/|$)/,
  // The contract's parts are imported by its one address, protocol.ts.
  protocol: /^protocol\//,
  cli: /./,
};
/** What core and the contract may name beside their own files: the schema library that the contract is written in. */
const CORE_PACKAGES = /^zod$/;

function imports(file: string): string[] {
  return [...readFileSync(file, "utf8").matchAll(/(?:from|import)\s*\(?\s*"([^"]+)"/g)].map((match) => match[1]!);
}

function sources(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => /\.tsx?$/.test(name) && !name.endsWith(".d.ts"))
    .map((name) => join(folder, name));
}

describe("dependencies point inward", () => {
  for (const [folder, allowed] of Object.entries(ALLOWED)) {
    it(folder, () => {
      const wrong = sources(join(SRC, folder)).flatMap((file) =>
        imports(file)
          .filter((name) => name.startsWith("."))
          .map((name) => relative(SRC, resolve(dirname(file), name)))
          .filter((target) => !target.startsWith("..") && !allowed.test(target))
          .map((target) => `${relative(SRC, file)} imports ${target}`),
      );
      expect(wrong).toEqual([]);
    });
  }

  it.each(["core", "protocol"])("%s names no package and no platform", (folder) => {
    const wrong = sources(join(SRC, folder)).flatMap((file) =>
      imports(file)
        .filter((name) => !name.startsWith(".") && !CORE_PACKAGES.test(name))
        .map((name) => `${relative(SRC, file)} imports ${name}`),
    );
    expect(wrong).toEqual([]);
  });

  it("there are no rooms for leftovers", () => {
    const rooms = sources(SRC).filter((file) =>
      /\/(utils?|helpers?|lib|types|common|misc|services|controllers)\//.test(file),
    );
    expect(rooms).toEqual([]);
  });
});

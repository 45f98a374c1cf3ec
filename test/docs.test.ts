// The documents against the tree: every file of ours that one names is there, and every link of theirs leads somewhere.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { expect, it } from "vitest";

const ROOT = resolve(import.meta.dirname, "..");
const below = (folder: string) =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" }).map((name) => join(folder, name));
const FILES = ["src", "assembly", "test", "bench"].flatMap(below);
const DOCUMENTS = ["README.md", "CHANGELOG.md", ...below("docs").filter((name) => name.endsWith(".md"))];
/** A decision record tells of its day, and of what was not taken. */
const MAPS = DOCUMENTS.filter((document) => !document.includes("/decisions/"));
/** In a code span: a TypeScript file by any end of its path (`edge/auth.ts`, `auth.ts`), or a path below one of our folders. */
const NAMED_FILE = /`((?:[\w.-]+\/)*[\w-]+\.ts|(?:src|assembly|test|bench|docs|migrations)\/[\w./-]*)`/g;
const LINK = /\]\(([^)#\s]+)(?:#[^)]*)?\)/g;

function matches(document: string, pattern: RegExp): string[] {
  return [...readFileSync(join(ROOT, document), "utf8").matchAll(pattern)].map((match) => match[1]!);
}

it.each(MAPS)("%s names files that are there", (document) => {
  const isThere = (path: string) => existsSync(join(ROOT, path)) || FILES.some((file) => file.endsWith(`/${path}`));
  expect(matches(document, NAMED_FILE).filter((path) => !isThere(path))).toEqual([]);
});

it.each(DOCUMENTS)("%s links to what is there", (document) => {
  const paths = matches(document, LINK).filter((link) => !/^\w+:/.test(link));
  expect(paths.filter((path) => !existsSync(resolve(ROOT, dirname(document), path)))).toEqual([]);
});

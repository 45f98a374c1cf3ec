// Files as contents. In: a path, or "-" for standard input. Out: one content per file, several for a tar archive, decompressed
// on the way; nothing is held whole. Compression and archives are told by their magic bytes, not by names.
import { createReadStream, readdirSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { PassThrough, Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { extract } from "tar-stream";
import type { Content } from "./format.ts";

interface NamedContent {
  /** Of the file, and for an archive of its member. */
  name: string;
  content: Content;
  /** The first bytes, 64 KiB at most, which `content` gives too. */
  head: Uint8Array;
}

/** Enough to tell a format by. */
const HEAD_BYTES = 64 * 1024;
const TAR_MAGIC_AT = 257;
const TAR_MAGIC = "ustar";

/** The file, or what a folder and those below it hold; hidden ones are left out. */
export function filesOf(path: string): string[] {
  if (path === "-" || !statSync(path, { throwIfNoEntry: false })?.isDirectory()) return [path];
  const below = readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !join(entry.parentPath, entry.name).slice(path.length).includes("/."))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  if (below.length === 0) throw new Error(`${path} is a folder without files`);
  return below;
}

/** The contents of a file. Errors: throws what opening, gunzip or tar throw, with the name in front. */
export async function* contentsOf(path: string): AsyncGenerator<NamedContent> {
  const name = path === "-" ? "stdin" : path;
  const raw: Readable = path === "-" ? process.stdin : createReadStream(path);
  const compressed = await peek(raw);
  let chunks: AsyncIterable<Uint8Array> = compressed.content;
  if (compressed.head[0] === 0x1f && compressed.head[1] === 0x8b) {
    const source = Readable.from(chunks);
    const gunzip = createGunzip();
    source.on("error", (error) => gunzip.destroy(error));
    chunks = source.pipe(gunzip);
  }
  const { head, content } = await peek(chunks);
  const isTar = Buffer.from(head.subarray(TAR_MAGIC_AT, TAR_MAGIC_AT + TAR_MAGIC.length)).toString() === TAR_MAGIC;
  if (isTar) yield* membersOf(name, content);
  else yield { name, head, content };
}

async function* membersOf(archive: string, content: Content): AsyncGenerator<NamedContent> {
  const tar = extract();
  // A fault of the archive surfaces where its members are read.
  pipeline(Readable.from(content), tar).catch((error: Error) => tar.destroy(error));
  for await (const entry of tar) {
    const { name, type } = entry.header;
    if (type !== "file" || basename(name).startsWith(".")) {
      entry.resume();
      continue;
    }
    const member = await peek(entry.pipe(new PassThrough()));
    yield { name: `${archive}:${name}`, ...member };
    for await (const _ of member.content); // What the importer left of it: the archive goes on after it.
  }
}

/** Reads ahead until there is a head; `content` then gives everything from the start, once, and a fault met on the way where it came. */
async function peek(source: AsyncIterable<Uint8Array>): Promise<{ head: Uint8Array; content: Content }> {
  const iterator = source[Symbol.asyncIterator]();
  const held: Uint8Array[] = [];
  let size = 0;
  let done = false;
  let fault: unknown = null;
  while (size < HEAD_BYTES && !done) {
    try {
      const next = await iterator.next();
      if (next.done) done = true;
      else {
        held.push(next.value);
        size += next.value.byteLength;
      }
    } catch (error) {
      if (held.length === 0) throw error;
      fault = error;
      done = true;
    }
  }
  const head = Buffer.concat(held).subarray(0, HEAD_BYTES);
  async function* content(): AsyncGenerator<Uint8Array> {
    while (held.length > 0) yield held.shift()!;
    if (fault !== null) throw fault;
    while (!done) {
      const next = await iterator.next();
      if (next.done) done = true;
      else yield next.value;
    }
  }
  return { head, content: content() };
}

// Files as contents. In: a path, or "-" for standard input. Out: one content per file, several for a tar archive, decompressed and
// in UTF-8; nothing is held whole. Compression, archives and encodings are told by the first bytes, not by names.
import { createReadStream, readdirSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { type Duplex, PassThrough, Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { extract } from "tar-stream";
import { foreignEncodingOf, recoded } from "./encoding.ts";
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
/** Archives in archives in compressed files; there are files that contain themselves. */
const LAYERS_MAX = 4;

const UNPACKERS: [magic: number[], create: () => Duplex][] = [
  [[0x1f, 0x8b], createGunzip],
  [[0x28, 0xb5, 0x2f, 0xfd], createZstdDecompress],
];

/** The file, or what a folder and those below it hold; hidden ones are left out. */
export function filesOf(path: string): string[] {
  if (path === "-" || !statSync(path, { throwIfNoEntry: false })?.isDirectory()) return [path];
  const below = filesBelow(path).sort();
  if (below.length === 0) throw new Error(`${path} is a folder without files`);
  return below;
}

/** Hidden ones left out. A link to a file is one; links to folders are not followed, they may lead round. */
function filesBelow(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.name.startsWith(".")) return [];
    if (entry.isDirectory()) return filesBelow(path);
    return statSync(path, { throwIfNoEntry: false })?.isFile() ? [path] : [];
  });
}

/** The contents of a file. Errors: throws what opening, unpacking or tar throw. */
export async function* contentsOf(path: string): AsyncGenerator<NamedContent> {
  const raw: Readable = path === "-" ? process.stdin : createReadStream(path);
  yield* unpacked(path === "-" ? "stdin" : path, raw, LAYERS_MAX);
}

async function* unpacked(
  name: string,
  source: AsyncIterable<Uint8Array>,
  layers: number,
): AsyncGenerator<NamedContent> {
  const { head, content } = await peek(source);
  const unpacker = UNPACKERS.find(([magic]) => magic.every((byte, i) => head[i] === byte))?.[1];
  const isTar = Buffer.from(head.subarray(TAR_MAGIC_AT, TAR_MAGIC_AT + TAR_MAGIC.length)).toString() === TAR_MAGIC;
  if (layers > 0 && unpacker !== undefined) yield* unpacked(name, through(content, unpacker()), layers - 1);
  else if (layers > 0 && isTar) yield* membersOf(name, content, layers - 1);
  else {
    const encoding = foreignEncodingOf(head);
    if (encoding === null) yield { name, head, content };
    else yield { name, ...(await peek(recoded(content, encoding))) };
  }
}

function through(content: Content, unpacker: Duplex): AsyncIterable<Uint8Array> {
  const source = Readable.from(content);
  source.on("error", (error) => unpacker.destroy(error));
  return source.pipe(unpacker);
}

async function* membersOf(archive: string, content: Content, layers: number): AsyncGenerator<NamedContent> {
  const tar = extract();
  // A fault of the archive surfaces where its members are read.
  pipeline(Readable.from(content), tar).catch((error: Error) => tar.destroy(error));
  for await (const entry of tar) {
    const { name, type } = entry.header;
    if (type !== "file" || basename(name).startsWith(".")) {
      entry.resume();
      continue;
    }
    const body = entry.pipe(new PassThrough());
    yield* unpacked(`${archive}:${name}`, body, layers);
    body.resume(); // What the importer left of it: the archive goes on after it.
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

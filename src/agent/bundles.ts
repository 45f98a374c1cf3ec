// Code bundles: tar archives (plain or gzip) from the cache, unpacked once into a folder that programs start in. In: the file of a
// cached object. Out: a folder, kept while a runtime uses it. An archive is somebody's data: paths that leave the folder, links,
// devices and more bytes than the bound are refused, and a folder appears only when it is whole.
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { chmod, mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { dirname, join, normalize, sep } from "node:path";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { extract } from "tar-stream";
import type { TaskConfig } from "./config.ts";
import { isBelow } from "./folders.ts";
import type { TaskObjects } from "./objects.ts";
import type { Runtime } from "./runtime.ts";

type UnpackAnswer = { ok: true; folder: string } | { ok: false; reason: "bad_bundle"; detail: string };

interface Bundle {
  folder: string;
  bytes: number;
  users: number;
  lastUsedMs: number;
}

/** Files of one archive: more is a mistake, or meant to fill the disk's table of files. */
const FILES_MAX = 50_000;

class BadBundle extends Error {}

export class Bundles {
  readonly #folder: string;
  readonly #bytesMax: number;
  readonly #nowMs: () => number;
  readonly #bundles = new Map<string, Promise<Bundle>>();
  #attempts = 0;

  private constructor(folder: string, bytesMax: number, nowMs: () => number) {
    this.#folder = folder;
    this.#bytesMax = bytesMax;
    this.#nowMs = nowMs;
  }

  /** What an earlier process unpacked is removed: whether it is whole cannot be told. */
  static async open(folder: string, bytesMax: number, nowMs: () => number): Promise<Bundles> {
    await removeTree(folder);
    await mkdir(folder, { recursive: true });
    return new Bundles(folder, bytesMax, nowMs);
  }

  /** `path` is that of a content-addressed file, so that equal paths are equal bytes. Each success wants one `release`. */
  async unpack(path: string): Promise<UnpackAnswer> {
    const name = createHash("sha256").update(path).digest("hex").slice(0, 32);
    const before = this.#bundles.get(name);
    // Unpacked anew where somebody has removed it meanwhile; by the first who finds it so.
    if (before !== undefined && (await isGone(before)) && this.#bundles.get(name) === before)
      this.#bundles.delete(name);
    let unpacking = this.#bundles.get(name);
    if (unpacking === undefined) {
      unpacking = this.#unpackNow(path, name);
      this.#bundles.set(name, unpacking);
    }
    try {
      const bundle = await unpacking;
      bundle.users++;
      bundle.lastUsedMs = this.#nowMs();
      await this.#trim();
      return { ok: true, folder: bundle.folder };
    } catch (error) {
      this.#bundles.delete(name);
      if (!(error instanceof Error)) throw error;
      return { ok: false, reason: "bad_bundle", detail: error.message };
    }
  }

  async release(folder: string): Promise<void> {
    for (const bundle of await this.#whole()) if (bundle.folder === folder) bundle.users--;
    await this.#trim();
  }

  async #whole(): Promise<Bundle[]> {
    const settled = await Promise.allSettled(this.#bundles.values());
    return settled.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
  }

  /** The longest unused go while all together are more than the bound. */
  async #trim(): Promise<void> {
    const bundles = await this.#whole();
    let bytes = bundles.reduce((sum, bundle) => sum + bundle.bytes, 0);
    for (const bundle of bundles.sort((a, b) => a.lastUsedMs - b.lastUsedMs)) {
      if (bytes <= this.#bytesMax) return;
      if (bundle.users > 0) continue;
      bytes -= bundle.bytes;
      this.#bundles.delete(bundle.folder.slice(bundle.folder.lastIndexOf(sep) + 1));
      // What is another user's now stays until somebody who may removes it: no reason to stop.
      await removeTree(bundle.folder).catch(() => {});
    }
  }

  async #unpackNow(path: string, name: string): Promise<Bundle> {
    const incoming = join(this.#folder, `incoming-${this.#attempts++}`);
    try {
      const bytes = await unpackInto(path, incoming, this.#bytesMax);
      const folder = join(this.#folder, name);
      await rename(incoming, folder);
      return { folder, bytes, users: 0, lastUsedMs: this.#nowMs() };
    } catch (error) {
      await rm(incoming, { recursive: true, force: true });
      throw error;
    }
  }
}

/** Each runtime's own hold on its task's code. */
export class TaskCode {
  readonly #objects: TaskObjects;
  readonly #bundles: Bundles;
  readonly #folders = new Map<string, string>();

  constructor(objects: TaskObjects, bundles: Bundles) {
    this.#objects = objects;
    this.#bundles = bundles;
  }

  async of(
    runtime: Runtime,
    task: TaskConfig,
  ): Promise<{ ok: true; folder: string | null } | { ok: false; detail: string }> {
    if (task.driver !== "process" || task.code === undefined) return { ok: true, folder: null };
    const answer = await this.#objects.read(runtime, task.code, true);
    if (!answer.ok) return { ok: false, detail: `${task.code}: ${answer.reason}: ${answer.detail}` };
    const unpacked = await this.#bundles.unpack(answer.path);
    if (!unpacked.ok) return { ok: false, detail: `${task.code}: ${unpacked.reason}: ${unpacked.detail}` };
    if (runtime.state === "gone") void this.#bundles.release(unpacked.folder);
    else this.#folders.set(runtime.runtimeId, unpacked.folder);
    return unpacked;
  }

  release(runtime: Runtime): void {
    const folder = this.#folders.get(runtime.runtimeId);
    this.#folders.delete(runtime.runtimeId);
    if (folder !== undefined) void this.#bundles.release(folder);
  }
}

async function isGone(unpacking: Promise<Bundle>): Promise<boolean> {
  const { folder } = await unpacking.catch(() => ({ folder: null }));
  return folder !== null && (await stat(folder).catch(() => null)) === null;
}

/** Programs may have made folders in it that nobody may write to, as module caches do: they are made writable first. */
async function removeTree(folder: string): Promise<void> {
  try {
    await rm(folder, { recursive: true, force: true });
  } catch {
    await makeWritable(folder);
    await rm(folder, { recursive: true, force: true });
  }
}

async function makeWritable(folder: string): Promise<void> {
  await chmod(folder, 0o700);
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) await makeWritable(join(folder, entry.name));
  }
}

async function unpackInto(path: string, folder: string, bytesMax: number): Promise<number> {
  await mkdir(folder, { recursive: true });
  const archive = extract();
  const source = createReadStream(path);
  const reading = (await isGzip(path)) ? pipeline(source, createGunzip(), archive) : pipeline(source, archive);
  // Its failure is also the loop's; without this it would be nobody's for a moment.
  reading.catch(() => {});
  let bytes = 0;
  let files = 0;
  for await (const entry of archive) {
    const { name, type, size = 0, mode = 0 } = entry.header;
    if (++files > FILES_MAX) throw new BadBundle(`more than ${FILES_MAX} files`);
    bytes += size;
    if (bytes > bytesMax) throw new BadBundle(`more than ${bytesMax} bytes when unpacked`);
    const target = targetOf(folder, name);
    if (type === "directory") {
      await mkdir(target, { recursive: true });
      entry.resume();
    } else if (type === "file" || type === "contiguous-file") {
      await mkdir(dirname(target), { recursive: true });
      await pipeline(entry, createWriteStream(target, { flags: "wx" }));
      // Whether it may be run is all that is taken of its rights.
      await chmod(target, (mode & 0o100) === 0 ? 0o644 : 0o755);
    } else {
      throw new BadBundle(`${name} is a ${type}: only files and folders are taken`);
    }
  }
  await reading;
  if ((await readdir(folder)).length === 0) throw new BadBundle("an empty archive");
  return bytes;
}

function targetOf(folder: string, name: string): string {
  const target = normalize(join(folder, name));
  if (target !== folder && !isBelow(target, folder)) throw new BadBundle(`${name} leads out of the bundle`);
  if (name.startsWith("/") || name.split("/").includes("..")) throw new BadBundle(`${name} leads out of the bundle`);
  return target;
}

async function isGzip(path: string): Promise<boolean> {
  const file = await open(path, "r");
  try {
    const magic = Buffer.alloc(2);
    await file.read(magic, 0, 2, 0);
    return magic[0] === 0x1f && magic[1] === 0x8b;
  } finally {
    await file.close();
  }
}

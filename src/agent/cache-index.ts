// The cache's folder as `cacache` lays it out: an index of URIs, and content by digest. In: the folder. Out: entries, and single
// steps on it. A crash may leave an index line without content, or content without a line: both are removed when it is opened.
import { mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import cacache from "cacache";
import type { CacheEntry } from "./eviction.ts";

/** Beside the content, for the next process. */
export interface Kept {
  loadMs: number;
  etag: string | null;
  freshForMs: number | null;
  /** Null: for ever. */
  freshUntilMs: number | null;
}

/** Where cacache keeps content; its own paths are asked of it, this is for finding what it no longer knows. */
const CONTENT_FOLDER = "content-v2";

/** Nobody uses it yet. */
export function newEntry(
  stored: Kept & Pick<CacheEntry, "uri" | "integrity" | "path" | "bytes" | "lastUsedMs">,
): CacheEntry {
  const freshUntilMs = stored.freshUntilMs ?? Number.POSITIVE_INFINITY;
  return { ...stored, freshUntilMs, uses: 0, pins: 0, verified: false, orphaned: false, hold: null };
}

export async function readIndex(folder: string, nowMs: number): Promise<CacheEntry[]> {
  const entries: CacheEntry[] = [];
  for (const [uri, found] of Object.entries(await cacache.ls(folder))) {
    const content = await cacache.get.hasContent(folder, found.integrity);
    if (content === false || content.size !== found.size || content.size === 0) {
      await forget(folder, uri);
      continue;
    }
    const { loadMs = 0, etag = null, freshForMs = null, freshUntilMs = null } = found.metadata ?? {};
    entries.push(
      newEntry({
        uri,
        integrity: found.integrity,
        path: found.path,
        bytes: content.size,
        loadMs,
        etag,
        freshForMs,
        freshUntilMs,
        lastUsedMs: nowMs,
      }),
    );
  }
  await removeUnknownContent(folder, new Set(entries.map(({ path }) => path)));
  return entries;
}

/** The rename is the moment from which the object exists. Gives the content's path. */
export async function publishContent(
  folder: string,
  uri: string,
  incoming: string,
  integrity: string,
  bytes: number,
  kept: Kept,
): Promise<string> {
  await cacache.index.insert(folder, uri, integrity, { size: bytes, metadata: kept });
  const found = await cacache.get.info(folder, uri);
  if (found === null) throw new Error("the cache's index lost an entry that it had just been given");
  await mkdir(dirname(found.path), { recursive: true });
  await rename(incoming, found.path);
  return found.path;
}

/** Takes the index line out altogether (`removeFully`, which the type package lacks): tombstones would pile up. */
export async function forget(folder: string, uri: string): Promise<void> {
  const remove = cacache.rm.entry as (
    folder: string,
    key: string,
    options: { removeFully: boolean },
  ) => Promise<unknown>;
  await remove(folder, uri, { removeFully: true });
}

/** Content from an earlier process is verified once; content that someone removed, cut or changed is not intact. */
export async function isIntact(folder: string, entry: CacheEntry): Promise<boolean> {
  const found = await stat(entry.path).catch(() => null);
  if (found?.size !== entry.bytes) return false;
  entry.verified ||= await digestHolds(folder, entry.integrity);
  return entry.verified;
}

async function digestHolds(folder: string, integrity: string): Promise<boolean> {
  try {
    for await (const _chunk of cacache.get.stream.byDigest(folder, integrity)) {
      // Reading to the end is what checks it.
    }
    return true;
  } catch {
    return false;
  }
}

async function removeUnknownContent(folder: string, known: Set<string>): Promise<void> {
  const content = join(folder, CONTENT_FOLDER);
  const found = await readdir(content, { recursive: true, withFileTypes: true }).catch(() => []);
  for (const file of found) {
    const path = join(file.parentPath, file.name);
    if (file.isFile() && !known.has(path)) await rm(path, { force: true });
  }
}

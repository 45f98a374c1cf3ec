// Objects from the VM's own disk, or a mounted one. In: a file URL and the folders that may be read. Out: a Source.
import { createReadStream } from "node:fs";
import { realpath, stat } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { isBelow } from "../folders.ts";
import { FetchError, fetchError, type Source } from "./source.ts";

export async function openFile(url: URL, roots: readonly string[]): Promise<Source> {
  try {
    if (url.host !== "") throw new FetchError("refused", "a file URI with a host");
    const named = fileURLToPath(url);
    const real = await Promise.all(roots.map((root) => realpath(root).catch(() => root)));
    // Not looked at: whether a file is there is nobody's business either.
    mustBeWithin(named, [...roots, ...real]);
    // What counts is where the bytes are: links may lead out again.
    const path = await realpath(named);
    mustBeWithin(path, real);
    const found = await stat(path);
    if (!found.isFile()) throw new FetchError("refused", "not a regular file");
    return { bytes: found.size, checksums: [], etag: null, freshForMs: null, body: createReadStream(path) };
  } catch (error) {
    throw fetchError(error);
  }
}

function mustBeWithin(path: string, roots: readonly string[]): void {
  if (roots.some((root) => isBelow(path, root))) return;
  throw new FetchError("refused", "the file is outside the allowed folders");
}

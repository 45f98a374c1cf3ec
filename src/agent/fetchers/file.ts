// Objects from the VM's own disk, or a mounted one. In: a file URL and the folders that may be read. Out: a Source.
import { createReadStream } from "node:fs";
import { realpath, stat } from "node:fs/promises";
import { sep } from "node:path";
import { fileURLToPath } from "node:url";
import { FetchError, fetchError, type Source } from "./source.ts";

export async function openFile(url: URL, roots: readonly string[]): Promise<Source> {
  try {
    if (url.host !== "") throw new FetchError("refused", "a file URI with a host");
    // Links are resolved first: what counts is where the bytes are.
    const path = await realpath(fileURLToPath(url));
    const allowed = await Promise.all(roots.map((root) => realpath(root).catch(() => null)));
    if (!allowed.some((root) => root !== null && path.startsWith(root.endsWith(sep) ? root : root + sep))) {
      throw new FetchError("refused", "the file is outside the allowed folders");
    }
    const found = await stat(path);
    if (!found.isFile()) throw new FetchError("refused", "not a regular file");
    return { bytes: found.size, checksums: [], etag: null, freshForMs: null, body: createReadStream(path) };
  } catch (error) {
    throw fetchError(error);
  }
}

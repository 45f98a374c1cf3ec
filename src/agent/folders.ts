// Folders that the agent writes to. In: their paths. Out: they are there and take a file, or the reason in an operator's words.
// They are made one by one: Node's own recursive mkdir never returns where a parent exists that refuses children with ENOENT (/proc).
import { access, constants, mkdir, stat, unlink, writeFile } from "node:fs/promises";
import { dirname, join, sep } from "node:path";

const REASONS: Record<string, string> = {
  EACCES: "no permission",
  EPERM: "no permission",
  EROFS: "it is read-only",
  ENOENT: "its file system makes no folders",
  ENOTDIR: "a file is in its place",
  EEXIST: "a file is in its place",
  ENAMETOOLONG: "its name is too long",
};

/** Whether an absolute path leads below a folder; the folder itself does not. */
export function isBelow(path: string, folder: string): boolean {
  return path.startsWith(folder.endsWith(sep) ? folder : folder + sep);
}

/** Makes an absolute folder and those above it. Errors: those of `mkdir`; ENOTDIR where a file is in the way. */
export async function makeFolder(folder: string): Promise<void> {
  const missing: string[] = [];
  let above = folder;
  for (;;) {
    const found = await stat(above).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT") throw error;
      return null;
    });
    if (found?.isDirectory()) break;
    if (found) throw Object.assign(new Error(`${above} is no folder`), { code: "ENOTDIR" });
    missing.push(above);
    above = dirname(above);
  }
  for (const path of missing.reverse()) {
    await mkdir(path).catch(async (error: NodeJS.ErrnoException) => {
      // Another process may have made it meanwhile.
      if (error.code !== "EEXIST" || !(await stat(path)).isDirectory()) throw error;
    });
  }
}

/** The nearest folder above that is there has to take it; null, or why it cannot be used. Makes nothing: the agent may run as another user. */
export async function unmadeFolderFault(folder: string): Promise<string | null> {
  for (let above = folder; ; above = dirname(above)) {
    try {
      if (!(await stat(above)).isDirectory())
        throw Object.assign(new Error(`${above} is no folder`), { code: "ENOTDIR" });
      await access(above, constants.W_OK | constants.X_OK);
      return null;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") return faultOf(folder, error);
    }
  }
}

/** Makes it and writes a file in it, for that is what it is for; null, or why it cannot be used. */
export async function folderFault(folder: string): Promise<string | null> {
  try {
    await makeFolder(folder);
    const probe = join(folder, `.forechain-${process.pid}`);
    await writeFile(probe, "");
    await unlink(probe);
    return null;
  } catch (error) {
    // A full disk is no fault of the configuration: the agent evicts, and says what it has no room for.
    return (error as NodeJS.ErrnoException).code === "ENOSPC" ? null : faultOf(folder, error);
  }
}

function faultOf(folder: string, error: unknown): string {
  const { code = "", message } = error as NodeJS.ErrnoException;
  return `${folder} cannot be used: ${REASONS[code] ?? message}`;
}

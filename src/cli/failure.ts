// A failure as one line for people: what was not possible, with what, and what to do. In: whatever was thrown. Out: its text.
import { accessSync, constants, existsSync, statSync } from "node:fs";
import { dirname } from "node:path";

const FILE_FAULTS: Record<string, string> = {
  ENOENT: "there is no such file",
  EACCES: "permission denied",
  EPERM: "permission denied",
  EISDIR: "it is a folder",
  EEXIST: "a file of this name is in the way",
  ENOTDIR: "a part of the path is no folder",
  ENOSPC: "the disk is full",
  EROFS: "the disk is read-only",
};

export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { code, path, syscall, address, port } = error as NodeJS.ErrnoException & { address?: string; port?: number };
  if (code === "EADDRINUSE") return `${address}:${port} is in use by another process: listen on another port`;
  const fault = code === undefined ? undefined : FILE_FAULTS[code];
  const isFileFault = fault !== undefined && typeof path === "string" && !syscall?.startsWith("spawn");
  return isFileFault ? `${path}: ${fault}` : error.message;
}

/**
 * Told before the work whose result goes there, which may take minutes. Errors: throws where no such file can be written, and where
 * it is one of `inputs`, by whatever name.
 */
export function checkWritable(path: string, inputs: string[] = []): void {
  const known = statSync(path, { throwIfNoEntry: false });
  if (known?.isDirectory()) throw new Error(`${path}: it is a folder`);
  const folder = dirname(path);
  if (known === undefined && !existsSync(folder)) throw new Error(`${path}: there is no folder ${folder}`);
  try {
    accessSync(known === undefined ? folder : path, constants.W_OK);
  } catch {
    throw new Error(`${path}: it may not be written`);
  }
  const isSame = (input: string) => {
    const read = statSync(input, { throwIfNoEntry: false });
    return read !== undefined && read.ino === known?.ino && read.dev === known.dev;
  };
  if (inputs.some(isSame)) throw new Error(`${path}: it is read here, and would be overwritten`);
}

// A failure as one line for people: what was not possible, with what, and what to do. In: whatever was thrown. Out: its text.

const FILE_FAULTS: Record<string, string> = {
  ENOENT: "there is no such file",
  EACCES: "it may not be read",
  EPERM: "it may not be read",
  EISDIR: "it is a folder",
};

export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { code, path, syscall } = error as NodeJS.ErrnoException;
  const fault = code === undefined ? undefined : FILE_FAULTS[code];
  const isFileFault = fault !== undefined && typeof path === "string" && !syscall?.startsWith("spawn");
  return isFileFault ? `${path}: ${fault}` : error.message;
}

// What commands tell people on standard error: how far long work has come, seldom enough that short work says nothing; and what
// was read of logs and what not.
import { type LogRecords, type ReadOptions, recordsOf } from "../importers/read.ts";

/** How often progress is told to somebody who watches, ms. */
const PROGRESS_MS = 2_000;
/** The same where it goes to a file or a CI job's log: alive, and not a flood of lines. */
const PROGRESS_LOGGED_MS = 10_000;
const FILES_NAMED_MAX = 3;
/** Of a folder each file may have a reason of its own. */
const REASONS_TOLD = 10;

/** Of one piece of work. What it returns is called as often as one likes; the text is only made when it is told. */
export function progressTeller(): (text: () => string) => void {
  const everyMs = process.stderr.isTTY ? PROGRESS_MS : PROGRESS_LOGGED_MS;
  let toldMs = performance.now();
  return (text) => {
    const nowMs = performance.now();
    if (nowMs - toldMs < everyMs) return;
    toldMs = nowMs;
    process.stderr.write(`${text()}\n`);
  };
}

/** Everything some logs hold, with progress, and what was left out of it and why. Errors: as recordsOf. */
export async function readTelling(files: string[], options: ReadOptions): Promise<Omit<LogRecords, "skipped">> {
  const progress = progressTeller();
  const { skipped, ...read } = await recordsOf(files, options, (count) => progress(() => `${count} records read`));
  for (const [reason, count] of [...skipped].slice(0, REASONS_TOLD)) {
    process.stderr.write(`skipped ${count}: ${reason}\n`);
  }
  const others = skipped.size - REASONS_TOLD;
  if (others > 0) process.stderr.write(`skipped for ${counted(others, "other reason")} too\n`);
  return read;
}

/** All of a few files, of more their number. */
export function filesNamed(files: string[]): string {
  return files.length > FILES_NAMED_MAX ? `${files.length} files` : files.join(", ");
}

/** `1 case`, `2 cases`. */
export function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

// Execution records on their way to the Worker. In: finished executions. Out: POST /v1/executions, until accepted. Each record is
// a line of a file before it is sent, so that it outlives this process; the Worker ignores one that it has already.
// (Not synced to the disk one by one: a power cut may lose the last seconds of a log, and waiting for the disk would slow every call.)
import { appendFile, mkdir, readFile, rename, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Execution } from "../protocol.ts";
import { Outbox, type Sent } from "./outbox.ts";

/** Soon enough for a user who watches, late enough for one request per burst. */
const LINGER_MS = 150;
const BATCH_MAX = 500;
/** About 20 MB of memory and disk: an hour without the Worker at 10 executions a second. */
const RECORDS_MAX = 36_000;
/** The file is rewritten when so much of it has been sent and something still waits. */
const SPOOL_BYTES_MAX = 32 * 2 ** 20;

interface Line {
  text: string;
  /** It tells of what was written, which is fetched for its readers from then on: those may be called within the linger. */
  hasOutputs: boolean;
}

export class ExecutionSpool {
  readonly #path: string;
  readonly #outbox: Outbox<Line>;
  #pending = new Set<Line>();
  /** File operations one after the other. */
  #writing: Promise<void> = Promise.resolve();
  readonly totals = { recorded: 0, dropped: 0 };

  private constructor(
    folder: string,
    send: (records: unknown[]) => Promise<Sent>,
    onDropped: (detail: string) => void,
  ) {
    this.#path = join(folder, "executions.ndjson");
    this.#outbox = new Outbox<Line>({
      lingerMs: LINGER_MS,
      batchMax: BATCH_MAX,
      itemsMax: RECORDS_MAX,
      isUrgent: ({ hasOutputs }) => hasOutputs,
      send: async (lines) => {
        // On the disk first: else a crash between the two would lose what the caller believes recorded.
        await this.#writing;
        const sent = await send(lines.map((line) => JSON.parse(line.text)));
        if (sent.ok) this.#settle(lines);
        return sent;
      },
      onDropped: (lines, detail) => {
        this.totals.dropped += lines.length;
        this.#settle(lines);
        onDropped(`${lines.length} executions dropped: ${detail}`);
      },
    });
  }

  /** Takes over what an earlier process could not send. */
  static async open(
    folder: string,
    send: (records: unknown[]) => Promise<Sent>,
    onDropped: (detail: string) => void,
  ): Promise<ExecutionSpool> {
    await mkdir(folder, { recursive: true });
    const spool = new ExecutionSpool(folder, send, onDropped);
    const left = await readFile(spool.#path, "utf8").catch(() => "");
    const lines = left
      .split("\n")
      .filter(isWholeRecord)
      .map((text) => ({ text, hasOutputs: false }));
    spool.#pending = new Set(lines);
    if (lines.length > 0) spool.#outbox.add(...lines);
    return spool;
  }

  waiting(): number {
    return this.#pending.size;
  }

  add(execution: Execution): void {
    this.totals.recorded++;
    const line: Line = { text: JSON.stringify(execution), hasOutputs: (execution.outputs?.length ?? 0) > 0 };
    this.#pending.add(line);
    this.#write(() => appendFile(this.#path, `${line.text}\n`));
    this.#outbox.add(line);
  }

  async flush(signal: AbortSignal): Promise<void> {
    await this.#outbox.flush(signal);
    await this.#writing;
  }

  #settle(lines: Line[]): void {
    for (const line of lines) this.#pending.delete(line);
    this.#write(async () => {
      if (this.#pending.size === 0) {
        await truncate(this.#path, 0).catch(() => {});
        return;
      }
      const size = (await stat(this.#path).catch(() => null))?.size ?? 0;
      if (size < SPOOL_BYTES_MAX) return;
      const rest = [...this.#pending].map((line) => `${line.text}\n`).join("");
      await writeFile(`${this.#path}.new`, rest);
      await rename(`${this.#path}.new`, this.#path);
    });
  }

  #write(operation: () => Promise<void>): void {
    // A full disk must not stop the work: the record is still in memory and goes out from there.
    this.#writing = this.#writing.then(operation).catch(() => {});
  }
}

/** A crash may leave half a line at the end. */
function isWholeRecord(text: string): boolean {
  try {
    return typeof JSON.parse(text) === "object";
  } catch {
    return false;
  }
}

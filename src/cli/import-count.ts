// What an import has read, counted while it streams: distinct runs and tasks, executions, and why things were skipped.
import { type Imported, recordOf } from "../importers/format.ts";

/** Names kept to count distinct tasks; a log with more has ids in its names. */
const TASKS_MAX = 100_000;
/** Spans of no kind whose parents may still come. */
const UNKINDED_MAX = 200_000;

/** Reasons told apart; a log that has more writes ids into them. */
const REASONS_MAX = 100;

export interface Counted {
  runs: number;
  executions: number;
  tasks: number;
  skipped: { reason: string; count: number }[];
}

export class Counter {
  readonly #runs = new DistinctIds();
  readonly #tasks = new Set<string>();
  readonly #skipped = new Map<string, number>();
  #executions = 0;
  /** Service and parent of spans of no kind: an execution only where the parent ran in another service. */
  readonly #unkinded = new Map<string, { service: string; parent: string; task: string }>();
  items = 0;

  add(item: Imported): void {
    this.items++;
    if (item.kind === "skipped") {
      this.skip(item.reason, item.count);
      return;
    }
    const record = recordOf(item)!;
    this.#runs.add(record.runId);
    const { unkinded } = record.rest;
    if (unkinded !== undefined && record.parentId !== null) {
      this.#unkinded.set(`${record.runId} ${record.executionId}`, {
        service: unkinded,
        parent: `${record.runId} ${record.parentId}`,
        task: record.task!,
      });
      if (this.#unkinded.size > UNKINDED_MAX) this.#settleUnkinded();
      return;
    }
    if (unkinded !== undefined) {
      this.#unkinded.set(`${record.runId} ${record.executionId}`, {
        service: unkinded,
        parent: "",
        task: record.task!,
      });
    } else if (record.task !== null) this.#count(record.task);
  }

  skip(told: string, count: number): void {
    const reason = this.#skipped.has(told) || this.#skipped.size < REASONS_MAX ? told : "other reasons";
    this.#skipped.set(reason, (this.#skipped.get(reason) ?? 0) + count);
  }

  result(): Counted {
    this.#settleUnkinded();
    const skipped = [...this.#skipped].map(([reason, count]) => ({ reason, count }));
    skipped.sort((a, b) => b.count - a.count);
    return { runs: this.#runs.size, executions: this.#executions, tasks: this.#tasks.size, skipped };
  }

  #settleUnkinded(): void {
    for (const { service, parent, task } of this.#unkinded.values()) {
      if (this.#unkinded.get(parent)?.service !== service) this.#count(task);
    }
    this.#unkinded.clear();
  }

  #count(task: string): void {
    this.#executions++;
    if (this.#tasks.size < TASKS_MAX) this.#tasks.add(task);
  }
}

/** Distinct ids by a 53-bit hash in open addressing: 16 bytes an id, so that ten million runs fit beside a stream. */
class DistinctIds {
  #slots = new Float64Array(1 << 12);
  size = 0;

  add(id: string): void {
    if (this.size >= this.#slots.length / 2) {
      const old = this.#slots;
      this.#slots = new Float64Array(old.length * 2);
      for (const hash of old) if (hash !== 0) this.#insert(hash);
    }
    if (this.#insert(hash53(id))) this.size++;
  }

  #insert(hash: number): boolean {
    const mask = this.#slots.length - 1;
    let slot = hash % this.#slots.length;
    while (this.#slots[slot] !== 0) {
      if (this.#slots[slot] === hash) return false;
      slot = (slot + 1) & mask;
    }
    this.#slots[slot] = hash;
    return true;
  }
}

/** cyrb53 (bryc, public domain); never 0. */
function hash53(text: string): number {
  let h1 = 0xdeadbeef;
  let h2 = 0x41c6ce57;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    h1 = Math.imul(h1 ^ code, 2654435761);
    h2 = Math.imul(h2 ^ code, 1597334677);
  }
  h1 = Math.imul(h1 ^ (h1 >>> 16), 2246822507) ^ Math.imul(h2 ^ (h2 >>> 13), 3266489909);
  h2 = Math.imul(h2 ^ (h2 >>> 16), 2246822507) ^ Math.imul(h1 ^ (h1 >>> 13), 3266489909);
  return 4294967296 * (2097151 & h2) + (h1 >>> 0) || 1;
}

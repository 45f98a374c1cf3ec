// Pages of a list whose order changes while it is read: scores move with every run. In: all chains as of now, and where a page begins. Out: the
// page, and the cursor of the next one. A list keeps the order that it had at its first page, so that each chain comes once; what is told of a
// chain is as of now, and chains that came since are in the next list.
import type { ChainsAnswer, MinedChain } from "../../protocol.ts";

/** A list that is not finished by then is begun anew, ms. */
const KEPT_MS = 600_000;
/** Lists at once: of each some thousand keys that the rows hold anyway. */
const LISTS_MAX = 16;

export type PageStart = { offset: number } | { cursor: string };

export class ChainPages {
  readonly #lists = new Map<string, { keys: string[]; begunMs: number }>();
  #begun = 0;

  /** Null: the cursor's list is not kept any more. */
  page(chains: ReadonlyMap<string, MinedChain>, from: PageStart, limit: number, nowMs: number): ChainsAnswer | null {
    this.#forget(nowMs);
    let offset: number;
    let list: string | null = null;
    let keys: string[];
    if ("cursor" in from) {
      const [name = "", at = ""] = from.cursor.split(".");
      const kept = this.#lists.get(name);
      if (kept === undefined || !/^\d{1,9}$/.test(at)) return null;
      offset = Number(at);
      list = name;
      keys = kept.keys;
    } else {
      offset = from.offset;
      keys = [...chains.keys()];
    }
    const next = offset + limit;
    if (next < keys.length) list ??= this.#begin(keys, nowMs);
    return {
      chains: keys.slice(offset, next).flatMap((key) => chains.get(key) ?? []),
      total: keys.length,
      offset,
      next: next < keys.length ? `${list}.${next}` : null,
    };
  }

  #begin(keys: string[], nowMs: number): string {
    const [oldest] = this.#lists.keys();
    if (this.#lists.size >= LISTS_MAX && oldest !== undefined) this.#lists.delete(oldest);
    // Two of one name would need two objects begun in the same millisecond.
    const name = `${nowMs.toString(36)}-${(this.#begun++).toString(36)}`;
    this.#lists.set(name, { keys, begunMs: nowMs });
    return name;
  }

  #forget(nowMs: number): void {
    for (const [name, { begunMs }] of this.#lists) {
      if (begunMs > nowMs - KEPT_MS) break;
      this.#lists.delete(name);
    }
  }
}

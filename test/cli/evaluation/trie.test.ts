// Contexts and counts in flat tables, against Maps of Maps.
import fc from "fast-check";
import { expect, test } from "vitest";
import { ROOT, Trie } from "../../../src/cli/evaluation/trie.ts";

/** Enough events for several doublings of every table (1,024 entries at first). */
const EVENTS_MAX = 6_000;

test("counts, totals and order of symbols equal those of Maps, through several doublings", () => {
  const event = fc.record({
    path: fc.array(fc.integer({ min: 0, max: 12 }), { maxLength: 5 }),
    symbol: fc.option(fc.integer({ min: 0, max: 90 }), { nil: null }),
  });
  fc.assert(
    fc.property(fc.array(event, { minLength: EVENTS_MAX / 2, maxLength: EVENTS_MAX }), (events) => {
      const trie = new Trie();
      const plain = new Map<string, Map<number | null, number>>();
      for (const { path, symbol } of events) {
        let at = ROOT;
        for (let k = 0; k <= path.length; k++) {
          if (k > 0) at = trie.grow(at, path[k - 1] as number);
          trie.count(at, symbol);
          const key = path.slice(0, k).join();
          const counts = plain.get(key) ?? new Map<number | null, number>();
          plain.set(key, counts.set(symbol, (counts.get(symbol) ?? 0) + 1));
        }
      }
      for (const [key, counts] of plain) {
        const path = key === "" ? [] : key.split(",").map(Number);
        const context = path.reduce((at, task) => trie.descend(at, task), ROOT);
        expect([...trie.symbols(context)]).toEqual([...counts]);
        expect(trie.distinct(context)).toBe(counts.size);
        expect(trie.total(context)).toBe([...counts.values()].reduce((sum, n) => sum + n, 0));
        for (const [symbol, n] of counts) expect(trie.countOf(context, symbol)).toBe(n);
      }
      expect(trie.descend(ROOT, 13)).toBe(-1);
      expect(trie.countOf(ROOT, 91)).toBe(0);
    }),
    { numRuns: 4 },
  );
});

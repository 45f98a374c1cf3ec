// Pages of chains: a list keeps its order for ten minutes, sixteen lists are kept, and what is gone is told.
import { expect, test } from "vitest";
import { ChainPages } from "../../src/edge/writer/chain-pages.ts";
import type { MinedChain } from "../../src/protocol.ts";

const chain = (task: string, score: number) => ({ tasks: ["a", task], score }) as unknown as MinedChain;
const listed = (...tasks: string[]) => new Map(tasks.map((task, at) => [`key ${task}`, chain(task, -at)]));
const tasksOf = (page: ReturnType<ChainPages["page"]>) => page?.chains.map(({ tasks }) => tasks[1]);

test("the second page follows the first one's order, with what chains are by now; one that is gone is left out", () => {
  const pages = new ChainPages();
  const first = pages.page(listed("x", "y", "z", "w"), { offset: 0 }, 2, 0)!;
  expect([tasksOf(first), first.total]).toEqual([["x", "y"], 4]);
  const now = listed("new", "w", "x", "y");
  const second = pages.page(now, { cursor: first.next! }, 2, 1)!;
  expect(second).toEqual({ chains: [now.get("key w")], total: 4, offset: 2, next: null });
  // The same page again is the same page.
  expect(pages.page(now, { cursor: first.next! }, 2, 2)).toEqual(second);
});

test("a list is kept for ten minutes, and sixteen of them", () => {
  const pages = new ChainPages();
  const begin = (nowMs: number) => pages.page(listed("x", "y"), { offset: 0 }, 1, nowMs)!.next!;
  const old = begin(0);
  expect(tasksOf(pages.page(listed("x", "y"), { cursor: old }, 1, 599_999))).toEqual(["y"]);
  expect(pages.page(listed("x", "y"), { cursor: old }, 1, 600_000)).toBeNull();
  const cursors = Array.from({ length: 17 }, (_, i) => begin(700_000 + (i % 2)));
  const kept = cursors.map((cursor) => pages.page(listed("x", "y"), { cursor }, 1, 700_002) !== null);
  expect(kept).toEqual([false, ...Array(16).fill(true)]);
});

test("a list of one page needs no cursor, and a page beyond the end is empty", () => {
  const pages = new ChainPages();
  expect(pages.page(listed("x"), { offset: 0 }, 1, 0)).toMatchObject({ total: 1, next: null });
  expect(pages.page(listed("x"), { offset: 5 }, 1, 0)).toEqual({ chains: [], total: 1, offset: 5, next: null });
});

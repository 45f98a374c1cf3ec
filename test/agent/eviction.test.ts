// Which entries leave the cache: tables of literal input and output.
import { describe, expect, it } from "vitest";
import { type CacheEntry, chooseVictims, expectedMs, TASK_LOAD } from "../../src/agent/eviction.ts";

const NOW_MS = 1_000_000_000;

function entry(uri: string, overrides: Partial<CacheEntry> = {}): CacheEntry {
  return {
    uri,
    integrity: uri,
    path: uri,
    bytes: 100,
    loadMs: 100,
    etag: null,
    freshForMs: null,
    freshUntilMs: Number.POSITIVE_INFINITY,
    lastUsedMs: NOW_MS,
    uses: 0,
    pins: 0,
    verified: true,
    orphaned: false,
    hold: null,
    ...overrides,
  };
}

const held = (probability: number, untilMs = NOW_MS + 1_000) => ({ hold: { probability, untilMs } });

describe("an entry is worth", () => {
  const cases: [string, Partial<CacheEntry>, number][] = [
    ["nothing if it was never used", {}, 0],
    ["half its load after one use", { uses: 1 }, 50],
    ["more the more it was used", { uses: 9 }, 90],
    ["half of that after ten idle minutes", { uses: 9, lastUsedMs: NOW_MS - 600_000 }, 45],
    ["what a command expects of it", held(0.8), 80],
    ["nothing of that once the hold is over", held(0.8, NOW_MS), 0],
    ["the better of the two", { uses: 9, ...held(0.5) }, 90],
  ];
  for (const [name, overrides, worthMs] of cases) {
    it(name, () => expect(expectedMs(entry("a", overrides), NOW_MS)).toBeCloseTo(worthMs, 6));
  }
});

describe("for room", () => {
  const prefetch = (worthMs: number, probability = 0.9) => ({ worthMs, probability });
  const cases: [string, CacheEntry[], number, Parameters<typeof chooseVictims>[2], string[] | null][] = [
    ["nothing leaves if nothing is wanted", [entry("a")], 0, TASK_LOAD, []],
    ["the least worth per byte leaves first", [entry("dear", { uses: 1 }), entry("cheap")], 100, TASK_LOAD, ["cheap"]],
    [
      "a large one leaves before a small one of the same worth",
      [entry("small", { uses: 1 }), entry("large", { uses: 1, bytes: 1_000 })],
      100,
      TASK_LOAD,
      ["large"],
    ],
    [
      "among equals the longest unused leaves",
      [entry("new"), entry("old", { lastUsedMs: NOW_MS - 5 })],
      100,
      TASK_LOAD,
      ["old"],
    ],
    ["as many leave as are needed", [entry("a"), entry("b"), entry("c")], 150, TASK_LOAD, ["a", "b"]],
    ["none leaves if all together are too little", [entry("a")], 101, TASK_LOAD, null],
    ["a pinned one never leaves", [entry("a", { pins: 1 })], 1, TASK_LOAD, null],
    ["a task's load may take what is held", [entry("a", held(0.99))], 1, TASK_LOAD, ["a"]],
    ["a prefetch takes only what is worth less", [entry("a", { uses: 1 })], 1, prefetch(49), null],
    ["a prefetch takes what is worth less", [entry("a", { uses: 1 })], 1, prefetch(51), ["a"]],
    ["their worths add up", [entry("a", { uses: 1 }), entry("b", { uses: 1 })], 200, prefetch(99), null],
    ["a prefetch never takes what is held as surely", [entry("a", held(0.9))], 1, prefetch(1e9, 0.9), null],
    ["a prefetch takes what is held less surely", [entry("a", held(0.1))], 1, prefetch(1e9, 0.9), ["a"]],
  ];
  for (const [name, entries, bytes, newcomer, uris] of cases) {
    it(name, () => {
      const victims = chooseVictims(entries, bytes, newcomer, NOW_MS);
      expect(victims?.map(({ uri }) => uri) ?? null).toEqual(uris);
    });
  }
});

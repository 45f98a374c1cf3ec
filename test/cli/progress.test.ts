// How often long work says how far it has come: often for somebody who watches, seldom in a log.
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { progressTeller } from "../../src/cli/progress.ts";

const wasTerminal = process.stderr.isTTY;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["performance"] });
});
afterEach(() => {
  process.stderr.isTTY = wasTerminal;
  vi.restoreAllMocks();
  vi.useRealTimers();
});

it.each([
  { what: "a terminal, every 2 s", isTerminal: true, told: ["2", "4", "6", "8", "10", "12"] },
  { what: "a file or a pipe, every 10 s", isTerminal: false, told: ["10"] },
])("to $what", ({ isTerminal, told }) => {
  process.stderr.isTTY = isTerminal;
  const write = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  const progress = progressTeller();
  for (let second = 1; second < 14; second++) {
    vi.advanceTimersByTime(1_000);
    progress(() => String(second));
  }
  expect(write.mock.calls).toEqual(told.map((text) => [`${text}\n`]));
});

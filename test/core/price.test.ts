// The shadow price of memory: at the dial, lower where less is held, and back.
import { expect, it } from "vitest";
import { KeepAlive } from "../../src/core/keepalive.ts";
import { MemoryPrice } from "../../src/core/price.ts";

const DIAL = 20;
let nowMs = 0;

/** Price after so many idle times, of which each cost the operator's keep-alive 100 GB·ms and what was learned `heldGbMs`. */
function priceAfter(heldGbMs: number, notes = 5_000, price = new MemoryPrice(DIAL)): number {
  for (let i = 0; i < notes; i++) {
    nowMs += 10_000;
    price.held(100, heldGbMs, nowMs);
  }
  return price.msPerGbSecond;
}

it("memory costs the dial where all that the keep-alive would hold is held, or more", () => {
  expect(priceAfter(100)).toBe(DIAL);
  expect(priceAfter(500)).toBe(DIAL);
});

it("falls while less is held, to a bound, and rises again to the dial", () => {
  expect(priceAfter(50)).toBeLessThan(DIAL / 2);
  expect(priceAfter(0, 1e6)).toBeCloseTo(DIAL / 1_000, 9);
  const price = new MemoryPrice(DIAL);
  priceAfter(0, 3_000, price);
  expect(price.msPerGbSecond).toBeLessThan(1);
  expect(priceAfter(300, 10_000, price)).toBe(DIAL);
});

it("moves at most once in ten seconds, however many idle times end", () => {
  const burst = new MemoryPrice(DIAL);
  const once = new MemoryPrice(DIAL);
  for (let i = 0; i < 1_000; i++) burst.held(100, 10, 10_000 + i);
  once.held(100, 10, 10_000);
  expect(burst.msPerGbSecond).toBe(once.msPerGbSecond);
  expect(once.msPerGbSecond).toBeLessThan(DIAL);
});

it("counts what was prepared", () => {
  const price = new MemoryPrice(DIAL);
  for (let i = 0; i < 5_000; i++) {
    price.prepared(60);
    price.held(100, 50, i * 10_000);
  }
  expect(price.msPerGbSecond).toBe(DIAL);
});

it("stays where it is frozen, survives storage, turns with the dial", () => {
  const price = new MemoryPrice(DIAL);
  priceAfter(20, 2_000, price);
  const stored = JSON.parse(JSON.stringify(price.state()));
  const again = new MemoryPrice(DIAL, stored);
  expect(again.state()).toEqual(price.state());
  again.frozen = true;
  expect(priceAfter(500, 1_000, again)).toBe(price.msPerGbSecond);
  expect(new MemoryPrice(10 * DIAL, stored).msPerGbSecond).toBeCloseTo(10 * price.msPerGbSecond, 9);
  price.reset();
  expect(price.msPerGbSecond).toBe(DIAL);
});

it("is frozen with the holds, for what was prepared too", () => {
  const holds = new KeepAlive({ msPerGbSecond: DIAL, fixedMs: 60_000 });
  holds.price.prepared(60);
  holds.frozen = true;
  const frozen = holds.state();
  holds.price.prepared(60);
  expect(holds.state()).toEqual(frozen);
  const again = new KeepAlive({ msPerGbSecond: DIAL, fixedMs: 60_000 }, { ...frozen, frozen: false });
  again.price.prepared(60);
  expect(again.price.state()).toMatchObject({ frozen: false, heldGbMs: 120 });
});

it("lets holds reach further where others have become shorter than the keep-alive", () => {
  const holds = new KeepAlive({ msPerGbSecond: DIAL, fixedMs: 60_000 });
  const hidden = { expectedMs: 0, atMostMs: 0 };
  for (let call = 0; call < 3_000; call++) {
    const nowMs = call * 100_000;
    holds.called("large, prepared in time", nowMs, hidden, 1, 2);
    holds.called("small, at the root", nowMs, { expectedMs: 40, atMostMs: 40 }, 1, 0.1);
    holds.released("large, prepared in time", nowMs + 10, 2);
    holds.released("small, at the root", nowMs + 10, 0.1);
  }
  expect(holds.holdMs("large, prepared in time")).toBe(0);
  // 10 GB·s between two calls cost 200 ms at the dial, more than the 40 ms that they save.
  expect(holds.holdMs("small, at the root")).toBeGreaterThanOrEqual(100_000);
  expect(new KeepAlive({ msPerGbSecond: DIAL, fixedMs: 60_000 }, holds.state()).price.state()).toEqual(
    holds.price.state(),
  );
});

// Holds as they are learned: calls at known gaps, with the clock in the test's hand.
import { describe, expect, it } from "vitest";
import { KeepAlive } from "../../src/core/keepalive.ts";
import { type Hidden, hiddenAfter, waitOf } from "../../src/core/planned.ts";
import { MeasuredStarts } from "../../src/core/starts.ts";
import { LINEAR, modelOf } from "./knowledge.ts";

const GB = 0.25;

/** Calls at a fixed gap; each waits so long where nothing is warm. Returns the hold after `count` of them. */
function heldAfter(gapMs: number, waitMs: number, msPerGbSecond: number, count = 200): number {
  const holds = new KeepAlive({ msPerGbSecond, fixedMs: 60_000 });
  const wait = { expectedMs: waitMs, atMostMs: waitMs };
  for (let call = 0; call < count; call++) {
    holds.called("T", call * gapMs, wait, 1, GB);
    holds.released("T", call * gapMs + 100, GB);
  }
  return holds.holdMs("T");
}

const head = (p10: number, p50 = p10, p90 = p50) => ({ p10, p50, p90 });

describe("what a call waits", () => {
  const start = { coldStartMs: 200, slowStartMs: 400 };
  it.each([
    ["nothing foretold", null, { expectedMs: 200, atMostMs: 400, heldMs: 0 }],
    ["hidden", { headMs: head(200), surelyMs: 900, heldMs: 50 }, { expectedMs: 0, atMostMs: 0, heldMs: 50 }],
    ["should it come early", { headMs: head(200), surelyMs: 100 }, { expectedMs: 0, atMostMs: 300, heldMs: 0 }],
    // 0.3 × 150 + 0.4 × 20: that it may come long after the start is done makes up for nothing.
    [
      "now early, now late",
      { headMs: head(50, 180, 2_000), surelyMs: 400, heldMs: 50 },
      { expectedMs: 53, atMostMs: 0, heldMs: 50 },
    ],
    [
      "dearer than holding",
      { headMs: head(200), surelyMs: 900, heldMs: 60_001 },
      { expectedMs: 200, atMostMs: 400, heldMs: 0 },
    ],
    [
      "dearer than holding, and made all the same",
      { headMs: head(200), surelyMs: 900, heldMs: 60_001, isSent: true },
      { expectedMs: 0, atMostMs: 0, heldMs: 60_001 },
    ],
    [
      "as dear as holding",
      { headMs: head(200), surelyMs: 900, heldMs: 60_000 },
      { expectedMs: 0, atMostMs: 0, heldMs: 60_000 },
    ],
    [
      "for three calls of four",
      { headMs: head(200), surelyMs: 900, heldMs: 1_000, covered: 0.75 },
      { expectedMs: 50, atMostMs: 0, heldMs: 750, exposed: 0.25 },
    ],
  ])("%s", (_, hidden, expected) => {
    const wait = waitOf(start, hidden, 60_000);
    expect(wait).toEqual({ ...expected, expectedMs: expect.closeTo(expected.expectedMs, 9) });
  });
});

describe("what the plans of a run hide", () => {
  const sent = (ms: number): Hidden => ({ headMs: head(ms), surelyMs: ms, isSent: true });
  const { isSent: _, ...told } = sent(100);
  it.each([
    ["an earlier start has the longer head start", { B: sent(100) }, { B: sent(10) }, { B: sent(100) }],
    ["what has not been sent has none", { B: told }, { B: sent(10) }, { B: sent(10) }],
    ["what was sent goes on, whatever another plan would do", { B: sent(10) }, { B: told }, { B: sent(10) }],
    ["what begins sooner than was expected", { B: sent(10) }, { B: sent(100) }, { B: sent(100) }],
    ["what only one of them names", { B: sent(10) }, { C: sent(20) }, { B: sent(10), C: sent(20) }],
    ["the called task itself starts anew", { A: sent(100) }, { A: sent(10) }, { A: sent(10) }],
  ])("%s", (_, before, plan, after) => {
    expect(hiddenAfter(before, "A", plan)).toEqual(after);
  });
});

describe("learned holds", () => {
  it("begin with the operator's keep-alive", () => {
    expect(new KeepAlive({ msPerGbSecond: 20, fixedMs: 60_000 }).holdMs("never seen")).toBe(60_000);
    expect(heldAfter(1_000_000, 200, 20, 3)).toBe(60_000);
  });

  it("reach the next call where that is worth the memory", () => {
    // 200 ms every 200 s; 50 GB·s between two calls cost 5 ms at a dial of 0.1.
    expect(heldAfter(200_000, 200, 0.1)).toBeGreaterThanOrEqual(200_000);
  });

  it("do not where memory is dear", () => {
    expect(heldAfter(200_000, 200, 100)).toBeLessThanOrEqual(60_000);
  });

  it("end at once where prewarming hides the whole start", () => {
    expect(heldAfter(200_000, 0, 20)).toBe(0);
  });

  it("are not shortened for calls that come within the operator's keep-alive and would wait", () => {
    expect(heldAfter(30_000, 200, 1_000)).toBeGreaterThanOrEqual(30_000);
  });

  it("of a wide step that nothing hides remember one run in twenty, not only the last few", () => {
    const holds = new KeepAlive({ msPerGbSecond: 20, fixedMs: 60_000 });
    let atMs = 0;
    for (let run = 1; run <= 79; run++) {
      // A run comes 40 s after the one before, the other nineteen after five minutes; each has 200 executions at once.
      atMs += run % 20 === 0 ? 40_000 : 300_000;
      for (let i = 0; i < 200; i++) holds.called("T", atMs, { expectedMs: 100, atMostMs: 100 }, 0.005, GB);
      for (let i = 0; i < 200; i++) holds.released("T", atMs + 1_000, GB);
    }
    expect(holds.holdMs("T")).toBe(60_000);
  });

  it("are the operator's again where what plans prepare does not arrive", () => {
    const holds = new KeepAlive({ msPerGbSecond: 20, fixedMs: 60_000 });
    const call = (at: number) => {
      holds.called("T", at * 30_000, { expectedMs: 0, atMostMs: 0, heldMs: 2_000 }, 1, GB);
      if (at > 100 && at % 20 === 0) holds.missed("T", 1);
      holds.released("T", at * 30_000 + 100, GB);
    };
    for (let at = 0; at <= 100; at++) call(at);
    // 2 s of a preparation for each call instead of 30 s of holding.
    expect(holds.holdMs("T")).toBeLessThan(5_000);
    expect(holds.spared()).toEqual({ T: 60_000 });
    for (let at = 101; at <= 140; at++) call(at);
    expect(holds.holdMs("T")).toBeGreaterThanOrEqual(30_000);
  });

  it("go on where a preparation is kept for longer than they would be", () => {
    const holds = new KeepAlive({ msPerGbSecond: 20, fixedMs: 60_000 });
    for (let at = 0; at < 200; at++) {
      holds.called("T", at * 5_000, { expectedMs: 0, atMostMs: 0, heldMs: 30_000 }, 1, GB);
      holds.released("T", at * 5_000 + 100, GB);
    }
    expect(holds.holdMs("T")).toBeGreaterThanOrEqual(5_000);
  });

  it("count what runtimes were idle, not what the bins are wide", () => {
    // Held until the call, 130 s, it costs 650 ms; half of the bin more, 1,050.
    expect(heldAfter(130_100, 800, 20)).toBe(300_000);
  });

  it("follow a change", () => {
    const holds = new KeepAlive({ msPerGbSecond: 0.1, fixedMs: 60_000 });
    const wait = { expectedMs: 200, atMostMs: 200 };
    const none = { expectedMs: 0, atMostMs: 0 };
    let nowMs = 0;
    const call = (what: typeof wait) => {
      holds.called("T", nowMs, what, 1, GB);
      holds.released("T", nowMs + 100, GB);
      nowMs += 200_000;
    };
    for (let i = 0; i < 200; i++) call(wait);
    expect(holds.holdMs("T")).toBeGreaterThanOrEqual(200_000);
    for (let i = 0; i < 4_000; i++) call(none);
    expect(holds.holdMs("T")).toBeLessThan(200_000);
  });

  it.each([
    // A demo of a minute: runtimes are called again after 1.2 to 4.2 s, the operator's keep-alive is 1 s.
    { calls: 12, fixedMs: 1_000, gapMs: 3_000, longestMs: 5_000 },
    { calls: 60, fixedMs: 1_000, gapMs: 3_000, longestMs: 5_000 },
    // Idle times within the operator's keep-alive give no reason for a longer one, however dear a wait is.
    { calls: 60, fixedMs: 60_000, gapMs: 3_000, longestMs: 60_000 },
  ])("do not reach further than what was seen: $calls calls", ({ calls, fixedMs, gapMs, longestMs }) => {
    const holds = new KeepAlive({ msPerGbSecond: 0.1, fixedMs });
    const wait = { expectedMs: 700, atMostMs: 700 };
    let nowMs = 1e12;
    for (let call = 0; call < calls; call++) {
      holds.called("T", nowMs, wait, 1, GB);
      holds.released("T", nowMs + 100, GB);
      nowMs += gapMs * (0.6 + 0.8 * ((call * 0.618) % 1));
    }
    expect(holds.holdMs("T")).toBeLessThanOrEqual(longestMs);
    expect(holds.learned()[0]!.policy).not.toBe("keep-warm");
  });

  it("are never longer than the task was watched, also where keeping it warm pays", () => {
    for (const count of [4, 6, 8, 12, 30, 100]) {
      const heldMs = heldAfter(90_000, 5_000, 0.01, count);
      expect(heldMs).toBeLessThanOrEqual(Math.max(60_000, count * 90_000));
    }
    expect(heldAfter(90_000, 5_000, 0.01, 100)).toBeGreaterThanOrEqual(90_000);
  });

  it("are not longer than the operator's for one or two calls that came late", () => {
    const holds = new KeepAlive({ msPerGbSecond: 0.01, fixedMs: 60_000 });
    const wait = { expectedMs: 5_000, atMostMs: 5_000 };
    let nowMs = 0;
    const call = (gapMs: number) => {
      nowMs += gapMs;
      holds.called("T", nowMs, wait, 1, GB);
      holds.released("T", nowMs, GB);
    };
    for (let i = 0; i < 20; i++) call(10_000);
    for (let i = 0; i < 2; i++) call(200_000);
    expect(holds.holdMs("T")).toBe(60_000);
    for (let i = 0; i < 2; i++) call(200_000);
    expect(holds.holdMs("T")).toBeGreaterThanOrEqual(200_000);
  });

  it("go on from what was stored as if it had not been", () => {
    const options = { msPerGbSecond: 0.1, fixedMs: 60_000 };
    let holds = new KeepAlive(options);
    const whole = new KeepAlive(options);
    for (let call = 0; call < 50; call++) {
      for (const each of [holds, whole]) {
        each.called("T", call * 100_000, { expectedMs: 200, atMostMs: 200 }, 1, GB);
        each.released("T", call * 100_000 + 100, GB);
      }
      holds = new KeepAlive(options, JSON.parse(JSON.stringify(holds.state())));
    }
    expect(holds.state()).toEqual(whole.state());
    expect(holds.holdMs("T")).toBeGreaterThanOrEqual(100_000);
  });

  it("go on from what an older version stored, which did not tell how long runtimes were idle", () => {
    const options = { msPerGbSecond: 0.1, fixedMs: 60_000 };
    const holds = new KeepAlive(options);
    for (let call = 0; call < 50; call++) {
      holds.called("T", call * 100_000, { expectedMs: 200, atMostMs: 200 }, 1, GB);
      holds.released("T", call * 100_000 + 100, GB);
    }
    const { spentMs, ...older } = holds.state().tasks.T!;
    const state = { ...holds.state(), tasks: { T: older } };
    const goneOn = new KeepAlive(options, state);
    const about = goneOn.state().tasks.T!.spentMs!;
    // 100 s a time: whole bins up to 60 s, and in the last half of the minute where 40 s are true.
    expect(about.slice(0, 7)).toEqual(spentMs!.slice(0, 7));
    expect(about[7]! / spentMs![7]!).toBeCloseTo(30 / 39.9, 2);
  });

  it("stay as they are while frozen, whatever comes", () => {
    const holds = new KeepAlive({ msPerGbSecond: 20, fixedMs: 60_000 });
    const call = (at: number) => {
      holds.called("T", at * 200_000, { expectedMs: 0, atMostMs: 0 }, 1, GB);
      holds.released("T", at * 200_000 + 100, GB);
    };
    for (let at = 0; at < 50; at++) call(at);
    expect(holds.holdMs("T")).toBe(0);
    holds.frozen = true;
    const frozen = holds.state();
    call(50);
    holds.missed("T", 1);
    holds.fade(0.1);
    holds.price.prepared(1_000);
    expect(holds.state()).toEqual(frozen);
  });

  it("are no longer than a tenth of what was watched before a change", () => {
    const holds = new KeepAlive({ msPerGbSecond: 0.01, fixedMs: 60_000 });
    for (let at = 0; at < 100; at++) {
      holds.called("T", at * 90_000, { expectedMs: 5_000, atMostMs: 5_000 }, 1, GB);
      holds.released("T", at * 90_000, GB);
    }
    const { sinceMs, untilMs } = holds.state().tasks.T!;
    holds.fade(0.1);
    expect(holds.state().tasks.T).toMatchObject({ sinceMs: untilMs - 0.1 * (untilMs - sinceMs), untilMs });
  });

  it("watch so many idle runtimes of a task at most: the one that was released longest ago is given up", () => {
    const holds = new KeepAlive({ msPerGbSecond: 20, fixedMs: 60_000 });
    for (let at = 0; at < 4_100; at++) holds.released("T", at, GB);
    const { releasesMs } = holds.state().tasks.T!;
    expect(releasesMs).toHaveLength(4_096);
    expect(releasesMs[0]).toBe(4);
  });

  it("tell what was learned", () => {
    const holds = new KeepAlive({ msPerGbSecond: 20, fixedMs: 60_000 });
    holds.released("T", 0, GB);
    const [learned] = holds.learned();
    expect(learned!.task).toBe("T");
    expect(Object.values(learned!.weights).reduce((sum, weight) => sum + weight, 0)).toBeCloseTo(1, 9);
  });
});

describe("measured starts", () => {
  it("stand in a profile instead of what callers waited", () => {
    const starts = new MeasuredStarts();
    const profile = modelOf(LINEAR).profiles.get("B")!;
    expect(starts.correct(profile)).toBe(profile);
    for (const ms of [980, 1_000, 1_020, 0, Number.NaN]) starts.note("B", ms);
    const { coldStartMs } = starts.correct(profile);
    expect(coldStartMs!.p50).toBeGreaterThan(900);
    expect(coldStartMs!.p50).toBeLessThan(1_100);
  });

  it("forget what was usual long ago", () => {
    const starts = new MeasuredStarts();
    const profile = modelOf(LINEAR).profiles.get("B")!;
    for (let i = 0; i < 300; i++) starts.note("B", 100);
    for (let i = 0; i < 1_000; i++) starts.note("B", 1_000);
    expect(starts.correct(profile).coldStartMs!.p10).toBeGreaterThan(900);
  });

  it("does not shorten what calls have waited, objects beside the runtime included", () => {
    const starts = new MeasuredStarts();
    const profile = modelOf(LINEAR).profiles.get("B")!;
    starts.note("B", 100);
    const waited = { p10: 50, p50: 600, p90: 900 };
    const { coldStartMs, startMs } = starts.correct({ ...profile, coldStartMs: waited });
    expect(startMs!.p90).toBeCloseTo(100, -1);
    expect(coldStartMs!.p10).toBeCloseTo(100, -1);
    expect(coldStartMs).toMatchObject({ p50: 600, p90: 900 });
  });
});

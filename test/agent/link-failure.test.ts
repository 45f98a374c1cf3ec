// What an agent makes of a Worker that refuses, is away, or answers nonsense: try again or give up, and forget what is given up.
import { describe, expect, it } from "vitest";
import type { Link } from "../../src/agent/link.ts";
import { failureOf, type LinkFailure, retryable } from "../../src/agent/link-failure.ts";
import { createReports } from "../../src/agent/reports.ts";
import type { AgentReport } from "../../src/protocol.ts";

describe("an answer with status", () => {
  it.each<[number, LinkFailure["reason"], boolean]>([
    [400, "refused", false],
    [404, "refused", false],
    [413, "refused", false],
    [422, "refused", false],
    // The key may be declared later.
    [401, "unauthorised", true],
    [403, "unauthorised", true],
    [409, "superseded", true],
    [408, "busy", true],
    [425, "busy", true],
    [429, "busy", true],
    [500, "busy", true],
    [503, "busy", true],
  ])("%i is told as %s; another try makes sense: %s", (status, reason, again) => {
    const failure = failureOf(status, "x".repeat(5_000));
    expect([failure.reason, retryable(failure)]).toEqual([reason, again]);
    expect(failure.detail).toMatch(new RegExp(`^${status} x{300}$`));
  });

  it.each<[LinkFailure["reason"], boolean]>([
    ["unreachable", true],
    ["bad_answer", false],
  ])("none (%s): another try makes sense: %s", (reason, again) => {
    expect(retryable({ ok: false, reason, detail: "" })).toBe(again);
  });
});

describe("a report of a call's result", () => {
  const result = { commandId: "c", leaseId: "l", state: "done" as const };
  /** The ids of results that the agent need not name any more, once the reports are out. */
  async function toldAfter(report: (report: AgentReport) => Awaited<ReturnType<Link["report"]>>) {
    const told: string[] = [];
    const link = { report: async (items: AgentReport) => report(items) } as unknown as Link;
    const lines: string[] = [];
    const reports = createReports(
      link,
      (line) => lines.push(line),
      (results) => told.push(...results.map(({ commandId }) => commandId)),
    );
    reports.add({ list: "results", item: result });
    await reports.flush(AbortSignal.timeout(5_000));
    return { told, lines };
  }

  it("that is accepted: the call is no longer named to the hub", async () => {
    const answer = await toldAfter(() => ({ ok: true, answer: { accepted: 1, refused: [] } }));
    expect(answer).toEqual({ told: ["c"], lines: [] });
  });

  it("that is refused for its lease: the same, and it is logged", async () => {
    const refused = [{ commandId: "c", reason: "stale lease" as const }];
    const answer = await toldAfter(() => ({ ok: true, answer: { accepted: 0, refused } }));
    expect(answer).toEqual({ told: ["c"], lines: ["report on command c refused: stale lease"] });
  });

  it("that will never be accepted is given up, and the call is not named for ever", async () => {
    const answer = await toldAfter(() => ({ ok: false, reason: "refused", detail: "422 malformed" }));
    expect(answer).toEqual({ told: ["c"], lines: ["1 reports dropped: 422 malformed"] });
  });

  it("that meets a Worker which is away is kept, and told when it is back", async () => {
    let tries = 0;
    const answer = await toldAfter((items) => {
      expect(items.results).toEqual([result]);
      if (++tries === 1) return { ok: false, reason: "unreachable", detail: "ECONNREFUSED" };
      return { ok: true, answer: { accepted: 1, refused: [] } };
    });
    expect([answer.told, tries]).toEqual([["c"], 2]);
  });
});

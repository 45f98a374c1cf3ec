// The learners of outcomes one by one: gate, margins, placement, drift; each with what it must find and what it must leave.
import { describe, expect, it } from "vitest";
import { OCCURRENCES_MAX } from "../../src/core/chain-engine.ts";
import { CORRECTED_TERMS, corrected, FACTOR_MAX, PlacementCorrections } from "../../src/core/corrections.ts";
import { CHANGES_MAX, DriftDetector, type DriftState } from "../../src/core/drift.ts";
import { GateBeliefs } from "../../src/core/gate.ts";
import { Learning } from "../../src/core/learning.ts";
import { LeadMargins } from "../../src/core/margins.ts";
import { seededRandom } from "../../src/core/random.ts";
import type { Review } from "../../src/core/review.ts";

const SEED = 20_261;

/** Through JSON, as storage keeps it. */
function stored<T>(state: T): T {
  return JSON.parse(JSON.stringify(state)) as T;
}

describe("beliefs of the gate", () => {
  const table = [
    { of: "nothing tried", foretold: 0.6, used: 0, of100: 0, believed: 0.6 },
    { of: "as foretold", foretold: 0.6, used: 60, of100: 100, believed: 0.6 },
    { of: "as foretold but for chance", foretold: 0.6, used: 55, of100: 100, believed: 0.6 },
    {
      of: "never used",
      foretold: 0.6,
      used: 0,
      of100: 100,
      believed: 0.6 - (1 - (1.5 ** 2 * 24) / 60 ** 2) * (60 / 112),
    },
    {
      of: "always used",
      foretold: 0.6,
      used: 100,
      of100: 100,
      believed: 0.6 + (1 - (1.5 ** 2 * 24) / 40 ** 2) * (40 / 112),
    },
  ];
  it.each(table)("$of: $foretold becomes $believed", ({ foretold, used, of100, believed }) => {
    const gate = new GateBeliefs();
    for (let i = 0; i < of100; i++) gate.note("A", "B", foretold, i < used);
    expect(gate.probability("A", "B", foretold)).toBeCloseTo(believed, 10);
    expect(gate.probability("A", "C", foretold)).toBe(foretold);
  });

  it("give up what is never used, and try it again after some hundred predictions", () => {
    const gate = new GateBeliefs();
    for (let i = 0; i < 100; i++) gate.note("A", "B", 0.9, false);
    expect(gate.probability("A", "B", 0.9)).toBeLessThan(0.15);
    for (let i = 0; i < 2_000; i++) gate.age("A", "B", 0.9);
    expect(gate.probability("A", "B", 0.9)).toBeGreaterThan(0.8);
  });

  it("are learned for each band of probability apart", () => {
    const gate = new GateBeliefs();
    for (let i = 0; i < 100; i++) gate.note("A", "B", 0.95, false);
    expect(gate.probability("A", "B", 0.95)).toBeLessThan(0.2);
    expect(gate.probability("A", "B", 0.3)).toBe(0.3);
  });

  it("follow a change, sooner once they were told to forget", () => {
    const believedAfter = (kept: number) => {
      const gate = new GateBeliefs();
      for (let i = 0; i < 200; i++) gate.note("A", "B", 0.8, true);
      gate.fade(kept);
      for (let i = 0; i < 20; i++) gate.note("A", "B", 0.8, false);
      return gate.probability("A", "B", 0.8);
    };
    expect(believedAfter(0.1)).toBeLessThan(0.65);
    expect(believedAfter(0.1)).toBeLessThan(believedAfter(1) - 0.15);
  });

  it("stay as they are when frozen, survive storage, and can be reset", () => {
    const gate = new GateBeliefs();
    for (let i = 0; i < 50; i++) gate.note("A", "B", 0.6, false);
    const again = new GateBeliefs(stored(gate.state()));
    expect(again.probability("A", "B", 0.6)).toBe(gate.probability("A", "B", 0.6));
    again.frozen = true;
    again.note("A", "B", 0.6, true);
    expect(again.state().pairs).toEqual(gate.state().pairs);
    expect(new GateBeliefs(stored(again.state())).frozen).toBe(true);
    expect(again.learned()).toMatchObject([{ context: "A", task: "B", observations: 50 }]);
    again.reset();
    expect(again.probability("A", "B", 0.6)).toBe(0.6);
  });
});

it("what is remembered of pairs and transitions is bounded: the one noted longest ago makes room", () => {
  const gate = new GateBeliefs();
  const margins = new LeadMargins();
  for (let i = 0; i < 8_200; i++) {
    gate.note("A", "kept", 0.5, true);
    gate.note("A", `B${i}`, 0.5, true);
    margins.note("A", `B${i}`, { p10: 1, p50: 2, p90: 3 }, 2);
  }
  expect(gate.learned()).toHaveLength(8_192);
  expect(gate.learned().some(({ task }) => task === "B0")).toBe(false);
  expect(gate.learned().some(({ task }) => task === "kept")).toBe(true);
  expect(margins.learned()).toHaveLength(8_192);
});

describe("margins of lead times", () => {
  const lead = { p10: 90, p50: 100, p90: 110 };

  it(`find the quantiles of what came (seed ${SEED})`, () => {
    const margins = new LeadMargins();
    const random = seededRandom(SEED);
    const cameMs = () => 150 + 100 * random();
    for (let i = 0; i < 3_000; i++) margins.note("A", "B", lead, cameMs());
    const learned = margins.correct("A", "B", lead);
    const share = (ms: number) => (ms - 150) / 100;
    expect(Math.abs(share(learned.p10) - 0.1)).toBeLessThan(0.08);
    expect(Math.abs(share(learned.p50) - 0.5)).toBeLessThan(0.12);
    expect(Math.abs(share(learned.p90) - 0.9)).toBeLessThan(0.08);
  });

  it("are not used on little evidence, nor beyond their bound", () => {
    const margins = new LeadMargins();
    for (let i = 0; i < 5; i++) margins.note("A", "B", lead, 1);
    expect(margins.correct("A", "B", lead)).toEqual(lead);
    for (let i = 0; i < 3_000; i++) margins.note("A", "B", lead, 1e9);
    expect(margins.correct("A", "B", lead)).toEqual({ p10: 360, p50: 400, p90: 440 });
    margins.note("A", "B", lead, Number.NaN);
    expect(margins.learned()[0]!.observations).toBe(3_005);
  });

  it("keep p10, p50 and p90 in order, whatever is to be corrected", () => {
    const margins = new LeadMargins();
    for (let i = 0; i < 100; i++) margins.note("A", "B", lead, 100);
    const { p10, p50, p90 } = margins.correct("A", "B", { p10: 900, p50: 100, p90: 1 });
    expect(p10).toBe(p50);
    expect(p90).toBe(p50);
  });

  it("survive storage, and are frozen and reset", () => {
    const margins = new LeadMargins();
    for (let i = 0; i < 100; i++) margins.note("A", "B", lead, 300);
    const again = new LeadMargins(stored(margins.state()));
    expect(again.correct("A", "B", lead)).toEqual(margins.correct("A", "B", lead));
    again.frozen = true;
    again.note("A", "B", lead, 1);
    expect(again.state().transitions).toEqual(margins.state().transitions);
    again.reset();
    expect(again.correct("A", "B", lead)).toEqual(lead);
  });
});

describe("corrections of the placement terms", () => {
  const terms = { servicesMs: 40, transferMs: 100, coldStartMs: 200, queueMs: 5, hopsMs: 0, priceMs: 3 };

  /** Each term came to `share` of what was expected of it. */
  function note(corrections: PlacementCorrections, cluster: string, share: number): void {
    for (const term of CORRECTED_TERMS) corrections.note(cluster, "root", term, terms[term], share * terms[term]);
  }

  it(`find which term is wrong, on which cluster (seed ${SEED})`, () => {
    const corrections = new PlacementCorrections();
    const random = seededRandom(SEED);
    for (let i = 0; i < 300; i++) {
      const varied = { servicesMs: 80 * random(), transferMs: 200 * random(), coldStartMs: 400 * random() };
      const noise = 0.9 + 0.2 * random();
      for (const term of ["servicesMs", "transferMs", "coldStartMs"] as const) {
        const expectedMs = varied[term];
        corrections.note("as declared", "root", term, expectedMs, noise * expectedMs);
        corrections.note(
          "slow services",
          "root",
          term,
          expectedMs,
          noise * expectedMs * (term === "servicesMs" ? 3 : 1),
        );
      }
    }
    const fair = corrections.factors("as declared");
    const slow = corrections.factors("slow services");
    for (const term of ["servicesMs", "transferMs", "coldStartMs"] as const) {
      expect(Math.abs(fair[term] - 1)).toBeLessThan(0.15);
    }
    expect(Math.abs(slow.servicesMs - 3)).toBeLessThan(0.3);
    expect(Math.abs(slow.coldStartMs - 1)).toBeLessThan(0.15);
    expect(corrected(terms, slow).priceMs).toBe(3);
    expect(corrections.factors("never seen").servicesMs).toBe(1);
  });

  it("bound what one accident can do", () => {
    const corrections = new PlacementCorrections();
    corrections.note("a", "root", "coldStartMs", 200, 1e12);
    for (const factor of Object.values(corrections.factors("a"))) expect(factor).toBeLessThanOrEqual(FACTOR_MAX);
    for (let i = 0; i < 50; i++) corrections.note("a", "root", "coldStartMs", 200, 200);
    expect(Math.abs(corrections.factors("a").coldStartMs - 1)).toBeLessThan(0.5);
  });

  it("learn nothing of a wait that nobody measured, or of a term that was not expected", () => {
    const corrections = new PlacementCorrections();
    const state = corrections.state();
    corrections.note("near", "root", "servicesMs", 100, Number.NaN);
    corrections.note("near", "root", "servicesMs", 100, -1);
    corrections.note("near", "root", "servicesMs", 0, 100);
    expect(corrections.state()).toEqual(state);
  });

  it("remember so many clusters and chains: the one noted longest ago makes room", () => {
    const corrections = new PlacementCorrections();
    for (let i = 0; i < 8_200; i++) corrections.note(`c${i}`, `root ${i}`, "servicesMs", 100, 100);
    expect(corrections.learned()).toHaveLength(4_096);
    expect(Object.keys(corrections.state().offsets)).toHaveLength(8_192);
    expect(corrections.learned().some(({ cluster }) => cluster === "c8199")).toBe(true);
  });

  it("try only what is within a few percent of the best, and of that what is known least", () => {
    const corrections = new PlacementCorrections();
    for (let i = 0; i < 50; i++) note(corrections, "known", 1);
    const of = (cluster: string, totalMs: number) => ({ cluster, terms, totalMs });
    expect(corrections.choose([of("known", 345), of("unknown", 355)])).toBe(1);
    expect(corrections.choose([of("known", 345), of("unknown", 370)])).toBe(0);
    for (let i = 0; i < 50; i++) note(corrections, "unknown", 1.03);
    expect(corrections.choose([of("known", 345), of("unknown", 355)])).toBe(0);
    corrections.frozen = true;
    expect(corrections.choose([of("known", 345), of("new", 346)])).toBe(0);
  });

  it("take the diagonal of what was kept with a covariance", () => {
    const corrections = new PlacementCorrections();
    for (let i = 0; i < 50; i++) note(corrections, "a", 2);
    const { clusters, ...kept } = corrections.state();
    const { variances, ...belief } = clusters.a!;
    const covariance = CORRECTED_TERMS.flatMap((_, row) =>
      CORRECTED_TERMS.map((_, column) => (row === column ? variances![row]! : 0.5)),
    );
    const again = new PlacementCorrections(stored({ ...kept, clusters: { a: { ...belief, covariance } } }));
    expect(again.state()).toEqual(corrections.state());
  });

  it("survive storage, fade and are reset", () => {
    const corrections = new PlacementCorrections();
    for (let i = 0; i < 50; i++) note(corrections, "a", 2);
    const again = new PlacementCorrections(stored(corrections.state()));
    expect(again.factors("a")).toEqual(corrections.factors("a"));
    const sure = again.uncertaintyMs("a", terms);
    again.fade(0.1);
    expect(again.uncertaintyMs("a", terms)).toBeGreaterThan(2 * sure);
    again.reset();
    expect(again.factors("a").coldStartMs).toBe(1);
  });
});

describe("drift", () => {
  const run = (probability: number, happened: boolean): Review => ({
    root: "A",
    foretold: [{ execution: 0, context: "A", task: "B", probability, happened, lead: null, leadMs: Number.NaN }],
  });

  /** Thirty tasks come as ever, and one that was sure is gone. */
  const large = (isChanged: boolean, draw: number): Review => ({
    root: "A",
    foretold: [
      ...Array.from({ length: 30 }, (_, t) => ({ task: `T${t}`, probability: 0.9, happened: (draw + t) % 10 > 0 })),
      { task: "B", probability: 0.97, happened: !isChanged },
    ].map((each) => ({ execution: 0, context: "A", lead: null, leadMs: Number.NaN, ...each })),
  });

  it("is told where one of many tasks is gone", () => {
    const drift = new DriftDetector();
    for (let i = 0; i < 200; i++) expect(drift.note(large(false, i), i)).toBeNull();
    let at = 0;
    while (drift.note(large(true, at), 200 + at) === null && at < 50) at++;
    expect(at).toBeLessThan(5);
  });

  it("says how little is to be kept, for sixteen runs that are learned of the kind that has changed", () => {
    const drift = new DriftDetector();
    for (let i = 0; i < 40; i++) drift.note(run(0.95, true), i);
    expect(drift.keptOf("A")).toBe(OCCURRENCES_MAX);
    while (drift.note(run(0.95, false), 40) === null);
    expect(drift.relearning()).toEqual([{ root: "A", runs: 16 }]);
    expect(drift.keptOf("another")).toBe(OCCURRENCES_MAX);
    expect([1, 2, 3].map(() => drift.keptOf("A"))).toEqual([4, 4, 4]);
    // A restart in between loses nothing of it.
    const again = new DriftDetector(stored(drift.state()));
    expect(again.relearning()).toEqual([{ root: "A", runs: 13 }]);
    const rest = Array.from({ length: 14 }, () => again.keptOf("A"));
    expect(rest).toEqual([...new Array(13).fill(4), OCCURRENCES_MAX]);
    expect(again.relearning()).toEqual([]);
  });

  it("looks at what was foretold at the start of a run, and at nothing where nothing was", () => {
    const drift = new DriftDetector();
    const later = (happened: boolean): Review => {
      const { root, foretold } = run(0.95, happened);
      return { root, foretold: foretold.map((each) => ({ ...each, execution: 1 })) };
    };
    for (let i = 0; i < 100; i++) expect(drift.note(later(i < 40), i)).toBeNull();
    expect(drift.state().roots).toEqual({});
  });

  it("leaves behind what was usual by another measure, and keeps the changes", () => {
    const changes = [{ root: "A", atMs: 7, usualLoss: 0.1, loss: 2 }];
    const watches = { A: { runs: 500, mean: 0.01, variance: 0.0001, sum: 0 } };
    const drift = new DriftDetector({ watches, changes } as unknown as DriftState);
    for (let i = 0; i < 15; i++) expect(drift.note(run(0.5, i % 2 > 0), i)).toBeNull();
    expect(drift.changes()).toEqual(changes);
  });

  it("is told within a few runs of a change, once", () => {
    const drift = new DriftDetector();
    for (let i = 0; i < 200; i++) expect(drift.note(run(0.95, i % 20 !== 0), i)).toBeNull();
    let at = 0;
    while (drift.note(run(0.95, false), 200 + at) === null && at < 50) at++;
    expect(at).toBeLessThan(8);
    expect(drift.changes()).toMatchObject([{ root: "A", atMs: 200 + at }]);
    expect(new DriftDetector(stored(drift.state())).changes()).toEqual(drift.changes());
  });

  it(`is not told of chance: fewer than one alarm in 1,000 runs (seed ${SEED})`, () => {
    const drift = new DriftDetector();
    const random = seededRandom(SEED);
    for (let i = 0; i < 10_000; i++) drift.note(run(0.7, random() < 0.7), i);
    expect(drift.changes().length).toBeLessThan(10);
  });

  it("keeps the latest changes in the order of their time, whatever order runs come in", () => {
    const drift = new DriftDetector();
    const changed = (atMs: number) => {
      for (let i = 0; i < 40; i++) drift.note(run(0.95, true), atMs);
      while (drift.note(run(0.95, false), atMs) === null);
    };
    changed(1_000);
    changed(500);
    expect(drift.changes().map(({ atMs }) => atMs)).toEqual([500, 1_000]);
    for (let at = 0; at < CHANGES_MAX; at++) changed(2_000 + at);
    expect(drift.changes()).toHaveLength(CHANGES_MAX);
    expect(drift.changes()[0]!.atMs).toBe(2_000);
  });

  it("is not told of one surprising run", () => {
    const drift = new DriftDetector();
    for (let i = 0; i < 100; i++) drift.note(run(0.99, true), i);
    expect(drift.note(run(0.99, false), 100)).toBeNull();
    for (let i = 0; i < 100; i++) expect(drift.note(run(0.99, true), 101 + i)).toBeNull();
  });
});

describe("all that is learned", () => {
  it("is one plain value that can be stored, and put back", () => {
    const learning = new Learning();
    learning.gate.note("A", "B", 0.5, true);
    learning.margins.note("A", "B", { p10: 1, p50: 2, p90: 3 }, 2);
    learning.placement.note("c", "root", "servicesMs", 10, 20);
    learning.gate.frozen = true;
    expect(new Learning(stored(learning.state())).state()).toEqual(learning.state());
    learning.reset("gate");
    expect(learning.state().gate.pairs).toEqual({});
    expect(learning.margins.learned()).toHaveLength(1);
    learning.reset();
    expect(learning.margins.learned()).toEqual([]);
    expect(learning.placement.learned()).toEqual([]);
  });
});

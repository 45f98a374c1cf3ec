// Corrections of the placement terms. In: the terms that were expected where a chain was placed, and what they came to. Out: for each cluster a factor per
// term, and which of the near-best clusters is tried next.
// What came is taken as Σ factor × term + offset + noise. Factors are the cluster's: its links and machines are not as declared. The offset is the
// chain's, wherever it runs: a service's own time, a start that no plan hides. It takes no part in the choice, and is learned beside the factors so
// that none of them stands for it: else the cluster where one chain always runs would be blamed for that chain, and the others sent away.
// Both by recursive least squares, as a Kalman filter whose state walks slowly (so that old evidence fades): factors from a prior of 1, offsets from 0;
// a surprise is shared between them by how uncertain each is (of their covariances only those among one cluster's factors are kept).
// The choice is a linear bandit (L. Li et al., "A Contextual-Bandit Approach", LinUCB, WWW 2010), turned to costs: the cluster with the
// lowest total that is still plausible, but only among those within a few percent of the best: nobody is sent far away to learn something.
// State is plain JSON; when it is frozen, it is used and no longer learned, and nothing is tried.
import type { PlacementTerms } from "../protocol.ts";
import { remember } from "./remember.ts";

/** Terms that can be wrong; the price is the operator's own number. */
export const CORRECTED_TERMS = ["servicesMs", "transferMs", "coldStartMs", "queueMs", "hopsMs"] as const;
export type CorrectedTerm = (typeof CORRECTED_TERMS)[number];
export type TermFactors = Record<CorrectedTerm, number>;

const TERMS = CORRECTED_TERMS.length;
/** Where terms are not told apart, one offset stands for them. */
const ALL_TERMS = "allMs";
/** Before any evidence a factor is 1 give or take so much (standard deviation), by term: links are often not as declared, machines are much alike. */
const PRIOR_SPREADS: Record<CorrectedTerm, number> = {
  servicesMs: 1,
  transferMs: 1,
  coldStartMs: 0.3,
  queueMs: 0.3,
  hopsMs: 1,
};
/** … and an offset is 0 give or take this share of what is expected, and so much beside, ms. */
const OFFSET_SHARE = 0.3;
const OFFSET_MIN_MS = 30;
/** What came differs from the best explanation by this share of what is declared, and by at least so much, ms (standard deviation). */
const NOISE_SHARE = 0.3;
const NOISE_MIN_MS = 5;
/** Between two observations a factor or an offset may move by this share of its prior's spread (standard deviation). */
const WALK_SHARE = 0.03;
/** In standard deviations of what was thought possible: what lies beyond is an accident and says no more (P. Huber 1964). */
const SURPRISE_MAX = 2;
export const FACTOR_MIN = 0.05;
export const FACTOR_MAX = 20;
/** Clusters up to this share above the best total may be tried. */
const EXPLORE_SHARE = 0.05;
/** How optimistic a trial is, in standard deviations. */
const OPTIMISM = 1;
/** Clusters remembered; PLACE_CLUSTERS_MAX fit. */
const CLUSTERS_MAX = 4_096;
/** Offsets remembered; the one that was noted longest ago makes room. */
const OFFSETS_MAX = 8_192;

interface Belief {
  count: number;
  /** By CORRECTED_TERMS. */
  factors: number[];
  /** Covariance, row by row. */
  covariance: number[];
}

/** What comes of a term, or of all together, on top of Σ factor × term, wherever the chain runs. */
interface Offset {
  count: number;
  ms: number;
  variance: number;
  /** Of its prior, ms. */
  spreadMs: number;
}

export interface CorrectionState {
  frozen: boolean;
  clusters: Record<string, Belief>;
  /** By the chain's first task, tab, term. */
  offsets: Record<string, Offset>;
}

/** What was learned of one cluster, for people. */
export interface LearnedCorrection {
  cluster: string;
  observations: number;
  factors: TermFactors;
}

/** What was learned of one chain, for people. */
export interface LearnedOffset {
  task: string;
  term: string;
  observations: number;
  offsetMs: number;
}

const NO_CORRECTION: TermFactors = { servicesMs: 1, transferMs: 1, coldStartMs: 1, queueMs: 1, hopsMs: 1 };

export class PlacementCorrections {
  frozen: boolean;
  readonly #clusters: Map<string, Belief>;
  readonly #offsets: Map<string, Offset>;

  constructor(state?: CorrectionState) {
    this.frozen = state?.frozen ?? false;
    // What was kept before there were offsets has none.
    this.#offsets = new Map(Object.entries(structuredClone(state?.offsets ?? {})));
    this.#clusters = new Map(Object.entries(structuredClone(state?.clusters ?? {})));
  }

  factors(cluster: string): TermFactors {
    const belief = this.#clusters.get(cluster);
    if (belief === undefined) return NO_CORRECTION;
    const [servicesMs, transferMs, coldStartMs, queueMs, hopsMs] = belief.factors.map(bounded);
    return {
      servicesMs: servicesMs!,
      transferMs: transferMs!,
      coldStartMs: coldStartMs!,
      queueMs: queueMs!,
      hopsMs: hopsMs!,
    };
  }

  /**
   * What was expected, without any correction, of terms that came to `actualMs` together, of the chain that begins with `task`. Where terms were
   * measured apart, one call for each.
   */
  note(cluster: string, task: string, expected: Partial<PlacementTerms>, actualMs: number): void {
    const terms = CORRECTED_TERMS.map((term) => expected[term] ?? 0);
    const expectedMs = terms.reduce((sum, ms) => sum + ms, 0);
    if (this.frozen || !(actualMs >= 0) || !(expectedMs > 0)) return;
    const belief = this.#clusters.get(cluster) ?? newBelief();
    remember(this.#clusters, cluster, belief, CLUSTERS_MAX);
    const named = Object.keys(expected);
    const key = `${task}\t${named.length === 1 ? named[0] : ALL_TERMS}`;
    const offset = this.#offsets.get(key) ?? newOffset(expectedMs);
    remember(this.#offsets, key, offset, OFFSETS_MAX);
    update(belief, offset, terms, actualMs);
  }

  /** Standard deviation of the corrected total, ms: how little is known of these terms there. */
  uncertaintyMs(cluster: string, terms: Partial<PlacementTerms>): number {
    const vector = CORRECTED_TERMS.map((term) => terms[term] ?? 0);
    const belief = this.#clusters.get(cluster);
    if (belief === undefined) return Math.hypot(...vector.map((ms, t) => ms * priorSpread(t)));
    return Math.sqrt(Math.max(0, dot(vector, timesCovariance(belief, vector))));
  }

  /**
   * Position of the candidate to take: the first (they come best first by their corrected totals), or a near one of which less is known.
   * `terms` are those before correction.
   */
  choose(candidates: { cluster: string; terms: PlacementTerms; totalMs: number }[]): number {
    if (this.frozen || candidates.length < 2) return 0;
    const nearMs = candidates[0]!.totalMs * (1 + EXPLORE_SHARE);
    let chosen = 0;
    let least = Number.POSITIVE_INFINITY;
    for (const [at, { cluster, terms, totalMs }] of candidates.entries()) {
      if (totalMs > nearMs) break;
      const plausibleMs = totalMs - OPTIMISM * this.uncertaintyMs(cluster, terms);
      if (plausibleMs < least) [chosen, least] = [at, plausibleMs];
    }
    return chosen;
  }

  /** After a change: as sure as this share (0–1) of the evidence makes. */
  fade(kept: number): void {
    for (const belief of this.#clusters.values()) {
      for (let t = 0; t < TERMS; t++) {
        const at = t * TERMS + t;
        belief.covariance[at] = Math.min(priorSpread(t) ** 2, belief.covariance[at]! / Math.max(kept, 1e-3));
      }
    }
    for (const offset of this.#offsets.values()) {
      offset.variance = Math.min(offset.spreadMs ** 2, offset.variance / Math.max(kept, 1e-3));
    }
  }

  reset(): void {
    this.#clusters.clear();
    this.#offsets.clear();
  }

  state(): CorrectionState {
    return {
      frozen: this.frozen,
      clusters: structuredClone(Object.fromEntries(this.#clusters)),
      offsets: structuredClone(Object.fromEntries(this.#offsets)),
    };
  }

  learned(): LearnedCorrection[] {
    return [...this.#clusters].map(([cluster, { count }]) => ({
      cluster,
      observations: count,
      factors: this.factors(cluster),
    }));
  }

  learnedOffsets(): LearnedOffset[] {
    return [...this.#offsets].map(([key, { count, ms }]) => {
      const [task, term] = key.split("\t") as [string, string];
      return { task, term, observations: count, offsetMs: ms };
    });
  }
}

/** The terms with their factors; the price as it is. */
export function corrected(terms: PlacementTerms, factors: TermFactors): PlacementTerms {
  return {
    servicesMs: terms.servicesMs * factors.servicesMs,
    transferMs: terms.transferMs * factors.transferMs,
    coldStartMs: terms.coldStartMs * factors.coldStartMs,
    queueMs: terms.queueMs * factors.queueMs,
    hopsMs: terms.hopsMs * factors.hopsMs,
    priceMs: terms.priceMs,
  };
}

function priorSpread(t: number): number {
  return PRIOR_SPREADS[CORRECTED_TERMS[t]!];
}

function newBelief(): Belief {
  const covariance = new Array<number>(TERMS * TERMS).fill(0);
  for (let t = 0; t < TERMS; t++) covariance[t * TERMS + t] = priorSpread(t) ** 2;
  return { count: 0, factors: new Array<number>(TERMS).fill(1), covariance };
}

function newOffset(expectedMs: number): Offset {
  const spreadMs = OFFSET_SHARE * expectedMs + OFFSET_MIN_MS;
  return { count: 0, ms: 0, variance: spreadMs ** 2, spreadMs };
}

function update(belief: Belief, offset: Offset, terms: number[], actualMs: number): void {
  const { factors, covariance } = belief;
  belief.count++;
  offset.count++;
  for (let t = 0; t < TERMS; t++) {
    const at = t * TERMS + t;
    const prior = priorSpread(t);
    covariance[at] = Math.min(prior ** 2, covariance[at]! + (WALK_SHARE * prior) ** 2);
  }
  offset.variance = Math.min(offset.spreadMs ** 2, offset.variance + (WALK_SHARE * offset.spreadMs) ** 2);
  // Of the terms as declared: corrected ones would call everything noise after one accident.
  const declaredMs = terms.reduce((sum, ms) => sum + ms, 0);
  const spread = timesCovariance(belief, terms);
  const variance = dot(terms, spread) + offset.variance + Math.max(NOISE_MIN_MS, NOISE_SHARE * declaredMs) ** 2;
  const mostMs = SURPRISE_MAX * Math.sqrt(variance);
  const surpriseMs = Math.max(-mostMs, Math.min(mostMs, actualMs - dot(terms, factors) - offset.ms));
  for (let t = 0; t < TERMS; t++) factors[t] = bounded(factors[t]! + (spread[t]! / variance) * surpriseMs);
  for (let a = 0; a < TERMS; a++) {
    for (let b = 0; b < TERMS; b++) covariance[a * TERMS + b]! -= (spread[a]! * spread[b]!) / variance;
  }
  offset.ms += (offset.variance / variance) * surpriseMs;
  offset.variance -= offset.variance ** 2 / variance;
}

function timesCovariance({ covariance }: Belief, vector: number[]): number[] {
  return vector.map((_, a) => vector.reduce((sum, value, b) => sum + covariance[a * TERMS + b]! * value, 0));
}

function dot(a: number[], b: number[]): number {
  return a.reduce((sum, value, i) => sum + value * b[i]!, 0);
}

function bounded(factor: number): number {
  return Math.min(FACTOR_MAX, Math.max(FACTOR_MIN, factor));
}

// Corrections of the placement terms. In: the terms that were expected where a chain was placed, and what they came to. Out: for each cluster a factor per
// term, and which of the near-best clusters is tried next.
// What came is taken as Σ factor × term + noise; factors are learned per cluster by recursive least squares, as a Kalman filter whose state
// walks slowly (so that old evidence fades), from a prior of 1: what is declared holds until the cluster shows otherwise.
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
/** Before any evidence a factor is 1 give or take so much (standard deviation). */
const PRIOR_SPREAD = 1;
/** What came differs from the best explanation by this share of what is declared, and by at least so much, ms (standard deviation). */
const NOISE_SHARE = 0.3;
const NOISE_MIN_MS = 5;
/** Between two observations of a cluster its factors may move by so much (standard deviation). */
const WALK_SPREAD = 0.03;
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

interface Belief {
  count: number;
  /** By CORRECTED_TERMS. */
  factors: number[];
  /** Covariance, row by row. */
  covariance: number[];
}

export interface CorrectionState {
  frozen: boolean;
  clusters: Record<string, Belief>;
}

/** What was learned of one cluster, for people. */
export interface LearnedCorrection {
  cluster: string;
  observations: number;
  factors: TermFactors;
}

const NO_CORRECTION: TermFactors = { servicesMs: 1, transferMs: 1, coldStartMs: 1, queueMs: 1, hopsMs: 1 };

export class PlacementCorrections {
  frozen: boolean;
  readonly #clusters: Map<string, Belief>;

  constructor(state?: CorrectionState) {
    this.frozen = state?.frozen ?? false;
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

  /** What was expected, without any correction, of terms that came to `actualMs` together. Where terms were measured apart, one call for each. */
  note(cluster: string, expected: Partial<PlacementTerms>, actualMs: number): void {
    const terms = CORRECTED_TERMS.map((term) => expected[term] ?? 0);
    const expectedMs = terms.reduce((sum, ms) => sum + ms, 0);
    if (this.frozen || !(actualMs >= 0) || !(expectedMs > 0)) return;
    const belief = this.#clusters.get(cluster) ?? newBelief();
    remember(this.#clusters, cluster, belief, CLUSTERS_MAX);
    update(belief, terms, actualMs);
  }

  /** Standard deviation of the corrected total, ms: how little is known of these terms there. */
  uncertaintyMs(cluster: string, terms: Partial<PlacementTerms>): number {
    const vector = CORRECTED_TERMS.map((term) => terms[term] ?? 0);
    const belief = this.#clusters.get(cluster);
    if (belief === undefined) return PRIOR_SPREAD * Math.hypot(...vector);
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
        belief.covariance[at] = Math.min(PRIOR_SPREAD ** 2, belief.covariance[at]! / Math.max(kept, 1e-3));
      }
    }
  }

  reset(): void {
    this.#clusters.clear();
  }

  state(): CorrectionState {
    return { frozen: this.frozen, clusters: structuredClone(Object.fromEntries(this.#clusters)) };
  }

  learned(): LearnedCorrection[] {
    return [...this.#clusters].map(([cluster, { count }]) => ({
      cluster,
      observations: count,
      factors: this.factors(cluster),
    }));
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

function newBelief(): Belief {
  const covariance = new Array<number>(TERMS * TERMS).fill(0);
  for (let t = 0; t < TERMS; t++) covariance[t * TERMS + t] = PRIOR_SPREAD ** 2;
  return { count: 0, factors: new Array<number>(TERMS).fill(1), covariance };
}

function update(belief: Belief, terms: number[], actualMs: number): void {
  const { factors, covariance } = belief;
  belief.count++;
  for (let t = 0; t < TERMS; t++) {
    const at = t * TERMS + t;
    covariance[at] = Math.min(PRIOR_SPREAD ** 2, covariance[at]! + WALK_SPREAD ** 2);
  }
  // Of the terms as declared: corrected ones would call everything noise after one accident.
  const declaredMs = terms.reduce((sum, ms) => sum + ms, 0);
  const spread = timesCovariance(belief, terms);
  const variance = dot(terms, spread) + Math.max(NOISE_MIN_MS, NOISE_SHARE * declaredMs) ** 2;
  const mostMs = SURPRISE_MAX * Math.sqrt(variance);
  const surpriseMs = Math.max(-mostMs, Math.min(mostMs, actualMs - dot(terms, factors)));
  for (let t = 0; t < TERMS; t++) factors[t] = bounded(factors[t]! + (spread[t]! / variance) * surpriseMs);
  for (let a = 0; a < TERMS; a++) {
    for (let b = 0; b < TERMS; b++) covariance[a * TERMS + b]! -= (spread[a]! * spread[b]!) / variance;
  }
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

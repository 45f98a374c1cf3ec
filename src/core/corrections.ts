// Corrections of the placement terms. In: the terms that were expected where a chain was placed, and what they came to. Out: for each cluster a factor per
// term, and which of the near-best clusters is tried next.
// What came of a term is taken as factor × term + offset + noise. Factors are the cluster's: its links and machines are not as declared. The offset is the
// chain's, wherever it runs: a service's own time, a start that no plan hides. It takes no part in the choice, and is learned beside the factors so
// that none of them stands for it: else the cluster where one chain always runs would be blamed for that chain, and the others sent away.
// Both by recursive least squares, as a Kalman filter whose state walks slowly (so that old evidence fades): factors from a prior of 1, offsets from 0;
// a surprise is shared between them by how uncertain each is. Records tell each term apart, so that factors have no covariances to keep.
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
/** Before any evidence a factor is 1 give or take so much (standard deviation), by term: links are often not as declared, machines are much alike. */
const PRIOR_SPREADS: Record<CorrectedTerm, number> = {
  servicesMs: 1,
  transferMs: 1,
  coldStartMs: 0.3,
  queueMs: 0.3,
  hopsMs: 1,
};
const PRIOR_VARIANCES = CORRECTED_TERMS.map((term) => PRIOR_SPREADS[term] ** 2);
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
  variances: number[];
}

/** What comes of a term on top of factor × term, wherever the chain runs. */
interface Offset {
  count: number;
  ms: number;
  variance: number;
  /** Of its prior, ms. */
  spreadMs: number;
}

export interface CorrectionState {
  frozen: boolean;
  clusters: Record<string, KeptBelief>;
  /** By the chain's first task, tab, term. */
  offsets: Record<string, Offset>;
}

interface KeptBelief extends Omit<Belief, "variances"> {
  variances?: number[] | undefined;
  /** Kept before terms were told apart, row by row: its diagonal are the variances. */
  covariance?: number[] | undefined;
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
    this.#clusters = new Map(Object.entries(state?.clusters ?? {}).map(([cluster, kept]) => [cluster, beliefOf(kept)]));
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

  /** What was expected of a term, without any correction, of the chain that begins with `task`; and what it came to. */
  note(cluster: string, task: string, term: CorrectedTerm, expectedMs: number, actualMs: number): void {
    if (this.frozen || !(actualMs >= 0) || !(expectedMs > 0)) return;
    const belief = this.#clusters.get(cluster) ?? newBelief();
    remember(this.#clusters, cluster, belief, CLUSTERS_MAX);
    const key = `${task}\t${term}`;
    const offset = this.#offsets.get(key) ?? newOffset(expectedMs);
    remember(this.#offsets, key, offset, OFFSETS_MAX);
    update(belief, offset, CORRECTED_TERMS.indexOf(term), expectedMs, actualMs);
  }

  /** Standard deviation of the corrected total, ms: how little is known of these terms there. */
  uncertaintyMs(cluster: string, terms: PlacementTerms): number {
    const variances = this.#clusters.get(cluster)?.variances ?? PRIOR_VARIANCES;
    return Math.sqrt(CORRECTED_TERMS.reduce((sum, term, t) => sum + terms[term] ** 2 * variances[t]!, 0));
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
    for (const { variances } of this.#clusters.values()) {
      for (const [t, prior] of PRIOR_VARIANCES.entries()) {
        variances[t] = Math.min(prior, variances[t]! / Math.max(kept, 1e-3));
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

function newBelief(): Belief {
  return { count: 0, factors: CORRECTED_TERMS.map(() => 1), variances: [...PRIOR_VARIANCES] };
}

function beliefOf({ count, factors, variances, covariance }: KeptBelief): Belief {
  const known = variances ?? covariance?.filter((_, at) => at % (TERMS + 1) === 0) ?? PRIOR_VARIANCES;
  return { count, factors: [...factors], variances: known.map((variance) => Math.max(0, variance)) };
}

function newOffset(expectedMs: number): Offset {
  const spreadMs = OFFSET_SHARE * expectedMs + OFFSET_MIN_MS;
  return { count: 0, ms: 0, variance: spreadMs ** 2, spreadMs };
}

/** `t`: of CORRECTED_TERMS. */
function update(belief: Belief, offset: Offset, t: number, expectedMs: number, actualMs: number): void {
  const { factors, variances } = belief;
  belief.count++;
  offset.count++;
  for (const [each, prior] of PRIOR_VARIANCES.entries()) {
    variances[each] = Math.min(prior, variances[each]! + WALK_SHARE ** 2 * prior);
  }
  offset.variance = Math.min(offset.spreadMs ** 2, offset.variance + (WALK_SHARE * offset.spreadMs) ** 2);
  // Of the term as declared: a corrected one would call everything noise after one accident.
  const noiseMs = Math.max(NOISE_MIN_MS, NOISE_SHARE * expectedMs);
  const spread = variances[t]! * expectedMs;
  const variance = spread * expectedMs + offset.variance + noiseMs ** 2;
  const mostMs = SURPRISE_MAX * Math.sqrt(variance);
  const surpriseMs = Math.max(-mostMs, Math.min(mostMs, actualMs - factors[t]! * expectedMs - offset.ms));
  factors[t] = bounded(factors[t]! + (spread / variance) * surpriseMs);
  variances[t]! -= spread ** 2 / variance;
  offset.ms += (offset.variance / variance) * surpriseMs;
  offset.variance -= offset.variance ** 2 / variance;
}

function bounded(factor: number): number {
  return Math.min(FACTOR_MAX, Math.max(FACTOR_MIN, factor));
}

// Margins of lead times. In: for each transition (asked task → later task) the lead time foretold and the one that came. Out: the
// foretold quantiles, moved so that one in ten comes before p10, half before p50 and one in ten after p90.
// Each quantile's margin is a factor, learned by stochastic approximation of the quantile (H. Robbins, S. Monro 1951; I. Gibbs,
// E. Candès, "Adaptive Conformal Inference Under Distribution Shift", 2021): a step up by the quantile's share where the run came later, down by the rest where
// it came sooner. Steps shrink with evidence to a floor, so that a change is followed.
// State is plain JSON; when it is frozen, it is used and no longer learned.
import { remember } from "./remember.ts";

const LEAD_QUANTILES = [0.1, 0.5, 0.9] as const;
/** First step in ln ms, and the least. */
const STEP_FIRST = 0.5;
const STEP_MIN = 0.02;
/** Observations before a margin is used: three tail events by expectation. */
const EVIDENCE_MIN = 30;
/** A margin is at most this factor, and at least one over it. */
const FACTOR_MAX = 4;
/** Transitions remembered; the one that was noted longest ago makes room. */
const TRANSITIONS_MAX = 8_192;
/** Lead times below this are alike: clocks and records are no finer, ms. */
const LEAD_MIN_MS = 1;

export interface Lead {
  p10: number;
  p50: number;
  p90: number;
}

type Margin = [count: number, p10: number, p50: number, p90: number];

export interface MarginState {
  frozen: boolean;
  /** By asked task, tab, later task: observations and ln of the factor of each quantile. */
  transitions: Record<string, Margin>;
}

/** What was learned of one transition, for people. */
export interface LearnedMargin {
  source: string;
  target: string;
  observations: number;
  factors: Lead;
}

export class LeadMargins {
  frozen: boolean;
  readonly #transitions: Map<string, Margin>;

  constructor(state?: MarginState) {
    this.frozen = state?.frozen ?? false;
    this.#transitions = new Map(
      Object.entries(state?.transitions ?? {}).map(([key, margin]) => [key, [...margin] as Margin]),
    );
  }

  /** The target came `leadMs` after the source; `lead` had been foretold, without any margin. */
  note(source: string, target: string, lead: Lead, leadMs: number): void {
    if (this.frozen || !(leadMs >= 0)) return;
    const key = `${source}\t${target}`;
    const margin = this.#transitions.get(key) ?? ([0, 0, 0, 0] satisfies Margin);
    remember(this.#transitions, key, margin, TRANSITIONS_MAX);
    const step = Math.max(STEP_MIN, STEP_FIRST / Math.sqrt(++margin[0]));
    const cameLn = Math.log(Math.max(LEAD_MIN_MS, leadMs));
    for (const [q, share] of LEAD_QUANTILES.entries()) {
      const foretoldLn = Math.log(Math.max(LEAD_MIN_MS, quantileOf(lead, q))) + margin[q + 1]!;
      const moved = margin[q + 1]! + step * (share - (cameLn < foretoldLn ? 1 : 0));
      margin[q + 1] = Math.max(-Math.log(FACTOR_MAX), Math.min(Math.log(FACTOR_MAX), moved));
    }
  }

  /** The foretold quantiles with their margins, in order. */
  correct(source: string, target: string, lead: Lead): Lead {
    const margin = this.#transitions.get(`${source}\t${target}`);
    if (margin === undefined || margin[0] < EVIDENCE_MIN) return lead;
    const p50 = lead.p50 * Math.exp(margin[2]);
    return {
      p10: Math.min(p50, lead.p10 * Math.exp(margin[1])),
      p50,
      p90: Math.max(p50, lead.p90 * Math.exp(margin[3])),
    };
  }

  /** After a change: of all evidence this share (0–1) is kept, so that the next steps are large again. */
  fade(kept: number): void {
    for (const margin of this.#transitions.values()) margin[0] = Math.floor(margin[0] * kept);
  }

  reset(): void {
    this.#transitions.clear();
  }

  state(): MarginState {
    return { frozen: this.frozen, transitions: structuredClone(Object.fromEntries(this.#transitions)) };
  }

  learned(): LearnedMargin[] {
    return [...this.#transitions].map(([key, [observations, p10, p50, p90]]) => {
      const [source, target] = key.split("\t") as [string, string];
      const factors = { p10: Math.exp(p10), p50: Math.exp(p50), p90: Math.exp(p90) };
      return { source, target, observations, factors };
    });
  }
}

function quantileOf(lead: Lead, q: number): number {
  return q === 0 ? lead.p10 : q === 1 ? lead.p50 : lead.p90;
}

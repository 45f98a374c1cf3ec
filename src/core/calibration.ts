// How good predictions are. In: sealed runs beside what was foretold of them (review.ts). Out: by hour, cluster, asked task and expected chain: log-loss, Brier
// score, reliability bins, how often lead times came within their quantiles, and by how much the demand was off. Sums only, so that rows add
// up over hours, clusters, tasks and chains; the numbers that people read are made of sums (`scoresOf`).
// Log-loss and Brier score are proper scores: they cannot be made better by saying anything but what one believes (T. Gneiting, A. Raftery 2007).
import type { Scores } from "../protocol.ts";
import { cameOf, DEMANDS, type DemandName, type ExpectedRun } from "./demand-came.ts";
import { hourOf } from "./hour.ts";
import { REACH_FLOOR } from "./predict.ts";
import type { AssembledRun } from "./profile.ts";
import type { Foretold } from "./review.ts";

const RELIABILITY_BINS = 10;
/** Hours of which rows are held: they go on changing until they are over and stored. */
const HOURS_HELD = 2;
/** Rows of one hour: beyond half of them chains are no longer told apart, beyond all what comes is counted together. */
const ROWS_PER_HOUR_MAX = 1_024;
/** Bounds the loss where something that was foretold as certain did not come. */
const CHANCE_MIN = 1e-6;
/** Longer chains are counted as unknown, characters of JSON: as in outcomes. */
const CHAIN_CHARACTERS_MAX = 1_000;
const OTHERS = "*";

/** Of one bin: predictions, the sum of what was foretold, and how many came true. */
type ReliabilityBin = [count: number, foretold: number, happened: number];

export interface CalibrationRow {
  /** Hours since the epoch, in which runs were sealed. */
  hour: number;
  /** "" where records do not tell it. */
  cluster: string;
  /** That was asked for. */
  task: string;
  /** Expected of the run when its first task came, as JSON; "": not known. */
  chain: string;
  predictions: number;
  /** Sums. Nats. */
  logLoss: number;
  brier: number;
  bins: ReliabilityBin[];
  /** Lead times that are known: before p10, between, after p90. */
  leads: [before: number, within: number, after: number];
  /** Of whole runs, told at their first task. */
  demand: Record<DemandName, DemandSums>;
}

type DemandSums = [runs: number, error: number, came: number];

export class Calibration {
  readonly #rows: Map<string, CalibrationRow>;
  /** Keys of rows that changed since `takeChanged`. */
  readonly #changed: Set<string>;

  constructor(rows: CalibrationRow[] = []) {
    this.#rows = new Map(rows.map(currentRow).map((row) => [keyOf(row), row]));
    this.#changed = new Set(this.#rows.keys());
  }

  /** A sealed run; `expected` null: the model did not know its first task. */
  note(run: AssembledRun, foretold: Foretold[], expected: ExpectedRun | null, atMs: number): void {
    const text = expected === null ? "" : JSON.stringify(expected.chain);
    const chain = text.length > CHAIN_CHARACTERS_MAX ? "" : text;
    const { executions } = run;
    const clusterOf = (execution: number) => executions[execution]!.record.rest.cluster ?? "";
    if (expected !== null) {
      this.#noteDemand(this.#row(atMs, clusterOf(0), executions[0]!.task, chain), cameOf(run), expected);
    }
    for (const one of foretold) {
      const row = this.#row(atMs, clusterOf(one.execution), one.context, chain);
      const { probability, happened, lead, leadMs } = one;
      row.predictions++;
      // What was not foretold at all had less than the least that predictions tell.
      row.logLoss -= Math.log(happened ? Math.max(REACH_FLOOR, probability) : Math.max(CHANCE_MIN, 1 - probability));
      row.brier += (probability - (happened ? 1 : 0)) ** 2;
      const bin = row.bins[Math.min(RELIABILITY_BINS - 1, Math.floor(probability * RELIABILITY_BINS))]!;
      bin[0]++;
      bin[1] += probability;
      bin[2] += happened ? 1 : 0;
      if (happened && lead !== null && !Number.isNaN(leadMs))
        row.leads[leadMs < lead.p10 ? 0 : leadMs <= lead.p90 ? 1 : 2]++;
    }
  }

  #noteDemand({ demand }: CalibrationRow, came: Partial<Record<DemandName, number>>, expected: ExpectedRun): void {
    for (const name of DEMANDS) {
      const value = came[name];
      if (value === undefined) continue;
      demand[name][0]++;
      demand[name][1] += Math.abs(expected.demand[name] - value);
      demand[name][2] += value;
    }
  }

  /** Rows that changed since the last call, to be stored: absolute, so that storing them twice is harmless. */
  takeChanged(): CalibrationRow[] {
    const changed = [...this.#changed].flatMap((key) => this.#rows.get(key) ?? []);
    this.#changed.clear();
    return changed;
  }

  /** They were not stored after all. */
  giveBack(rows: CalibrationRow[]): void {
    for (const row of rows) this.#changed.add(keyOf(row));
  }

  /** The hours that are held: newer than what is stored. */
  rows(): CalibrationRow[] {
    return [...this.#rows.values()];
  }

  #row(atMs: number, cluster: string, task: string, chain: string): CalibrationRow {
    const hour = hourOf(atMs);
    let key = keyOf({ hour, cluster, task, chain });
    let row = this.#rows.get(key);
    if (row === undefined) {
      this.#forget(hour);
      const rowsOfHour = [...this.#rows.values()].reduce((count, known) => count + (known.hour === hour ? 1 : 0), 0);
      const asked =
        rowsOfHour < ROWS_PER_HOUR_MAX
          ? { hour, cluster, task, chain: rowsOfHour < ROWS_PER_HOUR_MAX / 2 ? chain : "" }
          : { hour, cluster: OTHERS, task: OTHERS, chain: "" };
      key = keyOf(asked);
      row = this.#rows.get(key) ?? { ...asked, ...noSums() };
      this.#rows.set(key, row);
    }
    this.#changed.add(key);
    return row;
  }

  /** Hours that are over and stored. */
  #forget(hour: number): void {
    for (const [key, row] of this.#rows) {
      if (row.hour <= hour - HOURS_HELD && !this.#changed.has(key)) this.#rows.delete(key);
    }
  }
}

type Name = Pick<CalibrationRow, "hour" | "cluster" | "task" | "chain">;

/** What a row stands for: no two rows have the same. */
export function keyOf({ hour, cluster, task, chain }: Name): string {
  return `${hour}\t${cluster}\t${task}\t${chain}`;
}

type Sums = Omit<CalibrationRow, keyof Name>;

function noSums(): Sums {
  const bins = Array.from({ length: RELIABILITY_BINS }, (): ReliabilityBin => [0, 0, 0]);
  const demand = Object.fromEntries(DEMANDS.map((name) => [name, [0, 0, 0]])) as unknown as CalibrationRow["demand"];
  return { predictions: 0, logLoss: 0, brier: 0, bins, leads: [0, 0, 0], demand };
}

/** What people read. */
export function scoresOf(rows: Iterable<CalibrationRow>): Scores {
  const sums = noSums();
  for (const row of rows) {
    sums.predictions += row.predictions;
    sums.logLoss += row.logLoss;
    sums.brier += row.brier;
    for (const [b, bin] of row.bins.entries()) for (const i of [0, 1, 2] as const) sums.bins[b]![i] += bin[i];
    for (const i of [0, 1, 2] as const) {
      sums.leads[i] += row.leads[i];
      for (const name of DEMANDS) sums.demand[name][i] += row.demand[name][i];
    }
  }
  const { predictions, leads, demand } = sums;
  const share = (part: number, whole: number) => (whole === 0 ? null : part / whole);
  const errorOf = ([runs, error, came]: DemandSums) => ({ runs, relativeError: share(error, came) });
  const known = leads[0] + leads[1] + leads[2];
  return {
    predictions,
    logLoss: share(sums.logLoss, predictions),
    brier: share(sums.brier, predictions),
    bins: sums.bins.map(([count, foretold, happened]) => ({
      count,
      foretold: share(foretold, count),
      happened: share(happened, count),
    })),
    leadTimes: {
      count: known,
      early: share(leads[0], known),
      covered: share(leads[1], known),
      late: share(leads[2], known),
    },
    demand: {
      ...errorOf(demand.cpuMs),
      memory: errorOf(demand.memoryBytes),
      network: errorOf(demand.networkBytes),
      duration: errorOf(demand.durationMs),
    },
  };
}

/** A row as an older version may have stored it: without a chain, and of demand with CPU alone. */
export function currentRow(row: CalibrationRow): CalibrationRow {
  if (!Array.isArray(row.demand)) return row;
  return { ...row, chain: "", demand: { ...noSums().demand, cpuMs: row.demand as unknown as DemandSums } };
}

// The before/after table. In: the runs of both phases and the outcomes that were settled in each. Out: numbers, and text.
// Everything is measured in this very run: latencies by the caller's clock, cold starts by the agents, outcomes by the hubs.
import Table from "cli-table3";
import type { OutcomeTotal } from "../../protocol.ts";
import type { RunRecord } from "./drive.ts";
import { WORKFLOWS } from "./world.ts";

/** A wait below this is no cold start: passing a request on takes about as long. */
export const COLD_FLOOR_MS = 25;

export interface OutcomeCount {
  count: number;
  bytes: number;
}

export interface PhaseReport {
  mode: string;
  runs: number;
  coldStartsPerRun: number;
  p50Ms: number;
  p95Ms: number;
  /** Cold-start time that the user waited for after the root, mean per run. */
  coldAfterRootMs: number;
  workflows: Record<string, { runs: number; p50Ms: number; p95Ms: number }>;
  /** By `prefetch hit`, `warm late`, … */
  outcomes: Record<string, OutcomeCount>;
  /** Bytes prefetched and never used, of all bytes prefetched; null where nothing was prefetched. */
  wastedPrefetchShare: number | null;
}

export function reportOf(mode: string, runs: RunRecord[], outcomes: Record<string, OutcomeCount>): PhaseReport {
  const calls = runs.flatMap((run) => run.calls);
  const latencies = runs.map((run) => run.tookMs);
  const coldAfterRoot = calls.reduce((sum, call) => sum + (call.afterRoot ? call.coldStartMs : 0), 0);
  const prefetched = ["hit", "late", "waste"].map((outcome) => outcomes[`prefetch ${outcome}`]?.bytes ?? 0);
  const prefetchedBytes = prefetched.reduce((sum, bytes) => sum + bytes, 0);
  return {
    mode,
    runs: runs.length,
    coldStartsPerRun: calls.filter((call) => call.coldStartMs > COLD_FLOOR_MS).length / runs.length,
    p50Ms: quantile(latencies, 0.5),
    p95Ms: quantile(latencies, 0.95),
    coldAfterRootMs: coldAfterRoot / runs.length,
    workflows: Object.fromEntries(
      WORKFLOWS.map(({ name }) => {
        const own = runs.filter((run) => run.workflow === name).map((run) => run.tookMs);
        return [name, { runs: own.length, p50Ms: quantile(own, 0.5), p95Ms: quantile(own, 0.95) }];
      }),
    ),
    outcomes,
    wastedPrefetchShare: prefetchedBytes === 0 ? null : (prefetched[2] ?? 0) / prefetchedBytes,
  };
}

/** Nearest-rank quantile; NaN of nothing. */
export function quantile(values: number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
}

export interface SlowerRuns {
  /** Of the second phase, that took longer than the same request in the first: every ms counts, chance included. */
  paired: number;
  /** That took longer than 95 % of the first phase's runs of their workflow: one in twenty would by chance alone. */
  beyondP95: number;
}

export function slowerRuns(before: RunRecord[], after: RunRecord[]): SlowerRuns {
  const sameBefore = new Map(before.map((run) => [run.request, run.tookMs]));
  const p95Ms = new Map(
    WORKFLOWS.map(({ name }) => [name, quantile(before.filter((run) => run.workflow === name).map(tookMs), 0.95)]),
  );
  return {
    paired: after.filter((run) => run.tookMs > sameBefore.get(run.request)!).length,
    beyondP95: after.filter((run) => run.tookMs > p95Ms.get(run.workflow)!).length,
  };
}

function tookMs(run: RunRecord): number {
  return run.tookMs;
}

/** What was settled between two readings of GET /v1/outcomes. */
export function outcomesBetween(before: OutcomeTotal[], after: OutcomeTotal[]): Record<string, OutcomeCount> {
  const counts: Record<string, OutcomeCount> = {};
  const add = (totals: OutcomeTotal[], sign: 1 | -1) => {
    for (const total of totals) {
      const key = `${total.kind} ${total.outcome}`;
      const known = counts[key] ?? { count: 0, bytes: 0 };
      counts[key] = { count: known.count + sign * total.count, bytes: known.bytes + sign * total.bytes };
    }
  };
  add(after, 1);
  add(before, -1);
  return counts;
}

export function tableOf(before: PhaseReport, after: PhaseReport, slower: SlowerRuns): string {
  const table = new Table({
    head: ["", before.mode, after.mode, "change"],
    colAligns: ["left", "right", "right", "right"],
    style: { head: [], border: [], compact: true },
  });
  const row = (name: string, of: (phase: PhaseReport) => number, text: (value: number) => string) => {
    table.push([name, text(of(before)), text(of(after)), change(of(before), of(after))]);
  };
  row("runs", (phase) => phase.runs, String);
  row(
    "cold starts per run",
    (phase) => phase.coldStartsPerRun,
    (value) => value.toFixed(2),
  );
  row("end to end, p50", (phase) => phase.p50Ms, ms);
  row("end to end, p95", (phase) => phase.p95Ms, ms);
  for (const { name, shape } of WORKFLOWS) {
    row(`  ${name} (${shape}), p50`, (phase) => phase.workflows[name]!.p50Ms, ms);
    row(`  ${name} (${shape}), p95`, (phase) => phase.workflows[name]!.p95Ms, ms);
  }
  const ofAll = (count: number) => `${count} of ${after.runs} · ${share(count / after.runs)}`;
  table.push(["runs slower than the same request before", "", ofAll(slower.paired), ""]);
  table.push(["runs slower than 95 % of their workflow before", "", ofAll(slower.beyondP95), ""]);
  row("cold start waited for after the root, per run", (phase) => phase.coldAfterRootMs, ms);
  for (const kind of ["prefetch", "warm"]) {
    for (const outcome of ["hit", "late", "miss", "waste", "failed"]) {
      const of = (phase: PhaseReport) => counted(phase.outcomes[`${kind} ${outcome}`]);
      table.push([`${kind === "warm" ? "prewarm" : kind} ${outcome}`, of(before), of(after), ""]);
    }
  }
  table.push(["prefetched bytes wasted", share(before.wastedPrefetchShare), share(after.wastedPrefetchShare), ""]);
  return table.toString();
}

function counted(outcome: OutcomeCount | undefined): string {
  if (outcome === undefined || outcome.count === 0) return "0";
  return outcome.bytes > 0 ? `${outcome.count} · ${(outcome.bytes / 1e6).toFixed(1)} MB` : String(outcome.count);
}

function ms(value: number): string {
  return `${Math.round(value)} ms`;
}

function share(value: number | null): string {
  return value === null ? "–" : `${(value * 100).toFixed(1)} %`;
}

function change(before: number, after: number): string {
  return before === 0 || before === after ? "" : `${(after / before).toFixed(2)}×`;
}

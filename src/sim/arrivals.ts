// Arrivals. In: how runs arrive (`trace`, `poisson:SECONDS`, `azure-llm:FILE`) and the runs of the second half.
// Out: which run arrives when. Except for `trace`, runs are drawn with replacement.
// Data: AzurePublicDataset, LLM inference traces 2023 (column TIMESTAMP).
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { parse } from "csv-parse/sync";
import { seededRandom } from "../core/random.ts";
import { exponential, seedFor } from "./random.ts";
import { halves, type Workload } from "./workload.ts";

/** Runs of one simulation unless told. */
export const RUNS_DEFAULT = 3_000;

export interface Arrivals {
  /** Since the start of the simulation, never falling. */
  atMs: Float64Array;
  /** Index in `workload.runs`. */
  runs: Uint32Array;
  /** Mean gap, ms. */
  meanGapMs: number;
}

/** Before a long log is read. Errors: throws where `spec` is none of the three, or its file is no such trace. */
export function checkArrivals(spec: string): void {
  if (spec === "trace") return;
  if (spec.startsWith("azure-llm:")) azureLlm(spec.slice(10), 1);
  else poissonGapMs(spec);
}

export function arrivalsOf(workload: Workload, spec: string, runs: number, seed: number): Arrivals {
  const first = halves(workload.runs).train.length;
  const count = workload.runs.length - first;
  const draw = seededRandom(seedFor(seed, "which run"));
  if (spec === "trace") {
    const replay = workload.runs.slice(first);
    const startMs = replay[0]!.startMs;
    return arrivals(
      replay.map((run) => run.startMs - startMs),
      replay.map((_, r) => first + r),
    );
  }
  const atMs = spec.startsWith("azure-llm:") ? azureLlm(spec.slice(10), runs) : poisson(spec, runs, seed);
  return arrivals(
    atMs,
    atMs.map(() => first + Math.floor(draw() * count)),
  );
}

function arrivals(atMs: number[], runs: number[]): Arrivals {
  const spanMs = (atMs.at(-1) ?? 0) - (atMs[0] ?? 0);
  return {
    atMs: Float64Array.from(atMs),
    runs: Uint32Array.from(runs),
    meanGapMs: spanMs / Math.max(1, atMs.length - 1),
  };
}

function poissonGapMs(spec: string): number {
  const gapMs = Number(/^poisson:([0-9.]+)$/.exec(spec)?.[1]) * 1000;
  if (!(gapMs > 0))
    throw new Error(`arrivals: got ${JSON.stringify(spec)}, expected trace, poisson:SECONDS or azure-llm:FILE`);
  return gapMs;
}

function poisson(spec: string, runs: number, seed: number): number[] {
  const gapMs = poissonGapMs(spec);
  const random = seededRandom(seedFor(seed, "gaps"));
  const atMs: number[] = [];
  for (let now = 0; atMs.length < runs; ) {
    now += exponential(random, gapMs);
    atMs.push(now);
  }
  return atMs;
}

/** The first `runs` requests of the trace; a shorter trace is used whole. */
function azureLlm(file: string, runs: number): number[] {
  const bytes = readFileSync(file);
  const text = (file.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString();
  const atMs = rowsOf(text, runs).map((row) => Date.parse(`${(row.TIMESTAMP ?? "").replace(" ", "T").slice(0, 23)}Z`));
  if (atMs.length === 0 || atMs.some(Number.isNaN)) {
    throw new Error(`${file} is not an Azure LLM trace: expected a column TIMESTAMP with instants`);
  }
  const sorted = atMs.sort((a, b) => a - b);
  return sorted.map((ms) => ms - sorted[0]!);
}

/** None where the text is no table: what the parser says of it would quote all of its first line. */
function rowsOf(text: string, count: number): Record<string, string>[] {
  try {
    return parse(text, { columns: true, skip_empty_lines: true, to: count });
  } catch {
    return [];
  }
}

// Cold starts. In: a file of lambda-perf measurements, a fixed number of ms, or what the log itself measured. Out: for each task
// the samples that its cold starts are drawn from. A task keeps one measured configuration (runtime, memory, architecture,
// package) for a whole simulation, because a task is written in one language; its starts vary as that configuration's did.
// Data: lambda-perf (M. Dumont), one JSON file a day, in two schemas.
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { z } from "zod";
import { COLD_START_UNKNOWN_MS } from "../core/demand.ts";
import { seededRandom } from "../core/random.ts";
import { seedFor } from "./random.ts";
import type { Workload } from "./workload.ts";

/** Configurations with less memory are throttled in CPU and start several times slower. */
const MEMORY_MIN_MB = 512;

export type ColdStarts = Float64Array[];

const Row = z.union([
  z.object({ memorySize: z.number(), initDurations: z.array(z.number()) }).transform((row) => ({
    memoryMb: row.memorySize,
    startsMs: row.initDurations,
  })),
  z.object({ m: z.number(), i: z.array(z.number()) }).transform((row) => ({ memoryMb: row.m, startsMs: row.i })),
]);
const File = z.object({ runtimeData: z.array(z.unknown()) });

/** Configurations of at least 512 MB with their samples, ms. `path`: one file, or a folder that is read whole. */
export function readLambdaPerf(path: string): Float64Array[] {
  const rows: Float64Array[] = [];
  for (const file of filesBelow(path)) {
    const bytes = readFileSync(file);
    const text = (file.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString();
    const parsed = File.safeParse(JSON.parse(text));
    if (!parsed.success) throw new Error(`${file} is not a lambda-perf file: it has no "runtimeData"`);
    for (const raw of parsed.data.runtimeData) {
      const row = Row.safeParse(raw);
      if (!row.success || row.data.memoryMb < MEMORY_MIN_MB) continue;
      const startsMs = row.data.startsMs.filter((ms) => ms > 0);
      if (startsMs.length > 0) rows.push(Float64Array.from(startsMs));
    }
  }
  if (rows.length === 0) throw new Error(`${path} holds no cold starts of ${MEMORY_MIN_MB} MB or more`);
  return rows;
}

function filesBelow(path: string): string[] {
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path, { recursive: true, encoding: "utf8" })
    .filter((name) => /\.json(\.gz)?$/.test(name))
    .sort()
    .map((name) => join(path, name));
}

/** Each task draws its configuration once. */
export function drawColdStarts(workload: Workload, rows: Float64Array[], seed: number): ColdStarts {
  return workload.taskNames.map((task) => {
    const random = seededRandom(seedFor(seed, `cold start of ${task}`));
    return rows[Math.floor(random() * rows.length)]!;
  });
}

/** The same for every start of every task. */
export function fixedColdStarts(workload: Workload, ms: number): ColdStarts {
  return workload.taskNames.map(() => Float64Array.of(ms));
}

/** As the log measured them; tasks without a measurement get the default. */
export function measuredColdStarts(workload: Workload): { coldStarts: ColdStarts; unknown: number } {
  let unknown = 0;
  const coldStarts = workload.coldStartsMs.map((measured) => {
    if (measured.length > 0) return Float64Array.from(measured);
    unknown++;
    return Float64Array.of(COLD_START_UNKNOWN_MS);
  });
  return { coldStarts, unknown };
}

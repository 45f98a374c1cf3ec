// At the hybrid histogram's mean overhead: how much memory others need for it. In: logs, as NAME=FOLDER or NAME=FOLDER@RUNS, and a folder of
// lambda-perf. Out: Markdown, one row per log and gap: its mean overhead, then the idle GB·s (first) and the idle and wasted GB·s of Forechain and of
// the run-clairvoyant at that overhead, in multiples of its own, interpolated between the dials swept.
//   npm run bench -- histogram --lambda-perf FOLDER [--gaps 300,1800] [--seed 1] NAME=FOLDER[@RUNS] …
import { parseArgs } from "node:util";
import { engineModule } from "../src/cli/build.ts";
import type { PolicyResult } from "../src/sim/accounting.ts";
import { readLambdaPerf } from "../src/sim/cold-starts.ts";
import type { SimulationSpec } from "../src/sim/simulate.ts";
import type { PolicyAsk } from "../src/sim/simulator.ts";
import { between, heldOf, logOf, recordsFrom, resultsOf, workloadFrom } from "./simulated-logs.ts";

const OPTIONS = {
  "lambda-perf": { type: "string" },
  gaps: { type: "string", default: "300,1800" },
  seed: { type: "string", default: "1" },
} as const;
const HISTOGRAM_MINUTES = 240;
/** Dense where the histogram's overheads lie. */
const OUR_DIALS = [0.02, 0.03, 0.05, 0.06, 0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.5, 1, 20];
/** Seconds that the run-clairvoyant holds for. */
const CLAIRVOYANT_SECONDS = [60, 120, 300, 600, 1200, 1800, 3600, 5400, 7200, 14400];
const HEAD =
  "| log | gap | its overhead, ms | forechain: idle | idle + wasted | run-clairvoyant: idle | idle + wasted |";

export async function run(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({ args, options: OPTIONS, allowPositionals: true });
  const rows = readLambdaPerf(values["lambda-perf"] ?? ".");
  const module = await engineModule();
  const policies: PolicyAsk[] = [
    { name: "hybrid-histogram", dial: HISTOGRAM_MINUTES },
    ...OUR_DIALS.map((dial): PolicyAsk => ({ name: "forechain", dial })),
    ...CLAIRVOYANT_SECONDS.map((dial): PolicyAsk => ({ name: "run-clairvoyant", dial })),
  ];
  process.stdout.write(`Seed ${values.seed}.\n${HEAD}\n|${"---|".repeat(7)}\n`);
  for (const log of positionals) {
    const { name, folder, runs } = logOf(log);
    const workload = workloadFrom(await recordsFrom(folder));
    for (const gap of values.gaps.split(",")) {
      const spec: SimulationSpec = {
        arrivals: `poisson:${gap}`,
        coldStarts: { kind: "lambda-perf", rows },
        runs,
        seed: Number(values.seed),
        storeBytesPerSecond: null,
        policies,
        module,
        progress: () => {},
      };
      process.stdout.write(`${rowOf(name, gap, await resultsOf(workload, spec))}\n`);
    }
  }
}

function rowOf(name: string, gap: string, results: PolicyResult[]): string {
  const histogram = results[0]!;
  const shares = ["forechain", "run-clairvoyant"].flatMap((policy) => {
    const swept = results.filter((result) => result.name === policy);
    return [idleOf, heldOf].map((memoryOf) => {
      const memory = memoryAt(histogram.overheadMs.mean, swept, memoryOf);
      return memory === null ? "never as low" : (memory / memoryOf(histogram)).toFixed(2);
    });
  });
  return `| ${[name, `${gap} s`, histogram.overheadMs.mean.toFixed(0), ...shares].join(" | ")} |`;
}

const idleOf = ({ idleGbSeconds }: PolicyResult) => idleGbSeconds;

const overheadOf = ({ overheadMs }: PolicyResult) => overheadMs.mean;

/** The least memory where all wait less. Null: all wait more. */
function memoryAt(
  overheadMs: number,
  swept: PolicyResult[],
  memoryOf: (result: PolicyResult) => number,
): number | null {
  const memory = between(overheadMs, swept, overheadOf, memoryOf);
  if (memory === "all have more") return null;
  return memory === "all have less" ? Math.min(...swept.map(memoryOf)) : memory;
}

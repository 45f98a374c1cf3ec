// Forechain beside the chain policies of the literature at equal memory. In: logs, as NAME=FOLDER or NAME=FOLDER@RUNS, and a folder of lambda-perf;
// three small graphs (choices, branches at once, one shape) come with it. Out: Markdown, one row per log and dial: mean overhead, idle + wasted
// GB·s, and what the others' overhead is where they hold as much, interpolated between the nearest dials of their sweep.
//   npm run bench -- peers --lambda-perf FOLDER [--gap 300] [--seed 1] [--runs 3000] NAME=FOLDER[@RUNS] …
import { parseArgs } from "node:util";
import { engineModule } from "../src/cli/build.ts";
import type { PolicyResult } from "../src/sim/accounting.ts";
import { RUNS_DEFAULT } from "../src/sim/arrivals.ts";
import { readLambdaPerf } from "../src/sim/cold-starts.ts";
import type { SimulationSpec } from "../src/sim/simulate.ts";
import type { PolicyAsk } from "../src/sim/simulator.ts";
import type { Workload } from "../src/sim/workload.ts";
import { SHAPES, workloadOfSteps } from "../test/sim/logs.ts";
import { between, heldOf, logOf, recordsFrom, resultsOf, workloadFrom } from "./simulated-logs.ts";

const OPTIONS = {
  "lambda-perf": { type: "string" },
  gap: { type: "string", default: "300" },
  seed: { type: "string", default: "1" },
  runs: { type: "string", default: String(RUNS_DEFAULT) },
} as const;
const PEERS = ["most-likely-path", "dependency-sets"] as const;
/** Seconds that the peers hold for: dense around what Forechain holds. */
const PEER_SECONDS = [0, 1, 5, 10, 20, 30, 45, 60, 90, 120, 300, 600, 1800];
const OUR_DIALS = [20, 5, 1];
/** Runs of the small graphs' logs, and their cold starts, ms. */
const SHAPE_RUNS = 60;
const SHAPE_COLD_START_MS = 200;
const HEAD = `| log | dial | idle + wasted, GB·s | forechain, ms | ${PEERS.map((peer) => `${peer}, ms`).join(" | ")} |`;

export async function run(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({ args, options: OPTIONS, allowPositionals: true });
  const module = await engineModule();
  const spec = (runs: number, coldStarts: SimulationSpec["coldStarts"]): SimulationSpec => ({
    arrivals: `poisson:${values.gap}`,
    coldStarts,
    runs,
    seed: Number(values.seed),
    storeBytesPerSecond: null,
    policies: [
      ...PEERS.flatMap((name) => PEER_SECONDS.map((dial): PolicyAsk => ({ name, dial }))),
      ...OUR_DIALS.map((dial): PolicyAsk => ({ name: "forechain", dial })),
    ],
    module,
    progress: () => {},
  });
  process.stdout.write(`Gap ${values.gap} s, seed ${values.seed}.\n${HEAD}\n|${"---|".repeat(4 + PEERS.length)}\n`);
  const shapeSpec = spec(Number(values.runs), { kind: "fixed", ms: SHAPE_COLD_START_MS });
  for (const { shape, stepsOf } of SHAPES) await tell(shape, workloadOfSteps(stepsOf, SHAPE_RUNS), shapeSpec);
  for (const log of positionals) {
    const { name, folder, runs } = logOf(log, Number(values.runs));
    const workload = workloadFrom(await recordsFrom(folder));
    const rows = readLambdaPerf(values["lambda-perf"] ?? ".");
    await tell(name, workload, spec(runs, { kind: "lambda-perf", rows }));
  }
}

async function tell(name: string, workload: Workload, spec: SimulationSpec): Promise<void> {
  const results = await resultsOf(workload, spec);
  for (const ours of results.filter((result) => result.name === "forechain")) {
    const peers = PEERS.map((peer) => {
      const swept = results.filter((result) => result.name === peer);
      return overheadAt(heldOf(ours), swept)?.toFixed(0) ?? "never as little";
    });
    const cells = [name, ours.dial, heldOf(ours).toFixed(0), ours.overheadMs.mean.toFixed(0), ...peers];
    process.stdout.write(`| ${cells.join(" | ")} |\n`);
  }
}

/** That of the dial that holds most, where none holds more. Null: none holds so little. */
function overheadAt(memory: number, swept: PolicyResult[]): number | null {
  const overheadMs = between(memory, swept, heldOf, overheadOf);
  if (overheadMs === "all have more") return null;
  return overheadMs === "all have less"
    ? overheadOf(swept.toSorted((a, b) => heldOf(a) - heldOf(b)).at(-1)!)
    : overheadMs;
}

const overheadOf = ({ overheadMs }: PolicyResult) => overheadMs.mean;

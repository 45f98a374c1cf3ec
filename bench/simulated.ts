// The table of docs/simulator.md. In: logs, as NAME=FOLDER or NAME=FOLDER@RUNS, and a folder of lambda-perf. Out: its rows as Markdown, one
// per log and gap, then one JSON value with the same numbers.
//   npm run bench -- simulated --lambda-perf FOLDER [--gaps 30,300,1800] [--seed 1] [--dial 20] [--store MB/s] NAME=FOLDER[@RUNS] …
// With --ablation: Forechain alone, with one part left out at a time.
import { parseArgs } from "node:util";
import { engineModule } from "../src/cli/build.ts";
import type { PolicyResult } from "../src/sim/accounting.ts";
import { readLambdaPerf } from "../src/sim/cold-starts.ts";
import { ablate, policyAsks, type SimulationSpec } from "../src/sim/simulate.ts";
import { heldOf, logOf, recordsFrom, resultsOf, workloadFrom } from "./simulated-logs.ts";

const OPTIONS = {
  "lambda-perf": { type: "string" },
  gaps: { type: "string", default: "30,300,1800" },
  seed: { type: "string", default: "1" },
  dial: { type: "string", default: "20" },
  store: { type: "string" },
  ablation: { type: "boolean", default: false },
} as const;
const ABLATION_HEAD = "| log | gap | Forechain | overhead, ms | of all parts' | idle + wasted | harmed |";
const HEAD =
  "| log | gap | fixed 60, ms | run-clairvoyant, ms | forechain, ms | share | idle | idle + wasted | harmed |";
/** With a store: the transfer time waited for, by run, and what is hidden of it in shares of what the run-clairvoyant hides. */
const STORE_HEAD = " fixed 60 waits, ms | run-clairvoyant | forechain | hidden | wasted bytes |";

export async function run(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({ args, options: OPTIONS, allowPositionals: true });
  const rows = readLambdaPerf(values["lambda-perf"] ?? ".");
  const module = await engineModule();
  const told: object[] = [];
  const head = values.ablation ? ABLATION_HEAD : values.store === undefined ? HEAD : HEAD + STORE_HEAD;
  process.stdout.write(
    `Seed ${values.seed}, dial ${values.dial}.\n${head}\n|${"---|".repeat(head.split(" | ").length)}\n`,
  );
  for (const log of positionals) {
    const { name, folder, runs } = logOf(log);
    const workload = workloadFrom(await recordsFrom(folder));
    for (const gap of values.gaps.split(",")) {
      const spec: SimulationSpec = {
        arrivals: `poisson:${gap}`,
        coldStarts: { kind: "lambda-perf", rows },
        runs,
        seed: Number(values.seed),
        storeBytesPerSecond: values.store === undefined ? null : Number(values.store) * 2 ** 20,
        policies: policyAsks(`fixed:60,run-clairvoyant:60,forechain:${values.dial}`),
        module,
        progress: () => {},
      };
      if (values.ablation) {
        const parts = await ablate(workload, spec, Number(values.dial));
        for (const part of parts) process.stdout.write(`${ablationRowOf(name, gap, part, parts[0]!)}\n`);
        told.push({ log: name, gapSeconds: Number(gap), runs, parts });
        continue;
      }
      const results = await resultsOf(workload, spec);
      const [fixed, clairvoyant, ours] = results as [PolicyResult, PolicyResult, PolicyResult];
      const objects = values.store === undefined ? "" : objectsOf(fixed, clairvoyant, ours, runs);
      process.stdout.write(`${rowOf(name, gap, fixed, clairvoyant, ours)}${objects}\n`);
      told.push({ log: name, gapSeconds: Number(gap), runs, policies: results });
    }
  }
  process.stdout.write(`${JSON.stringify(told)}\n`);
}

/** Memory in multiples of the larger of both bounds' idle GB·s. */
function rowOf(name: string, gap: string, fixed: PolicyResult, clairvoyant: PolicyResult, ours: PolicyResult): string {
  const savedMs = fixed.overheadMs.mean - ours.overheadMs.mean;
  const share = savedMs / (fixed.overheadMs.mean - clairvoyant.overheadMs.mean);
  const unit = Math.max(fixed.idleGbSeconds, clairvoyant.idleGbSeconds);
  const cells = [
    name,
    `${gap} s`,
    ...[fixed, clairvoyant, ours].map(({ overheadMs }) => overheadMs.mean.toFixed(0)),
    `${(100 * share).toFixed(1)} %`,
    (ours.idleGbSeconds / unit).toFixed(2),
    (heldOf(ours) / unit).toFixed(2),
    `${(100 * ours.harmedRuns).toFixed(1)} %`,
  ];
  return `| ${cells.join(" | ")} |`;
}

/** Beside all parts together. */
function ablationRowOf(name: string, gap: string, part: PolicyResult, all: PolicyResult): string {
  const cells = [
    name,
    `${gap} s`,
    part.name,
    part.overheadMs.mean.toFixed(1),
    (part.overheadMs.mean / all.overheadMs.mean).toFixed(3),
    (heldOf(part) / heldOf(all)).toFixed(3),
    `${(100 * part.harmedRuns).toFixed(1)} %`,
  ];
  return `| ${cells.join(" | ")} |`;
}

function objectsOf(fixed: PolicyResult, clairvoyant: PolicyResult, ours: PolicyResult, runs: number): string {
  const hidden = (fixed.fetchWaitMs - ours.fetchWaitMs) / (fixed.fetchWaitMs - clairvoyant.fetchWaitMs);
  const wasted = ours.wastedBytes / Math.max(1, ours.prefetchBytes);
  const cells = [
    ...[fixed, clairvoyant, ours].map(({ fetchWaitMs }) => (fetchWaitMs / runs).toFixed(0)),
    `${(100 * hidden).toFixed(1)} %`,
    `${(100 * wasted).toFixed(2)} %`,
  ];
  return ` ${cells.join(" | ")} |`;
}

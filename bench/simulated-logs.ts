// What the benches of simulated policies share. In: NAME=FOLDER or NAME=FOLDER@RUNS, records, or a swept dial. Out: the log's parts and its records, a
// workload, the results of a simulation, or what lies between two dials. What cannot be simulated is thrown with its reason.
import type { RunRecord } from "../src/core/records.ts";
import { recordsOf } from "../src/importers/read.ts";
import { filesOf } from "../src/importers/source.ts";
import type { PolicyResult } from "../src/sim/accounting.ts";
import { RUNS_DEFAULT } from "../src/sim/arrivals.ts";
import { type SimulationSpec, simulate, simulationFault } from "../src/sim/simulate.ts";
import { type Workload, workloadFault, workloadOf } from "../src/sim/workload.ts";

export function logOf(text: string, runsDefault = RUNS_DEFAULT): { name: string; folder: string; runs: number } {
  const [name = "", place = ""] = text.split("=");
  const [folder = "", runs] = place.split("@");
  return { name, folder, runs: runs === undefined ? runsDefault : Number(runs) };
}

/** Of all files but the notes beside the logs. */
export async function recordsFrom(folder: string): Promise<RunRecord[]> {
  return (await recordsOf(filesOf(folder).filter((file) => !file.endsWith(".md")))).records;
}

export function workloadFrom(records: RunRecord[]): Workload {
  const workload = workloadOf(records);
  if ("reason" in workload) throw new Error(workloadFault(workload));
  return workload;
}

export async function resultsOf(workload: Workload, spec: SimulationSpec): Promise<PolicyResult[]> {
  const simulation = await simulate(workload, spec);
  if ("reason" in simulation) throw new Error(simulationFault(simulation));
  return simulation.results;
}

export function heldOf({ idleGbSeconds, wastedGbSeconds }: PolicyResult): number {
  return idleGbSeconds + wastedGbSeconds;
}

/** y where x is `at`, on the line between the dials that have just less and just more of it; which of both it is beyond, where all are. */
export function between(
  at: number,
  swept: PolicyResult[],
  xOf: (result: PolicyResult) => number,
  yOf: (result: PolicyResult) => number,
): number | "all have more" | "all have less" {
  const sorted = swept.toSorted((a, b) => xOf(a) - xOf(b));
  const above = sorted.findIndex((result) => xOf(result) >= at);
  if (above <= 0) return above === 0 ? "all have more" : "all have less";
  const [less, more] = [sorted[above - 1]!, sorted[above]!];
  const part = (at - xOf(less)) / (xOf(more) - xOf(less));
  return yOf(less) + part * (yOf(more) - yOf(less));
}

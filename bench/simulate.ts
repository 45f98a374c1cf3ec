// How fast the simulator simulates Forechain. In: nothing (a seeded workflow of 12 tasks with choices and a fan-out). Out: one JSON value:
// executions, seconds, executions per second, and the seconds that a million executions take on this core.
//   npm run bench -- simulate [RUNS]
import { engineModule } from "../src/cli/build.ts";
import { seededRandom } from "../src/core/random.ts";
import { type RunRecord, recordOfExecution } from "../src/core/records.ts";
import { Execution } from "../src/protocol.ts";
import { simulate } from "../src/sim/simulate.ts";
import { workloadFault, workloadOf } from "../src/sim/workload.ts";

const RUNS_DEFAULT = 20_000;
const LOG_RUNS = 1_000;
const SEED = 1;

/** A caller, four services one after the other (two of them alternatives), each with a callee, then three at once. */
function logOf(runs: number): RunRecord[] {
  const random = seededRandom(SEED);
  const records: RunRecord[] = [];
  for (let run = 0; run < runs; run++) {
    const startMs = 1_700_000_000_000 + run * 60_000;
    let executions = 0;
    const add = (task: string, from: number, to: number, parent?: string): string => {
      const executionId = `${run}-${executions++}`;
      const execution = { runId: `run-${run}`, executionId, task, startMs: startMs + from, endMs: startMs + to };
      records.push(
        recordOfExecution(Execution.parse(parent === undefined ? execution : { ...execution, parentId: parent })),
      );
      return executionId;
    };
    const root = add("gateway", 0, 400);
    let atMs = 5;
    for (let step = 0; step < 4; step++) {
      const way = random() < 0.6 ? "usual" : "other";
      const lengthMs = 30 + Math.floor(random() * 30);
      const service = add(`service ${step} ${way}`, atMs, atMs + lengthMs, root);
      add(`store ${step}`, atMs + 5, atMs + lengthMs - 5, service);
      atMs += lengthMs + 2;
    }
    for (let part = 0; part < 3; part++) add("part", atMs, atMs + 40, root);
  }
  return records;
}

export async function run(args: string[]): Promise<void> {
  const runs = Number(args.find((argument) => /^\d+$/.test(argument)) ?? RUNS_DEFAULT);
  const workload = workloadOf(logOf(LOG_RUNS));
  if ("reason" in workload) throw new Error(workloadFault(workload));
  const module = await engineModule();
  const beganMs = performance.now();
  const beganCpu = process.cpuUsage();
  const simulation = await simulate(workload, {
    arrivals: "poisson:300",
    coldStarts: { kind: "fixed", ms: 200 },
    runs,
    seed: SEED,
    storeBytesPerSecond: null,
    policies: [{ name: "forechain", dial: 20 }],
    module,
    progress: () => {},
  });
  if ("reason" in simulation) throw new Error(simulation.reason);
  const seconds = (performance.now() - beganMs) / 1000;
  // Of another machine's load wall time tells more than of the simulator.
  const { user, system } = process.cpuUsage(beganCpu);
  const cpuSeconds = (user + system) / 1e6;
  const executionsPerSecond = simulation.executions / seconds;
  process.stdout.write(
    `${JSON.stringify({
      executions: simulation.executions,
      seconds,
      executionsPerSecond,
      secondsPerMillion: 1e6 / executionsPerSecond,
      cpuSecondsPerMillion: (cpuSeconds / simulation.executions) * 1e6,
      decisionMicros: simulation.results[0]!.decisionMicros,
    })}\n`,
  );
}

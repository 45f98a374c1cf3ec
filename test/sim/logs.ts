// Small logs for the simulator's tests. A run is written as steps: who, from when to when, called by whom.
import { type RunRecord, recordOfExecution } from "../../src/core/records.ts";
import { type Execution, Execution as ExecutionSchema } from "../../src/protocol.ts";
import { type Workload, workloadFault, workloadOf } from "../../src/sim/workload.ts";

const START_MS = 1_700_000_000_000;

export interface Step {
  task: string;
  from: number;
  to: number;
  /** Task of the step that called it. */
  parent?: string;
  inputs?: Execution["inputs"];
  outputs?: Execution["outputs"];
}

/** Runs one minute apart; the same steps `count` times, or what `stepsOf` gives for each. */
export function recordsOf(stepsOf: Step[] | ((run: number) => Step[]), count: number): RunRecord[] {
  const records: RunRecord[] = [];
  for (let run = 0; run < count; run++) {
    const steps = typeof stepsOf === "function" ? stepsOf(run) : stepsOf;
    for (const { from, to, parent, ...step } of steps) {
      records.push(
        recordOfExecution(
          ExecutionSchema.parse({
            ...step,
            runId: `run-${run}`,
            executionId: `${run}-${step.task}`,
            ...(parent === undefined ? {} : { parentId: `${run}-${parent}` }),
            startMs: START_MS + run * 60_000 + from,
            endMs: START_MS + run * 60_000 + to,
          }),
        ),
      );
    }
  }
  return records;
}

export function workloadOfSteps(stepsOf: Parameters<typeof recordsOf>[0], count: number): Workload {
  const workload = workloadOf(recordsOf(stepsOf, count));
  if ("reason" in workload) throw new Error(workloadFault(workload));
  return workload;
}

/** A calls B, B calls C, each waits for its callee; steps of milliseconds, as between services. */
export const NESTED: Step[] = [
  { task: "A", from: 0, to: 100 },
  { task: "B", from: 10, to: 90, parent: "A" },
  { task: "C", from: 20, to: 80, parent: "B" },
];

/** A calls B and C at once and waits for both. */
export const PARALLEL: Step[] = [
  { task: "A", from: 0, to: 100 },
  { task: "B", from: 10, to: 90, parent: "A" },
  { task: "C", from: 10, to: 80, parent: "A" },
];

/** Graphs that chain policies differ in, and how much of their overhead ours may have. */
export const SHAPES: { shape: string; stepsOf: (run: number) => Step[]; atMost: number }[] = [
  {
    shape: "choices (XOR)",
    stepsOf: (run) => [
      { task: "A", from: 0, to: 2_000 },
      ...[0, 1, 2].flatMap((step): Step[] => {
        // Three ways at each step, in an order that no first-order memory tells.
        const way = `step ${step} way ${((run * 7 + step * 5) % 11) % 3}`;
        const from = 100 + 600 * step;
        return [
          { task: way, from, to: from + 500, parent: "A" },
          { task: `below ${way}`, from: from + 250, to: from + 450, parent: way },
        ];
      }),
    ],
    atMost: 0.9,
  },
  {
    shape: "branches at once (AND)",
    stepsOf: (run) => [
      { task: "A", from: 0, to: 2_000 },
      ...[0, 1, 2].flatMap((branch): Step[] => {
        const task = `branch ${branch}`;
        const below: Step = { task: `below ${branch}`, from: 900, to: 1_500, parent: task };
        return [{ task, from: 600, to: 1_800, parent: "A" }, ...((run + branch) % 2 === 0 ? [below] : [])];
      }),
    ],
    atMost: 0.98,
  },
  { shape: "one shape", stepsOf: () => NESTED, atMost: 1.02 },
];

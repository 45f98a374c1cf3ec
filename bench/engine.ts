// `npm run bench -- engine [--json]`: next, reach, observe, place and image import, seeded; the WASM engine and the plain oracle in
// one run, copies in and out included. In: nothing. Out: µs per call (p50, p99) at 100 to 100,000 tasks, and the ratio to the oracle.
// Single calls are timed, so each number has the timer's own cost in it (told as `timerUs`); compare ratios of one run.
// A question's arrays are read once before its time is taken: who asks has just made them. `nextFar` is the same without that, of
// arrays that lie in memory among 20,000 others; the model itself is as far away as its size makes it in both.

import { parseArgs } from "node:util";
import { engineModule } from "../src/cli/build.ts";
import type { ChainEngine, History, ObservedRun } from "../src/core/chain-engine.ts";
import { createEngine, loadEngine } from "../src/core/engine.ts";
import { type PlaceDemand, type Placer, WasmPlacer } from "../src/core/place.ts";
import { seededRandom } from "../src/core/random.ts";
import { type Row, runOf } from "../test/engine/runs.ts";
import { historyOf, OracleEngine } from "../test/oracle/engine.ts";
import { OraclePlacer } from "../test/oracle/place.ts";

const SEED = 20_261_125;
const TASKS = [100, 1_000, 10_000, 100_000];
/** Executions of a run on average; a third of them start in parallel with a sibling. */
const EXECUTIONS_PER_RUN = 12;
/** Enough that the model of 100,000 tasks has met most of them, and is far larger than the caches. */
const RUNS_PER_TASK = 0.5;
const RUNS_MIN = 4_000;
const CALLS = 20_000;
/** The oracle learns and answers slowly: it gets fewer of both, and the engine beside it the same. */
const ORACLE_TASKS = 1_000;
const ORACLE_RUNS = 400;
const ORACLE_CALLS = 1_500;
const CLUSTERS = 1_000;
const SERVICES = 16;
const TERMS = 5;
const PLACE_CALLS = 3_000;
const IMPORTS = 40;
const REACH_FLOOR = 0.01;
const NEXT_ROWS = 16;
const REACH_ROWS = 255;

interface Times {
  p50Us: number;
  p99Us: number;
}

function timesOf(calls: number, call: (i: number) => void, prepare: (i: number) => void = () => {}): Times {
  for (let i = 0; i < Math.min(calls, 500); i++) call(i);
  const times = new Float64Array(calls);
  for (let i = 0; i < calls; i++) {
    prepare(i);
    const started = process.hrtime.bigint();
    call(i);
    times[i] = Number(process.hrtime.bigint() - started) / 1000;
  }
  times.sort();
  return { p50Us: times[Math.floor(calls * 0.5)] as number, p99Us: times[Math.floor(calls * 0.99)] as number };
}

/** Runs of a workflow system of `tasks` tasks: each task has three successors of its own, taken with 0.7, 0.2 and 0.1. */
class Workload {
  readonly #random: () => number;
  readonly #tasks: number;
  #nowMs = 1.8e12;

  constructor(tasks: number, seed: number) {
    this.#random = seededRandom(seed);
    this.#tasks = tasks;
  }

  run(): ObservedRun {
    const random = this.#random;
    this.#nowMs += random() * 500;
    const rows: Row[] = [{ task: Math.floor(random() ** 2 * this.#tasks), startMs: this.#nowMs, triggers: [] }];
    const count = Math.floor(EXECUTIONS_PER_RUN * (0.5 + random()));
    while (rows.length < count) {
      const parallel = rows.length > 1 && random() < 1 / 3;
      const trigger = rows.length - (parallel ? 2 : 1);
      const { task, startMs } = rows[trigger] as Row;
      const choice = random();
      const branch = choice < 0.7 ? 1 : choice < 0.9 ? 2 : 3;
      const next = (Math.imul(task + branch, 0x9e3779b1) >>> 0) % this.#tasks;
      rows.push({ task: next, startMs: startMs + 5 + random() * 20 * branch, triggers: [trigger] });
    }
    return runOf(
      rows.toSorted((a, b) => a.startMs - b.startMs).every((row, i) => row === rows[i]) ? rows : inOrder(rows),
    );
  }

  histories(count: number): History[] {
    const histories: History[] = [];
    while (histories.length < count) {
      const run = this.run();
      for (let i = 0; i < run.tasks.length && histories.length < count; i++) histories.push(historyOf(run, i));
    }
    return histories;
  }
}

/** Executions in order of their start, as the engine takes them; a trigger always starts before what it causes. */
function inOrder(rows: Row[]): Row[] {
  const order = [...rows.keys()].sort((a, b) => (rows[a] as Row).startMs - (rows[b] as Row).startMs);
  const place = new Map(order.map((from, to) => [from, to]));
  return order.map((from) => {
    const row = rows[from] as Row;
    return { ...row, triggers: row.triggers.map((trigger) => place.get(trigger) as number) };
  });
}

function timeAnswers(engine: ChainEngine, histories: History[]): Record<"next" | "nextFar" | "reach", Times> {
  const at = (i: number) => histories[i % histories.length] as History;
  const next = (i: number) => engine.next(at(i), NEXT_ROWS);
  const reach = (i: number) => engine.reach(at(i), REACH_FLOOR, REACH_ROWS);
  let read = 0;
  const prepare = (i: number) => {
    const { tasks, startMs } = at(i);
    for (let k = 0; k < tasks.length; k++) read += (tasks[k] as number) + (startMs?.[k] as number);
  };
  const times = {
    next: timesOf(histories.length, next, prepare),
    nextFar: timesOf(histories.length, next),
    reach: timesOf(histories.length, reach, prepare),
  };
  // Whatever is computed for nothing may be left out.
  if (Number.isNaN(read)) throw new Error("a path of the workload has an unknown time");
  return times;
}

/** Teaches the runs; returns executions per second of CPU: a long loop on a busy machine is mostly waiting. */
function teach(engine: ChainEngine, runs: ObservedRun[]): number {
  const started = process.cpuUsage();
  for (const run of runs) engine.observe(run);
  const { user, system } = process.cpuUsage(started);
  const executions = runs.reduce((sum, { tasks }) => sum + tasks.length, 0);
  return (executions * 1e6) / (user + system);
}

function benchSize(module: WebAssembly.Module, tasks: number) {
  const workload = new Workload(tasks, SEED);
  const runs = Array.from({ length: Math.max(RUNS_MIN, tasks * RUNS_PER_TASK) }, () => workload.run());
  const engine = createEngine(module, "large");
  const observePerSecond = teach(engine, runs);
  return { tasks, ...timeAnswers(engine, workload.histories(CALLS)), observePerSecond };
}

function benchOracle(module: WebAssembly.Module) {
  const workload = new Workload(ORACLE_TASKS, SEED);
  const runs = Array.from({ length: ORACLE_RUNS }, () => workload.run());
  const histories = workload.histories(ORACLE_CALLS);
  const sides = [createEngine(module, "large"), new OracleEngine("large")].map((engine) => {
    const observePerSecond = teach(engine, runs);
    return { ...timeAnswers(engine, histories), observePerSecond };
  });
  const [engine, oracle] = sides as [(typeof sides)[0], (typeof sides)[0]];
  return {
    tasks: ORACLE_TASKS,
    engine,
    oracle,
    ratio: {
      next: oracle.next.p50Us / engine.next.p50Us,
      reach: oracle.reach.p50Us / engine.reach.p50Us,
      observe: engine.observePerSecond / oracle.observePerSecond,
    },
  };
}

function benchPlace(module: WebAssembly.Module) {
  const random = seededRandom(SEED);
  const column = (length: number, scale: number) => Float32Array.from({ length }, () => random() * scale);
  const [latencyMs, msPerByte] = [column(CLUSTERS * SERVICES, 200), column(CLUSTERS * SERVICES, 1e-4)];
  const demand: PlaceDemand = {
    calls: column(SERVICES, 5),
    bytes: column(SERVICES, 1e6),
    terms: column(TERMS * CLUSTERS, 1000),
    factors: column(TERMS + 1, 2),
  };
  const time = (placer: Placer) => {
    placer.setProximity(latencyMs, msPerByte);
    return timesOf(PLACE_CALLS, () => placer.place(demand));
  };
  const engine = time(new WasmPlacer(module, CLUSTERS, SERVICES));
  const oracle = time(new OraclePlacer(CLUSTERS, SERVICES));
  return { clusters: CLUSTERS, services: SERVICES, terms: TERMS, engine, oracle, ratio: oracle.p50Us / engine.p50Us };
}

function benchImage(module: WebAssembly.Module) {
  const engine = createEngine(module, "default");
  teach(
    engine,
    Array.from({ length: RUNS_MIN }, (_, i) => new Workload(1_000, i).run()),
  );
  const image = engine.exportImage();
  return {
    bytes: image.byteLength,
    import: timesOf(IMPORTS, () => engine.importImage(image)),
    load: timesOf(IMPORTS, () => loadEngine(module, image)),
    export: timesOf(IMPORTS, () => engine.exportImage()),
  };
}

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options: { json: { type: "boolean", default: false } } });
  const module = await engineModule();
  const result = {
    seed: SEED,
    timerUs: timesOf(CALLS, () => {}).p50Us,
    sizes: TASKS.map((tasks) => benchSize(module, tasks)),
    oracle: benchOracle(module),
    place: benchPlace(module),
    image: benchImage(module),
  };
  process.stdout.write(values.json ? `${JSON.stringify(result)}\n` : textOf(result));
}

interface Result {
  timerUs: number;
  sizes: ReturnType<typeof benchSize>[];
  oracle: ReturnType<typeof benchOracle>;
  place: ReturnType<typeof benchPlace>;
  image: ReturnType<typeof benchImage>;
}

function textOf({ timerUs, sizes, oracle, place, image }: Result): string {
  const us = ({ p50Us, p99Us }: Times) => `${p50Us.toFixed(2).padStart(8)} ${p99Us.toFixed(2).padStart(8)}`;
  const lines = [
    `µs per call, p50 and p99 (the timer alone: ${timerUs.toFixed(2)})`,
    `${"tasks".padStart(8)}${"next".padStart(17)}${"reach".padStart(17)}   observe, executions per CPU s`,
    ...sizes.map(
      (size) =>
        `${`${size.tasks}`.padStart(8)}${us(size.next)}${us(size.reach)}   ${Math.round(size.observePerSecond)}`,
    ),
    `next at ${sizes.at(-1)?.tasks} tasks costs ${((sizes.at(-1)?.next.p50Us ?? 0) / (sizes[1]?.next.p50Us ?? 1)).toFixed(1)} × its cost at ${sizes[1]?.tasks}`,
    `next of arrays out of the caches, ${TASKS.join(", ")} tasks:${sizes.map((size) => us(size.nextFar)).join("")}`,
    `against the oracle, ${oracle.tasks} tasks: next ${oracle.ratio.next.toFixed(0)} ×, reach ${oracle.ratio.reach.toFixed(0)} ×, observe ${oracle.ratio.observe.toFixed(0)} ×`,
    `place, ${place.clusters} clusters × ${place.services} services × ${place.terms} terms:${us(place.engine)}, ${place.ratio.toFixed(1)} × the oracle`,
    `image of ${image.bytes} bytes: import${us(image.import)}, load into a new instance${us(image.load)}, export${us(image.export)}`,
  ];
  return `${lines.join("\n")}\n`;
}

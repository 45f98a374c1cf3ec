// Seeded runs for the engine's tests: trees of executions with choices, fan-out, joins and loops. In: a seed. Out: ObservedRun.
import type { ObservedRun } from "../../src/core/chain-engine.ts";

/** An execution as a table row: task, start, triggers (the first is the one its path follows), and what is rarely given. */
export interface Row {
  task: number;
  startMs: number;
  triggers: number[];
  version?: number;
  coldBeforeMs?: number;
  /** 1 where absent, NaN: the end is unknown. */
  durationMs?: number;
}

export function runOf(rows: Row[]): ObservedRun {
  const offsets = [0];
  for (const row of rows) offsets.push((offsets.at(-1) as number) + row.triggers.length);
  return {
    tasks: Uint32Array.from(rows, (row) => row.task),
    versions: Uint32Array.from(rows, (row) => row.version ?? 0),
    startMs: Float64Array.from(rows, (row) => row.startMs),
    endMs: Float64Array.from(rows, (row) => row.startMs + (row.durationMs ?? 1)),
    coldBeforeMs: Float64Array.from(rows, (row) => row.coldBeforeMs ?? 0),
    triggerOffsets: Uint32Array.from(offsets),
    triggers: Uint32Array.from(rows.flatMap((row) => row.triggers)),
    pathTriggers: Int32Array.from(rows, (row) => row.triggers[0] ?? -1),
  };
}

/** A chain a → b → c … with a fixed gap. */
export function chainRun(tasks: number[], startMs = 0, gapMs = 10): ObservedRun {
  return runOf(tasks.map((task, i) => ({ task, startMs: startMs + i * gapMs, triggers: i === 0 ? [] : [i - 1] })));
}

/** A random tree with joins over `tasks` tasks; versions, cold starts and unknown times appear now and then. */
export function randomRun(random: () => number, tasks: number, executionsMax: number): ObservedRun {
  const rows: Row[] = [];
  const count = 1 + Math.floor(random() * executionsMax);
  let now = 1.6e12 + Math.floor(random() * 1e9);
  for (let i = 0; i < count; i++) {
    now += random() < 0.1 ? 0 : random() * 200;
    const triggers: number[] = [];
    if (i > 0) {
      triggers.push(random() < 0.7 ? i - 1 : Math.floor(random() * i));
      const other = Math.floor(random() * i);
      if (random() < 0.15 && other !== triggers[0]) triggers.push(other);
    }
    const parent = triggers.length > 0 ? (rows[triggers[0] as number]?.task ?? 0) : 0;
    // The successor depends on the parent, so that there is something to learn.
    const task =
      i === 0 ? 0 : random() < 0.8 ? (parent * 2 + 1 + Math.floor(random() * 2)) % tasks : Math.floor(random() * tasks);
    rows.push({
      task,
      startMs: random() < 0.02 ? Number.NaN : now,
      triggers,
      version: random() < 0.3 ? 1 + Math.floor(random() * 2) : 0,
      coldBeforeMs: random() < 0.1 ? random() * 50 : 0,
      durationMs: random() < 0.1 ? Number.NaN : random() * 300,
    });
  }
  return runOf(rows);
}

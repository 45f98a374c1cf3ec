// The oracle of lead times and multiplicities: assembly/lead.ts in plain TypeScript.
import type { History } from "../../src/core/chain-engine.ts";

const BUCKETS = 44;
const PER_OCTAVE = 4;
const BELOW = 22;
const ENOUGH = 10;
const TOTAL_MAX = 1023;
const LEVEL_RATE = 0.0003;
const OUTSIDE = 8;
const TIE = 1e-3;

interface Cell {
  total: number;
  multiplicity: number;
  base: number | null;
  buckets: number[];
}

export interface Lead {
  p10: number;
  p50: number;
  p90: number;
  multiplicity: number;
}

export class LeadOracle {
  readonly #cells = new Map<string, Cell>();
  /** float32 as in the engine: a level that falls on the edge of a bucket must fall on the same side. */
  readonly #levels = new Map<string, Float32Array>();

  learn(history: History, task: number, leadMs: number, multiplicity: number): void {
    const keys = keysOf(history, task);
    const best = this.#choose(keys);
    const isKnown = Number.isFinite(leadMs);
    const position = isKnown ? Math.log2(1 + Math.max(0, leadMs) * 1000) * PER_OCTAVE : 0;
    if (isKnown && best && best.cell.base !== null) {
      const level = this.#levelsOf(best.context, best.cell);
      const rank = rankOf(best.cell, position);
      const [low, high] = level as unknown as [number, number];
      level[0] = Math.min(0.5, Math.max(-2, moved(low, 0.1, rank < low)));
      level[1] = Math.min(3, Math.max(0.5, moved(high, 0.9, rank < high)));
    }
    for (const key of keys) {
      const cell = this.#cells.get(key) ?? {
        total: 0,
        multiplicity: 0,
        base: null,
        buckets: new Array(BUCKETS).fill(0),
      };
      this.#cells.set(key, cell);
      const isEnough = cell.total >= ENOUGH;
      const scale = cell.total + 1 >= TOTAL_MAX ? 0.5 : 1;
      cell.total = (cell.total + 1) * scale;
      cell.multiplicity = (cell.multiplicity + multiplicity) * scale;
      if (isKnown) addLead(cell, Math.trunc(position));
      if (!isEnough) break;
    }
  }

  read(history: History, task: number): Lead {
    const unknown = { p10: Number.NaN, p50: Number.NaN, p90: Number.NaN };
    const best = this.#choose(keysOf(history, task));
    if (!best) return { ...unknown, multiplicity: 1 };
    const multiplicity = Math.max(1, best.cell.multiplicity / best.cell.total);
    if (best.cell.base === null) return { ...unknown, multiplicity };
    const [low, high] = this.#levelsOf(best.context, best.cell) as unknown as [number, number];
    const p10 = msOf(positionOf(best.cell, low));
    const p50 = Math.max(p10, msOf(positionOf(best.cell, 0.5)));
    return { p10, p50, p90: Math.max(p50, msOf(positionOf(best.cell, high))), multiplicity };
  }

  /** The narrowest context with enough, if the broader ones have enough too; else the broadest. */
  #choose(keys: string[]): { context: number; cell: Cell } | null {
    const cells = keys.map((key) => this.#cells.get(key));
    if (cells[0] === undefined) return null;
    const few = cells.findIndex((cell) => cell === undefined || cell.total < ENOUGH);
    const context = few < 0 ? cells.length - 1 : Math.max(0, few - 1);
    return { context, cell: cells[context] as Cell };
  }

  #levelsOf(context: number, cell: Cell): Float32Array {
    const key = `${context}|${Math.min(7, Math.max(0, Math.floor(Math.log2(cell.total))))}`;
    let level = this.#levels.get(key);
    if (!level) {
      level = Float32Array.of(0.1, 0.9);
      this.#levels.set(key, level);
    }
    return level;
  }
}

/** A level moved towards its share of ranks below it, rounded as float32 at each step. */
function moved(level: number, share: number, isBelow: boolean): number {
  const { fround } = Math;
  return fround(level + fround(fround(LEVEL_RATE) * fround(fround(share) - (isBelow ? 1 : 0))));
}

/** The broadest first; of a path of one task, the last two are the whole. */
function keysOf(history: History, task: number): string[] {
  const { tasks } = history;
  const keys = [`1:${tasks.at(-1)}>${task}`, `2:${tasks.at(-2)},${tasks.at(-1)}>${task}`, `3:${tasks.join()}>${task}`];
  return tasks.length === 1 ? keys.slice(0, 2) : keys;
}

function addLead(cell: Cell, bucket: number): void {
  cell.base ??= Math.max(0, bucket - BELOW);
  const index = Math.min(BUCKETS - 1, Math.max(0, bucket - cell.base));
  if (cell.buckets[index] === 255) cell.buckets = cell.buckets.map((n) => n >> 1);
  cell.buckets[index] = (cell.buckets[index] as number) + 1;
}

function rankOf(cell: Cell, position: number): number {
  const at = position - (cell.base as number);
  const first = cell.buckets.findIndex((n) => n > 0);
  const last = cell.buckets.findLastIndex((n) => n > 0);
  if (at < first) return (at - first) / OUTSIDE;
  if (at >= last + 1) return 1 + (at - last - 1) / OUTSIDE;
  const sum = cell.buckets.reduce((a, b) => a + b, 0);
  const whole = Math.floor(at);
  const below = cell.buckets.slice(0, whole).reduce((a, b) => a + b, 0);
  return (below + (cell.buckets[whole] as number) * (at - whole)) / sum;
}

function positionOf(cell: Cell, level: number): number {
  const base = cell.base as number;
  const first = cell.buckets.findIndex((n) => n > 0);
  const last = cell.buckets.findLastIndex((n) => n > 0);
  if (level <= 0) return base + first + level * OUTSIDE;
  if (level >= 1) return base + last + 1 + (level - 1) * OUTSIDE;
  const target = level * cell.buckets.reduce((a, b) => a + b, 0) - TIE;
  let below = 0;
  for (let i = first; i <= last; i++) {
    const n = cell.buckets[i] as number;
    if (n > 0 && below + n >= target) return base + i + (target - below) / n;
    below += n;
  }
  return base + last + 1;
}

function msOf(position: number): number {
  return Math.max(0, (2 ** (position / PER_OCTAVE) - 1) / 1000);
}

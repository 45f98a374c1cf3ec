// Hybrid histogram: per task a histogram of idle times in 1-min bins over 240 min. Where it says something, an instance is let go
// after use, started again before the 5th percentile of the idle time, and held to the 99th; else it is held for the whole range.
// M. Shahrad et al., "Serverless in the Wild", USENIX ATC 2020, https://www.usenix.org/conference/atc20/presentation/shahrad.
// As there: 10 % margins, percentiles rounded down and up to whole bins, the histogram is trusted when the coefficient of variation of
// its bins is at least 2. Idle times beyond the range, for which the paper fits ARIMA, fall to the range. Dial: minutes of range.
import type { Policy, World } from "../world.ts";

const BIN_MS = 60_000;
const HEAD = 0.05;
const TAIL = 0.99;
const MARGIN = 0.1;
const CV_MIN = 2;
/** Idle times before a histogram is asked at all. */
const SAMPLES_MIN = 2;

export function hybridHistogram(rangeMinutes = 240): Policy {
  let world: World;
  const states: State[] = [];
  const rangeMs = rangeMinutes * BIN_MS;
  const stateOf = (task: number): State => {
    let state = states[task];
    if (state === undefined) {
      state = {
        bins: new Uint32Array(rangeMinutes),
        total: 0,
        beyond: 0,
        executing: 0,
        idleSinceMs: Number.NaN,
        idleNumber: 0,
      };
      states[task] = state;
    }
    return state;
  };
  return {
    name: "hybrid-histogram",
    dial: rangeMinutes,
    begin: (given) => {
      world = given;
    },
    started(run, i, nowMs) {
      const state = stateOf(run.replay.tasks[i]!);
      if (state.executing++ > 0) return;
      state.idleNumber++;
      if (Number.isNaN(state.idleSinceMs)) return;
      const bin = Math.floor((nowMs - state.idleSinceMs) / BIN_MS);
      if (bin < rangeMinutes) {
        state.bins[bin]!++;
        state.total++;
      } else state.beyond++;
    },
    ended(run, i, nowMs) {
      const state = stateOf(run.replay.tasks[i]!);
      state.executing--;
      state.idleSinceMs = nowMs;
    },
    keepAliveMs(task, nowMs) {
      const state = stateOf(task);
      const window = windowOf(state);
      if (window === null) return rangeMs;
      // Others of the task are executing: there is no idle time of the task yet.
      if (window.startMs <= 0 || state.executing > 0) return window.endMs;
      const { idleNumber } = state;
      world.at(nowMs + window.startMs, (now) => {
        if (state.idleNumber === idleNumber && state.executing === 0) world.claim(task, now, nowMs + window.endMs, now);
      });
      return 0;
    },
  };
}

interface State {
  bins: Uint32Array;
  total: number;
  beyond: number;
  executing: number;
  idleSinceMs: number;
  /** Counts idle times, so that a start planned in an earlier one is dropped. */
  idleNumber: number;
}

function windowOf({ bins, total, beyond }: State): { startMs: number; endMs: number } | null {
  if (total < SAMPLES_MIN || beyond > total) return null;
  const mean = total / bins.length;
  const variance = bins.reduce((sum, count) => sum + (count - mean) ** 2, 0) / bins.length;
  if (Math.sqrt(variance) / mean < CV_MIN) return null;
  const startMs = percentile(bins, total, HEAD) * BIN_MS * (1 - MARGIN);
  const endMs = (percentile(bins, total, TAIL) + 1) * BIN_MS * (1 + MARGIN);
  return { startMs, endMs };
}

/** The bin that holds the percentile. */
function percentile(bins: Uint32Array, total: number, share: number): number {
  let left = share * total;
  for (let bin = 0; bin < bins.length; bin++) {
    left -= bins[bin]!;
    if (left <= 0) return bin;
  }
  return bins.length - 1;
}

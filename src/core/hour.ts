// The hour that outcomes, scores and spending are summed by, in memory and in the tables' `hour` columns: whole ones since the epoch.

export const HOUR_MS = 3_600_000;

export function hourOf(ms: number): number {
  return Math.floor(ms / HOUR_MS);
}

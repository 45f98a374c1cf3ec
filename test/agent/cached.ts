// What tests of the cache share beside their store: units, a clock, and loads that have to succeed.
import type { LoadAnswer, Want } from "../../src/agent/object-store.ts";

export const KB = 1024;
export const TASK: Want = { by: "task" };
export const nowMs = () => performance.now();

export async function loaded(answer: Promise<LoadAnswer>): Promise<LoadAnswer & { ok: true }> {
  const settled = await answer;
  if (!settled.ok) throw new Error(`${settled.reason}: ${settled.detail}`);
  settled.release();
  return settled;
}

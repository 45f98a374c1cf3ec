// Runs that were answered, told to the hubs that hold capacity for them. They gather in the isolate for a moment: a reservation
// that ends a little later costs nothing, a hub call per request would.
import type { Env } from "./env.ts";

const GATHER_MS = 200;
/** Runs that wait for one hub; beyond, the oldest reservation just lives until it expires. */
const WAITING_MAX = 2_000;

interface Answered {
  runId: string;
  /** Nothing more of the run is expected; else only its first call has been answered. */
  over: boolean;
}

const waiting = new Map<string, Answered[]>();
let gathering = false;

type Background = Pick<ExecutionContext, "waitUntil">;

export function releaseLater(hubs: Env["CLUSTER_HUB"], background: Background, hub: string, answered: Answered): void {
  const runs = waiting.get(hub) ?? [];
  waiting.set(hub, runs);
  runs.push(answered);
  if (runs.length > WAITING_MAX) runs.shift();
  if (gathering) return;
  gathering = true;
  background.waitUntil(tellHubs(hubs));
}

async function tellHubs(hubs: Env["CLUSTER_HUB"]): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, GATHER_MS));
  gathering = false;
  const batches = [...waiting];
  waiting.clear();
  // A hub that is down forgets nothing that matters: what it holds expires.
  await Promise.allSettled(batches.map(([hub, runs]) => hubs.getByName(hub).release(runs)));
}

// The fleet view as the Worker sees it: kept per isolate, at most a second old where it can be had.
// A view that is a little older is used when a new one does not come at once; the hub decides in the end anyway.
import type { FleetView } from "../core/fleet.ts";
import type { Env } from "./env.ts";

/** Older than this: refreshed, ms. */
const FRESH_MS = 1_000;
/** The one request that begins a refresh waits so long for it, ms: what was just prepared is worth more than that. */
const REFRESH_WAIT_MS = 20;
/** Older than this: waited for, ms. Below the age at which an agent counts as silent. */
const STALE_MS = 10_000;
/** A refresh that has not come back by then is taken for lost, and the next request starts another, ms. */
const REFRESH_LOST_MS = 5_000;
/** Workspaces kept per isolate. */
const VIEWS_MAX = 64;

interface Cached {
  view: FleetView;
  fetchedMs: number;
  refreshStartedMs: number;
}

const views = new Map<string, Cached>();

type Background = Pick<ExecutionContext, "waitUntil">;

/** Errors: throws only where Fleet cannot be reached and nothing is known yet. */
export async function fleetViewFor(
  fleet: Env["FLEET"],
  workspace: string,
  background: Background,
  nowMs: number,
): Promise<FleetView> {
  const cached = views.get(workspace);
  if (!cached) return fetchView(fleet, workspace, nowMs);
  const ageMs = nowMs - cached.fetchedMs;
  if (ageMs < FRESH_MS) return cached.view;
  if (ageMs < STALE_MS) {
    if (nowMs - cached.refreshStartedMs > REFRESH_LOST_MS || cached.refreshStartedMs <= cached.fetchedMs) {
      cached.refreshStartedMs = nowMs;
      const fresh = fetchView(fleet, workspace, nowMs).catch(() => cached.view);
      background.waitUntil(fresh);
      return Promise.race([fresh, after(REFRESH_WAIT_MS, cached.view)]);
    }
    return cached.view;
  }
  try {
    return await fetchView(fleet, workspace, nowMs);
  } catch (error) {
    // Old knowledge beats none: VMs whose agents are silent are filtered by their age anyway.
    console.warn(`fleet view of ${workspace} is ${Math.round(ageMs / 1000)} s old: ${error}`);
    return cached.view;
  }
}

/** Something was declared through this isolate: its next request sees it. */
export function forgetFleetView(workspace: string): void {
  views.delete(workspace);
}

async function fetchView(fleet: Env["FLEET"], workspace: string, nowMs: number): Promise<FleetView> {
  const view = await fleet.getByName(workspace).view(workspace);
  views.delete(workspace);
  if (views.size >= VIEWS_MAX) views.delete(views.keys().next().value!);
  views.set(workspace, { view, fetchedMs: nowMs, refreshStartedMs: nowMs });
  return view;
}

function after<T>(ms: number, value: T): Promise<T> {
  return new Promise((resolve) => setTimeout(resolve, ms, value));
}

const tasksOf = new WeakMap<FleetView, Set<string>>();

/** Tasks that are declared or that any VM has. */
export function knownTasks(view: FleetView): Set<string> {
  let known = tasksOf.get(view);
  if (!known) {
    known = new Set(Object.keys(view.tasks));
    for (const cluster of view.clusters) for (const vm of cluster.vms) for (const task of vm.tasks) known.add(task);
    tasksOf.set(view, known);
  }
  return known;
}

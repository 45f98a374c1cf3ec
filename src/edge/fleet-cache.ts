// The fleet view as the Worker sees it: kept per isolate, at most a second old where it can be had.
// A view that is a little older is used when a new one does not come at once; the hub decides in the end anyway.
import type { FleetView } from "../core/fleet.ts";
import type { Env } from "./env.ts";
import { withNames } from "./fleet-view.ts";

/** Older than this: refreshed, ms. */
const FRESH_MS = 1_000;
/** The one request that begins a refresh waits so long for it, ms: what was just prepared is worth more than that. */
const REFRESH_WAIT_MS = 20;
/** An agent that has just joined is seen after this, ms; unknown tasks cost one call to Fleet in it. */
const BELIEVED_MS = 100;
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

/** The same for a request of one task: a view in which no VM runs it is not believed when it is older than a moment. */
export async function fleetViewForTask(
  fleet: Env["FLEET"],
  workspace: string,
  task: string,
  background: Background,
  nowMs: number,
): Promise<FleetView> {
  const view = await fleetViewFor(fleet, workspace, background, nowMs);
  const isNew = nowMs - (views.get(workspace)?.fetchedMs ?? 0) < BELIEVED_MS;
  if (isNew || tasksIn(view).running.has(task)) return view;
  return fetchView(fleet, workspace, nowMs).catch(() => view);
}

/** Something was declared through this isolate: its next request sees it. */
export function forgetFleetView(workspace: string): void {
  views.delete(workspace);
}

async function fetchView(fleet: Env["FLEET"], workspace: string, nowMs: number): Promise<FleetView> {
  const view = withNames(await fleet.getByName(workspace).view(workspace));
  views.delete(workspace);
  if (views.size >= VIEWS_MAX) views.delete(views.keys().next().value!);
  views.set(workspace, { view, fetchedMs: nowMs, refreshStartedMs: nowMs });
  return view;
}

function after<T>(ms: number, value: T): Promise<T> {
  return new Promise((resolve) => setTimeout(resolve, ms, value));
}

const tasksOf = new WeakMap<FleetView, { known: Set<string>; running: Set<string> }>();

/** `running`: some VM whose agent has reported has the task. `known`: that, or it is declared. Made once per view. */
function tasksIn(view: FleetView): { known: Set<string>; running: Set<string> } {
  let tasks = tasksOf.get(view);
  if (!tasks) {
    const running = new Set(view.clusters.flatMap(({ vms }) => vms.flatMap((vm) => vm.tasks)));
    tasks = { running, known: new Set([...running, ...Object.keys(view.tasks)]) };
    tasksOf.set(view, tasks);
  }
  return tasks;
}

/** Tasks that are declared or that any VM has. */
export function knownTasks(view: FleetView): Set<string> {
  return tasksIn(view).known;
}

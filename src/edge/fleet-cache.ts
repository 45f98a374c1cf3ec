// The fleet view as the Worker sees it: kept per isolate, at most a second old where it can be had.
// A view that is a little older is used when a new one does not come at once; the hub decides in the end anyway.
// While Fleet cannot be asked, the last view goes on, and an isolate that has none makes one of what D1 remembers.
import type { FleetView } from "../core/fleet.ts";
import { remember } from "../core/remember.ts";
import type { Env } from "./env.ts";
import { fleetViewFromD1 } from "./fleet/known-vms.ts";
import { withNames } from "./fleet/view.ts";
import { within } from "./within.ts";

/** Older than this: refreshed, ms. */
const FRESH_MS = 1_000;
/** The one request that begins a refresh waits so long for it, ms: what was just prepared is worth more than that. */
const REFRESH_WAIT_MS = 20;
/** An agent that has just joined is seen after this, ms; unknown tasks, and VMs that are not where they were, cost one call to Fleet in it. */
const BELIEVED_MS = 100;
/** Older than this: waited for, ms. Below the age at which an agent counts as silent. */
const STALE_MS = 10_000;
/** A refresh that has not come back by then is taken for lost, and the next request starts another, ms. */
const REFRESH_LOST_MS = 5_000;
/** Fleet that has not answered by then is taken for down; its cold start asks all hubs, ms. */
const FLEET_WAIT_MS = 2_000;
/** Workspaces kept per isolate. */
const VIEWS_MAX = 64;

interface Cached {
  view: FleetView;
  fetchedMs: number;
  refreshStartedMs: number;
  /** When a request last asked for a newer one than it had. */
  anewMs: number;
}

const views = new Map<string, Cached>();

type Background = Pick<ExecutionContext, "waitUntil">;
export type FleetSources = Pick<Env, "FLEET" | "DB">;

/** Errors: throws only where neither Fleet nor D1 can be reached and nothing is known yet. */
export async function fleetViewFor(
  env: FleetSources,
  workspace: string,
  background: Background,
  nowMs: number,
): Promise<FleetView> {
  const cached = views.get(workspace);
  if (!cached) return fetchView(env, workspace, nowMs).catch((error) => withoutFleet(env, workspace, nowMs, error));
  const ageMs = nowMs - cached.fetchedMs;
  if (ageMs < FRESH_MS) return cached.view;
  const isRefreshing = nowMs - cached.refreshStartedMs <= REFRESH_LOST_MS && cached.refreshStartedMs > cached.fetchedMs;
  if (isRefreshing && ageMs < STALE_MS) return cached.view;
  cached.refreshStartedMs = nowMs;
  const fresh = fetchView(env, workspace, nowMs).catch((error) => goOnWith(cached, workspace, nowMs, error));
  if (ageMs >= STALE_MS) return fresh;
  background.waitUntil(fresh);
  return Promise.race([fresh, after(REFRESH_WAIT_MS, cached.view)]);
}

/** The same for a request of one task: a view in which no VM runs it is not believed when it is older than a moment. */
export async function fleetViewForTask(
  env: FleetSources,
  workspace: string,
  task: string,
  background: Background,
  nowMs: number,
): Promise<FleetView> {
  const view = await fleetViewFor(env, workspace, background, nowMs);
  const isNew = nowMs - (views.get(workspace)?.fetchedMs ?? 0) < BELIEVED_MS;
  if (isNew || tasksIn(view).running.has(task)) return view;
  return fetchView(env, workspace, nowMs).catch(() => view);
}

/**
 * A VM was not where the view has it: the view as it is now, or was a moment ago if another request asked for it then: calls to a
 * VM that stays away do not load Fleet. Null while Fleet is away.
 */
export async function fleetViewAnew(env: FleetSources, workspace: string, nowMs: number): Promise<FleetView | null> {
  const cached = views.get(workspace);
  if (cached !== undefined) {
    if (nowMs - cached.anewMs < BELIEVED_MS) return cached.view;
    cached.anewMs = nowMs;
  }
  return fetchView(env, workspace, nowMs).catch(() => null);
}

/** Something was declared through this isolate: its next request sees it. */
export function forgetFleetView(workspace: string): void {
  views.delete(workspace);
}

async function fetchView({ FLEET }: FleetSources, workspace: string, nowMs: number): Promise<FleetView> {
  const view = await within(FLEET_WAIT_MS, "Fleet", FLEET.getByName(workspace).view(workspace));
  return keep(workspace, withNames(view), nowMs);
}

/** Agents' silence cannot be seen from here: their ages stop with the view. */
function goOnWith(cached: Cached, workspace: string, nowMs: number, error: unknown): FleetView {
  const newest = views.get(workspace);
  // Another request has brought a newer one meanwhile.
  if (newest !== undefined && newest.fetchedMs > cached.fetchedMs) return newest.view;
  const { view, fetchedMs } = cached;
  console.warn(`Fleet of ${workspace} cannot be asked, going on with the last view: ${error}`);
  const elapsedMs = nowMs - fetchedMs;
  const clusters = view.clusters.map((cluster) => ({
    ...cluster,
    vms: cluster.vms.map((vm) => ({
      ...vm,
      lastHeartbeatMs: vm.lastHeartbeatMs === null ? null : vm.lastHeartbeatMs + elapsedMs,
    })),
  }));
  return keep(workspace, { ...view, clusters }, nowMs);
}

async function withoutFleet(env: FleetSources, workspace: string, nowMs: number, error: unknown): Promise<FleetView> {
  console.warn(`Fleet of ${workspace} cannot be asked, going on with what D1 remembers: ${error}`);
  return keep(workspace, await fleetViewFromD1(env.DB, workspace, nowMs), nowMs);
}

function keep(workspace: string, view: FleetView, nowMs: number): FleetView {
  const anewMs = views.get(workspace)?.anewMs ?? 0;
  remember(views, workspace, { view, fetchedMs: nowMs, refreshStartedMs: nowMs, anewMs }, VIEWS_MAX);
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

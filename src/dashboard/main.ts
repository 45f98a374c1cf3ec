// The first page: asks for a key, then shows what Forechain knows and did, read again every two seconds while somebody looks.
import type { ClusterView } from "../core/fleet.ts";
import type { AllocationRecord, GraphAnswer, OutcomesAnswer, Policy, Problem } from "../protocol.ts";
import { allocationView } from "./allocation-view.ts";
import { clusterView } from "./cluster-view.ts";
import { graphView } from "./graph-view.ts";
import { outcomeView } from "./outcome-view.ts";

const POLL_MS = 2_000;
const POLL_FAILED_MS = 5_000;
const ALLOCATIONS_SHOWN = 25;
const KEY_ITEM = "forechain-key";

const byId = (id: string) => document.getElementById(id)!;
/** Last data drawn into each section, as text: what has not changed is not drawn again, so that nobody loses their place. */
const drawn = new Map<string, string>();
let timer = 0;

class Refused extends Error {}

async function read<T>(path: string, key: string): Promise<T> {
  const response = await fetch(path, { headers: { authorization: `Bearer ${key}` } });
  if (response.ok) return (await response.json()) as T;
  const problem = (await response.json().catch(() => ({}))) as Partial<Problem>;
  const text = problem.detail ?? problem.title ?? `${path} answered ${response.status}`;
  throw response.status === 401 || response.status === 403 ? new Refused(text) : new Error(text);
}

async function refresh(key: string): Promise<void> {
  const [policy, fleet, outcomes, graph, recent] = await Promise.all([
    read<Policy>("/v1/policy", key),
    read<{ clusters: ClusterView[] }>("/v1/clusters", key),
    read<OutcomesAnswer>("/v1/outcomes", key),
    read<GraphAnswer>("/v1/graph", key),
    read<{ allocations: AllocationRecord[] }>(`/v1/allocations?limit=${ALLOCATIONS_SHOWN}`, key),
  ]);
  byId("summary").textContent = `mode ${policy.mode} · ${graph.tasks.length} tasks · graph version ${graph.version}`;
  draw("outcomes", outcomes.totals, () => outcomeView(outcomes));
  draw("clusters", fleet.clusters, () => clusterView(fleet.clusters, Date.now()));
  draw("graph", graph, () => graphView(graph));
  draw("allocations", recent.allocations, () => allocationView(recent.allocations));
}

/** Replaces a section's content where its data changed; what was opened stays open. */
function draw(id: string, data: unknown, view: () => Node[]): void {
  const text = JSON.stringify(data);
  if (drawn.get(id) === text) return;
  drawn.set(id, text);
  const section = byId(id);
  const open = new Set([...section.querySelectorAll("details[open]")].map((details) => details.id));
  const scrolled = section.querySelector(".scroll")?.scrollLeft ?? 0;
  const focused = document.activeElement?.closest("details")?.id;
  section.replaceChildren(...view());
  for (const details of section.querySelectorAll("details")) details.open = open.has(details.id);
  section.querySelector(".scroll")?.scrollTo({ left: scrolled });
  if (focused) section.querySelector<HTMLElement>(`#${CSS.escape(focused)} > summary`)?.focus();
}

function show(signedIn: boolean): void {
  byId("enter").hidden = signedIn;
  byId("page").hidden = !signedIn;
  byId("leave").hidden = !signedIn;
}

async function poll(): Promise<void> {
  clearTimeout(timer);
  const key = sessionStorage.getItem(KEY_ITEM);
  if (key === null) return show(false);
  if (document.hidden) return; // Read again when somebody looks.
  let againMs = POLL_MS;
  try {
    await refresh(key);
    show(true);
    byId("status").textContent = "";
  } catch (error) {
    byId("status").textContent = `Not up to date: ${error instanceof Error ? error.message : String(error)}`;
    if (error instanceof Refused) {
      sessionStorage.removeItem(KEY_ITEM);
      return show(false);
    }
    againMs = POLL_FAILED_MS;
  }
  timer = window.setTimeout(poll, againMs);
}

byId("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  const input = byId("key") as HTMLInputElement;
  sessionStorage.setItem(KEY_ITEM, input.value.trim());
  input.value = "";
  void poll();
});
byId("leave").addEventListener("click", () => {
  sessionStorage.removeItem(KEY_ITEM);
  location.reload();
});
document.addEventListener("visibilitychange", () => void poll());
void poll();

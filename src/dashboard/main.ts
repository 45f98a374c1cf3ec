// The first page: asks for a key, then shows what Forechain knows and did, read again every two seconds while somebody looks.
import type { ClusterView } from "../core/fleet.ts";
import type {
  AllocationRecord,
  ChainsAnswer,
  GraphAnswer,
  LearningAnswer,
  OutcomesAnswer,
  Policy,
  Prediction,
  Problem,
} from "../protocol.ts";
import { allocationView } from "./allocation-view.ts";
import { chainView } from "./chain-view.ts";
import { clusterView } from "./cluster-view.ts";
import { counted, el, quiet, taskLink, type View } from "./dom.ts";
import { forecastView } from "./forecast-view.ts";
import { isLarge } from "./graph-choice.ts";
import { graphView } from "./graph-view.ts";
import { learningView, scoresView } from "./learning-view.ts";
import { headlineView, outcomeView } from "./outcome-view.ts";

const POLL_MS = 2_000;
const POLL_FAILED_MS = 5_000;
/** The graph of two thousand tasks is more than a megabyte: without a new version it is read this seldom. */
const GRAPH_POLL_MS = 10_000;
const ALLOCATIONS_SHOWN = 25;
const CHAINS_SHOWN = 10;
/** Offered while typing; the graph may hold more. */
const TASKS_OFFERED_MAX = 1_000;
const KEY_ITEM = "forechain-key";

const byId = (id: string) => document.getElementById(id)!;
/** Last data drawn into each section, as text: what has not changed is not drawn again, so that nobody loses their place. */
const drawn = new Map<string, string>();
let timer = 0;
/** When everything that is shown was read last; 0: never. */
let freshMs = 0;
let graphKnown: { graph: GraphAnswer; atMs: number } | null = null;
/** Of the graph version that is shown: mining them costs more than the other answers. */
let chainsKnown: { chains: ChainsAnswer; version: number } | null = null;
/** First task of the chain with the highest score: its forecast is shown while nobody has asked for another. */
let worthiest = "";
/** Version and task of the forecast that is shown; "" where none was answered. */
let forecastOf = "";

class Refused extends Error {}

/** `fetch` has only this kind of error where nobody answers, and each browser its own words for it. */
const isUnreachable = (error: unknown) => error instanceof TypeError;

/** Asks with a body by POST, else by GET. */
async function ask<T>(path: string, key: string, body?: object): Promise<T> {
  const authorization = `Bearer ${key}`;
  const response = await (body === undefined
    ? fetch(path, { headers: { authorization } })
    : fetch(path, {
        method: "POST",
        headers: { authorization, "content-type": "application/json" },
        body: JSON.stringify(body),
      }));
  if (response.ok) return (await response.json()) as T;
  const problem = (await response.json().catch(() => ({}))) as Partial<Problem>;
  const text = problem.detail ?? problem.title ?? `${path} answered ${response.status}`;
  throw response.status === 401 || response.status === 403 ? new Refused(text) : new Error(text);
}

async function refresh(key: string): Promise<void> {
  const [policy, fleet, outcomes, learning, recent] = await Promise.all([
    ask<Policy>("/v1/policy", key),
    ask<{ clusters: ClusterView[] }>("/v1/clusters", key),
    ask<OutcomesAnswer>(`/v1/outcomes?limit=0${windowQuery()}`, key),
    ask<LearningAnswer>("/v1/learning", key),
    ask<{ allocations: AllocationRecord[] }>(`/v1/allocations?limit=${ALLOCATIONS_SHOWN}`, key),
  ]);
  const graph = await graphOf(key, learning.model.version);
  byId("summary").textContent =
    `mode ${policy.mode} · ${counted(graph.tasks.length, "task")} · graph version ${graph.version}`;
  draw("headline", [outcomes.totals, outcomes.alerts], () => headlineView(outcomes));
  draw("outcomes", outcomes.totals, () => outcomeView(outcomes));
  draw("scores", outcomes.scores, () => scoresView(outcomes.scores));
  const { starts, holds, placement, drift, frozen } = learning;
  draw("learning", [starts, holds, placement, drift, frozen], () => learningView(learning));
  draw("clusters", fleet.clusters, () => clusterView(fleet.clusters, Date.now()));
  const chains = await chainsOf(key, graph.version);
  drawGraph();
  draw("chains", chains, () => chainView(chains));
  worthiest = chains.chains[0]?.tasks[0] ?? "";
  await forecast(key, graph.version);
  draw("known", graph.tasks.length, () => options(graph));
  draw("allocations", recent.allocations, () => allocationView(recent.allocations));
}

async function graphOf(key: string, version: number): Promise<GraphAnswer> {
  const isDue = graphKnown === null || graphKnown.graph.version !== version;
  if (isDue || Date.now() - graphKnown!.atMs >= GRAPH_POLL_MS) {
    graphKnown = { graph: await ask<GraphAnswer>("/v1/graph", key), atMs: Date.now() };
  }
  return graphKnown!.graph;
}

async function chainsOf(key: string, version: number): Promise<ChainsAnswer> {
  if (chainsKnown?.version !== version) {
    chainsKnown = { chains: await ask<ChainsAnswer>(`/v1/chains?limit=${CHAINS_SHOWN}`, key), version };
  }
  return chainsKnown.chains;
}

/** Of what was read last: also when somebody asks for another picture of it. */
function drawGraph(): void {
  if (graphKnown === null || chainsKnown === null) return;
  const { graph } = graphKnown;
  const { chains } = chainsKnown;
  const asksFrequent = (byId("frequent") as HTMLInputElement).checked;
  byId("frequent-choice").hidden = !isLarge(graph) || chains.chains.length === 0;
  draw("graph", [graph, isLarge(graph) ? chains : null, asksFrequent], () => graphView(graph, chains, asksFrequent));
}

/** Of the time that was chosen; all of it: no window. */
function windowQuery(): string {
  const lastMs = Number((byId("window") as HTMLSelectElement).value);
  return lastMs === 0 ? "" : `&fromMs=${Date.now() - lastMs}`;
}

function options(graph: GraphAnswer): Node[] {
  const tasks = [...graph.tasks].sort((a, b) => b.count - a.count).slice(0, TASKS_OFFERED_MAX);
  return tasks.map(({ task }) => el("option", { value: task }));
}

/** The task that the address names, so that a forecast can be shared and gone back from. */
function askedTask(): string {
  const text = /^#task=(.+)$/.exec(location.hash)?.[1] ?? "";
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

const shownTask = () => askedTask() || worthiest;

/** What follows the shown task, asked once per version. A key that may read may not predict: that is told here and does not end the rest. */
async function forecast(key: string, version: number): Promise<void> {
  const task = shownTask();
  if (task === "") return draw("forecast", null, () => [quiet("No task is known yet.")]);
  if (forecastOf === `${version} ${task}`) return;
  forecastOf = "";
  try {
    const prediction = await ask<Prediction>("/v1/predictions", key, { task });
    if (task !== shownTask()) return; // Another one was chosen meanwhile.
    draw("forecast", [task, prediction], () => forecastView(task, prediction));
    forecastOf = `${version} ${task}`;
  } catch (error) {
    const told = error instanceof Error ? error.message : String(error);
    if (task === shownTask()) draw("forecast", [task, told], () => [quiet(`${task}: ${told}`)]);
  }
}

/** Replaces a section's content where its data changed; what was opened stays open. */
function draw(id: string, data: unknown, view: () => View): void {
  const text = JSON.stringify(data);
  if (drawn.get(id) === text) return;
  drawn.set(id, text);
  const section = byId(id);
  const open = new Set([...section.querySelectorAll("details[open]")].map((details) => details.id));
  const scrolled = section.querySelector(".scroll")?.scrollLeft ?? 0;
  const focused = document.activeElement;
  const again = section.contains(focused) ? selectorOf(focused!) : null;
  section.replaceChildren(...view().filter((node) => node !== null));
  for (const details of section.querySelectorAll("details")) details.open = open.has(details.id);
  section.querySelector(".scroll")?.scrollTo({ left: scrolled });
  if (again !== null) section.querySelector<HTMLElement | SVGElement>(again)?.focus();
}

/** Finds what had the focus, in the same section drawn anew; null: nothing like it would be there. */
function selectorOf(element: Element): string | null {
  const href = element.getAttribute("href");
  if (href !== null) return `a[href="${CSS.escape(href)}"]`;
  const details = element.closest("details")?.id;
  if (details) return `#${CSS.escape(details)} > summary`;
  return element.matches(".scroll") ? ".scroll" : null;
}

function show(signedIn: boolean): void {
  byId("enter").hidden = signedIn;
  byId("page").hidden = !signedIn;
  byId("leave").hidden = !signedIn;
}

function faultText(error: unknown): string {
  const told = error instanceof Error ? error.message : String(error);
  const why = isUnreachable(error) ? "the server does not answer" : told;
  if (freshMs === 0) return `Nothing to show: ${why}`;
  return `Not up to date: ${why}; this is what was known at ${new Date(freshMs).toLocaleTimeString()}`;
}

async function poll(): Promise<void> {
  clearTimeout(timer);
  const key = sessionStorage.getItem(KEY_ITEM);
  if (key === null) return show(false);
  if (document.hidden) return; // Read again when somebody looks.
  let againMs = POLL_MS;
  try {
    await refresh(key);
    const isEntering = byId("enter").contains(document.activeElement);
    show(true);
    // What was pressed is hidden by now: whoever has no mouse goes on at the top, not after the place where the form was.
    if (isEntering) byId("summary").focus();
    freshMs = Date.now();
    byId("status").textContent = "";
  } catch (error) {
    byId("status").textContent = faultText(error);
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
  // It may be another workspace's.
  graphKnown = null;
  chainsKnown = null;
  worthiest = "";
  forecastOf = "";
  freshMs = 0;
  void poll();
});
byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  location.hash = taskLink((byId("asked") as HTMLInputElement).value.trim());
});
window.addEventListener("hashchange", () => {
  (byId("asked") as HTMLInputElement).value = askedTask();
  byId("forecast-title").scrollIntoView({ block: "nearest" });
  void poll();
});
byId("window").addEventListener("change", () => void poll());
byId("frequent").addEventListener("change", drawGraph);
byId("leave").addEventListener("click", () => {
  sessionStorage.removeItem(KEY_ITEM);
  location.reload();
});
(byId("asked") as HTMLInputElement).value = askedTask();
document.addEventListener("visibilitychange", () => void poll());
void poll();

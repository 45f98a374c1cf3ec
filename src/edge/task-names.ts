// A task's two names. Agents know it by their configuration's, the graph by the one with `*` for the ids inside it. Everything
// between works with the learned name: requests and what the hubs tell are translated on the way in, calls and commands on the way out.
// Where several tasks of the fleet are learned under one name, each keeps its own: they are told apart, and predicted alike.
import type { FleetView } from "../core/fleet.ts";
import type { Model } from "../core/graph.ts";
import type { Offer } from "../core/pipeline.ts";
import { normaliseTaskName } from "../core/records.ts";
import type { HubSummary, VmSummary } from "./hub/messages.ts";

/** Tasks that agents know by another name than the graph does; most workspaces have none. */
export interface OtherNames {
  /** Agents' name by the learned one. */
  own: Record<string, string>;
  /** Names that several tasks would share: left as they are. */
  exact: string[];
}

/** What a caller's name stands for: in the view, and on the VM. */
interface ResolvedTask {
  task: string;
  own: string;
}

export function otherNamesOf(summaries: Iterable<HubSummary>): OtherNames | null {
  const byLearned = new Map<string, Set<string>>();
  for (const summary of summaries) {
    for (const own of variableNamesOf(summary)) {
      const learned = normaliseTaskName(own);
      byLearned.set(learned, (byLearned.get(learned) ?? new Set()).add(own));
    }
  }
  const names: OtherNames = { own: {}, exact: [] };
  for (const [learned, owns] of byLearned) {
    const [own] = owns;
    if (owns.size > 1) names.exact.push(...owns);
    else if (own !== learned) names.own[learned] = own!;
  }
  return names.exact.length > 0 || Object.keys(names.own).length > 0 ? names : null;
}

/** All that normaliseTaskName could change, or make equal to what it changed. */
const VARIABLE = /[0-9*\s]/;
const variableNames = new WeakMap<HubSummary, Set<string>>();

/** A summary is joined into many views: it is looked through once. */
function variableNamesOf(summary: HubSummary): Set<string> {
  let names = variableNames.get(summary);
  if (names === undefined) {
    names = new Set();
    for (const { tasks } of summary.vms) for (const task of tasks) if (VARIABLE.test(task)) names.add(task);
    variableNames.set(summary, names);
  }
  return names;
}

/** What a hub says of its cluster, by the names of the view. */
export function summaryWithLearnedNames(summary: HubSummary, { exact }: OtherNames): HubSummary {
  const shared = new Set(exact);
  const nameOf = (own: string) => (shared.has(own) ? own : normaliseTaskName(own));
  const { sparedMs } = summary;
  return {
    ...summary,
    ...(sparedMs === undefined ? {} : { sparedMs: renamed(sparedMs, nameOf) }),
    vms: summary.vms.map((vm) => vmWithLearnedNames(vm, nameOf)),
  };
}

function vmWithLearnedNames(vm: VmSummary, nameOf: (own: string) => string): VmSummary {
  const { tasks, warm, warmUntilMs, starting } = vm;
  return {
    ...vm,
    tasks: tasks.map(nameOf),
    warm: renamed(warm, nameOf),
    warmUntilMs: renamed(warmUntilMs ?? {}, nameOf),
    starting: renamed(starting, nameOf),
  };
}

function renamed<T>(byTask: Record<string, T>, nameOf: (task: string) => string): Record<string, T> {
  return Object.fromEntries(Object.entries(byTask).map(([task, value]) => [nameOf(task), value]));
}

/** Null where neither a VM nor a declaration knows the task: another one that is learned alike does not stand for it. */
export function resolveTask(name: string, view: FleetView, known: ReadonlySet<string>): ResolvedTask | null {
  if (known.has(name)) return { task: name, own: ownName(name, view) };
  const task = normaliseTaskName(name);
  if (!known.has(task)) return null;
  const own = ownName(task, view);
  return own === task || own === name ? { task, own } : null;
}

/** As the agents know it. */
export function ownName(task: string, { names }: FleetView): string {
  return names && Object.hasOwn(names.own, task) ? names.own[task]! : task;
}

/** An offer as the hub and its agents understand it. */
export function withOwnNames(offer: Offer, view: FleetView): Offer {
  if (view.names === undefined) return offer;
  const nameOf = (task: string) => ownName(task, view);
  const commands = offer.commands.map((command) => {
    return command.task === null ? command : { ...command, task: nameOf(command.task) };
  });
  const { task, vms, hidden } = offer;
  return { ...offer, task: nameOf(task), commands, vms: renamed(vms, nameOf), hidden: renamed(hidden, nameOf) };
}

const withAliases = new WeakMap<Model, { exact: string; model: Model }>();

/** The model that knows tasks which are learned under a shared name by their own too. Copied once per model. */
export function withOwnTasks(model: Model, { names }: FleetView): Model {
  if (!names || names.exact.length === 0) return model;
  const exact = names.exact.join("\n");
  const known = withAliases.get(model);
  if (known?.exact === exact) return known.model;
  const copy: Model = { ...model, taskIds: new Map(model.taskIds), profiles: new Map(model.profiles) };
  for (const own of names.exact) {
    const learned = normaliseTaskName(own);
    const id = model.taskIds.get(learned);
    const profile = model.profiles.get(learned);
    if (id !== undefined) copy.taskIds.set(own, id);
    if (profile !== undefined) copy.profiles.set(own, profile);
  }
  withAliases.set(model, { exact, model: copy });
  return copy;
}

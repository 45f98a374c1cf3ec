// The fleet view: what the operator declared joined with what the hubs last said. Pure.
// What is declared wins; what only an agent says of itself counts where nothing is declared, and its URL only from a host
// that the operator approved.
import type { ClusterView, FleetView, Proximity, VmView } from "../../core/fleet.ts";
import { normaliseTaskName } from "../../core/records.ts";
import type { ClusterDeclaration, VmDeclaration } from "../../protocol.ts";
import type { HubSummary, VmSummary } from "../hub/messages.ts";
import { named } from "../named.ts";
import { type OtherNames, otherNamesOf, summaryWithLearnedNames } from "../task-names.ts";
import type { Declarations } from "./declarations.ts";

/** A cluster of which only its agents speak. */
const UNDECLARED: Omit<ClusterDeclaration, "vms"> = {
  labels: {},
  draining: false,
  approvedHosts: [],
  pricePerGbSecond: 0,
  internalLatencyMs: 0.5,
};
/** Bandwidth to a service of which only the latency was measured, bytes per second. */
const BANDWIDTH_UNMEASURED_BYTES_PER_SECOND = 20e6;
/** Cached objects told in one view, over all VMs: it crosses a Durable Object call once a second per isolate. */
const VIEW_URIS_MAX = 20_000;

export function joinFleet(declared: Declarations, told: Map<string, HubSummary>, nowMs: number): FleetView {
  const otherNames = otherNamesOf(told.values());
  const summaries = otherNames === null ? told : renamed(told, otherNames);
  const known = [...new Set([...declared.clusters.keys(), ...summaries.keys()])];
  const names = known.filter((cluster) => !declared.removed.has(cluster));
  const vmCount = [...summaries.values()].reduce((sum, summary) => sum + summary.vms.length, 0);
  const urisPerVm = Math.ceil(VIEW_URIS_MAX / Math.max(1, vmCount));
  const matrix = proximityByCluster(declared);
  const share = new SharedLists();
  const clusters = names.map((cluster): ClusterView => {
    const declaration = declared.clusters.get(cluster);
    const summary = summaries.get(cluster) ?? null;
    const { labels, draining, pricePerGbSecond, internalLatencyMs } = declaration ?? UNDECLARED;
    return {
      cluster,
      labels,
      draining,
      pricePerGbSecond,
      // The dial may have been turned down since the hub told.
      msPerGbSecond: Math.min(summary?.msPerGbSecond ?? Number.POSITIVE_INFINITY, declared.policy.msPerGbSecond),
      ...(summary?.sparedMs === undefined ? {} : { sparedMs: summary.sparedMs }),
      internalLatencyMs,
      reservedMemoryBytes: summary?.reservedMemoryBytes ?? 0,
      reservedCpuCores: summary?.reservedCpuCores ?? 0,
      proximity: { ...measured(summary), ...matrix.get(cluster) },
      vms: joinVms(declaration, summary, urisPerVm, share),
    };
  });
  return {
    atMs: nowMs,
    clusters,
    services: Object.fromEntries([...declared.services].map(([service, { hosts }]) => [service, { hosts }])),
    tasks: { ...Object.fromEntries(declared.tasks), ...declarationsOfShared(declared, otherNames) },
    policy: declared.policy,
    ...(otherNames === null ? {} : { names: otherNames }),
  };
}

function renamed(told: Map<string, HubSummary>, names: OtherNames): Map<string, HubSummary> {
  return new Map([...told].map(([cluster, summary]) => [cluster, summaryWithLearnedNames(summary, names)]));
}

/** Declarations are kept by learned names; each task that shares one has it. */
function declarationsOfShared({ tasks }: Declarations, names: OtherNames | null): FleetView["tasks"] {
  const shared: FleetView["tasks"] = {};
  for (const own of names?.exact ?? []) {
    const declaration = tasks.get(normaliseTaskName(own));
    if (declaration) shared[own] = declaration;
  }
  return shared;
}

/** For whoever looks names up in the view. Not before it crosses a call: records without a prototype cannot. */
export function withNames(view: FleetView): FleetView {
  named(view.tasks);
  named(view.services);
  for (const { proximity, sparedMs, vms } of view.clusters) {
    named(proximity);
    if (sparedMs !== undefined) named(sparedMs);
    for (const { warm, starting } of vms) {
      named(warm);
      named(starting);
    }
  }
  return view;
}

function joinVms(
  declaration: ClusterDeclaration | undefined,
  summary: HubSummary | null,
  urisMax: number,
  share: SharedLists,
): VmView[] {
  const reported = new Map((summary?.vms ?? []).map((vm) => [vm.vm, vm]));
  const byName = new Map((declaration?.vms ?? []).map((vm) => [vm.vm, vm]));
  const approved = declaration?.approvedHosts ?? [];
  return [...new Set([...byName.keys(), ...reported.keys()])].map((vm) =>
    joinVm(vm, byName.get(vm) ?? null, reported.get(vm) ?? null, approved, urisMax, share),
  );
}

function joinVm(
  vm: string,
  declared: VmDeclaration | null,
  reported: VmSummary | null,
  approvedHosts: string[],
  urisMax: number,
  share: SharedLists,
): VmView {
  return {
    vm,
    url: declared?.url ?? approvedUrl(reported?.announcedUrl ?? null, approvedHosts),
    cpuCores: declared?.cpuCores ?? reported?.cpuCores ?? 0,
    memoryBytes: declared?.memoryBytes ?? reported?.memoryBytes ?? 0,
    networkBytesPerSecond: declared?.networkBytesPerSecond ?? null,
    draining: declared?.draining ?? false,
    lastHeartbeatMs: reported?.lastHeartbeatMs ?? null,
    cpuLoad: reported?.cpuLoad ?? 0,
    memoryUsedBytes: reported?.memoryUsedBytes ?? 0,
    memoryIdleBytes: reported?.memoryIdleBytes ?? 0,
    executions: reported?.executions ?? 0,
    tasks: share.of(reported?.tasks ?? []),
    warm: reported?.warm ?? {},
    warmUntilMs: reported?.warmUntilMs ?? {},
    starting: reported?.starting ?? {},
    uris: reported?.uris.slice(0, urisMax) ?? [],
  };
}

/** The announced URL if its host matches a pattern: `*.example.net` covers every name below, never the bare domain. */
function approvedUrl(announced: string | null, approvedHosts: string[]): string | null {
  if (announced === null || !URL.canParse(announced)) return null;
  const { host, hostname, username, password } = new URL(announced);
  if (username !== "" || password !== "") return null;
  const matches = approvedHosts.some((pattern) => {
    const wanted = pattern.toLowerCase();
    // A pattern with a port approves that port, one without approves any.
    return [host, hostname].some((name) =>
      wanted.startsWith("*.") ? name.endsWith(wanted.slice(1)) && name.length > wanted.length - 1 : name === wanted,
    );
  });
  return matches ? announced : null;
}

/** Smoothed by the agents; the best of a cluster's VMs stands for it. */
function measured(summary: HubSummary | null): Record<string, Proximity> {
  const links: Record<string, Proximity> = {};
  for (const vm of summary?.vms ?? []) {
    for (const { service, latencyMs, bandwidthBytesPerSecond } of vm.probes) {
      if (links[service] && links[service].latencyMs <= latencyMs) continue;
      links[service] = {
        latencyMs,
        bandwidthBytesPerSecond: bandwidthBytesPerSecond ?? BANDWIDTH_UNMEASURED_BYTES_PER_SECOND,
      };
    }
  }
  return links;
}

function proximityByCluster(declared: Declarations): Map<string, Record<string, Proximity>> {
  const matrix = new Map<string, Record<string, Proximity>>();
  for (const { cluster, peer, latencyMs, bandwidthBytesPerSecond } of declared.proximity) {
    const row = matrix.get(cluster) ?? {};
    row[peer] = { latencyMs, bandwidthBytesPerSecond };
    matrix.set(cluster, row);
  }
  return matrix;
}

/** VMs of a cluster mostly have the same tasks: one array for equal lists, which crosses the call once. */
class SharedLists {
  readonly #byContent = new Map<string, string[]>();

  of(list: string[]): string[] {
    const content = list.join("\n");
    const known = this.#byContent.get(content);
    if (known) return known;
    this.#byContent.set(content, list);
    return list;
  }
}

// The clusters: VMs with their load, warm runtimes and cache, and why a VM cannot be used.
import { HEARTBEAT_STALE_MS } from "../core/allocate.ts";
import type { ClusterView, VmView } from "../core/fleet.ts";
import { bytes, el, ms, percent, quiet, table, type View } from "./dom.ts";

interface Row {
  cluster: ClusterView;
  vm: VmView;
}

export function clusterView(clusters: ClusterView[], nowMs: number): View {
  if (clusters.length === 0)
    return [quiet("No cluster is declared: PUT /v1/clusters/NAME tells of one, and an agent on each VM joins it.")];
  const rows: Row[] = clusters.flatMap((cluster) => cluster.vms.map((vm) => ({ cluster, vm })));
  const empty = clusters.filter((cluster) => cluster.vms.length === 0).map((cluster) => cluster.cluster);
  return [
    rows.length > 0 ? vmTable(rows, nowMs) : null,
    empty.length > 0 ? quiet(`Without a VM: ${empty.join(", ")}. An agent on each VM joins its cluster.`) : null,
  ];
}

function vmTable(rows: Row[], nowMs: number): Node {
  return table(
    "Virtual machines",
    [
      { head: "VM", cell: ({ cluster, vm }) => `${cluster.cluster} / ${vm.vm}` },
      { head: "State", cell: ({ cluster, vm }) => stateOf(cluster, vm, nowMs) },
      { head: "CPU", cell: ({ vm }) => load(vm.cpuLoad, `CPU load of ${vm.vm}`) },
      {
        head: "Memory in use",
        number: true,
        cell: ({ vm }) => `${bytes(vm.memoryUsedBytes)} of ${bytes(vm.memoryBytes)}`,
      },
      { head: "Warm runtimes", cell: ({ vm }) => runtimes(vm) },
      { head: "Cached", number: true, cell: ({ vm }) => String(vm.uris.length) },
    ],
    rows,
  );
}

function stateOf(cluster: ClusterView, vm: VmView, nowMs: number): Node {
  if (cluster.draining || vm.draining) return el("span", { class: "bad" }, "draining");
  if (vm.lastHeartbeatMs === null) return el("span", { class: "bad" }, "no agent yet");
  const silentMs = nowMs - vm.lastHeartbeatMs;
  if (silentMs > HEARTBEAT_STALE_MS) return el("span", { class: "bad" }, `silent for ${ms(silentMs)}`);
  return el("span", { class: "good" }, vm.executions > 0 ? `running ${vm.executions}` : "ready");
}

function load(share: number, label: string): Node {
  return el(
    "span",
    {},
    el("meter", { min: 0, max: 1, high: 0.9, value: share.toFixed(2), "aria-label": label }),
    ` ${percent(share)}`,
  );
}

function runtimes(vm: VmView): Node {
  const chips = (counts: Record<string, number>, suffix: string) =>
    Object.entries(counts).map(([task, count]) =>
      el("span", { class: "chip" }, `${task}${count > 1 ? ` × ${count}` : ""}${suffix}`),
    );
  const all = [...chips(vm.warm, ""), ...chips(vm.starting, " (starting)")];
  return all.length === 0 ? el("span", { class: "quiet" }, "none") : el("span", {}, ...all);
}

// What this VM has and how busy it is. In: the operating system. Out: the heartbeat's capacity and load.
import { statfs } from "node:fs/promises";
import { availableParallelism, cpus, totalmem } from "node:os";
import type { AgentConfig } from "./config.ts";
import { treeUsage } from "./drivers/proc.ts";

export interface Capacity {
  cpuCores: number;
  memoryBytes: number;
  diskBytes: number;
  diskFreeBytes: number;
}

/** What the configuration says goes before what the machine has: agents may share one. */
export async function readCapacity(config: AgentConfig): Promise<Capacity> {
  // Somebody may have removed the folder: no disk is told then, and the agent goes on.
  const disk = await statfs(config.cache.folder).catch(() => ({ blocks: 0, bavail: 0, bsize: 0 }));
  return {
    cpuCores: config.capacity.cpuCores ?? availableParallelism(),
    memoryBytes: config.capacity.memoryBytes ?? totalmem(),
    diskBytes: config.capacity.diskBytes ?? disk.blocks * disk.bsize,
    diskFreeBytes: disk.bavail * disk.bsize,
  };
}

/**
 * Busy share of this VM's cores since the last call, 0–1. An agent whose configuration names its cores has a part of a machine:
 * what runs beside it is not its load, so only its own processes count.
 */
export function cpuMeter(config: AgentConfig): () => number {
  const { cpuCores } = config.capacity;
  return cpuCores === undefined || treeUsage(process.pid) === null ? machineMeter() : ownMeter(cpuCores);
}

function ownMeter(cpuCores: number): () => number {
  const read = () => ({ cpuMs: treeUsage(process.pid)?.cpuMs ?? 0, atMs: performance.now() });
  let before = read();
  return () => {
    const now = read();
    const busy = (now.cpuMs - before.cpuMs) / ((now.atMs - before.atMs) * cpuCores);
    before = now;
    return Number.isFinite(busy) ? Math.min(1, Math.max(0, busy)) : 0;
  };
}

function machineMeter(): () => number {
  let before = cpuTimes();
  return () => {
    const now = cpuTimes();
    const totalMs = now.totalMs - before.totalMs;
    const busy = totalMs <= 0 ? 0 : 1 - (now.idleMs - before.idleMs) / totalMs;
    before = now;
    return Math.min(1, Math.max(0, busy));
  };
}

function cpuTimes(): { idleMs: number; totalMs: number } {
  let idleMs = 0;
  let totalMs = 0;
  for (const { times } of cpus()) {
    idleMs += times.idle;
    totalMs += times.user + times.nice + times.sys + times.irq + times.idle;
  }
  return { idleMs, totalMs };
}

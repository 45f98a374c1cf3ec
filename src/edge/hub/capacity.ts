// Whether a cluster can take one more run, and what it has promised to those it took. In: offers, and the VMs as they report.
// Out: null, or the reason. One object decides for all isolates, so nothing is promised twice; promises survive an eviction.
import { HEARTBEAT_STALE_MS } from "../../core/allocate.ts";
import type { Offer } from "../../core/pipeline.ts";
import type { StoredQuotas } from "../../core/quotas.ts";
import type { HubConfig } from "./messages.ts";
import { type Reservation, Reservations } from "./reservations.ts";
import type { Vms } from "./vms.ts";

/**
 * Cores are held for a run's whole time although it is busy for parts of it, and too many runs only slow each other; memory
 * that is not there fails. So cores may be promised several times.
 */
const CPU_OVERCOMMIT = 4;

/** What its allocations told of a run, kept with its reservation. */
export interface KeptRun {
  chain: string[];
  sent: boolean;
  quotas: StoredQuotas | null;
}

export class Capacity {
  readonly #sql: SqlStorage;
  readonly #vms: Vms;
  readonly #reservations = new Reservations();

  constructor(sql: SqlStorage, vms: Vms, nowMs: number) {
    this.#sql = sql;
    this.#vms = vms;
    const rows = sql.exec<{
      run_id: string;
      memory_bytes: number;
      cpu_cores: number;
      expires_ms: number;
      calls: number;
    }>("SELECT run_id, memory_bytes, cpu_cores, expires_ms, calls FROM reservations WHERE expires_ms > ?", nowMs);
    for (const row of rows) {
      const { memory_bytes: memoryBytes, cpu_cores: cpuCores, expires_ms: expiresMs, calls } = row;
      this.#reservations.hold(row.run_id, { memoryBytes, cpuCores, expiresMs }, calls);
    }
  }

  /** Null where the offer's reservation fits beside all others. */
  refusal(offer: Offer, config: HubConfig | null, nowMs: number): string | null {
    if (config?.draining) return "cluster is draining";
    const vm = this.vmRefusal(offer.vm, config, nowMs);
    if (vm !== null) return `${offer.vm}: ${vm}`;
    this.expire(nowMs);
    const { freeMemoryBytes, cpuCores } = this.#vms.capacity(nowMs, config);
    const { memoryBytes: needsBytes, cpuCores: needsCores } = offer.reservation;
    const own = this.#reservations.of(offer.runId);
    const heldBytes = this.#reservations.memoryBytes - (own?.memoryBytes ?? 0);
    const heldCores = this.#reservations.cpuCores - (own?.cpuCores ?? 0);
    if (heldBytes + needsBytes > freeMemoryBytes)
      return `memory: ${mib(freeMemoryBytes)} free, ${mib(heldBytes)} of it held, the chain needs ${mib(needsBytes)}`;
    if (heldCores + needsCores > cpuCores * CPU_OVERCOMMIT)
      return `CPU: ${heldCores.toFixed(1)} held on ${cpuCores} cores, the chain needs ${needsCores.toFixed(1)}`;
    return null;
  }

  /** Null where a VM's agent is there to work. */
  vmRefusal(vm: string, config: HubConfig | null, nowMs: number): string | null {
    const state = this.#vms.get(vm);
    if (!state) return "no agent has reported yet";
    if (config?.vms[vm]?.draining) return "is draining";
    if (nowMs - state.heartbeatMs > HEARTBEAT_STALE_MS) return "its agent is silent";
    return null;
  }

  hold(runId: string, reservation: Reservation, run: KeptRun | null = null): void {
    this.#reservations.hold(runId, reservation);
    this.#sql.exec(
      `INSERT INTO reservations (run_id, memory_bytes, cpu_cores, expires_ms, calls, chain, sent, quotas)
       VALUES (?, ?, ?, ?, 1, ?, ?, ?)
       ON CONFLICT (run_id) DO UPDATE SET memory_bytes = excluded.memory_bytes, cpu_cores = excluded.cpu_cores,
         expires_ms = excluded.expires_ms, calls = calls + 1, chain = excluded.chain, sent = excluded.sent,
         quotas = excluded.quotas`,
      runId,
      Math.round(reservation.memoryBytes),
      reservation.cpuCores,
      Math.round(reservation.expiresMs),
      run && JSON.stringify(run.chain),
      run && Number(run.sent),
      run?.quotas ? JSON.stringify(run.quotas) : null,
    );
  }

  /** Of the runs that something is held for, as a hub that was evicted finds it. */
  kept(): (KeptRun & { runId: string })[] {
    return this.#sql
      .exec<{ run_id: string; chain: string; sent: number; quotas: string | null }>(
        "SELECT run_id, chain, sent, quotas FROM reservations WHERE chain IS NOT NULL",
      )
      .toArray()
      .filter(({ run_id: runId }) => this.#reservations.of(runId) !== null)
      .map(({ run_id: runId, chain, sent, quotas }) => {
        const asked = quotas === null ? null : (JSON.parse(quotas) as StoredQuotas);
        return { runId, chain: JSON.parse(chain) as string[], sent: sent === 1, quotas: asked };
      });
  }

  /** Allocations that a run has had here; 0 where nothing is held for it. */
  callsOf(runId: string): number {
    return this.#reservations.callsOf(runId);
  }

  release(runId: string): void {
    if (this.#reservations.release(runId)) this.#sql.exec("DELETE FROM reservations WHERE run_id = ?", runId);
  }

  expire(nowMs: number): void {
    const ended = this.#reservations.expire(nowMs);
    if (ended.length > 0) this.#sql.exec("DELETE FROM reservations WHERE expires_ms <= ?", nowMs);
  }

  held(nowMs: number): { reservedMemoryBytes: number; reservedCpuCores: number } {
    this.expire(nowMs);
    return { reservedMemoryBytes: this.#reservations.memoryBytes, reservedCpuCores: this.#reservations.cpuCores };
  }
}

function mib(bytes: number): string {
  return `${Math.max(0, Math.round(bytes / 2 ** 20))} MiB`;
}

// Whether a plan is taken. In: an offer. Out: the reservation is held and the commands are queued, each under the id that stands
// for it, or refused with its reason. A refused command costs its preparation; only a cluster without room refuses the offer.
import type { Admission, Offer } from "../../core/pipeline.ts";
import { LEFT_BY_OTHERS, type PlannedCommand } from "../../core/planned.ts";
import { Quotas } from "../../core/quotas.ts";
import { Policy } from "../../protocol.ts";
import { newId } from "../ids.ts";
import { type HourlySpending, NOTHING_SPENT, overBudget, type Spent } from "./budget.ts";
import type { Capacity } from "./capacity.ts";
import type { CommandOrigin } from "./command-row.ts";
import type { HubConfig, WrittenOutputs } from "./messages.ts";
import type { CommandQueue } from "./queue.ts";
import { ExpectedRuns } from "./runs.ts";
import type { Vms } from "./vms.ts";

const POLICY_DEFAULT = Policy.parse({});

export function policyOf(config: HubConfig | null): Policy {
  return config?.policy ?? POLICY_DEFAULT;
}

export function isPaused(config: HubConfig | null): boolean {
  return policyOf(config).mode === "paused";
}

export interface Admitted {
  admission: Admission;
  /** VMs that were given commands, and when the first of these expires. */
  woken: Set<string>;
  dueMs: number;
}

export class Admissions {
  readonly #queue: CommandQueue;
  readonly #capacity: Capacity;
  readonly #vms: Vms;
  readonly #spending: HourlySpending;
  readonly #runs: ExpectedRuns;
  /** Of the runs whose commands come here. */
  readonly quotas = new Quotas();
  /** What the workspace's other clusters have spent, as Fleet last told. */
  spentElsewhere: Spent = NOTHING_SPENT;

  constructor(
    queue: CommandQueue,
    capacity: Capacity,
    vms: Vms,
    spending: HourlySpending,
    runs: ExpectedRuns = new ExpectedRuns(),
  ) {
    this.#queue = queue;
    this.#capacity = capacity;
    this.#vms = vms;
    this.#spending = spending;
    this.#runs = runs;
    for (const { runId, quotas, ...run } of capacity.kept()) {
      runs.restore(runId, run);
      if (quotas !== null) this.quotas.restore(runId, quotas);
    }
  }

  admit(offer: Offer, config: HubConfig | null, nowMs: number): Admitted {
    const reason = this.#capacity.refusal(offer, config, nowMs);
    if (reason !== null) return { admission: { ok: false, reason }, woken: new Set(), dueMs: Number.POSITIVE_INFINITY };
    const { runId, acted } = offer;
    const known = this.#runs.get(runId);
    const chain = known?.chain ?? offer.chain;
    const admitted = this.enqueue(offer.commands, { runId, context: offer.task, chain }, config, nowMs);
    // Afterwards: its row keeps what the run was given too.
    const run = { chain, sent: acted || known?.sent === true, quotas: this.quotas.stored(runId) };
    this.#capacity.hold(runId, offer.reservation, run);
    return admitted;
  }

  /** Without a reservation: for a run that has one. */
  enqueue(commands: PlannedCommand[], origin: CommandOrigin, config: HubConfig | null, nowMs: number): Admitted {
    const woken = new Set<string>();
    let dueMs = Number.POSITIVE_INFINITY;
    const admission: Admission = { ok: true, commandIds: {}, refusedKeys: {} };
    let bytesInFlight = commands.some(({ kind }) => kind === "prefetch") ? this.#queue.bytesInFlight() : 0;
    for (const command of commands) {
      const name = `${command.vm} ${command.key}`;
      const refusal =
        this.#refusalOf(command, config, bytesInFlight, nowMs) ?? this.#beyondQuota(command, origin.runId);
      if (refusal !== null) {
        admission.refusedKeys[name] = refusal;
        continue;
      }
      admission.commandIds[name] = this.#queue.enqueue(command, origin, nowMs);
      bytesInFlight += command.bytes ?? 0;
      dueMs = Math.min(dueMs, command.expiresMs);
      woken.add(command.vm);
    }
    return { admission, woken, dueMs };
  }

  #refusalOf(command: PlannedCommand, config: HubConfig | null, bytesInFlight: number, nowMs: number): string | null {
    if (isPaused(config)) return "paused";
    const { budgets } = policyOf(config);
    const own = this.#spending.current(nowMs);
    const spent: Spent = {
      inFlight: this.#queue.inFlight + this.spentElsewhere.inFlight,
      bytes: own.bytes + bytesInFlight + this.spentElsewhere.bytes,
      gbSeconds: own.gbSeconds + this.spentElsewhere.gbSeconds,
    };
    const beyond = overBudget(budgets, spent, command) ?? this.#capacity.vmRefusal(command.vm, config, nowMs);
    if (beyond !== null) return beyond;
    if (command.task !== null && !this.#vms.get(command.vm)!.tasks.has(command.task))
      return "its agent does not have the task";
    return null;
  }

  /** Asked last: what is refused for another reason is not given. */
  #beyondQuota({ quota, task, key }: PlannedCommand, runId: string | null): string | null {
    if (quota === undefined || task === null || runId === null) return null;
    return this.quotas.gives(runId, task, key, quota) ? null : LEFT_BY_OTHERS;
  }
}

/** What was just written is held for its reader at least so long, ms: unlike a plan's, its lead time is not known. */
const OUTPUT_HELD_MS_MIN = 60_000;

/** One written object, wanted at once. */
export function prefetchOf(
  { uri, bytes, savedMs, probability }: WrittenOutputs["objects"][number],
  vm: string,
  task: string,
  { holdMs }: Policy,
  nowMs: number,
): PlannedCommand {
  return {
    commandId: newId(nowMs),
    key: `prefetch ${uri}`,
    vm,
    kind: "prefetch",
    task,
    version: null,
    uri,
    bytes,
    probability,
    savedMs,
    notBeforeMs: nowMs,
    deadlineMs: nowMs,
    expiresMs: nowMs + Math.max(OUTPUT_HELD_MS_MIN, holdMs),
  };
}

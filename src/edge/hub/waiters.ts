// Long-polls that wait for a VM's commands. An agent has one poll at a time, so a second poll of a VM means that the first
// one's connection is dead: it ends with nothing, or commands would be leased to nobody. A wait ends when something becomes
// due, or its time is over; whoever waited then looks for itself.

interface Waiter {
  end(stillFirst: boolean): void;
  endsAtMs: number;
  sooner(delayMs: number): void;
}

export class Waiters {
  readonly #byVm = new Map<string, Waiter>();

  vms(): string[] {
    return [...this.#byVm.keys()];
  }

  /** The poll that waits for a VM, if any, ends with nothing: its agent is gone, or asks anew. */
  dismiss(vm: string): void {
    this.#byVm.get(vm)?.end(false);
  }

  /** Resolves after `delayMs`, or earlier when woken; to false when another poll has taken its place. */
  wait(vm: string, delayMs: number): Promise<boolean> {
    this.dismiss(vm);
    return new Promise((resolve) => {
      const end = (stillFirst: boolean) => {
        clearTimeout(timer);
        if (this.#byVm.get(vm) === waiter) this.#byVm.delete(vm);
        resolve(stillFirst);
      };
      let timer = setTimeout(end, delayMs, true);
      const waiter: Waiter = {
        end,
        endsAtMs: Date.now() + delayMs,
        sooner(soonerMs) {
          clearTimeout(timer);
          timer = setTimeout(end, soonerMs, true);
        },
      };
      this.#byVm.set(vm, waiter);
    });
  }

  /** Something is queued for the VM and due at `dueMs` (null: nothing is). */
  wake(vm: string, dueMs: number | null, nowMs: number): void {
    if (dueMs === null) return;
    const waiter = this.#byVm.get(vm);
    if (!waiter) return;
    if (dueMs <= nowMs) waiter.end(true);
    else if (dueMs < waiter.endsAtMs) {
      waiter.endsAtMs = dueMs;
      waiter.sooner(dueMs - nowMs);
    }
  }
}

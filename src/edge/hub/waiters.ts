// Long-polls that wait for a VM's commands. A wait ends when something becomes due, or its time is over; whoever waited
// then looks for itself, so that a wake too many costs a look and a wake too few cannot be.

/** Polls of one VM that are held open at once; beyond, the oldest ends with nothing. */
const WAITERS_PER_VM_MAX = 4;

interface Waiter {
  end(): void;
  endsAtMs: number;
  sooner(delayMs: number): void;
}

export class Waiters {
  readonly #byVm = new Map<string, Set<Waiter>>();

  vms(): string[] {
    return [...this.#byVm.keys()];
  }

  waiting(vm: string): number {
    return this.#byVm.get(vm)?.size ?? 0;
  }

  /** Resolves after `delayMs`, or earlier when woken. */
  wait(vm: string, delayMs: number): Promise<void> {
    const waiters = this.#byVm.get(vm) ?? new Set<Waiter>();
    this.#byVm.set(vm, waiters);
    if (waiters.size >= WAITERS_PER_VM_MAX) [...waiters][0]!.end();
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        waiters.delete(waiter);
        if (waiters.size === 0 && this.#byVm.get(vm) === waiters) this.#byVm.delete(vm);
        resolve();
      };
      let timer = setTimeout(end, delayMs);
      const waiter: Waiter = {
        end,
        endsAtMs: Date.now() + delayMs,
        sooner(soonerMs) {
          clearTimeout(timer);
          timer = setTimeout(end, soonerMs);
        },
      };
      this.#byVm.set(vm, waiters.add(waiter));
    });
  }

  /** Something is queued for the VM and due at `dueMs` (null: nothing is). */
  wake(vm: string, dueMs: number | null, nowMs: number): void {
    if (dueMs === null) return;
    for (const waiter of this.#byVm.get(vm) ?? []) {
      if (dueMs <= nowMs) waiter.end();
      else if (dueMs < waiter.endsAtMs) {
        waiter.endsAtMs = dueMs;
        waiter.sooner(dueMs - nowMs);
      }
    }
  }
}

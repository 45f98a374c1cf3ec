// How commands reach a VM's agent: pushed into its socket, or given to the long-poll that waits for them. What is due goes out at
// once; what is due later has the waiting poll's timer, or the hub's alarm where the agent has a socket.
import type { CommandsAnswer } from "../../protocol.ts";
import type { HubAlarm } from "./alarm.ts";
import type { CommandQueue } from "./queue.ts";
import type { Schedule } from "./schedule.ts";
import type { Sockets } from "./sockets.ts";
import { Waiters } from "./waiters.ts";

/** Agents hold a long-poll for at most this long, ms: below the idle time-outs of common proxies. */
export const LONG_POLL_MS_MAX = 25_000;
/** Commands of one message to a socket; what is left follows with the next alarm, report or plan. */
const PUSHED_MAX = 100;

export class Delivery {
  readonly #queue: CommandQueue;
  readonly #schedule: Schedule;
  readonly #sockets: Sockets;
  readonly #alarm: HubAlarm;
  readonly #isPaused: () => boolean;
  readonly #waiters = new Waiters();

  constructor(queue: CommandQueue, schedule: Schedule, sockets: Sockets, alarm: HubAlarm, isPaused: () => boolean) {
    this.#queue = queue;
    this.#schedule = schedule;
    this.#sockets = sockets;
    this.#alarm = alarm;
    this.#isPaused = isPaused;
  }

  /** What is due on a VM, at once; or whatever becomes due within `waitMs`. */
  async poll(vm: string, waitMs: number, max: number): Promise<CommandsAnswer> {
    const untilMs = Date.now() + Math.min(waitMs, LONG_POLL_MS_MAX);
    this.#waiters.dismiss(vm);
    for (;;) {
      const nowMs = Date.now();
      const commands = this.#lease(vm, max, nowMs);
      if (commands.length > 0 || nowMs >= untilMs) return { nowMs, commands };
      const stillFirst = await this.#waiters.wait(
        vm,
        Math.min(untilMs, this.#schedule.nextDueMs(vm, nowMs) ?? untilMs) - nowMs,
      );
      if (!stillFirst) return { nowMs: Date.now(), commands: [] };
    }
  }

  /** Something may be due on these VMs. */
  deliver(vms: Iterable<string>, nowMs: number): void {
    for (const vm of vms) {
      if (this.#sockets.has(vm)) this.push(vm, nowMs);
      else this.#waiters.wake(vm, this.#schedule.nextDueMs(vm), nowMs);
    }
  }

  /** Into the VM's socket. */
  push(vm: string, nowMs: number): void {
    const commands = this.#lease(vm, PUSHED_MAX, nowMs);
    if (commands.length > 0) this.#sockets.send(vm, { type: "commands", answer: { nowMs, commands } });
    const isMore = commands.length === PUSHED_MAX;
    this.#alarm.by(isMore ? nowMs : (this.#schedule.nextDueMs(vm, nowMs) ?? Number.POSITIVE_INFINITY));
  }

  /** The VM's waiting poll ends with nothing: its connection is dead, or its process gone. */
  dismiss(vm: string): void {
    this.#waiters.dismiss(vm);
  }

  /** VMs whose polls wait. */
  waiting(): string[] {
    return this.#waiters.vms();
  }

  #lease(vm: string, max: number, nowMs: number): CommandsAnswer["commands"] {
    const commands = this.#queue.lease(vm, max, nowMs, this.#isPaused());
    if (commands.length > 0) this.#alarm.by(nowMs + Math.min(...commands.map((command) => command.leaseMs)));
    return commands;
  }
}

// Keeps the agent linked to its hub: heartbeats at the pace that the hub asks for, and long-polls for commands. Both go on
// through any failure, after a jittered and growing pause, until the agent stops or another process has taken its name.
import type { Command, Heartbeat, HeartbeatAnswer } from "../protocol.ts";
import type { Link } from "./link.ts";
import { backoffMs } from "./outbox.ts";
import { delay } from "./transfer.ts";

/** Of a long-poll: below the idle time-outs of common proxies. */
const POLL_WAIT_MS = 25_000;
const COMMANDS_PER_POLL_MAX = 32;
/** A hub that was away wants to know soon who is there. */
const HEARTBEAT_RETRY_MS_MAX = 2_000;

export interface HubLoopOptions {
  link: Link;
  describe: () => Promise<Omit<Heartbeat, "leaving">>;
  receive: (command: Command) => void;
  log: (line: string) => void;
}

export class HubLoop {
  readonly #options: HubLoopOptions;
  /** The hub's latest answer; null until it has been reached. */
  answer: HeartbeatAnswer | null = null;
  lastError = "not asked yet";
  #linked = () => {};
  readonly #untilLinked = new Promise<void>((resolve) => {
    this.#linked = resolve;
  });

  constructor(options: HubLoopOptions) {
    this.#options = options;
  }

  /** Resolves when `signal` aborts, or at once when another process speaks for this VM. */
  async run(signal: AbortSignal): Promise<"asked" | "superseded"> {
    const ended = new AbortController();
    const both = AbortSignal.any([signal, ended.signal]);
    const heartbeats = this.#heartbeats(both).finally(() => ended.abort());
    await Promise.all([heartbeats, this.#polls(both)]);
    return heartbeats;
  }

  /** Signs off: the hub sends nothing more. If it cannot be reached, it will notice by the silence. */
  async leave(): Promise<void> {
    await this.#options.link.heartbeat({ ...(await this.#options.describe()), leaving: true });
  }

  async #heartbeats(signal: AbortSignal): Promise<"asked" | "superseded"> {
    const { link, describe, log } = this.#options;
    for (let failures = 0; !signal.aborted; ) {
      const answer = await link.heartbeat(await describe());
      if (answer.ok) {
        if (this.answer === null) log("linked to the hub");
        this.answer = answer.answer;
        this.#linked();
        failures = 0;
        await delay(answer.answer.nextHeartbeatMs, signal);
        continue;
      }
      if (answer.reason === "superseded") {
        log(`another agent speaks for this VM: ${answer.detail}`);
        return "superseded";
      }
      if (this.lastError !== answer.detail) log(`heartbeat failed (${answer.reason}): ${answer.detail}`);
      this.lastError = answer.detail;
      await delay(Math.min(HEARTBEAT_RETRY_MS_MAX, backoffMs(failures++, Math.random)), signal);
    }
    return "asked";
  }

  async #polls(signal: AbortSignal): Promise<void> {
    const stopped = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    // Commands name instants of the hub's clock, which the first heartbeat teaches.
    await Promise.race([this.#untilLinked, stopped]);
    for (let failures = 0; !signal.aborted; ) {
      const answer = await this.#options.link.commands(POLL_WAIT_MS, COMMANDS_PER_POLL_MAX, signal);
      if (answer.ok) {
        failures = 0;
        for (const command of answer.answer.commands) this.#options.receive(command);
      } else {
        await delay(backoffMs(failures++, Math.random), signal);
      }
    }
  }
}

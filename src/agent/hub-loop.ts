// Keeps the agent linked to its hub: heartbeats at the pace that the hub asks for, and commands by WebSocket, or by long-polls
// where none can be opened (a proxy forbids it; it is tried again later). All go on through any failure, after a jittered and
// growing pause, until the agent stops or another process has taken its name.
import type { Command, Heartbeat, HeartbeatAnswer } from "../protocol.ts";
import type { Link } from "./link.ts";
import { backoffMs } from "./outbox.ts";
import type { HubSocket } from "./socket.ts";
import { delay } from "./transfer.ts";

/** Of a long-poll: below the idle time-outs of common proxies. */
const POLL_WAIT_MS = 25_000;
const COMMANDS_PER_POLL_MAX = 32;
/** A hub that was away wants to know soon who is there. */
const HEARTBEAT_RETRY_MS_MAX = 2_000;

/** Between tries of the socket where it was forbidden: doubled each time from the first to the second. */
const SOCKET_RETRY_MS_FIRST = 30_000;
const SOCKET_RETRY_MS_MAX = 1_800_000;
/** Share of a heartbeat's pace that is left to chance: agents that were started together must not stay together. */
const HEARTBEAT_JITTER = 0.1;

interface HubLoopOptions {
  link: Link;
  /** Null where the configuration forbids it. */
  socket: HubSocket | null;
  describe: () => Promise<Omit<Heartbeat, "leaving" | "leavesWithinMs">>;
  receive: (command: Command) => void;
  undrain: () => void;
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
    await Promise.all([heartbeats, this.#commands(both)]);
    return heartbeats;
  }

  /**
   * Signs off: the hub sends nothing more, and waits no longer than that for the calls that still run. If it cannot be reached, it will notice by the
   * silence.
   */
  async leave(leavesWithinMs: number): Promise<void> {
    await this.#options.link.heartbeat({ ...(await this.#options.describe()), leaving: true, leavesWithinMs });
  }

  async #heartbeats(signal: AbortSignal): Promise<"asked" | "superseded"> {
    const { link, describe, log } = this.#options;
    for (let failures = 0; !signal.aborted; ) {
      const answer = await link.heartbeat(await describe());
      if (answer.ok) {
        if (this.answer === null) log("linked to the hub");
        // The operator takes the VM back into use: a drain that came as a command is over too.
        if (this.answer?.draining && !answer.answer.draining) this.#options.undrain();
        this.answer = answer.answer;
        this.#linked();
        failures = 0;
        await delay(answer.answer.nextHeartbeatMs * (1 - HEARTBEAT_JITTER * Math.random()), signal);
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

  async #commands(signal: AbortSignal): Promise<void> {
    const stopped = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    // Commands name instants of the hub's clock, which the first heartbeat teaches.
    await Promise.race([this.#untilLinked, stopped]);
    const { socket } = this.#options;
    let retryMs = SOCKET_RETRY_MS_FIRST;
    while (!signal.aborted) {
      const how = socket === null ? "forbidden" : await socket.stay(signal);
      if (signal.aborted) return;
      if (how === "closed") {
        // A deploy drops all sockets at once: their agents come back one by one.
        retryMs = SOCKET_RETRY_MS_FIRST;
        await delay(backoffMs(0, Math.random), signal);
        continue;
      }
      await this.#polls(signal, socket === null ? Number.POSITIVE_INFINITY : retryMs * (0.5 + Math.random()));
      retryMs = Math.min(SOCKET_RETRY_MS_MAX, retryMs * 2);
    }
  }

  async #polls(signal: AbortSignal, forMs: number): Promise<void> {
    const untilMs = performance.now() + forMs;
    for (let failures = 0; !signal.aborted && performance.now() < untilMs; ) {
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

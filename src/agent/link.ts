// The agent's calls to the Worker, with its own key. In: messages of protocol.ts. Out: checked answers, or a failure that says
// whether another try makes sense. Heartbeats teach the clock.
import type { z } from "zod";
import {
  type AgentReport,
  AgentReportAnswer,
  CommandsAnswer,
  type Heartbeat,
  HeartbeatAnswer,
  IngestAnswer,
} from "../protocol.ts";
import type { HubClock } from "./clock.ts";
import { failureOf, type LinkFailure } from "./link-failure.ts";
import type { HubSocket } from "./socket.ts";

interface LinkOptions {
  url: string;
  key: string;
  cluster: string;
  vm: string;
  clock: HubClock;
}

type LinkAnswer<T> = { ok: true; answer: T } | LinkFailure;

/** Of a call that should be answered at once. */
const CALL_MS_MAX = 10_000;
/** Beyond the wait that a long-poll asked for. */
const POLL_MARGIN_MS = 10_000;

export class Link {
  readonly #options: LinkOptions;
  readonly #agentUrl: string;
  /** While it is open, heartbeats and reports go through it. */
  socket: HubSocket | null = null;

  constructor(options: LinkOptions) {
    this.#options = options;
    this.#agentUrl = `/v1/agents/${options.cluster}/${options.vm}`;
  }

  /** Where `HubSocket` connects to. */
  socketUrl(): string {
    return new URL(`${this.#agentUrl}/socket`, this.#options.url).href.replace(/^http/, "ws");
  }

  async heartbeat(heartbeat: Heartbeat): Promise<LinkAnswer<HeartbeatAnswer>> {
    const { clock } = this.#options;
    const askedMs = clock.localMs();
    const path = `${this.#agentUrl}/heartbeat`;
    const said = await this.socket?.say("heartbeat", { heartbeat });
    const answer = said ?? (await this.#call("POST", path, heartbeat, HeartbeatAnswer, CALL_MS_MAX));
    if (answer.ok) clock.learn(askedMs, clock.localMs(), answer.answer.nowMs);
    return answer;
  }

  /** Answered when there is something, or after `waitMs`. (It teaches no clock: its answer waited for unknown parts of that time.) */
  commands(waitMs: number, max: number, signal: AbortSignal): Promise<LinkAnswer<CommandsAnswer>> {
    const path = `${this.#agentUrl}/commands?waitMs=${waitMs}&max=${max}`;
    return this.#call("GET", path, undefined, CommandsAnswer, waitMs + POLL_MARGIN_MS, signal);
  }

  async report(report: AgentReport): Promise<LinkAnswer<AgentReportAnswer>> {
    const said = await this.socket?.say("report", { report });
    return said ?? this.#call("POST", `${this.#agentUrl}/results`, report, AgentReportAnswer, CALL_MS_MAX);
  }

  executions(executions: unknown[]): Promise<LinkAnswer<IngestAnswer>> {
    return this.#call("POST", "/v1/executions", { executions }, IngestAnswer, CALL_MS_MAX);
  }

  async #call<Schema extends z.ZodType>(
    method: string,
    path: string,
    body: unknown,
    schema: Schema,
    limitMs: number,
    signal?: AbortSignal,
  ): Promise<LinkAnswer<z.output<Schema>>> {
    const limit = AbortSignal.timeout(limitMs);
    try {
      const response = await fetch(new URL(path, this.#options.url), {
        method,
        headers: {
          authorization: `Bearer ${this.#options.key}`,
          ...(body === undefined ? {} : { "content-type": "application/json" }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: signal === undefined ? limit : AbortSignal.any([signal, limit]),
        redirect: "error",
      });
      const text = await response.text();
      if (!response.ok) return failureOf(response.status, text);
      const parsed = schema.safeParse(JSON.parse(text));
      if (parsed.success) return { ok: true, answer: parsed.data };
      return {
        ok: false,
        reason: "bad_answer",
        detail: parsed.error.issues[0]?.message ?? "not in the expected shape",
      };
    } catch (error) {
      if (error instanceof SyntaxError) return { ok: false, reason: "bad_answer", detail: "the answer is not JSON" };
      const cause = error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error);
      return { ok: false, reason: "unreachable", detail: cause };
    }
  }
}

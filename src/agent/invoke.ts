// One call of a task on this VM. In: the call (already authenticated) with its context. Out: the runtime's answer, streamed, and
// one execution record. Measured here: what the user's call waited beyond a warm execution (queue + fetch + init), duration, CPU
// and peak memory of the runtime's processes, bytes, objects read; objects written and services called as the task tells them
// in headers that the caller never sees.
import { Agent as HttpAgent, request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import type { Readable } from "node:stream";
import { z } from "zod";
import { type Execution, HOP_BY_HOP_HEADERS, type InvokeContext, ObjectUse, ServiceUse } from "../protocol.ts";
import type { HubClock } from "./clock.ts";
import type { TaskConfig } from "./config.ts";
import type { Started, Usage } from "./drivers/driver.ts";
import { answersReady } from "./drivers/ready.ts";
import type { ObjectRead, TaskObjects } from "./objects.ts";
import type { Prepared } from "./prepared.ts";
import type { Acquired, Runtime } from "./runtime.ts";
import type { RuntimePool } from "./runtimes.ts";

const OUTPUTS_HEADER = "forechain-outputs";
const SERVICES_HEADER = "forechain-services";

const HOP_BY_HOP = new Set(HOP_BY_HOP_HEADERS);
/** Between Forechain's own parts: neither tasks nor callers see them. */
const INTERNAL_HEADERS = new Set(["forechain-signature", "forechain-context", "authorization", "host"]);
/** Where the operator declared nothing. */
export const TIMEOUT_MS_DEFAULT = 60_000;
/** After its caller has gone, a runtime has so long to answer again; else it is at work on what nobody wants, and ends. */
const RECOVERY_MS_MAX = 2_000;
/** Programs close idle connections themselves, after 2 s and more: one that they are about to close must not be used again. */
const CONNECTION_IDLE_MS_MAX = 1_000;
const MS_DECIMALS = 3;

export interface Call {
  task: string;
  context: InvokeContext;
  method: string;
  /** With its query. */
  path: string;
  headers: IncomingHttpHeaders;
  body: Readable;
  /** Aborts when the caller has gone. */
  gone: AbortSignal;
}

export type Answered =
  | {
      ok: true;
      status: number;
      headers: Record<string, string | string[]>;
      body: Readable;
      /** Known when the answer began. */
      coldStartMs: number;
    }
  | { ok: false; status: number; title: string; detail: string };

interface InvokerOptions {
  cluster: string;
  vm: string;
  tasks: Record<string, TaskConfig>;
  clock: HubClock;
  pool: RuntimePool;
  objects: TaskObjects;
  prepared: Prepared;
  timeoutMs: (task: string) => number;
  record: (execution: Execution) => void;
}

/** What is known of a call while it runs. */
interface Progress {
  call: Call;
  receivedMs: number;
  acquired: Acquired & { ok: true };
  /** Objects waited for by the start, hence not by the execution. */
  fetchedBeforeMs: number;
  usageBefore: Usage | null;
}

export class Invoker {
  readonly #options: InvokerOptions;
  #running = 0;
  readonly #idle = new Set<() => void>();
  readonly totals = { calls: 0, cold: 0, errors: 0, coldStartMs: 0 };

  constructor(options: InvokerOptions) {
    this.#options = options;
  }

  running(): number {
    return this.#running;
  }

  /** Resolves when no call runs. */
  async untilIdle(): Promise<void> {
    if (this.#running > 0) await new Promise<void>((resolve) => this.#idle.add(resolve));
  }

  async invoke(call: Call): Promise<Answered> {
    const receivedMs = this.#options.clock.localMs();
    this.#running++;
    this.totals.calls++;
    const limit = AbortSignal.timeout(this.#options.timeoutMs(call.task));
    const stop = AbortSignal.any([call.gone, limit]);
    const acquired = await this.#options.pool.acquire(call.task, stop);
    if (!acquired.ok) {
      this.#done();
      return this.#notStarted(call, receivedMs, acquired, limit.aborted);
    }
    const { runtime } = acquired;
    this.#tellUse(call, acquired);
    const usageBefore = runtime.started!.usage();
    runtime.started!.resetPeak();
    const fetchedBeforeMs = this.#options.objects.waitedMs(runtime);
    const progress: Progress = { call, receivedMs, acquired, fetchedBeforeMs, usageBefore };
    const response = await forward(call, runtime, stop);
    if (response instanceof Error) {
      this.#finish(progress, limit.aborted ? "timeout" : "error", null, 0);
      await this.#giveBack(runtime, call.gone.aborted && !limit.aborted);
      if (limit.aborted) return problem(504, "Task timed out", `${call.task} did not answer in time.`);
      const endedFor = runtime.started!.endedFor?.() ?? null;
      const why = endedFor === null ? "" : `: ${endedFor}`;
      return problem(502, "Task failed", `The runtime of ${call.task} broke the connection${why}.`);
    }
    let bodyBytes = 0;
    response.on("data", (chunk: Buffer) => {
      bodyBytes += chunk.length;
    });
    // Counting must not make it flow before the caller reads.
    response.pause();
    // Whole: the runtime is free before the caller sees the last byte, so that its next call finds it.
    response.once("end", () => {
      this.#finish(progress, (response.statusCode ?? 500) >= 500 ? "error" : "ok", response, bodyBytes);
      this.#options.pool.release(runtime, true);
    });
    response.once("close", () => {
      if (response.readableEnded) return;
      this.#finish(progress, limit.aborted ? "timeout" : "error", response, bodyBytes);
      void this.#giveBack(runtime, call.gone.aborted && !limit.aborted);
    });
    return {
      ok: true,
      status: response.statusCode ?? 502,
      headers: publicHeaders(response.headers),
      body: response,
      coldStartMs: this.#waitedMs(progress),
    };
  }

  #tellUse(call: Call, acquired: Acquired & { ok: true }): void {
    const { prepared, clock } = this.#options;
    const { runId, executionId } = call.context;
    const startMs = acquired.fetchMs + acquired.initMs;
    prepared.usedRuntime(acquired.runtime, { runId, executionId }, acquired.how === "late" ? startMs : 0);
    if (acquired.how === "cold" && acquired.initMs > 0) {
      const atMs = clock.localMs();
      const { initMs, fetchMs } = acquired.runtime;
      const wholeStartMs = initMs + fetchMs;
      prepared.miss({ kind: "warm", task: call.task, runId, executionId, atMs, costMs: acquired.initMs, wholeStartMs });
    }
  }

  /** So far: the wait for the runtime, and for the objects that were not there. */
  #waitedMs({ acquired, fetchedBeforeMs }: Progress): number {
    // A runtime that has died has taken its own account with it: then this part is not known.
    const fetchedMs = Math.max(0, this.#options.objects.waitedMs(acquired.runtime) - fetchedBeforeMs);
    return acquired.queueMs + acquired.fetchMs + acquired.initMs + fetchedMs;
  }

  #finish(
    progress: Progress,
    status: Execution["status"],
    response: IncomingMessage | null,
    outputBytes: number,
  ): void {
    const { call, receivedMs, acquired, fetchedBeforeMs, usageBefore } = progress;
    const { clock, objects } = this.#options;
    const endMs = clock.localMs();
    const usage = acquired.runtime.started!.usage();
    if (usage !== null) this.#options.pool.measured(acquired.runtime, usage.memoryBytes);
    const coldStartMs = this.#waitedMs(progress);
    const { reads, waitedMs } = objects.settle(acquired.runtime);
    this.#tellReads(call, reads);
    const outputs = told(response, OUTPUTS_HEADER, z.array(ObjectUse).max(256));
    const services = told(response, SERVICES_HEADER, z.array(ServiceUse).max(64));
    this.totals.coldStartMs += coldStartMs;
    if (coldStartMs > 0) this.totals.cold++;
    if (status !== "ok") this.totals.errors++;
    this.#options.record({
      ...this.#identityOf(call, receivedMs),
      endMs: clock.toHubMs(endMs),
      status,
      queueMs: rounded(acquired.queueMs),
      fetchMs: rounded(acquired.fetchMs + Math.max(0, waitedMs - fetchedBeforeMs)),
      coldStartMs: rounded(coldStartMs),
      ...(usage === null ? {} : { memoryBytes: usage.peakBytes }),
      ...(usage === null || usageBefore === null ? {} : { cpuMs: Math.max(0, usage.cpuMs - usageBefore.cpuMs) }),
      ...(reads.length > 0 ? { inputs: inputsOf(reads) } : {}),
      ...(outputs === null ? {} : { outputs }),
      outputBytes,
      ...(services === null ? {} : { services }),
    });
    this.#done();
  }

  #tellReads(call: Call, reads: ObjectRead[]): void {
    const { prepared } = this.#options;
    const { runId, executionId } = call.context;
    for (const { uri, bytes, how, waitedMs, loadMs, atMs, hold, forUser } of reads) {
      if (hold !== null) {
        // Read ahead of the user, and meanwhile used by another or over: reported already.
        if (!forUser && (hold.ended || hold.usedMs !== null)) continue;
        prepared.takeObject(hold, atMs);
        prepared.usedObject(
          hold,
          { runId, executionId },
          forUser ? waitedMs : 0,
          how === "cached" ? hold.savedMs : loadMs,
        );
      } else if (forUser && how !== "cached") {
        prepared.miss({ kind: "prefetch", task: call.task, uri, runId, executionId, atMs, costMs: waitedMs, bytes });
      }
    }
  }

  /** After an answer that broke off. `abandoned`: the caller has gone, and the runtime may still be at work. */
  async #giveBack(runtime: Runtime, abandoned: boolean): Promise<void> {
    const { pool, tasks } = this.#options;
    if (!abandoned) return pool.release(runtime, false);
    const answer = await answersReady(runtime.started!, tasks[runtime.task]!.readyPath, RECOVERY_MS_MAX);
    pool.release(runtime, answer.ok);
  }

  /** 404 and 503 tell the gateway that nothing has begun, so that it may try another VM: no execution then, and no record. */
  #notStarted(call: Call, receivedMs: number, failure: Acquired & { ok: false }, timedOut: boolean): Answered {
    if (failure.reason === "unknown_task") return problem(404, "Unknown task", failure.detail);
    if (failure.reason === "stopped") return problem(503, "Stopping", failure.detail);
    this.totals.errors++;
    if (!timedOut && failure.reason !== "aborted") return problem(503, "Task did not start", failure.detail);
    const status = timedOut ? "timeout" : "error";
    this.#options.record({ ...this.#identityOf(call, receivedMs), endMs: this.#options.clock.hubMs(), status });
    if (timedOut) return problem(504, "Task timed out", `No runtime of ${call.task} was free in time.`);
    return problem(499, "Caller gone", failure.detail);
  }

  /** What a record says of any call. */
  #identityOf({ task, context }: Call, receivedMs: number): Omit<Execution, "endMs" | "status"> {
    const { runId, executionId, links, params } = context;
    const { clock, cluster, vm, tasks } = this.#options;
    const version = tasks[task]!.version ?? context.version;
    return {
      runId,
      executionId,
      ...(links.length > 0 ? { links } : {}),
      task,
      ...(version === undefined ? {} : { version }),
      startMs: clock.toHubMs(receivedMs),
      ...(params === undefined ? {} : { params }),
      cluster,
      vm,
    };
  }

  #done(): void {
    this.#running--;
    if (this.#running > 0) return;
    for (const wake of this.#idle) wake();
    this.#idle.clear();
  }
}

function forward(call: Call, runtime: Runtime, signal: AbortSignal): Promise<IncomingMessage | Error> {
  const { secure, host, port, basePath } = runtime.started!;
  const headers = endToEnd(call.headers, (name) => !INTERNAL_HEADERS.has(name));
  return new Promise<IncomingMessage>((resolve, reject) => {
    const request = (secure ? httpsRequest : httpRequest)(
      {
        host,
        port,
        method: call.method,
        path: basePath + call.path,
        headers,
        agent: connectionOf(runtime.started!),
        signal,
      },
      resolve,
    );
    request.on("error", reject);
    call.body.on("error", (error) => request.destroy(error));
    call.body.pipe(request);
  }).catch((error: Error) => error);
}

/** One per runtime, kept between calls that follow each other closely. */
const connections = new WeakMap<Started, HttpAgent | HttpsAgent>();

function connectionOf(started: Started): HttpAgent | HttpsAgent {
  let connection = connections.get(started);
  if (connection === undefined) {
    const options = { keepAlive: true, maxFreeSockets: 1, timeout: CONNECTION_IDLE_MS_MAX };
    connection = started.secure ? new HttpsAgent(options) : new HttpAgent(options);
    connections.set(started, connection);
  }
  return connection;
}

function publicHeaders(headers: IncomingHttpHeaders): Record<string, string | string[]> {
  return endToEnd(headers, (name) => name !== OUTPUTS_HEADER && name !== SERVICES_HEADER);
}

/** All but the headers of the one connection, which `Connection` may name too. */
function endToEnd(headers: IncomingHttpHeaders, isMeant: (name: string) => boolean): Record<string, string | string[]> {
  const named = new Set((headers.connection ?? "").split(",").map((name) => name.trim().toLowerCase()));
  return Object.fromEntries(
    Object.entries(headers).filter(
      ([name, value]) => value !== undefined && !HOP_BY_HOP.has(name) && !named.has(name) && isMeant(name),
    ),
  ) as Record<string, string | string[]>;
}

/** What a task tells of itself; what is not in shape is as good as not told, since the answer itself is the user's. */
function told<Schema extends z.ZodType>(
  response: IncomingMessage | null,
  header: string,
  schema: Schema,
): z.output<Schema> | null {
  const text = response?.headers[header];
  if (typeof text !== "string") return null;
  try {
    const parsed = schema.safeParse(JSON.parse(text));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}

function inputsOf(reads: ObjectRead[]): { uri: string; bytes: number }[] {
  return [...new Map(reads.map(({ uri, bytes }) => [uri, { uri, bytes }])).values()];
}

function rounded(ms: number): number {
  return Number(ms.toFixed(MS_DECIMALS));
}

function problem(status: number, title: string, detail: string): Answered {
  return { ok: false, status, title, detail };
}

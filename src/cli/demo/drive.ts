// Drives the workflows through /v1/invoke as an application would: it calls the tasks one after another (or side by side) and
// passes `forechain-continuation` on. In: requests. Out: per run how long it took, and what was waited for cold starts.
import { setTimeout as delay } from "node:timers/promises";
import { seededRandom } from "../../core/random.ts";
import { ALLOCATION_HEADER, CLUSTER_HEADER, COLD_START_HEADER, CONTINUATION_HEADER } from "../../protocol.ts";
import { describe } from "../api.ts";
import { type CallResult, KEEP_ALIVE_MS, type Request, WORKFLOWS, type Workflow } from "./world.ts";

/** Pauses are the keep-alive, this margin for timers, and an exponential part of this mean. */
const PAUSE_MARGIN_MS = 250;
const PAUSE_MEAN_MS = 300;
const PAUSE_EXTRA_MS_MAX = 900;
const CALL_TIMEOUT_MS = 60_000;

interface CallRecord {
  task: string;
  cluster: string;
  allocationId: string;
  tookMs: number;
  /** Waited beyond a warm execution, as the agent measured it. */
  coldStartMs: number;
  afterRoot: boolean;
}

export interface RunRecord {
  workflow: string;
  request: Request;
  /** Since the phase began, ms. */
  startMs: number;
  tookMs: number;
  calls: CallRecord[];
}

/** `count` requests of every workflow, in an order that does not depend on how fast they are answered. */
export function requestsOf(seed: number, count: number): Request[] {
  return WORKFLOWS.flatMap((workflow, position) => {
    const random = seededRandom(seed * 31 + position);
    return Array.from({ length: count }, () => ({
      workflow: workflow.name,
      params: workflow.params(random),
      pauseMs: KEEP_ALIVE_MS + PAUSE_MARGIN_MS + Math.min(PAUSE_EXTRA_MS_MAX, -Math.log(1 - random()) * PAUSE_MEAN_MS),
    }));
  });
}

export interface DriveOptions {
  url: string;
  key: string;
  requests: Request[];
  /** When each request comes, since the phase began, ms; absent: each after the one before it in its workflow, and its pause. */
  arrivals?: ReadonlyMap<Request, number>;
  onRun(run: RunRecord): void;
}

/**
 * Runs all requests: the workflows side by side, the runs of one workflow one after another with their pauses. With `arrivals` each comes when it is
 * said to, however long others take: else faster answers would bring more load, and two phases could not be compared.
 */
export async function drive(options: DriveOptions): Promise<RunRecord[]> {
  const records: RunRecord[] = [];
  const beganMs = performance.now();
  const run = async (workflow: Workflow, request: Request) => {
    const record = await runOnce(workflow, request, beganMs, options);
    records.push(record);
    options.onRun(record);
  };
  await Promise.all(
    WORKFLOWS.map(async (workflow, position) => {
      const requests = options.requests.filter((candidate) => candidate.workflow === workflow.name);
      const { arrivals } = options;
      if (arrivals !== undefined) {
        await Promise.all(
          requests.map(async (request) => {
            await delay(Math.max(0, beganMs + arrivals.get(request)! - performance.now()));
            await run(workflow, request);
          }),
        );
        return;
      }
      // Not all first requests at the same instant.
      await delay((position * KEEP_ALIVE_MS) / WORKFLOWS.length);
      for (const request of requests) {
        await run(workflow, request);
        await delay(request.pauseMs);
      }
    }),
  );
  return records;
}

async function runOnce(
  workflow: Workflow,
  request: Request,
  beganMs: number,
  { url, key }: DriveOptions,
): Promise<RunRecord> {
  const calls: CallRecord[] = [];
  const startMs = performance.now();
  await workflow.run({
    call: async (task, after, body) => {
      const { record, result } = await invoke(url, key, task, request.params, after, body);
      calls.push(record);
      return result;
    },
  });
  const tookMs = performance.now() - startMs;
  return { workflow: workflow.name, request, startMs: startMs - beganMs, tookMs, calls };
}

async function invoke(
  url: string,
  key: string,
  task: string,
  params: Record<string, string>,
  after: CallResult[],
  body: unknown,
): Promise<{ record: CallRecord; result: CallResult }> {
  const startMs = performance.now();
  const response = await fetch(`${url}/v1/invoke/${encodeURIComponent(task)}/run?${new URLSearchParams(params)}`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${key}`,
      ...(after.length > 0 ? { [CONTINUATION_HEADER]: after.map((call) => call.continuation).join(",") } : {}),
      ...(body === undefined ? {} : { "content-type": "application/json" }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
  });
  const text = await response.text();
  const tookMs = performance.now() - startMs;
  if (!response.ok) throw new Error(`${task} failed: ${describe(response.status, text)}`);
  const header = (name: string) => response.headers.get(name) ?? "";
  return {
    record: {
      task,
      cluster: header(CLUSTER_HEADER),
      allocationId: header(ALLOCATION_HEADER),
      tookMs,
      coldStartMs: Number(header(COLD_START_HEADER) || 0),
      afterRoot: after.length > 0,
    },
    result: { continuation: header(CONTINUATION_HEADER), answer: JSON.parse(text) },
  };
}

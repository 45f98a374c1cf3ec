// From a call to the request that src/core/pipeline.ts understands. In: the checked body, or headers, and continuations.
// Out: path, run, held cluster. A continuation that is forged, expired or another run's is refused with its reason.
import type { TaskRequest } from "../core/pipeline.ts";
import { normaliseTaskName } from "../core/records.ts";
import type { AllocationRequest, PredictionRequest } from "../protocol.ts";
import { BRANCHES_MAX, type Continuation, joinBranches, openContinuation } from "./continuation.ts";
import { continuationKey } from "./secrets.ts";

/** What a continuation, or its absence, says of a call. */
interface Origin {
  path: string[];
  /** NaN where unknown. */
  pathStartMs: number[];
  /** Null: a new run. */
  runId: string | null;
  /** Executions that caused this one. */
  links: string[];
  heldCluster: string | null;
  heldVms: Record<string, string>;
  branch: string | null;
}

type OriginRead = { ok: true; origin: Origin } | { ok: false; detail: string };

const NEW_RUN: Origin = {
  path: [],
  pathStartMs: [],
  runId: null,
  links: [],
  heldCluster: null,
  heldVms: {},
  branch: null,
};

const REFUSED = {
  malformed: "is not a continuation of this service",
  forged: "was not signed for this workspace",
  expired: "has expired; start a new run",
} as const;

/** Continuations as they came, joined by commas; undefined: a new run. */
export async function readOrigin(
  secret: string,
  workspace: string,
  text: string | undefined,
  nowMs: number,
): Promise<OriginRead> {
  const parts = (text ?? "")
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
  if (parts.length === 0) return { ok: true, origin: NEW_RUN };
  if (parts.length > BRANCHES_MAX)
    return { ok: false, detail: `joins ${parts.length} branches, at most ${BRANCHES_MAX}` };
  const key = await continuationKey(secret, workspace);
  const branches: Continuation[] = [];
  for (const part of parts) {
    const opened = await openContinuation(key, part, nowMs);
    if (!opened.ok) return { ok: false, detail: REFUSED[opened.reason] };
    branches.push(opened.value);
  }
  const { main, links } = joinBranches(branches);
  if (branches.some((branch) => branch.runId !== main.runId)) {
    return { ok: false, detail: "joins branches of different runs" };
  }
  return {
    ok: true,
    origin: {
      path: main.path.map((step) => step.task),
      pathStartMs: main.path.map((step) => step.startMs ?? Number.NaN),
      runId: main.runId,
      links,
      heldCluster: main.cluster,
      heldVms: Object.assign({}, ...branches.map((branch) => branch.vms)),
      branch: main.branch,
    },
  };
}

/** The part of a request that predictions and allocations share. Tasks of the past are known by the names they were learned under. */
export function predictionAsk(body: PredictionRequest, origin: Origin) {
  return {
    task: body.task,
    version: body.version ?? null,
    path: (body.path ?? origin.path).map(normaliseTaskName),
    pathStartMs: body.path ? [] : origin.pathStartMs,
    params: body.params ?? {},
    horizonMs: body.horizonMs ?? null,
    maxTasks: body.maxTasks ?? null,
  };
}

export function allocationAsk(body: AllocationRequest, origin: Origin, executionId: string): TaskRequest {
  return {
    ...predictionAsk(body, origin),
    runId: body.runId,
    executionId,
    inputs: (body.inputs ?? []).map(({ uri, bytes = null }) => ({ uri, bytes })),
    constraints: body.constraints ?? {},
    heldCluster: origin.heldCluster,
    heldVms: origin.heldVms,
    branch: origin.branch,
    dryRun: body.dryRun ?? false,
  };
}

/** The trace id of a valid W3C `traceparent`, else null. */
export function traceIdOf(traceparent: string | undefined): string | null {
  const traceId = /^(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?$/.exec(
    traceparent ?? "",
  )?.[1];
  return traceId === undefined || /^0+$/.test(traceId) ? null : traceId;
}

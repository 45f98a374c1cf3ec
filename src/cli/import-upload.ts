// Executions and spans → the API, in batches. Repeating an upload is harmless: ids are those of the log, and the GraphWriter counts each
// once, so that an interrupted import is resumed by running it again.
import pRetry, { AbortError } from "p-retry";
import type { Span, SpanKind } from "../core/spans.ts";
import type { Imported } from "../importers/format.ts";
import type { Execution } from "../protocol.ts";
import { describe } from "./api.ts";
import { adviceOf, ask, type Target, WorkerError } from "./target.ts";

/** What DESIGN's costs are told for; some 200 kB of JSON. */
const BATCH = 500;
const RETRIES = 6;
const TIMEOUT_MS = 60_000;

export interface Uploaded {
  /** Reasons of records that the server did not take, with counts. */
  rejected: Map<string, number>;
  /** Records that it took, now or before. */
  taken: number;
  /** Records that were there already; null where only spans were sent, for OTLP's answer does not tell. */
  duplicates: number | null;
}

export class Uploader {
  readonly #target: Target;
  #executions: Execution[] = [];
  #spans: Span[] = [];
  #hasAnswered = false;
  readonly result: Uploaded = { rejected: new Map(), taken: 0, duplicates: null };

  constructor(target: Target) {
    this.#target = target;
  }

  /** Takes one; sends when a batch is full. Errors: throws when the server refuses a whole batch or stays away. */
  async add(item: Imported): Promise<void> {
    if (item.kind === "execution" && this.#executions.push(item.execution) >= BATCH) await this.#sendExecutions();
    else if (item.kind === "span" && this.#spans.push(item.span) >= BATCH) await this.#sendSpans();
  }

  async finish(): Promise<void> {
    if (this.#executions.length > 0) await this.#sendExecutions();
    if (this.#spans.length > 0) await this.#sendSpans();
  }

  async #sendExecutions(): Promise<void> {
    const executions = this.#executions.splice(0);
    const { status, body } = await this.#post("/v1/executions", { executions });
    const answer = body as {
      duplicates?: number;
      rejected?: { reason: string }[];
      errors?: { pointer: string; detail: string }[];
    };
    this.result.duplicates = (this.result.duplicates ?? 0) + (answer.duplicates ?? 0);
    for (const { reason } of answer.rejected ?? []) this.#reject(reason, 1);
    // Not one of them was taken: the problem names each field.
    if (status === 422) for (const { detail } of answer.errors ?? []) this.#reject(detail, 1);
    else this.result.taken += executions.length - (answer.rejected?.length ?? 0);
  }

  async #sendSpans(): Promise<void> {
    const spans = this.#spans.splice(0);
    const { body } = await this.#post("/v1/traces", otlpOf(spans));
    const { partialSuccess } = body as { partialSuccess?: { rejectedSpans?: string; errorMessage?: string } };
    const count = Number(partialSuccess?.rejectedSpans ?? 0);
    this.result.taken += spans.length - count;
    if (count > 0) this.#reject(partialSuccess?.errorMessage ?? "not taken", count);
  }

  #reject(reason: string, count: number): void {
    this.result.rejected.set(reason, (this.result.rejected.get(reason) ?? 0) + count);
  }

  #post(path: string, payload: unknown): Promise<{ status: number; body: unknown }> {
    const body = JSON.stringify(payload);
    return pRetry(
      async () => {
        const response = await ask(this.#target, path, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body,
          signal: AbortSignal.timeout(TIMEOUT_MS),
        }).catch((error) => {
          // A worker that has answered before is waited for; one that never did is not there.
          throw this.#hasAnswered ? error : new AbortError(error);
        });
        this.#hasAnswered = true;
        const { status } = response;
        const text = await response.text();
        const isOneByOne = status === 422 && path === "/v1/executions";
        if (response.ok || isOneByOne) return { status, body: JSON.parse(text) as unknown };
        const error = new WorkerError(`POST ${path}: ${describe(status, text)}${adviceOf(status)}`);
        if (status < 500 && status !== 429) throw new AbortError(error);
        throw error;
      },
      { retries: RETRIES, minTimeout: 200, maxTimeout: 10_000, randomize: true },
    );
  }
}

const KIND_NUMBERS: Record<SpanKind, number> = {
  unspecified: 0,
  internal: 1,
  server: 2,
  client: 3,
  producer: 4,
  consumer: 5,
};

/** Spans as an OTLP/JSON export request; those of one resource together. */
export function otlpOf(spans: Span[]): unknown {
  const byResource = new Map<string, { attributes: unknown[]; spans: unknown[] }>();
  for (const span of spans) {
    const attributes = attributesOf(span.resource);
    const key = JSON.stringify(attributes);
    let group = byResource.get(key);
    if (group === undefined) {
      group = { attributes, spans: [] };
      byResource.set(key, group);
    }
    group.spans.push({
      traceId: span.traceId,
      spanId: span.spanId,
      ...(span.parentSpanId === null ? {} : { parentSpanId: span.parentSpanId }),
      name: span.name,
      kind: KIND_NUMBERS[span.kind],
      startTimeUnixNano: nanos(span.startMs),
      endTimeUnixNano: nanos(span.endMs),
      status: span.error ? { code: 2 } : {},
      attributes: attributesOf(span.attributes),
      ...(span.links.length === 0 ? {} : { links: span.links }),
    });
  }
  const resourceSpans = [...byResource.values()].map((group) => ({
    resource: { attributes: group.attributes },
    scopeSpans: [{ scope: { name: "forechain import" }, spans: group.spans }],
  }));
  return { resourceSpans };
}

/** Through whole microseconds, which a double holds exactly. */
function nanos(ms: number): string {
  return ms > 0 ? `${Math.round(ms * 1000)}000` : "0";
}

function attributesOf(attributes: Map<string, string | number | boolean>): unknown[] {
  return [...attributes].map(([key, value]) => ({
    key,
    value:
      typeof value === "string"
        ? { stringValue: value }
        : typeof value === "boolean"
          ? { boolValue: value }
          : Number.isSafeInteger(value)
            ? { intValue: String(value) }
            : { doubleValue: value },
  }));
}

// A small client of Forechain's own API: JSON in, JSON out, problems as errors that name the field.
import type { Problem } from "../protocol.ts";
import { adviceOf, ask, type Target, WorkerError } from "./target.ts";

const CALL_TIMEOUT_MS = 30_000;

export class Api {
  readonly url: string;
  readonly #target: Target;

  constructor(url: string, key: string) {
    this.url = url;
    this.#target = { url, key };
  }

  /** Errors: throws a WorkerError with the problem's text for any status of 400 or more, and where nobody answers. */
  async call<T>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await ask(this.#target, path, {
      method,
      headers: body === undefined ? {} : { "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
    });
    const text = await response.text();
    const { status } = response;
    if (!response.ok) throw new WorkerError(`${method} ${path}: ${describe(status, text)}${adviceOf(status)}`);
    return (text === "" ? null : JSON.parse(text)) as T;
  }
}

/** A problem's detail with its fields; any other text as it is, cut. */
export function describe(status: number, text: string): string {
  try {
    const problem = JSON.parse(text) as Partial<Problem>;
    const fields = (problem.errors ?? []).map((error) => `${error.pointer}: ${error.detail}`).join("; ");
    const refused = (problem.refused ?? []).map((entry) => `${entry.cluster}: ${entry.reason}`).join("; ");
    return [status, problem.title, problem.detail, fields, refused].filter(Boolean).join(" · ");
  } catch {
    return `${status} ${text.slice(0, 300)}`;
  }
}

// Why a call to the Worker had no answer that can be used, by whichever way it went, and whether another try makes sense.
const DETAIL_CHARS_MAX = 300;

export type LinkFailure = {
  ok: false;
  /** `superseded`: another process has taken this VM's name. `refused`: the same call will be refused again. */
  reason: "unreachable" | "busy" | "refused" | "unauthorised" | "superseded" | "bad_answer";
  detail: string;
};

/** Another try makes sense: the Worker may be back, or the key may be declared, later. */
export function retryable(failure: LinkFailure): boolean {
  return failure.reason !== "refused" && failure.reason !== "bad_answer";
}

/** Of an HTTP status, and what came with it. */
export function failureOf(status: number, text: string): LinkFailure {
  const detail = `${status} ${text.slice(0, DETAIL_CHARS_MAX)}`;
  if (status === 401 || status === 403) return { ok: false, reason: "unauthorised", detail };
  if (status === 409) return { ok: false, reason: "superseded", detail };
  if (status === 408 || status === 425 || status === 429 || status >= 500) return { ok: false, reason: "busy", detail };
  return { ok: false, reason: "refused", detail };
}

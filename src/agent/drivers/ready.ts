// Waits until a runtime answers HTTP. In: what a driver started, a path, a limit. Out: ready, or why not, with its last lines.
// Any status but 503 counts: the contract is "it answers", and 503 is how servers say "not yet".
import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import type { Started } from "./driver.ts";

/** Between two tries: a share of the time that has passed, so that a start is never told much longer than it was. */
const POLL_SHARE = 0.05;
const POLL_MS_MIN = 4;
const POLL_MS_MAX = 100;
/** Of one try: a program that accepts before it can answer keeps the connection waiting. */
const TRY_MS_MAX = 2_000;

export async function answersReady(
  started: Started,
  path: string,
  limitMs: number,
): Promise<{ ok: true } | { ok: false; detail: string }> {
  const beganMs = performance.now();
  const untilMs = beganMs + limitMs;
  let exit: { code: number | string | null; lastLines: string } | null = null;
  const exited = started.exited.then((how) => {
    exit = how;
    return false;
  });
  while (performance.now() < untilMs) {
    if (await Promise.race([answers(started, path), exited])) return { ok: true };
    if (exit !== null) {
      const { code, lastLines } = exit as { code: number | string | null; lastLines: string };
      return { ok: false, detail: `ended (${code}) before it was ready${lastLines === "" ? "" : `: ${lastLines}`}` };
    }
    const pollMs = Math.min(POLL_MS_MAX, Math.max(POLL_MS_MIN, (performance.now() - beganMs) * POLL_SHARE));
    await Promise.race([new Promise((resolve) => setTimeout(resolve, pollMs)), exited]);
  }
  return { ok: false, detail: `did not answer ${path} within ${Math.round(limitMs)} ms` };
}

function answers(started: Started, path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = (started.secure ? httpsRequest : httpRequest)(
      { host: started.host, port: started.port, path: started.basePath + path, agent: false, timeout: TRY_MS_MAX },
      (response) => {
        response.resume();
        resolve(response.statusCode !== 503);
      },
    );
    probe.on("timeout", () => probe.destroy());
    probe.on("error", () => resolve(false));
    probe.end();
  });
}

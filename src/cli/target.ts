// Which worker a command talks to: --url and --key, else FORECHAIN_URL and FORECHAIN_KEY, else the one that `npm run dev` started here.
import { readFileSync } from "node:fs";
import { join } from "node:path";

export interface Target {
  url: string;
  key: string;
}

/** The worker refused a call, or did not answer: told as it is, with what to do. */
export class WorkerError extends Error {}

/** `fetch` of the worker. Errors: throws a WorkerError where nobody answers. */
export async function ask(target: Target, path: string, init: RequestInit): Promise<Response> {
  const headers = { ...init.headers, authorization: `Bearer ${target.key}` };
  try {
    return await fetch(`${target.url}${path}`, { ...init, headers });
  } catch (error) {
    const { name, message, cause } = error as Error & { cause?: NodeJS.ErrnoException };
    const why = name === "TimeoutError" ? "in time" : `(${cause?.code ?? cause?.message ?? message})`;
    throw new WorkerError(
      `${target.url} does not answer ${why}: is the worker running? \`npm run dev\` starts one here, --url or FORECHAIN_URL name another`,
    );
  }
}

/** What a refusal's status asks of whoever called. */
export function adviceOf(status: number): string {
  return status === 401 ? " Give a key of this worker and workspace with --key or FORECHAIN_KEY." : "";
}

/** `without`: what else the user may do, for the message. Errors: throws where neither options, environment nor a local worker tell. */
export function targetOf(flags: Partial<Target>, without = ""): Target {
  const url = flags.url ?? process.env.FORECHAIN_URL;
  const key = flags.key ?? process.env.FORECHAIN_KEY;
  if (url !== undefined) {
    if (!/^https?:$/.test(URL.parse(url)?.protocol ?? "")) {
      throw new Error(`the worker's URL has to begin with http:// or https://, got "${url}"`);
    }
    // The local worker's admin key is for that worker alone.
    if (key === undefined) throw new Error(`no key for ${url}: give --key or FORECHAIN_KEY`);
    return { url: url.replace(/\/+$/, ""), key };
  }
  const path = join(process.env.FORECHAIN_STATE ?? ".forechain", "dev.json");
  try {
    const { url, adminKey } = JSON.parse(readFileSync(path, "utf8")) as { url: string; adminKey: string };
    return { url, key: key ?? adminKey };
  } catch {
    throw new Error(`no worker to talk to: give --url and --key, or start \`npm run dev\` (${path})${without}`);
  }
}

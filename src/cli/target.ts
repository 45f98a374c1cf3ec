// Which worker a command talks to: --url and --key, else FORECHAIN_URL and FORECHAIN_KEY, else the one that `npm run dev` started here.
import { readFileSync } from "node:fs";
import { join } from "node:path";

export interface Target {
  url: string;
  key: string;
}

/** `without`: what else the user may do, for the message. Errors: throws where neither options, environment nor a local worker tell. */
export function targetOf(flags: Partial<Target>, without = ""): Target {
  const url = flags.url ?? process.env.FORECHAIN_URL;
  const key = flags.key ?? process.env.FORECHAIN_KEY;
  if (url !== undefined && key !== undefined) return { url, key };
  const path = join(process.env.FORECHAIN_STATE ?? ".forechain", "dev.json");
  try {
    const { url: devUrl, adminKey } = JSON.parse(readFileSync(path, "utf8")) as { url: string; adminKey: string };
    return { url: url ?? devUrl, key: key ?? adminKey };
  } catch {
    throw new Error(`no worker to talk to: give --url and --key, or start \`npm run dev\` (${path})${without}`);
  }
}

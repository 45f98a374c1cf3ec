// `forechain dev`: the worker on this machine, for people who work on Forechain or against its API.
import { join } from "node:path";
import { Command } from "commander";
import { startLocalWorker } from "./local-worker.ts";
import { stopOnSignal } from "./process-group.ts";

const PORT_DEFAULT = 8787;

const HELP = `
Environment:
  PORT             port to listen on, on loopback (default ${PORT_DEFAULT}; 0: any free one)
  FORECHAIN_STATE  folder for the database, the keys and the log (default .forechain)

When the worker is healthy, <state>/dev.json holds {"url","adminKey"} (mode 0600).

Examples:
  $ npm run dev
  $ PORT=8080 FORECHAIN_STATE=/tmp/fc npm run dev
  $ curl -H "Authorization: Bearer $(jq -r .adminKey .forechain/dev.json)" localhost:8787/v1/graph`;

/** A port from the environment. Errors: throws when it is not one. */
export function portOf(text: string | undefined, fallback: number): number {
  if (text === undefined || text === "") return fallback;
  const port = Number(text);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) throw new Error(`PORT must be 0–65535, got "${text}"`);
  return port;
}

export function devCommand(): Command {
  return new Command("dev")
    .description(
      "Runs the worker locally: builds it, migrates its database, makes workspace `default`, serves until stopped.",
    )
    .option("--json", "print {url, stateFolder} as one JSON value when healthy")
    .addHelpText("after", HELP)
    .action(async (options: { json?: boolean }) => dev(options.json === true));
}

async function dev(asJson: boolean): Promise<void> {
  const say = (line: string) => process.stderr.write(`${line}\n`);
  const stateFolder = process.env.FORECHAIN_STATE || ".forechain";
  // Installed before anything is started: a signal during the start ends it too.
  const stop = stopOnSignal();
  try {
    const worker = await startLocalWorker({
      port: portOf(process.env.PORT, PORT_DEFAULT),
      stateFolder,
      onProgress: say,
    });
    if (asJson) process.stdout.write(`${JSON.stringify({ url: worker.url, stateFolder })}\n`);
    say(`forechain  ${worker.url}`);
    say(`admin key  in ${join(stateFolder, "dev.json")}`);
    say(`full log   ${join(stateFolder, "worker.log")}`);
    say("Ctrl-C stops it.");
    const ended = await worker.exited;
    throw new Error(`the worker ended with ${ended}: see ${worker.logPath}`);
  } catch (error) {
    // Whatever fails while everything is being ended on request is no failure.
    if (!stop.requested) throw error;
  }
}

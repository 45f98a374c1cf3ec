#!/usr/bin/env node
// `forechain`: one file per sub-command, loaded only when it is the one that was asked for, so that a missing optional
// dependency of one command never breaks another.
//
// Contract for every sub-command: with `--json` exactly one JSON value goes to standard output and everything else to
// standard error; a failure throws, and its message becomes one line here (with `--json`: `{"error": …}`) and exit code 1.
import { existsSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { VERSION } from "../agent/version.ts";
import { messageOf } from "./failure.ts";

interface Entry {
  name: string;
  summary: string;
  /** Runs the worker, which the installed package does not hold. */
  needsCheckout?: true;
  load(): Promise<Command>;
}

const IS_CHECKOUT = existsSync(new URL("../../wrangler.toml", import.meta.url));

const ALL: Entry[] = [
  {
    name: "demo",
    needsCheckout: true,
    summary: "run the whole loop on this machine and compare shadow with active",
    load: async () => (await import("./demo.ts")).demoCommand(),
  },
  {
    name: "dev",
    needsCheckout: true,
    summary: "run the worker locally with its database, a workspace and an admin key",
    load: async () => (await import("./dev.ts")).devCommand(),
  },
  {
    name: "workspace",
    summary: "make a workspace and its first key for a deployed worker",
    load: async () => (await import("./workspace.ts")).workspaceCommand(),
  },
  {
    name: "agent",
    summary: "run the agent of one VM",
    load: async () => (await import("./agent.ts")).agentCommand(),
  },
  {
    name: "evaluate",
    summary: "show how predictable the workflows of an execution log are",
    load: async () => (await import("./evaluate.ts")).evaluateCommand(),
  },
  {
    name: "import",
    summary: "read execution logs and send them to the worker",
    load: async () => (await import("./import.ts")).importCommand(),
  },
  {
    name: "learning",
    summary: "show, export, import, freeze or reset what a workspace has learned",
    load: async () => (await import("./learning.ts")).learningCommand(),
  },
  {
    name: "simulate",
    summary: "show what preparation would have saved on an execution log, beside other policies",
    load: async () => (await import("./simulate.ts")).simulateCommand(),
  },
];

const ENTRIES = ALL.filter(({ needsCheckout }) => IS_CHECKOUT || !needsCheckout);

const EXAMPLES = `
Examples:${
  IS_CHECKOUT
    ? `
  $ forechain demo --once
  $ PORT=8080 forechain dev`
    : ""
}
  $ forechain agent --config agent.yaml
  $ forechain evaluate traces.ndjson.gz --json
  $ forechain help evaluate`;

/** The sub-command that the arguments ask for: the first operand, or the one after `help`. */
function wanted(operands: string[]): Entry | undefined {
  const [first, second] = operands.filter((argument) => !argument.startsWith("-"));
  const name = first === "help" ? second : first;
  return ENTRIES.find((entry) => entry.name === name);
}

async function main(operands: string[]): Promise<void> {
  const program = new Command("forechain")
    .description("Predicts chains of tasks and prepares VMs before the later tasks are called.")
    .addHelpText("after", EXAMPLES)
    .version(VERSION, "--version", "print the version")
    .showHelpAfterError("(forechain --help lists the commands)")
    .exitOverride();
  const asked = wanted(operands);
  for (const entry of ENTRIES) {
    const command = entry === asked ? await entry.load() : new Command(entry.name);
    // The list shows the same one-line summaries whether or not a command's file was loaded.
    program.addCommand(command.summary(entry.summary).exitOverride());
    pointToHelp(command, `forechain ${entry.name}`);
  }
  if (operands.length === 0) program.help();
  await program.parseAsync(operands, { from: "user" });
}

/** A wrong option or a missing argument is told with where the right ones are listed. */
function pointToHelp(command: Command, name: string): void {
  command.showHelpAfterError(`(${name} --help lists what it takes)`);
  for (const below of command.commands) pointToHelp(below, `${name} ${below.name()}`);
}

const operands = process.argv.slice(2);
// A reader that closed the pipe (`forechain … | head`) is no failure of ours.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit(0);
});
try {
  await main(operands);
} catch (error) {
  if (error instanceof CommanderError) {
    // Commander has printed its message or the help already.
    process.exitCode = error.exitCode;
  } else {
    process.stderr.write(`forechain: ${process.env.FORECHAIN_DEBUG ? (error as Error).stack : messageOf(error)}\n`);
    process.exitCode = 1;
  }
  if (process.exitCode !== 0 && operands.includes("--json")) {
    process.stdout.write(`${JSON.stringify({ error: messageOf(error) })}\n`);
  }
}

// `forechain agent --config agent.yaml`: runs one VM's agent until SIGTERM or SIGINT, then stops it in order. A second signal
// ends it at once (runtimes end with it all the same: the reaper sees to that).
import { Command } from "commander";
import { startAgent } from "../agent/agent.ts";
import { type ConfigFault, readConfig } from "../agent/config.ts";
import { counted } from "./progress.ts";

export function agentCommand(): Command {
  return new Command("agent")
    .description("Runs the agent of one VM: cache, runtimes and calls of its tasks, led by its cluster's hub.")
    .requiredOption("--config <file>", "YAML file; see docs/agent.example.yaml")
    .option("--check", "only check the configuration and what it names; make nothing")
    .action(async (options: { config: string; check?: boolean }) => {
      const answer = await readConfig(options.config);
      if (!answer.ok) throw refusal(options.config, answer.faults);
      const faults = await answer.folderFaults(options.check ? "look" : "make");
      if (options.check) faults.push(...(await answer.programFaults()));
      if (faults.length > 0) throw refusal(options.config, faults);
      if (options.check) {
        process.stderr.write(`${options.config}: ${counted(Object.keys(answer.config.tasks).length, "task")}, valid\n`);
        return;
      }
      const agent = await startAgent(answer.config, {
        log: (line) => process.stderr.write(`${new Date().toISOString()} ${line}\n`),
      });
      let asked = false;
      const stop = () => {
        if (asked) process.exit(1);
        asked = true;
        agent.stop();
      };
      process.on("SIGTERM", stop).on("SIGINT", stop);
      // Exit code 3 tells a supervisor that restarting is of no use: another agent has this VM's name.
      process.exit((await agent.stopped) === "superseded" ? 3 : 0);
    });
}

function refusal(file: string, faults: ConfigFault[]): Error {
  const lines = faults.map(({ line, field, detail }) => {
    const place = line > 0 ? `${file}:${line}` : file;
    return `${place}: ${field === "" ? "" : `${field}: `}${detail}`;
  });
  return new Error(`the agent has no valid configuration\n${lines.join("\n")}`);
}

// The programs that tasks name. In: a task of driver `process`, its folder resolved. Out: what of it is not on this machine, and in which
// field. Looked at where somebody asks for a check: an agent that runs tells it with each start that fails.
import { access, constants, stat } from "node:fs/promises";
import { delimiter, resolve } from "node:path";
import type { TaskConfig } from "./config.ts";

interface ProgramFault {
  field: "command" | "cwd";
  detail: string;
}

/** Null where it can be started as far as can be seen: what an unpacked `code` holds is not known before. */
export async function programFault(task: TaskConfig, path: string | undefined): Promise<ProgramFault | null> {
  if (task.driver !== "process" || task.code !== undefined) return null;
  const folder = await stat(task.cwd!).catch(() => null);
  if (!folder?.isDirectory()) return { field: "cwd", detail: `there is no folder ${task.cwd}` };
  const [program] = task.command;
  if (program!.includes("/")) {
    const file = resolve(task.cwd!, program!);
    return (await isProgram(file)) ? null : { field: "command", detail: `${file} is no program that can be run` };
  }
  // A program is looked for where its own environment says, if it does.
  for (const below of (task.env.PATH ?? path ?? "").split(delimiter)) {
    if (await isProgram(resolve(task.cwd!, below, program!))) return null;
  }
  return { field: "command", detail: `${program} is not found on PATH` };
}

async function isProgram(file: string): Promise<boolean> {
  try {
    await access(file, constants.X_OK);
    return (await stat(file)).isFile();
  } catch {
    return false;
  }
}

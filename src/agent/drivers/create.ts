// One driver per task of the configuration.
import type { TaskConfig } from "../config.ts";
import type { Containers } from "../containers.ts";
import type { Reaper } from "../reaper.ts";
import { containerDriver } from "./container.ts";
import type { Driver } from "./driver.ts";
import { httpDriver } from "./http.ts";
import { processDriver } from "./process.ts";

/** `containers` is there where a task has that driver. */
export function createDrivers(
  tasks: Record<string, TaskConfig>,
  containers: Containers | null,
  reaper: Reaper,
  log: (line: string) => void,
): Map<string, Driver> {
  const made = Object.entries(tasks).map(([name, task]): [string, Driver] => {
    return [name, driverOf(task, containers, reaper, (line) => log(`[${name}] ${line}`))];
  });
  return new Map(made);
}

function driverOf(
  task: TaskConfig,
  containers: Containers | null,
  reaper: Reaper,
  log: (line: string) => void,
): Driver {
  switch (task.driver) {
    case "process":
      return processDriver(task, reaper, log);
    case "container":
      return containerDriver(task, containers!, reaper);
    case "http":
      return httpDriver(task);
  }
}

// One driver per task of the configuration.
import type { TaskConfig } from "../config.ts";
import type { Reaper } from "../reaper.ts";
import type { Driver } from "./driver.ts";
import { processDriver } from "./process.ts";

export function createDrivers(tasks: Record<string, TaskConfig>, reaper: Reaper): Map<string, Driver> {
  return new Map(Object.entries(tasks).map(([name, task]) => [name, driverOf(task, reaper)]));
}

function driverOf(task: TaskConfig, reaper: Reaper): Driver {
  switch (task.driver) {
    case "process":
      return processDriver(task, reaper);
  }
}

// What an agent hears when it has told of itself: the hub's clock, its pace, and what stands for its tasks.
import { normaliseTaskName } from "../../core/records.ts";
import { type Heartbeat, type HeartbeatAnswer, TaskDeclaration } from "../../protocol.ts";
import type { Holds } from "./holds.ts";
import type { HubConfig } from "./messages.ts";

const TIMEOUT_MS_DEFAULT = TaskDeclaration.parse({}).timeoutMs;

/** Tasks of which there is nothing to say are left out: the agent's own configuration stands. */
export function answerOf(
  vm: string,
  heartbeat: Heartbeat,
  config: HubConfig | null,
  holds: Holds,
  nextHeartbeatMs: number,
  nowMs: number,
): Omit<HeartbeatAnswer, "invokeKey"> {
  const tasks: HeartbeatAnswer["tasks"] = {};
  for (const { task } of heartbeat.tasks) {
    const declaration = config?.tasks[normaliseTaskName(task)];
    const keepAliveMs = holds.keepAliveMs(task, declaration, config);
    if (declaration === undefined && keepAliveMs === null) continue;
    tasks[task] = { keepAliveMs, timeoutMs: declaration?.timeoutMs ?? TIMEOUT_MS_DEFAULT };
  }
  const draining = (config?.draining ?? false) || (config?.vms[vm]?.draining ?? false);
  return { nowMs, nextHeartbeatMs, draining, tasks, services: config?.services ?? [] };
}

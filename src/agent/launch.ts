// Brings one runtime's program up. In: the runtime, its task's driver and code. Out: it answers, or why it does not.
import type { TaskConfig } from "./config.ts";
import type { Driver } from "./drivers/driver.ts";
import { answersReady } from "./drivers/ready.ts";
import { portForProgram } from "./ports.ts";
import { failure, type Runtime, type StartFailure } from "./runtime.ts";

/** Another try with another port: the free port that was found may be taken in between. */
const PORT_TRIES_MAX = 3;

export interface LaunchOptions {
  tasks: Record<string, TaskConfig>;
  drivers: Map<string, Driver>;
  /** URL of /objects for the tasks. */
  objectsUrl: () => string;
  /** Unpacks the task's code; `folder` null where it has none. Its failure is the start's failure. */
  unpackCode: (runtime: Runtime) => Promise<{ ok: true; folder: string | null } | { ok: false; detail: string }>;
  nowMs: () => number;
}

export async function launch(
  runtime: Runtime,
  { tasks, drivers, objectsUrl, unpackCode, nowMs }: LaunchOptions,
  /** `isWanted` false: it was ended meanwhile. `onGone`: after it was ready. */
  { isWanted, onGone }: { isWanted: () => boolean; onGone: () => void },
): Promise<StartFailure | { ok: true }> {
  const code = await unpackCode(runtime);
  if (!code.ok) return failure("start_failed", code.detail);
  const { startTimeoutMs, readyPath } = tasks[runtime.task]!;
  const deadlineMs = nowMs() + startTimeoutMs;
  for (let attempt = 1; ; attempt++) {
    const port = await portForProgram();
    const env = { PORT: String(port), FORECHAIN_OBJECTS: objectsUrl(), FORECHAIN_TOKEN: runtime.token };
    if (!isWanted()) return failure("stopped", "ended while it was being started");
    const { runtimeId } = runtime;
    const ahead = !runtime.claimed;
    const started = await drivers.get(runtime.task)!.start({ runtimeId, env, port, codeFolder: code.folder, ahead });
    runtime.started = started;
    // Claimed while it was being spawned: the claim found nothing to hurry.
    if (ahead && runtime.claimed) started.hurry?.();
    // It may have been ended while the driver was at work, and then there was nothing to stop.
    if (!isWanted()) await started.stop();
    const answer = await answersReady(started, readyPath, deadlineMs - nowMs());
    // Somebody else may have taken the port while the program was loading, and answers in its stead.
    const isOthers = answer.ok && started.ownsPort?.() === false;
    if (answer.ok && !isOthers) {
      if (ahead) started.hurry?.();
      void started.exited.then(onGone);
      return { ok: true };
    }
    await started.stop();
    const detail = answer.ok ? `another process listens on its port ${port}` : answer.detail;
    const isTaken = isOthers || detail.includes("EADDRINUSE");
    if (!isTaken || attempt === PORT_TRIES_MAX) return failure("start_failed", detail);
  }
}

// Driver `process`: a program of the configuration, in a process group of its own. In: command line, environment with PORT.
// Out: a Started. The group is ended as a whole, so that what the program has started ends with it.
import { spawn } from "node:child_process";
import type { TaskConfig } from "../config.ts";
import { listensOn } from "../ports.ts";
import type { Reaper } from "../reaper.ts";
import type { Driver, Started, StartOptions } from "./driver.ts";
import { canStepBack, comeForward, stepBack } from "./priority.ts";
import { groupLives, resetTreePeak, treeUsage } from "./proc.ts";

/** From SIGTERM to SIGKILL. */
const STOP_GRACE_MS = 2_000;
/** Of standard output and error, kept for the message of a failed start. */
const LAST_LINES_CHARS_MAX = 800;
/** Of one line of a program's log. */
const LINE_CHARS_MAX = 4_096;
/** For the rest of a dead program's output. */
const OUTPUT_LINGER_MS = 200;
/** Between looks at whether the last member of a group is gone: the kernel tells nobody. */
const GROUP_POLL_MS = 20;
/** Between looks at what a task with a limit uses: some 50 µs a process each. */
const MEMORY_LOOK_MS = 250;
/** The agent's own environment holds its key: a task gets these of it and no more. */
const INHERITED_VARIABLES = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER"];

/** `log` receives each line that the program writes. */
export function processDriver(
  task: TaskConfig & { driver: "process" },
  reaper: Reaper,
  log: (line: string) => void,
): Driver {
  return {
    async start(options: StartOptions): Promise<Started> {
      const [program, ...operands] = task.command;
      const child = spawn(program!, operands, {
        cwd: task.cwd ?? options.codeFolder ?? undefined,
        env: environmentOf(task, options),
        detached: true,
        stdio: ["ignore", "pipe", "pipe"],
      });
      let lastLines = "";
      const keep = (chunk: string) => {
        lastLines = (lastLines + chunk).slice(-LAST_LINES_CHARS_MAX);
      };
      for (const output of [child.stdout, child.stderr]) {
        output.setEncoding("utf8").on("data", keep).on("data", lineByLine(log));
      }
      const exited = new Promise<{ code: number | string | null; lastLines: string }>((resolve) => {
        child.once("error", (error) => resolve({ code: "not started", lastLines: error.message }));
        child.once("exit", (code, signal) => {
          // `close` comes when its output is read to the end; a child that holds the pipe open may delay it for ever.
          const settle = () => resolve({ code: code ?? signal, lastLines: lastLines.trim() });
          child.once("close", settle);
          setTimeout(settle, OUTPUT_LINGER_MS).unref();
        });
      });
      const groupId = child.pid;
      let isBehind = options.ahead === true && groupId !== undefined && canStepBack();
      if (isBehind) stepBack(groupId!);
      let endedFor: string | null = null;
      if (groupId !== undefined) {
        reaper.watch(groupId);
        const { memoryLimitBytes } = task;
        if (memoryLimitBytes !== undefined) {
          const ended = watchMemory(groupId, memoryLimitBytes, (usedBytes) => {
            endedFor = `it used ${mib(usedBytes)}, its limit is ${mib(memoryLimitBytes)}`;
            keep(`\n${endedFor}\n`);
            log(`ended: ${endedFor}`);
          });
          void exited.then(ended);
        }
        // The leader may die before its children: what is left of the group goes too.
        void exited.then(() => endGroup(groupId)).then(() => reaper.forget(groupId));
      }
      return {
        secure: false,
        host: "127.0.0.1",
        port: options.port,
        basePath: "",
        ownsPort: () => (groupId === undefined ? null : listensOn(groupId, options.port)),
        exited,
        usage: () => (groupId === undefined ? null : treeUsage(groupId)),
        resetPeak: () => {
          if (groupId !== undefined) resetTreePeak(groupId);
        },
        endedFor: () => endedFor,
        hurry: () => {
          if (isBehind) comeForward(groupId!);
          isBehind = false;
        },
        stop: async () => {
          if (groupId !== undefined) await endGroup(groupId);
          await exited;
        },
      };
    },
  };
}

function environmentOf(task: TaskConfig & { driver: "process" }, { env, codeFolder }: StartOptions): NodeJS.ProcessEnv {
  const inherited = INHERITED_VARIABLES.flatMap((name) =>
    process.env[name] === undefined ? [] : [[name, process.env[name]]],
  );
  const code = codeFolder === null ? {} : { FORECHAIN_CODE: codeFolder };
  return { ...Object.fromEntries(inherited), ...task.env, ...env, ...code };
}

/**
 * Kills the group once its resident memory is beyond the limit. A process that grows faster than it is looked at gets further; a hard
 * limit is the kernel's to hold: a container's, or `MemoryMax=` of the agent's own unit. Returns how to stop looking.
 */
function watchMemory(groupId: number, limitBytes: number, onBeyond: (usedBytes: number) => void): () => void {
  const timer = setInterval(() => {
    const usedBytes = treeUsage(groupId)?.memoryBytes ?? 0;
    if (usedBytes <= limitBytes) return;
    clearInterval(timer);
    onBeyond(usedBytes);
    signalGroup(groupId, "SIGKILL");
  }, MEMORY_LOOK_MS);
  return () => clearInterval(timer);
}

function mib(bytes: number): string {
  return `${Math.ceil(bytes / 2 ** 20)} MiB`;
}

/** Text in pieces → whole lines; one without end is cut, so that it cannot fill the memory. */
function lineByLine(log: (line: string) => void): (piece: string) => void {
  let rest = "";
  return (piece) => {
    const lines = (rest + piece).split("\n");
    rest = lines.pop() ?? "";
    if (rest.length > LINE_CHARS_MAX) {
      lines.push(rest);
      rest = "";
    }
    for (const line of lines) log(line.slice(0, LINE_CHARS_MAX));
  };
}

async function endGroup(groupId: number): Promise<void> {
  if (!signalGroup(groupId, "SIGTERM")) return;
  const untilMs = performance.now() + STOP_GRACE_MS;
  while (performance.now() < untilMs) {
    await new Promise((resolve) => setTimeout(resolve, GROUP_POLL_MS));
    if (!groupLives(groupId)) return;
  }
  signalGroup(groupId, "SIGKILL");
}

function signalGroup(groupId: number, signal: NodeJS.Signals): boolean {
  try {
    process.kill(-groupId, signal);
    return true;
  } catch {
    return false;
  }
}

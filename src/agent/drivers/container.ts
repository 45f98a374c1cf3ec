// Driver `container`: an image of the configuration, run by the VM's engine. In: image, command, environment with PORT. Out: a Started.
// The port is published on loopback, or, with `network: host`, listened on by the container itself. Its processes are the
// host's too, so that CPU and memory are read where those of the driver `process` are.
import type { Container, ContainerCreateOptions } from "dockerode";
import type { TaskConfig } from "../config.ts";
import { type Containers, type Gateway, imageUri, OWNER_LABEL } from "../containers.ts";
import type { Reaper } from "../reaper.ts";
import { delay } from "../transfer.ts";
import type { Driver, Started, StartOptions } from "./driver.ts";
import { isRunning, resetTreePeak, treeUsage } from "./proc.ts";

/** From SIGTERM to SIGKILL, by the engine. */
const STOP_GRACE_SECONDS = 2;
const STOP_MS_MAX = 15_000;
/** What a container with a network of its own listens on. */
const INNER_PORT = 8080;
const LOG_LINES = 10;
/** Between two looks at a container's first process, and how long its engine may take to tell of the end. */
const LOOK_MS = 1_000;
const ENGINE_ANSWER_MS = 2_000;
const LAST_LINES_CHARS_MAX = 800;

export function containerDriver(
  task: TaskConfig & { driver: "container" },
  containers: Containers,
  reaper: Reaper,
): Driver {
  return {
    async start(options: StartOptions): Promise<Started> {
      const image = await containers.load(imageUri(task.image), { by: "task", configured: true });
      if (!image.ok) return notStarted(`image ${task.image}: ${image.reason}: ${image.detail}`);
      try {
        const gateway = task.network === "host" ? null : await containers.gateway();
        const container = await containers.engine.createContainer(creation(task, options, containers.owner, gateway));
        await container.start();
        const { State } = await container.inspect();
        // Of an engine elsewhere, or seen from inside a container, it is nobody's number here.
        const leaderId = isRunning(State.Pid) ? State.Pid : 0;
        if (leaderId > 0) reaper.watch(leaderId);
        const exited = ended(container, leaderId).then(async (code) => {
          const logs = await container
            .logs({ stdout: true, stderr: true, tail: LOG_LINES })
            .catch(() => Buffer.alloc(0));
          // What cannot be removed now is removed when the next agent of this VM starts.
          await container.remove({ force: true }).catch(() => {});
          if (leaderId > 0) reaper.forget(leaderId);
          return { code, lastLines: plainLog(logs) };
        });
        return {
          secure: false,
          host: "127.0.0.1",
          port: options.port,
          basePath: "",
          exited,
          usage: () => (leaderId > 0 ? treeUsage(leaderId) : null),
          resetPeak: () => {
            if (leaderId > 0) resetTreePeak(leaderId);
          },
          stop: async () => {
            await container.stop({ t: STOP_GRACE_SECONDS }).catch((error: unknown) => {
              // An engine that is away, or fails, ends nothing; its containers' processes are this machine's.
              if (!isGone(error) && leaderId > 0) killGroup(leaderId);
            });
            // One elsewhere may never tell of the end.
            await Promise.race([exited, delay(STOP_MS_MAX)]);
          },
        };
      } catch (error) {
        if (!(error instanceof Error)) throw error;
        return notStarted(error.message);
      }
    },
  };
}

/** Its exit code. An engine that goes away may never answer who waits for one: what is seen of the first process counts then. */
async function ended(container: Container, leaderId: number): Promise<number | string> {
  const told = container.wait().then(
    ({ StatusCode }: { StatusCode: number }) => StatusCode,
    // Of an engine elsewhere nothing can be seen.
    () => (leaderId > 0 ? untilGone(leaderId) : "lost"),
  );
  if (leaderId <= 0) return told;
  const over = new AbortController();
  const seen = untilGone(leaderId, over.signal).then(async (how) => {
    await delay(ENGINE_ANSWER_MS, over.signal);
    return how;
  });
  return Promise.race([told, seen]).finally(() => over.abort());
}

async function untilGone(leaderId: number, signal?: AbortSignal): Promise<"lost"> {
  while (!signal?.aborted && isRunning(leaderId)) await delay(LOOK_MS, signal);
  return "lost";
}

/** The first process of a container leads its group; the kernel ends the others with it. */
function killGroup(leaderId: number): void {
  try {
    process.kill(-leaderId, "SIGKILL");
  } catch {
    // It has just ended.
  }
}

function creation(
  task: TaskConfig & { driver: "container" },
  { runtimeId, env, port }: StartOptions,
  owner: string,
  /** Null: the network is the host's. */
  gateway: Gateway | null,
): ContainerCreateOptions {
  const { FORECHAIN_OBJECTS: objectsUrl = "" } = env;
  const objects = gateway === null ? objectsUrl : objectsUrl.replace("127.0.0.1", gateway.name);
  const innerPort = gateway === null ? port : INNER_PORT;
  const all = { ...task.env, ...env, PORT: String(innerPort), FORECHAIN_OBJECTS: objects };
  return {
    name: `forechain-${runtimeId}`,
    Image: imageUri(task.image).slice("oci://".length),
    ...(task.command === undefined ? {} : { Cmd: task.command }),
    Env: Object.entries(all).map(([name, value]) => `${name}=${value}`),
    Labels: { [OWNER_LABEL]: owner },
    ...(gateway === null ? {} : { ExposedPorts: { [`${INNER_PORT}/tcp`]: {} } }),
    HostConfig: {
      NetworkMode: task.network,
      SecurityOpt: ["no-new-privileges"],
      ...(task.memoryLimitBytes === undefined ? {} : { Memory: task.memoryLimitBytes }),
      ...(gateway === null
        ? {}
        : {
            PortBindings: { [`${INNER_PORT}/tcp`]: [{ HostIp: "127.0.0.1", HostPort: String(port) }] },
            ExtraHosts: gateway.extraHosts,
          }),
    },
  };
}

/** As a program that ended at once: the pool reads the reason where it reads a crash's. */
function notStarted(detail: string): Started {
  return {
    secure: false,
    host: "127.0.0.1",
    port: 0,
    basePath: "",
    exited: Promise.resolve({ code: "not started", lastLines: detail.slice(0, LAST_LINES_CHARS_MAX) }),
    usage: () => null,
    resetPeak: () => {},
    stop: () => Promise.resolve(),
  };
}

/** Ended or removed by somebody else: what was wanted. */
function isGone(error: unknown): boolean {
  const { statusCode } = error as { statusCode?: number };
  return statusCode === 304 || statusCode === 404 || statusCode === 409;
}

/** Without a terminal the engine frames its log: 8 bytes before each piece (stream, 0, 0, 0, length). */
function plainLog(log: Buffer): string {
  let text = "";
  for (let at = 0; at + 8 <= log.length; ) {
    const length = log.readUInt32BE(at + 4);
    text += log.subarray(at + 8, at + 8 + length).toString("utf8");
    at += 8 + length;
  }
  return text.trim().slice(-LAST_LINES_CHARS_MAX);
}

// Driver `container`: an image of the configuration, run by the VM's engine. In: image, command, environment with PORT. Out: a Started.
// The port is published on loopback, or, with `network: host`, listened on by the container itself. Its processes are the
// host's too, so that CPU and memory are read where those of the driver `process` are.
import type { ContainerCreateOptions } from "dockerode";
import type { TaskConfig } from "../config.ts";
import { type Containers, type Gateway, imageUri, OWNER_LABEL } from "../containers.ts";
import type { Reaper } from "../reaper.ts";
import type { Driver, Started, StartOptions } from "./driver.ts";
import { resetTreePeak, treeUsage } from "./proc.ts";

/** From SIGTERM to SIGKILL, by the engine. */
const STOP_GRACE_SECONDS = 2;
/** What a container with a network of its own listens on. */
const INNER_PORT = 8080;
const LOG_LINES = 10;
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
        const leaderId = State.Pid;
        if (leaderId > 0) reaper.watch(leaderId);
        const exited = container.wait().then(async ({ StatusCode }: { StatusCode: number }) => {
          const logs = await container
            .logs({ stdout: true, stderr: true, tail: LOG_LINES })
            .catch(() => Buffer.alloc(0));
          await container.remove({ force: true }).catch(ignoreGone);
          if (leaderId > 0) reaper.forget(leaderId);
          return { code: StatusCode, lastLines: plainLog(logs) };
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
            await container.stop({ t: STOP_GRACE_SECONDS }).catch(ignoreGone);
            await exited;
          },
        };
      } catch (error) {
        if (!(error instanceof Error)) throw error;
        return notStarted(error.message);
      }
    },
  };
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
function ignoreGone(error: unknown): void {
  const { statusCode } = error as { statusCode?: number };
  if (statusCode !== 304 && statusCode !== 404 && statusCode !== 409) throw error;
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

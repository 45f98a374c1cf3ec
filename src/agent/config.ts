// The agent's configuration: YAML text in, a checked AgentConfig out, or every fault with its line.
// YAML keeps the position of each node, so that a fault that zod finds by path is told by line.
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { isNode, LineCounter, parseDocument } from "yaml";
import { z } from "zod";
import { PlaceName, TaskName, Uri, Version, VmUrl } from "../protocol.ts";
import { folderFault, isBelow, unmadeFolderFault } from "./folders.ts";
import { programFault } from "./programs.ts";

const UNIT_BYTES: Record<string, number> = { "": 1, B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 };

/** A number of bytes, or text such as `20 GiB`. */
const Size = z.union([z.number().nonnegative(), z.string()]).transform((value, context) => {
  if (typeof value === "number") return Math.floor(value);
  const match = /^(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB|)$/.exec(value.trim());
  if (match !== null) return Math.floor(Number(match[1]) * UNIT_BYTES[match[2]!]!);
  context.addIssue({ code: "custom", message: "expected bytes, as a number or such as `20 GiB`" });
  return z.NEVER;
});

const HostPattern = z
  .string()
  .max(260)
  .regex(/^(\*\.)?[A-Za-z0-9._\-[\]:]+$/, "expected `host`, `host:port` or `*.suffix`");

const common = {
  version: Version.optional(),
  /** Objects that a runtime needs to start: loaded while it starts, which is ready only when they are there. */
  objects: z.array(Uri).max(64).default([]),
  /** How long an idle runtime is held after a call; what the operator declares for the task goes before it. */
  keepAliveMs: z.number().nonnegative().max(86_400_000).default(60_000),
  maxInstances: z.number().int().min(1).max(256).default(8),
  memoryBytes: Size.optional(),
  startTimeoutMs: z.number().positive().max(600_000).default(60_000),
  readyPath: z.string().startsWith("/").max(512).default("/healthz"),
};

const ProcessTask = z.strictObject({
  ...common,
  driver: z.literal("process"),
  command: z.array(z.string().min(1)).min(1).max(256),
  cwd: z.string().optional(),
  /** URI of a tar archive, plain or gzip: unpacked once, and the program's working folder unless `cwd` says otherwise. */
  code: Uri.optional(),
  env: z.record(z.string(), z.string()).default({}),
  /** Resident memory of all its processes; looked at four times a second (drivers/process.ts). */
  memoryLimitBytes: Size.optional(),
});

const ContainerTask = z.strictObject({
  ...common,
  driver: z.literal("container"),
  /** `registry/repository:tag` or `…@sha256:…`. */
  image: z.string().min(1).max(512),
  command: z.array(z.string()).max(256).optional(),
  env: z.record(z.string(), z.string()).default({}),
  /** `bridge`: a network of its own, its port 8080 published on loopback; it then reaches /objects only if the agent listens on 0.0.0.0. */
  network: z.enum(["bridge", "host"]).default("bridge"),
  memoryLimitBytes: Size.optional(),
});

const HttpTask = z.strictObject({
  ...common,
  driver: z.literal("http"),
  /** What is called; a call's own path is added to it. */
  endpoint: VmUrl,
  /** Asked again so often while it is to be kept warm. */
  pingEveryMs: z.number().min(1_000).max(3_600_000).optional(),
});

export const TaskConfig = z.preprocess(
  (value) =>
    typeof value === "object" && value !== null && !("driver" in value) ? { ...value, driver: "process" } : value,
  z.discriminatedUnion("driver", [ProcessTask, ContainerTask, HttpTask]),
);
export type TaskConfig = z.infer<typeof TaskConfig>;

const OBJECT_SCHEMES = ["https", "http", "file", "s3", "oci"] as const;

const S3Config = z.strictObject({
  region: z.string().min(1).default("us-east-1"),
  /** Of what speaks S3's protocol elsewhere. */
  endpoint: VmUrl.optional(),
  /** `https://endpoint/bucket/key`, where buckets are no hosts of their own. */
  forcePathStyle: z.boolean().default(false),
  buckets: z.array(z.string().min(1).max(255)).max(1000).default([]),
});

const ObjectsConfig = z.strictObject({
  schemes: z.array(z.enum(OBJECT_SCHEMES)).default(["https"]),
  hosts: z.array(HostPattern).max(1000).default([]),
  fileRoots: z.array(z.string().startsWith("/", "expected an absolute path")).max(64).default([]),
  /**
   * Start of a URI → where this VM finds it: an object keeps one name everywhere, each place has its own way to it.
   * The slash at its end keeps `https://store.example.net` from standing for `https://store.example.network`.
   */
  mirrors: z.record(z.url().endsWith("/"), z.url().endsWith("/")).default({}),
  s3: S3Config.optional(),
  stallMs: z.number().positive().max(600_000).default(15_000),
  prefetchBytesPerSecond: Size.optional(),
  prefetchConcurrency: z.number().int().min(1).max(64).default(4),
});
export type ObjectsConfig = z.infer<typeof ObjectsConfig>;

const Listen = z.strictObject({
  host: z.string().min(1).default("127.0.0.1"),
  port: z.number().int().min(0).max(65_535).default(8700),
});

const ProbesConfig = z.strictObject({
  everyMs: z.number().min(100).max(86_400_000).default(30_000),
  hosts: z.array(HostPattern).max(256).default([]),
});

const AgentFields = z.strictObject({
  url: VmUrl,
  key: z.string().min(1).optional(),
  keyFile: z.string().min(1).optional(),
  cluster: PlaceName,
  vm: PlaceName,
  listen: Listen.default(Listen.parse({})),
  announceUrl: z.union([z.literal("auto"), VmUrl]).optional(),
  stateFolder: z.string().min(1),
  cache: z.strictObject({
    folder: z.string().min(1),
    maxBytes: Size,
    diskFreeBytesMin: Size.default(64 * 2 ** 20),
    /** What bodies of unknown length may throw out, all together. */
    unknownLengthBytesMax: Size.optional(),
  }),
  objects: ObjectsConfig.refine((objects) => !objects.schemes.includes("s3") || objects.s3 !== undefined, {
    message: "scheme s3 needs a section `s3` with its buckets",
    path: ["schemes"],
  }).default(ObjectsConfig.parse({})),
  capacity: z
    .strictObject({
      cpuCores: z.number().positive().max(4096).optional(),
      memoryBytes: Size.optional(),
      diskBytes: Size.optional(),
    })
    .default({}),
  /** The engine of tasks with driver `container` and of `oci:` objects. */
  containers: z.strictObject({ socketPath: z.string().startsWith("/") }).optional(),
  /** Commands by WebSocket; long-polls only where one cannot be opened, or with `false`. */
  socket: z.boolean().default(true),
  /** Of the services that the operator declared with a probe URL. `hosts`: loopback addresses among them. */
  probes: ProbesConfig.default(ProbesConfig.parse({})),
  warmConcurrency: z.number().int().min(1).max(256).optional(),
  stopGraceMs: z.number().nonnegative().max(3_600_000).default(30_000),
  tasks: z.record(TaskName, TaskConfig).default({}),
});
const EVERY_ADDRESS = ["0.0.0.0", "::"];

export const AgentConfig = AgentFields.superRefine((config, context) => {
  const fault = (path: PropertyKey[], message: string) => context.addIssue({ code: "custom", message, path });
  if (config.announceUrl === "auto" && EVERY_ADDRESS.includes(config.listen.host)) {
    fault(["announceUrl"], `nobody reaches ${config.listen.host}: name the URL, or a host to listen on`);
  }
  if (config.containers !== undefined) return;
  const message = "needs a section `containers` with the engine's socketPath";
  for (const [name, task] of Object.entries(config.tasks)) {
    if (task.driver === "container") fault(["tasks", name, "driver"], message);
  }
  if (config.objects.schemes.includes("oci")) fault(["objects", "schemes"], message);
});
export type AgentConfig = z.infer<typeof AgentConfig> & { key: string };

export interface ConfigFault {
  /** 1-based; 0 where the fault has no line (an unreadable file). */
  line: number;
  /** Where in the document: `tasks.thumbnail.command`. */
  field: string;
  detail: string;
}

interface ConfigRefusal {
  ok: false;
  reason: "invalid_config";
  faults: ConfigFault[];
}

type ConfigAnswer =
  | {
      ok: true;
      config: AgentConfig;
      /** Of folders that cannot be written to. `make`: they are made, as an agent does that starts; `look`: nothing is. */
      folderFaults: (how: "make" | "look") => Promise<ConfigFault[]>;
      /** Of tasks whose program or folder is not on this machine. */
      programFaults: () => Promise<ConfigFault[]>;
    }
  | ConfigRefusal;

/** Relative folders and files are taken from `baseFolder`; `environment` may hold FORECHAIN_KEY. */
export async function parseConfig(
  text: string,
  baseFolder: string,
  environment: Record<string, string | undefined>,
): Promise<ConfigAnswer> {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  if (document.errors.length > 0) {
    const faults = document.errors.map((error) => ({
      line: lines.linePos(error.pos[0]).line,
      field: "",
      detail: error.message,
    }));
    return { ok: false, reason: "invalid_config", faults };
  }
  const parsed = AgentConfig.safeParse(document.toJS());
  if (!parsed.success) {
    const faults = parsed.error.issues.flatMap((issue) => {
      const paths = issue.code === "unrecognized_keys" ? issue.keys.map((key) => [...issue.path, key]) : [issue.path];
      return paths.map((path) => ({
        line: lineOf(document, lines, path),
        field: path.map(String).join("."),
        detail: issue.code === "unrecognized_keys" ? "unknown field" : issue.message,
      }));
    });
    faults.sort((a, b) => a.line - b.line);
    return { ok: false, reason: "invalid_config", faults };
  }
  const found = await findKey(parsed.data, baseFolder, environment);
  if (!found.ok) {
    const path = parsed.data.keyFile === undefined ? ["url"] : ["keyFile"];
    const fault = { line: lineOf(document, lines, path), field: path[0]!, detail: found.detail };
    return { ok: false, reason: "invalid_config", faults: [fault] };
  }
  const { cache, stateFolder, tasks } = parsed.data;
  const config = {
    ...parsed.data,
    key: found.key,
    stateFolder: resolve(baseFolder, stateFolder),
    cache: { ...cache, folder: resolve(baseFolder, cache.folder) },
    tasks: Object.fromEntries(Object.entries(tasks).map(([name, task]) => [name, withFolder(task, baseFolder)])),
  };
  const faultAt = (path: string[], detail: string) => ({
    line: lineOf(document, lines, path),
    field: path.join("."),
    detail,
  });
  // What lies in the cache's folder and is none of its own goes when the agent starts.
  const { folder } = config.cache;
  const root = config.objects.fileRoots.find((root) => resolve(root) === folder || isBelow(resolve(root), folder));
  if (root !== undefined) {
    const detail = `${folder} holds the file root ${root}, whose files the cache would remove`;
    return { ok: false, reason: "invalid_config", faults: [faultAt(["cache", "folder"], detail)] };
  }
  return {
    ok: true,
    config,
    folderFaults: (how) => folderFaultsOf(config, faultAt, how),
    programFaults: () => programFaultsOf(config, faultAt, environment.PATH),
  };
}

type FaultAt = (path: string[], detail: string) => ConfigFault;

async function folderFaultsOf(
  { stateFolder, cache }: AgentConfig,
  faultAt: FaultAt,
  how: "make" | "look",
): Promise<ConfigFault[]> {
  const folders: [string[], string][] = [
    [["stateFolder"], stateFolder],
    [["cache", "folder"], cache.folder],
  ];
  const details = await Promise.all(
    folders.map(([, path]) => (how === "make" ? folderFault(path) : unmadeFolderFault(path))),
  );
  return folders.flatMap(([path], index) => (details[index] ? [faultAt(path, details[index])] : []));
}

async function programFaultsOf(
  { tasks }: AgentConfig,
  faultAt: FaultAt,
  path: string | undefined,
): Promise<ConfigFault[]> {
  const found = await Promise.all(
    Object.entries(tasks).map(async ([name, task]) => {
      const fault = await programFault(task, path);
      return fault === null ? [] : [faultAt(["tasks", name, fault.field], fault.detail)];
    }),
  );
  return found.flat();
}

/** Reads and checks a file; errors of reading it come back as a fault without a line. */
export async function readConfig(path: string): Promise<ConfigAnswer> {
  try {
    return await parseConfig(await readFile(path, "utf8"), resolve(path, ".."), process.env);
  } catch (error) {
    if (!(error instanceof Error && "code" in error)) throw error;
    const detail = error.code === "ENOENT" ? "there is no such file" : error.message;
    return { ok: false, reason: "invalid_config", faults: [{ line: 0, field: "", detail }] };
  }
}

function withFolder(task: TaskConfig, baseFolder: string): TaskConfig {
  if (task.driver !== "process") return task;
  if (task.cwd === undefined && task.code !== undefined) return task;
  return { ...task, cwd: resolve(baseFolder, task.cwd ?? ".") };
}

async function findKey(
  config: { key?: string | undefined; keyFile?: string | undefined },
  baseFolder: string,
  environment: Record<string, string | undefined>,
): Promise<{ ok: true; key: string } | { ok: false; detail: string }> {
  if (config.key !== undefined) return { ok: true, key: config.key };
  if (config.keyFile !== undefined) {
    try {
      const key = (await readFile(resolve(baseFolder, config.keyFile), "utf8")).trim();
      return key === "" ? { ok: false, detail: "the key file is empty" } : { ok: true, key };
    } catch (error) {
      if (!(error instanceof Error && "code" in error)) throw error;
      return { ok: false, detail: `cannot read the key file: ${error.message}` };
    }
  }
  const key = environment.FORECHAIN_KEY;
  return key ? { ok: true, key } : { ok: false, detail: "no key: give `key`, `keyFile` or FORECHAIN_KEY" };
}

/** Line of the deepest node on `path` that the document has: a missing field is told at its parent. */
function lineOf(document: ReturnType<typeof parseDocument>, lines: LineCounter, path: readonly PropertyKey[]): number {
  for (let depth = path.length; depth >= 0; depth--) {
    const node = depth === 0 ? document.contents : document.getIn(path.slice(0, depth), true);
    if (isNode(node) && node.range) return lines.linePos(node.range[0]).line;
  }
  return 1;
}

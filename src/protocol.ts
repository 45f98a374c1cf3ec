// Every message that crosses a machine, as zod schemas: validation, static types and OpenAPI come from here.
// Units are in the names: ...Ms are milliseconds (instants are since the epoch), ...Bytes are bytes, probabilities 0–1.
// Control calls are strict objects (an unknown field is refused); executions ignore unknown fields, which the caller counts.
import { z } from "zod";

// ── Names and scalars ────────────────────────────────────────────────────────────────────────────────────────────────

/** Task names are somebody's text: any script, no control characters. */
export const TaskName = z
  .string()
  .min(1)
  .max(256)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: refusing control characters is the point
  .regex(/^[^\u0000-\u001f\u007f]+$/, "must not contain control characters");
/** Names that the operator chooses for clusters, VMs, services: they become path segments and Durable Object names. */
export const PlaceName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, "must be 1–63 letters, digits, dots, dashes or underscores");
export const Id = z.string().min(1).max(128);
export const Uri = z.string().min(1).max(2048);
export const Version = z.string().min(1).max(128);
export const Probability = z.number().min(0).max(1);
export const DurationMs = z.number().nonnegative();
export const InstantMs = z.number().nonnegative();
export const Bytes = z.number().int().nonnegative();
export const Scalar = z.union([z.string().max(512), z.number(), z.boolean()]);
/** Request parameters by name: what parameterised object URIs are filled with. */
export const Params = z.record(z.string().max(64), Scalar).refine((params) => Object.keys(params).length <= 32, {
  message: "at most 32 parameters",
});

export const Quantiles = z.object({ p10: z.number(), p50: z.number(), p90: z.number() });
export type Quantiles = z.infer<typeof Quantiles>;

// ── Executions (what logs are made of) ───────────────────────────────────────────────────────────────────────────────

export const ObjectUse = z.object({ uri: Uri, bytes: Bytes });
export const ServiceUse = z.object({
  service: z.string().min(1).max(256),
  calls: z.number().int().nonnegative(),
  bytes: Bytes,
  /** Mean latency of one call. */
  latencyMs: DurationMs.optional(),
});
export type ServiceUse = z.infer<typeof ServiceUse>;
export const ExecutionStatus = z.enum(["ok", "error", "timeout"]);

/** One invocation of a task. Missing is unknown; unknown is never 0. */
export const Execution = z.object({
  runId: Id,
  executionId: Id,
  parentId: Id.optional(),
  links: z.array(Id).max(128).optional(),
  sequence: z.number().int().nonnegative().optional(),
  task: TaskName,
  version: Version.optional(),
  startMs: z.number(),
  endMs: z.number(),
  attempt: z.number().int().nonnegative().optional(),
  status: ExecutionStatus.default("ok"),
  queueMs: DurationMs.optional(),
  fetchMs: DurationMs.optional(),
  coldStartMs: DurationMs.optional(),
  cpuMs: DurationMs.optional(),
  memoryBytes: Bytes.optional(),
  inputs: z.array(ObjectUse).max(256).optional(),
  outputs: z.array(ObjectUse).max(256).optional(),
  outputBytes: Bytes.optional(),
  params: Params.optional(),
  services: z.array(ServiceUse).max(64).optional(),
  cluster: PlaceName.optional(),
  vm: PlaceName.optional(),
  /** One of our own prewarms: never counted. */
  speculative: z.boolean().optional(),
});
export type Execution = z.infer<typeof Execution>;

/** Largest batch of one call; more is refused with 413, so that a journal row stays far below the 2 MB row limit. */
export const EXECUTIONS_PER_BATCH_MAX = 5_000;

export const IngestAnswer = z.object({
  accepted: z.number().int(),
  duplicates: z.number().int(),
  rejected: z.array(z.object({ index: z.number().int(), reason: z.string() })),
  /** Fields that this version does not know, by name, with how often they came. */
  ignoredFields: z.record(z.string(), z.number().int()).optional(),
});
export type IngestAnswer = z.infer<typeof IngestAnswer>;

// ── Predictions ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** Oldest tasks of a path are dropped beyond this; the engine's longest context is shorter. */
export const PATH_TASKS_MAX = 256;

export const PredictionRequest = z.strictObject({
  task: TaskName,
  version: Version.optional(),
  /** The tasks from the run's root to here, oldest first, without `task`. */
  path: z.array(TaskName).max(PATH_TASKS_MAX).optional(),
  continuation: z.string().max(4096).optional(),
  params: Params.optional(),
  /** Only tasks whose median lead time lies within it. */
  horizonMs: DurationMs.optional(),
  /** Cuts `reach`, never `next`. */
  maxTasks: z.number().int().min(1).max(1000).optional(),
});
export type PredictionRequest = z.infer<typeof PredictionRequest>;

export const Chain = z.object({
  tasks: z.array(z.string()),
  probability: Probability,
  score: z.number(),
  resourceDemand: z.number(),
  latencySensitivity: z.number(),
});
export type Chain = z.infer<typeof Chain>;

export const PrefetchItem = z.object({
  kind: z.enum(["object", "code"]),
  uri: z.string(),
  bytes: Bytes.nullable(),
  task: z.string(),
  probability: Probability,
  /** From now until the task that needs it is expected at the earliest (p10). */
  deadlineMs: DurationMs,
  /** The task of this same chain that writes the object first; it cannot be fetched before that one ends. */
  producer: z.string().nullable(),
});
export type PrefetchItem = z.infer<typeof PrefetchItem>;

export const Demand = z.object({
  cpuMs: z.number(),
  peakMemoryBytes: z.number(),
  networkBytes: z.number(),
  prefetch: z.array(PrefetchItem),
});
export type Demand = z.infer<typeof Demand>;

export const Reach = z.object({
  task: z.string(),
  probability: Probability,
  leadTimeMs: Quantiles.nullable(),
  multiplicity: z.number(),
  route: z.array(z.string()),
});
export type Reach = z.infer<typeof Reach>;

export const Prediction = z.object({
  modelVersion: z.number().int(),
  /** `task: null` is the end. Sums to 1 unless the model has never seen the task (then it is empty). */
  next: z.array(z.object({ task: z.string().nullable(), probability: Probability })),
  reach: z.array(Reach),
  chains: z.array(Chain),
  demand: Demand,
});
export type Prediction = z.infer<typeof Prediction>;

// ── Allocations and plans ────────────────────────────────────────────────────────────────────────────────────────────

export const Constraints = z.strictObject({
  clusters: z.array(PlaceName).max(1000).optional(),
  excludeClusters: z.array(PlaceName).max(1000).optional(),
  labels: z.record(z.string(), z.string()).optional(),
});
export type Constraints = z.infer<typeof Constraints>;

export const AllocationRequest = PredictionRequest.extend({
  runId: Id,
  executionId: Id.optional(),
  inputs: z
    .array(z.strictObject({ uri: Uri, bytes: Bytes.optional() }))
    .max(256)
    .optional(),
  constraints: Constraints.optional(),
  dryRun: z.boolean().optional(),
});
export type AllocationRequest = z.infer<typeof AllocationRequest>;

export const CommandKind = z.enum(["prefetch", "warm", "execute", "evict", "drain"]);
export type CommandKind = z.infer<typeof CommandKind>;

export const PlanItem = z.object({
  commandId: z.string(),
  kind: CommandKind,
  task: z.string().optional(),
  uri: z.string().optional(),
  probability: Probability,
  notBeforeMs: InstantMs,
  deadlineMs: InstantMs,
  savedMs: z.number(),
});
export type PlanItem = z.infer<typeof PlanItem>;

export const SkippedItem = z.object({
  kind: CommandKind,
  task: z.string().optional(),
  uri: z.string().optional(),
  probability: Probability,
  savedMs: z.number(),
  reason: z.string(),
});
export type SkippedItem = z.infer<typeof SkippedItem>;

/** Every term is expected milliseconds of chain latency, so that terms add and explain themselves. */
export const PlacementTerms = z.object({
  servicesMs: z.number(),
  transferMs: z.number(),
  coldStartMs: z.number(),
  queueMs: z.number(),
  hopsMs: z.number(),
  priceMs: z.number(),
});
export type PlacementTerms = z.infer<typeof PlacementTerms>;

export const Alternative = z.object({
  chain: z.array(z.string()),
  cluster: z.string(),
  totalMs: z.number(),
  terms: PlacementTerms,
});
export type Alternative = z.infer<typeof Alternative>;

export const ClusterRefusal = z.object({ cluster: z.string(), reason: z.string() });
export type ClusterRefusal = z.infer<typeof ClusterRefusal>;

export const Mode = z.enum(["shadow", "canary", "active", "paused"]);
export type Mode = z.infer<typeof Mode>;

export const AllocationAnswer = z.object({
  allocationId: z.string(),
  mode: Mode,
  cluster: z.string(),
  vm: z.string(),
  url: z.string().nullable(),
  continuation: z.string(),
  chain: z.array(z.string()),
  plan: z.array(PlanItem),
  skipped: z.array(SkippedItem),
  alternatives: z.array(Alternative),
  refused: z.array(ClusterRefusal),
  modelVersion: z.number().int(),
});
export type AllocationAnswer = z.infer<typeof AllocationAnswer>;

export const AllocationState = z.enum(["pending", "allocated", "executed", "failed", "expired"]);
export const AllocationRecord = AllocationAnswer.partial().extend({
  allocationId: z.string(),
  runId: z.string(),
  executionId: z.string(),
  task: z.string(),
  state: AllocationState,
  createdMs: InstantMs,
  outcome: z.enum(["warm", "cold", "failed"]).nullable(),
});
export type AllocationRecord = z.infer<typeof AllocationRecord>;

// ── What the operator declares ───────────────────────────────────────────────────────────────────────────────────────

export const TaskDeclaration = z.strictObject({
  version: Version.optional(),
  prewarm: z.enum(["allowed", "never"]).default("allowed"),
  /** How much a ms of this task's latency matters against others. */
  latencyWeight: z.number().min(0).max(1000).default(1),
  code: z
    .array(z.strictObject({ uri: Uri, bytes: Bytes.optional() }))
    .max(16)
    .default([]),
  /** Objects it reads, or templates such as `https://store/videos/{videoId}.bin`. */
  objects: z
    .array(z.strictObject({ uri: Uri, bytes: Bytes.optional() }))
    .max(64)
    .default([]),
  services: z.array(ServiceUse).max(64).default([]),
  memoryBytes: Bytes.optional(),
  cpuMs: DurationMs.optional(),
  coldStartMs: DurationMs.optional(),
  keepAliveMs: DurationMs.optional(),
  /** Bound on one invocation. */
  timeoutMs: DurationMs.max(3_600_000).default(60_000),
});
export type TaskDeclaration = z.infer<typeof TaskDeclaration>;

/** Where the gateway reaches a VM's agent. Deployed Workers need a hostname or a tunnel, not a bare private address. */
export const VmUrl = z.url({ protocol: /^https?$/ }).max(512);

export const VmDeclaration = z.strictObject({
  vm: PlaceName,
  /** Absent: not reachable from outside; the hub then sends `execute` commands. */
  url: VmUrl.optional(),
  cpuCores: z.number().positive().max(4096),
  memoryBytes: Bytes.positive(),
  diskBytes: Bytes.optional(),
  networkBytesPerSecond: z.number().positive().optional(),
  draining: z.boolean().default(false),
});
export type VmDeclaration = z.infer<typeof VmDeclaration>;

export const ClusterDeclaration = z.strictObject({
  vms: z.array(VmDeclaration).max(1000).default([]),
  labels: z.record(z.string().max(63), z.string().max(255)).default({}),
  draining: z.boolean().default(false),
  /** Host patterns (`*.example.net`) from which agents may announce URLs of their own. */
  approvedHosts: z.array(z.string().max(253)).max(64).default([]),
  pricePerGbSecond: z.number().nonnegative().default(0),
  /** One way between two VMs of the cluster. */
  internalLatencyMs: DurationMs.default(0.5),
});
export type ClusterDeclaration = z.infer<typeof ClusterDeclaration>;

export const ServiceDeclaration = z.strictObject({
  kind: z.string().max(64).default("service"),
  /** Hosts (with port) of its URIs: objects stored there are transferred at this service's proximity. */
  hosts: z.array(z.string().max(255)).max(64).default([]),
  /** What agents may probe. */
  probeUrl: VmUrl.optional(),
});
export type ServiceDeclaration = z.infer<typeof ServiceDeclaration>;

export const ProximityEntry = z.strictObject({
  cluster: PlaceName,
  /** A service, or another cluster. */
  peer: PlaceName,
  latencyMs: DurationMs,
  bandwidthBytesPerSecond: z.number().positive(),
});
export type ProximityEntry = z.infer<typeof ProximityEntry>;
export const ProximityDeclaration = z.strictObject({ entries: z.array(ProximityEntry).max(20_000) });
export type ProximityDeclaration = z.infer<typeof ProximityDeclaration>;

export const Budgets = z.strictObject({
  inFlightCommands: z.number().int().nonnegative().default(256),
  prefetchBytesPerHour: z
    .number()
    .nonnegative()
    .default(64 * 2 ** 30),
  warmGbSecondsPerHour: z.number().nonnegative().default(36_000),
});

export const Policy = z.strictObject({
  mode: Mode.default("shadow"),
  /** Share of runs that are acted for in `canary`. */
  canaryShare: Probability.default(0.1),
  /** The operator's dial: how many ms of a user's waiting are worth one GB held for one second. */
  msPerGbSecond: z.number().nonnegative().default(20),
  /** And one GB moved that nobody needed. */
  msPerGb: z.number().nonnegative().default(2_000),
  /** How long a prepared runtime or object is held past its p90 lead time. */
  holdMs: DurationMs.default(5_000),
  /** A keep-alive that is learned is never longer. */
  keepAliveMaxMs: DurationMs.default(14_400_000),
  /** Commands of one plan at most. */
  fanOutMax: z.number().int().min(0).max(1024).default(32),
  budgets: Budgets.default(Budgets.parse({})),
  /** Receives a signed CloudEvent `scale-out` when nothing is suitable. */
  webhookUrl: VmUrl.optional(),
});
export type Policy = z.infer<typeof Policy>;

// ── What is learned ─────────────────────────────────────────────────────────────────────────────────────────────────

/** What is learned beside the graph. Each part can be frozen (asked, no longer changed) and reset. */
export const LearnedPart = z.enum(["model", "gate", "margins", "placement", "starts", "holds"]);
export type LearnedPart = z.infer<typeof LearnedPart>;

/** For freezing and unfreezing: absent stands for all parts. */
export const LearningParts = z.strictObject({ parts: z.array(LearnedPart).min(1).max(16).optional() });
/** What is reset is lost: it is named. */
export const LearningReset = z.strictObject({ parts: z.array(LearnedPart).min(1).max(16) });

/** What an import took. Holds of clusters that are not here are left out. */
export const LearningImported = z.object({
  imported: z.array(LearnedPart),
  skipped: z.array(z.object({ cluster: z.string(), reason: z.string() })),
});
export type LearningImported = z.infer<typeof LearningImported>;

const DemandError = z.object({ runs: z.number().int(), relativeError: z.number().nullable() });

/** How good predictions of sealed runs were; null: nothing was measured. Log-loss in nats, means per yes-or-no prediction. */
export const Scores = z.object({
  predictions: z.number().int(),
  logLoss: z.number().nullable(),
  brier: z.number().nullable(),
  /** Reliability: ten bins of equal width of the foretold probability, with the mean of what was foretold and of what came. */
  bins: z.array(
    z.object({ count: z.number().int(), foretold: Probability.nullable(), happened: Probability.nullable() }),
  ),
  /** Of lead times that are known, the shares that came before p10, within p10 to p90, and after p90. */
  leadTimes: z.object({
    count: z.number().int(),
    early: Probability.nullable(),
    covered: Probability.nullable(),
    late: Probability.nullable(),
  }),
  /** Σ |foretold − came| ÷ Σ came of runs in which all of it is known: of CPU; of peak memory, network bytes and warm duration beside it. */
  demand: DemandError.extend({ memory: DemandError, network: DemandError, duration: DemandError }),
});
export type Scores = z.infer<typeof Scores>;

/** A change of the workflow that drift detection found. Losses: mean log-loss per prediction, nats. */
export const WorkflowChange = z.object({ root: z.string(), atMs: InstantMs, usualLoss: z.number(), loss: z.number() });
export type WorkflowChange = z.infer<typeof WorkflowChange>;

/** What the model's mixers trust: each view of the path by how much its evidence counts, and what that was learned from (0: nothing yet). */
const QuestionMixing = z.object({
  views: z.array(z.object({ view: z.string(), weight: z.number(), evidence: z.number() })),
  /** Layer 2, by the view that chooses the mixer's weights. */
  mixers: z.array(z.object({ mixer: z.string(), weight: z.number() })),
});

const Factor = z.number();
/** Everything learned. Lists are cut at the thousand with the most evidence; the export has all. */
export const LearningAnswer = z.object({
  frozen: z.array(LearnedPart),
  model: z.object({
    version: z.number().int(),
    tasks: z.number().int(),
    /** How full the model is: evidence lines in use, and those that there are. */
    usedLines: z.number().int(),
    lines: z.number().int(),
    unpublishedRuns: z.number().int(),
    /** By question: what starts first, and what executes at all. */
    mixing: z.object({ next: QuestionMixing, reach: QuestionMixing }),
  }),
  /** Whole cold starts, measured; plans are timed by them. */
  starts: z.array(z.object({ task: z.string(), count: z.number().int(), wholeStartMs: Quantiles })),
  /** Factors on foretold lead times. */
  margins: z.array(z.object({ source: z.string(), target: z.string(), observations: z.number(), factors: Quantiles })),
  /** Added to the model's probability before the gate, by band of it: up to 0.1, 0.5, 0.9, 1. */
  gate: z.array(
    z.object({ context: z.string(), task: z.string(), observations: z.number(), shifts: z.array(z.number()) }),
  ),
  /** Factors on the placement's terms. */
  placement: z.array(
    z.object({
      cluster: z.string(),
      observations: z.number(),
      factors: z.object({
        servicesMs: Factor,
        transferMs: Factor,
        coldStartMs: Factor,
        queueMs: Factor,
        hopsMs: Factor,
      }),
    }),
  ),
  /** How long runtimes are held after a call, and the weights of the policies that compete. */
  holds: z.array(
    z.object({
      cluster: z.string(),
      task: z.string(),
      policy: z.string(),
      holdMs: DurationMs,
      weights: z.record(z.string(), Probability),
    }),
  ),
  /** Of this hour and the one before. */
  scores: Scores,
  drift: z.object({
    /** The workflow has changed within the last hour: what was learned before weighs a tenth. */
    alert: z.boolean(),
    /** Newest last. */
    changes: z.array(WorkflowChange),
  }),
});
export type LearningAnswer = z.infer<typeof LearningAnswer>;

// ── Keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** `admin` implies all; `agent` is bound to one cluster and VM. */
export const Scope = z.enum(["admin", "operate", "ingest", "predict", "invoke", "read", "agent"]);
export type Scope = z.infer<typeof Scope>;

export const KeyRequest = z
  .strictObject({
    name: z.string().min(1).max(128),
    scopes: z.array(Scope).min(1).max(8),
    cluster: PlaceName.optional(),
    vm: PlaceName.optional(),
  })
  .refine((key) => !key.scopes.includes("agent") || (key.cluster !== undefined && key.vm !== undefined), {
    message: "an agent's key needs `cluster` and `vm`",
    path: ["vm"],
  });
export type KeyRequest = z.infer<typeof KeyRequest>;
export const KeyAnswer = z.object({ keyId: z.string(), key: z.string() });

// ── Agents ───────────────────────────────────────────────────────────────────────────────────────────────────────────

export const RuntimeState = z.enum(["starting", "ready", "busy"]);
export const Heartbeat = z.strictObject({
  agentVersion: z.string().max(64),
  /** The agent's clock; the hub answers with its own, and the agent works with the difference. */
  nowMs: InstantMs,
  /** Random at each start of the agent: a second agent with the same VM name is told apart. */
  instanceId: Id,
  url: VmUrl.optional(),
  capacity: z.strictObject({
    cpuCores: z.number().positive(),
    memoryBytes: Bytes,
    diskBytes: Bytes,
    diskFreeBytes: Bytes,
  }),
  load: z.strictObject({
    /** Busy share of all cores. */
    cpu: Probability,
    memoryBytes: Bytes,
    /** Of it, what idle runtimes hold: they end where a start needs the memory. */
    idleMemoryBytes: Bytes.optional(),
    executions: z.number().int().nonnegative(),
  }),
  runtimes: z
    .array(
      z.strictObject({
        task: TaskName,
        version: Version.optional(),
        state: RuntimeState,
        expiresMs: InstantMs.optional(),
      }),
    )
    .max(1000),
  cache: z.strictObject({
    bytes: Bytes,
    maxBytes: Bytes,
    /** Most recently used first; cut at 2,000. */
    uris: z.array(Uri).max(2000),
  }),
  /** Tasks of the agent's own configuration: the only ones that commands may name. */
  tasks: z
    .array(
      z.strictObject({
        task: TaskName,
        version: Version.optional(),
        /** As the agent's own configuration has it. */
        keepAliveMs: DurationMs.optional(),
      }),
    )
    .max(5000),
  /** Runtimes that became idle after a call since the last heartbeat, oldest first, on the hub's clock. */
  released: z
    .array(z.strictObject({ task: TaskName, atMs: InstantMs }))
    .max(1000)
    .optional(),
  /** Measured by the agent: smoothed latency and bandwidth to services. */
  probes: z
    .array(
      z.strictObject({
        service: PlaceName,
        latencyMs: DurationMs,
        bandwidthBytesPerSecond: z.number().positive().optional(),
      }),
    )
    .max(256)
    .optional(),
  /** True in the last heartbeat of a graceful stop. */
  leaving: z.boolean().optional(),
});
export type Heartbeat = z.infer<typeof Heartbeat>;

export const HeartbeatAnswer = z.object({
  nowMs: InstantMs,
  /** When the next one is expected. */
  nextHeartbeatMs: DurationMs,
  /** Base64url HMAC key of this VM: signatures on /invoke are checked with it. */
  invokeKey: z.string(),
  draining: z.boolean(),
  /** For the agent's tasks: the keep-alive that the operator declared, else the one that was learned; and time-outs. */
  tasks: z.record(z.string(), z.object({ keepAliveMs: DurationMs.nullable(), timeoutMs: DurationMs })),
  services: z.array(z.object({ service: z.string(), probeUrl: z.string() })),
});
export type HeartbeatAnswer = z.infer<typeof HeartbeatAnswer>;

export const Command = z.object({
  commandId: z.string(),
  leaseId: z.string(),
  leaseMs: DurationMs,
  kind: CommandKind,
  task: z.string().optional(),
  version: z.string().optional(),
  uri: z.string().optional(),
  bytes: Bytes.nullable().optional(),
  /** Instants of the hub's clock, which `nowMs` of the same answer tells. */
  notBeforeMs: InstantMs,
  deadlineMs: InstantMs,
  expiresMs: InstantMs,
  probability: Probability,
  attempt: z.number().int().positive(),
  /** `execute` only: the call, which never names a command line. */
  request: z
    .object({
      method: z.string(),
      path: z.string(),
      headers: z.record(z.string(), z.string()),
      /** Base64. */
      body: z.string(),
    })
    .optional(),
});
export type Command = z.infer<typeof Command>;
export const CommandsAnswer = z.object({ nowMs: InstantMs, commands: z.array(Command) });
export type CommandsAnswer = z.infer<typeof CommandsAnswer>;

export const CommandResult = z.strictObject({
  commandId: z.string().max(128),
  leaseId: z.string().max(128),
  state: z.enum(["done", "failed"]),
  reason: z.string().max(1024).optional(),
  /** Loaded by this command: 0 where the cache had it already, never 0 for an object that had to be fetched. */
  bytes: Bytes.optional(),
  /** Work began; runtime said ready or object was whole. Hub's clock. */
  startedMs: InstantMs.optional(),
  readyMs: InstantMs.optional(),
  /** `warm` only: what the runtime's start took, with the objects it waited for; absent where an idle one was there. */
  wholeStartMs: DurationMs.optional(),
  response: z
    .strictObject({ status: z.number().int(), headers: z.record(z.string(), z.string()), body: z.string() })
    .optional(),
});
export type CommandResult = z.infer<typeof CommandResult>;

/** A user's execution met something that a command had prepared, or was still preparing. */
export const PreparedUse = z.strictObject({
  commandId: z.string().max(128),
  runId: Id,
  executionId: Id,
  usedMs: InstantMs,
  /** What the user's execution still waited for it; 0 when it was ready. */
  waitedMs: DurationMs,
  /** What it would have cost without: the runtime's measured start, or the object's measured load. */
  savedMs: DurationMs,
});
export type PreparedUse = z.infer<typeof PreparedUse>;

/** Something prepared is gone: with `used` false this is waste. */
export const PreparedEnd = z.strictObject({
  commandId: z.string().max(128),
  endedMs: InstantMs,
  used: z.boolean(),
  reason: z.enum(["expired", "evicted", "stopped", "replaced", "crashed"]),
  /** Held from ready (or last use) to the end. */
  heldMs: DurationMs,
  memoryBytes: Bytes,
  bytes: Bytes,
});
export type PreparedEnd = z.infer<typeof PreparedEnd>;

/** A user's execution found nothing prepared and paid for it. */
export const UnpreparedUse = z.strictObject({
  kind: z.enum(["warm", "prefetch"]),
  task: TaskName,
  uri: Uri.optional(),
  runId: Id,
  executionId: Id,
  atMs: InstantMs,
  costMs: DurationMs,
  bytes: Bytes.optional(),
  /** `warm` only: what the start took of the runtime that was started for it. */
  wholeStartMs: DurationMs.optional(),
});
export type UnpreparedUse = z.infer<typeof UnpreparedUse>;

export const AgentReport = z.strictObject({
  results: z.array(CommandResult).max(1000).default([]),
  uses: z.array(PreparedUse).max(1000).default([]),
  ends: z.array(PreparedEnd).max(1000).default([]),
  misses: z.array(UnpreparedUse).max(1000).default([]),
});
export type AgentReport = z.infer<typeof AgentReport>;
export const AgentReportAnswer = z.object({
  accepted: z.number().int(),
  /** By command id: unknown, stale lease, settled before. */
  refused: z.array(z.object({ commandId: z.string(), reason: z.string() })),
});
export type AgentReportAnswer = z.infer<typeof AgentReportAnswer>;

/** What an agent says over its WebSocket (`…/socket`), as JSON text. `id` comes back with the answer. */
export const AgentMessage = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("heartbeat"), id: z.number().int(), heartbeat: Heartbeat }),
  z.strictObject({ type: z.literal("report"), id: z.number().int(), report: AgentReport }),
]);
export type AgentMessage = z.infer<typeof AgentMessage>;

/** What it hears. Commands come as they become due, without being asked for; `ping` is answered `pong`. */
export const HubMessage = z.discriminatedUnion("type", [
  z.object({ type: z.literal("commands"), answer: CommandsAnswer }),
  z.object({ type: z.literal("heartbeat"), id: z.number().int(), answer: HeartbeatAnswer }),
  z.object({ type: z.literal("report"), id: z.number().int(), answer: AgentReportAnswer }),
  z.object({
    type: z.literal("refused"),
    id: z.number().int().nullable(),
    status: z.number().int(),
    detail: z.string(),
  }),
]);
export type HubMessage = z.infer<typeof HubMessage>;

/** Header that carries the JWT (HS256, `aud` = cluster/vm, `sub` = task, `exp` ≤ 60 s) on calls to an agent's /invoke. */
export const INVOKE_SIGNATURE_HEADER = "forechain-signature";
/** Base64url; on the way out of /v1/invoke it holds the path up to and with the task; several are joined by commas. */
export const CONTINUATION_HEADER = "forechain-continuation";
export const ALLOCATION_HEADER = "forechain-allocation";
export const CLUSTER_HEADER = "forechain-cluster";
/** JSON of InvokeContext, base64url, from the gateway to the agent: what the execution record needs. */
export const CONTEXT_HEADER = "forechain-context";

/** Headers of one connection, never of the call (RFC 9110 section 7.6.1). */
export const HOP_BY_HOP_HEADERS = [
  "connection",
  "expect",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
];

/** On an agent's answer: ms that the caller waited beyond a warm execution, as known when the answer began. */
export const COLD_START_HEADER = "forechain-cold-start-ms";

export const InvokeContext = z.strictObject({
  runId: Id,
  executionId: Id,
  links: z.array(Id).max(128),
  version: Version.optional(),
  params: Params.optional(),
  allocationId: z.string(),
});
export type InvokeContext = z.infer<typeof InvokeContext>;

// ── Outcomes and the graph ───────────────────────────────────────────────────────────────────────────────────────────

export const OutcomeKind = z.enum(["hit", "late", "miss", "waste", "failed"]);
export type OutcomeKind = z.infer<typeof OutcomeKind>;

export const Outcome = z.object({
  /** Of the command, or `miss:` and the execution. Makes a repeated report harmless. */
  outcomeId: z.string(),
  commandId: z.string().nullable(),
  kind: CommandKind,
  outcome: OutcomeKind,
  cluster: z.string(),
  vm: z.string(),
  task: z.string().nullable(),
  uri: z.string().nullable(),
  runId: z.string().nullable(),
  executionId: z.string().nullable(),
  atMs: InstantMs,
  /** Latency taken off a user's path; negative never. */
  savedMs: z.number(),
  bytes: z.number(),
  gbSeconds: z.number(),
  reason: z.string().nullable(),
  /** That the prepared thing would be needed, as the plan had it; null for a miss. */
  probability: Probability.nullable(),
  /** The same as the model foretold it, before the gate's beliefs; null for a miss. */
  foretold: Probability.nullable(),
  /** The task that was asked for when it was planned; null for a miss. */
  context: z.string().nullable(),
  /** The run's expected chain when it came to the cluster first; null where it is not known. */
  chain: z.array(z.string()).nullable(),
  /** What the runtime's start took, whoever asked for it; null where none was started. */
  wholeStartMs: DurationMs.nullable(),
});
export type Outcome = z.infer<typeof Outcome>;

export const OutcomeTotal = z.object({
  kind: CommandKind,
  outcome: OutcomeKind,
  count: z.number().int(),
  bytes: z.number(),
  gbSeconds: z.number(),
  savedMs: z.number(),
});
export type OutcomeTotal = z.infer<typeof OutcomeTotal>;

/** Of a window: instants of outcomes. Up to an hour is exact, a longer one takes whole hours. Neither: everything. */
export const OutcomesQuery = z.strictObject({
  fromMs: z.coerce.number().nonnegative().optional(),
  toMs: z.coerce.number().nonnegative().optional(),
  task: TaskName.optional(),
  cluster: PlaceName.optional(),
  groupBy: z.enum(["hour", "task", "cluster", "chain"]).optional(),
  limit: z.coerce.number().int().min(0).max(1_000).default(50),
});
export type OutcomesQuery = z.infer<typeof OutcomesQuery>;

export const OutcomeGroup = z.object({
  /** Start of the hour, ms since the epoch. Of these four the one that was asked for is there; "" and [] where it is not known. */
  hourMs: InstantMs.optional(),
  task: z.string().optional(),
  cluster: z.string().optional(),
  chain: z.array(z.string()).optional(),
  totals: z.array(OutcomeTotal),
  /** How good predictions were of it; absent where none was settled. */
  scores: Scores.optional(),
});
export type OutcomeGroup = z.infer<typeof OutcomeGroup>;

export const OutcomesAnswer = z.object({
  /** What the totals are of; null where everything was asked for. */
  fromMs: InstantMs.nullable(),
  toMs: InstantMs.nullable(),
  totals: z.array(OutcomeTotal),
  recent: z.array(Outcome),
  /** Where `groupBy` asked for them. */
  groups: z.array(OutcomeGroup).optional(),
  /** How good predictions were in these hours (of the last day where everything was asked for). */
  scores: Scores,
});
export type OutcomesAnswer = z.infer<typeof OutcomesAnswer>;

export const GraphTask = z.looseObject({ task: z.string(), count: z.number().int() });
export type GraphTask = z.infer<typeof GraphTask>;
export const GraphTransition = z.looseObject({
  source: z.string(),
  target: z.string(),
  /** `call`: the target started while the source ran. `sequence`: after it ended. `link`: joined by a link alone. */
  kind: z.enum(["call", "sequence", "link"]),
  count: z.number().int(),
  weight: z.number(),
  probability: Probability,
  multiplicity: z.number(),
  delayMs: Quantiles.nullable(),
  transferBytes: z.number().nullable(),
});
export type GraphTransition = z.infer<typeof GraphTransition>;
export const GraphAnswer = z.looseObject({
  version: z.number().int(),
  tasks: z.array(GraphTask),
  transitions: z.array(GraphTransition),
  /** Runs that are not sealed yet: they are in the counts, not in the model. */
  openRuns: z.number().int().optional(),
  /** Runs that were learned since `version` was published. */
  unpublishedRuns: z.number().int().optional(),
  /** How many rows of each kind there are and may be, and how often one more was refused. */
  limits: z
    .array(z.object({ rows: z.string(), count: z.number().int(), max: z.number().int(), refused: z.number().int() }))
    .optional(),
  /** What the graph has had no room for, in words; absent where it is whole. */
  warnings: z.array(z.string()).optional(),
});
export type GraphAnswer = z.infer<typeof GraphAnswer>;

export const MinedChain = Chain.extend({
  /** Runs that held the whole chain. */
  runs: z.number().int(),
  /** Decayed to what is usual now. */
  runsPerHour: z.number(),
});
export type MinedChain = z.infer<typeof MinedChain>;

/** GET /v1/chains: by score, highest first. */
export const ChainsAnswer = z.object({
  chains: z.array(MinedChain),
  total: z.number().int(),
  offset: z.number().int(),
});
export type ChainsAnswer = z.infer<typeof ChainsAnswer>;

/** POST /v1/model/rebuild: what the new model was made of, and how many tasks the old one knew that it does not. */
export const Rebuilt = z.object({
  modelVersion: z.number().int(),
  runs: z.number().int(),
  executions: z.number().int(),
  tasks: z.number().int(),
  tasksForgotten: z.number().int(),
});
export type Rebuilt = z.infer<typeof Rebuilt>;

// ── Problems ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** RFC 9457, `application/problem+json`. `errors` names each field by JSON pointer (RFC 6901). */
export const Problem = z.object({
  type: z.string(),
  title: z.string(),
  status: z.number().int(),
  detail: z.string(),
  errors: z.array(z.object({ pointer: z.string(), detail: z.string() })).optional(),
  refused: z.array(ClusterRefusal).optional(),
  retryAfterMs: DurationMs.optional(),
  allocationId: z.string().optional(),
});
export type Problem = z.infer<typeof Problem>;

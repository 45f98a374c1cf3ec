// What the graph knows, in the shapes that the later stages read. (Owner of the rows: see profile.ts for how they are counted.)
import type { Quantiles } from "../protocol.ts";
import type { ChainEngine } from "./engine.ts";

/** What one execution of a task typically costs. Null is unknown, and unknown is not 0. */
export interface TaskProfile {
  task: string;
  version: string | null;
  count: number;
  /** Warm duration: the cold start is taken out. */
  durationMs: Quantiles | null;
  coldStartMs: Quantiles | null;
  cpuMs: Quantiles | null;
  memoryBytes: Quantiles | null;
  outputBytes: Quantiles | null;
  /** Means per execution. */
  services: { service: string; calls: number; bytes: number; latencyMs: number | null }[];
  /** Objects it read, with the share of its executions that read them; cut at the most frequent. */
  objects: { uri: string; bytes: number | null; probability: number; producer: string | null }[];
  /** URIs with `{param}` in one path segment. */
  templates: { template: string; bytes: number | null; probability: number }[];
  /** Targets of its transitions with the share of its executions that trigger them; most likely first, cut at 32. */
  successors: { task: string; probability: number }[];
  /** Share of a delay of this task that reaches the end of its run: 1 on the critical path. */
  latencySensitivity: number;
}

/** A published version of the model: what the Worker predicts from. */
export interface Model {
  /** Monotonic per workspace; 0 is the empty model. */
  version: number;
  /** Whoever serves only asks; learning is the GraphWriter's. */
  engine: Pick<ChainEngine, "next" | "reach">;
  /** Interned names: index is the engine's task id. */
  tasks: string[];
  taskIds: Map<string, number>;
  profiles: Map<string, TaskProfile>;
}

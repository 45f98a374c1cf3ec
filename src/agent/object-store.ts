// What loads objects by URI, as the rest of the agent sees it: who asks, what is answered, why not.
import type { FetchReason } from "./fetchers/source.ts";

/** Named by the agent's own configuration. */
interface Named {
  configured?: boolean;
}

/** Who asks. What is done ahead says how much it is worth, so that it never throws out something that is worth more. */
export type Want =
  | ({ by: "task" } & Named)
  /** A runtime that a command starts and that nobody has called yet: it waits for no turn, and makes nobody else wait. */
  | ({ by: "start"; probability: number; holdUntilMs: number } & Named)
  | { by: "prefetch"; probability: number; bytes: number | null; neededMs: number; holdUntilMs: number };

export type LoadReason =
  | FetchReason
  | "empty"
  | "wrong_length"
  | "too_large"
  | "disk_full"
  | "disk_failed"
  | "cache_full"
  | "expired"
  | "stopped";

export type LoadAnswer =
  | {
      ok: true;
      uri: string;
      path: string;
      bytes: number;
      /** `cached`: was there. `joined`: somebody else's load was running. `loaded`: by this call. */
      how: "cached" | "joined" | "loaded";
      waitedMs: number;
      /** What loading it took, without being held back. */
      loadMs: number;
      /** Unpins it. Call it once. */
      release(): void;
    }
  | { ok: false; uri: string; reason: LoadReason; detail: string; waitedMs: number };

/** What loads objects by URI: the cache, or an engine that keeps its own. */
export interface ObjectStore {
  has(uri: string): boolean;
  load(uri: string, want: Want): Promise<LoadAnswer>;
  evict(uri: string): Promise<"evicted" | "busy" | "absent">;
  dropHold(uri: string): void;
}

/** A load that this VM ends, and why. */
export class Refused extends Error {
  readonly reason: LoadReason;
  constructor(reason: LoadReason, detail: string) {
    super(detail);
    this.reason = reason;
  }
}

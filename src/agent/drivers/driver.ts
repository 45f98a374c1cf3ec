// What a runtime is made with: one small interface, several drivers, one test suite.
// A driver starts something that will answer HTTP, tells what it uses, and ends all of it.

/** What a runtime has used. Null: this driver cannot tell; unknown is not 0. */
export interface Usage {
  /** Since the start, of all its processes. */
  cpuMs: number;
  memoryBytes: number;
  /** Since `resetPeak`. */
  peakBytes: number;
}

export interface Started {
  /** Answers TLS. */
  secure: boolean;
  host: string;
  port: number;
  /** Prefix of every path, without a slash at its end; empty for programs on a port of their own. */
  basePath: string;
  /** Whether it is this runtime that listens on its port; null, or absent, where this driver cannot tell. */
  ownsPort?(): boolean | null;
  /** Resolves when it is gone, whoever ended it. */
  exited: Promise<{ code: number | string | null; lastLines: string }>;
  /** At once: it stands between an answer and the runtime's next request. */
  usage(): Usage | null;
  resetPeak(): void;
  /** Why this VM ended it on its own, for whoever was waiting; null where it did not. */
  endedFor?(): string | null;
  /** Started ahead, and now wanted: from here on like any other. */
  hurry?(): void;
  /** Ends all of it; resolves when it is gone. */
  stop(): Promise<void>;
}

export interface StartOptions {
  /** Names the runtime in messages and containers. */
  runtimeId: string;
  /** PORT and FORECHAIN_… are added by the pool. */
  env: Record<string, string>;
  port: number;
  /** Of the task's unpacked code, if it has any. */
  codeFolder: string | null;
  /** Nobody waits for it yet: what users wait for goes first on the cores, as far as the driver can have it so. */
  ahead?: boolean;
}

export interface Driver {
  start(options: StartOptions): Promise<Started>;
}

// What an importer is. In: the content of one log file, decompressed, in chunks. Out: its executions or spans, one by one, and
// a reason for everything that is none. One small file per format; read.ts chooses by content.
//
// Worked example, CSV `case,activity,time` with a line `7,Pay,2024-01-01T00:00:00Z`:
//   { kind: "execution", execution: { runId: "7", task: "Pay", startMs: 1704067200000, endMs: 1704067200000, … } }
import { type RunRecord, recordOfExecution } from "../core/records.ts";
import { recordOfSpan, type Span } from "../core/spans.ts";
import type { Execution } from "../protocol.ts";

export type FormatName = "otlp" | "jaeger" | "zipkin" | "xray" | "wfformat" | "xes" | "native" | "ndjson" | "csv";

export type Imported =
  | { kind: "execution"; execution: Execution }
  | { kind: "span"; span: Span }
  /** Something that is no execution, and why; `count` of them. */
  | { kind: "skipped"; reason: string; count: number };

/** Decompressed content. */
export type Content = AsyncIterable<Uint8Array>;

/** Which column (CSV) or key (NDJSON) holds which field, several as `a+b`; what is absent is guessed from the usual names. */
export interface Columns {
  /** "@file": each file is one run. */
  run?: string;
  task?: string;
  start?: string;
  end?: string;
  /** Where there is no end, or no start; with `:ms`, `:s`, `:us` or `:ns` where neither name nor cells tell the unit. */
  duration?: string;
  execution?: string;
  parent?: string;
  service?: string;
  status?: string;
  version?: string;
}

export interface ImportOptions {
  columns: Columns;
  /**
   * XES lifecycles. pair: start and complete of one activity are one execution. complete: only completions. all: each event is an
   * execution of its activity. transition: each event is an execution of its activity and transition, `check+start`.
   */
  lifecycle: "pair" | "complete" | "all" | "transition";
  /** Distinguishes the generated ids of one file from those of others: the same file gives the same ids again. */
  fileId: string;
}

export interface Importer {
  readonly format: FormatName;
  /** Whether content that begins like this (64 KiB at most) is of this format. */
  detects(head: string): boolean;
  read(content: Content, options: ImportOptions): AsyncIterable<Imported>;
}

/** A skip of one. */
export function skipped(reason: string): Imported {
  return { kind: "skipped", reason, count: 1 };
}

/** What run assembly takes; null for a skip. */
export function recordOf(imported: Imported): RunRecord | null {
  switch (imported.kind) {
    case "execution":
      return recordOfExecution(imported.execution);
    case "span":
      return recordOfSpan(imported.span);
    case "skipped":
      return null;
  }
}

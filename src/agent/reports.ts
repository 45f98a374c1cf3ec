// What the hub is told of commands: results, uses, ends, misses, in the order in which they happened, until it has accepted them.
import type { AgentReport, CommandResult, PreparedEnd, PreparedUse, UnpreparedUse } from "../protocol.ts";
import type { Link } from "./link.ts";
import { retryable } from "./link-failure.ts";
import { Outbox } from "./outbox.ts";

type ReportItem =
  | { list: "results"; item: CommandResult }
  | { list: "uses"; item: PreparedUse }
  | { list: "ends"; item: PreparedEnd }
  | { list: "misses"; item: UnpreparedUse };

export type Reports = Outbox<ReportItem>;

/** Reports leave together if they come within it; a warm runtime is worth knowing soon. */
const LINGER_MS = 20;
const BATCH_MAX = 500;
const REPORTS_MAX = 10_000;
/** The Worker takes 8 MiB; only answers of `execute` commands make a report large. */
const BATCH_BYTES_MAX = 6 * 2 ** 20;

/** `onTold`: these results are accepted, or given up. */
export function createReports(
  link: Link,
  log: (line: string) => void,
  onTold: (results: CommandResult[]) => void,
): Reports {
  return new Outbox<ReportItem>({
    lingerMs: LINGER_MS,
    batchMax: BATCH_MAX,
    batchBytesMax: BATCH_BYTES_MAX,
    bytesOf: ({ list, item }) => (list === "results" ? (item.response?.body.length ?? 0) : 0),
    itemsMax: REPORTS_MAX,
    onDropped: (items, detail) => {
      onTold(grouped(items).results);
      log(`${items.length} reports dropped: ${detail}`);
    },
    send: async (items) => {
      const report = grouped(items);
      const answer = await link.report(report);
      if (!answer.ok) return { ok: false, retry: retryable(answer), detail: answer.detail };
      onTold(report.results);
      for (const { commandId, reason } of answer.answer.refused)
        log(`report on command ${commandId} refused: ${reason}`);
      return { ok: true };
    },
  });
}

function grouped(items: ReportItem[]): AgentReport {
  const report: AgentReport = { results: [], uses: [], ends: [], misses: [] };
  for (const { list, item } of items) (report[list] as (typeof item)[]).push(item);
  return report;
}

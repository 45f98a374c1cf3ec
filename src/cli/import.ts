// `forechain import FILE…`: execution logs of any known format → the API. With --dry-run nothing is sent and no server is needed.
import { setFlagsFromString } from "node:v8";
import { Command, InvalidArgumentError, Option } from "commander";
import type { Columns, FormatName } from "../importers/format.ts";
import { breakReason, FORMATS, type ReadOptions, readLog } from "../importers/read.ts";
import { filesOf } from "../importers/source.ts";
import { messageOf } from "./failure.ts";
import { type Counted, Counter } from "./import-count.ts";
import { Uploader } from "./import-upload.ts";
import { counted, filesNamed, progressTeller } from "./progress.ts";
import { type Target, targetOf, WorkerError } from "./target.ts";

/** Reasons told per file on standard error. */
const REASONS_TOLD = 10;
const COLUMN_FIELDS = [
  "run",
  "task",
  "start",
  "end",
  "duration",
  "execution",
  "parent",
  "service",
  "status",
  "version",
];

const HELP = `
Formats: ${FORMATS.join(", ")}; recognised by content unless --format names it. .gz, .zst and .tar are unpacked on the way.
Where to send it: --url and --key, or FORECHAIN_URL and FORECHAIN_KEY, or the worker that \`npm run dev\` started here.
An import that was interrupted is resumed by running it again: nothing is counted twice.

Examples:
  $ forechain import traces.json.gz
  $ forechain import log.csv --column run="Case ID" --column start="Complete Timestamp" --dry-run
  $ kubectl logs … | forechain import - --format native
  $ forechain import *.xes.gz --lifecycle complete --json`;

interface ImportFlags {
  format?: FormatName;
  dryRun?: boolean;
  json?: boolean;
  url?: string;
  key?: string;
  column?: Columns;
  lifecycle: ReadOptions["lifecycle"];
}

interface FileReport extends Counted {
  file: string;
  format: FormatName | null;
  /** Records that the worker has now; absent in a dry run. */
  taken?: number;
  /** Taken before: an earlier import, or the exporter's own delivery. */
  duplicates?: number;
}

export const COLUMN_HELP = "which column holds the field (CSV, NDJSON); repeatable";

/** `field=column`, several times. */
export function columnOption(text: string, previous: Columns | undefined): Columns {
  const [, field, column] = /^(\w+)=(.+)$/.exec(text) ?? [];
  if (field === undefined || !COLUMN_FIELDS.includes(field)) {
    throw new InvalidArgumentError(`want field=column, field one of ${COLUMN_FIELDS.join(", ")}`);
  }
  return { ...previous, [field]: column };
}

export function importCommand(): Command {
  return new Command("import")
    .description("Reads execution logs and sends them to the worker; `-` is standard input.")
    .argument("<file...>", "files of any known format; a folder stands for all its files")
    .addOption(
      new Option("--format <format>", "of the files, instead of recognising it by their content").choices(FORMATS),
    )
    .option("--column <field=column>", COLUMN_HELP, columnOption)
    .addOption(
      new Option("--lifecycle <how>", "XES: which events are executions")
        .choices(["pair", "complete", "all"])
        .default("pair"),
    )
    .option("--url <url>", "where the worker listens")
    .option("--key <key>", "a key with scope `ingest`; better in FORECHAIN_KEY, where other users cannot see it")
    .option("--dry-run", "only read and count; needs no worker")
    .option("--json", "print one JSON value: {files:[{file, format, runs, executions, tasks, skipped}]}")
    .addHelpText("after", HELP)
    .action(async (files: string[], flags: ImportFlags) => {
      // Everything read is garbage at once: a young generation that grows with it would only hold memory (2 GB in 300 MB).
      setFlagsFromString("--semi-space-growth-factor=1");
      // And what is held grows by a fifth before V8 looks for garbage: a WfFormat document of 2 GB takes 240 MB instead of 334.
      setFlagsFromString("--heap-growing-percent=20");
      const target = flags.dryRun === true ? null : targetOf(flags, ", or use --dry-run");
      const reports: FileReport[] = [];
      for (const file of files.flatMap(filesOf)) reports.push(await importFile(file, flags, target));
      if (flags.json === true) process.stdout.write(`${JSON.stringify({ files: reports })}\n`);
      const fail = (what: string, failed: FileReport[]) => {
        if (failed.length === 0) return;
        process.stderr.write(`forechain: ${what} ${filesNamed(failed.map(({ file }) => file))}\n`);
        process.exitCode = 1;
      };
      fail(
        "no run was found in",
        reports.filter(({ runs }) => runs === 0),
      );
      fail(
        "the worker took nothing of",
        reports.filter(({ runs, taken }) => runs > 0 && taken === 0),
      );
    });
}

async function importFile(file: string, flags: ImportFlags, target: Target | null): Promise<FileReport> {
  const counter = new Counter();
  const uploader = target === null ? null : new Uploader(target);
  const options: ReadOptions = {
    format: flags.format ?? null,
    columns: flags.column ?? {},
    lifecycle: flags.lifecycle,
  };
  const formats = new Set<FormatName>();
  const began = performance.now();
  const progress = progressTeller();
  try {
    for await (const { name, format, items } of readLog(file, options)) {
      if (format !== null) formats.add(format);
      for await (const item of items) {
        // The report names the file; of an archive the member that is no log is named.
        const isMember = format === null && name !== file && item.kind === "skipped";
        counter.add(isMember ? { ...item, reason: `${name}: ${item.reason}` } : item);
        await uploader?.add(item);
        progress(() => `${file}: ${counter.items} records, ${rate(counter.items, performance.now() - began)}/s`);
      }
    }
  } catch (error) {
    // A broken file keeps what came before the break; the server's refusal ends the import.
    if (error instanceof WorkerError) throw error;
    counter.skip(counter.items > 0 ? breakReason(error) : messageOf(error), 1);
  }
  await uploader?.finish();
  for (const [reason, count] of uploader?.result.rejected ?? []) counter.skip(reason, count);
  const report: FileReport = { file, format: [...formats][0] ?? null, ...counter.result() };
  if (uploader !== null) report.taken = uploader.result.taken;
  const duplicates = uploader?.result.duplicates ?? null;
  if (duplicates !== null) report.duplicates = duplicates;
  tell(report, formats, performance.now() - began, target);
  return report;
}

function tell(report: FileReport, formats: Set<FormatName>, ms: number, target: Target | null): void {
  const { file, runs, executions, tasks, skipped, duplicates } = report;
  const [only] = skipped;
  if (formats.size === 0 && executions === 0 && skipped.length === 1 && only !== undefined) {
    process.stderr.write(`${only.reason.startsWith(file) ? "" : `${file}: `}${only.reason}\n`);
    return;
  }
  const format = [...formats].join(" and ") || "unknown format";
  const read = `${counted(runs, "run")}, ${counted(executions, "execution")} of ${counted(tasks, "task")}`;
  const known =
    duplicates === undefined || duplicates === 0 ? "" : ` (${counted(duplicates, "record")} known there already)`;
  const sent = target === null ? "" : `, sent to ${target.url}${known}`;
  process.stderr.write(`${file}: ${format}, ${read} in ${(ms / 1000).toFixed(1)} s${sent}\n`);
  for (const { reason, count } of skipped.slice(0, REASONS_TOLD)) {
    process.stderr.write(`  skipped ${count}: ${reason}\n`);
  }
}

function rate(count: number, ms: number): number {
  return Math.round((count * 1000) / Math.max(1, ms));
}

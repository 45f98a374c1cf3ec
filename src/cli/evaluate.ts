// `forechain evaluate FILE`: how predictable are my workflows? Reads a log of any known format, predicts the last part of it from
// the first, learning on the way as in service, and compares the engine with simpler predictors in the same run.

import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { finished } from "node:stream/promises";
import { Command, InvalidArgumentError, Option } from "commander";
import type { Capacity } from "../core/chain-engine.ts";
import { DriftDetector } from "../core/drift.ts";
import { createEngine } from "../core/engine.ts";
import { KNOWN_AFTER_MS } from "../core/ledger.ts";
import { hashVersion } from "../core/predict.ts";
import { observedRun } from "../core/profile.ts";
import { reviewRun } from "../core/review.ts";
import type { FormatName } from "../importers/format.ts";
import { assembled, inLogOrder, type LogRun, type ReadOptions } from "../importers/read.ts";
import { filesOf } from "../importers/source.ts";
import { engineModule } from "./build.ts";
import { type Cases, casesOf } from "./evaluation/cases.ts";
import { evaluateNext, type NextResult, type NextRow } from "./evaluation/next.ts";
import { evaluateReach, type ReachResult } from "./evaluation/reach.ts";
import { checkWritable } from "./failure.ts";
import { counted, filesNamed, progressTeller, readTelling } from "./progress.ts";

const SPLIT_NEXT = 0.667;
const SPLIT_REACH = 0.5;
/** Formats whose columns may have any name. */
const COLUMN_FORMATS: FormatName[] = ["csv", "ndjson"];
/** Tested cases below which the numbers are said to tell little: one case more or less then moves a share by 2 %. */
const CASES_TELLING = 50;

const HELP = `
Cases are taken one after another in order of their first event. The first part (--split) teaches; on the rest each event is
predicted from what came before it in its case, then learned. The end of a case is an outcome of its own.
In logs with parents (traces) the path runs along triggers, and "next" is what an execution causes first.

In XES the default takes an activity's start and its completion for the same task, twice. --lifecycle complete has each activity
once; --lifecycle all keeps check+start and check+complete apart.

Examples:
  $ forechain evaluate log.csv --case CaseID --activity Activity --time Timestamp
  $ forechain evaluate log.xes.gz --lifecycle complete --json
  $ forechain evaluate traces.ndjson.gz --reach`;

/** The importer's words for the options: `import` reads a log as work, and pairs starts with completions; here each event is told. */
const LIFECYCLES = { ignore: "all", complete: "complete", all: "transition" } as const;

interface Flags {
  case?: string;
  activity?: string;
  time?: string;
  lifecycle: "ignore" | "complete" | "all";
  capacity: Capacity;
  split?: number;
  predictions?: string;
  reach?: boolean;
  knownAfter: number;
  json?: boolean;
}

function share(text: string): number {
  const value = Number(text);
  if (!(value > 0 && value < 1)) throw new InvalidArgumentError("want a number between 0 and 1");
  return value;
}

function milliseconds(text: string): number {
  const value = Number(text);
  if (!(value >= 0 && value < Number.POSITIVE_INFINITY) || text.trim() === "") {
    throw new InvalidArgumentError("want milliseconds, 0 or more");
  }
  return value;
}

export function evaluateCommand(): Command {
  return new Command("evaluate")
    .description("Shows how predictable the workflows of an execution log are.")
    .argument(
      "<file...>",
      "CSV, XES, OTLP/JSON or any other known format; .gz is unpacked; a folder stands for all its files",
    )
    .option("--case <column>", "column that names the case (guessed from the usual names)")
    .option("--activity <column>", "column that names the task")
    .option("--time <column>", "column with the time of the event")
    .addOption(
      new Option(
        "--lifecycle <how>",
        "XES: every event by its activity alone (ignore), only completions, or every event by activity and transition (all)",
      )
        .choices(["ignore", "complete", "all"])
        .default("ignore"),
    )
    .addOption(new Option("--capacity <size>", "of the model").choices(["small", "default", "large"]).default("large"))
    .option("--split <share>", `of the cases that only teach (${SPLIT_NEXT}; with --reach ${SPLIT_REACH})`, share)
    .option("--predictions <out>", "write every prediction as a line of JSON")
    .option("--reach", "ask which tasks execute at all, instead of which starts next")
    .option(
      "--known-after <ms>",
      `with --reach: a case is learned only so long after its end (in service: ${KNOWN_AFTER_MS})`,
      milliseconds,
      0,
    )
    .option("--json", "print one JSON value")
    .addHelpText("after", HELP)
    .action(evaluate);
}

async function evaluate(paths: string[], flags: Flags): Promise<void> {
  const { knownAfter: knownAfterMs } = flags;
  if (knownAfterMs > 0 && flags.reach !== true) throw new Error("--known-after goes with --reach");
  if (flags.predictions !== undefined && flags.reach === true)
    throw new Error("--predictions does not go with --reach");
  const files = paths.flatMap(filesOf);
  if (flags.predictions !== undefined) checkWritable(flags.predictions, files);
  const columns = { run: flags.case, task: flags.activity, start: flags.time };
  const given = Object.fromEntries(Object.entries(columns).filter(([, column]) => column !== undefined));
  const options: ReadOptions = { format: null, columns: given, lifecycle: LIFECYCLES[flags.lifecycle] };
  const file = files.join(", ");
  const { records, formats } = await readTelling(files, options);
  const size = records.length;
  // Whole runs are learned for `reach`; for `next` their columns do, which take a tenth of the memory.
  const runs = flags.reach === true ? [...assembled(records)].sort(inLogOrder) : null;
  const log = casesOf(runs ?? assembled(records), size);
  if (log.length === 0) throw new Error(`no case was found in ${filesNamed(files)}`);
  const split = flags.split ?? (flags.reach === true ? SPLIT_REACH : SPLIT_NEXT);
  const namesColumns = Object.keys(given).length > 0;
  for (const note of [...readingNotes(log, formats, namesColumns), ...evidenceNotes(log.length, split)]) {
    process.stderr.write(`note: ${note}\n`);
  }
  const engine = createEngine(await engineModule(), flags.capacity, knownAfterMs);
  const evaluating = progressTeller();
  const progress = (done: number, what: string) => evaluating(() => `${done} of ${log.length} cases ${what}`);
  const described = { file, cases: log.length, events: log.events, tasks: log.tasks.length };
  if (runs !== null) {
    const taskIds = new Map(log.tasks.map((task, id) => [task, id]));
    const drift = new DriftDetector();
    // As in service: a change that the run makes certain, then the run itself.
    const observe = (index: number) => {
      const { run, startMs } = runs[index] as LogRun;
      const review = reviewRun(run, { engine, tasks: log.tasks, taskIds });
      drift.note(review, startMs);
      const observed = observedRun(run, (task) => taskIds.get(task) as number, hashVersion);
      engine.observe(observed, drift.keptOf(review.root));
    };
    const result = evaluateReach(log, { split, knownAfterMs }, engine, observe, progress);
    print(flags, files, { ...described, ...result }, reachText(result));
    return;
  }
  const writer = flags.predictions === undefined ? null : predictionWriter(flags.predictions, log);
  const result = await evaluateNext(log, split, engine, writer?.write ?? null, progress);
  await writer?.end();
  print(flags, files, { ...described, ...result }, nextText(result));
}

/** What was read otherwise than one may think. */
function readingNotes(log: Cases, formats: FormatName[], namesColumns: boolean): string[] {
  const notes: string[] = [];
  if (namesColumns && !formats.some((format) => COLUMN_FORMATS.includes(format))) {
    notes.push(
      `--case, --activity and --time name columns, which ${formats.join(" and ")} has not: they change nothing`,
    );
  }
  let timeless = 0;
  for (const { startMs } of log) for (const ms of startMs) if (Number.isNaN(ms)) timeless++;
  if (timeless === log.events) notes.push("no event has a time: the order of the file counts");
  else if (timeless > 0)
    notes.push(`${timeless} of ${counted(log.events, "event")} have no time: they come first in their cases`);
  return notes;
}

/** What makes the numbers say little. */
function evidenceNotes(cases: number, split: number): string[] {
  const taught = Math.floor(cases * split);
  if (taught === 0) return [`no case only teaches: ${counted(cases, "case")} at a split of ${split}`];
  if (cases - taught < CASES_TELLING) {
    return [`only ${counted(cases - taught, "case")} tested: another log of the kind may give quite other numbers`];
  }
  return [];
}

function predictionWriter(
  path: string,
  { tasks }: Cases,
): { write: (row: NextRow) => Promise<void>; end: () => Promise<void> } {
  const stream = createWriteStream(path);
  // Fails where it is awaited, at the end; until then writes to a broken stream are dropped.
  const done = finished(stream);
  done.catch(() => {});
  const name = (symbol: number | null) => (symbol === null ? null : (tasks[symbol] as string));
  return {
    async write({ actual, top, ...row }) {
      const line = {
        ...row,
        actual: name(actual),
        top: top.map(({ symbol, probability }) => [name(symbol), probability]),
      };
      if (!stream.write(`${JSON.stringify(line)}\n`) && !stream.destroyed) await once(stream, "drain");
    },
    async end() {
      stream.end();
      await done;
    },
  };
}

function print(flags: Flags, files: string[], result: Record<string, unknown>, text: string[]): void {
  if (flags.json === true) {
    process.stdout.write(`${JSON.stringify(result)}\n`);
    return;
  }
  const { cases, events, tasks } = result;
  const size = `${counted(Number(cases), "case")}, ${counted(Number(events), "event")}, ${counted(Number(tasks), "task")}`;
  process.stdout.write(`${[`${filesNamed(files)}: ${size}`, ...text].join("\n")}\n`);
}

function percent(value: number): string {
  return `${(value * 100).toFixed(1)} %`.padStart(8);
}

function nextText(result: NextResult): string[] {
  const row = (name: string, of: { top1: number; top3: number; logLoss: number }) =>
    `  ${name.padEnd(22)}${percent(of.top1)}${percent(of.top3)}${of.logLoss.toFixed(3).padStart(10)}`;
  return [
    `${counted(result.predictions, "prediction")} of what starts next, ${result.microsPerPrediction.toFixed(2)} µs each`,
    `  ${"".padEnd(22)}${"top-1".padStart(8)}${"top-3".padStart(8)}${"log-loss".padStart(10)}`,
    row("Forechain", result),
    ...result.baselines.map((baseline) => row(baseline.name, baseline)),
    `expected calibration error ${result.ece.toFixed(3)}`,
  ];
}

function reachText(result: ReachResult): string[] {
  const row = (name: string, brier: number) => `  ${name.padEnd(22)}${brier.toFixed(5)}`;
  return [
    `${counted(result.predictions, "prediction")} of what executes at all, ${counted(result.pairs, "pair")} of execution and task; Brier scores:`,
    row("Forechain", result.brier),
    ...result.baselines.map(({ name, brier }) => row(name, brier)),
    row("paths, in hindsight", result.hindsightBrier),
    `expected calibration error ${result.ece.toFixed(3)}; the p10–p90 lead time covers ${percent(result.leadCoverage).trim()}`,
  ];
}

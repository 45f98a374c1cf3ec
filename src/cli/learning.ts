// `forechain learning`: what a workspace has learned. In: a worker, and what to do. Out: text for people, or one JSON value.
import { createReadStream, statSync, writeFileSync } from "node:fs";
import { text } from "node:stream/consumers";
import Table from "cli-table3";
import { Argument, Command, Option } from "commander";
import { LearnedPart, type LearningAnswer, type LearningImported } from "../protocol.ts";
import { Api } from "./api.ts";
import { checkWritable } from "./failure.ts";
import { type Target, targetOf } from "./target.ts";

/** Rows of one table: the answer has them with the most evidence first. `--json` has all. */
const ROWS_SHOWN = 12;

const HELP = `
Parts: ${LearnedPart.options.join(", ")}.
Of which worker: --url and --key, or FORECHAIN_URL and FORECHAIN_KEY, or the one that \`npm run dev\` started here.
Reading needs a key with scope \`read\`, changing one with \`operate\`.

Examples:
  $ forechain learning                               # what was learned, as tables
  $ forechain learning export learned.json
  $ forechain learning import learned.json --part gate --part starts
  $ forechain learning freeze placement              # still used, no longer changed
  $ forechain learning reset holds`;

interface Flags extends Partial<Target> {
  json?: boolean;
}

export function learningCommand(): Command {
  const learning = new Command("learning")
    .description("Shows, exports, imports, freezes or resets what a workspace has learned.")
    .exitOverride()
    .addHelpText("after", HELP);
  talking(learning.command("show", { isDefault: true }), "what was learned, and how good predictions are")
    .allowExcessArguments()
    .action((flags: Flags, { args: [unknown] }: Command) => {
      // The default command gets whatever names no other.
      if (unknown !== undefined) learning.error(`error: unknown command '${unknown}'`);
      return show(flags);
    });
  talking(learning.command("export [file]"), "everything learned as JSON, to a file or to standard output")
    .option("--no-model", "without the engine's image: some kilobytes instead of megabytes")
    .action(save);
  talking(learning.command("import <file>"), "replaces what is known by an export; `-` is standard input")
    .addOption(new Option("--part <part...>", "only these parts of it").choices(LearnedPart.options))
    .action(load);
  for (const [name, does] of [
    ["freeze", "parts are still used but no longer changed; all if none is named"],
    ["unfreeze", "parts are learned again; all if none is named"],
    ["reset", "parts begin anew; the graph stays"],
  ] as const) {
    const which = new Argument(name === "reset" ? "<part...>" : "[part...]").choices(LearnedPart.options);
    talking(learning.command(name), does)
      .addArgument(which)
      .action((parts: LearnedPart[], flags: Flags) => change(name, parts, flags));
  }
  return learning;
}

function talking(command: Command, does: string): Command {
  return command
    .description(does)
    .option("--url <url>", "where the worker listens")
    .option("--key <key>", "better in FORECHAIN_KEY, where other users cannot see it")
    .option("--json", "print one JSON value");
}

function apiOf(flags: Flags): Api {
  const { url, key } = targetOf(flags);
  return new Api(url, key);
}

async function show(flags: Flags): Promise<void> {
  const answer = await apiOf(flags).call<LearningAnswer>("GET", "/v1/learning");
  process.stdout.write(flags.json === true ? `${JSON.stringify(answer)}\n` : `${textOf(answer)}\n`);
}

async function save(file: string | undefined, flags: Flags & { model: boolean }): Promise<void> {
  if (file !== undefined && file !== "-") checkWritable(file);
  const exported = await apiOf(flags).call("GET", `/v1/learning/export?model=${flags.model}`);
  const json = `${JSON.stringify(exported)}\n`;
  if (file === undefined || file === "-") {
    process.stdout.write(json);
    return;
  }
  writeFileSync(file, json, { mode: 0o600 });
  told(flags, { file, bytes: json.length }, `${json.length} bytes in ${file}`);
}

async function load(file: string, flags: Flags & { part?: LearnedPart[] }): Promise<void> {
  if (file !== "-" && statSync(file, { throwIfNoEntry: false })?.isDirectory())
    throw new Error(`${file}: it is a folder`);
  const json = await text(file === "-" ? process.stdin : createReadStream(file));
  let exported: unknown;
  try {
    exported = JSON.parse(json);
  } catch (error) {
    throw new Error(`${file} is not JSON: ${error instanceof Error ? error.message : error}`);
  }
  if (typeof exported !== "object" || exported === null || Array.isArray(exported)) {
    throw new Error(`${file} is not an export: expected what \`forechain learning export\` wrote`);
  }
  const body = flags.part === undefined ? exported : { ...exported, parts: flags.part };
  const answer = await apiOf(flags).call<LearningImported>("POST", "/v1/learning/import", body);
  const skipped = answer.skipped.map(({ cluster, reason }) => `\nholds of ${cluster} left out: ${reason}`);
  told(flags, answer, `taken over: ${answer.imported.join(", ")}${skipped.join("")}`);
}

async function change(verb: "freeze" | "unfreeze" | "reset", parts: LearnedPart[], flags: Flags): Promise<void> {
  const body = parts.length > 0 ? { parts } : {};
  const answer = await apiOf(flags).call<{ frozen?: LearnedPart[]; reset?: LearnedPart[] }>(
    "POST",
    `/v1/learning/${verb}`,
    body,
  );
  const names = (answer.reset ?? answer.frozen ?? []).join(", ") || "nothing";
  told(flags, answer, verb === "reset" ? `begun anew: ${names}` : `frozen now: ${names}`);
}

function told(flags: Flags, answer: unknown, line: string): void {
  process.stdout.write(flags.json === true ? `${JSON.stringify(answer)}\n` : `${line}\n`);
}

// ── For people ───────────────────────────────────────────────────────────────────────────────────────────────────────

function textOf({
  frozen,
  model,
  starts,
  margins,
  gate,
  placement,
  placementOffsets,
  holds,
  scores,
  drift,
}: LearningAnswer): string {
  const { version, tasks, usedLines, lines } = model;
  const blocks = [
    `model ${version}: ${tasks} tasks, ${usedLines} of ${lines} lines in use; frozen: ${frozen.join(", ") || "nothing"}`,
    `predictions of this hour and the last: ${scores.predictions}, log-loss ${fixed(scores.logLoss, 3)}, Brier ${fixed(scores.brier, 3)}, ` +
      `lead times within p10–p90 ${percent(scores.leadTimes.covered)}`,
    driftText(drift),
  ];
  for (const question of ["next", "reach"] as const) {
    const views = model.mixing[question].views.filter(({ evidence }) => evidence > 0);
    views.sort((a, b) => b.weight - a.weight);
    const rows = views.map(({ view, weight, evidence }) => [view, weight.toFixed(3), evidence.toFixed(1)]);
    blocks.push(tableOf(`what ${question} trusts`, ["view of the path", "weight", "learned from"], rows));
  }
  const ms = (value: number) => `${Math.round(value)} ms`;
  const factor = (value: number) => `${value.toFixed(2)}×`;
  blocks.push(
    tableOf(
      "whole cold starts",
      ["task", "p50", "p90", "starts"],
      starts.map(({ task, count, wholeStartMs }) => [task, ms(wholeStartMs.p50), ms(wholeStartMs.p90), `${count}`]),
    ),
    tableOf(
      "how long runtimes are held after a call",
      ["task", "cluster", "policy", "hold"],
      holds.map(({ task, cluster, policy, holdMs }) => [task, cluster, policy, ms(holdMs)]),
    ),
    tableOf(
      "placement: what came for each ms expected",
      // The others are taken as they are: no record measures them.
      ["cluster", "services", "transfer", "cold starts", "runs"],
      placement.map(({ cluster, observations, factors }) => [
        cluster,
        ...[factors.servicesMs, factors.transferMs, factors.coldStartMs].map(factor),
        `${observations}`,
      ]),
    ),
    tableOf(
      "placement: what comes on top, wherever the chain runs",
      ["chain from", "term", "offset", "runs"],
      placementOffsets.map(({ task, term, observations, offsetMs }) => [
        task,
        term.replace(/Ms$/, ""),
        ms(offsetMs),
        `${observations}`,
      ]),
    ),
    tableOf(
      "lead times: what came for each ms foretold",
      ["after", "task", "p10", "p50", "p90", "runs"],
      margins.map(({ source, target, factors: { p10, p50, p90 }, observations }) => [
        source,
        target,
        ...[p10, p50, p90].map(factor),
        observations.toFixed(0),
      ]),
    ),
    tableOf(
      "the gate: added to the model's probability, up to 0.1, 0.5, 0.9 and 1",
      ["after", "task", "shifts", "outcomes"],
      gate.map(({ context, task, shifts, observations }) => [
        context,
        task,
        shifts.map((shift) => shift.toFixed(2)).join("  "),
        observations.toFixed(0),
      ]),
    ),
  );
  return blocks.filter((block) => block !== "").join("\n\n");
}

function driftText({ alert, relearning, changes }: LearningAnswer["drift"]): string {
  const change = changes.at(-1);
  if (change === undefined) return "no change of the workflow was seen";
  const anew = relearning.map(({ root, runs }) => `; the next ${runs} of ${root} are learned anew`).join("");
  return `${alert ? "ALERT: " : ""}runs of ${change.root} changed at ${new Date(change.atMs).toISOString()}${anew}`;
}

/** Nothing where there are no rows. */
function tableOf(title: string, head: string[], rows: string[][]): string {
  if (rows.length === 0) return "";
  const table = new Table({ head, style: { head: [], border: [], compact: true } });
  table.push(...rows.slice(0, ROWS_SHOWN));
  const more = rows.length > ROWS_SHOWN ? ` (${ROWS_SHOWN} of ${rows.length}; --json has all)` : "";
  return `${title}${more}\n${table.toString()}`;
}

function fixed(value: number | null, digits: number): string {
  return value === null ? "–" : value.toFixed(digits);
}

function percent(share: number | null): string {
  return share === null ? "–" : `${(share * 100).toFixed(0)} %`;
}

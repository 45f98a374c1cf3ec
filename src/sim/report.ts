// The report. In: the results of several seeds, the ablation, and what was assumed. Out: one HTML page that needs nothing else: the
// trade-off plot (inline SVG), tables with 95 % intervals, light and dark. Names come from somebody's log: everything is escaped.
import type { PolicyResult } from "./accounting.ts";
import type { PlacementResult } from "./placement.ts";
import { escapeHtml, plotSvg, type Series } from "./plot.ts";

/** Named in the report; beyond, they are counted. */
const FILES_LISTED_MAX = 12;

export interface ReportInput {
  workload: {
    files: string[];
    formats: string[];
    runs: number;
    executions: number;
    tasks: number;
    arrivals: string;
    seed: number;
    simulatedRuns: number;
    simulatedExecutions: number;
    meanGapMs: number;
    notes: string[];
  };
  /** One list of results per seed; the lists name the same policies in the same order. */
  seeds: PolicyResult[][];
  /** One list per seed too. */
  ablation: PolicyResult[][];
  /** One list per seed too: ways of choosing a cluster. */
  placement: PlacementResult[][];
  /** At which the ablation was made. */
  dial: number;
}

/** Student's t for a 95 % interval, by degrees of freedom from 1; beyond, the normal value. */
const STUDENT_95 = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262];
const NORMAL_95 = 1.96;

interface Interval {
  mean: number;
  /** Half of the 95 % interval; null with a single seed. */
  half: number | null;
}

export function intervalOf(values: number[]): Interval {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  if (values.length < 2) return { mean, half: null };
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1);
  const student = STUDENT_95[values.length - 2] ?? NORMAL_95;
  return { mean, half: student * Math.sqrt(variance / values.length) };
}

export function reportHtml(input: ReportInput): string {
  const { workload, seeds } = input;
  const plot = plotSvg(seriesOf(seeds), {
    x: "idle and wasted memory, GB·s (log scale)",
    y: "mean overhead of a run, ms",
  });
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Forechain: simulation of ${escapeHtml(title(workload.files))}</title>
<style>${STYLE}</style>
</head>
<body>
<main>
<h1>What preparing chains would have done</h1>
<p class="lead">A <strong>simulation</strong> of ${count(workload.simulatedRuns)} runs drawn from
${escapeHtml(title(workload.files))}, nothing here was measured on machines. Overhead is the end-to-end time of a run
minus the time of the same run with everything warm.</p>
${headline(seeds, input.dial)}
<figure>${plot}<figcaption>Down is faster, left is cheaper. One line per policy, one dot per dial; whiskers are 95 % intervals of the
mean overhead over ${seeds.length} seeds. <em>run-clairvoyant</em> knows a whole run when it begins, <em>clairvoyant</em> (no
overhead, no idle memory) knows everything.</figcaption></figure>
<h2>Policies</h2>
<p>What the dial is: seconds of keep-alive; of hybrid-histogram the minutes of its range, of greedy-dual GB, of forechain the ms of waiting that one
GB·s is worth (${input.dial} unless the operator says otherwise).</p>
${policyTable(seeds)}
<h2>What each part of Forechain is worth</h2>
<p>One part left out at a time, at dial ${input.dial} (ms of waiting that one GB·s is worth).</p>
${ablationTable(input.ablation)}
<h2>What learned placement is worth</h2>
<p>A scenario beside the rest: eight made-up clusters whose links and machines differ from what is declared of them by a factor drawn at
random, and the best one's links slow down half-way. Waits for services and starts of a run of this log, placed by each way.</p>
${placementTable(input.placement)}
<h2>Workload</h2>
${workloadTable(workload)}
<h2>Assumed and measured</h2>
${assumptions(workload.notes)}
</main>
</body>
</html>
`;
}

/** Overheads within this factor are alike. */
const ALIKE_FACTOR = 1.02;

/** A log may be a folder of thousands of files. */
function listed(files: string[]): string {
  const names = files.slice(0, FILES_LISTED_MAX).map((file) => file.split("/").at(-1)!);
  const more = files.length - names.length;
  return names.join(", ") + (more > 0 ? ` and ${more} more` : "");
}

function title(files: string[]): string {
  const names = files.map((file) => file.split("/").at(-1)!);
  return names.length <= 3 ? names.join(", ") : `${names[0]} and ${names.length - 1} more files`;
}

function count(value: number): string {
  return Math.round(value).toLocaleString("en-GB");
}

/** Columns over the seeds: result r of each. */
function across<T>(seeds: PolicyResult[][], r: number, read: (result: PolicyResult) => T): T[] {
  return seeds.map((results) => read(results[r]!));
}

function seriesOf(seeds: PolicyResult[][]): Series[] {
  const series = new Map<string, Series>();
  for (const [r, { name, dial }] of seeds[0]!.entries()) {
    const idle = intervalOf(across(seeds, r, (result) => result.idleGbSeconds + result.wastedGbSeconds));
    const overhead = intervalOf(across(seeds, r, (result) => result.overheadMs.mean));
    let line = series.get(name);
    if (line === undefined) {
      line = { name, points: [] };
      series.set(name, line);
    }
    line.points.push({ label: `${name}, dial ${dial}`, x: idle.mean, y: overhead.mean, yHalf: overhead.half ?? 0 });
  }
  return [...series.values()];
}

/** The one comparison that an operator asks for first: beside what they have now. */
function headline(seeds: PolicyResult[][], usualDial: number): string {
  const first = seeds[0]!;
  const baseline = first.findIndex(({ name, dial }) => name === "fixed" && dial === 60);
  if (baseline < 0) return "";
  const cost = (r: number) =>
    intervalOf(across(seeds, r, (result) => result.idleGbSeconds + result.wastedGbSeconds)).mean;
  const overhead = (r: number) => intervalOf(across(seeds, r, (result) => result.overheadMs.mean)).mean;
  const affordable = [...first.keys()].filter(
    (r) => first[r]!.name === "forechain" && cost(r) <= cost(baseline) * 1.05,
  );
  affordable.sort((a, b) => overhead(a) - overhead(b));
  if (affordable.length === 0) return "";
  // The default dial where another would gain next to nothing: nobody should turn it for that.
  const usual = affordable.find((r) => first[r]!.dial === usualDial);
  const isGood = usual !== undefined && overhead(usual) <= ALIKE_FACTOR * overhead(affordable[0]!);
  const best = isGood ? usual : affordable[0]!;
  const saved = 1 - overhead(best) / overhead(baseline);
  return `<p class="headline">With the memory of a keep-alive of 60 s, Forechain (dial ${first[best]!.dial}) takes
<strong>${(100 * saved).toFixed(0)} %</strong> off the cold-start overhead: ${overhead(baseline).toFixed(0)} ms →
${overhead(best).toFixed(0)} ms a run, at ${Math.round((100 * cost(best)) / cost(baseline))} % of its idle and wasted memory.</p>`;
}

function policyTable(seeds: PolicyResult[][]): string {
  const rows = seeds[0]!.map(({ name, dial }, r) => [
    `<th scope="row">${escapeHtml(name)}</th>`,
    cell(String(dial)),
    ...resultCells(seeds, r),
  ]);
  return table(["policy", "dial", ...RESULT_HEADS], rows);
}

function ablationTable(ablation: PolicyResult[][]): string {
  const rows = (ablation[0] ?? []).map(({ name }, r) => [
    `<th scope="row">${escapeHtml(name)}</th>`,
    ...resultCells(ablation, r),
  ]);
  return table(["Forechain", ...RESULT_HEADS], rows);
}

function placementTable(placement: PlacementResult[][]): string {
  const rows = (placement[0] ?? []).map(({ way }, r) => {
    const told = (read: (result: PlacementResult) => number, digits: number, unit = "") => {
      const found = intervalOf(placement.map((results) => read(results[r]!)));
      // Each seed draws other clusters: of a few the mean tells nothing.
      if (found.half !== null && found.half > Math.abs(found.mean)) return cell("<small>too few seeds</small>");
      return cell(interval(found, digits, unit));
    };
    return [
      `<th scope="row">${escapeHtml(way)}</th>`,
      told((result) => result.beforeMs, 0),
      told((result) => result.afterMs, 0),
      told((result) => 100 * result.share, 0, " %"),
    ];
  });
  return table(["chosen by what is", "ms before", "ms after the slowdown", "of the saving by the truth"], rows);
}

const RESULT_HEADS = [
  "overhead, ms",
  "harmed runs",
  "idle, GB·s",
  "wasted, GB·s",
  "p50",
  "p95",
  "p99",
  "cold",
  "cold in chain",
  "µs / decision",
];

function resultCells(seeds: PolicyResult[][], r: number): string[] {
  const told = (read: (result: PolicyResult) => number, digits: number, unit = "") =>
    cell(interval(intervalOf(across(seeds, r, read)), digits, unit));
  return [
    told((result) => result.overheadMs.mean, 1),
    told((result) => 100 * result.harmedRuns, 2, " %"),
    told((result) => result.idleGbSeconds, 0),
    told((result) => result.wastedGbSeconds, 0),
    told((result) => result.overheadMs.p50, 0),
    told((result) => result.overheadMs.p95, 0),
    told((result) => result.overheadMs.p99, 0),
    told((result) => 100 * result.coldRate, 1, " %"),
    told((result) => 100 * result.chainColdRate, 1, " %"),
    cell(intervalOf(across(seeds, r, (result) => result.decisionMicros)).mean.toFixed(1)),
  ];
}

function interval({ mean, half }: Interval, digits: number, unit: string): string {
  const format = (value: number) =>
    value.toLocaleString("en-GB", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return half === null ? `${format(mean)}${unit}` : `${format(mean)}${unit} <small>± ${format(half)}</small>`;
}

function cell(content: string): string {
  return `<td>${content}</td>`;
}

function table(heads: string[], rows: string[][]): string {
  const head = heads.map((name) => `<th scope="col">${name}</th>`).join("");
  const body = rows.map((cells) => `<tr>${cells.join("")}</tr>`).join("\n");
  return `<div class="scroll"><table><thead><tr>${head}</tr></thead><tbody>\n${body}\n</tbody></table></div>`;
}

function workloadTable(workload: ReportInput["workload"]): string {
  const rows: [string, string][] = [
    ["files", escapeHtml(listed(workload.files))],
    ["formats", escapeHtml(workload.formats.join(", "))],
    ["runs in the log", count(workload.runs)],
    ["executions in the log", count(workload.executions)],
    ["tasks", count(workload.tasks)],
    ["arrivals", `${escapeHtml(workload.arrivals)}, mean gap ${(workload.meanGapMs / 1000).toFixed(1)} s`],
    [
      "simulated",
      `${count(workload.simulatedRuns)} runs, ${count(workload.simulatedExecutions)} executions each policy`,
    ],
    ["first seed", String(workload.seed)],
  ];
  const body = rows
    .map(([name, value]) => `<tr><th scope="row">${name}</th><td class="text">${value}</td></tr>`)
    .join("\n");
  return `<div class="scroll"><table><tbody>\n${body}\n</tbody></table></div>`;
}

function assumptions(notes: string[]): string {
  const told = [
    "Measured, in the log: tasks, what triggers what, warm durations, gaps between steps.",
    "The older half of the runs trains; runs of the younger half are replayed. Learning stays on.",
    "Assumed: one request at a time per instance, and as many instances as are needed; a cold start delays all that it triggers, and callers that waited in the log wait for it.",
    "Memory while idle is all that is charged: starting and serving are told as used, what was started and never used as wasted. The three add up to all that existed.",
    "µs per decision was measured, on the machine that made this report.",
    "Harmed: a run that ends over 1 ms later than the same run under a fixed keep-alive of 60 s.",
    ...notes.map((note) => `${note[0]!.toUpperCase()}${note.slice(1)}.`),
  ];
  return `<ul>${told.map((text) => `<li>${escapeHtml(text)}</li>`).join("\n")}</ul>`;
}

const STYLE = `
:root { color-scheme: light dark; --ink: #1c2430; --quiet: #5b6675; --line: #d8dee6; --ground: #ffffff; --raised: #f4f6f9; --accent: #0b62d6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --quiet: #9aa6b5; --line: #313a46; --ground: #12161c; --raised: #1b212a; --accent: #6aa9ff; } }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .5rem; } h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
.lead, figcaption, li { max-width: 60rem; } .headline { font-size: 1.15rem; border-left: 4px solid var(--accent); padding-left: 1rem; max-width: 60rem; }
figure { margin: 1.5rem 0; } figcaption { color: var(--quiet); font-size: .875rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { font-weight: 600; } th[scope="row"] { text-align: left; } td.text { text-align: left; white-space: normal; } thead th { color: var(--quiet); }
small { color: var(--quiet); }
svg { width: 100%; height: auto; } svg text { fill: var(--ink); font: 12px system-ui, sans-serif; } svg .quiet { fill: var(--quiet); }
svg .grid { stroke: var(--line); } svg .axis { stroke: var(--quiet); }
.s0 { --c: #0b62d6; } .s1 { --c: #b4540a; } .s2 { --c: #2c7a3f; } .s3 { --c: #8a3fb0; } .s4 { --c: #b3264a; } .s5 { --c: #4b5a6b; } .s6 { --c: #0e7c86; } .s7 { --c: #7a6a00; }
@media (prefers-color-scheme: dark) { .s0 { --c: #6aa9ff; } .s1 { --c: #f0a052; } .s2 { --c: #6fcf86; } .s3 { --c: #c99bf0; } .s4 { --c: #ff8aa5; } .s5 { --c: #a9b6c6; } .s6 { --c: #58cdd8; } .s7 { --c: #d9c64a; } }
svg .line { stroke: var(--c); fill: none; stroke-width: 1.5; } svg .strong .line { stroke-width: 3; } svg .dot { fill: var(--c); } svg .whisker { stroke: var(--c); } svg .name { fill: var(--c); font-weight: 600; }
`;

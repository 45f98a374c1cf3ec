// What was learned: alerts first, then how long runtimes are held, what starts take, and what is frozen.
import type { LearningAnswer, Scores } from "../protocol.ts";
import { counted, el, ms, number, percent, quiet, svg, table, type View } from "./dom.ts";

/** Rows of one table: the answer has them with the most evidence first. */
const ROWS_SHOWN = 8;
/** Of the reliability chart, px. */
const CHART = 250;
const CHART_MARGIN = 54;
const DOT_MIN = 2.5;
const DOT_MAX = 11;

export function learningView({ drift, holds, starts, placement, frozen }: LearningAnswer): View {
  const latest = drift.changes.at(-1);
  const alert = drift.alert && latest !== undefined;
  const factors = placement.filter(({ observations }) => observations > 0);
  return [
    alert
      ? el(
          "p",
          { class: "bad", role: "alert" },
          `The runs of ${latest.root} changed at ${new Date(latest.atMs).toLocaleTimeString()}: `,
          "what was learned before weighs little, and more than usual may be prepared in vain until it is learned anew.",
        )
      : null,
    frozen.length > 0 ? el("p", {}, `Frozen: ${frozen.join(", ")}`) : null,
    starts.length + holds.length === 0 ? quiet("No runtime of an agent has been started yet.") : null,
    holds.length > 0
      ? table(
          titled("How long runtimes are held after a call", holds),
          [
            { head: "Task", cell: (row) => `${row.task} on ${row.cluster}` },
            { head: "Policy", cell: policyOf },
            { head: "Hold", number: true, cell: (row) => ms(row.holdMs) },
          ],
          holds.slice(0, ROWS_SHOWN),
        )
      : null,
    starts.length > 0
      ? table(
          titled("Cold starts, from the call until the task is ready", starts),
          [
            { head: "Task", cell: (row) => row.task },
            { head: "p50", number: true, cell: (row) => ms(row.wholeStartMs.p50) },
            { head: "p90", number: true, cell: (row) => ms(row.wholeStartMs.p90) },
            { head: "Starts", number: true, cell: (row) => number(row.count) },
          ],
          starts.slice(0, ROWS_SHOWN),
        )
      : null,
    factors.length > 0
      ? table(
          titled("Placement: measured ÷ expected ms, by which later estimates are multiplied", factors),
          // The others are taken as they are: no record measures them.
          [
            { head: "Cluster", cell: (row) => row.cluster },
            { head: "Services", number: true, cell: (row) => row.factors.servicesMs.toFixed(2) },
            { head: "Transfer", number: true, cell: (row) => row.factors.transferMs.toFixed(2) },
            { head: "Cold starts", number: true, cell: (row) => row.factors.coldStartMs.toFixed(2) },
          ],
          factors.slice(0, ROWS_SHOWN),
        )
      : null,
  ];
}

/** Says so where a table does not hold all rows. */
function titled(title: string, rows: unknown[]): string {
  return rows.length > ROWS_SHOWN ? `${title} (${ROWS_SHOWN} of ${number(rows.length)})` : title;
}

/** Weights that are all alike have learned nothing: what stands is what the agent and the operator say. */
function policyOf({ policy, weights }: LearningAnswer["holds"][number]): string {
  const isLearned = new Set(Object.values(weights)).size > 1;
  return isLearned ? `${policy} (${percent(weights[policy] ?? 0)})` : "as configured";
}

/** What was foretold against what came: on the diagonal a prediction of 70 % comes true in 70 % of the cases. */
export function scoresView(scores: Scores): Node[] {
  const { predictions, logLoss, brier, leadTimes, demand } = scores;
  if (predictions === 0) return [quiet("No prediction of a finished run has been settled in this time.")];
  const told = [`${counted(predictions, "prediction")}: log-loss ${logLoss!.toFixed(3)}, Brier ${brier!.toFixed(3)}`];
  if (leadTimes.covered !== null) told.push(`${percent(leadTimes.covered)} of lead times between p10 and p90`);
  const off = [
    ["CPU", demand],
    ["memory", demand.memory],
    ["network", demand.network],
    ["duration", demand.duration],
  ] as const;
  for (const [what, { relativeError }] of off) {
    if (relativeError !== null) told.push(`${what} off by ${percent(relativeError)}`);
  }
  return [el("p", {}, `${told.join("; ")}.`), reliability(scores)];
}

function reliability({ bins, predictions }: Scores): SVGElement {
  const inner = CHART - 2 * CHART_MARGIN;
  const x = (share: number) => CHART_MARGIN + share * inner;
  const y = (share: number) => CHART - CHART_MARGIN - share * inner;
  const dots = bins.flatMap(({ count, foretold, happened }) => {
    if (foretold === null || happened === null) return [];
    const r = Math.max(DOT_MIN, DOT_MAX * Math.sqrt(count / predictions));
    const label = `${number(count)} predictions of about ${percent(foretold)}: ${percent(happened)} happened`;
    return [svg("circle", { class: "bin", cx: x(foretold), cy: y(happened), r }, svg("title", {}, label))];
  });
  const middle = x(0.5);
  const ticks = [0, 0.5, 1].flatMap((share) => [
    svg("text", { class: "label", x: x(share), y: y(0) + 16, "text-anchor": "middle" }, percent(share)),
    svg("text", { class: "label", x: x(0) - 7, y: y(share) + 4, "text-anchor": "end" }, percent(share)),
  ]);
  return svg(
    "svg",
    {
      class: "reliability",
      width: CHART,
      height: CHART,
      viewBox: `0 0 ${CHART} ${CHART}`,
      role: "img",
      "aria-label": "Predicted against observed frequency, by tenths; on the diagonal they are the same",
    },
    svg("path", { class: "axis", d: `M${x(0)},${y(1)} V${y(0)} H${x(1)}` }),
    svg("path", { class: "diagonal", d: `M${x(0)},${y(0)} L${x(1)},${y(1)}` }),
    svg("text", { class: "label", x: middle, y: CHART - 8, "text-anchor": "middle" }, "predicted"),
    svg("text", { class: "label", x: -middle, y: 10, "text-anchor": "middle", transform: "rotate(-90)" }, "happened"),
    ...ticks,
    ...dots,
  );
}

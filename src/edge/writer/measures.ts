// What a flush brings to D1 beside the graph's rows: how good predictions were, by the hour; changes of the workflow; and how allocations
// went whose callers executed themselves. Statements of graph-store.ts `Flush`: ?1 is a JSON array, ?2 the workspace.
import type { CalibrationRow } from "../../core/calibration.ts";
import type { Change } from "../../core/drift.ts";
import { type ChangeKey, EVENT_SQL, eventText } from "../event-log.ts";
import type { Flush } from "../graph-store.ts";
import type { EndedExecution, State } from "./state.ts";
import { ALERT_MS } from "./told.ts";

export interface Measures {
  statements: Flush["statements"];
  calibration: CalibrationRow[];
  changes: Change[];
  ended: EndedExecution[];
}

/** Takes what is to be written out of the state; `giveBack` where it was not. */
export function takeMeasures(state: State, nowMs: number): Measures {
  const calibration = state.learned.calibration.takeChanged();
  const { changes, ended } = state;
  state.changes = [];
  state.ended = [];
  const statements: Flush["statements"] = [];
  if (calibration.length > 0)
    statements.push({ sql: CALIBRATION_SQL, text: JSON.stringify(calibration.map(columnsOf)) });
  if (changes.length > 0) {
    // What changed within an imported log is no news.
    const news = changes.filter(({ atMs }) => atMs > nowMs - ALERT_MS);
    const told = news.map(({ atMs, root }): ChangeKey => [atMs, root]);
    statements.push({ sql: EVENT_SQL.change, text: eventText(told, nowMs) });
    statements.push({ sql: CHANGES_SQL, text: JSON.stringify(changes) });
  }
  if (ended.length > 0) statements.push({ sql: ENDED_SQL, text: JSON.stringify(ended) });
  return { statements, calibration, changes, ended };
}

export function giveBack(state: State, { calibration, changes, ended }: Measures): void {
  state.learned.calibration.giveBack(calibration);
  state.changes.unshift(...changes);
  state.ended.unshift(...ended);
}

function columnsOf(row: CalibrationRow) {
  const { hour, cluster, task, chain, predictions, logLoss, brier, leads, demand } = row;
  const known = leads[0] + leads[1] + leads[2];
  const sums = [predictions, logLoss, brier, known, leads[1], ...demand.cpuMs];
  return [hour, cluster, task, chain, ...sums, JSON.stringify(row)];
}

const CALIBRATION_SQL = `INSERT INTO calibration_hours (workspace, hour, cluster, task, chain, predictions, log_loss, brier, leads_known,
    leads_covered, demand_runs, demand_error_ms, demand_came_ms, counts)
  SELECT ?2, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, CAST(value ->> 5 AS REAL), CAST(value ->> 6 AS REAL),
    value ->> 7, value ->> 8, value ->> 9, CAST(value ->> 10 AS REAL), CAST(value ->> 11 AS REAL), value ->> 12
  FROM json_each(?1) WHERE true
  ON CONFLICT (workspace, hour, cluster, task, chain) DO UPDATE SET predictions = excluded.predictions, log_loss = excluded.log_loss,
    brier = excluded.brier, leads_known = excluded.leads_known, leads_covered = excluded.leads_covered,
    demand_runs = excluded.demand_runs, demand_error_ms = excluded.demand_error_ms, demand_came_ms = excluded.demand_came_ms,
    counts = excluded.counts`;

const CHANGES_SQL = `INSERT INTO learning_changes (workspace, at_ms, root, usual_loss, loss)
  SELECT ?2, value ->> 'atMs', value ->> 'root', CAST(value ->> 'usualLoss' AS REAL), CAST(value ->> 'loss' AS REAL)
  FROM json_each(?1) WHERE true ON CONFLICT DO NOTHING`;

/** By the partial index alone: a plan of SQLite's own might read the whole table for each execution. */
const ENDED_SQL = `UPDATE allocations INDEXED BY allocations_unsettled SET outcome = ended.value ->> 2,
    state = CASE ended.value ->> 2 WHEN 'failed' THEN 'failed' ELSE 'executed' END
  FROM json_each(?1) AS ended
  WHERE workspace = ?2 AND execution_id = ended.value ->> 1 AND run_id = ended.value ->> 0
    AND outcome IS NULL AND state = 'allocated'`;

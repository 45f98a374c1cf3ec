-- Scores are told apart by the chain that was expected of the run too, as outcomes are. SQLite cannot change a primary key: the table is made anew.

CREATE TABLE calibration_hours_by_chain (
  workspace TEXT NOT NULL,
  hour INTEGER NOT NULL, -- since the epoch, in which runs were sealed
  cluster TEXT NOT NULL, -- '' where records do not tell it
  task TEXT NOT NULL, -- that was asked for
  chain TEXT NOT NULL, -- JSON array of the chain expected of the run when its first task came; '' where it is not known
  predictions INTEGER NOT NULL, -- yes-or-no predictions of tasks after it
  log_loss REAL NOT NULL, -- sum, nats
  brier REAL NOT NULL, -- sum
  leads_known INTEGER NOT NULL, -- lead times that came
  leads_covered INTEGER NOT NULL, -- of them between p10 and p90
  demand_runs INTEGER NOT NULL, -- runs whose CPU is known
  demand_error_ms REAL NOT NULL, -- sum of |foretold - came|, CPU
  demand_came_ms REAL NOT NULL, -- sum
  counts TEXT NOT NULL, -- JSON of src/core/calibration.ts CalibrationRow: with the reliability bins, and memory, network and duration
  PRIMARY KEY (workspace, hour, cluster, task, chain)
) STRICT, WITHOUT ROWID;

INSERT INTO calibration_hours_by_chain
  SELECT workspace, hour, cluster, task, '', predictions, log_loss, brier, leads_known, leads_covered, demand_runs, demand_error_ms,
    demand_came_ms, counts FROM calibration_hours;
DROP TABLE calibration_hours;
ALTER TABLE calibration_hours_by_chain RENAME TO calibration_hours;

-- How good predictions and preparations are, by the hour. Rows are absolute sums: writing one twice is harmless, and they add up over
-- hours, clusters and tasks. Composite keys WITHOUT ROWID: one row written per upsert.

ALTER TABLE outcomes ADD COLUMN foretold REAL; -- probability as the model had it, before the gate's beliefs; NULL for a miss
ALTER TABLE outcomes ADD COLUMN context TEXT; -- task that was asked for when it was planned; NULL for a miss
ALTER TABLE outcomes ADD COLUMN chain TEXT; -- JSON array of the run's expected chain; NULL where it is not known

CREATE TABLE outcome_hours (
  workspace TEXT NOT NULL,
  hour INTEGER NOT NULL, -- since the epoch, in which it was settled
  cluster TEXT NOT NULL,
  task TEXT NOT NULL, -- '' where none is named
  chain TEXT NOT NULL, -- JSON array of the run's expected chain; '' where it is not known
  kind TEXT NOT NULL, -- prefetch, warm, execute, evict, drain
  outcome TEXT NOT NULL, -- hit, late, miss, waste, failed
  count INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  gb_seconds REAL NOT NULL,
  saved_ms REAL NOT NULL,
  PRIMARY KEY (workspace, hour, cluster, task, chain, kind, outcome)
) STRICT, WITHOUT ROWID;

CREATE TABLE calibration_hours (
  workspace TEXT NOT NULL,
  hour INTEGER NOT NULL, -- since the epoch, in which runs were sealed
  cluster TEXT NOT NULL, -- '' where records do not tell it
  task TEXT NOT NULL, -- that was asked for
  predictions INTEGER NOT NULL, -- yes-or-no predictions of tasks after it
  log_loss REAL NOT NULL, -- sum, nats
  brier REAL NOT NULL, -- sum
  leads_known INTEGER NOT NULL, -- lead times that came
  leads_covered INTEGER NOT NULL, -- of them between p10 and p90
  demand_runs INTEGER NOT NULL, -- runs whose CPU is known
  demand_error_ms REAL NOT NULL, -- sum of |foretold - came|, CPU
  demand_came_ms REAL NOT NULL, -- sum
  counts TEXT NOT NULL, -- JSON of src/core/calibration.ts CalibrationRow: with the reliability bins
  PRIMARY KEY (workspace, hour, cluster, task)
) STRICT, WITHOUT ROWID;

-- Changes of the workflow that drift detection found.
CREATE TABLE learning_changes (
  workspace TEXT NOT NULL,
  at_ms INTEGER NOT NULL, -- since the epoch
  root TEXT NOT NULL, -- first task of the runs that changed
  usual_loss REAL NOT NULL, -- log-loss of a run's most surprising prediction until then, nats
  loss REAL NOT NULL, -- of the run that made it certain
  PRIMARY KEY (workspace, at_ms, root)
) STRICT, WITHOUT ROWID;

-- What GET /v1/events tells, in the order in which it was written: a stream reads what is after its mark. Allocations and outcomes have the
-- time at which they began and come in any order, so neither table's key can tell what is new; an index on each would cost a row per row.

CREATE TABLE event_batches (
  workspace TEXT NOT NULL,
  seq INTEGER NOT NULL, -- rises with each row; about the time at which it was written, ms since the epoch
  kind TEXT NOT NULL, -- allocation, outcome, change
  keys TEXT NOT NULL, -- JSON array of [allocation_id, is pending], [at_ms, outcome_id] or [at_ms, root]
  PRIMARY KEY (workspace, seq)
) STRICT, WITHOUT ROWID;

-- Two migrations have the number 0006. D1 remembers them by name: renamed, one would run again on databases that have it. They touch
-- no table in common, so that it does not matter which comes first.
--
-- Clusters that the operator has removed, so that agents which still report do not bring them back. A declaration ends it.

CREATE TABLE removed_clusters (
  workspace TEXT NOT NULL,
  cluster TEXT NOT NULL,
  removed_ms INTEGER NOT NULL, -- since the epoch
  PRIMARY KEY (workspace, cluster)
) STRICT, WITHOUT ROWID;

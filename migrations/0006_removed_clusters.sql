-- Clusters that the operator has removed, so that agents which still report do not bring them back. A declaration ends it.

CREATE TABLE removed_clusters (
  workspace TEXT NOT NULL,
  cluster TEXT NOT NULL,
  removed_ms INTEGER NOT NULL, -- since the epoch
  PRIMARY KEY (workspace, cluster)
) STRICT, WITHOUT ROWID;
